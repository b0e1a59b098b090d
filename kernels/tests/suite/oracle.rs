//! What a case must compute, and how far a kernel may be off.
//!
//! The bound is the standard one for a sum of n products in any order,
//! |error| ≤ n·u·Σ|wᵢ·xᵢ| with u = 2⁻²⁴, plus u for each operation behind the sum.

use crate::data::Data;
use crate::function;
use crate::spec::Spec;
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, CopyProblem, DeconvProblem, Divisor,
    EltwiseKind, EltwiseProblem, FcProblem, FunctionProblem, Fused, LrnProblem, Over, Planes,
    PoolProblem, Problem, ResampleProblem, SoftmaxProblem, StandardizeProblem,
};
use skimjit_models::ops::{
    Activation, Binary, BinaryOp, Convolution, Eltwise, EltwiseOp, InnerProduct, Lrn, Mvn,
    Normalize, PRelu, PoolMethod, Pooling, PostOps, Rounding, Scale, Standardize,
};
use skimjit_models::{Op, Pattern, Shape, TensorRef, Weight, WeightId};
use std::sync::Arc;

/// Unit roundoff of `f32`.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// What underflow may cost.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// Result and tolerance of every element, channels × pixels.
pub struct Expected {
    pub value: Vec<f64>,
    pub tolerance: Vec<f64>,
    /// Elements that may be NaN instead: sums over operands that are not finite, which weights of zero may
    /// have been multiplied by.
    pub may_be_nan: Vec<bool>,
}

impl Expected {
    fn new(value: Vec<f64>, tolerance: Vec<f64>) -> Self {
        Self {
            value,
            tolerance,
            may_be_nan: vec![],
        }
    }
}

pub fn expected(spec: &Spec, data: &Data) -> Expected {
    let mut expected = values(spec, data);
    if spec.special {
        expected.may_be_nan = sums_over_special(&spec.problem, data);
    }
    expected
}

/// Elements of a sum that has an operand that is not finite.
fn sums_over_special(problem: &Problem, data: &Data) -> Vec<bool> {
    let special = |x: &f32| if x.is_finite() { 0.0 } else { 1.0 };
    let (layout, values) = &data.src[0];
    let found = Data {
        src: vec![(*layout, values.iter().map(special).collect())],
        values: vec![1.0; data.values.len()],
        bias: vec![],
        dst: data.dst,
        pattern: data.pattern.clone(),
    };
    let counts = match problem {
        Problem::Conv(p) => {
            let plain = ConvProblem {
                post: None,
                residual: false,
                ..p.clone()
            };
            conv(&plain, &found)
        }
        Problem::Deconv(p) => {
            let plain = DeconvProblem {
                post: None,
                ..p.clone()
            };
            deconv(&plain, &found)
        }
        Problem::Fc(p) => fc(
            &FcProblem {
                post: None,
                ..p.clone()
            },
            &found,
        ),
        // The logarithm of an infinite sum.
        Problem::Softmax(p) if p.log => return groups_with_infinity(p, values),
        _ => return vec![],
    };
    counts.value.iter().map(|&count| count > 0.0).collect()
}

fn values(spec: &Spec, data: &Data) -> Expected {
    match &spec.problem {
        Problem::Conv(p) => conv(p, data),
        Problem::Deconv(p) => deconv(p, data),
        Problem::Fc(p) => fc(p, data),
        Problem::Pool(p) => pool(p, data),
        Problem::Lrn(p) => lrn(p, data),
        Problem::Channelwise(p) => channelwise(p, data),
        Problem::Function(p) => elementwise(p, data),
        Problem::Eltwise(p) => eltwise(p, data),
        Problem::Binary(p) => binary(p, data),
        Problem::Softmax(p) => softmax(p, data),
        Problem::Standardize(p) => standardize(p, data),
        Problem::Copy(p) => copied(p, data),
        Problem::Resample(p) => resample(p, data),
    }
}

fn image(p: &Planes) -> Shape {
    Shape::new([1, p.c, p.h, p.w]).expect("test shapes are valid")
}

fn tensor(dims: &[u32], data: Vec<f32>) -> Arc<Weight> {
    Arc::new(Weight::dense(
        Shape::new(dims).expect("test shapes are valid"),
        data,
    ))
}

