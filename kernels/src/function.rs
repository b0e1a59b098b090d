//! Elementwise functions of one operand.
//!
//! What is smooth is made of one exponential. Nothing is compared: where a function is made of pieces, minima and
//! maxima with 0 choose between them.

use crate::emit::{AUX, COUNT, DST, SRC, WEI, entry, load, load_args, store, vector_bytes};
use crate::exponential::EXP_RANGE;
use crate::lockstep::{Lockstep, R};
use crate::planes::{emit_planes, same_dims};
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes, vector_tasks,
};
use crate::{AlignedBuf, Extent, Footprint, FunctionProblem, Planes};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use skimjit_models::ops::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `dst = f(src)`.
///
/// Largest errors, measured on |x| ≤ 20 against double precision, as shares of the result in units of 2⁻²⁴: Exp
/// and ELU 1.5, Softsign 2, Selu 2.6, Sigmoid, TanH and Swish 3, BNLL 4.5, Mish 5, Erf 6. Gelu: 2.3e-7 of the
/// larger of 1 and |x|, and below −6 no more than 4e-7. Log of x: 2, of other bases 4. Powers that are integers:
/// twice their size; others 3 and twice |power·log x|. Where an exponential leaves the range of floats its limit is
/// taken: results that are not 0
/// are at least of the size of the least float. Infinite operands may give NaN where the product of 0 and ∞ is one.
/// What has no exponential is rounded as often as it has operations.
///
/// * src, dst: planes; layouts may differ; the gap of dst is not touched.
/// * task = some vectors where neither has gaps, else some channels.
/// * refused: functions that have no vector form here.
pub struct Function;

const TASKS: u32 = 16;
/// Address of the constants; there are no weights.
const CONSTANTS: Gp = WEI;

impl TypedVariant for Function {
    type Problem = FunctionProblem;
    const NAME: &'static str = "function";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "function src=3x5x5x48 dst=3x5x5x48 f=Swish n=1 density=100 scale=1 seed=1";

