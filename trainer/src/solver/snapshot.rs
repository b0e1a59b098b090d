//! Snapshots: caffemodel and solverstate as Caffe's, and beside them what pruning methods keep.
//!
//! Every file appears whole or not at all. The solverstate comes last, so that where there is one, the rest is there too.

use super::method::MethodStates;
use super::report::{Metrics, Report};
use super::run::Run;
use crate::engine::{Engine, NetId};
use skimjit_caffe::proto::{
    BlobProto, BlobShape, LayerParameter, NetParameter, SolverParameter, SolverState,
};
use skimjit_caffe::{
    blob, read_caffemodel, read_solverstate, upgrade::upgrade_net, write_caffemodel,
    write_caffemodel_hdf5, write_solverstate, write_solverstate_hdf5,
};
use skimjit_models::{Error, Place, Result, Shape};
use std::fs;
use std::path::{Path, PathBuf};

/// State of a run as a snapshot has it.
pub struct Resumed {
    /// Iterations done.
    pub iteration: u64,
    /// The weights.
    pub weights: NetParameter,
    state: SolverState,
    /// Masks, shadows, and the methods' own state.
    extra: Option<NetParameter>,
    file: PathBuf,
}

impl Resumed {
    /// Reads a solverstate and what belongs to it.
    pub fn read(path: &Path) -> Result<Self> {
        let state = read_solverstate(path)?;
        check_whole(&state).map_err(|error| error.file(path))?;
        let iteration = u64::try_from(state.iter()).map_err(|_| {
            Error::new(state.iter().to_string())
                .file(path)
                .field("iter")
                .expected("0 or more")
        })?;
        let weights = read_caffemodel(&learned_net(&state, path)?)?;
        let extra = sibling(path, EXTRA);
        Ok(Self {
            iteration,
            weights: upgrade_net(weights)?,
            extra: extra
                .exists()
                .then(|| read_caffemodel(&extra))
                .transpose()?,
            state,
            file: path.to_owned(),
        })
    }

    /// State of the methods.
    pub(super) fn methods(&self) -> Result<MethodStates> {
        let Some(text) = self
            .extra
            .as_ref()
            .map(NetParameter::name)
            .filter(|text| !text.is_empty())
        else {
            return Ok(MethodStates::default());
        };
        serde_json::from_str(text).map_err(|error| {
            Error::new(format!(
                "a state of the methods that cannot be read: {error}"
            ))
            .file(sibling(&self.file, EXTRA))
        })
    }

    /// Takes over histories, masks and shadows.
    pub(super) fn apply(self, run: &mut Run) -> Result<()> {
        run.iteration = self.iteration;
        run.current_step = self.state.current_step();
        let params = run.engine.params().len();
        let arrays = run.settings.rule.histories();
        let found = self.state.history.len();
        if found != params * arrays {
            return Err(Error::new(format!("{found} arrays"))
                .file(&self.file)
                .field("history")
                .expected(format!(
                    "{} for the {params} parameters of the network",
                    params * arrays
                ))
                .hint("go on with the network and the solver type that the snapshot is from"));
        }
        for (number, mut blob) in self.state.history.into_iter().enumerate() {
            let (array, index) = (number / params, number % params);
            let at = |error: Error| error.file(&self.file).field(format!("history[{number}]"));
            let data = blob::take_tensor(&mut blob).map_err(at)?.into_data();
            let mut wrong = None;
            run.engine.edit(index, &mut |param, state| {
                if data.len() != param.shape.count() {
                    wrong = Some(
                        Error::new(format!("{} elements", data.len()))
                            .layer(param.layer.clone())
                            .expected(format!("{} as {}", param.shape.count(), param.name())),
                    );
                    return;
                }
                state.history.resize_with(arrays, Vec::new);
                state.history[array].clone_from(&data);
            });
            if let Some(error) = wrong {
                return Err(at(error));
            }
        }
        match self.extra {
            Some(extra) => restore_extra(run, extra),
            None => Ok(()),
        }
    }
}

/// Caffe writes these fields always, `current_step` last: one that is missing was cut off, and its default
/// would be taken for it.
fn check_whole(state: &SolverState) -> Result<()> {
    let needed = [
        ("iter", state.iter.is_some()),
        ("learned_net", state.learned_net.is_some()),
        ("current_step", state.current_step.is_some()),
    ];
    let missing = needed.iter().find(|(_, is_there)| !is_there);
    missing.map_or(Ok(()), |(field, _)| {
        Err(Error::new("nothing")
            .field(*field)
            .expected("a value, as in every state of a solver")
            .hint("the file is cut off: copy it again, or go on from an earlier snapshot"))
    })
}

/// Extension of the file of what Caffe does not know.
const EXTRA: &str = "prunestate";

/// Another file of the snapshot of a solverstate.
fn sibling(state: &Path, extension: &str) -> PathBuf {
    let without = match state.extension() {
        Some(last) if last == "h5" => state.with_extension(""),
        _ => state.to_owned(),
    };
    without.with_extension(extension)
}

