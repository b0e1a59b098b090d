//! Every method of both back ends, over random operands, against an independent decoder: mnemonic,
//! operands, mask and broadcast must be the expected ones, and an instruction with a memory operand
//! must be as short as the decoder's own encoder makes it.

use iced_x86::{Decoder, DecoderOptions, Encoder, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use proptest::sample::select;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, Gp, M, Mem, V, VectorAsm};
use skimjit_jit::{Code, Isa};

const GPS: [Gp; 16] = [
    Gp::Rax,
    Gp::Rcx,
    Gp::Rdx,
    Gp::Rbx,
    Gp::Rsp,
    Gp::Rbp,
    Gp::Rsi,
    Gp::Rdi,
    Gp::R8,
    Gp::R9,
    Gp::R10,
    Gp::R11,
    Gp::R12,
    Gp::R13,
    Gp::R14,
    Gp::R15,
];

/// One draw of operands; `d`, `a`, `b` and, on AVX2, `m` are different registers.
#[derive(Clone, Copy, Debug)]
struct Draw {
    d: V,
    a: V,
    b: V,
    m: M,
    g: Gp,
    h: Gp,
    mem: Mem,
    imm: i32,
    wide: i64,
    bits: u8,
    scale: u8,
}

fn displacement() -> impl Strategy<Value = i32> {
    let edges = [
        0, 1, 4, 63, 64, 124, 127, 128, -1, -4, -64, -128, -129, -132,
    ];
    let scaled = [127, 128, 129, -128, -129, 1, -1];
    prop_oneof![
        select(edges.to_vec()),
        (select(scaled.to_vec()), select(vec![2, 4, 16, 32, 64])).prop_map(|(n, unit)| n * unit),
        -20_000..20_000,
        (-160..160).prop_map(|n| n * 64),
        any::<i32>(),
    ]
}

fn memory() -> impl Strategy<Value = Mem> {
    let index = (select(GPS.to_vec()), select(vec![1u8, 2, 4, 8]))
        .prop_filter("rsp is no index", |(index, _)| *index != Gp::Rsp);
    (
        select(GPS.to_vec()),
        proptest::option::of(index),
        displacement(),
    )
        .prop_map(|(base, index, disp)| Mem { base, index, disp })
}

fn draw<A: VectorAsm>() -> impl Strategy<Value = Draw> {
    let registers = proptest::sample::subsequence((0..A::VREGS).collect::<Vec<_>>(), 4);
    let masks = 1..8u8;
    let immediate = prop_oneof![select(vec![0, 1, -1, 127, 128, -128, -129]), any::<i32>()];
    let wide = prop_oneof![
        select(vec![
            0,
            1,
            -1,
            0x7FFF_FFFF,
            0x8000_0000,
            0xFFFF_FFFF,
            1 << 32,
            -(1 << 31)
        ]),
        any::<i64>(),
        any::<i32>().prop_map(i64::from),
    ];
    let gp = || select(GPS.to_vec());
    let small = (immediate, wide, 0..16u8, select(vec![1u8, 2, 4, 8]));
    (registers.prop_shuffle(), masks, gp(), gp(), memory(), small).prop_map(
        |(v, k, g, h, mem, (imm, wide, bits, scale))| Draw {
            d: V(v[0]),
            a: V(v[1]),
            b: V(v[2]),
            m: M(if A::ISA == Isa::Avx512 { k } else { v[3] }),
            g,
            h,
            mem,
            imm,
            wide,
            bits,
            scale,
        },
    )
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operand {
    Reg(Register),
    Mem {
        base: Register,
        index: Register,
        scale: u32,
        disp: i64,
    },
    Imm(i64),
}
use Operand::{Imm, Reg};

#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    mnemonic: Mnemonic,
    operands: Vec<Operand>,
    mask: Register,
    zeroing: bool,
    broadcast: bool,
}

fn ins<const N: usize>(mnemonic: Mnemonic, operands: [Operand; N]) -> Seen {
    Seen {
        mnemonic,
        operands: operands.to_vec(),
        mask: Register::None,
        zeroing: false,
        broadcast: false,
    }
}

