//! What a layer reads and what it has to compute, in the arithmetic of [`crate::value`].

use crate::extremes::Extremes;
use crate::memory::Cells;
use crate::value::{Lane, opaque};
use skimjit_kernels::stage::Staging;
use skimjit_kernels::{
    BinaryProblem, Built, ChannelwiseProblem, ConvProblem, DeconvProblem, Divisor, EltwiseKind,
    EltwiseProblem, Extent, FcProblem, FunctionProblem, Fused, LrnProblem, Over, Planes,
    PoolProblem, Problem, ResampleProblem, StandardizeProblem, Weights,
};
use skimjit_models::ops::{Activation, BinaryOp, PoolMethod, Pooling, Rounding};
use std::ops::Range;

/// What is known of a layer's results.
pub enum Expected {
    /// Every element, channels × pixels.
    Values(Vec<Lane>),
    /// Exponentials: that every element is written and depends on nothing undefined.
    Defined,
}

/// The random value of a pixel of an operand.
fn input(operand: usize, channel: u32, pixel: u32) -> Lane {
    Lane::random([operand as u64, channel.into(), pixel.into()])
}

/// Channel and pixel of an element, when it is one.
pub fn inside(planes: &Planes, element: i64) -> Option<(u32, u32)> {
    let element = u64::try_from(element).ok()?;
    let (c, pixel) = (
        element / u64::from(planes.pitch),
        element % u64::from(planes.pitch),
    );
    (c < planes.c.into() && pixel < planes.hw().into()).then_some((c as u32, pixel as u32))
}

/// The operands of a kernel, with everything around them that it may read.
pub fn operands(problem: &Problem, built: &Built) -> Vec<Cells> {
    let layouts = problem.operands();
    let cells = |(operand, planes): (usize, &Planes)| {
        let of_result = operand == 1 && layouts.residual;
        let extent = if of_result {
            built.footprint.dst
        } else {
            built.footprint.src
        };
        match &built.staging {
            Some(staging) if operand == 0 => staged(staging, extent),
            _ => planes_of(planes, operand, extent),
        }
    };
    layouts.src.iter().enumerate().map(cells).collect()
}

/// Pixels, and zeros in the gaps: behind each plane, and as many in front of the first.
fn planes_of(planes: &Planes, operand: usize, extent: Extent) -> Cells {
    let mut cells = Cells::new(extent);
    let gapped = -i64::from(planes.gap())..planes.elems() as i64;
    for (index, lane) in cells.lanes.iter_mut().enumerate() {
        let element = index as i64 - extent.before as i64;
        *lane = match inside(planes, element) {
            Some((channel, pixel)) => input(operand, channel, pixel),
            None if gapped.contains(&element) => Lane::ZERO,
            None => Lane::POISON,
        };
    }
    cells
}

/// The staged copy, made by the copying code itself from the numbers of the pixels.
fn staged(staging: &Staging, extent: Extent) -> Cells {
    let mut cells = Cells::new(extent);
    let pixels = staging.src.hw();
    // Bits, not numbers: exact for any count.
    let numbers: Vec<f32> = (1..=pixels).map(f32::from_bits).collect();
    let mut copy = vec![f32::from_bits(u32::MAX); staging.channel as usize];
    for channel in 0..staging.src.c {
        staging.copy_channel(&numbers, &mut copy);
        let start = extent.before + channel as usize * copy.len();
        for (lane, number) in cells.lanes.iter_mut().skip(start).zip(&copy) {
            *lane = match number.to_bits() {
                0 => Lane::ZERO,
                number if number <= pixels => input(0, channel, number - 1),
                _ => Lane::POISON,
            };
        }
    }
    cells
}

