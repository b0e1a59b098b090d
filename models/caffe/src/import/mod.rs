//! From Caffe's messages to a [`skimjit_models::Graph`]: topology, weights, options.
//!
//! [`load`] reads files, [`import`] takes messages. The layer types are rows of one table; each
//! family has a file of converters. Whatever is not understood exactly is an [`Error`].

mod activation;
mod arithmetic;
mod batch;
mod build;
mod convolution;
mod detection;
mod fields;
mod filler;
mod fused;
mod inner_product;
mod input;
mod inputs;
mod layer;
mod loss;
mod memory;
mod net;
mod normalization;
mod pictures;
mod pooling;
mod recurrent;
mod shape;
mod spelling;
mod store;
mod supported;
mod table;
mod training;

use crate::filter::filter_net;
use crate::proto::{LayerParameter, NetParameter, NetState, Phase};
use crate::upgrade::upgrade_net;
use crate::{parse_caffemodel, parse_prototxt, read_caffemodel, read_prototxt, unknown};
use skimjit_models::Warning;
use skimjit_models::{Error, Imported, Result, Shape};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use store::Store;

pub use fields::Use;
pub use supported::{FieldUse, of_type as fields_of, supported_markdown, supported_types};

/// What an import does beyond the letter of the files.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Shape of the only input, instead of the one in the prototxt.
    pub input_shape: Option<Shape>,
    /// Level for `include` and `exclude` rules.
    pub level: i32,
    /// Stages for `include` and `exclude` rules.
    pub stages: Vec<String>,
    /// Data layers become inputs; their labels, and the layers that need them, go.
    pub data_to_input: bool,
    /// Shapes of what data layers bring, by blob, labels included: layers without bottoms of which
    /// every top is listed become inputs, and what needs labels stays. Goes before `data_to_input`.
    pub data_shapes: Vec<(String, Shape)>,
    /// Losses and Accuracy go; a SoftmaxWithLoss becomes a Softmax.
    pub strip_losses: bool,
    /// Weights of convolutions and inner products of at most this magnitude become 0.
    pub zero_below: Option<f32>,
    /// Weights that no file has are made by their layer's fillers (0 without one) instead of being an
    /// error.
    pub allow_missing_weights: bool,
    /// With `allow_missing_weights`: weights of convolutions and inner products that would be all zero
    /// are random instead, so that a network without fillers costs what a dense one does.
    pub random_weights: bool,
    /// Phase TRAIN instead of TEST. A BatchNorm has its statistics as weights whatever it uses, and a
    /// STOCHASTIC pooling is one node, which draws.
    pub training: bool,
    /// The network is one of those that are trained, or tested in between: [`skimjit_models::Imported::training`] is filled,
    /// and weights of Winograd layers that are spatial kernels are brought to the Winograd domain, in which
    /// they are trained, instead of making the layer a Convolution.
    pub to_train: bool,
    /// A blob whose memory an in-place layer changes in Caffe before it is read has the changed value, as
    /// there; without it every blob keeps its own, and a warning tells where Caffe's result is another.
    pub caffe_in_place: bool,
    /// Chooses the numbers that fillers draw.
    pub seed: u64,
    /// Layers are read without their unknown fields, which can change what a layer means and are an
    /// error otherwise.
    pub ignore_unknown_fields: bool,
}

/// A layer that the rules of the phase have removed.
struct LeftOut {
    name: String,
    kind: String,
    tops: Vec<String>,
    /// Phase that it is included in, or excluded from.
    phase: Option<&'static str>,
    excluded: bool,
}

impl LeftOut {
    fn new(layer: &LayerParameter) -> Self {
        let rules = layer.include.iter().chain(&layer.exclude);
        let phase = rules.map(|rule| rule.phase.map(|_| rule.phase())).next();
        Self {
            name: layer.name().to_owned(),
            kind: layer.r#type().to_owned(),
            tops: layer.top.clone(),
            phase: phase.flatten().map(|phase| phase.as_str_name()),
            excluded: layer.include.is_empty(),
        }
    }