impl Seen {
    fn merge(self, mask: M) -> Self {
        Self {
            mask: Register::K0 + u32::from(mask.0),
            ..self
        }
    }
    fn zero(self, mask: M) -> Self {
        Self {
            zeroing: true,
            ..self.merge(mask)
        }
    }
    fn broadcast(self) -> Self {
        Self {
            broadcast: true,
            ..self
        }
    }
}

fn r64(reg: Gp) -> Operand {
    Reg(Register::RAX + reg as u32)
}
fn r32(reg: Gp) -> Operand {
    Reg(Register::EAX + reg as u32)
}
fn r16(reg: Gp) -> Operand {
    Reg(Register::AX + reg as u32)
}
fn x(v: V) -> Operand {
    Reg(Register::XMM0 + u32::from(v.0))
}
fn y(v: V) -> Operand {
    Reg(Register::YMM0 + u32::from(v.0))
}
fn z(v: V) -> Operand {
    Reg(Register::ZMM0 + u32::from(v.0))
}
fn k(m: M) -> Operand {
    Reg(Register::K0 + u32::from(m.0))
}
fn vector<A: VectorAsm>(v: V) -> Operand {
    match A::ISA {
        Isa::Avx2 => y(v),
        Isa::Avx512 => z(v),
    }
}
fn at(mem: Mem) -> Operand {
    let (index, scale) = match mem.index {
        Some((index, scale)) => (Register::RAX + index as u32, scale.into()),
        None => (Register::None, 1),
    };
    Operand::Mem {
        base: Register::RAX + mem.base as u32,
        index,
        scale,
        disp: mem.disp.into(),
    }
}

fn operand(instruction: &Instruction, i: u32) -> Operand {
    match instruction.op_kind(i) {
        OpKind::Register => Reg(instruction.op_register(i)),
        OpKind::Memory => Operand::Mem {
            base: instruction.memory_base(),
            index: instruction.memory_index(),
            scale: instruction.memory_index_scale(),
            disp: instruction.memory_displacement64() as i64,
        },
        // A 32-bit move zero-extends, so its immediate is compared unsigned.
        OpKind::Immediate32 => Imm(i64::from(instruction.immediate32())),
        OpKind::NearBranch64 => Imm(instruction.near_branch_target() as i64),
        _ => Imm(instruction.immediate(i) as i64),
    }
}

fn decode(code: &Code) -> Vec<(Instruction, Seen)> {
    let mut decoder = Decoder::with_ip(64, &code.bytes, 0, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        assert!(
            !instruction.is_invalid(),
            "not an instruction: {:02x?}",
            code.bytes
        );
        let seen = Seen {
            mnemonic: instruction.mnemonic(),
            operands: (0..instruction.op_count())
                .map(|i| operand(&instruction, i))
                .collect(),
            mask: instruction.op_mask(),
            zeroing: instruction.zeroing_masking(),
            broadcast: instruction.is_broadcast(),
        };
        all.push((instruction, seen));
    }
    all
}

fn assemble<A: VectorAsm>(emit: impl FnOnce(&mut A)) -> Code {
    let mut asm = A::new();
    emit(&mut asm);
    let offset = asm.offset();
    let code = asm.finish();
    assert_eq!(code.bytes.len(), offset);
    code
}

/// Length of the instruction from iced's encoder with the smallest displacement it finds.
fn shortest(instruction: &Instruction) -> usize {
    let mut instruction = *instruction;
    let size = u32::from(instruction.memory_displacement64() != 0);
    instruction.set_memory_displ_size(size);
    Encoder::new(64)
        .encode(&instruction, instruction.ip())
        .expect("iced encodes what it decoded")
}

fn check<A: VectorAsm, const N: usize>(emit: impl FnOnce(&mut A), expected: [Seen; N]) {
    let code = assemble(emit);
    let decoded = decode(&code);
    let seen: Vec<Seen> = decoded.iter().map(|(_, seen)| seen.clone()).collect();
    assert_eq!(seen, expected, "{:02x?}", code.bytes);
    for (instruction, seen) in &decoded {
        if seen
            .operands
            .iter()
            .any(|operand| matches!(operand, Operand::Mem { .. }))
        {
            assert_eq!(
                instruction.len(),
                shortest(instruction),
                "{seen:?} {:02x?}",
                code.bytes
            );
        }
    }
}

