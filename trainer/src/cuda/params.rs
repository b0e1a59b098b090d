//! Parameters on the device, and their copies on the CPU.

use super::device::{Args, Device};
use crate::param::Role;
use crate::update::{Decay, ParamState, Rule, Threshold, Update, correction};
use skimjit_models::Result;

/// Where the newest values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Cpu,
    Device,
    Both,
}

/// A parameter in both places.
pub struct Mirror {
    role: Role,
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
    /// A new one.
    pub fn new(device: &mut dyn Device, data: Vec<f32>, role: Role) -> Result<Self> {
        let count = data.len();
        Ok(Self {
            role,
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
        })
    }

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

    /// Address of the values, which are up to date.
    pub fn address(&mut self, device: &mut dyn Device) -> Result<u64> {
        self.write_back(device)?;
        // BatchNorm adds to its sums.
        if self.role == Role::Statistic {
            self.newest = Newest::Device;
        }
        Ok(self.data)
    }

    /// Address of the gradient, which is going to change. After [`Mirror::address`].
    pub fn gradient(&mut self) -> u64 {
        self.newest = Newest::Device;
        self.gradient
    }

    /// Lets the CPU read it.
    pub fn inspect(
        &mut self,
        device: &dyn Device,
        read: &mut dyn FnMut(&ParamState),
    ) -> Result<()> {
        let fetched = self.fetch(device);
        read(&self.state);
        fetched
    }

    /// Lets the CPU change it. When its values could not be fetched, it changes the old ones: whoever calls must
    /// learn of the error before they use them.
    pub fn edit(
        &mut self,
        device: &dyn Device,
        edit: &mut dyn FnMut(&mut ParamState),
    ) -> Result<()> {
        let fetched = self.fetch(device);
        edit(&mut self.state);
        self.newest = Newest::Cpu;
        fetched
    }

    /// Its gradient becomes zero.
    pub fn clear_gradient(&mut self, device: &mut dyn Device) -> Result<()> {
        match self.newest {
            Newest::Cpu => self.state.gradient.fill(0.0),
            Newest::Device | Newest::Both => {
                device.zero(self.gradient, self.state.data.len())?;
                self.newest = Newest::Device;
            }
        }
        Ok(())
    }

    /// One update, where the parameter lives.
    pub fn update(&mut self, device: &mut dyn Device, update: &Update<'_>) -> Result<()> {
        let count = self.state.data.len();
        self.write_back(device)?;
        for address in self.history.iter_mut().take(update.rule.histories()) {
            if *address == 0 {
                *address = device.allocate(count)?;
            }
        }
        if let Some((factors, _)) = update.factors {
            if self.factors.1 < factors.len() {
                self.factors = (device.allocate(factors.len())?, factors.len());
            }
            device.upload(self.factors.0, factors)?;
        }
        let present = |there: bool, address: u64| if there { address } else { 0 };
        let p = [
            self.data,
            self.gradient,
            self.history[0],
            self.history[1],
            present(self.state.mask.is_some(), self.mask),
            present(self.state.shadow.is_some(), self.shadow),
            present(update.factors.is_some(), self.factors.0),
        ];
        let (numbers, factors) = arguments(update, count);
        device.launch("update", &Args::new(&p, &numbers, &factors))?;
        self.newest = Newest::Device;
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
        Threshold::Adaptive {
            least,
            factor,
            by_gradient,
        } => (2 + usize::from(by_gradient), least, factor),
        Threshold::Soft(limit) => (4, limit, 0.0),
    };
    let (length, run) = update
        .factors
        .map_or((1, 1), |(factors, run)| (factors.len(), run));
    let rate = update.rate * correction(update.rule, update.iteration);
    (
        [count, rule, kind, cut, run, length],
        [update.scale, decay, rate, a, b, delta, limit, largest],
    )
}
