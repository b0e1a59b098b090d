//! Every method runs on this machine and agrees with scalar Rust, bit for bit.

mod machine;

use machine::{Io, LANE_SLOTS, run, sample};
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, Gp, M, Mem, V, VectorAsm};

/// Where the test programs find their data: `rsi` points at an [`Io`].
const A: i32 = 0;
const B: i32 = 4 * LANE_SLOTS as i32;
const C: i32 = 2 * B;
const OUT: i32 = 3 * B;
const WORDS: i32 = 4 * B;

fn at(disp: i32) -> Mem {
    Mem::new(Gp::Rsi, disp)
}

/// Mask register that collides with no vector of the tests on either ISA.
const MASK: M = M(7);
const MASKS: [u32; 5] = [0, 1, 0x00A5, 0xFFFF, 0x7F80];

type Expected = fn(f32, f32, f32) -> f32;

/// Runs `emit` on v1 = a, v2 = b, v0 = c and compares v0 lane by lane.
fn lanewise<S: VectorAsm>(name: &str, emit: impl Fn(&mut S), expected: Expected) {
    let mut io = sample();
    let before = io.clone();
    let ran = run::<S>(&mut io, |s| {
        s.load(V(0), at(C));
        s.load(V(1), at(A));
        s.load(V(2), at(B));
        emit(s);
        s.store(at(OUT), V(0));
    });
    for i in (0..S::LANES).filter(|_| ran) {
        let (a, b, c) = (before.a[i], before.b[i], before.c[i]);
        let (found, want) = (io.out[i], expected(a, b, c));
        let same = found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan();
        assert!(
            same,
            "{name} lane {i}: a {a} b {b} c {c}: found {found}, expected {want}"
        );
    }
    assert!(
        io.out[S::LANES..].iter().all(|&lane| lane == 0.0),
        "{name} wrote past its vector"
    );
}

fn bits(value: f32) -> i32 {
    value.to_bits() as i32
}
fn float(bits: i32) -> f32 {
    f32::from_bits(bits as u32)
}

fn arithmetic<S: VectorAsm>() {
    let (v0, v1, v2, v3) = (V(0), V(1), V(2), V(3));
    lanewise::<S>("zero", |s| s.zero(v0), |_, _, _| 0.0);
    lanewise::<S>("vmov", |s| s.vmov(v0, v1), |a, _, _| a);
    lanewise::<S>("fma", |s| s.fma(v0, v1, v2), |a, b, c| a.mul_add(b, c));
    lanewise::<S>("fnma", |s| s.fnma(v0, v1, v2), |a, b, c| (-a).mul_add(b, c));
    lanewise::<S>(
        "fma_mem",
        |s| s.fma_mem(v0, v1, at(B)),
        |a, b, c| a.mul_add(b, c),
    );
    lanewise::<S>("vadd", |s| s.vadd(v0, v1, v2), |a, b, _| a + b);
    lanewise::<S>("vadd_mem", |s| s.vadd_mem(v0, v1, at(B)), |a, b, _| a + b);
    lanewise::<S>("vsub", |s| s.vsub(v0, v1, v2), |a, b, _| a - b);
    lanewise::<S>("vmul", |s| s.vmul(v0, v1, v2), |a, b, _| a * b);
    lanewise::<S>("vmul_mem", |s| s.vmul_mem(v0, v1, at(B)), |a, b, _| a * b);
    lanewise::<S>("vdiv", |s| s.vdiv(v0, v1, v2), |a, b, _| a / b);
    lanewise::<S>(
        "vmax",
        |s| s.vmax(v0, v1, v2),
        |a, b, _| if a > b { a } else { b },
    );
    lanewise::<S>(
        "vmax_mem",
        |s| s.vmax_mem(v0, v1, at(B)),
        |a, b, _| if a > b { a } else { b },
    );
    lanewise::<S>(
        "vmin",
        |s| s.vmin(v0, v1, v2),
        |a, b, _| if a < b { a } else { b },
    );
    lanewise::<S>("vsqrt", |s| s.vsqrt(v0, v2), |_, b, _| b.sqrt());
    lanewise::<S>(
        "vround",
        |s| s.vround(v0, v1),
        |a, _, _| a.round_ties_even(),
    );
    lanewise::<S>(
        "cvt",
        |s| s.cvt_i32(v0, v2),
        |_, b, _| float(b.round_ties_even() as i32),
    );
    lanewise::<S>(
        "vand",
        |s| s.vand(v0, v1, v2),
        |a, b, _| float(bits(a) & bits(b)),
    );
    let add = |a, b, _| float(bits(a).wrapping_add(bits(b)));
    lanewise::<S>("add_i32", |s| s.add_i32(v0, v1, v2), add);
    let sub: Expected = |a, b, _| float(bits(a).wrapping_sub(bits(b)));
    lanewise::<S>("sub_i32", |s| s.sub_i32(v0, v1, v2), sub);
    lanewise::<S>(
        "shl_i32",
        |s| s.shl_i32(v0, v1, 3),
        |a, _, _| float(bits(a) << 3),
    );
    lanewise::<S>(
        "shr_i32",
        |s| s.shr_i32(v0, v1, 3),
        |a, _, _| float((bits(a) as u32 >> 3) as i32),
    );
    lanewise::<S>(
        "constant",
        |s| s.broadcast_imm(v0, -1.25, Gp::Rax),
        |_, _, _| -1.25,
    );
    lanewise::<S>(
        "int",
        |s| s.broadcast_imm_i32(v0, -9, Gp::R9),
        |_, _, _| float(-9),
    );
    lanewise::<S>(
        "NaN",
        |s| {
            s.broadcast_imm(v3, f32::NAN, Gp::Rax);
            s.vmax(v0, v3, v2);
        },
        |_, b, _| b,
    );
}