fn evaluate(
    op: &Op,
    inputs: &[(&Shape, &[f32])],
    weights: &[Arc<Weight>],
    out: &Shape,
) -> Vec<f32> {
    let inputs: Vec<TensorRef<'_>> = inputs
        .iter()
        .map(|&(shape, data)| TensorRef { shape, data })
        .collect();
    let mut output = vec![f32::NAN; out.count()];
    op.evaluate(&inputs, weights, out, &mut output);
    output
}

fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| x.abs()).collect()
}

/// Post-ops on a value with its tolerance.
fn post(value: f64, tolerance: f64, post: Option<Fused>) -> (f64, f64) {
    let Some(activation) = post.map(Fused::activation) else {
        return (value, tolerance);
    };
    let y = activation.apply(value);
    let more = match activation {
        Activation::ReLU { slope } => tolerance * f64::from(slope).abs().max(1.0),
        // The steepest slope is 1.5, or 1.1 with a factor of 1.
        Activation::HardSwish | Activation::Swish { .. } => {
            1.5 * tolerance + function::tolerance(activation, value, y)
        }
        _ => tolerance,
    };
    (y, more)
}

/// `sums` and `magnitudes` (Σ|w·x| + |bias|) of rows of `pixels` elements.
struct Sums<'a> {
    sums: Vec<f32>,
    magnitudes: Vec<f32>,
    pixels: usize,
    pattern: &'a Pattern,
    residual: Option<&'a [f32]>,
    post: Option<Fused>,
}

impl Sums<'_> {
    fn finish(self) -> Expected {
        let both = self.sums.iter().zip(&self.magnitudes).enumerate();
        let (value, tolerance) = both
            .map(|(i, (&sum, &magnitude))| {
                let residual = self.residual.map_or(0.0, |residual| f64::from(residual[i]));
                let terms = self.pattern.row((i / self.pixels) as u32).len() + 4;
                let magnitude = f64::from(magnitude) + residual.abs();
                let tolerance = terms as f64 * U * magnitude + TINY;
                post(f64::from(sum) + residual, tolerance, self.post)
            })
            .unzip();
        Expected::new(value, tolerance)
    }
}

fn conv(p: &ConvProblem, data: &Data) -> Expected {
    let [kh, kw] = p.window.kernel;
    let bias = (!data.bias.is_empty()).then_some(WeightId(1));
    let (window, oc, groups) = (p.window, p.dst.c, p.groups);
    let weights = WeightId(0);
    let post = PostOps::default();
    let op = Op::Convolution(Convolution {
        window,
        oc,
        groups,
        weights,
        bias,
        post,
    });
    let run = |src: &[f32], values: Vec<f32>, bias: Vec<f32>| {
        let mut weights = vec![tensor(&[oc, p.icg(), kh, kw], values)];
        if !bias.is_empty() {
            weights.push(tensor(&[oc], bias));
        }
        let (src_shape, dst_shape) = (image(&p.src), image(&p.dst));
        let inferred = op
            .infer_shape(&[&src_shape], &weights)
            .expect("a valid convolution");
        assert_eq!(inferred, dst_shape, "the case's output size");
        evaluate(&op, &[(&src_shape, src)], &weights, &dst_shape)
    };
    let src = &data.src[0].1;
    Sums {
        sums: run(src, data.values.clone(), data.bias.clone()),
        magnitudes: run(&absolute(src), absolute(&data.values), absolute(&data.bias)),
        pixels: p.dst.hw() as usize,
        pattern: &data.pattern,
        residual: data.src.get(1).map(|(_, values)| &values[..]),
        post: p.post,
    }
    .finish()
}

fn deconv(p: &DeconvProblem, data: &Data) -> Expected {
    let [kh, kw] = p.window.kernel;
    let bias = (!data.bias.is_empty()).then_some(WeightId(1));
    let op = Op::Deconvolution(Convolution {
        window: p.window,
        oc: p.dst.c,
        groups: p.dst.c,
        weights: WeightId(0),
        bias,
        post: PostOps::default(),
    });
    let run = |src: &[f32], values: Vec<f32>, bias: Vec<f32>| {
        let mut weights = vec![tensor(&[p.dst.c, 1, kh, kw], values)];
        if !bias.is_empty() {
            weights.push(tensor(&[p.dst.c], bias));
        }
        let (src_shape, dst_shape) = (image(&p.src), image(&p.dst));
        evaluate(&op, &[(&src_shape, src)], &weights, &dst_shape)
    };
    let src = &data.src[0].1;
    Sums {
        sums: run(src, data.values.clone(), data.bias.clone()),
        magnitudes: run(&absolute(src), absolute(&data.values), absolute(&data.bias)),
        pixels: p.dst.hw() as usize,
        pattern: &data.pattern,
        residual: None,
        post: p.post,
    }
    .finish()
}

