//! Weights of all files, by layer name, until the layers ask for them.

use super::{ImportOptions, Named, filler};
use crate::blob;
use crate::proto::param_spec::DimCheckMode;
use crate::proto::{BlobProto, FillerParameter, LayerParameter, NetParameter};
use skimjit_models::Warning;
use skimjit_models::{Error, Graph, Result, Shape, Tensor, WeightId, closest};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Blobs by layer name, and the parameters that layers share.
pub(super) struct Store {
    layers: HashMap<String, Stored>,
    /// Layer names in file order, for warnings.
    order: Vec<String>,
    /// Parameters with a name, once their first layer has them.
    owned: HashMap<String, WeightId>,
    /// Who uses a named parameter, in the order of the topology.
    sharers: HashMap<String, Vec<Sharer>>,
    /// Names of the topology's layers.
    topology: HashSet<String>,
    /// What is odd about the weights.
    pub warnings: Vec<Warning>,
    /// Layers that were added, those that later ones replaced included.
    added: usize,
    zero_below: Option<f32>,
    allow_missing: bool,
    random_weights: bool,
    seed: u64,
}

/// A weight tensor that a layer expects.
pub(super) struct Wanted {
    pub shape: Shape,
    /// What it is made with when no file has it and that is allowed.
    pub filler: FillerParameter,
}

impl Wanted {
    /// Without filler it is made of zeros.
    pub fn new(shape: Shape, filler: Option<FillerParameter>) -> Self {
        let filler = filler.unwrap_or_default();
        Self { shape, filler }
    }

    /// With that value where there is no filler.
    pub fn or_value(shape: Shape, filler: Option<FillerParameter>, value: f32) -> Self {
        let constant = || FillerParameter {
            value: Some(value),
            ..FillerParameter::default()
        };
        let filler = filler.unwrap_or_else(constant);
        Self { shape, filler }
    }
}

/// A blob that is a named parameter.
#[derive(Clone)]
struct Sharer {
    layer: String,
    index: usize,
    /// Only the number of elements has to fit.
    permissive: bool,
}

/// A stored blob on its way into the graph.
struct Taken {
    layer: String,
    /// Place of the layer among those of all files, and of the blob in the layer.
    order: (usize, usize),
    blob: BlobProto,
    file: Option<PathBuf>,
    /// Only the number of elements has to fit.
    permissive: bool,
}

struct Stored {
    file: Option<PathBuf>,
    /// How many layers of all files came before it.
    order: usize,
    /// `None` once taken, or when the file leaves it out.
    blobs: Vec<Option<BlobProto>>,
    used: bool,
}

impl Store {
    pub fn new(options: &ImportOptions) -> Self {
        Self {
            layers: HashMap::new(),
            order: Vec::new(),
            owned: HashMap::new(),
            sharers: HashMap::new(),
            topology: HashSet::new(),
            warnings: Vec::new(),
            added: 0,
            zero_below: options.zero_below,
            allow_missing: options.allow_missing_weights,
            random_weights: options.random_weights,
            seed: options.seed,
        }
    }

    /// Adds the blobs of a file; those of a layer replace earlier ones.
    pub fn add(&mut self, net: Named<&mut NetParameter>) {
        for layer in net
            .net
            .layer
            .iter_mut()
            .filter(|layer| !layer.blobs.is_empty())
        {
            let present = |blob: BlobProto| (!blob::is_absent(&blob)).then_some(blob);
            let blobs = std::mem::take(&mut layer.blobs)
                .into_iter()
                .map(present)
                .collect();
            let stored = Stored {
                file: net.file.clone(),
                order: self.added,
                blobs,
                used: false,
            };
            self.added += 1;
            let name = layer.name().to_owned();
            if self.layers.insert(name.clone(), stored).is_none() {
                self.order.push(name);
            }
        }
    }

    /// Notes which layers there are, and which of them use parameters by name.
    pub fn note_topology(&mut self, topology: &NetParameter) {
        for layer in &topology.layer {
            self.topology.insert(layer.name().to_owned());
            for (index, spec) in layer.param.iter().enumerate() {
                if !spec.name().is_empty() {
                    let sharer = Sharer {
                        layer: layer.name().to_owned(),
                        index,
                        permissive: spec.share_mode() == DimCheckMode::Permissive,
                    };
                    self.sharers
                        .entry(spec.name().to_owned())
                        .or_default()
                        .push(sharer);
                }
            }
        }
    }

    /// Shape of a blob as stored.
    pub fn shape(&self, layer: &str, index: usize) -> Option<Shape> {
        blob::shape(self.layers.get(layer)?.blobs.get(index)?.as_ref()?).ok()
    }

    /// Number of blobs of a layer as stored.
    pub fn count(&self, layer: &str) -> Option<usize> {
        self.layers.get(layer).map(|stored| stored.blobs.len())
    }

    /// The weight of an earlier layer that a blob shares by name.
    pub fn owner(&self, layer: &LayerParameter, index: usize) -> Option<WeightId> {
        self.owned.get(layer.param.get(index)?.name()).copied()
    }

