//! A network in one phase, wired and checked: what an engine runs.

use skimjit_caffe::filter::filter_net;
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::proto::pooling_parameter::PoolMethod;
use skimjit_caffe::proto::{LayerParameter, NetParameter, NetState, ParamSpec, Phase};
use skimjit_caffe::unknown;
use skimjit_data::Blob;
use skimjit_models::{Error, Graph, Node, Op, Result, Shape, Tensor, ValueId, WeightId};
use std::sync::Arc;

/// Place of a parameter in the definition: a layer and the index of one of its blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobPlace {
    /// Index into [`Net::definition`]'s layers.
    pub layer: usize,
    /// Index of the blob in the layer.
    pub index: usize,
}

/// A network of one phase.
#[derive(Debug)]
pub struct Net {
    /// Layers of the phase, data layers included, without weights.
    pub definition: NetParameter,
    /// What they compute. Weights that are trained are not in it: see [`Net::take_weights`].
    pub graph: Graph,
    /// Values that the loss is the weighted sum of, with their weights.
    pub losses: Vec<(ValueId, f32)>,
    /// Phase.
    pub phase: Phase,
    /// What was ignored.
    pub warnings: Vec<String>,
    /// Places that use each weight of the graph, the owner first.
    places: Vec<Vec<BlobPlace>>,
}

/// What a net is made of.
pub struct NetSource<'a> {
    /// Definition, upgraded, all phases, with or without weights.
    pub definition: &'a NetParameter,
    /// Phase, level and stages.
    pub state: &'a NetState,
    /// Weights, later ones over earlier ones.
    pub weights: &'a [NetParameter],
    /// What the data layers bring.
    pub blobs: &'a [Blob],
    /// Chooses the numbers of fillers.
    pub seed: u64,
}

