//! What the vector instructions do to lanes.

use crate::machine::{LANES, Machine};
use crate::memory::Wrong;
use crate::value::{Lane, opaque};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

type Step = Result<(), Wrong>;
type Lanes = [Lane; LANES];

/// Lanes of a vector register.
fn lanes_of(register: Register) -> usize {
    register.size() / 4
}

impl Machine<'_, '_, '_> {
    /// Lanes that an instruction works on, and which of them its mask lets through.
    fn active(&self, i: &Instruction) -> [bool; LANES] {
        let lanes = (0..i.op_count())
            .filter(|&index| i.op_kind(index) == OpKind::Register)
            .map(|index| i.op_register(index))
            .filter(|register| register.is_vector_register())
            .map(lanes_of)
            .max();
        let lanes = lanes.unwrap_or(0);
        let mask = match i.op_mask() {
            Register::None => u32::MAX,
            mask => self.masks[mask.number()],
        };
        std::array::from_fn(|lane| lane < lanes && mask >> lane & 1 == 1)
    }

    /// A vector operand. Of memory only the active lanes are read.
    fn lanes(&self, i: &Instruction, index: u32, active: &[bool; LANES]) -> Result<Lanes, Wrong> {
        if i.op_kind(index) == OpKind::Register {
            return Ok(self.vectors[i.op_register(index).number()]);
        }
        let address = self.address(i);
        let mut lanes = [Lane::ZERO; LANES];
        if i.is_broadcast() {
            return match active.contains(&true) {
                true => Ok([self.memory.load(address)?; LANES]),
                false => Ok(lanes),
            };
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            if active[number] {
                *lane = self.memory.load(address + 4 * number as u64)?;
            }
        }
        Ok(lanes)
    }

    /// Writes a register: lanes that the mask holds back stay or become zero, those beyond the
    /// instruction's width become zero.
    fn write(&mut self, i: &Instruction, active: &[bool; LANES], value: Lanes) {
        let register = i.op0_register();
        let target = &mut self.vectors[register.number()];
        for lane in 0..LANES {
            if active[lane] {
                target[lane] = value[lane];
            } else if lane >= lanes_of(register) || i.zeroing_masking() {
                target[lane] = Lane::ZERO;
            }
        }
    }

    pub(crate) fn vector(&mut self, i: &Instruction) -> Step {
        use Mnemonic as M;
        match i.mnemonic() {
            M::Vmovups | M::Vmovaps => self.full_move(i),
            M::Vmovss => self.lane_move(i),
            M::Vmovd => {
                let value = Lane::bits(self.register(i.op1_register()) as u32);
                let mut lanes = [Lane::ZERO; LANES];
                lanes[0] = value;
                self.vectors[i.op0_register().number()] = lanes;
                Ok(())
            }
            M::Vbroadcastss | M::Vpbroadcastd => self.broadcast(i),
            M::Vmaskmovps => self.masked_move(i),
            M::Vfmadd231ps | M::Vfnmadd231ps => self.multiply_add(i),
            M::Vgatherdps => self.gather(i),
            M::Vpmovzxbd | M::Vpmovzxwd => self.widen(i),
            M::Kmovw => {
                let bits = self.memory.load_bytes(self.address(i), 2)?;
                self.masks[i.op0_register().number()] = bits as u32;
                Ok(())
            }
            M::Kxnorw => {
                let [a, b] = [i.op1_register(), i.op2_register()].map(|k| self.masks[k.number()]);
                self.masks[i.op0_register().number()] = !(a ^ b) & 0xFFFF;
                Ok(())
            }
            M::Vptestmd => self.test(i),
            M::Vblendvps => self.blend_by_sign(i),
            _ => self.lane_by_lane(i),
        }
    }

    fn full_move(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let value = self.lanes(i, 1, &active)?;
        if i.op0_kind() == OpKind::Register {
            self.write(i, &active, value);
            return Ok(());
        }
        let address = self.address(i);
        for lane in (0..LANES).filter(|&lane| active[lane]) {
            self.memory.store(address + 4 * lane as u64, value[lane])?;
        }
        Ok(())
    }

    fn lane_move(&mut self, i: &Instruction) -> Step {
        if i.op0_kind() == OpKind::Memory {
            let lane = self.vectors[i.op1_register().number()][0];
            return self.memory.store(self.address(i), lane);
        }
        if i.op1_kind() != OpKind::Memory {
            return Err(unknown(i));
        }
        let mut lanes = [Lane::ZERO; LANES];
        lanes[0] = self.memory.load(self.address(i))?;
        self.vectors[i.op0_register().number()] = lanes;
        Ok(())
    }

    fn broadcast(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let lane = match i.op1_kind() {
            OpKind::Memory => self.memory.load(self.address(i))?,
            _ if i.op1_register().is_vector_register() => {
                self.vectors[i.op1_register().number()][0]
            }
            _ => Lane::bits(self.register(i.op1_register()) as u32),
        };
        self.write(i, &active, [lane; LANES]);
        Ok(())
    }

    /// VEX masks: the sign of each lane of a register.
    fn signs(&self, register: Register) -> Result<[bool; LANES], Wrong> {
        let mut signs = [false; LANES];
        for (lane, sign) in signs.iter_mut().enumerate().take(lanes_of(register)) {
            let bits = self.vectors[register.number()][lane].as_bits();
            *sign =
                bits.ok_or_else(|| Wrong("a mask that depends on the input".into()))? >> 31 == 1;
        }
        Ok(signs)
    }

    fn masked_move(&mut self, i: &Instruction) -> Step {
        let mask = self.signs(i.op1_register())?;
        let address = self.address(i);
        if i.op0_kind() == OpKind::Memory {
            let value = self.vectors[i.op2_register().number()];
            for lane in (0..LANES).filter(|&lane| mask[lane]) {
                self.memory.store(address + 4 * lane as u64, value[lane])?;
            }
            return Ok(());
        }
        let mut lanes = [Lane::ZERO; LANES];
        for lane in (0..LANES).filter(|&lane| mask[lane]) {
            lanes[lane] = self.memory.load(address + 4 * lane as u64)?;
        }
        self.vectors[i.op0_register().number()] = lanes;
        Ok(())
    }

    fn multiply_add(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let (a, b) = (self.lanes(i, 1, &active)?, self.lanes(i, 2, &active)?);
        let mut value = self.vectors[i.op0_register().number()];
        if self.factors.is_some() {
            self.factor = a[0].as_bits().or(b[0].as_bits()).filter(|&bits| bits != 0);
        }
        for lane in (0..LANES).filter(|&lane| active[lane]) {
            let product = a[lane].times(b[lane]);
            value[lane] = match i.mnemonic() {
                Mnemonic::Vfmadd231ps => value[lane].plus(product),
                _ => value[lane].minus(product),
            };
            self.executed.multiply_adds += 1;
        }
        self.write(i, &active, value);
        Ok(())
    }

    fn gather(&mut self, i: &Instruction) -> Step {
        // EVEX: mask in an opmask register; VEX: signs of the third operand. Both end as zero.
        let active = match i.op_mask() {
            Register::None => self.signs(i.op2_register())?,
            _ => self.active(i),
        };
        let (start, scale) = (self.address(i), u64::from(i.memory_index_scale()));
        let index = self.vectors[i.memory_index().number()];
        let mut value = self.vectors[i.op0_register().number()];
        for lane in (0..LANES).filter(|&lane| active[lane]) {
            let index = index[lane].as_bits();
            let index =
                index.ok_or_else(|| Wrong("an address that depends on the input".into()))?;
            let address = start.wrapping_add((index as i32 as i64 as u64).wrapping_mul(scale));
            value[lane] = self.memory.load(address)?;
        }
        self.vectors[i.op0_register().number()] = value;
        match i.op_mask() {
            Register::None => self.vectors[i.op2_register().number()] = [Lane::ZERO; LANES],
            mask => self.masks[mask.number()] = 0,
        }
        Ok(())
    }

    /// Bytes or words of a table to lanes.
    fn widen(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let bytes = if i.mnemonic() == Mnemonic::Vpmovzxbd {
            1
        } else {
            2
        };
        if i.op1_kind() != OpKind::Memory {
            return Err(unknown(i));
        }
        let address = self.address(i);
        let mut value = [Lane::ZERO; LANES];
        for lane in (0..LANES).filter(|&lane| active[lane]) {
            let bits = self
                .memory
                .load_bytes(address + (bytes * lane) as u64, bytes)?;
            value[lane] = Lane::bits(bits as u32);
        }
        self.write(i, &active, value);
        Ok(())
    }

    fn test(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let (a, b) = (self.lanes(i, 1, &active)?, self.lanes(i, 2, &active)?);
        let mut mask = 0;
        for lane in (0..LANES).filter(|&lane| active[lane]) {
            let (Some(a), Some(b)) = (a[lane].as_bits(), b[lane].as_bits()) else {
                return Err(Wrong("a mask that depends on the input".into()));
            };
            mask |= u32::from(a & b != 0) << lane;
        }
        self.masks[i.op0_register().number()] = mask;
        Ok(())
    }

    fn blend_by_sign(&mut self, i: &Instruction) -> Step {
        let active = self.active(i);
        let (a, b) = (self.lanes(i, 1, &active)?, self.lanes(i, 2, &active)?);
        let signs = self.signs(i.op3_register())?;
        let value = std::array::from_fn(|lane| if signs[lane] { b[lane] } else { a[lane] });
        self.write(i, &active, value);
        Ok(())
    }

    /// Everything else: a value for each lane from one or two operands.
    fn lane_by_lane(&mut self, i: &Instruction) -> Step {
        use Mnemonic as M;
        let active = self.active(i);
        let width = lanes_of(i.op0_register());
        // Lanes that the mask holds back still take part in shuffles.
        let all = std::array::from_fn(|lane| lane < width);
        let shuffles = matches!(
            i.mnemonic(),
            M::Vunpcklps
                | M::Vunpckhps
                | M::Vshufps
                | M::Vpermps
                | M::Vpermi2ps
                | M::Vpalignr
                | M::Valignd
                | M::Vshuff32x4
                | M::Vpermilps
                | M::Vperm2f128
        );
        let read = if shuffles { &all } else { &active };
        let a = self.lanes(i, 1, read)?;
        let b = match i.op_count() {
            2 => a,
            _ if matches!(i.op_kind(2), OpKind::Immediate8) => a,
            _ => self.lanes(i, 2, read)?,
        };
        let value = if shuffles {
            self.shuffled(i, width, a, b)?
        } else if i.mnemonic() == M::Vblendmps {
            // The mask chooses; nothing keeps its old value.
            let chosen = std::array::from_fn(|lane| if active[lane] { b[lane] } else { a[lane] });
            self.write(i, &all, chosen);
            return Ok(());
        } else {
            let mut value = [Lane::ZERO; LANES];
            for lane in (0..LANES).filter(|&lane| active[lane]) {
                value[lane] = computed(i, a[lane], b[lane]).ok_or_else(|| unknown(i))?;
            }
            value
        };
        self.write(i, &active, value);
        Ok(())
    }

    fn shuffled(&self, i: &Instruction, width: usize, a: Lanes, b: Lanes) -> Result<Lanes, Wrong> {
        use Mnemonic as M;
        let imm = if i.op_kind(i.op_count() - 1) == OpKind::Immediate8 {
            i.immediate8()
        } else {
            0
        } as usize;
        let pair = |lane: usize| imm >> (2 * (lane % 4)) & 3;
        let part = |lane: usize| lane / 4 * 4;
        let index = |lane: &Lane| {
            lane.as_bits()
                .ok_or_else(|| Wrong("a shuffle that depends on the input".into()))
        };
        let mut value = [Lane::ZERO; LANES];
        for lane in 0..width {
            value[lane] = match i.mnemonic() {
                M::Vunpcklps | M::Vunpckhps => {
                    let high = if i.mnemonic() == M::Vunpckhps { 2 } else { 0 };
                    let from = part(lane) + high + lane % 4 / 2;
                    if lane % 2 == 0 { a[from] } else { b[from] }
                }
                M::Vshufps => {
                    let from = part(lane) + pair(lane);
                    if lane % 4 < 2 { a[from] } else { b[from] }
                }
                M::Vpermilps => a[part(lane) + pair(lane)],
                M::Vpermps => b[index(&a[lane])? as usize % width],
                M::Vpermi2ps => {
                    let old = &self.vectors[i.op0_register().number()][lane];
                    let from = index(old)? as usize % (2 * width);
                    if from < width {
                        a[from]
                    } else {
                        b[from - width]
                    }
                }
                // Within 128 bits, the bytes of `b` are the lower half.
                M::Vpalignr if imm.is_multiple_of(4) && imm < 32 => match lane % 4 + imm / 4 {
                    from @ 0..4 => b[part(lane) + from],
                    from @ 4..8 => a[part(lane) + from - 4],
                    _ => Lane::ZERO,
                },
                M::Valignd => match lane + imm % width {
                    from if from < width => b[from],
                    from => a[from - width],
                },
                M::Vshuff32x4 if width == 16 => {
                    let from = imm >> (2 * (lane / 4)) & 3;
                    if lane < 8 {
                        a[4 * from + lane % 4]
                    } else {
                        b[4 * from + lane % 4]
                    }
                }
                M::Vperm2f128 => match imm >> (4 * (lane / 4)) & 0xF {
                    from @ 0..2 => a[4 * from + lane % 4],
                    from @ 2..4 => b[4 * (from - 2) + lane % 4],
                    _ => Lane::ZERO,
                },
                _ => return Err(unknown(i)),
            };
        }
        Ok(value)
    }
}

