//! The engine of NVIDIA GPUs: kernels of its own, matrix products by cuBLAS.
//!
//! Libraries are looked for when it starts, so that it builds where there are none. Losses, whose operands are
//! small and whose results the solver reads anyway, judges like Accuracy, and Winograd convolutions run on the
//! CPU. Sums are made in an order that does not depend on how the GPU schedules threads, and random numbers are
//! those of the CPU engine: both engines agree up to rounding.

pub mod device;
mod driver;
#[cfg(test)]
mod layer_tests;
mod layers;
mod params;
#[cfg(test)]
mod tests;

use crate::cpu::layer as cpu;
use crate::cpu::make;
use crate::cpu::plan::{Plan, Step};
use crate::engine::{Engine, NetId, ParamState};
use crate::net::Net;
use crate::param::Param;
use crate::solver::rule::Update;
use device::{Args, Device};
use layers::{Backward, Forward, Native, Place, native};
use params::Params;
use skimjit_models::{Error, Op, Result, Shape, Tensor, ValueId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Networks, their values on the device, and the parameters that they share.
pub struct CudaEngine {
    device: Box<dyn Device>,
    params: Params,
    nets: Vec<Runner>,
    /// Memory that layers share, and its elements.
    scratch: (u64, usize),
    /// The first thing that went wrong where no error can be returned.
    fault: Mutex<Option<Error>>,
}

/// A network with its memory.
struct Runner {
    net: Net,
    plan: Plan,
    /// Layers on the device, by step; others run on the CPU.
    natives: Vec<Option<Box<dyn Native>>>,
    /// Address of each home.
    values: Vec<u64>,
    /// Address of each home's gradient; 0 until somebody wants it.
    gradients: Vec<u64>,
    /// Memory for the gradients of further consumers of a home: one for those that run later, and one for
    /// each operand of a layer that is the same value again.
    extras: HashMap<(usize, usize), u64>,
    /// Homes whose gradient has been written in this backward run.
    written: Vec<bool>,
    /// Gradients that values start with.
    seeds: HashMap<ValueId, Vec<f32>>,
}

impl CudaEngine {
    /// The engine of GPU `number`.
    pub fn open(number: usize) -> Result<Self> {
        Ok(Self::on(Box::new(driver::Driver::open(number)?)))
    }
    /// The engine of a device.
    pub fn on(device: Box<dyn Device>) -> Self {
        Self {
            device,
            params: Params::default(),
            nets: Vec::new(),
            scratch: (0, 0),
            fault: Mutex::default(),
        }
    }
    fn keep(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert(error);
        }
    }
    fn download(&self, address: u64, count: usize) -> Vec<f32> {
        let mut data = vec![f32::NAN; count];
        self.keep(self.device.download(address, &mut data));
        data
    }
}

impl Engine for CudaEngine {
    fn add(&mut self, mut net: Net) -> Result<NetId> {
        let mut plan = Plan::new(&net)?;
        let device = self.device.as_mut();
        let bound = self.params.bind(&mut net, device)?;
        plan.bind(&net, &bound, self.params.all())?;
        let mut natives = Vec::new();
        for step in &plan.steps {
            natives.push(self.params.make(device, &net, step)?);
        }
        let needs = natives.iter().flatten().map(|native| native.scratch());
        let needed = needs.max().unwrap_or_default();
        if needed > self.scratch.1 {
            self.scratch = (device.allocate(needed)?, needed);
        }
        let allocate = |&count: &usize| device.allocate(count);
        self.nets.push(Runner {
            values: plan.homes.iter().map(allocate).collect::<Result<_>>()?,
            gradients: vec![0; plan.homes.len()],
            extras: HashMap::new(),
            written: vec![false; plan.homes.len()],
            seeds: HashMap::new(),
            natives,
            net,
            plan,
        });
        Ok(NetId(self.nets.len() - 1))
    }

    fn net(&self, id: NetId) -> &Net {
        &self.nets[id.0].net
    }