    fn supports(problem: &FunctionProblem, _isa: Isa) -> Result<(), Unsupported> {
        same_dims(&problem.src, &problem.dst)?;
        match form(problem.function) {
            Some(_) => Ok(()),
            None => refuse(format!("{:?}, which has no vector form", problem.function)),
        }
    }
    fn cost(problem: &FunctionProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = problem.dst.hw().div_ceil(isa.lanes()) * problem.dst.c;
        let each = match form(problem.function) {
            Some(Form::Plain) | None => 4.0,
            Some(Form::Smooth) => 20.0,
        };
        Cost {
            cycles: f64::from(vectors) * each,
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &FunctionProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (src, dst) = (&problem.src, &problem.dst);
        let mut asm = A::new();
        let has_gaps = |planes: &Planes| planes.pitch != planes.hw() && planes.c > 1;
        let (entries, tasks, last) = if has_gaps(src) || has_gaps(dst) {
            emit_all_planes(&mut asm, problem);
            let channels = balanced(dst.c, dst.c.div_ceil(TASKS));
            let tasks = channels.map(|channels| Task::of_channels(channels, src, dst));
            (vec![0], tasks.collect(), dst.hw() % A::LANES as u32)
        } else {
            let elems = dst.c * dst.hw();
            let entries = [false, true].map(|last| emit_row(&mut asm, problem, last));
            let (lanes, entries) = (A::LANES as u32, entries.to_vec());
            (
                entries,
                vector_tasks(elems, lanes, TASKS),
                last_lanes(elems, lanes),
            )
        };
        let footprint = Footprint::new(Extent::of(src), Extent::of(dst));
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last));
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

/// How much a function takes.
enum Form {
    /// A few instructions.
    Plain,
    /// An exponential or a polynomial.
    Smooth,
}

fn form(function: Activation) -> Option<Form> {
    use Activation::*;
    let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
    match function {
        Clip { .. } | AbsVal | HardSwish | Softsign | Sqrt | Reciprocal | Sign | Round => {
            Some(Form::Plain)
        }
        Floor | Ceil | Truncate | Not => Some(Form::Plain),
        ThresholdedRelu { alpha } if alpha.is_finite() => Some(Form::Plain),
        HardSigmoid { alpha, beta } if finite(&[alpha, beta]) => Some(Form::Plain),
        Threshold { threshold } if threshold.is_finite() => Some(Form::Plain),
        Power {
            power,
            scale,
            shift,
        } if finite(&[power, scale, shift]) => match whole(power) {
            _ if POWERS.contains(&power) => Some(Form::Plain),
            Some(_) => Some(Form::Plain),
            // Of large integers odd and even ones are different below 0.
            None if power.fract() == 0.0 => None,
            None => Some(Form::Smooth),
        },
        Log { base, scale, shift } => {
            let factor = log_factor(base);
            (factor != 0.0 && finite(&[factor, scale, shift])).then_some(Form::Smooth)
        }
        Sigmoid | TanH | Mish | Bnll | Erf | Gelu { .. } => Some(Form::Smooth),
        Elu { alpha } if finite(&[alpha]) => Some(Form::Smooth),
        Selu { alpha, gamma } if finite(&[alpha, gamma]) => Some(Form::Smooth),
        Celu { alpha } if finite(&[alpha]) && alpha > 0.0 => Some(Form::Smooth),
        Swish { beta } if finite(&[beta]) => Some(Form::Smooth),
        Exp { base, scale, shift } if finite(&exponent(base, scale, shift)) => Some(Form::Smooth),
        _ => None,
    }
}

/// Powers that are made of roots and quotients, or of few products.
const POWERS: [f32; 5] = [2.0, 3.0, 0.5, -0.5, -1.0];

/// Largest exponent that is made of products.
const MOST_PRODUCTS: f32 = 32.0;

/// An exponent that is made of products.
fn whole(power: f32) -> Option<i32> {
    (power.fract() == 0.0 && power.abs() <= MOST_PRODUCTS).then_some(power as i32)
}

/// What a natural logarithm is multiplied by for one of another base.
fn log_factor(base: f32) -> f32 {
    match base == -1.0 {
        true => 1.0,
        false => f64::from(base).ln().recip() as f32,
    }
}

/// Factor and offset of the exponent of base^(shift + scale·x).
fn exponent(base: f32, scale: f32, shift: f32) -> [f32; 2] {
    let log = if base == -1.0 {
        1.0
    } else {
        f64::from(base).ln()
    };
    [scale, shift].map(|part| (log * f64::from(part)) as f32)
}

/// Coefficients of atanh(s) / s in s², highest power first: 1/15 … 1.
const ATANH: [f32; 8] = [
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
    1.0,
];
/// erf(x) on |x| ≤ 4 is x·P(x²)/Q(x²): coefficients of P and Q, highest power first, as fitted for Eigen
/// (`generic_fast_erf_float`) and used by XLA and TensorFlow.
const ERF: [&[f32]; 2] = [
    &[
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_5e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ],
    &[
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_474e-2,
    ],
];

/// Operand and result.
const X: R = R(0);
/// Free for steps; the exponential leaves a power of two in the first.
const N: R = R(1);
/// See [`N`].
const P: R = R(2);
/// See [`N`].
const Q: R = R(3);
/// Overwritten by constants.
const T: R = R(4);
/// The operand as it was.
const OPERAND: R = R(5);
/// 0.
const ZERO: R = R(6);
/// Registers of a vector, all but the last of them its own.
const REGISTERS: u8 = 7;

/// Vectors side by side.
fn members<A: VectorAsm>() -> Vec<Vec<V>> {
    let own = REGISTERS - 1;
    // One holds 0, one may hold a mask.
    let count = (A::VREGS - 2) / own;
    let zero = V(count * own);
    let member = |i| (i * own..(i + 1) * own).map(V).chain([zero]).collect();
    (0..count).map(member).collect()
}

/// What every entry begins with; returns the mask of the last vector, loaded if that is wanted.
fn begin<A: VectorAsm>(asm: &mut A, members: &[Vec<V>], masked: bool) -> M {
    let zero = members[0][ZERO.0];
    let mask = A::mask(1, V(zero.0 + 1));
    load_args(asm);
    asm.zero(zero);
    asm.lea_constants(CONSTANTS);
    if masked {
        asm.load_mask(mask, Mem::new(AUX, 0));
    }
    mask
}

fn emit_all_planes<A: VectorAsm>(asm: &mut A, problem: &FunctionProblem) {
    let members = members::<A>();
    let mask = begin(asm, &members, true);
    let layouts = [&problem.src, &problem.dst];
    let registers: Vec<V> = members.iter().map(|member| member[X.0]).collect();
    let compute = |asm: &mut A, count: usize| {
        emit(
            &mut Lockstep::new(asm, CONSTANTS, &members[..count]),
            problem.function,
        );
    };
    emit_planes(asm, layouts, (&registers, mask), |_| {}, compute);
    asm.ret();
}

fn emit_row<A: VectorAsm>(asm: &mut A, problem: &FunctionProblem, last: bool) -> usize {
    let members = members::<A>();
    let vectors = |asm: &mut A, count: usize, masked: Option<M>| {
        let members = &members[..count];
        let at = |base, i: usize| Mem::new(base, i as i32 * vector_bytes::<A>());
        for (i, member) in members.iter().enumerate() {
            load(asm, member[X.0], at(SRC, i), masked);
        }
        emit(
            &mut Lockstep::new(asm, CONSTANTS, members),
            problem.function,
        );
        for (i, member) in members.iter().enumerate() {
            store(asm, at(DST, i), member[X.0], masked);
        }
        for register in [SRC, DST] {
            asm.add_imm(register, count as i32 * vector_bytes::<A>());
        }
    };
    entry(asm, &[], |asm| {
        let mask = begin(asm, &members, last);
        if last {
            return asm.counted_loop(COUNT, |asm| vectors(asm, 1, Some(mask)));
        }
        asm.counted_loop_by(COUNT, members.len(), |asm, count| vectors(asm, count, None));
    })
}

fn multiply<A: VectorAsm>(group: &mut Lockstep<'_, A>, x: R, value: f64) {
    let at = group.number(value);
    group.vmul_mem(x, x, at);
}

fn add<A: VectorAsm>(group: &mut Lockstep<'_, A>, x: R, value: f64) {
    let at = group.number(value);
    group.vadd_mem(x, x, at);
}

fn clamp<A: VectorAsm>(group: &mut Lockstep<'_, A>, x: R, range: [f32; 2]) {
    group.clamp(x, range, T);
}

fn emit<A: VectorAsm>(group: &mut Lockstep<'_, A>, function: Activation) {
    use Activation::*;
    match function {
        Sigmoid => {
            group.logistic(X, -1.0, [N, P, Q]);
        }
        TanH => {
            // (e²ˣ − 1) / (e²ˣ + 1).
            group.vadd(X, X, X);
            group.exp_m1(X, [-40.0, 40.0], [N, P]);
            group.set(N, 2.0);
            group.vadd(N, N, X);
            group.vdiv(X, X, N);
        }
        Elu { alpha } => elu(group, [1.0, 1.0, alpha.into()]),
        Celu { alpha } => elu(group, [alpha.into(), 1.0, alpha.into()]),
        Selu { alpha, gamma } => {
            let (alpha, gamma) = (f64::from(alpha), f64::from(gamma));
            elu(group, [1.0, gamma, gamma * alpha]);
        }
        Swish { beta } => group.swish(X, beta, [N, P, Q]),
        Mish => mish(group),
        Bnll => softplus(group),
        Erf => erf(group),
        Gelu { tanh } => gelu(group, tanh),
        Exp { base, scale, shift } => exponential(group, exponent(base, scale, shift)),
        Log { base, scale, shift } => {
            scaled(group, [scale, shift]);
            logarithm(group);
            multiply(group, X, log_factor(base).into());
        }
        Power {
            power,
            scale,
            shift,
        } => raised(group, power, [scale, shift]),
        function => plain(group, function),
    }
}

/// x = max(x, 0)·above + (e^min(x/unit, 0) − 1)·below.
fn elu<A: VectorAsm>(group: &mut Lockstep<'_, A>, [unit, above, below]: [f64; 3]) {
    group.vmax(OPERAND, ZERO, X);
    group.vmin(X, ZERO, X);
    if unit != 1.0 {
        group.set(T, unit);
        group.vdiv(X, X, T);
    }
    group.exp_m1(X, EXP_RANGE, [N, P]);
    multiply(group, X, below);
    group.set(T, above);
    group.fma(X, OPERAND, T);
}

/// x·w/(w + 2) with w = eˣ·(eˣ + 2): the tangent's squares are those of 1 + eˣ.
fn mish<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    // Below, the quotient is 0, or the least number.
    group.set(T, -90.0);
    group.vmax(OPERAND, T, X);
    // Beyond, the quotient is 1, and w must not overflow.
    group.set(T, 40.0);
    group.vmin(X, T, X);
    group.exp(X, [N, P]);
    group.set(P, 2.0);
    group.vadd(Q, N, P);
    group.vmul(N, N, Q);
    group.vadd(P, N, P);
    // Before the operand, which may be large.
    group.vdiv(N, N, P);
    group.vmul(X, OPERAND, N);
}

