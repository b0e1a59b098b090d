//! A graph as an ONNX model.
//!
//! Operators are those of version 20. The batch stays open: inputs whose first axis is the batch have it as the
//! symbol `batch`. Weights keep their zeros, and where it is asked for, their pattern.

mod arithmetic;
mod functions;
mod layers;
mod movement;
mod writer;

use crate::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::Dimension, type_proto,
};
use prost::Message;
use skimjit_host::whole;
use skimjit_models::{Error, Graph, Node, Op, Result, ValueId, passes};
use std::io::Write;
use std::path::Path;
use writer::Writer;

/// Version of the operators that are written.
pub(crate) const OPSET: i64 = 20;
/// Version of the format that they came with.
const IR_VERSION: i64 = 9;

/// How a model is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportOptions {
    /// Weights with more zeros than others are written by their non-zeros (`sparse_initializer`). Not every engine
    /// reads that.
    pub sparse: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Weights.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Elements that are zero.
    pub zeros: u64,
}

/// Writes a graph as it was imported; passes that fuse layers have no place in a file.
pub fn write(graph: &Graph, options: ExportOptions, path: &Path) -> Result<Written> {
    let (model, written) = model(graph, options)?;
    let bytes = model.encode_to_vec();
    const MOST: usize = i32::MAX as usize;
    if bytes.len() > MOST {
        return Err(Error::new(format!("a model of {} bytes", bytes.len()))
            .file(path)
            .expected(format!(
                "at most {MOST}, what the format allows in one file"
            )));
    }
    let done = whole::write_with(path, |out| out.write_all(&bytes));
    done.map_err(|error: std::io::Error| Error::unwritable(path, &error))?;
    Ok(written)
}

/// The model of a graph.
pub fn model(graph: &Graph, options: ExportOptions) -> Result<(ModelProto, Written)> {
    // What only depends on shapes is a constant there.
    let graph = &passes::fold_constants(graph.clone());
    let mut writer = Writer::new(graph, options);
    for node in &graph.nodes {
        writer.begin(node);
        op(&mut writer, node).map_err(|error| error.layer(node.name.clone()))?;
    }
    let info = |id: ValueId| info(graph, id);
    let outputs = graph.outputs.iter().map(|&id| {
        let mut info = info(id);
        // Their shapes follow.
        info.r#type = Some(of_floats(None));
        info.name = Some(writer.name(id).to_owned());
        info
    });
    let outputs = outputs.collect();
    let inputs = graph.inputs.iter().map(|&id| ValueInfoProto {
        name: Some(writer.name(id).to_owned()),
        ..info(id)
    });
    let inputs = inputs.collect();
    let written = writer.written();
    let made = GraphProto {
        name: Some(graph.name.clone()),
        input: inputs,
        output: outputs,
        ..writer.finish()
    };
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("skimjit".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        graph: Some(made),
        ..ModelProto::default()
    };
    Ok((model, written))
}

/// Name and shape of an input, the batch open.
fn info(graph: &Graph, id: ValueId) -> ValueInfoProto {
    let first = graph.inputs.first().map(|&id| graph.shape(id).dim(0));
    let dim = |(axis, &size): (usize, &u32)| match axis == 0 && Some(size) == first {
        true => Dimension {
            dim_param: Some("batch".to_owned()),
            ..Dimension::default()
        },
        false => Dimension {
            dim_value: Some(size.into()),
            ..Dimension::default()
        },
    };
    let shape = TensorShapeProto {
        dim: graph.shape(id).dims().iter().enumerate().map(dim).collect(),
    };
    ValueInfoProto {
        r#type: Some(of_floats(Some(shape))),
        ..ValueInfoProto::default()
    }
}

fn of_floats(shape: Option<TensorShapeProto>) -> TypeProto {
    TypeProto {
        tensor_type: Some(type_proto::Tensor {
            elem_type: Some(crate::element::FLOAT),
            shape,
        }),
        ..TypeProto::default()
    }
}

