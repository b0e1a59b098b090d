//! A network's definition as a value: its layers, the file that it is from, and the state that chooses among them.

use crate::filter::{filter_net, merge};
use crate::import::{ImportOptions, import};
use crate::proto::{NetParameter, NetState, ParamSpec};
use crate::weights::Weights;
use crate::{Phase, parse_prototxt, paths, read_definition, text, unknown, upgrade::upgrade_net};
use skimjit_models::{Care, Imported, Result, Warning};
use std::path::{Path, PathBuf};

/// A definition, in today's form. Without a state it is one of phase TEST.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    pub(crate) net: NetParameter,
    file: PathBuf,
    state: NetState,
}

impl Definition {
    /// A definition from a message of any form.
    pub(crate) fn new(net: NetParameter, file: &Path) -> Result<Self> {
        Ok(Self {
            net: upgrade_net(net)?,
            file: file.to_owned(),
            state: NetState::default(),
        })
    }

    /// Reads a definition, tells its warnings, and finds the matrices of its losses: data layers look for their
    /// files themselves.
    pub fn read(path: &Path, care: Care, tell: &mut dyn FnMut(&Warning)) -> Result<Self> {
        let mut net = read_definition(path, care, tell)?;
        paths::find_matrices(&mut net, path.parent().unwrap_or(Path::new("")));
        Ok(Self {
            net,
            file: path.to_owned(),
            state: NetState::default(),
        })
    }

    /// Parses a definition, dropping the warnings; `name` stands for the file.
    pub fn parse(text: &str, name: impl AsRef<Path>) -> Result<Self> {
        let (net, _) = parse_prototxt(text, &name)?;
        Self::new(net, name.as_ref())
    }

    /// The file that it is from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of its file, in which other files are looked for.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The same layers in a phase.
    #[must_use]
    pub fn in_phase(self, phase: Phase) -> Self {
        self.with_rules(phase, None, &[])
    }

    /// The same layers in a phase, with what else their rules ask for.
    #[must_use]
    pub fn with_rules(self, phase: Phase, level: Option<i32>, stages: &[String]) -> Self {
        self.in_state(NetState {
            phase: Some(phase as i32),
            level,
            stage: stages.to_vec(),
            ..NetState::default()
        })
    }

    pub(crate) fn in_state(self, state: NetState) -> Self {
        Self { state, ..self }
    }

    /// The phase that it is in.
    pub fn phase(&self) -> Phase {
        merge(self.net.state.as_ref(), &self.state).phase()
    }

    /// The layers of its state, as messages.
    pub fn layers(&self) -> Result<NetParameter> {
        filter_net(self.net.clone(), &self.state)
    }

    /// The layers of its state without arrays: what files of weights are made of.
    pub fn without_weights(&self) -> Result<Weights> {
        let mut net = self.layers()?;
        for layer in &mut net.layer {
            layer.blobs.clear();
            layer.phase.get_or_insert(self.phase() as i32);
        }
        Ok(Weights(net))
    }

    /// The layers of any state with the arrays of a file; `None`: no layer of the file is among them.
    pub fn with_weights(mut self, file: Weights) -> Option<Weights> {
        let mut matched = false;
        let layers = file.0.layer.into_iter();
        for layer in layers.filter(|layer| !layer.blobs.is_empty()) {
            let mut targets = self.net.layer.iter_mut();
            if let Some(target) = targets.find(|target| target.name() == layer.name()) {
                target.blobs = layer.blobs;
                matched = true;
            }
        }
        matched.then_some(Weights(self.net))
    }

    /// Imports the layers of its state, with weights, later ones over earlier ones.
    pub fn import(&self, weights: &[Weights], options: ImportOptions) -> Result<Imported> {
        let options = ImportOptions {
            level: self.state.level(),
            stages: self.state.stage.clone(),
            training: self.phase() == Phase::Train,
            ..options
        };
        let weights = weights.iter().map(|weights| weights.0.clone());
        import(self.net.clone(), weights.collect(), &options)
    }

    /// Refuses layers, of any state, with unknown fields.
    pub fn refuse_unknown(&self) -> Result<()> {
        unknown::refuse_in_layers(&self.net).map_err(|error| error.file(&self.file))
    }

    /// As a prototxt.
    pub fn text(&self) -> String {
        text::net_text(&self.net)
    }

    /// Whether there is a layer of that type.
    pub fn has(&self, kind: &str) -> bool {
        self.net.layer.iter().any(|layer| layer.r#type() == kind)
    }

    /// What layers say of the regularisation of their parameters.
    pub fn regularizations(&self) -> impl Iterator<Item = &str> {
        let specs = self.net.layer.iter().flat_map(|layer| &layer.param);
        specs.filter_map(|spec| spec.regularization_type.as_deref())
    }

    /// Sets the regularisation of a layer's weights; whether there is that layer.
    pub fn regularize(&mut self, name: &str, kind: &str) -> bool {
        let layers = self.net.layer.iter_mut();
        let mut found = false;
        for layer in layers.filter(|layer| layer.name() == name) {
            let count = layer.param.len().max(1);
            layer.param.resize_with(count, ParamSpec::default);
            layer.param[0].regularization_type = Some(kind.to_owned());
            found = true;
        }
        found
    }

    /// Replaces the sources of data layers that `place` knows.
    pub fn place_data(&mut self, place: impl Fn(&str) -> Option<PathBuf>) {
        for layer in &mut self.net.layer {
            let base = layer.data_param.as_mut().map(|param| &mut param.source);
            let images = layer.image_data_param.as_mut();
            let images = images.map(|param| &mut param.source);
            let arrays = layer.hdf5_data_param.as_mut();
            let arrays = arrays.map(|param| &mut param.source);
            for source in [base, images, arrays].into_iter().flatten() {
                if let Some(path) = source.as_deref().and_then(&place) {
                    *source = Some(path.display().to_string());
                }
            }
        }
    }

    /// Makes names of files absolute where files are found, so that a copy in any folder means the same ones.
    pub fn anchor(&mut self) {
        let folder = self.folder().to_owned();
        paths::anchor(&mut self.net, &folder);
    }
}