/// What the layer computes.
pub fn expected(problem: &Problem, weights: Weights<'_>) -> Expected {
    let extremes = &mut Extremes::default();
    Expected::Values(match problem {
        Problem::Conv(p) => convolution(p, weights, extremes),
        Problem::Deconv(p) => deconvolution(p, weights, extremes),
        Problem::Fc(p) => inner_product(p, weights, extremes),
        Problem::Pool(p) => pooling(p, extremes),
        Problem::Channelwise(p) => channelwise(p, weights, extremes),
        Problem::Eltwise(p) => eltwise(p, extremes),
        Problem::Binary(p) => binary(p, extremes),
        Problem::Lrn(p) => normalisation(p),
        Problem::Function(p) => match function(p, extremes) {
            Some(values) => values,
            None => return Expected::Defined,
        },
        Problem::Resample(p) => resizing(p),
        Problem::Copy(p) => {
            let all = Extent {
                before: 0,
                after: p.staging.elems(),
            };
            staged(&p.staging, all).lanes
        }
        Problem::Standardize(p) => standardization(p, weights, extremes),
        Problem::Softmax(_) => return Expected::Defined,
    })
}

/// 1 + e^(factor·x) by the formula that kernels follow: 1 + 2ⁿ·2ʳ, in which the shift that makes a power of two is a
/// function that is known by its name.
///
/// Returns x as well, bounded where the sum is: by its quotient with it, all larger ones are alike.
fn one_plus_exp(x: Lane, factor: f64, extremes: &mut Extremes) -> [Lane; 2] {
    let number = |value: f64| Lane::float(value as f32);
    let most = f64::from(f32::MAX);
    let mut ends = [-87.3f32, 87.0].map(|end| f64::from(end) / factor);
    ends.sort_by(f64::total_cmp);
    let [low, high] = match factor == 0.0 {
        true => [-most, most],
        false => ends.map(|end| end.clamp(-most, most)),
    };
    let (bounded, x) = if factor > 0.0 {
        let bounded = extremes.min(number(high), x);
        (bounded, extremes.max(number(low), bounded))
    } else {
        let bounded = extremes.max(number(low), x);
        (bounded, extremes.min(number(high), bounded))
    };
    let exponent = factor * std::f64::consts::LOG2_E;
    let first = exponent as f32;
    let whole = number(12_582_912.0 + 127.0);
    let n = whole.plus(x.times(Lane::float(first)));
    let rest = number(exponent - f64::from(first));
    let r = whole
        .minus(n)
        .plus(x.times(Lane::float(first)))
        .plus(x.times(rest));
    let polynomial = [
        1.546_144_5e-4,
        1.340_042_8e-3,
        9.618_058e-3,
        5.550_327e-2,
        2.402_265e-1,
        6.931_472e-1,
        1.0,
    ];
    let next = |sum: Lane, coefficient: f64| sum.times(r).plus(number(coefficient));
    let p = polynomial.into_iter().fold(Lane::ZERO, next);
    let power = opaque("shift", &[n, Lane::bits(23)]);
    [bounded, p.times(power).plus(number(1.0))]
}

/// NaN stays NaN, as everywhere below where the input is the second operand.
fn activated(value: Lane, post: Option<Fused>, extremes: &mut Extremes) -> Lane {
    match post.map(Fused::activation) {
        None => value,
        Some(Activation::ReLU { slope }) => {
            let positive = extremes.max(Lane::ZERO, value);
            if slope == 0.0 {
                return positive;
            }
            let below = extremes.min(Lane::ZERO, value);
            positive.plus(below.times(Lane::float(slope)))
        }
        Some(activation) => {
            plain(activation, value, extremes).expect("what is fused has a formula")
        }
    }
}

fn bias(weights: Weights<'_>, row: u32) -> Lane {
    let bias = weights.bias.get(row as usize);
    bias.map_or(Lane::ZERO, |&bias| Lane::float(bias))
}

/// Non-zeros of a row: column and value.
fn row<'a>(weights: Weights<'a>, row: u32) -> impl Iterator<Item = (u32, Lane)> + 'a {
    let columns = weights.pattern.row(row).iter();
    columns.map(move |&col| (col, Lane::float(weights.value(row, col))))
}

