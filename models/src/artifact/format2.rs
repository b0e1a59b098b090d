//! The graph section of format 2, which said everything by position: the structs below are what it said
//! and never change. What has stayed as it was is read into today's types.

use super::record::Record;
use crate::ops::*;
use crate::{Derived, ElementType, Node, Op, Shape, Value, ValueId, WeightId};
use serde::Deserialize;

/// See [`Record`].
#[derive(Deserialize)]
struct Record2 {
    name: String,
    values: Vec<Value2>,
    nodes: Vec<Node2>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    weight_shapes: Vec<Shape>,
}

#[derive(Deserialize)]
struct Value2 {
    name: String,
    shape: Shape,
}

#[derive(Deserialize)]
struct Node2 {
    name: String,
    op: Op2,
    inputs: Vec<ValueId>,
    output: ValueId,
}

/// The ops in the order of format 2.
#[derive(Deserialize)]
enum Op2 {
    Convolution(Convolution2),
    Deconvolution(Convolution2),
    WinogradConvolution(WinogradConvolution),
    InnerProduct(InnerProduct2),
    Pooling(Pooling2),
    Activation(Activation),
    PRelu(PRelu),
    Lrn(Lrn),
    BatchNorm(BatchNorm2),
    Scale(Scale),
    Eltwise(Eltwise2),
    Concat { axis: u32 },
    Slice(Slice),
    Flatten { axis: u32, end_axis: u32 },
    Reshape(Reshape),
    Permute { order: Vec<u32> },
    Crop(Crop),
    Tile { axis: u32, tiles: u32 },
    ArgMax(ArgMax),
    Reduction(Reduction),
    Softmax { axis: u32 },
    Loss(Loss),
    Accuracy(Accuracy),
    Identity,
    Constant(WeightId),
    Embed(Embed),
    Mvn(Mvn),
    Im2col(Im2col2),
    Recurrent(Recurrent),
    LstmUnit(LstmUnit),
    BatchReindex,
    Filter,
    Normalize(Normalize),
    PriorBox(PriorBox),
    DetectionOutput(DetectionOutput),
}

#[derive(Deserialize)]
struct Window2 {
    kernel: [u32; 2],
    stride: [u32; 2],
    pad: [u32; 2],
    dilation: [u32; 2],
}

#[derive(Deserialize)]
struct Convolution2 {
    window: Window2,
    oc: u32,
    groups: u32,
    weights: WeightId,
    bias: Option<WeightId>,
    post: PostOps2,
}

/// Slope of a ReLU.
#[derive(Deserialize)]
struct PostOps2 {
    relu: Option<f32>,
}

#[derive(Deserialize)]
struct InnerProduct2 {
    outputs: u32,
    axis: u32,
    transpose: bool,
    weights: WeightId,
    bias: Option<WeightId>,
    post: PostOps2,
}

#[derive(Deserialize)]
struct Eltwise2 {
    op: EltwiseOp,
    post: PostOps2,
}

#[derive(Deserialize)]
struct Pooling2 {
    method: PoolMethod,
    window: Window2,
    global: bool,
    made_for: Option<[u32; 2]>,
    round_down: bool,
    relu: bool,
    mask: bool,
}

#[derive(Deserialize)]
struct BatchNorm2 {
    statistics: Option<[WeightId; 3]>,
    eps: f32,
}

#[derive(Deserialize)]
struct Im2col2 {
    window: Window2,
}

impl From<Window2> for Window {
    fn from(old: Window2) -> Self {
        Self {
            kernel: old.kernel,
            stride: old.stride,
            pad_begin: old.pad,
            pad_end: old.pad,
            dilation: old.dilation,
        }
    }
}

impl From<Convolution2> for Convolution {
    fn from(old: Convolution2) -> Self {
        Self {
            window: old.window.into(),
            oc: old.oc,
            groups: old.groups,
            weights: old.weights,
            bias: old.bias,
            post: old.post.relu.into(),
        }
    }
}

impl From<InnerProduct2> for InnerProduct {
    fn from(old: InnerProduct2) -> Self {
        Self {
            outputs: old.outputs,
            axis: old.axis,
            transpose: old.transpose,
            weights: old.weights,
            bias: old.bias,
            post: old.post.relu.into(),
        }
    }
}

impl From<Pooling2> for Pooling {
    fn from(old: Pooling2) -> Self {
        Self {
            method: old.method,
            window: old.window.into(),
            global: old.global,
            made_for: old.made_for,
            rounding: match old.round_down {
                true => Rounding::Down,
                false => Rounding::Up,
            },
            relu: old.relu,
            mask: old.mask,
        }
    }
}

