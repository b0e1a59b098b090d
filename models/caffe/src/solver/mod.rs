//! Solver definitions as values: what they say, checked, and the networks that they name.

mod field;
mod networks;
mod rate;
mod settings;

pub use networks::Networks;
pub use rate::Policy;
pub use settings::{Rule, Settings};

use crate::definition::Definition;
use crate::proto::solver_parameter::SolverMode;
use crate::proto::{NetParameter, SolverParameter};
use crate::{paths, read_solver_definition, text, unknown, upgrade::upgrade_solver};
use skimjit_models::{Care, Error, Result, Warning};
use std::path::{Path, PathBuf};

/// A solver definition, and the file that it is from.
#[derive(Clone, Debug, Default)]
pub struct SolverDefinition {
    solver: SolverParameter,
    file: PathBuf,
}

impl SolverDefinition {
    /// Reads a definition, in today's form, and tells its warnings.
    pub fn read(path: &Path, care: Care, tell: &mut dyn FnMut(&Warning)) -> Result<Self> {
        Ok(Self {
            solver: read_solver_definition(path, care, tell)?,
            file: path.to_owned(),
        })
    }

    /// Parses fields that a program has put together: places in the text mean nothing to who reads an error.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>)> {
        let parsed = text::solver(text.as_bytes());
        let (solver, warnings) = parsed.map_err(|error| Error {
            position: None,
            ..error
        })?;
        let file = PathBuf::new();
        Ok((Self { solver, file }, warnings))
    }

    /// Brings it to today's form.
    pub fn upgraded(mut self) -> Result<Self> {
        upgrade_solver(&mut self.solver)?;
        Ok(self)
    }

    /// As a prototxt.
    pub fn text(&self) -> String {
        text::solver_text(&self.solver)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Definitions of networks inside of it.
    fn inline(&self) -> impl Iterator<Item = &NetParameter> {
        let solver = &self.solver;
        let trained = solver.net_param.iter().chain(&solver.train_net_param);
        trained.chain(&solver.test_net_param)
    }

    /// Refuses networks inside of it with unknown fields, which a text of it would lack.
    pub fn refuse_unknown(&self) -> Result<()> {
        let checked = self.inline().try_for_each(unknown::refuse_in_text);
        checked.map_err(|error| error.file(&self.file))
    }

    /// Makes names of files absolute where files are found, so that a copy in any folder means the same ones.
    pub fn anchor(&mut self) {
        let folder = self.folder().to_owned();
        paths::anchor_solver(&mut self.solver, &folder);
    }

    /// Names the network.
    pub fn set_net(&mut self, file: &Path) {
        self.solver.net = Some(file.display().to_string());
    }

    /// Has the network inside of it.
    #[must_use]
    pub fn with_net(mut self, net: Definition) -> Self {
        self.file = net.file().to_owned();
        self.solver.net = None;
        self.solver.net_param = Some(net.net);
        self
    }

    /// Names where snapshots go.
    pub fn set_snapshot_prefix(&mut self, prefix: &Path) {
        self.solver.snapshot_prefix = Some(prefix.display().to_string());
    }

    /// Iterations in all.
    pub fn iterations(&self) -> u64 {
        u64::try_from(self.solver.max_iter()).unwrap_or(0)
    }

    /// What it says of the regularisation of parameters that say nothing themselves.
    pub fn regularization(&self) -> Option<&str> {
        let said = self.solver.regularization_type.as_deref();
        said.filter(|said| !said.is_empty())
    }

    /// Whether it asks for a GPU.
    pub fn asks_for_gpu(&self) -> bool {
        self.solver.solver_mode == Some(SolverMode::Gpu as i32)
    }

    /// What to tell of names of networks that mean two files.
    pub fn ambiguities(&self) -> Vec<String> {
        let nets = self.solver.net.iter().chain(&self.solver.train_net);
        let nets = nets.chain(&self.solver.test_net);
        nets.filter_map(|name| paths::ambiguity(name, self.folder()))
            .collect()
    }

    /// Files of weights to start from.
    pub fn weights(&self) -> Vec<PathBuf> {
        let lists = self.solver.weights.iter();
        let names = lists.flat_map(|list| list.split(','));
        names
            .map(|name| paths::find(name.trim(), self.folder()))
            .collect()
    }

    /// What it says, checked.
    pub fn settings(&self) -> Result<Settings> {
        Settings::new(&self.solver, self.snapshot_prefix())
    }

    /// Where snapshots go; when it does not say: beside it, under its name.
    fn snapshot_prefix(&self) -> String {
        let said = Path::new(self.solver.snapshot_prefix());
        let stem = self.file.file_stem().unwrap_or_default();
        match self.solver.snapshot_prefix() {
            "" => self.file.with_extension("").display().to_string(),
            _ if said.is_dir() => said.join(stem).display().to_string(),
            prefix => prefix.to_owned(),
        }
    }
}
