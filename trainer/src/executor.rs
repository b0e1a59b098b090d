//! The engine, for any kind of memory: runs the steps of networks, and delivers gradients.

use crate::cpu::{HostMemory, make};
use crate::engine::{Engine, NetId, NodeTime};
use crate::gradients::Gradients;
use crate::host;
use crate::memory::{Backward, Forward, Memory};
use crate::net::Net;
use crate::param::{Bound, Param};
use crate::plan::{Plan, Step};
use crate::update::{ParamState, Update};
use skimjit_models::{Error, Result, Tensor, ValueId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The engine of the CPU.
pub type CpuEngine = Executor<HostMemory>;

/// Networks, their values, and the parameters that they share.
#[derive(Default)]
pub struct Executor<M: Memory> {
    memory: M,
    params: Vec<Param>,
    nets: Vec<Runner<M>>,
    /// The first thing that went wrong where no error can be returned.
    fault: Mutex<Option<Error>>,
}

/// A network with its memory.
struct Runner<M: Memory> {
    net: Net,
    plan: Plan,
    /// By step.
    layers: Vec<Layer<M>>,
    /// Elements of each home.
    values: Vec<M::Array>,
    gradients: Gradients<M>,
    /// Gradients that values start with.
    seeds: HashMap<ValueId, Vec<f32>>,
    /// Of the nodes, in the last runs.
    times: Vec<NodeTime>,
}

/// Who computes a step.
enum Layer<M: Memory> {
    Own(M::Layer),
    Host(Box<dyn crate::cpu::layer::Layer>),
}

impl<M: Memory> Layer<M> {
    fn of(memory: &mut M, net: &Net, step: &Step) -> Result<Self> {
        let weights = &net.graph.weights;
        Ok(match memory.layer(&step.layer, weights)? {
            Some(layer) => Self::Own(layer),
            None => Self::Host(make::layer(&step.layer, weights)?),
        })
    }
    fn forward(&mut self, memory: &mut M, step: &Step, run: Forward<'_, M::Array>) -> Result<()> {
        match self {
            Self::Own(layer) => memory.forward(layer, step, run),
            Self::Host(layer) => host::forward(layer.as_mut(), memory, step, run),
        }
    }
    fn backward(&mut self, memory: &mut M, step: &Step, run: Backward<'_, M::Array>) -> Result<()> {
        match self {
            Self::Own(layer) => memory.backward(layer, step, run),
            Self::Host(layer) => host::backward(layer.as_mut(), memory, step, run),
        }
    }
}

impl<M: Memory> Executor<M> {
    /// Without networks.
    pub fn on(memory: M) -> Self {
        Self {
            memory,
            params: Vec::new(),
            nets: Vec::new(),
            fault: Mutex::default(),
        }
    }
    fn keep(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert(error);
        }
    }
    /// An array, or what is no number.
    fn read(&self, array: &M::Array, count: usize) -> Vec<f32> {
        self.memory.read(array, count).unwrap_or_else(|error| {
            self.keep(Err(error));
            vec![f32::NAN; count]
        })
    }
    /// Layers of a network that the CPU computes although its memory is another one.
    #[cfg(all(test, feature = "cuda"))]
    pub fn on_host(&self, id: NetId) -> usize {
        let layers = self.nets[id.0].layers.iter();
        layers
            .filter(|layer| matches!(layer, Layer::Host(_)))
            .count()
    }
}

