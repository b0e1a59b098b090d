//! Parameters: what the solver changes.

use crate::net::{BlobPlace, Net};
use skimjit_models::caffe::proto::layer_parameter::ConnectivityMode;
use skimjit_models::caffe::proto::{BlockGroupLassoSpec, LayerParameter};
use skimjit_models::{Error, Result, Shape, WeightId};
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
    pub block_group_lasso: Vec<BlockGroupLassoSpec>,
    /// Which weights stay zero.
    pub connectivity: ConnectivityMode,
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
            connectivity: ConnectivityMode::Connected,
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
    let describe = |(id, places): (WeightId, &[BlobPlace])| {
        let layer = net.layer(places[0]);
        let param = of(net, places, net.graph.weight(id).shape().clone());
        Ok((param.map_err(|error: Error| error.layer(layer.name()))?, id))
    };
    net.parameters().into_iter().map(describe).collect()
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

fn of(net: &Net, places: &[BlobPlace], shape: Shape) -> Result<Param> {
    let owner = net.layer(places[0]);
    let index = places[0].index;
    let role = role(owner, index);
    let lr_mult = net.spec(places, "lr_mult", |spec| spec.lr_mult)?;
    let decay_mult = net.spec(places, "decay_mult", |spec| spec.decay_mult)?;
    let frozen = role == Role::Statistic;
    if frozen && lr_mult.is_some_and(|lr| lr != 0.0) {
        return Err(Error::new(format!("{}", lr_mult.unwrap_or_default()))
            .field(format!("param[{index}].lr_mult"))
            .expected("0: the statistics of a BatchNorm are not learnt"));
    }
    for (field, said) in [("lr_mult", lr_mult), ("decay_mult", decay_mult)] {
        if let Some(said) = said.filter(|said| !(said.is_finite() && *said >= 0.0)) {
            return Err(Error::new(said.to_string())
                .field(format!("param[{index}].{field}"))
                .expected("0 or more"));
        }
    }
    let multiplier = |said: Option<f32>| if frozen { 0.0 } else { said.unwrap_or(1.0) };
    let lasso = net.spec(places, "block_group_lasso", |spec| {
        (!spec.block_group_lasso.is_empty()).then(|| spec.block_group_lasso.clone())
    })?;
    Ok(Param {
        layer: owner.name().to_owned(),
        index,
        role,
        shape,
        groups: groups(owner),
        lr_mult: multiplier(lr_mult),
        decay_mult: multiplier(decay_mult),
        regularization: net
            .spec(places, "regularization_type", |spec| {
                spec.regularization_type.clone()
            })?
            .filter(|kind| !kind.is_empty()),
        breadth_decay_mult: net
            .spec(places, "breadth_decay_mult", |spec| spec.breadth_decay_mult)?
            .unwrap_or_default(),
        kernel_shape_decay_mult: net
            .spec(places, "kernel_shape_decay_mult", |spec| {
                spec.kernel_shape_decay_mult
            })?
            .unwrap_or_default(),
        block_group_lasso: lasso.unwrap_or_default(),
        connectivity: match role {
            Role::Weight => owner.connectivity_mode(),
            _ => ConnectivityMode::Connected,
        },
    })
}

fn groups(layer: &LayerParameter) -> u32 {
    let convolution = layer.convolution_param.as_ref();
    convolution.map_or(1, |param| param.group().max(1))
}

fn role(layer: &LayerParameter, index: usize) -> Role {
    match (layer.r#type(), index) {
        (kind, _) if kind.ends_with("BatchNorm") => Role::Statistic,
        ("Winograd", 0) => Role::Winograd,
        ("Scale" | "PReLU", 0) => Role::Factor,
        ("Bias", _) => Role::Bias,
        (_, 0) => Role::Weight,
        _ => Role::Bias,
    }
}
