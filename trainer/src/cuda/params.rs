//! Parameters on the device, and their copies on the CPU.

use super::device::{Args, Device};
use crate::engine::ParamState;
use crate::net::Net;
use crate::param::{Bound, Param};
use crate::solver::rule::{self, Decay, Rule, Threshold, Update};
use crate::solver::settings::ThresholdBy;
use skimjit_models::{Result, WeightId};
use std::collections::HashMap;

/// All parameters of an engine.
#[derive(Default)]
pub struct Params {
    all: Vec<Param>,
    mirrors: Vec<Mirror>,
}

/// Where the newest values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Cpu,
    Device,
    Both,
}

/// A parameter in both places.
struct Mirror {
    state: ParamState,
    data: u64,
    gradient: u64,
    /// 0 until there is one.
    history: u64,
    /// 0 until there is one.
    mask: u64,
    newest: Newest,
}

impl Mirror {
    /// Brings the device up to date.
    fn write_back(&mut self, device: &mut dyn Device) -> Result<()> {
        if self.newest != Newest::Cpu {
            return Ok(());
        }
        let state = &self.state;
        device.upload(self.data, &state.data)?;
        device.upload(self.gradient, &state.gradient)?;
        let history = state.history.first().filter(|array| !array.is_empty());
        let arrays = [
            (&mut self.history, history),
            (&mut self.mask, state.mask.as_ref()),
        ];
        for (address, array) in arrays {
            let Some(array) = array else { continue };
            if *address == 0 {
                *address = device.allocate(array.len())?;
            }
            device.upload(*address, array)?;
        }
        self.newest = Newest::Both;
        Ok(())
    }

    /// Brings the CPU's copy up to date.
    fn fetch(&mut self, device: &dyn Device) -> Result<()> {
        if self.newest != Newest::Device {
            return Ok(());
        }
        device.download(self.data, &mut self.state.data)?;
        device.download(self.gradient, &mut self.state.gradient)?;
        if self.history != 0 {
            if self.state.history.is_empty() {
                self.state.history.push(Vec::new());
            }
            let history = &mut self.state.history[0];
            history.resize(self.state.data.len(), 0.0);
            device.download(self.history, history)?;
        }
        self.newest = Newest::Both;
        Ok(())
    }
}

impl Params {
    /// The parameters.
    pub fn all(&self) -> &[Param] {
        &self.all
    }

    /// Parameters of a network: the first brings them, others find theirs.
    pub fn bind(
        &mut self,
        net: &mut Net,
        device: &mut dyn Device,
    ) -> Result<HashMap<WeightId, usize>> {
        let Bound { places, new } = Bound::of(net, &mut self.all)?;
        for data in new {
            let count = data.len();
            self.mirrors.push(Mirror {
                data: device.allocate(count)?,
                gradient: device.allocate(count)?,
                history: 0,
                mask: 0,
                newest: Newest::Cpu,
                state: ParamState {
                    data,
                    gradient: vec![0.0; count],
                    ..ParamState::default()
                },
            });
        }
        Ok(places)
    }

    /// Addresses of values, which are up to date.
    pub fn addresses(&mut self, params: &[usize], device: &mut dyn Device) -> Result<Vec<u64>> {
        let address = |&param: &usize| {
            let mirror = &mut self.mirrors[param];
            mirror.write_back(device)?;
            // Layers add to gradients, and BatchNorm to its sums.
            mirror.newest = Newest::Device;
            Ok(mirror.data)
        };
        params.iter().map(address).collect()
    }

    /// Addresses of gradients, 0 where there is none; after [`Params::addresses`].
    pub fn gradients(&self, params: &[usize], trains: &[bool]) -> Vec<u64> {
        let all = params.iter().zip(trains);
        let address = |(&param, &trains): (&usize, &bool)| {
            if trains {
                self.mirrors[param].gradient
            } else {
                0
            }
        };
        all.map(address).collect()
    }

    /// Copies of values on the CPU.
    pub fn copies(&mut self, params: &[usize], device: &dyn Device) -> Result<Vec<Vec<f32>>> {
        let copy = |&param: &usize| {
            let mirror = &mut self.mirrors[param];
            mirror.fetch(device)?;
            Ok(mirror.state.data.clone())
        };
        params.iter().map(copy).collect()
    }

    /// Adds what the CPU computed.
    pub fn add_gradient(&mut self, param: usize, part: &[f32], device: &dyn Device) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        mirror.fetch(device)?;
        let sums = mirror.state.gradient.iter_mut().zip(part);
        sums.for_each(|(sum, part)| *sum += part);
        mirror.newest = Newest::Cpu;
        Ok(())
    }

    /// Lets the CPU change a parameter.
    pub fn edit(
        &mut self,
        param: usize,
        device: &dyn Device,
        edit: &mut dyn FnMut(&Param, &mut ParamState),
    ) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        mirror.fetch(device)?;
        edit(&self.all[param], &mut mirror.state);
        mirror.newest = Newest::Cpu;
        Ok(())
    }

    /// All gradients become zero.
    pub fn clear_gradients(&mut self, device: &mut dyn Device) -> Result<()> {
        for mirror in &mut self.mirrors {
            match mirror.newest {
                Newest::Cpu => mirror.state.gradient.fill(0.0),
                Newest::Device | Newest::Both => {
                    device.zero(mirror.gradient, mirror.state.data.len())?;
                    mirror.newest = Newest::Device;
                }
            }
        }
        Ok(())
    }

    /// One update: on the device when it has a kernel for it.
    pub fn update(
        &mut self,
        param: usize,
        device: &mut dyn Device,
        update: &Update<'_>,
    ) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        let count = mirror.state.data.len();
        let args = arguments(update, count).filter(|_| mirror.state.shadow.is_none());
        let Some((numbers, factors)) = args else {
            return self.edit(param, device, &mut |_, state| rule::apply(update, state));
        };
        mirror.write_back(device)?;
        if mirror.history == 0 {
            mirror.history = device.allocate(count)?;
        }
        let mask = match mirror.state.mask {
            Some(_) => mirror.mask,
            None => 0,
        };
        let p = [mirror.data, mirror.gradient, mirror.history, mask];
        device.launch("update", &Args::new(&p, &numbers, &factors))?;
        mirror.newest = Newest::Device;
        Ok(())
    }
}

/// Integers and numbers of the kernel; `None` for updates that it does not know.
fn arguments(update: &Update<'_>, count: usize) -> Option<([usize; 4], [f32; 6])> {
    let (nesterov, momentum) = match update.rule {
        Rule::Sgd { momentum } => (0, momentum),
        Rule::Nesterov { momentum } => (1, momentum),
        _ => return None,
    };
    let (kind, decay) = match update.decay {
        Decay::None => (0, 0.0),
        Decay::L1(decay) => (1, decay),
        Decay::L2(decay) => (2, decay),
    };
    let (cut, limit, factor) = match update.threshold {
        Threshold::None => (0, 0.0, 0.0),
        Threshold::Fixed(limit) => (1, limit, 0.0),
        Threshold::Adaptive { least, factor, by } => match by {
            ThresholdBy::Gradient => (3, least, factor),
            _ => (2, least, factor),
        },
        Threshold::Soft(limit) => (4, limit, 0.0),
    };
    let factors = [update.scale, decay, update.rate, momentum, limit, factor];
    update
        .factors
        .is_none()
        .then_some(([count, kind, nesterov, cut], factors))
}
