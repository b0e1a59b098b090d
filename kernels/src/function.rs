//! Elementwise functions of one operand.
//!
//! What is smooth is made of one exponential. Nothing is compared: where a function is made of pieces, minima and
//! maxima with 0 choose between them.

use crate::emit::{AUX, COUNT, DST, SRC, WEI, entry, load, load_args, store, vector_bytes};
use crate::exponential::{EXP_RANGE, Exponential};
use crate::planes::{emit_planes, same_dims};
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes, vector_tasks,
};
use crate::{AlignedBuf, Extent, Footprint, FunctionProblem, Planes};
use skimjit_jit::Isa;
use skimjit_jit::asm::{M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use skimjit_models::ops::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// `dst = f(src)`.
///
/// Largest errors, measured on |x| ≤ 20 against double precision, as shares of the result in units of 2⁻²⁴: Exp
/// and ELU 1.5, Softsign 2, Sigmoid 2.5, Selu 2.6, TanH and Swish 3, BNLL 4.5, Mish 5, Erf 6. Gelu: 2.3e-7 of the
/// larger of 1 and |x|. Where an exponential leaves the range of floats its limit is taken: results that are not 0
/// are at least of the size of the least float. Infinite operands may give NaN where the product of 0 and ∞ is one.
/// What has no exponential is rounded as often as it has operations.
///
/// * src, dst: planes; layouts may differ; the gap of dst is not touched.
/// * task = some vectors where neither has gaps, else some channels.
/// * refused: functions that have no vector form here.
pub struct Function;

const TASKS: u32 = 16;

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
        HardSigmoid { alpha, beta } if finite(&[alpha, beta]) => Some(Form::Plain),
        Threshold { threshold } if threshold.is_finite() => Some(Form::Plain),
        Power {
            power,
            scale,
            shift,
        } if POWERS.contains(&power) && finite(&[scale, shift]) => Some(Form::Plain),
        Sigmoid | TanH | Mish | Bnll | Erf | Gelu { .. } => Some(Form::Smooth),
        Elu { alpha } if finite(&[alpha]) => Some(Form::Smooth),
        Selu { alpha, gamma } if finite(&[alpha, gamma]) => Some(Form::Smooth),
        Celu { alpha } if finite(&[alpha]) && alpha > 0.0 => Some(Form::Smooth),
        Swish { beta } if finite(&[beta]) => Some(Form::Smooth),
        Exp { base, scale, shift } if finite(&exponent(base, scale, shift)) => Some(Form::Smooth),
        _ => None,
    }
}

/// Powers that are made of products, roots and quotients.
const POWERS: [f32; 5] = [2.0, 3.0, 0.5, -0.5, -1.0];

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
const X: V = V(0);
/// 0.
const ZERO: V = V(7);
/// The operand as it was.
const OPERAND: V = V(6);
/// Free for steps; the exponential leaves a power of two in the first.
const N: V = V(1);
/// See [`N`].
const P: V = V(2);
/// See [`N`].
const Q: V = V(3);
/// Overwritten by constants.
const T: V = V(4);
/// There are no weights.
const MATH: Exponential = Exponential { base: WEI };

/// What every entry begins with; returns the mask of the last vector, loaded if that is wanted.
fn begin<A: VectorAsm>(asm: &mut A, masked: bool) -> M {
    let mask = A::mask(1, V(8));
    load_args(asm);
    asm.zero(ZERO);
    asm.lea_constants(MATH.base);
    if masked {
        asm.load_mask(mask, Mem::new(AUX, 0));
    }
    mask
}

fn emit_all_planes<A: VectorAsm>(asm: &mut A, problem: &FunctionProblem) {
    let mask = begin(asm, true);
    let layouts = [&problem.src, &problem.dst];
    let compute = |asm: &mut A| emit(asm, problem.function);
    emit_planes(asm, layouts, (X, mask), |_| {}, compute);
    asm.ret();
}

