//! Layers with weights, poolings and normalisations.

use super::functions::post;
use super::writer::{Value, Writer};
use Value::{Float, Int, Ints};
use skimjit_models::ops::{
    BatchNorm, Convolution, InnerProduct, Lrn, Normalize, PoolMethod, Pooling, Rounding,
    Standardize, Window,
};
use skimjit_models::{Error, Node, Result};

fn pair(values: [u32; 2]) -> Value<'static> {
    Ints(values.map(i64::from).to_vec())
}

fn pads(window: &Window) -> Value<'static> {
    let pads = window.pad_begin.iter().chain(&window.pad_end);
    Ints(pads.map(|&pad| pad.into()).collect())
}

/// Attributes that convolutions and poolings have.
fn window(window: &Window) -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("kernel_shape", pair(window.kernel)),
        ("strides", pair(window.stride)),
        ("pads", pads(window)),
        ("dilations", pair(window.dilation)),
    ]
}

/// A convolution, or a transposed one.
pub(super) fn convolution(
    to: &mut Writer<'_>,
    kind: &str,
    op: &Convolution,
    x: &str,
) -> Result<String> {
    let weights = to.weight(op.weights);
    let bias = match op.bias {
        Some(bias) => to.weight_as(bias, &[op.oc]),
        None => String::new(),
    };
    let mut attributes = window(&op.window);
    attributes.push(("group", Int(op.groups.into())));
    let y = to.add(kind, &[x, &weights, &bias], &attributes);
    post(to, y, op.post)
}

/// A Gemm of the axes that are summed over as one; of more axes in front a MatMul.
pub(super) fn inner_product(
    to: &mut Writer<'_>,
    op: &InnerProduct,
    x: &str,
    rank: usize,
) -> Result<String> {
    let axis = op.axis as usize;
    let x = match axis + 1 == rank {
        true => x.to_owned(),
        false => {
            let mut dims = vec![0; axis];
            dims.push(-1);
            let dims = to.ints(&dims);
            to.add("Reshape", &[x, &dims], &[])
        }
    };
    let weights = to.weight(op.weights);
    let bias = op.bias.map(|bias| to.weight_as(bias, &[op.outputs]));
    let y = if axis == 1 {
        let transposed = [("transB", Int(i64::from(!op.transpose)))];
        to.add(
            "Gemm",
            &[&x, &weights, bias.as_deref().unwrap_or_default()],
            &transposed,
        )
    } else {
        let weights = match op.transpose {
            true => weights,
            false => to.add("Transpose", &[&weights], &[("perm", Ints(vec![1, 0]))]),
        };
        let y = to.add("MatMul", &[&x, &weights], &[]);
        match bias {
            Some(bias) => to.add("Add", &[&y, &bias], &[]),
            None => y,
        }
    };
    post(to, y, op.post)
}

pub(super) fn pooling(to: &mut Writer<'_>, op: &Pooling, x: &str) -> Result<String> {
    let refuse = |found: &str, expected: &str| Err(Error::new(found).expected(expected));
    if op.mask {
        return refuse(
            "the places of maxima",
            "values: ONNX counts places another way",
        );
    }
    let (method, counts) = match op.method {
        PoolMethod::Max => ("MaxPool", None),
        PoolMethod::Average => ("AveragePool", Some(1)),
        PoolMethod::AverageInside => ("AveragePool", Some(0)),
        PoolMethod::Lp { .. } => ("LpPool", None),
    };
    let mut attributes = Vec::new();
    if let PoolMethod::Lp { p } = op.method {
        attributes.push(("p", Int(p.into())));
    }
    let y = if op.global {
        to.add(&format!("Global{method}"), &[x], &attributes)
    } else {
        let window = &op.window;
        let jumps = (0..2).any(|axis| window.stride[axis] > window.kernel[axis]);
        if op.rounding == Rounding::Up && jumps && !window.is_padded() {
            return refuse(
                "windows behind the input",
                "strides that are no larger than the kernel",
            );
        }
        attributes.extend(self::window(window));
        let is_one = window.dilation == [1, 1];
        attributes.retain(|(name, _)| *name != "dilations" || !is_one);
        attributes.push(("ceil_mode", Int(i64::from(op.rounding != Rounding::Down))));
        if let Some(counts) = counts {
            attributes.push(("count_include_pad", Int(counts)));
        }
        to.add(method, &[x], &attributes)
    };
    Ok(match op.relu {
        true => to.add("Relu", &[&y], &[]),
        false => y,
    })
}