fn general_purpose<A: VectorAsm>(o: Draw) {
    use Mnemonic::{
        Add, And, Call, Cmp, Imul, Ldmxcsr, Lea, Mov, Movsxd, Movzx, Pop, Prefetcht0, Prefetcht1,
        Prefetchw, Push, Ret, Shl, Shr, Stmxcsr, Sub,
    };
    let Draw {
        g,
        h,
        mem,
        imm,
        bits,
        ..
    } = o;
    let i = Imm(imm.into());
    check::<A, 1>(|s| s.push(g), [ins(Push, [r64(g)])]);
    check::<A, 1>(|s| s.pop(g), [ins(Pop, [r64(g)])]);
    check::<A, 1>(|s| s.mov(g, h), [ins(Mov, [r64(g), r64(h)])]);
    check::<A, 1>(|s| s.store_mxcsr(mem), [ins(Stmxcsr, [at(mem)])]);
    check::<A, 1>(|s| s.load_mxcsr(mem), [ins(Ldmxcsr, [at(mem)])]);
    check::<A, 1>(|s| s.load64(g, mem), [ins(Mov, [r64(g), at(mem)])]);
    check::<A, 1>(|s| s.load32(g, mem), [ins(Mov, [r32(g), at(mem)])]);
    check::<A, 1>(|s| s.load_i32(g, mem), [ins(Movsxd, [r64(g), at(mem)])]);
    check::<A, 1>(|s| s.load16(g, mem), [ins(Movzx, [r32(g), at(mem)])]);
    check::<A, 1>(|s| s.low16(g, h), [ins(Movzx, [r32(g), r16(h)])]);
    check::<A, 1>(|s| s.load8(g, mem), [ins(Movzx, [r32(g), at(mem)])]);
    check::<A, 1>(|s| s.store64(mem, g), [ins(Mov, [at(mem), r64(g)])]);
    check::<A, 1>(|s| s.lea(g, mem), [ins(Lea, [r64(g), at(mem)])]);
    check::<A, 1>(|s| s.prefetch(mem), [ins(Prefetcht0, [at(mem)])]);
    check::<A, 1>(|s| s.prefetch_l2(mem), [ins(Prefetcht1, [at(mem)])]);
    check::<A, 1>(|s| s.prefetch_write(mem), [ins(Prefetchw, [at(mem)])]);
    check::<A, 1>(|s| s.add(g, h), [ins(Add, [r64(g), r64(h)])]);
    check::<A, 1>(|s| s.sub(g, h), [ins(Sub, [r64(g), r64(h)])]);
    check::<A, 1>(|s| s.cmp(g, h), [ins(Cmp, [r64(g), r64(h)])]);
    check::<A, 1>(|s| s.imul(g, h), [ins(Imul, [r64(g), r64(h)])]);
    check::<A, 1>(|s| s.imul_imm(g, h, imm), [ins(Imul, [r64(g), r64(h), i])]);
    check::<A, 1>(|s| s.sub_imm(g, imm), [ins(Sub, [r64(g), i])]);
    check::<A, 1>(|s| s.and_imm(g, imm), [ins(And, [r64(g), i])]);
    check::<A, 1>(|s| s.cmp_imm(g, imm), [ins(Cmp, [r64(g), i])]);
    check::<A, 1>(|s| s.dec(g), [ins(Sub, [r64(g), Imm(1)])]);
    check::<A, 1>(
        |s| s.shl_imm(g, bits),
        [ins(Shl, [r64(g), Imm(bits.into())])],
    );
    check::<A, 1>(
        |s| s.shr_imm(g, bits),
        [ins(Shr, [r64(g), Imm(bits.into())])],
    );
    check::<A, 1>(|s| s.ret_near(), [ins(Ret, [])]);
    check::<A, 1>(|s| s.call_reg(g), [ins(Call, [r64(g)])]);
    check::<A, 2>(|s| s.ret(), [ins(Mnemonic::Vzeroupper, []), ins(Ret, [])]);
    check::<A, 0>(|s| s.add_imm(g, 0), []);
    if imm != 0 {
        check::<A, 1>(|s| s.add_imm(g, imm), [ins(Add, [r64(g), i])]);
    }
    mov_imm::<A>(g, o.wide);
}