/// max(x, 0) + log(1 + e) with e = e^−|x|; the logarithm is 2·atanh(e / (2 + e)).
fn softplus<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    group.vmax(OPERAND, ZERO, X);
    group.vsub(N, ZERO, X);
    group.vmin(X, N, X);
    group.exp(X, [N, P]);
    group.set(T, 2.0);
    group.vadd(T, T, N);
    group.vdiv(N, N, T);
    group.vmul(P, N, N);
    group.polynomial(X, P, &ATANH);
    group.vadd(N, N, N);
    group.fma(OPERAND, X, N);
    group.vmov(X, OPERAND);
}

fn erf<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    clamp(group, X, [-4.0, 4.0]);
    group.vmul(N, X, X);
    group.polynomial(P, N, ERF[0]);
    group.polynomial(Q, N, ERF[1]);
    group.vmul(X, X, P);
    group.vdiv(X, X, Q);
}

fn gelu<A: VectorAsm>(group: &mut Lockstep<'_, A>, tanh: bool) {
    // Below, the other factor is 0, or what rounding leaves of it.
    group.set(T, if tanh { -10.0 } else { -6.0 });
    group.vmax(OPERAND, T, X);
    if tanh {
        // (1 + tanh u) / 2 is 1 / (1 + e^−2u).
        let factor = -2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        group.vmul(N, X, X);
        group.set(T, factor);
        multiply(group, N, factor * 0.044715);
        group.vadd(N, N, T);
        group.vmul(X, X, N);
        group.logistic(X, 1.0, [N, P, Q]);
        group.vmul(X, OPERAND, X);
        return;
    }
    multiply(group, X, FRAC_1_SQRT_2);
    erf(group);
    add(group, X, 1.0);
    multiply(group, OPERAND, 0.5);
    group.vmul(X, X, OPERAND);
}