    /// What to do where a layer needs it.
    fn advice(&self) -> String {
        let Self { name, kind, .. } = self;
        let when = match (self.phase, self.excluded) {
            (Some(phase), false) => format!("but only in phase {phase}"),
            (Some(phase), true) => format!("but not in phase {phase}"),
            (None, _) => "but its include and exclude rules leave it out".to_owned(),
        };
        let advice = match inputs::DATA_TYPES.contains(&kind.as_str()) {
            true => {
                "use the deploy definition, or put an Input layer with that top and a shape in its place"
            }
            false => "use a definition for this phase, or change the rules",
        };
        format!("layer {name:?} ({kind}) makes it, {when}: {advice}")
    }
}

/// A message and the file it comes from.
struct Named<T> {
    net: T,
    file: Option<PathBuf>,
}

/// Imports a topology with the weights of several files, later ones over earlier ones. Weights
/// inside the topology come first.
pub fn import(
    topology: NetParameter,
    weights: Vec<NetParameter>,
    options: &ImportOptions,
) -> Result<Imported> {
    let named = |net| Named { net, file: None };
    import_named(
        named(topology),
        weights.into_iter().map(named).collect(),
        options,
        Vec::new(),
    )
}

/// Imports from files: a prototxt with weight files, or, without prototxt, a caffemodel that says
/// its own topology (the first file).
pub fn load(
    prototxt: Option<&Path>,
    weights: &[PathBuf],
    options: &ImportOptions,
) -> Result<Imported> {
    let read = |path: &PathBuf| -> Result<Named<NetParameter>> {
        Ok(Named {
            net: read_caffemodel(path)?,
            file: Some(path.clone()),
        })
    };
    let topology = prototxt
        .map(|file| Prototxt::File(file).read())
        .transpose()?;
    let weights = weights.iter().map(read).collect::<Result<Vec<_>>>();
    let weights = weights.map_err(|error| match &topology {
        Some((_, warnings)) => error.after(warnings),
        None => error,
    })?;
    load_named(topology, weights, options)
}

/// Where a topology comes from.
#[derive(Clone, Copy, Debug)]
pub enum Prototxt<'a> {
    /// A file.
    File(&'a Path),
    /// What such a file says.
    Text(&'a str),
}

impl Prototxt<'_> {
    fn read(self) -> Result<(Named<NetParameter>, Vec<Warning>)> {
        let (net, warnings) = match self {
            Self::File(file) => read_prototxt(file)?,
            Self::Text(text) => parse_prototxt(text, "prototxt in memory")?,
        };
        let file = match self {
            Self::File(file) => Some(file.to_owned()),
            Self::Text(_) => None,
        };
        Ok((Named { net, file }, warnings))
    }
}

/// [`load`] for weights that lie in memory: the contents of one weight file.
pub fn load_bytes(
    prototxt: Option<Prototxt<'_>>,
    weights: Vec<u8>,
    options: &ImportOptions,
) -> Result<Imported> {
    let topology = prototxt.map(Prototxt::read).transpose()?;
    let file = PathBuf::from("weights in memory");
    let named = Named {
        net: parse_caffemodel(weights, &file)?,
        file: Some(file),
    };
    load_named(topology, vec![named], options)
}

/// Without topology, the first file says its own.
fn load_named(
    topology: Option<(Named<NetParameter>, Vec<Warning>)>,
    weights: Vec<Named<NetParameter>>,
    options: &ImportOptions,
) -> Result<Imported> {
    let mut weights = weights.into_iter();
    let (topology, mut warnings) = match topology {
        Some(topology) => topology,
        None => match weights.next() {
            Some(first) => {
                let mut warnings = two_roundings(&first.net);
                warnings.extend(odd_names(&first));
                (with_wiring(first)?, warnings)
            }
            None => {
                return Err(Error::new("no files").expected("a prototxt or a caffemodel"));
            }
        },
    };
    let weights: Vec<_> = weights.collect();
    warnings.extend(weights.iter().filter_map(odd_names));
    import_named(topology, weights, options, warnings)
}

/// A warning of names that are not UTF-8 in a binary file; of a text it is told when it is read.
fn odd_names(weights: &Named<NetParameter>) -> Option<Warning> {
    let warning = crate::odd_names(&weights.net)?;
    Some(match &weights.file {
        Some(file) => warning.file(file),
        None => warning,
    })
}

