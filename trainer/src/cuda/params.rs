//! Parameters on the device, and their copies on the CPU.

use super::device::{Args, Device};
use crate::engine::ParamState;
use crate::net::Net;
use crate::param::{Bound, Param, Role};
use crate::solver::rule::{Decay, Rule, Threshold, Update};
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
    /// 0 until there is one; so in the others.
    history: [u64; 2],
    mask: u64,
    shadow: u64,
    /// Factors of the threshold, and how many fit.
    factors: (u64, usize),
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
        let histories = self.history.iter_mut().zip(&state.history);
        let optional = [
            (&mut self.mask, &state.mask),
            (&mut self.shadow, &state.shadow),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(address, array)| Some((address, array.as_ref()?)));
        for (address, array) in histories.chain(optional) {
            if array.is_empty() {
                continue;
            }
            if *address == 0 {
                *address = device.allocate(array.len())?;
            }
            device.upload(*address, array)?;
        }
        // A history that was taken away starts again.
        for (index, &address) in self.history.iter().enumerate() {
            let there = self
                .state
                .history
                .get(index)
                .is_some_and(|array| !array.is_empty());
            if address != 0 && !there {
                device.zero(address, self.state.data.len())?;
            }
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
        let count = self.state.data.len();
        let histories = &mut self.state.history;
        let known = self.history.iter().take_while(|address| **address != 0);
        histories.resize_with(histories.len().max(known.count()), Vec::new);
        for (history, &address) in histories.iter_mut().zip(&self.history) {
            history.resize(count, 0.0);
            if address != 0 {
                device.download(address, history)?;
            }
        }
        if let Some(shadow) = &mut self.state.shadow {
            device.download(self.shadow, shadow)?;
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
                history: [0; 2],
                mask: 0,
                shadow: 0,
                factors: (0, 0),
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
            // BatchNorm adds to its sums.
            if self.all[param].role == Role::Statistic {
                mirror.newest = Newest::Device;
            }
            Ok(mirror.data)
        };
        params.iter().map(address).collect()
    }

    /// Addresses of gradients, which are going to change; 0 where there is none. After [`Params::addresses`].
    pub fn gradients(&mut self, params: &[usize], trains: &[bool]) -> Vec<u64> {
        let all = params.iter().zip(trains);
        let address = |(&param, &trains): (&usize, &bool)| {
            if !trains {
                return 0;
            }
            let mirror = &mut self.mirrors[param];
            mirror.newest = Newest::Device;
            mirror.gradient
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

    /// Lets the CPU read a parameter; of an error as below.
    pub fn read(
        &mut self,
        param: usize,
        device: &dyn Device,
        read: &mut dyn FnMut(&Param, &ParamState),
    ) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        let fetched = mirror.fetch(device);
        read(&self.all[param], &mirror.state);
        fetched
    }

    /// Lets the CPU change a parameter. When its values could not be fetched, it changes the old ones: whoever
    /// calls must learn of the error before they use them.
    pub fn edit(
        &mut self,
        param: usize,
        device: &dyn Device,
        edit: &mut dyn FnMut(&Param, &mut ParamState),
    ) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        let fetched = mirror.fetch(device);
        edit(&self.all[param], &mut mirror.state);
        mirror.newest = Newest::Cpu;
        fetched
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

    /// One update, where the parameter lives.
    pub fn update(
        &mut self,
        param: usize,
        device: &mut dyn Device,
        update: &Update<'_>,
    ) -> Result<()> {
        let mirror = &mut self.mirrors[param];
        let count = mirror.state.data.len();
        mirror.write_back(device)?;
        for address in mirror.history.iter_mut().take(update.rule.histories()) {
            if *address == 0 {
                *address = device.allocate(count)?;
            }
        }
        if let Some((factors, _)) = update.factors {
            if mirror.factors.1 < factors.len() {
                mirror.factors = (device.allocate(factors.len())?, factors.len());
            }
            device.upload(mirror.factors.0, factors)?;
        }
        let present = |there: bool, address: u64| if there { address } else { 0 };
        let p = [
            mirror.data,
            mirror.gradient,
            mirror.history[0],
            mirror.history[1],
            present(mirror.state.mask.is_some(), mirror.mask),
            present(mirror.state.shadow.is_some(), mirror.shadow),
            present(update.factors.is_some(), mirror.factors.0),
        ];
        let (numbers, factors) = arguments(update, count);
        device.launch("update", &Args::new(&p, &numbers, &factors))?;
        mirror.newest = Newest::Device;
        Ok(())
    }
}

/// Integers and numbers of the kernel.
fn arguments(update: &Update<'_>, count: usize) -> ([usize; 6], [f32; 8]) {
    let (rule, a, b, delta) = match update.rule {
        Rule::Sgd { momentum } => (0, momentum, 0.0, 0.0),
        Rule::Nesterov { momentum } => (1, momentum, 0.0, 0.0),
        Rule::AdaGrad { delta } => (2, 0.0, 0.0, delta),
        Rule::RmsProp { delta, decay } => (3, decay, 0.0, delta),
        Rule::AdaDelta { momentum, delta } => (4, momentum, 0.0, delta),
        Rule::Adam {
            beta1,
            beta2,
            delta,
        } => (5, beta1, beta2, delta),
    };
    let (kind, decay) = match update.decay {
        Decay::None => (0, 0.0),
        Decay::L1(decay) => (1, decay),
        Decay::L2(decay) => (2, decay),
    };
    let (cut, limit, largest) = match update.threshold {
        Threshold::None => (0, 0.0, 0.0),
        Threshold::Fixed(limit) => (1, limit, 0.0),
        Threshold::Adaptive { least, factor, by } => match by {
            ThresholdBy::Update => (2, least, factor),
            ThresholdBy::Gradient => (3, least, factor),
        },
        Threshold::Soft(limit) => (4, limit, 0.0),
    };
    let (length, run) = update
        .factors
        .map_or((1, 1), |(factors, run)| (factors.len(), run));
    let rate = update.rate * update.rule.correction(update.iteration);
    (
        [count, rule, kind, cut, run, length],
        [update.scale, decay, rate, a, b, delta, limit, largest],
    )
}
