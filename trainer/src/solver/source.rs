//! The networks that a solver definition names, with their data.

use super::field::fault;
use crate::net::{Net, NetSource};
use crate::paths;
use skimjit_caffe::filter::{filter_net, merge};
use skimjit_caffe::proto::{NetParameter, NetState, Phase, SolverParameter};
use skimjit_caffe::{read_definition, upgrade::upgrade_net};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Care, Warning};
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// A definition and where it is from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Upgraded, all phases.
    pub definition: NetParameter,
    /// File of the definition.
    pub file: PathBuf,
    /// Phase, level, stages.
    pub state: NetState,
}

/// A network with its data.
pub struct Fed {
    /// The network.
    pub net: Net,
    /// Its batches.
    pub feed: Feed,
    /// For each input of the network, the number of its blob in the feed.
    pub order: Vec<usize>,
}

/// How a network is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// Weights, later ones over earlier ones.
    pub weights: &'a [NetParameter],
    /// Seed of fillers and of data.
    pub seed: u64,
    /// Batches that are left out.
    pub skip: u64,
}

impl Source {
    /// Opens the data and builds the network.
    pub fn build(&self, options: &BuildOptions<'_>) -> Result<Fed> {
        self.build_here(options)
            .map_err(|error| error.file(&self.file))
    }

    /// Opens the data alone.
    pub fn feed(&self, options: &BuildOptions<'_>) -> Result<Feed> {
        let more = FeedOptions {
            seed: options.seed,
            ahead: 2,
            skip: options.skip,
            ..FeedOptions::default()
        };
        feed(&self.definition, &self.file, &self.state, more)
    }

    fn build_here(&self, options: &BuildOptions<'_>) -> Result<Fed> {
        let feed = self.feed(options)?;
        let source = NetSource {
            definition: &self.definition,
            state: &self.state,
            weights: options.weights,
            blobs: feed.blobs(),
            seed: options.seed,
        };
        let net = source.build()?;
        let order = order(&net, &feed)?;
        Ok(Fed { net, feed, order })
    }
}

/// Opens the data of a definition in a file.
pub fn feed(
    definition: &NetParameter,
    file: &Path,
    state: &NetState,
    options: FeedOptions,
) -> Result<Feed> {
    let options = FeedOptions {
        phase: merge(definition.state.as_ref(), state).phase(),
        folder: file.parent().map(Path::to_owned),
        ..options
    };
    Feed::open(&filter_net(definition.clone(), state)?, &options)
}

/// For each input of the network, the number of its blob in the feed.
pub fn order(net: &Net, feed: &Feed) -> Result<Vec<usize>> {
    let place = |&id: &skimjit_models::ValueId| {
        let name = &net.graph.value(id).name;
        let found = feed.blobs().iter().position(|blob| blob.name == *name);
        found.ok_or_else(|| {
            Error::new(format!("input {name:?} without data"))
                .expected("a Data, ImageData, HDF5Data or DummyData layer of that phase")
                .hint("give the train_val prototxt, not the deploy prototxt")
        })
    };
    net.graph.inputs.iter().map(place).collect()
}

/// All networks of a solver.
#[derive(Clone, Debug)]
pub struct Sources {
    /// To train.
    pub train: Source,
    /// To test.
    pub tests: Vec<Source>,
}

/// Finds the networks of the solver definition in `file`. What is odd about their files is told once.
pub fn sources(
    solver: &SolverParameter,
    file: &Path,
    care: Care,
    tell: &mut dyn FnMut(&Warning),
) -> Result<Sources> {
    let mut told: Vec<Warning> = Vec::new();
    let mut once = |warning: &Warning| {
        if !told.contains(warning) {
            told.push(warning.clone());
            tell(warning);
        }
    };
    let reader = &mut Reader {
        file,
        care,
        tell: &mut once,
    };
    let generic = one_of(
        solver.net.as_deref().filter(|net| !net.is_empty()),
        solver.net_param.as_ref(),
        "net",
        reader,
    )?;
    let own = one_of(
        solver.train_net.as_deref().filter(|net| !net.is_empty()),
        solver.train_net_param.as_ref(),
        "train_net",
        reader,
    )?;
    let (definition, from) = match (&generic, own) {
        (Some(_), Some(_)) => {
            return Err(fault("net", "net and train_net".to_owned()).expected("one of them"));
        }
        (Some(net), None) => net.clone(),
        (None, Some(net)) => net,
        (None, None) => {
            return Err(fault("net", "nothing".to_owned()).expected("the prototxt of the network"));
        }
    };
    let train = Source {
        definition,
        file: from,
        state: merge(
            Some(&phase(Phase::Train)),
            &solver.train_state.clone().unwrap_or_default(),
        ),
    };
    let tests = tests(solver, reader, generic)?;
    Ok(Sources { train, tests })
}

type Definition = (NetParameter, PathBuf);

/// Reads the definitions that a solver names.
struct Reader<'a> {
    /// The solver's.
    file: &'a Path,
    care: Care,
    tell: &'a mut dyn FnMut(&Warning),
}

fn tests(
    solver: &SolverParameter,
    reader: &mut Reader<'_>,
    generic: Option<Definition>,
) -> Result<Vec<Source>> {
    let mut definitions: Vec<Definition> = Vec::new();
    for net in &solver.test_net_param {
        definitions.push((upgrade_net(net.clone())?, reader.file.to_owned()));
    }
    for net in &solver.test_net {
        definitions.push(reader.read(net)?);
    }
    let wanted = solver.test_iter.len();
    let expected = match &generic {
        Some(net) => {
            definitions.extend(std::iter::repeat_n(
                net.clone(),
                wanted.saturating_sub(definitions.len()),
            ));
            "one per test network at least"
        }
        None => "one per test network",
    };
    if definitions.len() != wanted {
        return Err(fault(
            "test_iter",
            format!("{wanted} values for {} test networks", definitions.len()),
        )
        .expected(expected));
    }
    if !solver.test_state.is_empty() && solver.test_state.len() != wanted {
        return Err(
            fault("test_state", format!("{} of them", solver.test_state.len())).expected(format!(
                "{wanted}, as there are values of test_iter, or none"
            )),
        );
    }
    let test = |(index, (definition, file)): (usize, Definition)| Source {
        definition,
        file,
        state: merge(
            Some(&phase(Phase::Test)),
            &solver.test_state.get(index).cloned().unwrap_or_default(),
        ),
    };
    Ok(definitions.into_iter().enumerate().map(test).collect())
}

/// The state of a phase alone.
pub fn phase(phase: Phase) -> NetState {
    NetState {
        phase: Some(phase as i32),
        ..NetState::default()
    }
}

fn one_of(
    path: Option<&str>,
    inline: Option<&NetParameter>,
    field: &str,
    reader: &mut Reader<'_>,
) -> Result<Option<Definition>> {
    match (path, inline) {
        (Some(_), Some(_)) => {
            Err(fault(field, format!("{field} and {field}_param")).expected("one of them"))
        }
        (Some(path), None) => reader
            .read(path)
            .map(Some)
            .map_err(|error| error.field(field)),
        (None, Some(net)) => Ok(Some((upgrade_net(net.clone())?, reader.file.to_owned()))),
        (None, None) => Ok(None),
    }
}

impl Reader<'_> {
    /// A definition by its path.
    fn read(&mut self, path: &str) -> Result<Definition> {
        let path = paths::find(path, self.file.parent().unwrap_or(Path::new("")));
        let mut net = read_definition(&path, self.care, self.tell)?;
        paths::find_matrices(&mut net, path.parent().unwrap_or(Path::new("")));
        Ok((net, path))
    }
}