    fn fresh(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self::on(self.device.fresh()?)))
    }

    fn params(&self) -> &[Param] {
        self.params.all()
    }

    fn forward(&mut self, id: NetId, inputs: &[&Tensor], turn: u64) -> Result<()> {
        self.check()?;
        let (runner, device) = (&mut self.nets[id.0], self.device.as_mut());
        for (&value, tensor) in runner.net.graph.inputs.iter().zip(inputs) {
            device.upload(runner.values[runner.plan.home(value)], tensor.data())?;
        }
        let mut steps = std::mem::take(&mut runner.plan.steps);
        let mut result = Ok(());
        for (index, step) in steps.iter_mut().enumerate() {
            let layer = runner.net.graph.nodes[step.node].name.clone();
            result = runner
                .forward(
                    index,
                    step,
                    device,
                    &mut self.params,
                    (self.scratch.0, turn),
                )
                .map_err(|error| error.layer(layer));
            if result.is_err() {
                break;
            }
        }
        runner.plan.steps = steps;
        result
    }

    fn backward(&mut self, id: NetId) {
        let (runner, device) = (&mut self.nets[id.0], self.device.as_mut());
        let result = runner.all_backward(device, &mut self.params, self.scratch.0);
        self.keep(result);
    }

    fn value(&self, id: NetId, value: ValueId) -> Vec<f32> {
        let runner = &self.nets[id.0];
        let home = runner.plan.home(value);
        self.download(runner.values[home], runner.plan.homes[home])
    }

    fn value_gradient(&self, id: NetId, value: ValueId) -> Option<Vec<f32>> {
        let runner = &self.nets[id.0];
        let home = runner.plan.home(value);
        let count = runner.plan.homes[home];
        runner.written[home].then(|| self.download(runner.gradients[home], count))
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
        let result = self.params.edit(param, self.device.as_mut(), edit);
        self.keep(result);
    }

    fn read(&mut self, param: usize, read: &mut dyn FnMut(&Param, &ParamState)) {
        let result = self.params.read(param, self.device.as_ref(), read);
        self.keep(result);
    }

    fn bytes(&self, id: NetId) -> u64 {
        let runner = &self.nets[id.0];
        let values: usize = runner.plan.homes.iter().sum();
        let homes = runner.plan.gradient_homes();
        let gradients: usize = homes.map(|home| runner.plan.homes[home]).sum();
        4 * (values + gradients) as u64
    }

    fn check(&self) -> Result<()> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone().map_or(Ok(()), Err)
    }

    fn clear_gradients(&mut self) {
        let result = self.params.clear_gradients(self.device.as_mut());
        self.keep(result);
    }

    fn update(&mut self, param: usize, update: &Update<'_>) {
        let result = self.params.update(param, self.device.as_mut(), update);
        self.keep(result);
    }
}

impl Params {
    /// The device's layer for a step, if there is one.
    fn make(
        &self,
        device: &mut dyn Device,
        net: &Net,
        step: &Step,
    ) -> Result<Option<Box<dyn Native>>> {
        let node = &net.graph.nodes[step.node];
        let inputs: Vec<&Shape> = node.inputs.iter().map(|&id| net.graph.shape(id)).collect();
        let weight = step
            .params
            .first()
            .map_or(0, |&param| self.all()[param].shape.count());
        let place = Place {
            inputs: &inputs,
            output: net.graph.shape(node.output),
            weight,
            norm: make::norm(net, node),
            dropout: make::dropout(net, node).map(|ratio| (ratio, dropouts(net, step.node))),
            draws: make::draws(net, node),
            passes_gradient: match node.op {
                Op::Softmax { .. } => make::feeds_softmax_loss(net, node)?,
                _ => false,
            },
        };
        // Weights that are no parameters lie on the CPU.
        if node.op.weights().len() != step.params.len() {
            return Ok(None);
        }
        native(device, &node.op, &place)
    }
}

/// Number of a Dropout: how many there are up to a node.
fn dropouts(net: &Net, node: usize) -> u64 {
    let nodes = net.graph.nodes[..=node].iter();
    let identities = nodes.filter(|node| matches!(node.op, Op::Identity));
    identities
        .filter(|node| make::dropout(net, node).is_some())
        .count() as u64
}

impl Runner {
    fn forward(
        &mut self,
        index: usize,
        step: &mut Step,
        device: &mut dyn Device,
        params: &mut Params,
        (scratch, turn): (u64, u64),
    ) -> Result<()> {
        let inputs: Vec<u64> = step.inputs.iter().map(|&home| self.values[home]).collect();
        let output = self.values[step.output];
        match &mut self.natives[index] {
            Some(native) => {
                let weights = params.addresses(&step.params, device)?;
                let run = Forward {
                    inputs: &inputs,
                    output,
                    weights: &weights,
                    scratch,
                    turn,
                };
                native.forward(device, &run)
            }
            None => self.forward_on_cpu(step, device, params, turn),
        }
    }

