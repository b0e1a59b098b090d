//! Functions of the suite: how they are written, and how far kernels may be off.

use skimjit_models::Op;
use skimjit_models::ops::Activation;

/// Unit roundoff of `f32`.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// All functions that there are kernels for, by name, of three numbers.
pub fn all([a, b, c]: [f32; 3]) -> Vec<Activation> {
    use Activation::*;
    vec![
        Clip { min: a, max: b },
        AbsVal,
        HardSigmoid { alpha: a, beta: b },
        HardSwish,
        Softsign,
        Sqrt,
        Reciprocal,
        Sign,
        Round,
        Floor,
        Ceil,
        Truncate,
        Not,
        ThresholdedRelu { alpha: a },
        Log {
            base: a,
            scale: b,
            shift: c,
        },
        Threshold { threshold: a },
        Power {
            power: a,
            scale: b,
            shift: c,
        },
        Sigmoid,
        TanH,
        Mish,
        Bnll,
        Erf,
        Gelu { tanh: a != 0.0 },
        Elu { alpha: a },
        Selu { alpha: a, gamma: b },
        Celu { alpha: a },
        Swish { beta: a },
        Exp {
            base: a,
            scale: b,
            shift: c,
        },
    ]
}

/// Whether the values of a function are proved, not only its bounds.
#[allow(dead_code, reason = "for the proofs")]
pub fn is_proved(function: &Activation) -> bool {
    let smooth = match function {
        Activation::Power { power, .. } => power.fract() != 0.0 && power.abs() != 0.5,
        _ => false,
    };
    PROVED.contains(&name(function)) && !smooth
}

/// Names of those.
const PROVED: [&str; 15] = [
    "Floor",
    "Ceil",
    "Clip",
    "AbsVal",
    "HardSigmoid",
    "HardSwish",
    "Softsign",
    "Sqrt",
    "Reciprocal",
    "Sign",
    "Round",
    "Threshold",
    "Power",
    "Sigmoid",
    "Swish",
];

pub fn name(function: &Activation) -> &'static str {
    Op::Activation(*function).name()
}

fn numbers(function: Activation) -> Vec<f32> {
    use Activation::*;
    match function {
        Clip { min, max } => vec![min, max],
        HardSigmoid { alpha, beta } => vec![alpha, beta],
        Threshold { threshold } => vec![threshold],
        ThresholdedRelu { alpha } => vec![alpha],
        Log { base, scale, shift } => vec![base, scale, shift],
        Power {
            power,
            scale,
            shift,
        } => vec![power, scale, shift],
        Gelu { tanh } => vec![f32::from(tanh)],
        Elu { alpha } | Celu { alpha } => vec![alpha],
        Selu { alpha, gamma } => vec![alpha, gamma],
        Swish { beta } => vec![beta],
        Exp { base, scale, shift } => vec![base, scale, shift],
        _ => vec![],
    }
}

/// Words of a spec.
pub fn text(function: Activation) -> String {
    let name = name(&function);
    let numbers: Vec<String> = numbers(function).iter().map(f32::to_string).collect();
    match numbers.is_empty() {
        true => format!("f={name}"),
        false => format!("f={name} n={}", numbers.join(",")),
    }
}

/// The function of those words.
pub fn parse(wanted: &str, numbers: &[f32]) -> Result<Activation, String> {
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
    let mut all = all([0, 1, 2].map(number)).into_iter();
    all.find(|function| name(function) == wanted)
        .ok_or_else(|| format!("unknown function {wanted}"))
}

/// Bound of the error at x, of which the result is y.
pub fn tolerance(function: Activation, x: f64, y: f64) -> f64 {
    use Activation::*;
    let relative = match function {
        Clip { .. } | AbsVal | Sign | Round | Floor | Ceil | Truncate | Not => return 0.0,
        Threshold { .. } | ThresholdedRelu { .. } => return 0.0,
        HardSigmoid { alpha, beta } => {
            return 2.0 * U * ((f64::from(alpha) * x).abs() + f64::from(beta).abs());
        }
        HardSwish => 2.0 * (x.abs() / 6.0 + 1.0) * (x / y).abs(),
        Sqrt | Reciprocal => 1.0,
        Softsign => 3.0,
        Power {
            power,
            scale,
            shift,
        } => {
            let [scaled, shift] = [f64::from(scale) * x, f64::from(shift)];
            // Of the argument, which may cancel.
            let argument = (2.0 * scaled.abs() + shift.abs()) / (scaled + shift).abs();
            let power = f64::from(power);
            let logarithm = match power.fract() == 0.0 || power.abs() == 0.5 {
                true => power.abs(),
                false => 5.0 + 4.0 * (power * (scaled + shift).ln()).abs().min(90.0),
            };
            power.abs() * argument + 3.0 + logarithm
        }
        Log { base, scale, shift } => {
            let [scaled, shift] = [f64::from(scale) * x, f64::from(shift)];
            let rounded = if shift == 0.0 {
                scaled.abs()
            } else {
                2.0 * scaled.abs() + shift.abs()
            };
            let exact = f64::from(scale) == 1.0 && shift == 0.0;
            let argument = if exact {
                0.0
            } else {
                rounded / (scaled + shift).abs()
            };
            let factor = if base == -1.0 {
                1.0
            } else {
                f64::from(base).ln().recip()
            };
            return U * (argument * factor.abs() + 8.0 * y.abs());
        }
        Sigmoid | TanH | Erf => 8.0,
        Bnll | Elu { .. } | Celu { .. } | Selu { .. } => 10.0,
        Mish => 14.0,
        // An error of the argument is a relative error of the exponential.
        Swish { beta } => 8.0 + (f64::from(beta) * x).abs().min(90.0),
        Gelu { tanh: true } => 8.0 + 4.0 * (1.6 * x * (1.0 + 0.044715 * x * x)).abs().min(90.0),
        // The sum of 1 and a function near −1 cancels.
        Gelu { tanh: false } => 4.0 + 8.0 * (x / y).abs(),
        Exp { base, scale, shift } => {
            let log = if base == -1.0 {
                1.0
            } else {
                f64::from(base).ln()
            };
            let parts = [f64::from(scale) * x, f64::from(shift)].map(|part| (log * part).abs());
            8.0 + 3.0 * (parts[0] + parts[1])
        }
        function => unreachable!("{function:?} has no kernel"),
    };
    // What is tiny may be nothing, or the least that an exponential gives.
    relative * U * y.abs() + 2.0 * f64::from(f32::MIN_POSITIVE) * (1.0 + x.abs())
}