/// Values of one lane going to all lanes.
fn broadcasts<S: VectorAsm>() {
    let mut io = sample();
    let before = io.clone();
    let ran = run::<S>(&mut io, |s| {
        s.load(V(0), at(C));
        s.load(V(1), at(A));
        s.fma_bcast(V(0), V(1), at(B + 20), V(2));
        s.store(at(OUT), V(0));
        s.broadcast(V(3), at(A + 12));
        s.store(at(OUT + 4 * S::LANES as i32), V(3));
        s.broadcast_lane0(V(4), V(1));
        s.store(at(OUT + 8 * S::LANES as i32), V(4));
    });
    for i in (0..S::LANES).filter(|_| ran) {
        assert_eq!(io.out[i], before.a[i].mul_add(before.b[5], before.c[i]));
        assert_eq!(io.out[S::LANES + i], before.a[3]);
        assert_eq!(io.out[2 * S::LANES + i], before.a[0]);
    }
}

fn masked<S: VectorAsm>() {
    for mask in MASKS {
        let mut io = sample();
        io.put_bytes(&S::mask_bytes(mask));
        io.out.fill(-7.0);
        let before = io.clone();
        let ran = run::<S>(&mut io, |s| {
            s.load_mask(MASK, at(WORDS));
            s.load(V(1), at(A));
            s.store_masked(at(OUT), V(1), MASK);
            s.load_masked(V(2), at(B), MASK);
            s.store(at(OUT + 64), V(2));
            s.vmask_zero(V(3), V(1), MASK);
            s.store(at(OUT + 128), V(3));
        });
        for i in (0..S::LANES).filter(|_| ran) {
            let on = mask >> i & 1 == 1;
            let keep = |value: f32, otherwise: f32| if on { value } else { otherwise };
            assert_eq!(
                io.out[i],
                keep(before.a[i], -7.0),
                "store {mask:#x} lane {i}"
            );
            assert_eq!(
                io.out[16 + i],
                keep(before.b[i], 0.0),
                "load {mask:#x} lane {i}"
            );
            assert_eq!(
                io.out[32 + i],
                keep(before.a[i], 0.0),
                "zero {mask:#x} lane {i}"
            );
        }
    }
}

/// A masked access must not touch memory behind the mask: here that memory does not exist.
fn masked_lanes_do_not_fault<S: VectorAsm>() {
    let mut io = sample();
    io.put_bytes(&S::mask_bytes(0));
    run::<S>(&mut io, |s| {
        s.load_mask(MASK, at(WORDS));
        s.mov_imm(Gp::Rax, 0);
        s.load_masked(V(0), Mem::new(Gp::Rax, 0), MASK);
        s.store_masked(Mem::new(Gp::Rax, 0), V(0), MASK);
    });
}