    fn arrays(&self, homes: &[usize], device: &dyn Device) -> Result<Vec<Vec<f32>>> {
        let array = |&home: &usize| {
            let mut data = vec![0.0; self.plan.homes[home]];
            device.download(self.values[home], &mut data)?;
            Ok(data)
        };
        homes.iter().map(array).collect()
    }

    fn forward_on_cpu(
        &mut self,
        step: &mut Step,
        device: &mut dyn Device,
        params: &mut Params,
        turn: u64,
    ) -> Result<()> {
        let mut inputs = self.arrays(&step.inputs, device)?;
        let output = self.values[step.output];
        if step.in_place {
            step.layer.forward_in_place(&mut inputs[0], turn);
            return device.upload(output, &inputs[0]);
        }
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        step.layer.check(&inputs)?;
        let mut result = vec![0.0; self.plan.homes[step.output]];
        let mut weights = params.copies(&step.params, device)?;
        step.layer.forward(cpu::Forward {
            inputs: &inputs,
            output: &mut result,
            weights: &mut weights,
            turn,
        });
        device.upload(output, &result)
    }

    fn all_backward(
        &mut self,
        device: &mut dyn Device,
        params: &mut Params,
        scratch: u64,
    ) -> Result<()> {
        self.start_gradients(device)?;
        let mut steps = std::mem::take(&mut self.plan.steps);
        let mut result = Ok(());
        for (index, step) in steps.iter_mut().enumerate().rev() {
            if result.is_ok() && step.learns && self.written[step.output] {
                let name = &self.net.graph.nodes[step.node].name;
                let name = name.clone();
                result = self
                    .backward(index, step, device, params, scratch)
                    .map_err(|error| error.layer(name));
            }
        }
        self.plan.steps = steps;
        result
    }

    /// Gradients of the losses: their weights; and the seeds.
    fn start_gradients(&mut self, device: &mut dyn Device) -> Result<()> {
        self.written.fill(false);
        let losses = self.net.losses.clone();
        for (value, weight) in losses {
            let home = self.plan.home(value);
            let start = vec![weight; self.plan.homes[home]];
            let address = self.gradient(home, device)?;
            device.upload(address, &start)?;
            self.written[home] = true;
        }
        let seeds: Vec<(usize, Vec<f32>)> = self
            .seeds
            .iter()
            .map(|(&value, seed)| (self.plan.home(value), seed.clone()))
            .collect();
        for (home, seed) in seeds {
            let address = self.buffer(home, device)?;
            device.upload(address, &seed)?;
            self.deliver(home, address, device)?;
        }
        Ok(())
    }

    /// The home's gradient.
    fn gradient(&mut self, home: usize, device: &mut dyn Device) -> Result<u64> {
        if self.gradients[home] == 0 {
            self.gradients[home] = device.allocate(self.plan.homes[home])?;
        }
        Ok(self.gradients[home])
    }

    /// Where a consumer writes the gradient: that of the home, unless another one has written it already.
    fn buffer(&mut self, home: usize, device: &mut dyn Device) -> Result<u64> {
        if !self.written[home] {
            return self.gradient(home, device);
        }
        self.extra(home, 0, device)
    }

    /// Further memory of a home: which tells apart what is needed at the same time.
    fn extra(&mut self, home: usize, which: usize, device: &mut dyn Device) -> Result<u64> {
        if let Some(&extra) = self.extras.get(&(home, which)) {
            return Ok(extra);
        }
        let extra = device.allocate(self.plan.homes[home])?;
        self.extras.insert((home, which), extra);
        Ok(extra)
    }

    fn deliver(&mut self, home: usize, address: u64, device: &mut dyn Device) -> Result<()> {
        if self.written[home] {
            let numbers = [self.plan.homes[home], 1];
            let args = Args::new(&[address, self.gradients[home]], &numbers, &[1.0]);
            device.launch("add", &args)?;
        }
        self.written[home] = true;
        Ok(())
    }