fn fc(p: &FcProblem, data: &Data) -> Expected {
    let bias = (!data.bias.is_empty()).then_some(WeightId(1));
    let weights = WeightId(0);
    let (outputs, post) = (p.outputs, PostOps::default());
    let op = InnerProduct {
        outputs,
        axis: 1,
        transpose: false,
        weights,
        bias,
        post,
    };
    let op = Op::InnerProduct(op);
    let run = |src: &[f32], values: Vec<f32>, bias: Vec<f32>| {
        let mut weights = vec![tensor(&[outputs, p.inputs], values)];
        if !bias.is_empty() {
            weights.push(tensor(&[outputs], bias));
        }
        let [from, to] = [p.inputs, outputs].map(|n| Shape::new([1, n]).expect("a valid row"));
        evaluate(&op, &[(&from, src)], &weights, &to)
    };
    let src = &data.src[0].1;
    Sums {
        sums: run(src, data.values.clone(), data.bias.clone()),
        magnitudes: run(&absolute(src), absolute(&data.values), absolute(&data.bias)),
        pixels: 1,
        pattern: &data.pattern,
        residual: None,
        post: p.post,
    }
    .finish()
}

/// The op of a pooling problem; which way it rounds follows from the output's size.
pub fn pooling(p: &PoolProblem) -> Pooling {
    let (method, window, relu) = (p.method, p.window, p.relu);
    let up = Pooling {
        method,
        window,
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu,
        mask: false,
    };
    let size = [up.output_size(0, p.src.h), up.output_size(1, p.src.w)];
    let rounding = match size == [Ok(p.dst.h), Ok(p.dst.w)] {
        true => Rounding::Up,
        false => Rounding::Down,
    };
    Pooling { rounding, ..up }
}

fn pool(p: &PoolProblem, data: &Data) -> Expected {
    let op = Op::Pooling(pooling(p));
    let (from, to) = (image(&p.src), image(&p.dst));
    assert_eq!(
        op.infer_shape(&[&from], &[]).expect("a valid pooling"),
        to,
        "output size"
    );
    let src = &data.src[0].1;
    let value = evaluate(&op, &[(&from, src)], &[], &to);
    let value: Vec<f64> = value.into_iter().map(f64::from).collect();
    let tolerance = match p.method {
        PoolMethod::Max => vec![0.0; value.len()],
        PoolMethod::Lp { .. } => unreachable!("no kernel computes {:?}", p.method),
        PoolMethod::Average | PoolMethod::AverageInside => {
            let terms = f64::from(p.window.kernel[0] * p.window.kernel[1] + 3);
            let means = evaluate(&op, &[(&from, &absolute(src))], &[], &to);
            means
                .into_iter()
                .map(|mean| terms * U * f64::from(mean) + TINY)
                .collect()
        }
    };
    Expected::new(value, tolerance)
}

fn lrn(p: &LrnProblem, data: &Data) -> Expected {
    let &LrnProblem {
        size,
        alpha,
        beta,
        k,
        planes,
        within_channel,
    } = p;
    let op = Op::Lrn(Lrn {
        size,
        alpha,
        beta,
        k,
        within_channel,
    });
    let shape = image(&planes);
    let value = evaluate(&op, &[(&shape, &data.src[0].1)], &[], &shape);
    let value: Vec<f64> = value.into_iter().map(f64::from).collect();
    // All terms of the denominator are positive: its relative error is that of the sum, and roots
    // and the division add one rounding each.
    let terms = if within_channel { size * size } else { size };
    let relative = f64::from(terms + 12) * U;
    let tolerance = value
        .iter()
        .map(|value| value.abs() * relative + TINY)
        .collect();
    Expected::new(value, tolerance)
}