fn convolution(p: &ConvProblem, weights: Weights<'_>, extremes: &mut Extremes) -> Vec<Lane> {
    let pixels = p.dst.hw() as usize;
    let planes = |operand: usize, planes: &Planes| -> Vec<Lane> {
        let channels = (0..planes.c).flat_map(|c| (0..planes.hw()).map(move |pixel| (c, pixel)));
        channels
            .map(|(c, pixel)| input(operand, c, pixel))
            .collect()
    };
    let source = planes(0, &p.src);
    let mut result = Vec::with_capacity(p.dst.c as usize * pixels);
    let mut sums = vec![Lane::ZERO; pixels];
    for oc in 0..p.dst.c {
        sums.fill(bias(weights, oc));
        for (col, weight) in row(weights, oc) {
            let channel = oc / p.ocg() * p.icg() + col / p.taps();
            let plane = &source[(channel * p.src.hw()) as usize..][..p.src.hw() as usize];
            add_tap(p, col % p.taps(), weight, plane, &mut sums);
        }
        for (pixel, sum) in sums.iter().enumerate() {
            let residual = match p.residual {
                true => input(1, oc, pixel as u32),
                false => Lane::ZERO,
            };
            extremes.forget();
            result.push(activated(sum.plus(residual), p.post, extremes));
        }
    }
    result
}

/// Adds one tap's products for all pixels.
fn add_tap(p: &ConvProblem, tap: u32, weight: Lane, plane: &[Lane], sums: &mut [Lane]) {
    let window = &p.window;
    let tap = [tap / window.kernel[1], tap % window.kernel[1]];
    let at = |axis: usize, out: u32, size: u32| {
        let position = i64::from(out * window.stride[axis] + tap[axis] * window.dilation[axis])
            - i64::from(window.pad_begin[axis]);
        (0..i64::from(size))
            .contains(&position)
            .then_some(position as usize)
    };
    for y in 0..p.dst.h {
        let Some(from_y) = at(0, y, p.src.h) else {
            continue;
        };
        for x in 0..p.dst.w {
            if let Some(from_x) = at(1, x, p.src.w) {
                let sum = &mut sums[(y * p.dst.w + x) as usize];
                *sum = sum.plus(weight.times(plane[from_y * p.src.w as usize + from_x]));
            }
        }
    }
}

fn deconvolution(p: &DeconvProblem, weights: Weights<'_>, extremes: &mut Extremes) -> Vec<Lane> {
    let (window, width) = (&p.window, p.dst.w);
    // Where a source row or column goes by a tap, if that is inside.
    let to = |axis: usize, from: u32, tap: u32, size: u32| {
        let padded = from * window.stride[axis] + tap;
        padded
            .checked_sub(window.pad_begin[axis])
            .filter(|&at| at < size)
    };
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        let mut sums = vec![bias(weights, c); p.dst.hw() as usize];
        for (tap, weight) in row(weights, c) {
            let (i, j) = (tap / window.kernel[1], tap % window.kernel[1]);
            for (y, x) in (0..p.src.h).flat_map(|y| (0..p.src.w).map(move |x| (y, x))) {
                if let (Some(to_y), Some(to_x)) = (to(0, y, i, p.dst.h), to(1, x, j, width)) {
                    let sum = &mut sums[(to_y * width + to_x) as usize];
                    *sum = sum.plus(weight.times(input(0, c, y * p.src.w + x)));
                }
            }
        }
        for sum in sums {
            extremes.forget();
            result.push(activated(sum, p.post, extremes));
        }
    }
    result
}

fn inner_product(p: &FcProblem, weights: Weights<'_>, extremes: &mut Extremes) -> Vec<Lane> {
    let mut sum = |output: u32| {
        extremes.forget();
        let products = row(weights, output).map(|(col, weight)| weight.times(input(0, col, 0)));
        activated(
            products.fold(bias(weights, output), Lane::plus),
            p.post,
            extremes,
        )
    };
    (0..p.outputs).map(&mut sum).collect()
}