fn lanes<S: VectorAsm>() {
    let mut io = sample();
    let index: Vec<u32> = (0..16).map(|i| (i * 5 + 3) % S::LANES as u32).collect();
    io.put_words(&index);
    let before = io.clone();
    let ran = run::<S>(&mut io, |s| {
        s.load(V(1), at(WORDS));
        s.load(V(2), at(A));
        s.permute(V(0), V(1), V(2));
        s.store(at(OUT), V(0));
        s.lea(Gp::R13, at(B));
        s.gather(V(3), Gp::R13, V(1), 4, MASK);
        s.store(at(OUT + 64), V(3));
        s.sum_lanes(V(4), V(2), V(5));
        s.store_lane0(at(OUT + 128), V(4));
        s.max_lanes(V(2), V(2), V(5));
        s.store_lane0(at(OUT + 132), V(2));
        s.load_lane0(V(6), at(C + 8));
        s.store(at(OUT + 192), V(6));
    });
    if !ran {
        return;
    }
    for (i, &from) in index.iter().enumerate().take(S::LANES) {
        assert_eq!(io.out[i], before.a[from as usize], "permute lane {i}");
        assert_eq!(io.out[16 + i], before.b[from as usize], "gather lane {i}");
        assert_eq!(
            io.out[48 + i],
            if i == 0 { before.c[2] } else { 0.0 },
            "load_lane0 {i}"
        );
    }
    let vector = &before.a[..S::LANES];
    assert_eq!(io.out[32], halving_sum(vector));
    assert_eq!(io.out[33], vector.iter().copied().fold(f32::MIN, f32::max));
}

/// The sum in the order of `sum_lanes`: the upper half onto the lower, until one lane is left.
fn halving_sum(lanes: &[f32]) -> f32 {
    if let [lane] = lanes {
        return *lane;
    }
    let (low, high) = lanes.split_at(lanes.len() / 2);
    let sums: Vec<f32> = low.iter().zip(high).map(|(a, b)| a + b).collect();
    halving_sum(&sums)
}

/// In 128-bit parts.
fn quads<S: VectorAsm>() {
    const LAST_TO_FIRST: u8 = 0b00_01_10_11;
    let mut io = sample();
    let before = io.clone();
    let ran = run::<S>(&mut io, |s| {
        s.load(V(1), at(A));
        s.select_in_quads(V(0), V(1), LAST_TO_FIRST);
        s.store(at(OUT), V(0));
        s.broadcast_quad(V(2), at(B + 4));
        s.store(at(OUT + 64), V(2));
    });
    for i in (0..S::LANES).filter(|_| ran) {
        assert_eq!(io.out[i], before.a[i / 4 * 4 + 3 - i % 4], "lane {i}");
        assert_eq!(io.out[16 + i], before.b[1 + i % 4], "lane {i}");
    }
}

fn widening_loads<S: VectorAsm>() {
    let mut io = sample();
    let bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(37)).collect();
    io.put_bytes(&bytes);
    let ran = run::<S>(&mut io, |s| {
        s.load_u8_i32(V(0), at(WORDS));
        s.store(at(OUT), V(0));
        s.load_u16_i32(V(1), at(WORDS));
        s.store(at(OUT + 64), V(1));
    });
    for i in (0..S::LANES).filter(|_| ran) {
        assert_eq!(io.out[i].to_bits(), u32::from(bytes[i]));
        let word = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
        assert_eq!(io.out[16 + i].to_bits(), u32::from(word));
    }
}

/// Runs `emit` with `rax` = 0x1234_5678_9ABC_DEF0, `rcx` = 77, `r8` = -5 and returns `rax`.
fn scalar(emit: impl FnOnce(&mut Avx2Asm)) -> Option<u64> {
    let mut io = sample();
    io.words[..4].copy_from_slice(&[0x8070_6050_4030_2010, u64::MAX, 3, 4]);
    let ran = run::<Avx2Asm>(&mut io, |s| {
        s.mov_imm(Gp::Rax, 0x1234_5678_9ABC_DEF0);
        s.mov_imm(Gp::Rcx, 77);
        s.mov_imm(Gp::R8, -5);
        emit(s);
        s.store64(at(WORDS + 64), Gp::Rax);
    });
    ran.then_some(io.words[8])
}