fn emit_row<A: VectorAsm>(asm: &mut A, problem: &FunctionProblem, last: bool) -> usize {
    entry(asm, &[], |asm| {
        let mask = begin(asm, last);
        let masked = last.then_some(mask);
        asm.counted_loop(COUNT, |asm| {
            load(asm, X, Mem::new(SRC, 0), masked);
            emit(asm, problem.function);
            store(asm, Mem::new(DST, 0), X, masked);
            asm.add_imm(SRC, vector_bytes::<A>());
            asm.add_imm(DST, vector_bytes::<A>());
        });
    })
}

fn multiply<A: VectorAsm>(asm: &mut A, x: V, value: f64) {
    let at = MATH.number(asm, value);
    asm.vmul_mem(x, x, at);
}

fn add<A: VectorAsm>(asm: &mut A, x: V, value: f64) {
    let at = MATH.number(asm, value);
    asm.vadd_mem(x, x, at);
}

fn clamp<A: VectorAsm>(asm: &mut A, x: V, range: [f32; 2]) {
    MATH.clamp(asm, x, range, T);
}

fn emit<A: VectorAsm>(asm: &mut A, function: Activation) {
    use Activation::*;
    match function {
        Sigmoid => {
            asm.vsub(X, ZERO, X);
            MATH.logistic(asm, X, [N, P]);
            asm.vmov(X, P);
        }
        TanH => {
            // (e²ˣ − 1) / (e²ˣ + 1).
            asm.vadd(X, X, X);
            MATH.exp_m1(asm, X, [-40.0, 40.0], [N, P]);
            MATH.load(asm, N, 2.0);
            asm.vadd(N, N, X);
            asm.vdiv(X, X, N);
        }
        Elu { alpha } => elu(asm, [1.0, 1.0, alpha.into()]),
        Celu { alpha } => elu(asm, [alpha.into(), 1.0, alpha.into()]),
        Selu { alpha, gamma } => {
            let (alpha, gamma) = (f64::from(alpha), f64::from(gamma));
            elu(asm, [1.0, gamma, gamma * alpha]);
        }
        Swish { beta } => MATH.swish(asm, X, beta, [N, P, Q]),
        Mish => mish(asm),
        Bnll => softplus(asm),
        Erf => erf(asm),
        Gelu { tanh } => gelu(asm, tanh),
        Exp { base, scale, shift } => exponential(asm, exponent(base, scale, shift)),
        Power {
            power,
            scale,
            shift,
        } => raised(asm, power, [scale, shift]),
        function => plain(asm, function),
    }
}

/// x = max(x, 0)·above + (e^min(x/unit, 0) − 1)·below.
fn elu<A: VectorAsm>(asm: &mut A, [unit, above, below]: [f64; 3]) {
    asm.vmax(OPERAND, ZERO, X);
    asm.vmin(X, ZERO, X);
    if unit != 1.0 {
        MATH.load(asm, T, unit);
        asm.vdiv(X, X, T);
    }
    MATH.exp_m1(asm, X, EXP_RANGE, [N, P]);
    multiply(asm, X, below);
    MATH.load(asm, T, above);
    asm.fma(X, OPERAND, T);
}

/// x·w/(w + 2) with w = eˣ·(eˣ + 2): the tangent's squares are those of 1 + eˣ.
fn mish<A: VectorAsm>(asm: &mut A) {
    asm.vmov(OPERAND, X);
    // Beyond, the quotient is 1, and w must not overflow.
    MATH.load(asm, T, 40.0);
    asm.vmin(X, T, X);
    MATH.exp(asm, X, [N, P]);
    MATH.load(asm, P, 2.0);
    asm.vadd(Q, N, P);
    asm.vmul(N, N, Q);
    asm.vmul(X, OPERAND, N);
    asm.vadd(N, N, P);
    asm.vdiv(X, X, N);
}

/// max(x, 0) + log(1 + e) with e = e^−|x|; the logarithm is 2·atanh(e / (2 + e)).
fn softplus<A: VectorAsm>(asm: &mut A) {
    asm.vmax(OPERAND, ZERO, X);
    asm.vsub(N, ZERO, X);
    asm.vmin(X, N, X);
    MATH.exp(asm, X, [N, P]);
    MATH.load(asm, T, 2.0);
    asm.vadd(T, T, N);
    asm.vdiv(N, N, T);
    asm.vmul(P, N, N);
    MATH.polynomial(asm, X, P, &ATANH);
    asm.vadd(N, N, N);
    asm.fma(OPERAND, X, N);
    asm.vmov(X, OPERAND);
}

