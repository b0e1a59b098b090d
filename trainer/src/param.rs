//! Parameters: what the solver changes.

use crate::net::Net;
use skimjit_models::{
    BlockLasso, Connectivity, Error, Node, Op, Parameter, Place, Result, Shape, WeightId,
};
use std::collections::HashMap;

/// What a parameter is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights of a convolution or inner product: what is pruned.
    Weight,
    /// Weights of a convolution in the Winograd domain.
    Winograd,
    /// Offsets.
    Bias,
    /// Factors of Scale and PReLU.
    Factor,
    /// Sums of BatchNorm; no gradient.
    Statistic,
}

/// A parameter as the definition describes it.
#[derive(Clone, Debug)]
pub struct Param {
    /// Layer that owns it.
    pub layer: String,
    /// Index of the blob in that layer.
    pub index: usize,
    /// What it is.
    pub role: Role,
    /// Dims: oc, ic / groups, kh, kw of a convolution; outputs, inputs of an inner product.
    pub shape: Shape,
    /// Groups of a convolution, else 1.
    pub groups: u32,
    /// Factor of the learning rate.
    pub lr_mult: f32,
    /// Factor of the weight decay.
    pub decay_mult: f32,
    /// `regularization_type` of its own.
    pub regularization: Option<String>,
    /// Factor of `breadth_decay`.
    pub breadth_decay_mult: f32,
    /// Factor of `kernel_shape_decay`.
    pub kernel_shape_decay_mult: f32,
    /// Blocks of the group lasso.
    pub block_group_lasso: Vec<BlockLasso>,
    /// Which weights stay zero.
    pub connectivity: Connectivity,
}

impl Param {
    /// True for weights, of which some may become zero.
    pub fn is_prunable(&self) -> bool {
        matches!(self.role, Role::Weight | Role::Winograd)
    }
    /// `layer[index]`, for messages.
    pub fn name(&self) -> String {
        format!("{}[{}]", self.layer, self.index)
    }
    /// Rows and columns as the weight matrix of its layer: outputs × what is summed over.
    pub fn matrix(&self) -> (usize, usize) {
        let rows = self.shape.dim(0).max(1) as usize;
        (rows, self.shape.count() / rows)
    }
}

#[cfg(test)]
impl Param {
    /// Weights of a layer of which nothing more is said.
    pub fn weights(layer: &str, dims: &[u32], groups: u32) -> Self {
        Self {
            layer: layer.to_owned(),
            index: 0,
            role: Role::Weight,
            shape: Shape::new(dims).unwrap(),
            groups,
            lr_mult: 1.0,
            decay_mult: 1.0,
            regularization: None,
            breadth_decay_mult: 0.0,
            kernel_shape_decay_mult: 0.0,
            block_group_lasso: Vec::new(),
            connectivity: Connectivity::Free,
        }
    }
}

/// Indices of the parameters that are pruned: weights of the layers that `field` names, or of all.
pub fn prunable(params: &[Param], layers: &[String], field: &str) -> Result<Vec<usize>> {
    let all = params.iter().enumerate();
    let all = all.filter(|(_, param)| param.is_prunable());
    let known: Vec<&str> = all.clone().map(|(_, param)| param.layer.as_str()).collect();
    if let Some(missing) = layers.iter().find(|layer| !known.contains(&layer.as_str())) {
        return Err(Error::new(format!("layer {missing:?}"))
            .field(field)
            .expected(format!("layers with weights: {}", known.join(", "))));
    }
    let named = |param: &Param| layers.is_empty() || layers.contains(&param.layer);
    let chosen = all.filter(|(_, param)| named(param));
    Ok(chosen.map(|(index, _)| index).collect())
}

/// The parameters of a network and their ids in its graph.
pub fn parameters(net: &Net) -> Result<Vec<(Param, WeightId)>> {
    let describe = |parameter: &Parameter| {
        let layer = &parameter.places[0].layer;
        let param = of(net, parameter).map_err(|error: Error| error.layer(layer.clone()))?;
        Ok((param, parameter.weight))
    };
    net.training.parameters.iter().map(describe).collect()
}

