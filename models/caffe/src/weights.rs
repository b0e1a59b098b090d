//! Weights as values: what a caffemodel holds, and the snapshots of solvers.

use crate::blob::{from_tensor, take_tensor, take_values};
use crate::proto::{BlobProto, LayerParameter, NetParameter, SolverState as StateMessage};
use crate::upgrade::upgrade_net;
use crate::{read_caffemodel, read_solverstate, unknown};
use skimjit_models::{Error, Place, Result, Tensor};
use std::path::Path;

/// Layers with arrays, in today's form.
#[derive(Clone, Debug, Default)]
pub struct Weights(pub(crate) NetParameter);

/// An array of a layer, perhaps with its gradient.
#[derive(Clone, Debug)]
pub struct Array {
    /// The values.
    pub values: Tensor,
    /// The gradient; empty: none.
    pub gradient: Vec<f32>,
}

impl Weights {
    /// Reads a caffemodel of any form.
    pub fn read(path: &Path) -> Result<Self> {
        let net = read_caffemodel(path).and_then(upgrade_net);
        net.map(Self).map_err(|error| error.file(path))
    }

    /// Writes a caffemodel.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::write_caffemodel(&self.0, path)
    }

    /// Writes a caffemodel in HDF5.
    pub fn write_hdf5(&self, path: &Path) -> Result<()> {
        crate::write_caffemodel_hdf5(&self.0, path)
    }

    /// Names of the layers, and how many arrays each has.
    pub fn layers(&self) -> impl Iterator<Item = (&str, usize)> {
        let layers = self.0.layer.iter();
        layers.map(|layer| (layer.name(), layer.blobs.len()))
    }

    /// Refuses what could not be written with all that its file says.
    pub fn refuse_moved(&self) -> Result<()> {
        unknown::refuse_moved(&self.0)
    }

    /// Puts an array into its place; a layer that is not there is taken from `layers`. What other forks say about
    /// the array that was there stays.
    pub fn set(&mut self, place: &Place, array: &Array, layers: &Self) {
        let named = |layer: &LayerParameter| layer.name() == place.layer;
        let known = self.0.layer.iter().position(named);
        let index = known.unwrap_or_else(|| {
            let new = layers.0.layer.iter().find(|layer| named(layer));
            self.0.layer.push(new.cloned().unwrap_or_default());
            self.0.layer.len() - 1
        });
        let blobs = &mut self.0.layer[index].blobs;
        if blobs.len() <= place.index {
            blobs.resize_with(place.index + 1, BlobProto::default);
        }
        let blob = &mut blobs[place.index];
        *blob = BlobProto {
            unknown_fields: std::mem::take(&mut blob.unknown_fields),
            diff: array.gradient.clone(),
            ..from_tensor(array.values.clone())
        };
    }

    /// Changes the first array of all layers of some types.
    pub fn change(&mut self, kinds: &[&str], change: impl Fn(&mut [f32])) -> Result<()> {
        let layers = self.0.layer.iter_mut();
        for layer in layers.filter(|layer| kinds.contains(&layer.r#type())) {
            let name = layer.name().to_owned();
            if let Some(blob) = layer.blobs.first_mut() {
                let mut values = take_values(blob).map_err(|error| error.layer(name))?;
                change(&mut values);
                blob.data = values;
            }
        }
        Ok(())
    }

    /// Arrays under names of their own, and a text as the network's name.
    pub fn of_arrays(text: Option<String>, arrays: Vec<(String, Tensor)>) -> Self {
        let layer = |(name, array)| LayerParameter {
            name: Some(name),
            blobs: vec![from_tensor(array)],
            ..LayerParameter::default()
        };
        Self(NetParameter {
            name: text,
            layer: arrays.into_iter().map(layer).collect(),
            ..NetParameter::default()
        })
    }

    /// The network's name, and the first array of each layer under the layer's name.
    pub fn into_arrays(self) -> Result<(String, Vec<(String, Tensor)>)> {
        let text = self.0.name().to_owned();
        let arrays = self.0.layer.into_iter().filter_map(|mut layer| {
            let name = layer.name().to_owned();
            let array = take_tensor(layer.blobs.first_mut()?);
            Some(array.map(|array| (name, array)))
        });
        Ok((text, arrays.collect::<Result<_>>()?))
    }
}

/// State of a solver, as a solverstate has it.
#[derive(Clone, Debug, Default)]
pub struct SolverState {
    /// Iterations done.
    pub iteration: u64,
    /// The caffemodel of the same snapshot.
    pub learned_net: String,
    /// Steps that the learning rate has taken.
    pub current_step: i32,
    /// What the update rule remembers.
    pub history: Vec<Tensor>,
}

impl SolverState {
    /// Reads a solverstate, in HDF5 or not.
    pub fn read(path: &Path) -> Result<Self> {
        let state = read_solverstate(path)?;
        Self::checked(state).map_err(|error| error.file(path))
    }

    fn checked(state: StateMessage) -> Result<Self> {
        check_whole(&state)?;
        let iteration = u64::try_from(state.iter()).map_err(|_| {
            Error::new(state.iter().to_string())
                .field("iter")
                .expected("0 or more")
        })?;
        let (learned_net, current_step) = (state.learned_net().to_owned(), state.current_step());
        let history = state.history.into_iter().enumerate();
        let history = history.map(|(number, mut blob)| {
            take_tensor(&mut blob).map_err(|error| error.field(format!("history[{number}]")))
        });
        Ok(Self {
            iteration,
            learned_net,
            current_step,
            history: history.collect::<Result<_>>()?,
        })
    }

    fn message(self) -> StateMessage {
        StateMessage {
            iter: i32::try_from(self.iteration).ok(),
            learned_net: Some(self.learned_net),
            history: self.history.into_iter().map(from_tensor).collect(),
            current_step: Some(self.current_step),
            ..StateMessage::default()
        }
    }

    /// Writes a solverstate.
    pub fn write(self, path: &Path) -> Result<()> {
        crate::write_solverstate(&self.message(), path)
    }

    /// Writes a solverstate in HDF5.
    pub fn write_hdf5(self, path: &Path) -> Result<()> {
        crate::write_solverstate_hdf5(&self.message(), path)
    }
}

/// Caffe writes these fields always, `current_step` last: one that is missing was cut off, and its default
/// would be taken for it.
fn check_whole(state: &StateMessage) -> Result<()> {
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
