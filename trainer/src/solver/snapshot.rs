//! Snapshots: caffemodel and solverstate as Caffe's, and beside them what pruning methods keep.
//!
//! Every file appears whole or not at all. The solverstate comes last, so that where there is one, the rest is there too.

use super::method::MethodStates;
use super::report::{Metrics, Report};
use super::run::Run;
use crate::engine::{Engine, NetId};
use skimjit_caffe::{Array, SolverState, Weights};
use skimjit_models::{Error, Place, Result, Tensor};
use std::fs;
use std::path::{Path, PathBuf};

/// State of a run as a snapshot has it.
pub struct Resumed {
    /// Iterations done.
    pub iteration: u64,
    /// The weights.
    pub weights: Weights,
    state: SolverState,
    /// The methods' own state, masks and shadows.
    extra: Option<(String, Vec<(String, Tensor)>)>,
    file: PathBuf,
}

impl Resumed {
    /// Reads a solverstate and what belongs to it.
    pub fn read(path: &Path) -> Result<Self> {
        let state = SolverState::read(path)?;
        let weights = Weights::read(&learned_net(&state, path)?)?;
        let extra = sibling(path, EXTRA);
        let read = || {
            let arrays = Weights::read(&extra)?.into_arrays();
            arrays.map_err(|error| error.file(&extra))
        };
        Ok(Self {
            iteration: state.iteration,
            weights,
            extra: extra.exists().then(read).transpose()?,
            state,
            file: path.to_owned(),
        })
    }

    /// State of the methods.
    pub(super) fn methods(&self) -> Result<MethodStates> {
        let text = self.extra.as_ref().map(|(text, _)| text.as_str());
        let Some(text) = text.filter(|text| !text.is_empty()) else {
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
        run.current_step = self.state.current_step;
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
        for (number, values) in self.state.history.into_iter().enumerate() {
            let (array, index) = (number / params, number % params);
            let at = |error: Error| error.file(&self.file).field(format!("history[{number}]"));
            let data = values.into_data();
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
        if let Some((_, arrays)) = self.extra {
            restore_extra(run, arrays);
        }
        Ok(())
    }
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
    let named = PathBuf::from(&state.learned_net);
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

fn restore_extra(run: &mut Run, arrays: Vec<(String, Tensor)>) {
    for (name, array) in arrays {
        let Some((name, what)) = name.rsplit_once(' ') else {
            continue;
        };
        let data = array.into_data();
        let params = run.engine.params();
        let fits =
            |param: &crate::param::Param| param.name() == name && param.shape.count() == data.len();
        let Some(index) = params.iter().position(fits) else {
            continue;
        };
        run.engine.edit(index, &mut |_, state| match what {
            "mask" => state.mask = Some(data.clone()),
            _ => state.shadow = Some(data.clone()),
        });
    }
}

/// Values of all parameters of an engine, perhaps with their gradients.
pub fn arrays(engine: &mut dyn Engine, with_gradients: bool) -> Vec<Array> {
    let mut all = Vec::new();
    for index in 0..engine.params().len() {
        engine.read(index, &mut |param, state| {
            let gradient = with_gradients.then(|| state.gradient.clone());
            all.push(Array {
                values: Tensor::new(param.shape.clone(), state.data.clone()),
                gradient: gradient.unwrap_or_default(),
            });
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
            true => net.write_hdf5(path),
            false => net.write(path),
        })?;
        drop(net);
        let kept = self.extra();
        self.engine.check()?;
        if let Some(kept) = kept {
            save(&extra, |path| kept.write(path))?;
        }
        report.line(&format!(
            "Snapshotting solver state to {format} file {}",
            state.display()
        ));
        let solver = self.solver_state(&model);
        self.engine.check()?;
        save(&state, |path| match hdf5 {
            true => solver.write_hdf5(path),
            false => solver.write(path),
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
    pub fn trained(&mut self) -> Weights {
        let values = arrays(self.engine.as_mut(), self.settings.snapshot_diff);
        let net = self.engine.net(self.net);
        let mut trained = net.layers.clone();
        for (index, places) in stored(self.engine.as_ref(), self.net) {
            // As Caffe, which stores a shared parameter once in HDF5.
            let shown = match self.settings.snapshot_hdf5 {
                true => &places[..1],
                false => places,
            };
            for place in shown {
                trained.set(place, &values[index], &net.layers);
            }
        }
        trained
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
                    all.push(Tensor::new(param.shape.clone(), data.unwrap_or_else(zeros)));
                }
            });
        }
        SolverState {
            iteration: self.iteration,
            learned_net: model.display().to_string(),
            history: history.into_iter().flatten().collect(),
            current_step: self.current_step,
        }
    }

    /// Masks, shadows and the state of methods, where there are any.
    fn extra(&mut self) -> Option<Weights> {
        let mut arrays = Vec::new();
        for index in 0..self.treatments.len() {
            self.engine.read(index, &mut |param, state| {
                for (what, data) in [("mask", &state.mask), ("shadow", &state.shadow)] {
                    if let Some(data) = data {
                        let array = Tensor::new(param.shape.clone(), data.clone());
                        arrays.push((format!("{} {what}", param.name()), array));
                    }
                }
            });
        }
        let states = self.methods.iter();
        let states = states.map(|(name, method)| (name.clone(), method.save()));
        let states: serde_json::Map<_, _> = states.filter(|(_, state)| !state.is_null()).collect();
        let any = !states.is_empty();
        (any || !arrays.is_empty()).then(|| {
            let text = any.then(|| serde_json::Value::Object(states).to_string());
            Weights::of_arrays(text, arrays)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skimjit_models::Shape;

    #[test]
    fn a_state_that_ends_between_two_fields_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.solverstate");
        let state = SolverState {
            iteration: 7,
            learned_net: "a.caffemodel".to_owned(),
            current_step: 1,
            history: vec![Tensor::new(Shape::new([2]).unwrap(), vec![1.0, 2.0])],
        };
        state.write(&path).unwrap();
        let weights = Weights::of_arrays(Some("a".to_owned()), vec![]);
        weights.write(&folder.path().join("a.caffemodel")).unwrap();
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