/// Which parameters the weights of a network are.
pub struct Bound {
    /// Index of the parameter, by weight of the graph.
    pub places: HashMap<WeightId, usize>,
    /// Values of parameters that are new.
    pub new: Vec<Vec<f32>>,
}

impl Bound {
    /// The first network of an engine brings its parameters, others find theirs by layer and index.
    pub fn of(net: &mut Net, all: &mut Vec<Param>) -> Result<Self> {
        let owns = all.is_empty();
        let mut bound = Self {
            places: HashMap::new(),
            new: Vec::new(),
        };
        for (param, id) in parameters(net)? {
            let tensor = net.take_weights(id)?;
            let index = if owns {
                bound.new.push(tensor.into_data());
                all.push(param);
                all.len() - 1
            } else {
                find(all, &param)?
            };
            bound.places.insert(id, index);
        }
        Ok(bound)
    }
}

fn find(all: &[Param], wanted: &Param) -> Result<usize> {
    let same = |param: &Param| param.layer == wanted.layer && param.index == wanted.index;
    let fault = |found: String| {
        Error::new(found)
            .layer(wanted.layer.clone())
            .field(format!("blobs[{}]", wanted.index))
    };
    let Some(index) = all.iter().position(same) else {
        return Err(fault("a parameter of a test network only".to_owned())
            .expected("a layer of that name in the training network"));
    };
    let shape = &all[index].shape;
    if *shape != wanted.shape {
        return Err(fault(format!("shape {} in a test network", wanted.shape))
            .expected(format!("{shape}, as in the training network")));
    }
    Ok(index)
}

fn of(net: &Net, parameter: &Parameter) -> Result<Param> {
    let Place { layer, index, .. } = &parameter.places[0];
    let of_layer = |node: &&Node| node.layer() == layer;
    let mut nodes = net.graph.nodes.iter().filter(of_layer);
    let node = nodes.find(|node| node.op.weights().contains(&parameter.weight));
    let op = node.map(|node| &node.op);
    let role = role(op, *index);
    let frozen = role == Role::Statistic;
    let rates = [
        ("lr_mult", parameter.lr_mult),
        ("decay_mult", parameter.decay_mult),
    ];
    if let Some(lr) = parameter.lr_mult.filter(|&lr| frozen && lr != 0.0) {
        return Err(Error::new(format!("{lr}"))
            .field(format!("param[{index}].lr_mult"))
            .expected("0: the statistics of a BatchNorm are not learnt"));
    }
    for (field, said) in rates {
        if let Some(said) = said.filter(|said| !(said.is_finite() && *said >= 0.0)) {
            return Err(Error::new(said.to_string())
                .field(format!("param[{index}].{field}"))
                .expected("0 or more"));
        }
    }
    let [lr_mult, decay_mult] = rates.map(|(_, said)| match frozen {
        true => 0.0,
        false => said.unwrap_or(1.0),
    });
    Ok(Param {
        layer: layer.clone(),
        index: *index,
        role,
        shape: net.graph.weight(parameter.weight).shape().clone(),
        groups: groups(op),
        lr_mult,
        decay_mult,
        regularization: parameter.regularization.clone(),
        breadth_decay_mult: parameter.breadth_decay_mult,
        kernel_shape_decay_mult: parameter.kernel_shape_decay_mult,
        block_group_lasso: parameter.block_group_lasso.clone(),
        connectivity: match role {
            Role::Weight => parameter.connectivity,
            _ => Connectivity::Free,
        },
    })
}

fn groups(op: Option<&Op>) -> u32 {
    match op {
        Some(Op::Convolution(op) | Op::Deconvolution(op)) => op.groups,
        Some(Op::WinogradConvolution(op)) => op.groups,
        _ => 1,
    }
}

fn role(op: Option<&Op>, index: usize) -> Role {
    match (op, index) {
        (Some(Op::BatchNorm(_)), _) => Role::Statistic,
        (Some(Op::WinogradConvolution(_)), 0) => Role::Winograd,
        (Some(Op::Scale(op)), 0) if !op.add_operand => Role::Factor,
        (Some(Op::PRelu(_)), 0) => Role::Factor,
        (Some(Op::Scale(_)), _) => Role::Bias,
        (_, 0) => Role::Weight,
        _ => Role::Bias,
    }
}