fn mov_imm<A: VectorAsm>(g: Gp, wide: i64) {
    let code = assemble::<A>(|s| s.mov_imm(g, wide));
    let expected_len = match wide {
        0..=0xFFFF_FFFF => 5 + usize::from(g as u8 >= 8),
        -0x8000_0000..0 => 7,
        _ => 10,
    };
    assert_eq!(code.bytes.len(), expected_len, "{wide:#x}");
    let dst = if expected_len < 7 { r32(g) } else { r64(g) };
    check::<A, 1>(
        |s| s.mov_imm(g, wide),
        [ins(Mnemonic::Mov, [dst, Imm(wide)])],
    );
}

fn vectors<A: VectorAsm>(o: Draw) {
    use Mnemonic::*;
    let Draw { d, a, b, mem, .. } = o;
    let v = vector::<A>;
    let three = |mnemonic| [ins(mnemonic, [v(d), v(a), v(b)])];
    let from_memory = |mnemonic| [ins(mnemonic, [v(d), v(a), at(mem)])];
    check::<A, 1>(|s| s.fma(d, a, b), three(Vfmadd231ps));
    check::<A, 1>(|s| s.fnma(d, a, b), three(Vfnmadd231ps));
    check::<A, 1>(|s| s.vadd(d, a, b), three(Vaddps));
    check::<A, 1>(|s| s.vsub(d, a, b), three(Vsubps));
    check::<A, 1>(|s| s.vmul(d, a, b), three(Vmulps));
    check::<A, 1>(|s| s.vdiv(d, a, b), three(Vdivps));
    check::<A, 1>(|s| s.vmax(d, a, b), three(Vmaxps));
    check::<A, 1>(|s| s.vmin(d, a, b), three(Vminps));
    check::<A, 1>(|s| s.add_i32(d, a, b), three(Vpaddd));
    check::<A, 1>(|s| s.sub_i32(d, a, b), three(Vpsubd));
    check::<A, 1>(|s| s.permute(d, a, b), three(Vpermps));
    check::<A, 1>(|s| s.fma_mem(d, a, mem), from_memory(Vfmadd231ps));
    check::<A, 1>(|s| s.fma_then_mem(d, a, mem), from_memory(Vfmadd213ps));
    check::<A, 1>(|s| s.vadd_mem(d, a, mem), from_memory(Vaddps));
    check::<A, 1>(|s| s.vmul_mem(d, a, mem), from_memory(Vmulps));
    check::<A, 1>(|s| s.vmax_mem(d, a, mem), from_memory(Vmaxps));
    check::<A, 1>(|s| s.vmov(d, a), [ins(Vmovaps, [v(d), v(a)])]);
    check::<A, 1>(|s| s.vsqrt(d, a), [ins(Vsqrtps, [v(d), v(a)])]);
    check::<A, 1>(|s| s.cvt_i32(d, a), [ins(Vcvtps2dq, [v(d), v(a)])]);
    let shift = Imm(o.bits.into());
    check::<A, 1>(
        |s| s.shl_i32(d, a, o.bits),
        [ins(Vpslld, [v(d), v(a), shift])],
    );
    check::<A, 1>(
        |s| s.shr_i32(d, a, o.bits),
        [ins(Vpsrld, [v(d), v(a), shift])],
    );
    check::<A, 1>(|s| s.load(d, mem), [ins(Vmovups, [v(d), at(mem)])]);
    check::<A, 1>(|s| s.store(mem, d), [ins(Vmovups, [at(mem), v(d)])]);
    check::<A, 1>(|s| s.load_lane0(d, mem), [ins(Vmovss, [x(d), at(mem)])]);
    check::<A, 1>(|s| s.store_lane0(mem, d), [ins(Vmovss, [at(mem), x(d)])]);
    check::<A, 1>(
        |s| s.broadcast(d, mem),
        [ins(Vbroadcastss, [v(d), at(mem)])],
    );
    check::<A, 1>(
        |s| s.broadcast_lane0(d, a),
        [ins(Vbroadcastss, [v(d), x(a)])],
    );
    check::<A, 1>(|s| s.load_u8_i32(d, mem), [ins(Vpmovzxbd, [v(d), at(mem)])]);
    check::<A, 1>(
        |s| s.load_u16_i32(d, mem),
        [ins(Vpmovzxwd, [v(d), at(mem)])],
    );
}