fn pooling(p: &PoolProblem, extremes: &mut Extremes) -> Vec<Lane> {
    let op = Pooling {
        method: p.method,
        window: p.window,
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu: p.relu,
        mask: false,
    };
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        for (y, x) in (0..p.dst.h).flat_map(|y| (0..p.dst.w).map(move |x| (y, x))) {
            let (rows, columns) = (op.range(0, p.src.h, y), op.range(1, p.src.w, x));
            let window = (rows.start..rows.end)
                .flat_map(|y| (columns.start..columns.end).map(move |x| y * p.src.w + x));
            let window = window.map(|pixel| input(0, c, pixel));
            extremes.forget();
            // Only a greater value replaces the maximum, so NaN never does.
            let mut greater = |max: Lane, value: Lane| extremes.max(value, max);
            result.push(match p.method {
                PoolMethod::Max if p.relu => window.fold(Lane::ZERO, greater),
                PoolMethod::Max => window.fold(Lane::float(f32::MIN), &mut greater),
                PoolMethod::Average | PoolMethod::AverageInside => {
                    let [height, width] =
                        [rows.divisor, columns.divisor].map(|n| Lane::float(n as f32));
                    window
                        .fold(Lane::ZERO, Lane::plus)
                        .over(height.times(width))
                }
                PoolMethod::Lp { .. } => unreachable!("no kernel computes {:?}", p.method),
            });
        }
    }
    result
}

fn channelwise(p: &ChannelwiseProblem, weights: Weights<'_>, extremes: &mut Extremes) -> Vec<Lane> {
    let constants = weights.all();
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        let [scale, shift, slope] =
            [0, 1, 2].map(|part| Lane::float(constants[c as usize * 3 + part]));
        for pixel in 0..p.dst.hw() {
            let mut value = input(0, c, pixel);
            if p.affine {
                value = value.times(scale).plus(shift);
            }
            if p.leaky {
                extremes.forget();
                let below = extremes.min(Lane::ZERO, value).times(slope);
                value = extremes.max(Lane::ZERO, value).plus(below);
            }
            result.push(value);
        }
    }
    result
}

/// `None` for a function of which only bounds are proved.
fn function(p: &FunctionProblem, extremes: &mut Extremes) -> Option<Vec<Lane>> {
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        for pixel in 0..p.dst.hw() {
            extremes.forget();
            result.push(plain(p.function, input(0, c, pixel), extremes)?);
        }
    }
    Some(result)
}

fn plain(function: Activation, x: Lane, extremes: &mut Extremes) -> Option<Lane> {
    use Activation::*;
    let number = |value: f64| Lane::float(value as f32);
    match function {
        Sigmoid => return Some(number(1.0).over(one_plus_exp(x, -1.0, extremes)[1])),
        Swish { beta } => {
            let [bounded, sum] = one_plus_exp(x, -f64::from(beta), extremes);
            return Some(bounded.over(sum));
        }
        _ => {}
    }
    let mut clamp = |x: Lane, [low, high]: [f32; 2]| {
        let raised = extremes.max(Lane::float(low), x);
        extremes.min(Lane::float(high), raised)
    };
    let smallest_is_1 = |x: Lane| x.times(number(2f64.powi(127))).times(number(2f64.powi(22)));
    Some(match function {
        Clip { min, max } => clamp(x, [min, max]),
        AbsVal => extremes.max(Lane::ZERO.minus(x), x),
        HardSigmoid { alpha, beta } => {
            let line = x.times(Lane::float(alpha)).plus(Lane::float(beta));
            clamp(line, [0.0, 1.0])
        }
        HardSwish => {
            let line = x.times(number(1.0 / 6.0)).plus(number(0.5));
            clamp(line, [0.0, 1.0]).times(x)
        }
        Softsign => {
            let magnitude = extremes.max(Lane::ZERO.minus(x), x);
            x.over(magnitude.plus(number(1.0)))
        }
        Sqrt => opaque("sqrt", &[x]),
        Reciprocal => number(1.0).over(x),
        Round => opaque("round", &[x]),
        Floor => floor(x, &mut clamp),
        Ceil => Lane::ZERO.minus(floor(Lane::ZERO.minus(x), &mut clamp)),
        Sign => clamp(smallest_is_1(x), [-1.0, 1.0]),
        Threshold { threshold } => {
            let above = extremes.max(x.minus(Lane::float(threshold)), Lane::ZERO);
            let steep = smallest_is_1(above);
            let raised = extremes.max(Lane::ZERO, steep);
            extremes.min(number(1.0), raised)
        }
        Power {
            power,
            scale,
            shift,
        } => {
            let x = x.times(Lane::float(scale)).plus(Lane::float(shift));
            let root = opaque("sqrt", &[x]);
            let product = |x: Lane| (0..power.abs() as u32).fold(number(1.0), |y, _| y.times(x));
            match power {
                0.5 => root,
                -0.5 => number(1.0).over(root),
                _ if power.fract() != 0.0 => return None,
                _ if power < 0.0 => product(number(1.0).over(x)),
                _ => product(x),
            }
        }
        _ => return None,
    })
}

