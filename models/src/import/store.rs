//! Weights of all files, by layer name, until the layers ask for them.

use super::{ImportOptions, Named, filler};
use crate::caffe::blob;
use crate::caffe::proto::param_spec::DimCheckMode;
use crate::caffe::proto::{BlobProto, FillerParameter, LayerParameter, NetParameter};
use crate::{Error, Graph, Result, Shape, Tensor, WeightId};
use std::collections::HashMap;
use std::path::PathBuf;

/// Blobs by layer name, and the parameters that layers share.
pub(super) struct Store {
    layers: HashMap<String, Stored>,
    /// Layer names in file order, for warnings.
    order: Vec<String>,
    /// Parameters with a name, once their first layer has them.
    owned: HashMap<String, WeightId>,
    /// Layers and blob indices that use a named parameter.
    sharers: HashMap<String, Vec<(String, usize)>>,
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

struct Stored {
    file: Option<PathBuf>,
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
                blobs,
                used: false,
            };
            let name = layer.name().to_owned();
            if self.layers.insert(name.clone(), stored).is_none() {
                self.order.push(name);
            }
        }
    }

    /// Notes which layers use parameters by name.
    pub fn note_shared(&mut self, topology: &NetParameter) {
        for layer in &topology.layer {
            for (index, spec) in layer.param.iter().enumerate() {
                if !spec.name().is_empty() {
                    let sharer = (layer.name().to_owned(), index);
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
        let Some((mut blob, file)) = self.take(layer, index) else {
            if self.allow_missing {
                return self.filled(layer, index, wanted, random);
            }
            return Err(Error::new("no weights")
                .layer(layer.name())
                .field(format!("blobs[{index}]"))
                .expected(format!("a blob of shape {shape}"))
                .hint("no weight file has a layer of that name with that blob"));
        };
        let at = |error: Error, field: String| {
            in_file(error, file.as_ref())
                .layer(layer.name())
                .field(field)
        };
        if !blob::shape_matches(&blob, shape) {
            let found = match blob::shape(&blob) {
                Ok(found) => format!("shape {found}"),
                Err(error) => error.found,
            };
            return Err(at(Error::new(found), format!("blobs[{index}].shape"))
                .expected(shape.to_string())
                .hint("the weights do not belong to this layer, or its parameters changed"));
        }
        let tensor = blob::take_tensor(&mut blob).map_err(|mut error| {
            let part = error.field.take().unwrap_or_default();
            at(error, format!("blobs[{index}].{part}"))
        })?;
        Ok(Tensor::new(shape.clone(), tensor.into_data()))
    }

    /// The layer's own blob, or that of another layer that uses the same named parameter.
    fn take(
        &mut self,
        layer: &LayerParameter,
        index: usize,
    ) -> Option<(BlobProto, Option<PathBuf>)> {
        let own = [(layer.name().to_owned(), index)];
        let name = layer
            .param
            .get(index)
            .map(|spec| spec.name())
            .unwrap_or_default();
        let others = self
            .sharers
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        own.iter().chain(others).find_map(|(layer, index)| {
            let stored = self.layers.get_mut(layer)?;
            Some((stored.blobs.get_mut(*index)?.take()?, stored.file.clone()))
        })
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