    /// Marks a layer's blobs as known and not needed.
    pub fn ignore(&mut self, layer: &str) {
        if let Some(stored) = self.layers.get_mut(layer) {
            stored.used = true;
        }
    }

    /// Layers with blobs that no layer of the topology took.
    pub fn unused(&self) -> impl Iterator<Item = (&str, Option<&PathBuf>)> {
        self.order.iter().filter_map(|name| {
            let stored = self.layers.get(name).filter(|stored| !stored.used)?;
            Some((name.as_str(), stored.file.as_ref()))
        })
    }

    /// Weights of `layer`, one per expected shape, moved into the graph. With `prune`, small
    /// elements of the first become 0 when the options say so.
    pub fn weights(
        &mut self,
        graph: &mut Graph,
        layer: &LayerParameter,
        expected: &[Wanted],
        prune: bool,
    ) -> Result<Vec<WeightId>> {
        self.check_count(layer, expected.len())?;
        let mut ids = Vec::new();
        for (index, wanted) in expected.iter().enumerate() {
            let spec = layer
                .param
                .get(index)
                .filter(|spec| !spec.name().is_empty());
            let shared = spec.and_then(|spec| self.owned.get(spec.name()).copied());
            let id = match (spec, shared) {
                (Some(spec), Some(owner)) => {
                    let permissive = spec.share_mode() == DimCheckMode::Permissive;
                    share(graph, owner, &wanted.shape, permissive).map_err(|error| {
                        error
                            .layer(layer.name())
                            .field(format!("param[{index}].name"))
                    })?
                }
                _ => {
                    let random = prune && index == 0 && self.random_weights;
                    let mut tensor = self.tensor(layer, index, wanted, random)?;
                    if let (true, 0, Some(limit)) = (prune, index, self.zero_below) {
                        zero_below(&mut tensor, limit);
                    }
                    graph.add_weight(tensor)
                }
            };
            if let Some(spec) = spec {
                self.owned.entry(spec.name().to_owned()).or_insert(id);
            }
            ids.push(id);
        }
        Ok(ids)
    }

    fn check_count(&mut self, layer: &LayerParameter, expected: usize) -> Result<()> {
        let Some(stored) = self.layers.get_mut(layer.name()) else {
            return Ok(());
        };
        stored.used = true;
        // HDF5 files hold a shared parameter with its owner only.
        let named = layer
            .param
            .iter()
            .take(expected)
            .filter(|spec| !spec.name().is_empty());
        let found = stored.blobs.len();
        if found > expected || found + named.count() < expected {
            let error = Error::new(format!("{found} blobs"))
                .layer(layer.name())
                .field("blobs");
            return Err(in_file(error, stored.file.as_ref())
                .expected(expected.to_string())
                .hint("the weights do not belong to this layer, or its parameters changed"));
        }
        Ok(())
    }

    /// What the fillers make of it; with `random`, not zeros.
    fn filled(
        &self,
        layer: &LayerParameter,
        index: usize,
        wanted: &Wanted,
        random: bool,
    ) -> Result<Tensor> {
        let stream = filler::stream(layer.name(), index) ^ spread(self.seed);
        let dense = FillerParameter {
            r#type: Some("msra".to_owned()),
            ..FillerParameter::default()
        };
        let filler = match random && filler::is_zero(&wanted.filler) {
            true => &dense,
            false => &wanted.filler,
        };
        filler::fill(filler, wanted.shape.clone(), stream).map_err(|error| {
            let field = format!("filler of blobs[{index}]");
            error.layer(layer.name()).field(field)
        })
    }

    fn tensor(
        &mut self,
        layer: &LayerParameter,
        index: usize,
        wanted: &Wanted,
        random: bool,
    ) -> Result<Tensor> {
        let shape = &wanted.shape;
        let Some(mut taken) = self.take(layer, index) else {
            if self.allow_missing {
                return self.filled(layer, index, wanted, random);
            }
            return Err(Error::new("no weights")
                .layer(layer.name())
                .field(format!("blobs[{index}]"))
                .expected(format!("a blob of shape {shape}"))
                .hint(self.where_else(layer.name(), index, shape)));
        };
        let at = |error: Error, field: String| {
            in_file(error, taken.file.as_ref())
                .layer(layer.name())
                .field(field)
        };
        let found = blob::shape(&taken.blob);
        let same_count = || {
            found
                .as_ref()
                .is_ok_and(|found| found.count() == shape.count())
        };
        if !(blob::shape_matches(&taken.blob, shape) || taken.permissive && same_count()) {
            let found = match found {
                Ok(found) => format!("shape {found}"),
                Err(error) => error.found,
            };
            return Err(at(Error::new(found), format!("blobs[{index}].shape"))
                .expected(shape.to_string())
                .hint("the weights do not belong to this layer, or its parameters changed"));
        }
        let tensor = blob::take_tensor(&mut taken.blob).map_err(|mut error| {
            let part = error.field.take().unwrap_or_default();
            at(error, format!("blobs[{index}].{part}"))
        })?;
        Ok(Tensor::new(shape.clone(), tensor.into_data()))
    }