#[test]
fn general_purpose_instructions() {
    use Gp::{R8, R12, Rax, Rcx, Rsp};
    const START: u64 = 0x1234_5678_9ABC_DEF0;
    const WORD: u64 = 0x8070_6050_4030_2010;
    let index = |s: &mut Avx2Asm| s.mov_imm(R12, 2);
    let cases: [(Option<u64>, u64); 27] = [
        (scalar(|_| ()), START),
        (scalar(|s| s.mov_imm(Rax, 0)), 0),
        (scalar(|s| s.mov_imm(Rax, 0xFFFF_FFFF)), 0xFFFF_FFFF),
        (scalar(|s| s.mov_imm(Rax, -1)), u64::MAX),
        (scalar(|s| s.mov(Rax, R8)), -5i64 as u64),
        (scalar(|s| s.add(Rax, Rcx)), START + 77),
        (scalar(|s| s.sub(Rax, R8)), START + 5),
        (scalar(|s| s.add_imm(Rax, -128)), START - 128),
        (scalar(|s| s.add_imm(Rax, 1 << 20)), START + (1 << 20)),
        (scalar(|s| s.sub_imm(Rax, 1000)), START - 1000),
        (scalar(|s| s.dec(Rax)), START - 1),
        (scalar(|s| s.imul(Rax, Rcx)), START.wrapping_mul(77)),
        (scalar(|s| s.imul_imm(Rax, R8, 3)), -15i64 as u64),
        (scalar(|s| s.imul_imm(Rax, Rcx, 70_000)), 77 * 70_000),
        (scalar(|s| s.shl_imm(Rax, 4)), START << 4),
        (scalar(|s| s.shr_imm(Rax, 60)), START >> 60),
        (scalar(|s| s.and_imm(Rax, 0xFF)), 0xF0),
        (scalar(|s| s.and_imm(Rax, -16)), START & !15),
        (scalar(|s| s.load64(Rax, at(WORDS))), WORD),
        (scalar(|s| s.load32(Rax, at(WORDS + 4))), 0x8070_6050),
        (
            scalar(|s| s.load_i32(Rax, at(WORDS + 4))),
            0xFFFF_FFFF_8070_6050,
        ),
        (scalar(|s| s.load16(Rax, at(WORDS + 6))), 0x8070),
        (scalar(|s| s.low16(Rax, R8)), 0xFFFB),
        (scalar(|s| s.load8(Rax, at(WORDS + 7))), 0x80),
        (
            scalar(|s| {
                index(s);
                s.load64(Rax, Mem::indexed(Gp::Rsi, R12, 8, WORDS + 8));
            }),
            4,
        ),
        (
            scalar(|s| {
                index(s);
                s.lea(Rax, Mem::indexed(R12, R12, 4, 100));
            }),
            110,
        ),
        (
            scalar(|s| {
                s.push(R8);
                s.load64(Rax, Mem::new(Rsp, 0));
                s.pop(Rcx);
                s.add(Rax, Rcx);
            }),
            -10i64 as u64,
        ),
    ];
    for (i, (found, expected)) in cases.into_iter().enumerate() {
        assert!(
            found.is_none_or(|found| found == expected),
            "case {i}: {found:x?} {expected:x}"
        );
    }
}

#[test]
fn conditions_agree_with_rust() {
    let values = [i64::MIN, -1, 0, 1, 77, i64::MAX];
    for (a, b) in values.into_iter().flat_map(|a| values.map(|b| (a, b))) {
        let conditions = [
            (Cond::Equal, a == b),
            (Cond::NotEqual, a != b),
            (Cond::Below, (a as u64) < b as u64),
            (Cond::AboveEqual, a as u64 >= b as u64),
            (Cond::Less, a < b),
            (Cond::GreaterEqual, a >= b),
        ];
        for (cond, expected) in conditions {
            let taken = scalar(|s| {
                let skip = s.new_label();
                s.mov_imm(Gp::Rcx, a);
                s.mov_imm(Gp::R8, b);
                s.cmp(Gp::Rcx, Gp::R8);
                // Constants between a compare and its jump keep the flags.
                s.mov_imm(Gp::Rax, 1);
                s.jcc(cond, skip);
                s.mov_imm(Gp::Rax, 0);
                s.bind(skip);
            });
            assert!(
                taken.is_none_or(|taken| taken == u64::from(expected)),
                "{a} {cond:?} {b}"
            );
        }
    }
}

#[test]
fn loops_calls_and_immediate_compares() {
    let count = scalar(|s| {
        let (double, done) = (s.new_label(), s.new_label());
        s.mov_imm(Gp::Rax, 1);
        s.mov_imm(Gp::Rdx, 10);
        s.counted_loop(Gp::Rdx, |s| s.call(double));
        s.cmp_imm(Gp::Rax, 1024);
        s.jcc(Cond::Equal, done);
        s.mov_imm(Gp::Rax, -1);
        s.jmp(done);
        s.align(16);
        s.bind(double);
        s.add(Gp::Rax, Gp::Rax);
        s.prefetch(at(0));
        s.ret_near();
        s.bind(done);
    });
    assert!(count.is_none_or(|count| count == 1024), "{count:?}");
}

/// `dec` sets the carry, so an unsigned condition sees the step below zero.
#[test]
fn dec_sets_every_flag() {
    let found = scalar(|s| {
        let below = s.new_label();
        s.mov_imm(Gp::Rax, 0);
        s.dec(Gp::Rax);
        s.jcc(Cond::Below, below);
        s.mov_imm(Gp::Rax, 0);
        s.bind(below);
    });
    assert!(found.is_none_or(|found| found == u64::MAX));
}