/// e^(factor·x + offset), which overflows where it should.
fn exponential<A: VectorAsm>(group: &mut Lockstep<'_, A>, [factor, offset]: [f32; 2]) {
    multiply(group, X, factor.into());
    add(group, X, offset.into());
    // 2¹²⁸ is no float.
    group.half_exp(X, [N, P]);
    group.vadd(X, N, N);
}

/// x = scale·x + shift.
fn scaled<A: VectorAsm>(group: &mut Lockstep<'_, A>, [scale, shift]: [f32; 2]) {
    multiply(group, X, scale.into());
    add(group, X, shift.into());
}

/// `OPERAND` = 0 where x is 0, 1 where it is positive; Q = 0 where it is finite and not negative, else NaN.
fn examine<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    group.vsqrt(OPERAND, X);
    group.vsub(Q, OPERAND, OPERAND);
    // The root of the smallest number is more than 2⁻⁷⁵.
    multiply(group, OPERAND, 2f64.powi(75));
    group.set(T, 1.0);
    group.vmin(OPERAND, T, OPERAND);
}

/// x = log x: −∞ at 0, NaN below and at ∞.
fn logarithm<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    examine(group);
    group.log_of_normal(X, [N, P, T]);
    // What bits of 0 give is negative.
    group.vdiv(X, X, OPERAND);
    group.vadd(X, X, Q);
}

fn raised<A: VectorAsm>(group: &mut Lockstep<'_, A>, power: f32, numbers: [f32; 2]) {
    scaled(group, numbers);
    if power.abs() == 0.5 {
        group.vsqrt(X, X);
    }
    match whole(power) {
        _ if power == 0.5 => {}
        _ if power == -0.5 => inverse(group),
        Some(power) => repeated(group, power),
        None => smoothly_raised(group, power),
    }
}

fn inverse<A: VectorAsm>(group: &mut Lockstep<'_, A>) {
    group.set(T, 1.0);
    group.vdiv(X, T, X);
}

