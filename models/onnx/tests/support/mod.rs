//! Models that tests make.
#![allow(dead_code)]

use prost::Message;
use skimjit_models::{Error, Imported, Result, Tensor, interpreter};
use skimjit_onnx::proto::attribute_proto::AttributeType;
use skimjit_onnx::proto::tensor_shape_proto::Dimension;
use skimjit_onnx::proto::*;
use skimjit_onnx::{ImportOptions, Model};

/// Values of an attribute.
pub enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

pub fn attribute(name: &str, value: Attribute<'_>) -> AttributeProto {
    let mut made = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    match value {
        Attribute::Int(value) => {
            made.i = Some(value);
            made.set_type(AttributeType::Int);
        }
        Attribute::Ints(values) => {
            made.ints = values.to_vec();
            made.set_type(AttributeType::Ints);
        }
        Attribute::Float(value) => {
            made.f = Some(value);
            made.set_type(AttributeType::Float);
        }
        Attribute::Text(text) => {
            made.s = Some(text.as_bytes().to_vec().into());
            made.set_type(AttributeType::String);
        }
    }
    made
}

pub fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[AttributeProto],
) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(format!("{}_{op}", outputs.first().unwrap_or(&""))),
        input: owned(inputs),
        output: owned(outputs),
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    }
}

pub fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(1),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

pub fn ints(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(7),
        int64_data: data.to_vec(),
        ..TensorProto::default()
    }
}

/// An input or output of floats; a dim of 0 is open.
pub fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim: &i64| match dim {
        0 => Dimension {
            dim_param: Some("batch".to_owned()),
            ..Dimension::default()
        },
        dim => Dimension {
            dim_value: Some(dim),
            ..Dimension::default()
        },
    };
    let shape = TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(type_proto::Tensor {
                elem_type: Some(1),
                shape: Some(shape),
            }),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

pub fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(20),
        }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A network of one node, with x as its input and y as its result.
pub fn single(node: NodeProto, x: &[i64], initializers: Vec<TensorProto>) -> ModelProto {
    model(GraphProto {
        node: vec![node],
        initializer: initializers,
        input: vec![info("x", x)],
        output: vec![ValueInfoProto {
            name: Some("y".to_owned()),
            ..ValueInfoProto::default()
        }],
        ..GraphProto::default()
    })
}

pub fn import_bytes(bytes: Vec<u8>) -> Result<Imported> {
    let model = Model::from_bytes(bytes, "test.onnx".as_ref())?;
    skimjit_onnx::import(&model, &ImportOptions::default())
}

pub fn import(model: &ModelProto) -> Result<Imported> {
    import_bytes(model.encode_to_vec())
}

/// What the references compute of a network for inputs.
pub fn outputs(model: &ModelProto, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let imported = import(model)?;
    let batch = inputs.first().map_or(1, |input| input.shape().dim(0));
    let graph = imported.graph.with_batch(batch)?;
    interpreter::run_outputs(&graph, inputs)
}

pub fn error(model: &ModelProto) -> Error {
    match import(model) {
        Ok(_) => panic!("the model was read"),
        Err(error) => error,
    }
}
