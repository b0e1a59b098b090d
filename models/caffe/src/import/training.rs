//! What a definition says of training: multipliers of parameters, and where gradients go.

use crate::proto::layer_parameter::ConnectivityMode;
use crate::proto::pooling_parameter::PoolMethod;
use crate::proto::{BlockGroupLassoSpec, LayerParameter, NetParameter, ParamSpec};
use skimjit_models::{
    BlockLasso, Connectivity, Error, Graph, Node, Op, Parameter, Place, Result, Training, ValueId,
};
use std::collections::{BTreeMap, HashMap};

/// The layers of a definition, by name.
struct Layers<'a> {
    all: &'a [LayerParameter],
    index: HashMap<&'a str, usize>,
}

impl<'a> Layers<'a> {
    fn of(net: &'a NetParameter) -> Self {
        let mut index = HashMap::new();
        for (number, layer) in net.layer.iter().enumerate() {
            index.entry(layer.name()).or_insert(number);
        }
        Self {
            all: &net.layer,
            index,
        }
    }

    /// The layer that a node is of; none for what import adds between layers.
    fn of_node(&self, node: &Node) -> Option<(usize, &'a LayerParameter)> {
        let index = *self.index.get(node.layer())?;
        Some((index, &self.all[index]))
    }
}

/// Fills in what `net`, the definition that the graph was made of, says of training.
pub(super) fn describe(net: &NetParameter, graph: &Graph, training: &mut Training) -> Result<()> {
    let layers = Layers::of(net);
    training.force_backward = net.force_backward();
    training.parameters = parameters(&layers, graph)?;
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some((_, layer)) = layers.of_node(node) else {
            continue;
        };
        // In tests it is several nodes, which do not draw.
        if draws(layer) && node.part_of.is_none() && matches!(node.op, Op::Pooling(_)) {
            training.draws.insert(index);
        }
        for operand in 0..node.inputs.len() {
            if let Some(said) = propagates(&layers, graph, node, layer, operand) {
                training.propagates.insert((index, operand), said);
            }
        }
    }
    Ok(())
}

/// Refuses what cannot be trained, in a definition of phase TRAIN.
pub(super) fn check(net: &NetParameter, training: bool) -> Result<()> {
    check_propagation(net)?;
    match training {
        true => refuse_learnt_parameters(net),
        false => Ok(()),
    }
}

/// Caffe's rule: none, or one for each bottom.
fn check_propagation(net: &NetParameter) -> Result<()> {
    let wrong = |layer: &&LayerParameter| {
        let said = layer.propagate_down.len();
        said != 0 && said != layer.bottom.len()
    };
    let Some(layer) = net.layer.iter().find(wrong) else {
        return Ok(());
    };
    let bottoms = layer.bottom.len();
    Err(Error::new(format!("{} values", layer.propagate_down.len()))
        .layer(layer.name())
        .field("propagate_down")
        .expected(format!("none, or {bottoms}, one per bottom")))
}

/// What a Parameter layer brings is a constant here; Caffe learns it.
fn refuse_learnt_parameters(net: &NetParameter) -> Result<()> {
    let learnt = |layer: &&LayerParameter| {
        let rate = layer.param.first().and_then(|spec| spec.lr_mult);
        layer.r#type() == "Parameter" && rate != Some(0.0)
    };
    let Some(layer) = net.layer.iter().find(learnt) else {
        return Ok(());
    };
    Err(Error::new("a Parameter layer that learns")
        .layer(layer.name())
        .field("param[0].lr_mult")
        .expected("0: Parameter layers are constants here")
        .hint("use a Bias or Scale layer for what is to be learnt"))
}

/// True for poolings that draw one element of each window in training.
pub(super) fn draws(layer: &LayerParameter) -> bool {
    let pooling = layer.pooling_param.as_ref();
    let stochastic = pooling.is_some_and(|pooling| pooling.pool() == PoolMethod::Stochastic);
    stochastic && ["Pooling", "MKLPooling"].contains(&layer.r#type())
}

/// The blobs of layers, in the layers' order, each once.
fn parameters(layers: &Layers<'_>, graph: &Graph) -> Result<Vec<Parameter>> {
    let mut places: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    let constant = |op: &Op| matches!(op, Op::Constant(_) | Op::Loss(_));
    for node in graph.nodes.iter().filter(|node| !constant(&node.op)) {
        let Some((layer_index, layer)) = layers.of_node(node) else {
            continue;
        };
        for (index, weight) in node.op.weights().into_iter().enumerate() {
            let place = Place {
                layer: layer.name().to_owned(),
                layer_index,
                index,
            };
            let list = places.entry(weight.0).or_default();
            if !list.contains(&place) {
                list.push(place);
            }
        }
    }
    let mut used: Vec<_> = places.into_iter().collect();
    used.sort_by_key(|(_, places)| (places[0].layer_index, places[0].index));
    let parameter = |(weight, places): (u32, Vec<Place>)| {
        let owner = &layers.all[places[0].layer_index];
        let said = Specs { layers, places };
        said.parameter(skimjit_models::WeightId(weight))
            .map_err(|error| error.layer(owner.name()))
    };
    used.into_iter().map(parameter).collect()
}

/// What the users of a parameter say of it.
struct Specs<'a> {
    layers: &'a Layers<'a>,
    places: Vec<Place>,
}