/// x to the power of an integer, by squares.
fn repeated<A: VectorAsm>(group: &mut Lockstep<'_, A>, power: i32) {
    if power < 0 {
        inverse(group);
    }
    let mut left = power.unsigned_abs();
    if left == 0 {
        return group.set(X, 1.0);
    }
    // N: the product of those squares that are part of it.
    let mut begun = false;
    while left > 1 {
        match (left & 1, begun) {
            (0, _) => {}
            (_, true) => group.vmul(N, N, X),
            (_, false) => {
                group.vmov(N, X);
                begun = true;
            }
        }
        group.vmul(X, X, X);
        left /= 2;
    }
    if begun {
        group.vmul(X, X, N);
    }
}

/// x = e^(power·log x): NaN below 0 and at ∞.
fn smoothly_raised<A: VectorAsm>(group: &mut Lockstep<'_, A>, power: f32) {
    examine(group);
    group.log_of_normal(X, [N, P, T]);
    exponential(group, [power, 0.0]);
    match power > 0.0 {
        true => group.vmul(X, X, OPERAND),
        false => group.vdiv(X, X, OPERAND),
    }
    group.vadd(X, X, Q);
}

/// What takes a few instructions.
fn plain<A: VectorAsm>(group: &mut Lockstep<'_, A>, function: Activation) {
    use Activation::*;
    match function {
        Clip { min, max } => clamp(group, X, [min, max]),
        AbsVal => {
            group.vsub(N, ZERO, X);
            group.vmax(X, N, X);
        }
        HardSigmoid { alpha, beta } => {
            multiply(group, X, alpha.into());
            add(group, X, beta.into());
            clamp(group, X, [0.0, 1.0]);
        }
        HardSwish => {
            group.vmov(OPERAND, X);
            multiply(group, X, 1.0 / 6.0);
            add(group, X, 0.5);
            clamp(group, X, [0.0, 1.0]);
            group.vmul(X, X, OPERAND);
        }
        Softsign => {
            group.vsub(N, ZERO, X);
            group.vmax(N, N, X);
            add(group, N, 1.0);
            group.vdiv(X, X, N);
        }
        Sqrt => group.vsqrt(X, X),
        Reciprocal => {
            group.set(T, 1.0);
            group.vdiv(X, T, X);
        }
        Round => group.vround(X, X),
        Floor => floor(group, X),
        Ceil => {
            group.vsub(X, ZERO, X);
            floor(group, X);
            group.vsub(X, ZERO, X);
        }
        Truncate => {
            group.vsub(OPERAND, ZERO, X);
            group.vmax(OPERAND, ZERO, OPERAND);
            group.vmax(X, ZERO, X);
            floor(group, X);
            floor(group, OPERAND);
            group.vsub(X, X, OPERAND);
        }
        Not => {
            group.vsub(N, ZERO, X);
            group.vmax(X, N, X);
            steepen(group, 0.0);
            group.set(T, 1.0);
            group.vsub(X, T, X);
        }
        ThresholdedRelu { alpha } => {
            group.vmov(OPERAND, X);
            add(group, X, -f64::from(alpha));
            group.vmax(X, X, ZERO);
            steepen(group, 0.0);
            group.vmul(X, X, OPERAND);
        }
        Sign => steepen(group, -1.0),
        Threshold { threshold } => {
            add(group, X, -f64::from(threshold));
            // NaN is not greater than the threshold.
            group.vmax(X, X, ZERO);
            steepen(group, 0.0);
        }
        function => unreachable!("{function:?} is not supported"),
    }
}

/// x = the largest integer that is not greater: the nearest one, less 1 where that is greater.
fn floor<A: VectorAsm>(group: &mut Lockstep<'_, A>, x: R) {
    group.vround(N, x);
    group.vsub(x, N, x);
    multiply(group, x, 2f64.powi(127));
    multiply(group, x, 2f64.powi(22));
    clamp(group, x, [0.0, 1.0]);
    group.vsub(x, N, x);
}

/// x = 0 where it is 0, else 1 or `low` by its sign: the smallest number times 2¹⁴⁹ is 1.
fn steepen<A: VectorAsm>(group: &mut Lockstep<'_, A>, low: f32) {
    multiply(group, X, 2f64.powi(127));
    multiply(group, X, 2f64.powi(22));
    clamp(group, X, [low, 1.0]);
}