fn floor(x: Lane, clamp: &mut dyn FnMut(Lane, [f32; 2]) -> Lane) -> Lane {
    let nearest = opaque("round", &[x]);
    let above = nearest.minus(x).times(Lane::float(2f32.powi(127)));
    nearest.minus(clamp(above.times(Lane::float(2f32.powi(22))), [0.0, 1.0]))
}

fn eltwise(p: &EltwiseProblem, extremes: &mut Extremes) -> Vec<Lane> {
    let combine = |element: u32| {
        extremes.forget();
        let mut operands = (0..p.operands as usize).map(|operand| input(operand, element, 0));
        let value = match &p.kind {
            EltwiseKind::Sum(coefficients) => operands
                .zip(coefficients)
                .map(|(operand, &coefficient)| operand.times(Lane::float(coefficient)))
                .fold(Lane::ZERO, Lane::plus),
            EltwiseKind::Product => operands.fold(Lane::float(1.0), Lane::times),
            EltwiseKind::Max => {
                let first = operands.next().unwrap_or(Lane::POISON);
                operands.fold(first, |max, value| extremes.max(value, max))
            }
        };
        activated(value, p.post, extremes)
    };
    (0..p.elems).map(combine).collect()
}

fn binary(p: &BinaryProblem, extremes: &mut Extremes) -> Vec<Lane> {
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        for pixel in 0..p.dst.hw() {
            extremes.forget();
            let of_part = |index: u32, count: u32| if count == 1 { 0 } else { index };
            let part = input(0, of_part(c, p.part.c), of_part(pixel, p.part.hw()));
            let whole = input(1, c, pixel);
            let [a, b] = match p.part_first {
                true => [part, whole],
                false => [whole, part],
            };
            let value = match p.op {
                BinaryOp::Add => a.plus(b),
                BinaryOp::Sub => a.minus(b),
                BinaryOp::Mul => a.times(b),
                BinaryOp::Div => a.over(b),
                // No kernel has it: a value that no code computes.
                op => opaque(&format!("{op:?}"), &[a, b]),
            };
            result.push(activated(value, p.post, extremes));
        }
    }
    result
}

fn resizing(p: &ResampleProblem) -> Vec<Lane> {
    let elements = |axis, input, output: u32| -> Vec<Vec<(u32, f32)>> {
        let elements = |to| p.op.elements(axis, input, to as usize);
        (0..output).map(elements).collect()
    };
    let rows = elements(2, p.src.h, p.dst.h);
    let columns = elements(3, p.src.w, p.dst.w);
    let mut result = Vec::new();
    for c in 0..p.dst.c {
        for (rows, columns) in rows
            .iter()
            .flat_map(|row| columns.iter().map(move |c| (row, c)))
        {
            let column = |x: u32| {
                let sum = |sum: Lane, &(y, weight): &(u32, f32)| {
                    sum.plus(Lane::float(weight).times(input(0, c, y * p.src.w + x)))
                };
                rows.iter().fold(Lane::ZERO, sum)
            };
            let sum = |sum: Lane, &(x, weight): &(u32, f32)| {
                sum.plus(Lane::float(weight).times(column(x)))
            };
            result.push(columns.iter().fold(Lane::ZERO, sum));
        }
    }
    result
}