fn only_avx2(o: Draw) {
    use Mnemonic::*;
    let Draw {
        d,
        a,
        b,
        m,
        g,
        mem,
        imm,
        ..
    } = o;
    let mask = y(V(m.0));
    type A = Avx2Asm;
    check::<A, 1>(|s| s.zero(d), [ins(Vxorps, [y(d), y(d), y(d)])]);
    check::<A, 1>(|s| s.vand(d, a, b), [ins(Vandps, [y(d), y(a), y(b)])]);
    check::<A, 1>(|s| s.vround(d, a), [ins(Vroundps, [y(d), y(a), Imm(8)])]);
    check::<A, 1>(
        |s| s.load_masked(d, mem, m),
        [ins(Vmaskmovps, [y(d), mask, at(mem)])],
    );
    check::<A, 1>(
        |s| s.store_masked(mem, d, m),
        [ins(Vmaskmovps, [at(mem), mask, y(d)])],
    );
    check::<A, 1>(|s| s.load_mask(m, mem), [ins(Vmovups, [mask, at(mem)])]);
    check::<A, 1>(|s| s.vmask_zero(d, a, m), [ins(Vandps, [y(d), y(a), mask])]);
    let constant = |value: u32| {
        [
            ins(Mov, [r32(g), Imm(value.into())]),
            ins(Vmovd, [x(d), r32(g)]),
            ins(Vbroadcastss, [y(d), x(d)]),
        ]
    };
    check::<A, 3>(|s| s.broadcast_imm_i32(d, imm, g), constant(imm as u32));
    check::<A, 3>(
        |s| s.broadcast_imm(d, f32::from_bits(imm as u32), g),
        constant(imm as u32),
    );
    check::<A, 2>(
        |s| s.fma_bcast(d, a, mem, b),
        [
            ins(Vbroadcastss, [y(b), at(mem)]),
            ins(Vfmadd231ps, [y(d), y(a), y(b)]),
        ],
    );
    let address = Operand::Mem {
        base: Register::RAX + g as u32,
        index: Register::YMM0 + u32::from(a.0),
        scale: o.scale.into(),
        disp: 0,
    };
    check::<A, 2>(
        |s| s.gather(d, g, a, o.scale, m),
        [
            ins(Vpcmpeqd, [mask; 3]),
            ins(Vgatherdps, [y(d), address, mask]),
        ],
    );
    let fold = |mnemonic| {
        let step = ins(mnemonic, [y(d), y(d), y(b)]);
        [
            ins(Vperm2f128, [y(b), y(a), y(a), Imm(1)]),
            ins(mnemonic, [y(d), y(a), y(b)]),
            ins(Vpermilps, [y(b), y(d), Imm(0x4E)]),
            step.clone(),
            ins(Vpermilps, [y(b), y(d), Imm(0xB1)]),
            step,
        ]
    };
    check::<A, 6>(|s| s.sum_lanes(d, a, b), fold(Vaddps));
    check::<A, 6>(|s| s.max_lanes(d, a, b), fold(Vmaxps));
    check::<A, 1>(
        |s| s.unpack_low(d, a, b),
        [ins(Vunpcklps, [y(d), y(a), y(b)])],
    );
    check::<A, 1>(
        |s| s.unpack_high(d, a, b),
        [ins(Vunpckhps, [y(d), y(a), y(b)])],
    );
    let lanes = imm as u8;
    let shuffled = ins(Vshufps, [y(d), y(a), y(b), Imm(lanes.into())]);
    let selected = ins(Vpermilps, [y(d), y(a), Imm(lanes.into())]);
    check::<A, 1>(|s| s.select_in_quads(d, a, lanes), [selected]);
    check::<A, 1>(
        |s| s.broadcast_quad(d, mem),
        [ins(Vbroadcastf128, [y(d), at(mem)])],
    );
    check::<A, 1>(|s| s.shuffle(d, a, b, lanes), [shuffled]);
    let parts = |which| [ins(Vperm2f128, [y(d), y(a), y(b), Imm(which)])];
    check::<A, 1>(|s| s.even_parts(d, a, b), parts(0x20));
    check::<A, 1>(|s| s.odd_parts(d, a, b), parts(0x31));

    let (tmp, shift) = (V(m.0), o.bits % 8);
    let sources = match shift {
        0..4 => [y(tmp), y(b)],
        _ => [y(a), y(tmp)],
    };
    let [upper, lower] = sources;
    check::<A, 2>(
        |s| s.splice(d, a, b, shift, tmp),
        [
            ins(Vperm2f128, [y(tmp), y(b), y(a), Imm(0x21)]),
            ins(
                Vpalignr,
                [y(d), upper, lower, Imm(i64::from(shift % 4 * 4))],
            ),
        ],
    );
}