/// Writes the operators of a node.
fn op(to: &mut Writer<'_>, node: &Node) -> Result<()> {
    let x = node
        .inputs
        .first()
        .map_or_else(String::new, |&id| to.name(id).to_owned());
    let rank = node
        .inputs
        .first()
        .map_or(0, |&id| to.graph.shape(id).rank());
    let y = match &node.op {
        Op::Convolution(op) => layers::convolution(to, "Conv", op, &x)?,
        Op::Deconvolution(op) => layers::convolution(to, "ConvTranspose", op, &x)?,
        Op::InnerProduct(op) => layers::inner_product(to, op, &x, rank)?,
        Op::Pooling(op) => layers::pooling(to, op, &x)?,
        Op::BatchNorm(op) => layers::batch_norm(to, op, &x, node)?,
        Op::Lrn(op) => layers::lrn(to, op, &x)?,
        Op::Standardize(op) => layers::standardize(to, op, &x, rank),
        Op::LpNormalize { axis, p } => layers::lp_normalize(to, *axis, *p, &x),
        Op::Normalize(op) => layers::normalize(to, op, &x, node)?,
        Op::Softmax { axis } => layers::softmax(to, "Softmax", *axis, &x),
        Op::LogSoftmax { axis } => layers::softmax(to, "LogSoftmax", *axis, &x),
        Op::Activation(op) => functions::activation(to, *op, &x)?,
        Op::PRelu(op) => functions::prelu(to, op, &x, rank),
        Op::Scale(op) => arithmetic::scale(to, op, node),
        Op::Eltwise(op) => arithmetic::eltwise(to, op, node)?,
        Op::Binary(op) => arithmetic::binary(to, op, node)?,
        Op::Select => arithmetic::select(to, node),
        Op::MatMul => to.plain("MatMul", node),
        Op::Identity => to.plain("Identity", node),
        Op::Dropout { .. } => to.plain("Identity", node),
        Op::Concat { axis } => movement::concat(to, *axis, node),
        Op::Slice(op) => movement::slice(to, op, &x),
        Op::Crop(op) => movement::crop(to, op, node, &x),
        Op::Flatten { axis, end_axis } => movement::flatten(to, *axis, *end_axis, node, &x),
        Op::Reshape(op) => movement::reshape(to, op, node, &x),
        Op::Permute { order } => movement::permute(to, order, &x),
        Op::Tile { axis, tiles } => movement::tile(to, *axis, *tiles, rank, &x),
        Op::Expand { dims } => movement::expand(to, dims, &x),
        Op::Pad(op) => movement::pad(to, op, &x),
        Op::Gather(op) => movement::gather(to, op, &x),
        Op::DepthToSpace { block, order } => movement::depth_to_space(to, *block, *order, &x),
        Op::SpaceToDepth { block } => movement::space_to_depth(to, *block, &x),
        Op::Resize(op) => movement::resize(to, op, &x)?,
        Op::Reduce(op) => arithmetic::reduce(to, op, &x),
        Op::Reduction(op) => arithmetic::reduction(to, op, rank, &x),
        Op::Constant(weight) => {
            let name = to.weight(*weight);
            to.add("Identity", &[&name], &[])
        }
        Op::WinogradConvolution(_)
        | Op::ArgMax(_)
        | Op::Loss(_)
        | Op::Accuracy(_)
        | Op::Embed(_)
        | Op::Mvn(_)
        | Op::Im2col(_)
        | Op::Recurrent(_)
        | Op::LstmUnit(_)
        | Op::BatchReindex
        | Op::Filter
        | Op::PriorBox(_)
        | Op::DetectionOutput(_)
        | Op::ArgExtreme(_)
        | Op::TopK(_)
        | Op::CumSum { .. }
        | Op::Sequence(_)
        | Op::NonMaxSuppression(_) => {
            return Err(Error::new(format!("a layer {}", node.op.name()))
                .expected("layers that have an operator of ONNX with the same meaning"));
        }
    };
    to.end(y, node);
    Ok(())
}