fn channelwise(p: &ChannelwiseProblem, data: &Data) -> Expected {
    let shape = image(&p.src);
    let column = |i: usize| {
        data.values
            .iter()
            .skip(i)
            .step_by(3)
            .copied()
            .collect::<Vec<f32>>()
    };
    let weights: Vec<_> = (0..3).map(|i| tensor(&[p.dst.c], column(i))).collect();
    let run = |src: &[f32], weights: &[Arc<Weight>]| {
        if !p.affine {
            return src.to_vec();
        }
        let (scale, bias) = (Some(WeightId(0)), Some(WeightId(1)));
        let op = Op::Scale(Scale {
            axis: 1,
            scale,
            bias,
            add_operand: false,
        });
        evaluate(&op, &[(&shape, src)], weights, &shape)
    };
    let src = &data.src[0].1;
    let affine = run(src, &weights);
    let positive: Vec<_> = weights
        .iter()
        .map(|w| tensor(w.shape().dims(), absolute(w.data())))
        .collect();
    let magnitudes = run(&absolute(src), &positive);
    let value = if p.leaky {
        let op = Op::PRelu(PRelu { slope: WeightId(2) });
        evaluate(&op, &[(&shape, &affine)], &weights, &shape)
    } else {
        affine
    };
    let slopes = column(2);
    let pixels = p.src.hw() as usize;
    let tolerance = magnitudes.iter().enumerate().map(|(i, &magnitude)| {
        let slope = if p.leaky {
            slopes[i / pixels].abs().max(1.0)
        } else {
            1.0
        };
        let roundings = if p.affine || p.leaky { 5.0 } else { 0.0 };
        roundings * U * f64::from(magnitude * slope) + TINY
    });
    Expected {
        value: value.into_iter().map(f64::from).collect(),
        tolerance: tolerance.collect(),
        may_be_nan: vec![],
    }
}

fn elementwise(p: &FunctionProblem, data: &Data) -> Expected {
    let values = data.src[0].1.iter().map(|&x| f64::from(x));
    let results = values.map(|x| {
        // In the range of floats.
        let y = f64::from(p.function.apply(x) as f32);
        (y, function::tolerance(p.function, x, y))
    });
    let (value, tolerance) = results.unzip();
    Expected::new(value, tolerance)
}

fn eltwise(p: &EltwiseProblem, data: &Data) -> Expected {
    let shape = Shape::new([1, p.elems]).expect("a valid row");
    let run = |coefficients: Option<Vec<f32>>, operands: &[Vec<f32>]| {
        let op = match (&p.kind, coefficients) {
            (EltwiseKind::Sum(_), Some(coefficients)) => EltwiseOp::Sum { coefficients },
            (EltwiseKind::Max, _) => EltwiseOp::Max,
            _ => EltwiseOp::Product,
        };
        let op = Op::Eltwise(Eltwise {
            op,
            post: PostOps::default(),
        });
        let inputs: Vec<_> = operands
            .iter()
            .map(|operand| (&shape, &operand[..]))
            .collect();
        evaluate(&op, &inputs, &[], &shape)
    };
    let coefficients = match &p.kind {
        EltwiseKind::Sum(coefficients) => Some(coefficients.clone()),
        _ => None,
    };
    let operands: Vec<Vec<f32>> = data.src.iter().map(|(_, values)| values.clone()).collect();
    let positive: Vec<Vec<f32>> = operands.iter().map(|values| absolute(values)).collect();
    let sums = run(coefficients.clone(), &operands);
    let magnitudes = run(coefficients.map(|c| absolute(&c)), &positive);
    let terms = f64::from(p.operands + 3);
    let (value, tolerance) = sums
        .iter()
        .zip(&magnitudes)
        .map(|(&sum, &magnitude)| {
            post(
                f64::from(sum),
                terms * U * f64::from(magnitude) + TINY,
                p.post,
            )
        })
        .unzip();
    Expected::new(value, tolerance)
}