fn only_avx512(o: Draw) {
    use Mnemonic::*;
    let Draw {
        d,
        a,
        b,
        m,
        g,
        mem,
        imm,
        bits,
        ..
    } = o;
    type A = Avx512Asm;
    check::<A, 1>(|s| s.zero(d), [ins(Vpxord, [z(d), z(d), z(d)])]);
    check::<A, 1>(|s| s.vand(d, a, b), [ins(Vpandd, [z(d), z(a), z(b)])]);
    check::<A, 1>(|s| s.vround(d, a), [ins(Vrndscaleps, [z(d), z(a), Imm(8)])]);
    check::<A, 1>(
        |s| s.load_masked(d, mem, m),
        [ins(Vmovups, [z(d), at(mem)]).zero(m)],
    );
    check::<A, 1>(
        |s| s.store_masked(mem, d, m),
        [ins(Vmovups, [at(mem), z(d)]).merge(m)],
    );
    check::<A, 1>(|s| s.load_mask(m, mem), [ins(Kmovw, [k(m), at(mem)])]);
    check::<A, 1>(
        |s| s.vmask_zero(d, a, m),
        [ins(Vmovaps, [z(d), z(a)]).zero(m)],
    );
    let constant = |value: u32| {
        [
            ins(Mov, [r32(g), Imm(value.into())]),
            ins(Vpbroadcastd, [z(d), r32(g)]),
        ]
    };
    check::<A, 2>(|s| s.broadcast_imm_i32(d, imm, g), constant(imm as u32));
    check::<A, 2>(
        |s| s.broadcast_imm(d, f32::from_bits(imm as u32), g),
        constant(imm as u32),
    );
    check::<A, 1>(
        |s| s.fma_bcast(d, a, mem, b),
        [ins(Vfmadd231ps, [z(d), z(a), at(mem)]).broadcast()],
    );
    let lanes = imm as u8;
    let selected = ins(Vpermilps, [z(d), z(a), Imm(lanes.into())]);
    check::<A, 1>(|s| s.select_in_quads(d, a, lanes), [selected]);
    check::<A, 1>(
        |s| s.broadcast_quad(d, mem),
        [ins(Vbroadcastf32x4, [z(d), at(mem)])],
    );
    let address = Operand::Mem {
        base: Register::RAX + g as u32,
        index: Register::ZMM0 + u32::from(a.0),
        scale: o.scale.into(),
        disp: 0,
    };
    check::<A, 2>(
        |s| s.gather(d, g, a, o.scale, m),
        [
            ins(Kxnorw, [k(m); 3]),
            ins(Vgatherdps, [z(d), address]).merge(m),
        ],
    );
    let fold = |mnemonic| {
        let step = ins(mnemonic, [z(d), z(d), z(b)]);
        [
            ins(Vshuff32x4, [z(b), z(a), z(a), Imm(0x4E)]),
            ins(mnemonic, [z(d), z(a), z(b)]),
            ins(Vshuff32x4, [z(b), z(d), z(d), Imm(0xB1)]),
            step.clone(),
            ins(Vpermilps, [z(b), z(d), Imm(0x4E)]),
            step.clone(),
            ins(Vpermilps, [z(b), z(d), Imm(0xB1)]),
            step,
        ]
    };
    check::<A, 8>(|s| s.sum_lanes(d, a, b), fold(Vaddps));
    check::<A, 8>(|s| s.max_lanes(d, a, b), fold(Vmaxps));
    check::<A, 1>(
        |s| s.unpack_low(d, a, b),
        [ins(Vunpcklps, [z(d), z(a), z(b)])],
    );
    check::<A, 1>(
        |s| s.unpack_high(d, a, b),
        [ins(Vunpckhps, [z(d), z(a), z(b)])],
    );
    let lanes = imm as u8;
    let shuffled = ins(Vshufps, [z(d), z(a), z(b), Imm(lanes.into())]);
    check::<A, 1>(|s| s.shuffle(d, a, b, lanes), [shuffled]);
    let parts = |which| [ins(Vshuff32x4, [z(d), z(a), z(b), Imm(which)])];
    check::<A, 1>(|s| s.even_parts(d, a, b), parts(0x88));
    check::<A, 1>(|s| s.odd_parts(d, a, b), parts(0xDD));

    let aligned = ins(Valignd, [z(d), z(a), z(b), Imm(bits.into())]);
    check::<A, 1>(|s| s.align_lanes(d, a, b, bits), [aligned.clone()]);
    check::<A, 1>(|s| s.splice(d, a, b, bits, a), [aligned.clone()]);
    check::<A, 1>(
        |s| s.align_lanes_masked(d, a, b, bits, m),
        [aligned.zero(m)],
    );
    check::<A, 1>(
        |s| s.permute2(d, a, b),
        [ins(Vpermi2ps, [z(d), z(a), z(b)])],
    );
    check::<A, 1>(
        |s| s.test_mask(m, a, b),
        [ins(Vptestmd, [k(m), z(a), z(b)])],
    );
    check::<A, 1>(
        |s| s.blend(d, a, b, m),
        [ins(Vblendmps, [z(d), z(a), z(b)]).merge(m)],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn avx2_decodes_as_asked(o in draw::<Avx2Asm>()) {
        general_purpose::<Avx2Asm>(o);
        vectors::<Avx2Asm>(o);
        only_avx2(o);
    }

    #[test]
    fn avx512_decodes_as_asked(o in draw::<Avx512Asm>()) {
        general_purpose::<Avx512Asm>(o);
        vectors::<Avx512Asm>(o);
        only_avx512(o);
    }
}

#[test]
fn jumps_and_calls_reach_their_labels_forwards_and_backwards() {
    let conditions = [
        (Cond::Equal, Mnemonic::Je),
        (Cond::NotEqual, Mnemonic::Jne),
        (Cond::Below, Mnemonic::Jb),
        (Cond::AboveEqual, Mnemonic::Jae),
        (Cond::Less, Mnemonic::Jl),
        (Cond::GreaterEqual, Mnemonic::Jge),
    ];
    let (mut back_at, mut forward_at) = (0, 0);
    let code = assemble::<Avx512Asm>(|s| {
        let (back, forward) = (s.new_label(), s.new_label());
        s.push(Gp::Rax);
        s.bind(back);
        back_at = s.offset() as i64;
        for label in [back, forward] {
            s.jmp(label);
            s.call(label);
            for (cond, _) in conditions {
                s.jcc(cond, label);
            }
        }
        s.bind(forward);
        forward_at = s.offset() as i64;
        s.ret_near();
    });
    let jumps: Vec<Seen> = decode(&code).into_iter().map(|(_, seen)| seen).collect();
    let to = |target: i64| {
        let mnemonics = [Mnemonic::Jmp, Mnemonic::Call].into_iter();
        let mnemonics = mnemonics.chain(conditions.map(|(_, mnemonic)| mnemonic));
        mnemonics.map(move |mnemonic| ins(mnemonic, [Imm(target)]))
    };
    let expected: Vec<Seen> = to(back_at).chain(to(forward_at)).collect();
    assert_eq!(jumps[1..jumps.len() - 1], expected);
}

/// A linker writes the distance from the end of the four bytes.
#[test]
fn addresses_outside_are_distances() {
    for reg in GPS {
        let mut at = 0;
        let mut code = assemble::<Avx2Asm>(|s| {
            s.push(reg);
            at = s.lea_outside(reg);
            s.ret_near();
        });
        let target = 5000;
        let distance = target - (at as i32 + 4);
        code.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        let (lea, seen) = &decode(&code)[1];
        assert_eq!(seen.mnemonic, Mnemonic::Lea);
        assert_eq!(Operand::Reg(lea.op0_register()), r64(reg));
        assert!(lea.is_ip_rel_memory_operand());
        assert_eq!(lea.ip_rel_memory_address(), target as u64);
        assert_eq!(lea.next_ip() as usize, at + 4);
    }
}

#[test]
fn constants_follow_the_code() {
    fn check<A: VectorAsm>() {
        let mut asm = A::new();
        asm.lea_constants(Gp::R9);
        let places = [7, 8, 7].map(|bits| asm.constant(Gp::R9, bits));
        asm.ret_near();
        let code = asm.finish();
        let vector = 4 * A::LANES;
        let expected = [0, vector, 0].map(|disp| Mem::new(Gp::R9, disp as i32));
        assert_eq!((places, code.constants().len()), (expected, 2 * vector));
        let (instructions, constants) = (code.instructions(), code.constants());
        assert_eq!(instructions.len(), 64);
        let words = constants
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        assert!(words.eq([7, 8].into_iter().flat_map(|bits| vec![bits; A::LANES])));
        let lea = Decoder::with_ip(64, instructions, 0, DecoderOptions::NONE).decode();
        assert_eq!(
            (lea.mnemonic(), lea.op0_register()),
            (Mnemonic::Lea, Register::R9)
        );
        assert_eq!(lea.ip_rel_memory_address(), 64);
    }
    check::<Avx2Asm>();
    check::<Avx512Asm>();
}

#[test]
fn padding_is_no_operation_and_entries_are_aligned() {
    for before in 0..70usize {
        let code = assemble::<Avx2Asm>(|s| {
            for _ in 0..before {
                s.ret_near();
            }
            s.entry("kernel", 64);
            s.ret_near();
            s.entry("tail", 1);
        });
        let start = code.entry_offset("kernel").expect("recorded");
        assert_eq!(start, before.next_multiple_of(64));
        assert_eq!(code.entry_offset("tail"), Some(start + 1));
        assert_eq!(code.entry_offset("head"), None);
        for (instruction, seen) in decode(&code) {
            let at = instruction.ip() as usize;
            let expected = if (before..start).contains(&at) {
                Mnemonic::Nop
            } else {
                Mnemonic::Ret
            };
            assert_eq!(seen.mnemonic, expected, "at {at}");
        }
    }
}

#[test]
fn masks_have_the_form_that_load_mask_reads() {
    assert_eq!(Avx512Asm::mask_bytes(0x8001), [0x01, 0x80]);
    let lanes: Vec<u8> = [1u8, 0, 1, 0, 0, 0, 0, 1]
        .iter()
        .flat_map(|&on| [on * 0xFF; 4])
        .collect();
    assert_eq!(Avx2Asm::mask_bytes(0b1000_0101), lanes);
}

#[test]
#[should_panic(expected = "cannot be resolved")]
fn a_jump_to_an_unbound_label_panics() {
    assemble::<Avx2Asm>(|s| {
        let label = s.new_label();
        s.jmp(label);
    });
}

#[test]
#[should_panic(expected = "bound twice")]
fn binding_twice_panics() {
    assemble::<Avx512Asm>(|s| {
        let label = s.new_label();
        s.bind(label);
        s.bind(label);
    });
}

#[test]
#[should_panic(expected = "another assembler")]
fn a_foreign_label_panics() {
    let label = Avx2Asm::new().new_label();
    assemble::<Avx2Asm>(|s| s.jmp(label));
}

#[test]
#[should_panic(expected = "does not exist on AVX2")]
fn avx2_has_sixteen_registers() {
    assemble::<Avx2Asm>(|s| s.fma_mem(V(16), V(0), Mem::new(Gp::Rax, 0)));
}

#[test]
#[should_panic(expected = "k1..k7")]
fn k0_is_not_a_mask() {
    assemble::<Avx512Asm>(|s| s.load_masked(V(0), Mem::new(Gp::Rax, 0), M(0)));
}

#[test]
#[should_panic(expected = "rsp cannot be an index")]
fn rsp_is_not_an_index() {
    assemble::<Avx512Asm>(|s| s.load(V(0), Mem::indexed(Gp::Rax, Gp::Rsp, 1, 0)));
}