impl Specs<'_> {
    fn parameter(self, weight: skimjit_models::WeightId) -> Result<Parameter> {
        let owner = &self.layers.all[self.places[0].layer_index];
        let lasso = self.said("block_group_lasso", |spec| {
            (!spec.block_group_lasso.is_empty()).then(|| spec.block_group_lasso.clone())
        })?;
        let regularization = self.said("regularization_type", |spec| {
            spec.regularization_type.clone()
        })?;
        Ok(Parameter {
            weight,
            lr_mult: self.said("lr_mult", |spec| spec.lr_mult)?,
            decay_mult: self.said("decay_mult", |spec| spec.decay_mult)?,
            regularization: regularization.filter(|kind| !kind.is_empty()),
            breadth_decay_mult: self
                .said("breadth_decay_mult", |spec| spec.breadth_decay_mult)?
                .unwrap_or_default(),
            kernel_shape_decay_mult: self
                .said("kernel_shape_decay_mult", |spec| {
                    spec.kernel_shape_decay_mult
                })?
                .unwrap_or_default(),
            block_group_lasso: lasso.iter().flatten().map(block).collect(),
            connectivity: match owner.connectivity_mode() {
                ConnectivityMode::Connected => Connectivity::Free,
                ConnectivityMode::DisconnectedEltwise => Connectivity::Elements,
                ConnectivityMode::DisconnectedGrpwise => Connectivity::Groups,
            },
            places: self.places,
        })
    }

    /// The first that says it wins, where several share a parameter; the others say the same or nothing.
    fn said<T>(&self, field: &str, of: impl Fn(&ParamSpec) -> Option<T>) -> Result<Option<T>>
    where
        T: PartialEq + std::fmt::Debug,
    {
        let mut found: Option<T> = None;
        for place in &self.places {
            let layer = &self.layers.all[place.layer_index];
            let said = layer.param.get(place.index).and_then(&of);
            match (&found, said) {
                (Some(first), Some(other)) if *first != other => {
                    return Err(Error::new(format!("{other:?}"))
                        .layer(layer.name())
                        .field(format!("param[{}].{field}", place.index))
                        .expected(format!(
                            "{first:?}, as layer {:?} says, which shares the parameter",
                            self.places[0].layer
                        )));
                }
                (None, said) => found = said,
                _ => {}
            }
        }
        Ok(found)
    }
}

fn block(spec: &BlockGroupLassoSpec) -> BlockLasso {
    BlockLasso {
        columns: spec.xdimen(),
        rows: spec.ydimen(),
        decay_mult: spec.block_decay_mult(),
    }
}

/// What `propagate_down` says of an operand of a node; `None` where it says nothing, as for what the layer
/// makes itself on the way.
fn propagates(
    layers: &Layers<'_>,
    graph: &Graph,
    node: &Node,
    layer: &LayerParameter,
    operand: usize,
) -> Option<bool> {
    if layer.propagate_down.is_empty() {
        return None;
    }
    let id: ValueId = node.inputs[operand];
    let own = |other: &&Node| {
        let of = layers.of_node(other);
        other.output == id && of.is_some_and(|(_, of)| std::ptr::eq(of, layer))
    };
    if graph.nodes.iter().any(|other| own(&other)) {
        return None;
    }
    let name = &graph.value(id).name;
    let places = layer.bottom.iter().enumerate();
    let places = places.filter(|(_, bottom)| *bottom == name);
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    // The same blob may be several bottoms, in order.
    let turn = node.inputs[..operand].iter().filter(|&&other| other == id);
    let place = places.get(turn.count()).or(places.last())?;
    layer.propagate_down.get(*place).copied()
}