fn unknown(i: &Instruction) -> Wrong {
    Wrong(format!("an instruction that kernels do not use: {i}"))
}

/// One lane of an instruction without a horizontal part; `None` for unknown ones.
fn computed(i: &Instruction, a: Lane, b: Lane) -> Option<Lane> {
    use Mnemonic as M;
    let same_register = i.op_count() > 2
        && i.op_kind(2) == OpKind::Register
        && i.op1_register() == i.op2_register();
    let bits = (a.as_bits(), b.as_bits());
    Some(match (i.mnemonic(), bits) {
        (M::Vaddps, _) => a.plus(b),
        (M::Vsubps, _) => a.minus(b),
        (M::Vmulps, _) => a.times(b),
        (M::Vdivps, _) => a.over(b),
        (M::Vmaxps, _) => a.max(b),
        (M::Vminps, _) => a.min(b),
        (M::Vxorps | M::Vpxor | M::Vpxord, _) if same_register => Lane::ZERO,
        (M::Vxorps | M::Vpxor | M::Vpxord, (Some(a), Some(b))) => Lane::bits(a ^ b),
        (M::Vpcmpeqd, _) if same_register => Lane::bits(u32::MAX),
        (M::Vandps | M::Vpand | M::Vpandd, (Some(a), Some(b))) => Lane::bits(a & b),
        (M::Vandps | M::Vpand | M::Vpandd, (Some(0), _) | (_, Some(0))) => Lane::ZERO,
        (M::Vandps | M::Vpand | M::Vpandd, (Some(u32::MAX), _)) => b,
        (M::Vandps | M::Vpand | M::Vpandd, (_, Some(u32::MAX))) => a,
        (M::Vpaddd, (Some(a), Some(b))) => Lane::bits(a.wrapping_add(b)),
        (M::Vpslld, (Some(a), _)) => {
            Lane::bits(a.checked_shl(u32::from(i.immediate8())).unwrap_or(0))
        }
        (M::Vsqrtps, _) => opaque("sqrt", &[a]),
        (M::Vrndscaleps | M::Vroundps, _) => opaque("round", &[a]),
        (M::Vcvtps2dq, _) => opaque("convert", &[a]),
        (M::Vxorps | M::Vpxor | M::Vpxord, _) => opaque("xor", &[a, b]),
        (M::Vandps | M::Vpand | M::Vpandd, _) => opaque("and", &[a, b]),
        (M::Vpaddd, _) => opaque("add integers", &[a, b]),
        (M::Vpslld, _) => opaque("shift", &[a]),
        _ => return None,
    })
}