impl<M: Memory + 'static> Engine for Executor<M> {
    fn add(&mut self, mut net: Net) -> Result<NetId> {
        let mut plan = Plan::new(&net)?;
        let Bound { places, new } = Bound::of(&mut net, &mut self.params)?;
        for (data, param) in new.into_iter().zip(&self.params) {
            self.memory.add_param(data, param.role)?;
        }
        plan.bind(&net, &places, &self.params)?;
        let memory = &mut self.memory;
        let layers = plan.steps.iter().map(|step| {
            let name = &net.graph.nodes[step.node].name;
            Layer::of(memory, &net, step).map_err(|error| error.layer(name.clone()))
        });
        let layers = layers.collect::<Result<_>>()?;
        let values = plan.homes.iter().map(|&count| memory.allocate(count));
        self.nets.push(Runner {
            layers,
            values: values.collect::<Result<_>>()?,
            gradients: Gradients::new(&plan.homes),
            seeds: HashMap::new(),
            times: vec![NodeTime::default(); net.graph.nodes.len()],
            net,
            plan,
        });
        Ok(NetId(self.nets.len() - 1))
    }

    fn net(&self, id: NetId) -> &Net {
        &self.nets[id.0].net
    }

    fn fresh(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self::on(self.memory.fresh()?)))
    }

    fn params(&self) -> &[Param] {
        &self.params
    }

    fn forward(&mut self, id: NetId, inputs: &[&Tensor], turn: u64) -> Result<()> {
        self.check()?;
        self.nets[id.0].forward(&mut self.memory, inputs, turn)
    }

    fn backward(&mut self, id: NetId) {
        let result = self.nets[id.0].backward(&mut self.memory);
        self.keep(result);
    }

    fn value(&self, id: NetId, value: ValueId) -> Vec<f32> {
        let runner = &self.nets[id.0];
        let home = runner.plan.home(value);
        self.read(&runner.values[home], runner.plan.homes[home])
    }

    fn value_gradient(&self, id: NetId, value: ValueId) -> Option<Vec<f32>> {
        let runner = &self.nets[id.0];
        let home = runner.plan.home(value);
        let gradient = runner.gradients.of(home)?;
        Some(self.read(gradient, runner.plan.homes[home]))
    }

    fn seed_gradient(&mut self, id: NetId, value: ValueId, gradient: Vec<f32>) {
        let seeds = &mut self.nets[id.0].seeds;
        if gradient.is_empty() {
            seeds.remove(&value);
        } else {
            seeds.insert(value, gradient);
        }
    }

    fn edit(&mut self, param: usize, edit: &mut dyn FnMut(&Param, &mut ParamState)) {
        let described = &self.params[param];
        let result = self.memory.edit(param, &mut |state| edit(described, state));
        self.keep(result);
    }

    fn read(&mut self, param: usize, read: &mut dyn FnMut(&Param, &ParamState)) {
        let described = &self.params[param];
        let result = self
            .memory
            .inspect(param, &mut |state| read(described, state));
        self.keep(result);
    }

    fn bytes(&self, id: NetId) -> u64 {
        4 * self.nets[id.0].plan.elements() as u64
    }

    fn check(&self) -> Result<()> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone().map_or(Ok(()), Err)
    }

    fn clear_gradients(&mut self) {
        let result = self.memory.clear_gradients();
        self.keep(result);
    }

    fn update(&mut self, param: usize, update: &Update<'_>) {
        let result = self.memory.update(param, update);
        self.keep(result);
    }

    fn times(&self, id: NetId) -> &[NodeTime] {
        match M::WAITS {
            true => &self.nets[id.0].times,
            false => &[],
        }
    }
}

impl<M: Memory> Runner<M> {
    fn forward(&mut self, memory: &mut M, inputs: &[&Tensor], turn: u64) -> Result<()> {
        for (&value, tensor) in self.net.graph.inputs.iter().zip(inputs) {
            let home = self.plan.home(value);
            memory.write(&mut self.values[home], tensor.data())?;
        }
        for (step, layer) in self.plan.steps.iter().zip(&mut self.layers) {
            let start = Instant::now();
            // Operands stay where they are; the result is taken out meanwhile.
            let mut output = std::mem::take(&mut self.values[step.output]);
            let inputs: Vec<&M::Array> = step.inputs.iter().map(|&at| &self.values[at]).collect();
            let run = Forward {
                inputs: &inputs,
                output: &mut output,
                turn,
            };
            let result = layer.forward(memory, step, run);
            self.values[step.output] = output;
            let name = &self.net.graph.nodes[step.node].name;
            result.map_err(|error| error.layer(name.clone()))?;
            self.times[step.node].forward = start.elapsed().as_secs_f64();
        }
        Ok(())
    }

    fn backward(&mut self, memory: &mut M) -> Result<()> {
        self.start_gradients(memory)?;
        for index in (0..self.plan.steps.len()).rev() {
            let node = self.plan.steps[index].node;
            let start = Instant::now();
            let result = self.backward_step(index, memory);
            let name = &self.net.graph.nodes[node].name;
            result.map_err(|error| error.layer(name.clone()))?;
            self.times[node].backward = start.elapsed().as_secs_f64();
        }
        Ok(())
    }

    /// Gradients of the losses: their weights; and the seeds.
    fn start_gradients(&mut self, memory: &mut M) -> Result<()> {
        self.gradients.start();
        for &(value, weight) in &self.net.training.losses {
            let home = self.plan.home(value);
            let start = vec![weight; self.plan.homes[home]];
            self.gradients.add(home, &start, memory)?;
        }
        for (&value, seed) in &self.seeds {
            self.gradients.add(self.plan.home(value), seed, memory)?;
        }
        Ok(())
    }

    fn backward_step(&mut self, index: usize, memory: &mut M) -> Result<()> {
        let Self {
            plan,
            layers,
            values,
            gradients,
            ..
        } = self;
        let step = &plan.steps[index];
        if !step.learns {
            return Ok(());
        }
        // Without one nothing that this run reached takes the result.
        let Some(mut gradient) = gradients.take(step.output) else {
            return Ok(());
        };
        let mut parts = Vec::new();
        for (&home, &wants) in step.inputs.iter().zip(&step.wants) {
            let wants = wants && !step.in_place;
            let part = wants.then(|| gradients.part(home, memory));
            parts.push(part.transpose()?);
        }
        let inputs: Vec<&M::Array> = step.inputs.iter().map(|&home| &values[home]).collect();
        let run = Backward {
            inputs: &inputs,
            output: &values[step.output],
            output_gradient: &mut gradient,
            input_gradients: &mut parts,
        };
        layers[index].backward(memory, step, run)?;
        gradients.deliver(step.output, gradient, memory)?;
        for (&home, part) in step.inputs.iter().zip(parts) {
            if let Some(part) = part {
                gradients.deliver(home, part, memory)?;
            }
        }
        Ok(())
    }
}