fn binary(p: &BinaryProblem, data: &Data) -> Expected {
    let shapes = [image(&p.part), image(&p.dst)];
    let run = |op: BinaryOp, part: &[f32], whole: &[f32]| {
        let mut inputs = vec![(&shapes[1], whole), (&shapes[0], part)];
        if p.part_first {
            inputs.reverse();
        }
        let post = PostOps::default();
        evaluate(&Op::Binary(Binary { op, post }), &inputs, &[], &shapes[1])
    };
    let [part, whole] = [0, 1].map(|operand| &data.src[operand].1);
    let value = run(p.op, part, whole);
    let magnitude = match p.op {
        BinaryOp::Add | BinaryOp::Sub => run(BinaryOp::Add, &absolute(part), &absolute(whole)),
        _ => absolute(&value),
    };
    let pairs = value.iter().zip(&magnitude);
    let (value, tolerance) = pairs
        .map(|(&value, &magnitude)| {
            let tolerance = 3.0 * U * f64::from(magnitude) + TINY;
            post(f64::from(value), tolerance, p.post)
        })
        .unzip();
    Expected::new(value, tolerance)
}

/// A shape in which groups are elements along one axis, and that axis.
fn along(p: &Planes, over: Over) -> (Shape, u32) {
    let (dims, axis) = match over {
        Over::Channels => (vec![1, p.c, p.h, p.w], 1),
        Over::Rows => (vec![1, p.c, p.h, p.w], 2),
        Over::Columns => (vec![1, p.c, p.h, p.w], 3),
        Over::Plane => (vec![1, p.c, p.hw()], 2),
        Over::Image => (vec![1, p.c * p.hw()], 1),
    };
    (Shape::new(&dims[..]).expect("test shapes are valid"), axis)
}

/// Where the elements of each group are.
fn groups(shape: &Shape, axis: u32) -> Vec<Vec<usize>> {
    let axis = axis as usize;
    let (outer, inner) = (
        shape.count_of(0, axis),
        shape.count_of(axis + 1, shape.rank()),
    );
    let count = shape.dim(axis) as usize;
    let group = |o: usize, i: usize| (0..count).map(|k| (o * count + k) * inner + i).collect();
    let groups = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
    groups.map(|(o, i)| group(o, i)).collect()
}

fn groups_with_infinity(p: &SoftmaxProblem, values: &[f32]) -> Vec<bool> {
    let (shape, axis) = along(&p.planes, p.over);
    let mut found = vec![false; values.len()];
    for group in groups(&shape, axis) {
        let infinite = group.iter().any(|&at| values[at] == f32::INFINITY);
        group.into_iter().for_each(|at| found[at] = infinite);
    }
    found
}

fn softmax(p: &SoftmaxProblem, data: &Data) -> Expected {
    let (shape, axis) = along(&p.planes, p.over);
    let src = &data.src[0].1;
    let op = match p.log {
        true => Op::LogSoftmax { axis },
        false => Op::Softmax { axis },
    };
    let value = evaluate(&op, &[(&shape, src)], &[], &shape);
    let value: Vec<f64> = value.into_iter().map(f64::from).collect();
    let mut tolerance = vec![0.0; value.len()];
    for group in groups(&shape, axis) {
        let most = group
            .iter()
            .map(|&at| f64::from(src[at]))
            .fold(f64::MIN, f64::max);
        // An error of the argument is a relative error of the exponential.
        let distance = |at: usize| most - f64::from(src[at]);
        let share = |at: usize| if p.log { value[at].exp() } else { value[at] };
        let mean: f64 = group
            .iter()
            .map(|&at| share(at) * distance(at).min(1e30))
            .sum();
        let count = group.len() as f64;
        for at in group {
            // Arguments below −87 give e⁻⁸⁷.
            let sum = mean + count + 16.0;
            tolerance[at] = match p.log {
                true => U * (2.0 * distance(at) + 3.0 * most.abs() + sum) + TINY,
                false => {
                    let relative = U * (distance(at).min(90.0) + sum);
                    value[at] * relative + (count + 32.0) * 2.0 * TINY
                }
            };
        }
    }
    Expected::new(value, tolerance)
}

/// Element by element.
fn copied(p: &CopyProblem, data: &Data) -> Expected {
    let mut value = vec![f32::NAN; p.staging.elems()];
    let planes = data.src[0].1.chunks_exact(p.staging.src.hw() as usize);
    for (src, dst) in planes.zip(value.chunks_exact_mut(p.staging.channel as usize)) {
        p.staging.copy_channel(src, dst);
    }
    let tolerance = vec![0.0; value.len()];
    let value = value.into_iter().map(f64::from).collect();
    Expected::new(value, tolerance)
}