impl NetSource<'_> {
    /// Wires the network. Weights that no file has are filled.
    pub fn build(&self) -> Result<Net> {
        let filtered = filter_net(self.definition.clone(), self.state)?;
        // Those of data layers too, which are inputs here.
        unknown::refuse_in_layers(&filtered)?;
        check_propagation(&filtered)?;
        let training = self.state.phase() == Phase::Train;
        if training {
            refuse_learnt_parameters(&filtered)?;
        }
        let options = ImportOptions {
            level: self.state.level(),
            stages: self.state.stage.clone(),
            data_shapes: self.blobs.iter().map(named_shape).collect(),
            allow_missing_weights: true,
            training,
            to_train: true,
            seed: self.seed,
            ..ImportOptions::default()
        };
        let imported = import(self.definition.clone(), self.weights.to_vec(), &options)?;
        let definition = without_weights(filtered, self.state.phase());
        let places = places(&imported.graph, &definition)?;
        Ok(Net {
            definition,
            graph: imported.graph,
            losses: imported.training.losses,
            phase: self.state.phase(),
            warnings: imported.warnings.iter().map(ToString::to_string).collect(),
            places,
        })
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

/// True for poolings that draw one element of each window, which they do in training.
pub fn draws(layer: &LayerParameter) -> bool {
    let pooling = layer.pooling_param.as_ref();
    let stochastic = pooling.is_some_and(|pooling| pooling.pool() == PoolMethod::Stochastic);
    stochastic && ["Pooling", "MKLPooling"].contains(&layer.r#type())
}

fn named_shape(blob: &Blob) -> (String, Shape) {
    (blob.name.clone(), blob.shape.clone())
}

fn without_weights(mut net: NetParameter, phase: Phase) -> NetParameter {
    for layer in &mut net.layer {
        layer.blobs.clear();
        layer.phase.get_or_insert(phase as i32);
    }
    net
}

/// Layer of a node: nodes of further tops and of parts are named `layer[1]` and `layer/part`.
fn layer_of(node: &Node, definition: &NetParameter) -> Option<usize> {
    let position = |name: &str| {
        definition
            .layer
            .iter()
            .position(|layer| layer.name() == name)
    };
    let parts = || node.name.rsplit_once(['[', '/']).map(|(layer, _)| layer);
    position(&node.name).or_else(|| position(parts()?))
}

/// Which layers' blobs the weights of the graph are.
fn places(graph: &Graph, definition: &NetParameter) -> Result<Vec<Vec<BlobPlace>>> {
    let mut places: Vec<Vec<BlobPlace>> = vec![vec![]; graph.weights.len()];
    let constant = |op: &Op| matches!(op, Op::Constant(_) | Op::Loss(_));
    for node in graph.nodes.iter().filter(|node| !constant(&node.op)) {
        let Some(layer) = layer_of(node, definition) else {
            continue;
        };
        for (index, weight) in node.op.weights().into_iter().enumerate() {
            let place = BlobPlace { layer, index };
            let list = &mut places[weight.0 as usize];
            if !list.contains(&place) {
                list.push(place);
            }
        }
    }
    Ok(places)
}

impl Net {
    /// Definition of the layer that a node belongs to.
    pub fn layer_of(&self, node: &Node) -> Option<&LayerParameter> {
        layer_of(node, &self.definition).map(|index| &self.definition.layer[index])
    }
    /// Layer of a place.
    pub fn layer(&self, place: BlobPlace) -> &LayerParameter {
        &self.definition.layer[place.layer]
    }
    /// Weights that are parameters, in the order of the layers, each with the places that use it.
    pub fn parameters(&self) -> Vec<(WeightId, &[BlobPlace])> {
        let ids = (0..self.places.len() as u32).map(WeightId);
        let all = ids.zip(self.places.iter().map(Vec::as_slice));
        let mut used: Vec<_> = all.filter(|(_, places)| !places.is_empty()).collect();
        used.sort_by_key(|(_, places)| places[0]);
        used
    }
    /// Moves the values of a parameter out of the graph, which keeps a placeholder.
    pub fn take_weights(&mut self, id: WeightId) -> Result<Tensor> {
        let placeholder = Tensor::zeros(Shape::new([1])?).into();
        let tensor = std::mem::replace(&mut self.graph.weights[id.0 as usize], placeholder);
        Ok(Arc::unwrap_or_clone(tensor).into_tensor())
    }
    /// What the definition says of a blob: the first that says it wins, where several share it.
    pub fn spec<T>(
        &self,
        places: &[BlobPlace],
        field: &str,
        of: impl Fn(&ParamSpec) -> Option<T>,
    ) -> Result<Option<T>>
    where
        T: PartialEq + std::fmt::Debug,
    {
        let mut found: Option<T> = None;
        for &place in places {
            let said = self.layer(place).param.get(place.index).and_then(&of);
            match (&found, said) {
                (Some(first), Some(other)) if *first != other => {
                    return Err(Error::new(format!("{other:?}"))
                        .layer(self.layer(place).name())
                        .field(format!("param[{}].{field}", place.index))
                        .expected(format!(
                            "{first:?}, as layer {:?} says, which shares the parameter",
                            self.layer(places[0]).name()
                        )));
                }
                (None, said) => found = said,
                _ => {}
            }
        }
        Ok(found)
    }
    /// What `propagate_down` says of an operand of a node; `None` where it says nothing, as for what the
    /// layer makes itself on the way.
    pub fn propagate_down(&self, node: &Node, operand: usize) -> Option<bool> {
        let layer = self.layer_of(node)?;
        if layer.propagate_down.is_empty() {
            return None;
        }
        let id = *node.inputs.get(operand)?;
        let own = |other: &&Node| {
            let of = self.layer_of(other);
            other.output == id && of.is_some_and(|of| std::ptr::eq(of, layer))
        };
        if self.graph.nodes.iter().any(|other| own(&other)) {
            return None;
        }
        let name = &self.graph.value(id).name;
        let places = layer.bottom.iter().enumerate();
        let places = places.filter(|(_, bottom)| *bottom == name);
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        // The same blob may be several bottoms, in order.
        let turn = node.inputs[..operand].iter().filter(|&&other| other == id);
        let place = places.get(turn.count()).or(places.last())?;
        layer.propagate_down.get(*place).copied()
    }
    /// The value of that name that is an input.
    pub fn input(&self, name: &str) -> Option<ValueId> {
        let mut inputs = self.graph.inputs.iter().copied();
        inputs.find(|&id| self.graph.value(id).name == name)
    }
}
