//! How a network runs: where its values live, and what has a gradient.

use crate::layer::LayerSpec;
use crate::net::Net;
use crate::param::Param;
use skimjit_models::{Error, Node, Op, Result, ValueId, WeightId};
use std::collections::{BTreeSet, HashMap};

/// One node.
pub struct Step {
    /// What it does.
    pub layer: LayerSpec,
    /// Index of the node in the graph.
    pub node: usize,
    /// Homes of its operands.
    pub inputs: Vec<usize>,
    /// Home of its result.
    pub output: usize,
    /// The result takes the operand's place.
    pub in_place: bool,
    /// Parameters, in Caffe's blob order.
    pub params: Vec<usize>,
    /// Which of them have gradients.
    pub trains: Vec<bool>,
    /// Which operands have gradients.
    pub wants: Vec<bool>,
    /// It runs backward.
    pub learns: bool,
    /// Parameters as the graph numbers them.
    weights: Vec<WeightId>,
}

/// All steps of a network.
#[derive(Default)]
pub struct Plan {
    /// In the order of the graph.
    pub steps: Vec<Step>,
    /// Elements of each home.
    pub homes: Vec<usize>,
    /// Home of each value.
    home: Vec<usize>,
}

impl Plan {
    /// Plans a network. Gradients are known after [`Plan::bind`].
    pub fn new(net: &Net) -> Result<Self> {
        let graph = &net.graph;
        let mut uses = vec![0usize; graph.values.len()];
        for node in &graph.nodes {
            node.inputs.iter().for_each(|id| uses[id.0 as usize] += 1);
        }
        // Whether the value may be overwritten: nobody reads it but one layer, and it is no result of the network.
        let mut free = vec![false; graph.values.len()];
        let mut plan = Self {
            home: vec![usize::MAX; graph.values.len()],
            ..Self::default()
        };
        for &id in &graph.inputs {
            plan.settle(net, id);
        }
        let layers = LayerSpec::all(net)?;
        for (index, (node, layer)) in graph.nodes.iter().zip(layers).enumerate() {
            let inputs: Vec<usize> = node.inputs.iter().map(|&id| plan.home(id)).collect();
            let single = node
                .inputs
                .first()
                .is_some_and(|id| free[id.0 as usize] && uses[id.0 as usize] == 1);
            let in_place = layer.kind.can_be_in_place() && inputs.len() == 1 && single;
            let output = if in_place {
                plan.home[node.output.0 as usize] = inputs[0];
                inputs[0]
            } else {
                plan.settle(net, node.output)
            };
            free[node.output.0 as usize] = !layer.kind.needs_output()
                && !graph.outputs.contains(&node.output)
                && !net.training.losses.iter().any(|&(id, _)| id == node.output);
            plan.steps.push(Step {
                layer,
                node: index,
                inputs,
                output,
                in_place,
                params: Vec::new(),
                trains: Vec::new(),
                wants: vec![false; node.inputs.len()],
                learns: false,
                weights: trainable_weights(&node.op),
            });
        }
        Ok(plan)
    }

    fn settle(&mut self, net: &Net, id: ValueId) -> usize {
        self.homes.push(net.graph.shape(id).count());
        self.home[id.0 as usize] = self.homes.len() - 1;
        self.homes.len() - 1
    }

    /// Home of a value.
    pub fn home(&self, id: ValueId) -> usize {
        self.home[id.0 as usize]
    }

    /// Elements of all values, and of the gradients that there are.
    pub fn elements(&self) -> usize {
        let learning = self.steps.iter().filter(|step| step.learns);
        let homes = learning.flat_map(|step| {
            let wanted = step.inputs.iter().zip(&step.wants);
            let wanted = wanted.filter(|(_, wants)| **wants);
            wanted.map(|(&home, _)| home).chain([step.output])
        });
        let homes: BTreeSet<usize> = homes.collect();
        let gradients: usize = homes.into_iter().map(|home| self.homes[home]).sum();
        self.homes.iter().sum::<usize>() + gradients
    }
}

fn no_gradient(net: &Net, node: &Node, operand: usize) -> Error {
    let name = &net.graph.value(node.inputs[operand]).name;
    Error::new("true")
        .layer(node.layer())
        .field(format!("propagate_down[{operand}]"))
        .expected(format!(
            "false: blob {name:?} has no gradient in a {} layer",
            node.op.name()
        ))
}

/// Weights that are parameters: constants of losses are not.
fn trainable_weights(op: &Op) -> Vec<WeightId> {
    match op {
        Op::Loss(_) | Op::Constant(_) => Vec::new(),
        op => op.weights(),
    }
}

impl Plan {
    /// Connects parameters, and finds out what has a gradient: what depends on a parameter that is
    /// trained and leads to a loss on a way that no `propagate_down: false` closes.
    pub fn bind(
        &mut self,
        net: &Net,
        bound: &HashMap<WeightId, usize>,
        params: &[Param],
    ) -> Result<()> {
        let graph = &net.graph;
        let mut depends = vec![net.training.force_backward; graph.values.len()];
        for step in &mut self.steps {
            step.params = step
                .weights
                .iter()
                .filter_map(|id| bound.get(id).copied())
                .collect();
            step.trains = step
                .params
                .iter()
                .map(|&param| params[param].lr_mult != 0.0)
                .collect();
            let node = &graph.nodes[step.node];
            let inputs = node.inputs.iter().any(|id| depends[id.0 as usize]);
            let depends_on_training = inputs || step.trains.contains(&true);
            depends[node.output.0 as usize] = depends_on_training;
        }
        let mut leads = vec![false; graph.values.len()];
        net.training
            .losses
            .iter()
            .for_each(|&(id, _)| leads[id.0 as usize] = true);
        for step in self.steps.iter_mut().rev() {
            let node = &graph.nodes[step.node];
            let output = node.output.0 as usize;
            if !leads[output] {
                continue;
            }
            let learns = depends[output];
            for (index, id) in node.inputs.iter().enumerate() {
                let id = id.0 as usize;
                // force_backward goes before propagate_down, as in Caffe.
                let said = net.training.propagates.get(&(step.node, index)).copied();
                let said = said.filter(|&said| said || !net.training.force_backward);
                let refuses = step.layer.kind.refuses_gradient_of(index);
                if learns && refuses && said == Some(true) {
                    return Err(no_gradient(net, node, index));
                }
                let open = !refuses && said != Some(false);
                // What is asked for expressly is computed even where nothing below learns.
                step.wants[index] = learns && open && (depends[id] || said == Some(true));
                leads[id] |= open;
            }
            step.learns = learns && (step.wants.contains(&true) || step.trains.contains(&true));
            if step.learns && !step.layer.kind.has_gradient() {
                return Err(Error::new(format!("a {} layer between parameters and the loss", node.op.name()))
                    .layer(node.name.clone())
                    .expected("a layer that can be trained through")
                    .hint("set propagate_down: false for it or lr_mult: 0 for all parameters before it, or loss_weight: 0 for what comes behind it"));
            }
        }
        Ok(())
    }
}