/// `src · (k + alpha/size · Σ src²)^−beta`, the power by roots.
fn normalisation(p: &LrnProblem) -> Vec<Lane> {
    let (half, size, planes) = (p.size / 2, p.size as f32, &p.planes);
    let around = |at: u32, count: u32| at.saturating_sub(half)..(at + half + 1).min(count);
    let elements = if p.within_channel { size * size } else { size };
    let [scale, k] = [p.alpha / elements, p.k].map(Lane::float);
    let mut result = Vec::new();
    for c in 0..planes.c {
        for (y, x) in (0..planes.h).flat_map(|y| (0..planes.w).map(move |x| (y, x))) {
            let (channels, rows, columns) = match p.within_channel {
                true => (c..c + 1, around(y, planes.h), around(x, planes.w)),
                false => (around(c, planes.c), y..y + 1, x..x + 1),
            };
            let mut sum = Lane::ZERO;
            for (c, y) in channels.flat_map(|c| rows.clone().map(move |y| (c, y))) {
                for x in columns.clone() {
                    let value = input(0, c, y * planes.w + x);
                    sum = sum.plus(value.times(value));
                }
            }
            let base = k.plus(sum.times(scale));
            result.push(input(0, c, y * planes.w + x).over(raised(base, p.beta)));
        }
    }
    result
}

/// The channels and pixels of each group.
fn groups(planes: &Planes, over: Over) -> Vec<Vec<(u32, u32)>> {
    let Planes { c, h, w, .. } = *planes;
    let group = |channels: Range<u32>, rows: Range<u32>, columns: Range<u32>| {
        let mut elements = Vec::new();
        for (c, y) in channels.flat_map(|c| rows.clone().map(move |y| (c, y))) {
            elements.extend(columns.clone().map(|x| (c, y * w + x)));
        }
        elements
    };
    let one = |i: u32, count: u32| i % count..i % count + 1;
    match over {
        Over::Channels => (0..h * w)
            .map(|i| group(0..c, one(i / w, h), one(i, w)))
            .collect(),
        Over::Rows => (0..c * w)
            .map(|i| group(one(i / w, c), 0..h, one(i, w)))
            .collect(),
        Over::Columns => (0..c * h)
            .map(|i| group(one(i / h, c), one(i, h), 0..w))
            .collect(),
        Over::Plane => (0..c).map(|c| group(c..c + 1, 0..h, 0..w)).collect(),
        Over::Image => vec![group(0..c, 0..h, 0..w)],
    }
}

/// (x − mean) / divisor, or x / norm · scale, over groups.
fn standardization(
    p: &StandardizeProblem,
    weights: Weights<'_>,
    extremes: &mut Extremes,
) -> Vec<Lane> {
    let number = Lane::float;
    let (scales, hw) = (weights.all(), p.src.hw());
    let mut result = vec![Lane::ZERO; (p.src.c * hw) as usize];
    for group in groups(&p.src, p.over) {
        extremes.forget();
        let share = number(1.0 / group.len() as f32);
        let x = |&(c, pixel): &(u32, u32)| input(0, c, pixel);
        let sum =
            |of: &dyn Fn(&(u32, u32)) -> Lane| group.iter().map(of).fold(Lane::ZERO, Lane::plus);
        let mut mean = match p.is_scaled() {
            true => Lane::ZERO,
            false => sum(&x).times(share),
        };
        let squares = sum(&|at| x(at).minus(mean).times(x(at).minus(mean)));
        let root = |x: Lane| opaque("sqrt", &[x]);
        let divisor = match p.divisor {
            Divisor::One => number(1.0),
            Divisor::Deviation => root(squares.times(share).plus(number(p.eps))),
            Divisor::Norm => root(squares.plus(number(p.eps))),
            // What the mean is off is taken from both.
            Divisor::DeviationAndEps => {
                let off = sum(&|at| x(at).minus(mean)).times(share);
                mean = mean.plus(off);
                let variance = squares.times(share).minus(off.times(off));
                root(extremes.max(Lane::ZERO, variance)).plus(number(p.eps))
            }
        };
        for at in &group {
            let value = x(at).minus(mean).times(number(1.0).over(divisor));
            let scale = scales
                .get(at.0 as usize)
                .map_or(number(1.0), |&scale| number(scale));
            result[(at.0 * hw + at.1) as usize] = value.times(scale);
        }
    }
    result
}

/// `base^beta` for the exponents that kernels have.
fn raised(base: Lane, beta: f32) -> Lane {
    let root = |x: Lane| opaque("sqrt", &[x]);
    match beta {
        1.0 => base,
        0.5 => root(base),
        0.75 => root(base).times(root(root(base))),
        // No kernel has it: a value that no code computes.
        _ => opaque("power", &[base, Lane::float(beta)]),
    }
}
