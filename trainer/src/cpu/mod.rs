//! The engine of the CPU: hand-written layers over matrix products, images spread over threads.
//!
//! Results do not depend on the number of threads: work is cut into the same parts whatever their
//! number is, and parts are summed in order.

mod activation;
pub(crate) mod batch_norm;
pub(crate) mod columns;
mod combine;
mod convolution;
pub(crate) mod gemm;
mod inner_product;
pub(crate) mod layer;
mod loss;
mod lrn;
pub(crate) mod make;
pub(crate) mod plan;
mod pooling;
mod reference;
pub(crate) mod scale;
mod softmax;
mod winograd;

use crate::engine::{Engine, NetId, NodeTime, ParamState};
use crate::net::Net;
use crate::param::{Bound, Param};
use layer::{Backward, Forward};
use plan::{Plan, Step};
use skimjit_models::{Result, Tensor, ValueId, WeightId};
use std::collections::HashMap;
use std::time::Instant;

/// Networks, their values, and the parameters that they share.
#[derive(Default)]
pub struct CpuEngine {
    params: Vec<Param>,
    states: Vec<ParamState>,
    nets: Vec<Runner>,
}

/// A network with its memory.
struct Runner {
    net: Net,
    plan: Plan,
    /// Elements of each home.
    values: Vec<Vec<f32>>,
    /// Gradients of each home; empty where nobody wants them.
    gradients: Vec<Vec<f32>>,
    /// Homes whose gradient has been written in this backward run.
    written: Vec<bool>,
    /// Gradients that values start with.
    seeds: HashMap<ValueId, Vec<f32>>,
    /// Of the nodes, in the last runs.
    times: Vec<NodeTime>,
}

impl CpuEngine {
    /// No networks yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Parameters of a network: the first brings them, others find theirs.
    fn bind(&mut self, net: &mut Net) -> Result<HashMap<WeightId, usize>> {
        let Bound { places, new } = Bound::of(net, &mut self.params)?;
        for data in new {
            self.states.push(ParamState {
                gradient: vec![0.0; data.len()],
                data,
                ..ParamState::default()
            });
        }
        Ok(places)
    }
}