#[test]
fn avx512_extensions() {
    let mask = 0x5A5Au32;
    let mut io = sample();
    io.put_words(&std::array::from_fn::<u32, 16, _>(|i| i as u32 * 7 % 32));
    io.put_bytes_at(64, &Avx512Asm::mask_bytes(mask));
    let before: Io = io.clone();
    let ran = run::<Avx512Asm>(&mut io, |s| {
        s.load(V(17), at(A));
        s.load(V(30), at(B));
        s.load_mask(M(3), at(WORDS + 64));
        s.align_lanes(V(8), V(30), V(17), 5);
        s.store(at(OUT), V(8));
        s.align_lanes_masked(V(9), V(30), V(17), 11, M(3));
        s.store(at(OUT + 64), V(9));
        s.load(V(10), at(WORDS));
        s.permute2(V(10), V(17), V(30));
        s.store(at(OUT + 128), V(10));
        // Lanes of the index table with bit 2 set.
        s.load(V(11), at(WORDS));
        s.broadcast_imm_i32(V(12), 4, Gp::R11);
        s.test_mask(M(5), V(11), V(12));
        s.blend(V(13), V(17), V(30), M(5));
        s.store(at(OUT + 192), V(13));
    });
    for i in (0..16).filter(|_| ran) {
        let both = |lane: usize| {
            if lane < 16 {
                before.a[lane]
            } else {
                before.b[lane - 16]
            }
        };
        assert_eq!(io.out[i], both(i + 5));
        assert_eq!(
            io.out[16 + i],
            if mask >> i & 1 == 1 {
                both(i + 11)
            } else {
                0.0
            }
        );
        let index = i * 7 % 32;
        assert_eq!(io.out[32 + i], both(index));
        assert_eq!(
            io.out[48 + i],
            if index & 4 == 0 {
                before.a[i]
            } else {
                before.b[i]
            }
        );
    }
}

fn splices<S: VectorAsm>() {
    for shift in 0..S::LANES {
        let mut io = sample();
        let before: Io = io.clone();
        let ran = run::<S>(&mut io, |s| {
            s.load(V(7), at(A));
            s.load(V(8), at(B));
            s.splice(V(9), V(8), V(7), shift as u8, V(10));
            s.store(at(OUT), V(9));
            // In place, and around one register.
            s.load(V(11), at(A));
            s.splice(V(11), V(8), V(11), shift as u8, V(10));
            s.store(at(OUT + 64), V(11));
            s.splice(V(8), V(8), V(7), shift as u8, V(10));
            s.store(at(OUT + 128), V(8));
            s.splice(V(7), V(7), V(7), shift as u8, V(10));
            s.store(at(OUT + 192), V(7));
        });
        for i in (0..S::LANES).filter(|_| ran) {
            let lane = i + shift;
            let both = match lane.checked_sub(S::LANES) {
                None => before.a[lane],
                Some(lane) => before.b[lane],
            };
            assert_eq!(io.out[i], both, "lane {i}, shift {shift}");
            assert_eq!(io.out[16 + i], both, "lane {i}, shift {shift}, over lo");
            assert_eq!(io.out[32 + i], both, "lane {i}, shift {shift}, over hi");
            assert_eq!(io.out[48 + i], before.a[lane % S::LANES]);
        }
    }
}

macro_rules! on_both {
    ($($test:ident)*) => {
        mod avx2 {
            $(#[test] fn $test() { super::$test::<super::Avx2Asm>(); })*
        }
        mod avx512 {
            $(#[test] fn $test() { super::$test::<super::Avx512Asm>(); })*
        }
    };
}
on_both! { arithmetic broadcasts masked masked_lanes_do_not_fault lanes quads widening_loads splices }

/// Generated detection agrees with the library's.
#[test]
fn detection_finds_this_cpu() {
    use skimjit_jit::{CodeRegion, Isa};
    let region = CodeRegion::publish(&skimjit_jit::asm::detection()).unwrap();
    // SAFETY: the region holds a function of this type, and lives until the end of the test.
    let function: extern "sysv64" fn() -> u32 =
        unsafe { std::mem::transmute(region.addresses().start as *const u8) };
    let expected = match Isa::detect(None) {
        Ok(Isa::Avx512) => 2,
        Ok(Isa::Avx2) => 1,
        Err(_) => 0,
    };
    assert_eq!(function(), expected);
}