/// Refuses files of nothing but weights (HDF5, stripped caffemodels) as topology.
fn with_wiring(topology: Named<NetParameter>) -> Result<Named<NetParameter>> {
    let Named { net, file } = &topology;
    let wired = net.layer.iter().any(|layer| !layer.bottom.is_empty())
        || net.layers.iter().any(|layer| !layer.bottom.is_empty());
    if wired {
        return Ok(topology);
    }
    let error = Error::new("a file of weights only")
        .expected("layers with bottoms and tops")
        .hint("pass the prototxt too");
    Err(file.iter().fold(error, |error, file| error.file(file)))
}

/// Imports; an error carries the warnings that came before it, those given included.
fn import_named(
    topology: Named<NetParameter>,
    weights: Vec<Named<NetParameter>>,
    options: &ImportOptions,
    warnings: Vec<Warning>,
) -> Result<Imported> {
    match import_all(topology, weights, options) {
        Ok(mut imported) => {
            imported.warnings.splice(0..0, warnings);
            Ok(imported)
        }
        Err(error) => Err(error.after(&warnings)),
    }
}

fn import_all(
    topology: Named<NetParameter>,
    weights: Vec<Named<NetParameter>>,
    options: &ImportOptions,
) -> Result<Imported> {
    let Named { net, file } = topology;
    let in_file = |error: Error| match &file {
        Some(file) => error.file(file),
        None => error,
    };
    let mut net = upgraded(net).map_err(in_file)?;
    let mut warnings = unknown_numbers(&net);
    let mut store = Store::new(options);
    let stored = net.layer.iter().any(|layer| !layer.blobs.is_empty());
    store.add(Named {
        net: &mut net,
        file: file.clone(),
    });
    let mut trained_with = None;
    for Named { net, file } in weights {
        let mut net = upgrade_net(net).map_err(|error| match &file {
            Some(file) => error.file(file),
            None => error,
        })?;
        trained_with = pictures::of(&net, file.as_deref())?.or(trained_with);
        store.add(Named {
            net: &mut net,
            file,
        });
    }
    let all = net.layer.clone();
    let mut net = filtered(net, options, stored).map_err(in_file)?;
    if options.to_train {
        // Those of data layers too, which become inputs.
        unknown::refuse_in_layers(&net)
            .and_then(|()| training::check(&net, options.training))
            .map_err(in_file)?;
    }
    let stays: HashSet<_> = net.layer.iter().map(|l| (&l.name, &l.top)).collect();
    let left_out = all
        .iter()
        .filter(|layer| !stays.contains(&(&layer.name, &layer.top)))
        .map(LeftOut::new)
        .collect();
    let names: Vec<String> = net
        .layer
        .iter()
        .map(|layer| layer.name().to_owned())
        .collect();
    let preprocess = pictures::of(&net, file.as_deref())?.or(trained_with);
    inputs::prepare(&mut net, options).map_err(in_file)?;
    store.note_topology(&net);
    // Weights of layers that the options removed are no surprise.
    let kept: HashSet<&str> = net.layer.iter().map(LayerParameter::name).collect();
    for name in names.iter().filter(|name| !kept.contains(name.as_str())) {
        store.ignore(name);
    }
    let directory = file.as_deref().and_then(Path::parent).map(Path::to_owned);
    let warn_in_file = |warning: Warning| match &file {
        Some(file) => warning.file(file),
        None => warning,
    };
    let built = build::build(&net, store, directory, left_out, options).map_err(|mut error| {
        let own = std::mem::take(&mut error.warnings);
        let own = warnings.iter().cloned().chain(own);
        error.warnings = own.map(warn_in_file).collect();
        in_file(asked_shape(error, options))
    })?;
    warnings.extend(built.warnings);
    let mut warnings: Vec<Warning> = warnings.into_iter().map(warn_in_file).collect();
    for (layer, file) in built.store.unused() {
        warnings.push(unused_weights(layer, file));
    }
    let takes_pictures = match built.graph.inputs[..] {
        [input] => built.graph.shape(input).rank() == 4,
        _ => false,
    };
    Ok(Imported {
        graph: built.graph,
        training: built.training,
        preprocess: preprocess.filter(|_| takes_pictures),
        warnings,
    })
}