fn erf<A: VectorAsm>(asm: &mut A) {
    clamp(asm, X, [-4.0, 4.0]);
    asm.vmul(N, X, X);
    MATH.polynomial(asm, P, N, ERF[0]);
    MATH.polynomial(asm, Q, N, ERF[1]);
    asm.vmul(X, X, P);
    asm.vdiv(X, X, Q);
}

fn gelu<A: VectorAsm>(asm: &mut A, tanh: bool) {
    asm.vmov(OPERAND, X);
    if tanh {
        // (1 + tanh u) / 2 is 1 / (1 + e^−2u).
        let factor = -2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        asm.vmul(N, X, X);
        MATH.load(asm, T, factor);
        multiply(asm, N, factor * 0.044715);
        asm.vadd(N, N, T);
        asm.vmul(X, X, N);
        MATH.logistic(asm, X, [N, P]);
        asm.vmul(X, OPERAND, P);
        return;
    }
    multiply(asm, X, FRAC_1_SQRT_2);
    erf(asm);
    add(asm, X, 1.0);
    multiply(asm, OPERAND, 0.5);
    asm.vmul(X, X, OPERAND);
}

/// e^(factor·x + offset), which overflows where it should.
fn exponential<A: VectorAsm>(asm: &mut A, [factor, offset]: [f32; 2]) {
    multiply(asm, X, factor.into());
    add(asm, X, offset.into());
    // 2¹²⁸ is no float.
    MATH.half_exp(asm, X, [N, P]);
    asm.vadd(X, N, N);
}

fn raised<A: VectorAsm>(asm: &mut A, power: f32, [scale, shift]: [f32; 2]) {
    multiply(asm, X, scale.into());
    add(asm, X, shift.into());
    if power.abs() == 0.5 {
        asm.vsqrt(X, X);
    }
    if power < 0.0 {
        MATH.load(asm, T, 1.0);
        asm.vdiv(X, T, X);
    }
    if power >= 2.0 {
        asm.vmul(N, X, X);
        match power == 3.0 {
            true => asm.vmul(X, X, N),
            false => asm.vmov(X, N),
        }
    }
}

/// What takes a few instructions.
fn plain<A: VectorAsm>(asm: &mut A, function: Activation) {
    use Activation::*;
    match function {
        Clip { min, max } => clamp(asm, X, [min, max]),
        AbsVal => {
            asm.vsub(N, ZERO, X);
            asm.vmax(X, N, X);
        }
        HardSigmoid { alpha, beta } => {
            multiply(asm, X, alpha.into());
            add(asm, X, beta.into());
            clamp(asm, X, [0.0, 1.0]);
        }
        HardSwish => {
            asm.vmov(OPERAND, X);
            multiply(asm, X, 1.0 / 6.0);
            add(asm, X, 0.5);
            clamp(asm, X, [0.0, 1.0]);
            asm.vmul(X, X, OPERAND);
        }
        Softsign => {
            asm.vsub(N, ZERO, X);
            asm.vmax(N, N, X);
            add(asm, N, 1.0);
            asm.vdiv(X, X, N);
        }
        Sqrt => asm.vsqrt(X, X),
        Reciprocal => {
            MATH.load(asm, T, 1.0);
            asm.vdiv(X, T, X);
        }
        Round => asm.vround(X, X),
        Sign => steepen(asm, -1.0),
        Threshold { threshold } => {
            add(asm, X, -f64::from(threshold));
            // NaN is not greater than the threshold.
            asm.vmax(X, X, ZERO);
            steepen(asm, 0.0);
        }
        function => unreachable!("{function:?} is not supported"),
    }
}

/// x = 0 where it is 0, else 1 or `low` by its sign: the smallest number times 2¹⁴⁹ is 1.
fn steepen<A: VectorAsm>(asm: &mut A, low: f32) {
    multiply(asm, X, 2f64.powi(127));
    multiply(asm, X, 2f64.powi(22));
    clamp(asm, X, [low, 1.0]);
}