/// The caffemodel that a solverstate names, where it says or beside it.
fn learned_net(state: &SolverState, path: &Path) -> Result<PathBuf> {
    let named = PathBuf::from(state.learned_net());
    let beside = |name: &Path| path.parent().map(|folder| folder.join(name));
    let by_name = named.file_name().and_then(|name| beside(Path::new(name)));
    let own = sibling(path, "caffemodel");
    let own_hdf5 = sibling(path, "caffemodel.h5");
    let choices = [Some(named.clone()), by_name, Some(own), Some(own_hdf5)];
    let found = choices.into_iter().flatten().find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::new(format!(
            "{:?}, which is not there",
            named.display().to_string()
        ))
        .file(path)
        .field("learned_net")
        .expected("the caffemodel of the same snapshot")
        .hint("put it beside the solverstate")
    })
}

fn restore_extra(run: &mut Run, extra: NetParameter) -> Result<()> {
    for mut layer in extra.layer {
        let Some((name, what)) = layer
            .name()
            .rsplit_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
        else {
            continue;
        };
        let Some(blob) = layer.blobs.first_mut() else {
            continue;
        };
        let data = blob::take_tensor(blob)?.into_data();
        let params = run.engine.params();
        let fits =
            |param: &crate::param::Param| param.name() == name && param.shape.count() == data.len();
        let Some(index) = params.iter().position(fits) else {
            continue;
        };
        run.engine.edit(index, &mut |_, state| match what.as_str() {
            "mask" => state.mask = Some(data.clone()),
            _ => state.shadow = Some(data.clone()),
        });
    }
    Ok(())
}

/// Values with the current kind of shape.
fn blob(shape: &Shape, data: Vec<f32>) -> BlobProto {
    BlobProto {
        shape: Some(BlobShape {
            dim: shape.dims().iter().map(|&dim| dim.into()).collect(),
            ..BlobShape::default()
        }),
        data,
        ..BlobProto::default()
    }
}

/// Values of all parameters of an engine, perhaps with their gradients.
pub fn blobs(engine: &mut dyn Engine, with_gradients: bool) -> Vec<BlobProto> {
    let mut all = Vec::new();
    for index in 0..engine.params().len() {
        engine.read(index, &mut |param, state| {
            let mut blob = blob(&param.shape, state.data.clone());
            if with_gradients {
                blob.diff.clone_from(&state.gradient);
            }
            all.push(blob);
        });
    }
    all
}

/// The parameters of a network, each with the places that store it, the owner first.
pub fn stored(engine: &dyn Engine, id: NetId) -> Vec<(usize, &[Place])> {
    let net = engine.net(id);
    let all = net.training.parameters.iter().filter_map(|parameter| {
        let owner = &parameter.places[0];
        let mut params = engine.params().iter();
        let index =
            params.position(|param| param.layer == owner.layer && param.index == owner.index);
        Some((index?, &parameter.places[..]))
    });
    all.collect()
}

/// A blob of a layer, which has it then.
pub fn blob_at(layer: &mut LayerParameter, index: usize) -> &mut BlobProto {
    if layer.blobs.len() <= index {
        layer.blobs.resize_with(index + 1, BlobProto::default);
    }
    &mut layer.blobs[index]
}

/// Makes the folder of a file of the snapshot and has it written; an error says that nothing is lost.
fn save(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(|error| Error::unwritable(path, &error))
        .and_then(|()| write(path))
        .map_err(|error| {
            error.hint("check the folder and the free space; earlier snapshots are still there")
        })
}

impl Run {
    /// Writes a snapshot of the state after the last iteration; the path of the solverstate.
    pub fn snapshot(&mut self, report: &mut dyn Report) -> Result<PathBuf> {
        self.check_finite()?;
        let path = |extension: &str| {
            PathBuf::from(format!(
                "{}_iter_{}.{extension}",
                self.settings.snapshot_prefix, self.iteration
            ))
        };
        let hdf5 = self.settings.snapshot_hdf5;
        let (suffix, format) = if hdf5 {
            (".h5", "HDF5")
        } else {
            ("", "binary proto")
        };
        let model = path(&format!("caffemodel{suffix}"));
        let state = path(&format!("solverstate{suffix}"));
        let extra = path(EXTRA);
        report.line(&format!(
            "Snapshotting to {format} file {}",
            model.display()
        ));
        let net = self.trained();
        self.engine.check()?;
        save(&model, |path| match hdf5 {
            true => write_caffemodel_hdf5(&net, path),
            false => write_caffemodel(&net, path),
        })?;
        drop(net);
        let extra_net = self.extra();
        self.engine.check()?;
        if let Some(net) = extra_net {
            save(&extra, |path| write_caffemodel(&net, path))?;
        }
        report.line(&format!(
            "Snapshotting solver state to {format} file {}",
            state.display()
        ));
        let solver = self.solver_state(&model);
        self.engine.check()?;
        save(&state, |path| match hdf5 {
            true => write_solverstate_hdf5(&solver, path),
            false => write_solverstate(&solver, path),
        })?;
        self.snapshot_at = Some(self.iteration);
        report.metrics(&Metrics::Snapshot {
            iteration: self.iteration,
            file: model.display().to_string(),
        });
        Ok(state)
    }