    /// Where the weights of a layer may be instead, and what to do without them.
    fn where_else(&self, layer: &str, index: usize, shape: &Shape) -> String {
        let fill = "--allow-missing-weights makes missing weights with the layers' fillers";
        if self.layers.is_empty() {
            return format!("there is no weight file, or none that has weights; {fill}");
        }
        let none = "no weight file has a layer of that name with that blob";
        match self.renamed(layer, index, shape) {
            Some((name, found)) => format!(
                "{none}; the closest of those that no layer takes is {name:?}, which has one of shape \
                 {found}: if it is this layer, give both the same name; {fill}"
            ),
            None => format!("{none}; {fill}"),
        }
    }

    /// The stored layer without one in the topology that resembles a layer most: by the shape of the
    /// blob, then by its name.
    fn renamed(&self, layer: &str, index: usize, shape: &Shape) -> Option<(&str, Shape)> {
        let free = self
            .order
            .iter()
            .filter(|name| !self.topology.contains(*name));
        let shaped: Vec<(&str, Shape)> = free
            .filter_map(|name| Some((name.as_str(), self.shape(name, index)?)))
            .collect();
        let fitting: Vec<&str> = shaped
            .iter()
            .filter(|(_, found)| found == shape)
            .map(|(name, _)| *name)
            .collect();
        let name = closest(layer, fitting.iter().copied())
            .or(fitting.first().copied())
            .or_else(|| closest(layer, shaped.iter().map(|(name, _)| *name)))?;
        shaped.iter().find(|(known, _)| *known == name).cloned()
    }

    /// A layer's blob. Of a parameter that layers share by name, Caffe copies every layer's blob into the
    /// same memory, layer after layer and file after file: the last one stays.
    fn take(&mut self, layer: &LayerParameter, index: usize) -> Option<Taken> {
        let own = Sharer {
            layer: layer.name().to_owned(),
            index,
            permissive: false,
        };
        let spec = layer.param.get(index);
        let name = spec.map(|spec| spec.name()).unwrap_or_default();
        let sharers = self.sharers.get(name).cloned().unwrap_or_else(|| vec![own]);
        let mut copies: Vec<Taken> = sharers
            .into_iter()
            .filter_map(|sharer| self.copy(sharer))
            .collect();
        copies.sort_by_key(|copy| copy.order);
        let last = copies.pop()?;
        let other = |copy: &&Taken| values(&copy.blob) != values(&last.blob);
        if let Some(other) = copies.iter().rev().find(other) {
            self.warnings.push(overwritten(name, other, &last));
        }
        Some(last)
    }

    fn copy(&mut self, sharer: Sharer) -> Option<Taken> {
        let stored = self.layers.get_mut(&sharer.layer)?;
        let blob = stored.blobs.get_mut(sharer.index)?.take()?;
        Some(Taken {
            layer: sharer.layer,
            order: (stored.order, sharer.index),
            blob,
            file: stored.file.clone(),
            permissive: sharer.permissive,
        })
    }
}

/// The values of a blob; none for one that cannot be read.
fn values(blob: &BlobProto) -> Cow<'_, [f32]> {
    if blob.double_data.is_empty() && blob.raw_data.is_none() {
        return Cow::Borrowed(&blob.data);
    }
    Cow::Owned(blob::take_values(&mut blob.clone()).unwrap_or_default())
}

fn overwritten(parameter: &str, first: &Taken, last: &Taken) -> Warning {
    let warning = Warning::new(format!(
        "layers {:?} and {:?} share the parameter {parameter:?}, and have different weights for it: those of \
         {:?} are used by both, as Caffe copies them last",
        first.layer, last.layer, last.layer
    ));
    match &last.file {
        Some(file) => warning.file(file),
        None => warning,
    }
}

fn in_file(error: Error, file: Option<&PathBuf>) -> Error {
    match file {
        Some(file) => error.file(file),
        None => error,
    }
}

/// The owner's weight for a layer that expects `shape`.
fn share(graph: &mut Graph, owner: WeightId, shape: &Shape, permissive: bool) -> Result<WeightId> {
    let tensor = graph.weight(owner);
    if tensor.shape() == shape {
        return Ok(owner);
    }
    let found = Error::new(format!("a shared parameter of shape {}", tensor.shape()));
    if !permissive {
        return Err(found
            .expected(shape.to_string())
            .hint("share_mode: PERMISSIVE compares element counts only"));
    }
    if tensor.shape().count() != shape.count() {
        return Err(found.expected(format!("{} elements", shape.count())));
    }
    let reshaped = Tensor::new(shape.clone(), tensor.data().to_vec());
    Ok(graph.add_weight(reshaped))
}

fn zero_below(tensor: &mut Tensor, limit: f32) {
    for weight in tensor
        .data_mut()
        .iter_mut()
        .filter(|weight| weight.abs() <= limit)
    {
        *weight = 0.0;
    }
}

/// Spreads a small seed over all bits (a multiplication by the golden ratio); 0 stays 0.
fn spread(seed: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