impl From<Op2> for Op {
    fn from(old: Op2) -> Self {
        match old {
            Op2::Convolution(op) => Self::Convolution(op.into()),
            Op2::Deconvolution(op) => Self::Deconvolution(op.into()),
            Op2::WinogradConvolution(op) => Self::WinogradConvolution(op),
            Op2::InnerProduct(op) => Self::InnerProduct(op.into()),
            Op2::Pooling(op) => Self::Pooling(op.into()),
            Op2::Activation(op) => Self::Activation(op),
            Op2::PRelu(op) => Self::PRelu(op),
            Op2::Lrn(op) => Self::Lrn(op),
            Op2::BatchNorm(op) => Self::BatchNorm(BatchNorm {
                statistics: op.statistics,
                running: true,
                momentum: BatchNorm::MOMENTUM,
                eps: op.eps,
            }),
            Op2::Scale(op) => Self::Scale(op),
            Op2::Eltwise(op) => Self::Eltwise(Eltwise {
                op: op.op,
                post: op.post.relu.into(),
            }),
            Op2::Concat { axis } => Self::Concat { axis },
            Op2::Slice(op) => Self::Slice(op),
            Op2::Flatten { axis, end_axis } => Self::Flatten { axis, end_axis },
            Op2::Reshape(op) => Self::Reshape(op),
            Op2::Permute { order } => Self::Permute { order },
            Op2::Crop(op) => Self::Crop(op),
            Op2::Tile { axis, tiles } => Self::Tile { axis, tiles },
            Op2::ArgMax(op) => Self::ArgMax(op),
            Op2::Reduction(op) => Self::Reduction(op),
            Op2::Softmax { axis } => Self::Softmax { axis },
            Op2::Loss(op) => Self::Loss(op),
            Op2::Accuracy(op) => Self::Accuracy(op),
            Op2::Identity => Self::Identity,
            Op2::Constant(id) => Self::Constant(id),
            Op2::Embed(op) => Self::Embed(op),
            Op2::Mvn(op) => Self::Mvn(op),
            Op2::Im2col(op) => Self::Im2col(Im2col {
                window: op.window.into(),
            }),
            Op2::Recurrent(op) => Self::Recurrent(op),
            Op2::LstmUnit(op) => Self::LstmUnit(op),
            Op2::BatchReindex => Self::BatchReindex,
            Op2::Filter => Self::Filter,
            Op2::Normalize(op) => Self::Normalize(op),
            Op2::PriorBox(op) => Self::PriorBox(op),
            Op2::DetectionOutput(op) => Self::DetectionOutput(op),
        }
    }
}

/// Reads a graph section of format 2; the bytes that are left, or what is wrong.
pub(super) fn decode(bytes: &[u8]) -> Result<(Record, usize), String> {
    let (old, rest) =
        postcard::take_from_bytes::<Record2>(bytes).map_err(|error| error.to_string())?;
    let node = |old: Node2| Node {
        name: old.name,
        part_of: None,
        op: old.op.into(),
        inputs: old.inputs,
        output: old.output,
        derived: Derived::No,
    };
    let value = |old: Value2| Value {
        name: old.name,
        shape: old.shape,
        element: ElementType::F32,
    };
    let record = Record {
        name: old.name,
        values: old.values.into_iter().map(value).collect(),
        nodes: old.nodes.into_iter().map(node).collect(),
        inputs: old.inputs,
        outputs: old.outputs,
        weight_shapes: old.weight_shapes,
        weight_elements: Vec::new(),
    };
    Ok((record, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph section that the last version with format 2 wrote: 150 nodes of all 35 ops, each with what
    /// that version printed of its op as its name.
    #[test]
    fn every_op_of_an_old_file_is_read() {
        let (record, rest) =
            decode(include_bytes!("../../tests/format2/every_op.postcard")).unwrap();
        assert_eq!((rest, record.nodes.len()), (0, 150));
        let kinds: std::collections::BTreeSet<&str> =
            record.nodes.iter().map(|node| node.op.name()).collect();
        assert!(kinds.len() >= 35, "{kinds:?}");
        // What there was not in format 2.
        let new = format!("running: true, momentum: {:?}, ", BatchNorm::MOMENTUM);
        for node in &record.nodes {
            let mut text = format!("{:?}", node.op).replace(&new, "");
            text = text.replace("activation: Some(ReLU { slope: ", "relu: Some(");
            text = text
                .replace(" }) }", ") }")
                .replace("activation: None", "relu: None");
            text = text.replace("rounding: Up", "round_down: false");
            text = text.replace("rounding: Down", "round_down: true");
            text = text.replace("pad_begin: ", "pad: ");
            while let Some(start) = text.find("pad_end: ") {
                let end = start + text[start..].find("], ").unwrap() + 3;
                text.replace_range(start..end, "");
            }
            assert_eq!(text, node.name);
        }
        let shape = |dims: [u32; 2]| Shape::new(dims).unwrap();
        assert_eq!(record.values[3].shape, shape([4, 3]));
        assert_eq!(record.nodes[8].inputs, [ValueId(8), ValueId(7)]);
        assert_eq!(
            (&record.inputs, &record.outputs),
            (&vec![ValueId(5)], &vec![ValueId(6)])
        );
        assert_eq!(record.weight_shapes, [Shape::new([2, 3, 4]).unwrap()]);
    }
}