pub(super) fn batch_norm(
    to: &mut Writer<'_>,
    op: &BatchNorm,
    x: &str,
    node: &Node,
) -> Result<String> {
    let shape = to.graph.shape(node.inputs[0]);
    let channels = if shape.rank() < 2 { 1 } else { shape.dim(1) };
    if !op.uses_running() || shape.rank() < 2 {
        return Err(Error::new("a normalisation by the statistics of the batch")
            .expected("running statistics"));
    }
    let statistics = (0..channels as usize).map(|c| op.running_statistics(&to.graph.weights, c));
    let (mean, variance): (Vec<f32>, Vec<f32>) = statistics
        .map(|[mean, variance]| (mean as f32, variance as f32))
        .unzip();
    let dims = [i64::from(channels)];
    let scale = to.floats(&dims, &vec![1.0; channels as usize]);
    let bias = to.floats(&dims, &vec![0.0; channels as usize]);
    let (mean, variance) = (to.floats(&dims, &mean), to.floats(&dims, &variance));
    let attributes = [("epsilon", Float(op.eps)), ("momentum", Float(op.momentum))];
    Ok(to.add(
        "BatchNormalization",
        &[x, &scale, &bias, &mean, &variance],
        &attributes,
    ))
}

pub(super) fn lrn(to: &mut Writer<'_>, op: &Lrn, x: &str) -> Result<String> {
    if op.within_channel {
        return Err(Error::new("a normalisation within channels").expected("across channels"));
    }
    let attributes = [
        ("size", Int(op.size.into())),
        ("alpha", Float(op.alpha)),
        ("beta", Float(op.beta)),
        ("bias", Float(op.k)),
    ];
    Ok(to.add("LRN", &[x], &attributes))
}

/// A LayerNormalization with factors of 1, of one axis that all are made.
pub(super) fn standardize(to: &mut Writer<'_>, op: &Standardize, x: &str, rank: usize) -> String {
    // (x − mean) / √(mean of squares + eps).
    let axes: Vec<i64> = op.axes(rank).map(|axis| axis as i64).collect();
    let axes = to.ints(&axes);
    let mean = to.add("ReduceMean", &[x, &axes], &[]);
    let centred = to.add("Sub", &[x, &mean], &[]);
    let squares = to.add("Mul", &[&centred, &centred], &[]);
    let variance = to.add("ReduceMean", &[&squares, &axes], &[]);
    let eps = to.number(op.eps);
    let shifted = to.add("Add", &[&variance, &eps], &[]);
    let deviation = to.add("Sqrt", &[&shifted], &[]);
    to.add("Div", &[&centred, &deviation], &[])
}

pub(super) fn lp_normalize(to: &mut Writer<'_>, axis: u32, p: u32, x: &str) -> String {
    to.add(
        "LpNormalization",
        &[x],
        &[("axis", Int(axis.into())), ("p", Int(p.into()))],
    )
}

/// x / √(Σx² + eps) · scale.
pub(super) fn normalize(
    to: &mut Writer<'_>,
    op: &Normalize,
    x: &str,
    node: &Node,
) -> Result<String> {
    let rank = to.graph.shape(node.inputs[0]).rank();
    let axes: Vec<i64> = match op.across_spatial {
        true => (1..rank as i64).collect(),
        false => vec![1],
    };
    let axes = to.ints(&axes);
    let squares = to.add("ReduceSumSquare", &[x, &axes], &[]);
    let eps = to.number(op.eps);
    let shifted = to.add("Add", &[&squares, &eps], &[]);
    let norm = to.add("Sqrt", &[&shifted], &[]);
    let unit = to.add("Div", &[x, &norm], &[]);
    let count = to.graph.weight(op.scale).shape().count() as u32;
    let mut dims = vec![1; rank];
    dims[1] = count;
    let scale = to.weight_as(op.scale, &dims);
    Ok(to.add("Mul", &[&unit, &scale], &[]))
}

pub(super) fn softmax(to: &mut Writer<'_>, op: &str, axis: u32, x: &str) -> String {
    to.add(op, &[x], &[("axis", Int(axis.into()))])
}