impl Engine for CpuEngine {
    fn add(&mut self, mut net: Net) -> Result<NetId> {
        let mut plan = Plan::new(&net)?;
        let bound = self.bind(&mut net)?;
        plan.bind(&net, &bound, &self.params)?;
        let homes = plan.homes.clone();
        self.nets.push(Runner {
            values: homes.iter().map(|&count| vec![0.0; count]).collect(),
            gradients: vec![Vec::new(); homes.len()],
            written: vec![false; homes.len()],
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
        Ok(Box::new(Self::new()))
    }

    fn params(&self) -> &[Param] {
        &self.params
    }

    fn forward(&mut self, id: NetId, inputs: &[&Tensor], turn: u64) -> Result<()> {
        let runner = &mut self.nets[id.0];
        for (&value, tensor) in runner.net.graph.inputs.iter().zip(inputs) {
            let home = runner.plan.home(value);
            runner.values[home].copy_from_slice(tensor.data());
        }
        let Runner {
            net,
            plan,
            values,
            times,
            ..
        } = runner;
        for step in &mut plan.steps {
            let start = Instant::now();
            forward(step, values, &mut self.states, turn)
                .map_err(|error| error.layer(net.graph.nodes[step.node].name.clone()))?;
            times[step.node].forward = start.elapsed().as_secs_f64();
        }
        Ok(())
    }

    fn backward(&mut self, id: NetId) {
        let runner = &mut self.nets[id.0];
        runner.start_gradients();
        let mut plan = std::mem::take(&mut runner.plan.steps);
        for step in plan.iter_mut().rev().filter(|step| step.learns) {
            let start = Instant::now();
            runner.backward(step, &mut self.states);
            runner.times[step.node].backward = start.elapsed().as_secs_f64();
        }
        runner.plan.steps = plan;
    }

    fn value(&self, id: NetId, value: ValueId) -> Vec<f32> {
        let runner = &self.nets[id.0];
        runner.values[runner.plan.home(value)].clone()
    }

    fn value_gradient(&self, id: NetId, value: ValueId) -> Option<Vec<f32>> {
        let runner = &self.nets[id.0];
        let home = runner.plan.home(value);
        runner.written[home].then(|| runner.gradients[home].clone())
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
        edit(&self.params[param], &mut self.states[param]);
    }

    fn bytes(&self, id: NetId) -> u64 {
        let runner = &self.nets[id.0];
        let values: usize = runner.plan.homes.iter().sum();
        let gradients: usize = runner
            .plan
            .gradient_homes()
            .map(|home| runner.plan.homes[home])
            .sum();
        4 * (values + gradients) as u64
    }

    fn times(&self, id: NetId) -> Vec<NodeTime> {
        self.nets[id.0].times.clone()
    }
}

/// Runs a step forward. Operands stay where they are; the result is taken out meanwhile.
fn forward(
    step: &mut Step,
    values: &mut [Vec<f32>],
    states: &mut [ParamState],
    turn: u64,
) -> Result<()> {
    let mut output = std::mem::take(&mut values[step.output]);
    if step.in_place {
        step.layer.forward_in_place(&mut output, turn);
        values[step.output] = output;
        return Ok(());
    }
    let take = |&param: &usize| std::mem::take(&mut states[param].data);
    let mut weights: Vec<Vec<f32>> = step.params.iter().map(take).collect();
    let inputs: Vec<&[f32]> = step
        .inputs
        .iter()
        .map(|&home| values[home].as_slice())
        .collect();
    let checked = step.layer.check(&inputs);
    if checked.is_ok() {
        step.layer.forward(Forward {
            inputs: &inputs,
            output: &mut output,
            weights: &mut weights,
            turn,
        });
    }
    for (&param, data) in step.params.iter().zip(weights) {
        states[param].data = data;
    }
    values[step.output] = output;
    checked
}

impl Runner {
    /// Gradients of the losses: their weights; and the seeds.
    fn start_gradients(&mut self) {
        self.written.fill(false);
        for &(value, weight) in &self.net.losses {
            let home = self.plan.home(value);
            let count = self.plan.homes[home];
            self.gradients[home] = vec![weight; count];
            self.written[home] = true;
        }
        let seeds: Vec<(usize, &Vec<f32>)> = self
            .seeds
            .iter()
            .map(|(&value, seed)| (self.plan.home(value), seed))
            .collect();
        for (home, seed) in seeds {
            if self.written[home] {
                convolution::add(seed, &mut self.gradients[home]);
            } else {
                self.gradients[home].clone_from(seed);
            }
            self.written[home] = true;
        }
    }

    fn backward(&mut self, step: &mut Step, states: &mut [ParamState]) {
        if !self.written[step.output] {
            // Nothing that this run reached takes the result.
            return;
        }
        let mut gradient = std::mem::take(&mut self.gradients[step.output]);
        if step.in_place {
            step.layer
                .backward_in_place(&self.values[step.output], &mut gradient);
            self.gradients[step.output] = gradient;
            return;
        }
        let mut input_gradients: Vec<Option<Vec<f32>>> = Vec::new();
        for (&home, &wanted) in step.inputs.iter().zip(&step.wants) {
            input_gradients.push(wanted.then(|| self.buffer(home)));
        }
        let weights: Vec<Vec<f32>> = step
            .params
            .iter()
            .map(|&param| std::mem::take(&mut states[param].data))
            .collect();
        let mut weight_gradients: Vec<Option<Vec<f32>>> = step
            .params
            .iter()
            .zip(&step.trains)
            .map(|(&param, &trains)| trains.then(|| std::mem::take(&mut states[param].gradient)))
            .collect();
        let inputs: Vec<&[f32]> = step
            .inputs
            .iter()
            .map(|&home| self.values[home].as_slice())
            .collect();
        step.layer.backward(Backward {
            inputs: &inputs,
            output: &self.values[step.output],
            output_gradient: &gradient,
            input_gradients: &mut input_gradients,
            weights: &weights,
            weight_gradients: &mut weight_gradients,
        });
        for ((&param, data), sum) in step.params.iter().zip(weights).zip(weight_gradients) {
            states[param].data = data;
            if let Some(sum) = sum {
                states[param].gradient = sum;
            }
        }
        self.gradients[step.output] = gradient;
        for (&home, gradient) in step.inputs.iter().zip(input_gradients) {
            if let Some(gradient) = gradient {
                self.deliver(home, gradient);
            }
        }
    }

    /// Memory for a gradient: that of the home, unless another consumer has written it already.
    fn buffer(&mut self, home: usize) -> Vec<f32> {
        let count = self.plan.homes[home];
        if self.written[home] {
            return vec![0.0; count];
        }
        let mut buffer = std::mem::take(&mut self.gradients[home]);
        buffer.resize(count, 0.0);
        buffer
    }

    fn deliver(&mut self, home: usize, gradient: Vec<f32>) {
        if self.written[home] {
            convolution::add(&gradient, &mut self.gradients[home]);
        } else {
            self.gradients[home] = gradient;
            self.written[home] = true;
        }
    }
}