    /// Refuses to keep weights that nothing can go on from.
    fn check_finite(&mut self) -> Result<()> {
        let mut wrong = None;
        for index in 0..self.treatments.len() {
            self.engine.read(index, &mut |param, state| {
                if wrong.is_none() && state.data.iter().any(|w| !w.is_finite()) {
                    wrong = Some((param.layer.clone(), param.index));
                }
            });
        }
        match wrong {
            None => Ok(()),
            Some((layer, index)) => Err(Error::new(format!(
                "infinite weights after iteration {}",
                self.iteration
            ))
            .layer(layer)
            .field(format!("blobs[{index}]"))
            .expected("finite numbers")
            .hint("lower base_lr, or set clip_gradients; earlier snapshots are still there")),
        }
    }

    /// The network as it is, with its weights.
    pub fn trained(&mut self) -> NetParameter {
        let values = blobs(self.engine.as_mut(), self.settings.snapshot_diff);
        let net = self.engine.net(self.net);
        let mut definition = net.definition.clone();
        for (index, places) in stored(self.engine.as_ref(), self.net) {
            // As Caffe, which stores a shared parameter once in HDF5.
            let shown = match self.settings.snapshot_hdf5 {
                true => &places[..1],
                false => places,
            };
            for place in shown {
                let mut layers = definition.layer.iter_mut();
                if let Some(layer) = layers.find(|layer| layer.name() == place.layer) {
                    *blob_at(layer, place.index) = values[index].clone();
                }
            }
        }
        definition
    }

    fn solver_state(&mut self, model: &Path) -> SolverState {
        let arrays = self.settings.rule.histories();
        let mut history = vec![Vec::new(); arrays];
        for index in 0..self.treatments.len() {
            self.engine.read(index, &mut |param, state| {
                for (array, all) in history.iter_mut().enumerate() {
                    let zeros = || vec![0.0; param.shape.count()];
                    let data = state
                        .history
                        .get(array)
                        .filter(|data| !data.is_empty())
                        .cloned();
                    all.push(blob(&param.shape, data.unwrap_or_else(zeros)));
                }
            });
        }
        SolverState {
            iter: i32::try_from(self.iteration).ok(),
            learned_net: Some(model.display().to_string()),
            history: history.into_iter().flatten().collect(),
            current_step: Some(self.current_step),
            ..SolverState::default()
        }
    }

    /// Masks, shadows and the state of methods, where there are any.
    fn extra(&mut self) -> Option<NetParameter> {
        let mut layers = Vec::new();
        for index in 0..self.treatments.len() {
            self.engine.read(index, &mut |param, state| {
                for (what, data) in [("mask", &state.mask), ("shadow", &state.shadow)] {
                    if let Some(data) = data {
                        layers.push(LayerParameter {
                            name: Some(format!("{} {what}", param.name())),
                            blobs: vec![blob(&param.shape, data.clone())],
                            ..LayerParameter::default()
                        });
                    }
                }
            });
        }
        let states = self.methods.iter();
        let states = states.map(|(name, method)| (name.clone(), method.save()));
        let states: serde_json::Map<_, _> = states.filter(|(_, state)| !state.is_null()).collect();
        let any = !states.is_empty();
        (any || !layers.is_empty()).then(|| NetParameter {
            name: any.then(|| serde_json::Value::Object(states).to_string()),
            layer: layers,
            ..NetParameter::default()
        })
    }
}

/// Where snapshots go when the solver does not say: beside it, under its name.
pub fn default_prefix(solver: &SolverParameter, file: &Path) -> String {
    let said = Path::new(solver.snapshot_prefix());
    let stem = file.file_stem().unwrap_or_default();
    match solver.snapshot_prefix() {
        "" => file.with_extension("").display().to_string(),
        _ if said.is_dir() => said.join(stem).display().to_string(),
        prefix => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_ends_between_two_fields_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.solverstate");
        let state = SolverState {
            iter: Some(7),
            learned_net: Some("a.caffemodel".to_owned()),
            current_step: Some(1),
            history: vec![blob(&Shape::new([2]).unwrap(), vec![1.0, 2.0])],
            ..SolverState::default()
        };
        write_solverstate(&state, &path).unwrap();
        write_caffemodel(
            &NetParameter {
                name: Some("a".to_owned()),
                ..NetParameter::default()
            },
            &folder.path().join("a.caffemodel"),
        )
        .unwrap();
        assert_eq!(Resumed::read(&path).unwrap().iteration, 7);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Resumed::read(&path).is_err(), "{length}");
        }
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let text = Resumed::read(&path).err().unwrap().to_string();
        assert!(
            text.contains("current_step: found nothing, expected"),
            "{text}"
        );
    }
}