/// The op of a problem, in the shape in which it has one.
fn standardizing(p: &StandardizeProblem, data: &Data) -> (Op, Vec<Arc<Weight>>, Shape) {
    let (shape, axis) = along(&p.src, p.over);
    let eps = p.eps;
    match p.divisor {
        Divisor::Deviation => {
            let end = Some(axis + 1);
            (
                Op::Standardize(Standardize { axis, end, eps }),
                vec![],
                shape,
            )
        }
        Divisor::DeviationAndEps | Divisor::One => {
            let op = Mvn {
                normalize_variance: p.divisor != Divisor::One,
                across_channels: false,
                eps,
            };
            let axis = axis as usize;
            let dims = [1, shape.count_of(0, axis) as u32, 1, shape.dim(axis)];
            (
                Op::Mvn(op),
                vec![],
                Shape::new(dims).expect("test shapes are valid"),
            )
        }
        Divisor::Norm => {
            let op = Normalize {
                across_spatial: p.over == Over::Image,
                eps,
                scale: WeightId(0),
            };
            let scale = tensor(&[p.src.c], data.values.clone());
            (Op::Normalize(op), vec![scale], image(&p.src))
        }
    }
}

fn standardize(p: &StandardizeProblem, data: &Data) -> Expected {
    let src = &data.src[0].1;
    let (op, weights, of_op) = standardizing(p, data);
    let value = evaluate(&op, &[(&of_op, src)], &weights, &of_op);
    let value: Vec<f64> = value.into_iter().map(f64::from).collect();
    let (shape, axis) = along(&p.src, p.over);
    let mut tolerance = vec![0.0; value.len()];
    for group in groups(&shape, axis) {
        let x = |at: usize| f64::from(src[at]);
        let mean_of = |of: &dyn Fn(usize) -> f64| {
            group.iter().map(|&at| of(at)).sum::<f64>() / group.len() as f64
        };
        let magnitude = mean_of(&|at| x(at).abs());
        let mean = mean_of(&x);
        let variance = mean_of(&|at| (x(at) - mean).powi(2));
        let eps = f64::from(p.eps);
        let divisor = match p.divisor {
            Divisor::One => 1.0,
            Divisor::Deviation => (variance + eps).sqrt(),
            Divisor::DeviationAndEps => variance.sqrt() + eps,
            // There is no mean that is off.
            Divisor::Norm => f64::INFINITY,
        };
        let terms = group.len() as f64 + 8.0;
        for &at in &group {
            // Errors of the mean and of the sum of squares.
            let shift = U * (terms * magnitude + x(at).abs()) / divisor;
            tolerance[at] = 2.0 * shift + U * terms * value[at].abs() + TINY;
        }
    }
    Expected::new(value, tolerance)
}

fn resample(p: &ResampleProblem, data: &Data) -> Expected {
    let (from, to) = (image(&p.src), image(&p.dst));
    let src = &data.src[0].1;
    let value = evaluate(&Op::Resize(p.op.clone()), &[(&from, src)], &[], &to);
    let elements = |axis, input, output: u32| -> Vec<Vec<(u32, f32)>> {
        let elements = |to| p.op.elements(axis, input, to as usize);
        (0..output).map(elements).collect()
    };
    let rows = elements(2, p.src.h, p.dst.h);
    let columns = elements(3, p.src.w, p.dst.w);
    let mut tolerance = Vec::new();
    for plane in src.chunks_exact(p.src.hw() as usize) {
        for (rows, columns) in rows
            .iter()
            .flat_map(|row| columns.iter().map(move |c| (row, c)))
        {
            let mut magnitude = 0.0;
            for (&(y, a), &(x, b)) in rows
                .iter()
                .flat_map(|r| columns.iter().map(move |c| (r, c)))
            {
                let value = plane[(y * p.src.w + x) as usize];
                magnitude += f64::from(a).abs() * f64::from(b).abs() * f64::from(value).abs();
            }
            // Weights are rounded, too, and filled up to at most twice as many terms.
            let terms = (rows.len() + 2 * columns.len() + 4) as f64;
            tolerance.push(terms * U * magnitude + TINY);
        }
    }
    Expected::new(value.into_iter().map(f64::from).collect(), tolerance)
}