    fn backward(
        &mut self,
        index: usize,
        step: &mut Step,
        device: &mut dyn Device,
        params: &mut Params,
        scratch: u64,
    ) -> Result<()> {
        if step.in_place {
            return self.backward_in_place(index, step, device, scratch);
        }
        // Operands one after the other: two of them may be the same value.
        let mut wanted = Vec::new();
        for (&home, &wants) in step.inputs.iter().zip(&step.wants) {
            let before = wanted
                .iter()
                .filter(|&&(other, address)| other == home && address != 0);
            let before = before.count();
            let address = match (wants, before) {
                (false, _) => 0,
                (true, 0) => self.buffer(home, device)?,
                (true, _) => self.extra(home, before, device)?,
            };
            wanted.push((home, address));
        }
        let into: Vec<u64> = wanted.iter().map(|&(_, address)| address).collect();
        if self.natives[index].is_some() {
            self.backward_on_device(index, step, &into, device, (params, scratch))?;
        } else {
            self.backward_on_cpu(step, &into, device, params)?;
        }
        for (home, address) in wanted.into_iter().filter(|&(_, address)| address != 0) {
            self.deliver(home, address, device)?;
        }
        Ok(())
    }

    fn backward_on_device(
        &mut self,
        index: usize,
        step: &Step,
        into: &[u64],
        device: &mut dyn Device,
        (params, scratch): (&mut Params, u64),
    ) -> Result<()> {
        let Some(native) = &mut self.natives[index] else {
            return Ok(());
        };
        let inputs: Vec<u64> = step.inputs.iter().map(|&home| self.values[home]).collect();
        let run = Backward {
            inputs: &inputs,
            output: self.values[step.output],
            output_gradient: self.gradients[step.output],
            input_gradients: into,
            weights: &params.addresses(&step.params, device)?,
            weight_gradients: &params.gradients(&step.params, &step.trains),
            scratch,
        };
        native.backward(device, &run)
    }

    fn backward_in_place(
        &mut self,
        index: usize,
        step: &mut Step,
        device: &mut dyn Device,
        scratch: u64,
    ) -> Result<()> {
        let (output, gradient) = (self.values[step.output], self.gradients[step.output]);
        if let Some(native) = &mut self.natives[index] {
            let run = Backward {
                inputs: &[output],
                output,
                output_gradient: gradient,
                input_gradients: &[gradient],
                weights: &[],
                weight_gradients: &[],
                scratch,
            };
            return native.backward(device, &run);
        }
        let value = self.arrays(&[step.output], device)?;
        let mut data = vec![0.0; value[0].len()];
        device.download(gradient, &mut data)?;
        step.layer.backward_in_place(&value[0], &mut data);
        device.upload(gradient, &data)
    }

    fn backward_on_cpu(
        &mut self,
        step: &mut Step,
        into: &[u64],
        device: &mut dyn Device,
        params: &mut Params,
    ) -> Result<()> {
        let inputs = self.arrays(&step.inputs, device)?;
        let inputs_ref: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let output = self.arrays(&[step.output], device)?;
        let mut gradient = vec![0.0; output[0].len()];
        device.download(self.gradients[step.output], &mut gradient)?;
        let zeros =
            |(input, &address): (&Vec<f32>, &u64)| (address != 0).then(|| vec![0.0; input.len()]);
        let mut input_gradients: Vec<Option<Vec<f32>>> =
            inputs.iter().zip(into).map(zeros).collect();
        let weights = params.copies(&step.params, device)?;
        let mut weight_gradients: Vec<Option<Vec<f32>>> = weights
            .iter()
            .zip(&step.trains)
            .map(|(weights, &trains)| trains.then(|| vec![0.0; weights.len()]))
            .collect();
        step.layer.backward(cpu::Backward {
            inputs: &inputs_ref,
            output: &output[0],
            output_gradient: &gradient,
            input_gradients: &mut input_gradients,
            weights: &weights,
            weight_gradients: &mut weight_gradients,
        });
        for (gradient, &address) in input_gradients.iter().zip(into) {
            if let Some(gradient) = gradient {
                device.upload(address, gradient)?;
            }
        }
        for (&param, gradient) in step.params.iter().zip(weight_gradients) {
            if let Some(gradient) = gradient {
                params.add_gradient(param, &gradient, device)?;
            }
        }
        Ok(())
    }
}