/// Number 13 of a pooling's parameters is BVLC's round_mode; forks that had a ceil_mode before gave it
/// the same number, and a file does not tell which it is.
fn two_roundings(net: &NetParameter) -> Vec<Warning> {
    let rounded = |layer: &&LayerParameter| {
        let pooling = layer.pooling_param.as_deref();
        pooling.is_some_and(|pooling| pooling.round_mode.is_some())
    };
    let mut layers = net.layer.iter().filter(rounded);
    let Some(first) = layers.next() else {
        return Vec::new();
    };
    let more = match layers.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    vec![Warning::new(format!(
        "layer \"{}\"{more}: field 13 of PoolingParameter is read as round_mode, but some forks write \
         ceil_mode there, with the opposite sense; pass the prototxt to be sure",
        first.name()
    ))]
}

/// Fields outside of layers that a binary file has; those of a text have been told when it was read.
fn unknown_numbers(net: &NetParameter) -> Vec<Warning> {
    let outside = NetParameter {
        unknown_fields: net.unknown_fields.clone(),
        ..NetParameter::default()
    };
    let mut found = unknown::of_net(&outside);
    found.retain(|unknown| unknown.position.is_none());
    unknown::warnings(&found)
}

/// Weights that do not fit may do so because another input shape was asked for.
fn asked_shape(error: Error, options: &ImportOptions) -> Error {
    let weights = error
        .field
        .as_ref()
        .is_some_and(|field| field.starts_with("blobs["));
    match &options.input_shape {
        Some(shape) if weights => error.hint(format!(
            "the weights fix another size than inputs of {shape}, the shape asked for, lead to"
        )),
        _ => error,
    }
}

fn unused_weights(layer: &str, file: Option<&PathBuf>) -> Warning {
    let warning = Warning::new(format!("weights of layer {layer:?} are not used"));
    match file {
        Some(file) => warning.file(file),
        None => warning,
    }
}

/// Upgrades old formats. A topology with input names but no dims keeps an Input layer, which then
/// needs a shape.
fn upgraded(net: NetParameter) -> Result<NetParameter> {
    let inputs = net.input.clone();
    let mut net = upgrade_net(net)?;
    let made = tops(&net);
    let missing: Vec<String> = inputs
        .into_iter()
        .filter(|name| !made.contains(name))
        .collect();
    if !missing.is_empty() {
        let input = LayerParameter {
            name: Some("input".to_owned()),
            r#type: Some("Input".to_owned()),
            top: missing,
            ..LayerParameter::default()
        };
        net.layer.insert(0, input);
    }
    Ok(net)
}

/// Applies the rules of the phase. A caffemodel holds the network that was trained, whose data
/// layers are of the TRAIN phase: where nothing else makes their blobs, they stay as inputs.
fn filtered(net: NetParameter, options: &ImportOptions, stored: bool) -> Result<NetParameter> {
    let state = NetState {
        phase: Some(if options.training {
            Phase::Train
        } else {
            Phase::Test
        } as i32),
        level: Some(options.level),
        stage: options.stages.clone(),
        ..NetState::default()
    };
    let data: Vec<LayerParameter> = if stored && options.data_to_input {
        let is_data = |layer: &&LayerParameter| inputs::DATA_TYPES.contains(&layer.r#type());
        net.layer.iter().filter(is_data).cloned().collect()
    } else {
        Vec::new()
    };
    let mut net = filter_net(net, &state)?;
    let mut made = if data.is_empty() {
        HashSet::new()
    } else {
        tops(&net)
    };
    let mut kept = Vec::new();
    for layer in data.into_iter().rev() {
        if !layer.top.iter().any(|top| made.contains(top)) {
            made.extend(layer.top.iter().cloned());
            kept.push(layer);
        }
    }
    net.layer.splice(0..0, kept.into_iter().rev());
    Ok(net)
}

/// Names of all blobs that layers make.
fn tops(net: &NetParameter) -> HashSet<String> {
    let tops = net.layer.iter().flat_map(|layer| &layer.top);
    tops.cloned().collect()
}
