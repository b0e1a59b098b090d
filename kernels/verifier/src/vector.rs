//! What the vector instructions do to lanes.

use crate::action::{Lanewise, Mask, Meaning, Place, Shuffle, Vector};
use crate::fault::Wrong;
use crate::machine::{Done, Machine};
use crate::memory::{LANES, Lanes, Value};
use crate::value::{Lane, opaque};

/// Lanes below `width`.
fn first(width: u8) -> u16 {
    ((1u32 << width) - 1) as u16
}

fn lane_of(mask: u16, lane: usize) -> bool {
    mask >> lane & 1 == 1
}

/// A broken rule of our own: the table gives an operand that the instruction does not have.
fn unmodelled() -> Wrong {
    Wrong::refused("a form of this instruction that is not modelled")
}

fn undefined(what: &str) -> Wrong {
    Wrong::refused(format!(
        "{what} that depends on the input or is not defined"
    ))
}

impl Machine<'_, '_, '_> {
    pub(crate) fn vector(&mut self, i: &Vector) -> Done {
        let active = first(i.width) & self.mask(i.mask)?;
        match i.meaning {
            Meaning::Move => self.movement(i, active),
            Meaning::MoveAligned => {
                self.check_alignment(i)?;
                self.movement(i, active)
            }
            Meaning::MoveLane => self.movement(i, active),
            Meaning::FromGeneral => {
                let mut lanes = [Lane::ZERO; LANES];
                lanes[0] = self.general_lane(i.a)?;
                self.write(i, active, &lanes)
            }
            Meaning::BroadcastGeneral => {
                let lane = self.general_lane(i.a)?;
                self.write(i, active, &[lane; LANES])
            }
            Meaning::BroadcastLane => {
                let lane = match i.a {
                    Place::Memory(address) => self.memory.load(self.pointer(&address)?)?,
                    _ => self.read(i.a, 1)?[0],
                };
                self.write(i, active, &[lane; LANES])
            }
            Meaning::BroadcastQuad => {
                let Place::Memory(address) = i.a else {
                    return Err(unmodelled());
                };
                let four = self.memory.load_lanes(self.pointer(&address)?, first(4))?;
                let lanes = std::array::from_fn(|lane| four[lane % 4]);
                self.write(i, active, &lanes)
            }
            Meaning::MultiplyAdd => self.multiply_add(i, active, Lane::plus),
            Meaning::MultiplyThenAdd => {
                let [a, b] = [self.read(i.a, active)?, self.read(i.b, active)?];
                let mut value = self.read(i.to, active)?;
                for lane in (0..LANES).filter(|&lane| lane_of(active, lane)) {
                    value[lane] = value[lane].times(a[lane]).plus(b[lane]);
                }
                self.write(i, active, &value)
            }
            Meaning::NegatedMultiplyAdd => self.multiply_add(i, active, Lane::minus),
            Meaning::Lanewise(what) => self.lanewise(i, what, active),
            Meaning::Shuffle(what) => self.shuffle(i, what, active),
            Meaning::Blend => {
                let (a, b) = (self.read(i.a, active)?, self.read(i.b, active)?);
                let chosen = std::array::from_fn(|lane| match lane_of(active, lane) {
                    true => b[lane],
                    false => a[lane],
                });
                self.write(i, first(i.width), &chosen)
            }
            Meaning::Gather => self.gather(i, active),
            Meaning::Widen(bytes) => self.widen(i, bytes, active),
            Meaning::LoadMask => {
                let Place::Memory(address) = i.a else {
                    return Err(unmodelled());
                };
                let bits = self.memory.load_bytes(self.pointer(&address)?, 2)?;
                self.set_mask(i.to, bits as u16)
            }
            // Whatever is there.
            Meaning::Xnor if i.a == i.b => self.set_mask(i.to, u16::MAX),
            Meaning::Xnor => {
                let [a, b] = [self.opmask(i.a)?, self.opmask(i.b)?];
                self.set_mask(i.to, !(a ^ b))
            }
            Meaning::Test => self.test(i, active),
        }
    }

    fn opmask(&self, place: Place) -> Result<u16, Wrong> {
        match place {
            Place::Register(number) => {
                self.masks[usize::from(number & 7)].ok_or_else(|| undefined("a mask"))
            }
            _ => Err(unmodelled()),
        }
    }

    fn set_mask(&mut self, to: Place, bits: u16) -> Done {
        match to {
            Place::Register(number) => {
                self.masks[usize::from(number & 7)] = Some(bits);
                Ok(())
            }
            _ => Err(unmodelled()),
        }
    }

    /// Lanes that a mask lets through.
    fn mask(&self, mask: Mask) -> Result<u16, Wrong> {
        match mask {
            Mask::All => Ok(u16::MAX),
            Mask::Merge(number) | Mask::Zero(number) => self.opmask(Place::Register(number)),
            Mask::Signs(register) => {
                let lanes = &self.vectors[usize::from(register & 31)];
                let mut signs = 0;
                // VEX: 8 lanes.
                for (lane, value) in lanes.iter().enumerate().take(8) {
                    let bits = value.as_bits().ok_or_else(|| undefined("a mask"))?;
                    signs |= ((bits >> 31) as u16) << lane;
                }
                Ok(signs)
            }
        }
    }

    fn check_alignment(&self, i: &Vector) -> Done {
        let bytes = 4 * i64::from(i.width);
        for place in [i.to, i.a] {
            if let Place::Memory(address) = place {
                let pointer = self.pointer(&address)?;
                if !pointer.aligned(bytes) {
                    return Err(Wrong::access(format!(
                        "an aligned access to {pointer}, which need not be a multiple of {bytes}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// A vector operand. Of memory only the active lanes are read.
    fn read(&self, place: Place, active: u16) -> Result<Lanes, Wrong> {
        match place {
            Place::Register(number) => Ok(self.vectors[usize::from(number & 31)]),
            Place::Memory(address) => self.memory.load_lanes(self.pointer(&address)?, active),
            Place::Broadcast(_) if active == 0 => Ok([Lane::ZERO; LANES]),
            Place::Broadcast(address) => Ok([self.memory.load(self.pointer(&address)?)?; LANES]),
            Place::None => Err(unmodelled()),
        }
    }

    /// Writes a register: lanes that the mask holds back stay or become zero, those beyond the
    /// instruction's width become zero.
    fn write(&mut self, i: &Vector, active: u16, value: &Lanes) -> Done {
        let Place::Register(to) = i.to else {
            return Err(unmodelled());
        };
        let merges = matches!(i.mask, Mask::Merge(_)) || i.meaning == Meaning::Gather;
        let target = &mut self.vectors[usize::from(to & 31)];
        for (number, (lane, &new)) in target.iter_mut().zip(value).enumerate() {
            if lane_of(active, number) {
                *lane = new;
            } else if number >= usize::from(i.width) || !merges {
                *lane = Lane::ZERO;
            }
        }
        if i.width > 1 {
            self.mark_upper(to);
        }
        Ok(())
    }

    fn movement(&mut self, i: &Vector, active: u16) -> Done {
        let value = self.read(i.a, active)?;
        match i.to {
            Place::Memory(address) => {
                let to = self.pointer(&address)?;
                self.memory.store_lanes(to, &value, active)
            }
            _ => self.write(i, active, &value),
        }
    }

    /// The low half of a general-purpose register.
    fn general_lane(&self, place: Place) -> Result<Lane, Wrong> {
        match place {
            Place::Register(number) => Ok(match self.register(number) {
                Value::Number(number) => Lane::bits(number as u32),
                _ => Lane::POISON,
            }),
            _ => Err(unmodelled()),
        }
    }

    fn multiply_add(
        &mut self,
        i: &Vector,
        active: u16,
        combine: impl Fn(Lane, Lane) -> Lane,
    ) -> Done {
        let (a, b) = (self.read(i.a, active)?, self.read(i.b, active)?);
        let mut value = self.read(i.to, active)?;
        if self.factors.is_some() {
            self.factor = a[0].as_bits().or(b[0].as_bits()).filter(|&bits| bits != 0);
        }
        // One conversion of the bits for all lanes, where all have the same.
        let same = b.iter().all(|&lane| lane == b[0]);
        let shared = b[0].as_number();
        for lane in (0..LANES).filter(|&lane| lane_of(active, lane)) {
            let factor = if same { shared } else { b[lane] };
            value[lane] = combine(value[lane], a[lane].times(factor));
        }
        self.executed.multiply_adds += u64::from(active.count_ones());
        self.write(i, active, &value)
    }

    fn gather(&mut self, i: &Vector, active: u16) -> Done {
        let Place::Memory(address) = i.a else {
            return Err(unmodelled());
        };
        let start = self.pointer(&address)?;
        let indices = self.read(i.b, active)?;
        let mut value = self.read(i.to, active)?;
        for lane in (0..LANES).filter(|&lane| lane_of(active, lane)) {
            let index = indices[lane].as_bits();
            let index = index.ok_or_else(|| undefined("an address"))? as i32;
            let by = i64::from(index) * i64::from(i.immediate);
            value[lane] = self.memory.load(start.moved(by))?;
        }
        self.write(i, active, &value)?;
        // The mask ends as zero.
        match i.mask {
            Mask::Signs(register) => {
                self.vectors[usize::from(register & 31)] = [Lane::ZERO; LANES];
                Ok(())
            }
            Mask::Merge(number) => self.set_mask(Place::Register(number), 0),
            _ => Err(unmodelled()),
        }
    }

    /// Bytes or words of a table to lanes.
    fn widen(&mut self, i: &Vector, bytes: u8, active: u16) -> Done {
        let Place::Memory(address) = i.a else {
            return Err(unmodelled());
        };
        let start = self.pointer(&address)?;
        let mut value = [Lane::ZERO; LANES];
        for (lane, value) in value.iter_mut().enumerate() {
            if lane_of(active, lane) {
                let at = start.moved(i64::from(bytes) * lane as i64);
                *value = Lane::bits(self.memory.load_bytes(at, bytes)? as u32);
            }
        }
        self.write(i, active, &value)
    }

    fn test(&mut self, i: &Vector, active: u16) -> Done {
        let (a, b) = (self.read(i.a, active)?, self.read(i.b, active)?);
        let mut mask = 0;
        for lane in (0..LANES).filter(|&lane| lane_of(active, lane)) {
            let (Some(a), Some(b)) = (a[lane].as_bits(), b[lane].as_bits()) else {
                return Err(undefined("a mask"));
            };
            mask |= u16::from(a & b != 0) << lane;
        }
        self.set_mask(i.to, mask)
    }

    fn lanewise(&mut self, i: &Vector, what: Lanewise, active: u16) -> Done {
        let a = self.read(i.a, active)?;
        let b = match i.b {
            Place::None => a,
            b => self.read(b, active)?,
        };
        let same_register = i.a == i.b;
        let mut value = [Lane::ZERO; LANES];
        for lane in (0..LANES).filter(|&lane| lane_of(active, lane)) {
            let (a, b) = (a[lane], b[lane]);
            value[lane] = match what {
                Lanewise::Extreme(extreme) => self.extremes.of(extreme, a, b),
                // Whatever is there.
                Lanewise::Xor if same_register => Lane::ZERO,
                Lanewise::EqualIntegers if same_register => Lane::bits(u32::MAX),
                what => computed(what, a, b, i.immediate),
            };
        }
        self.write(i, active, &value)
    }

    fn shuffle(&mut self, i: &Vector, what: Shuffle, active: u16) -> Done {
        // Lanes that the mask holds back still are where others come from.
        let all = first(i.width);
        let a = self.read(i.a, all)?;
        let b = match i.b {
            Place::None => a,
            b => self.read(b, all)?,
        };
        let old = self.read(i.to, all)?;
        let mut value = [Lane::ZERO; LANES];
        for (lane, value) in value.iter_mut().enumerate().take(usize::from(i.width)) {
            *value = chosen(i, what, lane, [&old, &a, &b])?;
        }
        self.write(i, active, &value)
    }
}

/// Where a lane of a shuffle comes from.
fn chosen(i: &Vector, what: Shuffle, lane: usize, [old, a, b]: [&Lanes; 3]) -> Result<Lane, Wrong> {
    let (width, immediate) = (usize::from(i.width), usize::from(i.immediate));
    let part = lane / 4 * 4;
    let pair = immediate >> (2 * (lane % 4)) & 3;
    let index = |lane: Lane| {
        let bits = lane.as_bits().ok_or_else(|| undefined("a shuffle"))?;
        Ok::<usize, Wrong>(bits as usize)
    };
    // Lanes of two registers, the first one's in front.
    let joined = |low: &Lanes, high: &Lanes, from: usize| match from.checked_sub(width) {
        None => low[from],
        Some(from) => high[from % width],
    };
    let unpacked = |high: usize| {
        let from = part + high + lane % 4 / 2;
        if lane.is_multiple_of(2) {
            a[from]
        } else {
            b[from]
        }
    };
    Ok(match what {
        Shuffle::UnpackLow => unpacked(0),
        Shuffle::UnpackHigh => unpacked(2),
        Shuffle::Pairs if lane % 4 < 2 => a[part + pair],
        Shuffle::Pairs => b[part + pair],
        Shuffle::PermuteInParts => a[part + pair],
        Shuffle::Permute => b[index(a[lane])? % width],
        Shuffle::PermuteTwo => joined(a, b, index(old[lane])? % (2 * width)),
        // Within 128 bits, `b` is the lower half.
        Shuffle::AlignInParts => match lane % 4 + immediate / 4 {
            from @ 0..4 => b[part + from],
            from @ 4..8 => a[part + from - 4],
            _ => Lane::ZERO,
        },
        Shuffle::Align => joined(b, a, lane + immediate % width),
        Shuffle::Quarters => {
            let from = 4 * (immediate >> (2 * (lane / 4)) & 3) + lane % 4;
            if lane < 8 { a[from] } else { b[from] }
        }
        Shuffle::Halves => match immediate >> (4 * (lane / 4)) & 0xF {
            from @ 0..2 => a[4 * from + lane % 4],
            from @ 2..4 => b[4 * (from - 2) + lane % 4],
            _ => Lane::ZERO,
        },
    })
}

/// One lane.
fn computed(what: Lanewise, a: Lane, b: Lane, immediate: u8) -> Lane {
    use Lanewise as L;
    let by = Lane::bits(immediate.into());
    match (what, a.as_bits(), b.as_bits()) {
        (L::Add, ..) => a.plus(b),
        (L::Subtract, ..) => a.minus(b),
        (L::Multiply, ..) => a.times(b),
        (L::Divide, ..) => a.over(b),
        (L::SquareRoot, ..) => opaque("sqrt", &[a]),
        (L::Round, ..) => opaque("round", &[a]),
        (L::ToInteger, ..) => opaque("convert", &[a]),
        (L::Xor, Some(a), Some(b)) => Lane::bits(a ^ b),
        (L::Xor, ..) => opaque("xor", &[a, b]),
        (L::And, Some(a), Some(b)) => Lane::bits(a & b),
        (L::And, Some(0), _) | (L::And, _, Some(0)) => Lane::ZERO,
        (L::And, Some(u32::MAX), _) => b,
        (L::And, _, Some(u32::MAX)) => a,
        (L::And, ..) => opaque("and", &[a, b]),
        (L::AddIntegers, Some(a), Some(b)) => Lane::bits(a.wrapping_add(b)),
        (L::AddIntegers, ..) => opaque("add integers", &[a, b]),
        (L::SubtractIntegers, Some(a), Some(b)) => Lane::bits(a.wrapping_sub(b)),
        (L::SubtractIntegers, ..) => opaque("subtract integers", &[a, b]),
        (L::ShiftLeft, Some(a), _) => {
            Lane::bits(a.checked_shl(immediate.into()).unwrap_or_default())
        }
        (L::ShiftLeft, ..) => opaque("shift", &[a, by]),
        (L::ShiftRight, Some(a), _) => {
            Lane::bits(a.checked_shr(immediate.into()).unwrap_or_default())
        }
        (L::ShiftRight, ..) => opaque("shift right", &[a, by]),
        (L::EqualIntegers, Some(a), Some(b)) => Lane::bits(if a == b { u32::MAX } else { 0 }),
        (L::EqualIntegers, ..) => opaque("equal integers", &[a, b]),
        // Taken before, where the sets are.
        (L::Extreme(_), ..) => Lane::POISON,
    }
}
