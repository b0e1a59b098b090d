//! What a plan does, layer by layer: a kernel and the padded copy it reads are one function.

use super::{Access, Interface, LayerInterface};
use crate::error;
use skimjit_kernels::{CompiledKernel, Planes, stage::Staging};
use skimjit_runtime::PlanError;
use skimjit_runtime::plan::{Loops, Operand, Plan, Rearranged, Step, Work};
use std::collections::HashSet;

/// A kernel with its staging.
pub(super) struct Layer<'p> {
    pub name: &'p str,
    /// Node of the planned graph: the same for every instruction set.
    pub node: usize,
    pub variant: &'static str,
    pub kernel: &'p CompiledKernel,
    pub staging: Option<&'p Staging>,
    /// Sources, before staging.
    pub src: Vec<Operand>,
    pub dst: Operand,
    pub loops: Loops,
}

/// What is done between two barriers.
pub(super) enum Action<'p> {
    /// Zeros in the gaps of planes.
    Clear(&'p Operand),
    /// A layer, by its index.
    Layer(usize),
    /// A copy, or an op that only moves data: what of each operand.
    Move(&'p Step, Option<&'p [Rearranged]>),
}

/// Layers of a plan in order, and the actions of each segment.
pub(super) struct Layers<'p> {
    pub list: Vec<Layer<'p>>,
    pub segments: Vec<Vec<Action<'p>>>,
}

impl<'p> Layers<'p> {
    /// Layers named in `wanted`; without it all, and every step must be possible.
    pub fn of(plan: &'p Plan, wanted: Option<&[String]>) -> Result<Self, PlanError> {
        let mut layers = Self {
            list: Vec::new(),
            segments: Vec::new(),
        };
        let mut refused = Vec::new();
        for segment in &plan.segments {
            let mut actions = Vec::new();
            let mut copies = Vec::new();
            for step in &segment.steps {
                actions.extend(step.unclean.iter().map(Action::Clear));
                match &step.work {
                    Work::Stage(..) => copies.push(step),
                    Work::Kernel(kernel) => {
                        actions.push(Action::Layer(layers.list.len()));
                        layers.list.push(Layer::new(step, kernel, &copies));
                    }
                    Work::Copy | Work::ToColumns | Work::FromColumns => {
                        actions.push(Action::Move(step, None));
                    }
                    Work::Reference(reference) => match &reference.moves {
                        Some(moved) => actions.push(Action::Move(step, Some(moved))),
                        None => refused.push((&step.layer[..], reference.op.name())),
                    },
                }
            }
            layers.segments.push(actions);
        }
        match wanted {
            Some(wanted) => layers.only(plan, wanted),
            None if !refused.is_empty() => Err(error::no_kernels(&refused)),
            None => Ok(layers),
        }
    }

    /// Keeps the layers that are wanted; there is no network any more.
    fn only(mut self, plan: &Plan, wanted: &[String]) -> Result<Self, PlanError> {
        for name in wanted {
            if !self.list.iter().any(|layer| layer.name == name) {
                return Err(error::no_kernel(plan, name));
            }
        }
        self.list
            .retain(|layer| wanted.iter().any(|name| name == layer.name));
        self.segments.clear();
        Ok(self)
    }

    /// Elements of the largest padded copy.
    pub fn staged_elems(&self) -> usize {
        let stagings = self.list.iter().filter_map(|layer| layer.staging);
        stagings.map(Staging::elems).max().unwrap_or(0)
    }
}

impl<'p> Layer<'p> {
    /// Each layer makes the padded copy that it reads, even where a step has made it for the layer before.
    fn new(step: &'p Step, kernel: &'p CompiledKernel, copies: &[&'p Step]) -> Self {
        let mut src = step.src.clone();
        if kernel.staging().is_some() {
            let made = copies.iter().rev().find(|copy| copy.dst == src[0]);
            src[0] = made.expect("a step makes the copy").src[0];
        }
        Self {
            name: &step.layer,
            node: step.node.expect("a kernel computes a node"),
            variant: step.label,
            kernel,
            staging: kernel.staging(),
            src,
            dst: step.dst,
            loops: step.loops,
        }
    }

    fn source(&self, index: usize) -> Access {
        let planes = self.src[index].planes;
        let footprint = self.kernel.footprint();
        match (index, self.staging) {
            (0, Some(_)) => Access {
                planes,
                before: 0,
                after: planes.elems(),
            },
            // A residual lies as the result does.
            (1, _) => access(planes, footprint.dst),
            _ => access(planes, footprint.src),
        }
    }

    fn result(&self) -> Access {
        access(self.dst.planes, self.kernel.footprint().dst)
    }
}

fn access(planes: Planes, extent: skimjit_kernels::Extent) -> Access {
    Access {
        planes,
        before: extent.before,
        after: extent.after,
    }
}

impl Access {
    fn or(self, other: Self) -> Self {
        Self {
            before: self.before.max(other.before),
            after: self.after.max(other.after),
            ..self
        }
    }
}

/// Refuses plans of which one has a layer that another lacks.
fn same_layers(found: &[Layers<'_>]) -> Result<(), PlanError> {
    let nodes = |layers: &Layers<'_>| layers.list.iter().map(|layer| layer.node).collect();
    let first: Vec<usize> = nodes(&found[0]);
    for layers in &found[1..] {
        let other: Vec<usize> = nodes(layers);
        let all = found[0].list.iter().chain(&layers.list);
        let mut odd = all.filter(|l| !first.contains(&l.node) || !other.contains(&l.node));
        if let Some(layer) = odd.next() {
            return Err(error::one_isa_only(layer.name));
        }
    }
    Ok(())
}

/// How the program of some plans is called. Every plan must have the same layers.
pub(super) fn interface(
    name: &str,
    plans: &[&Plan],
    found: &[Layers<'_>],
    whole: bool,
) -> Result<Interface, PlanError> {
    same_layers(found)?;
    let mut names = HashSet::new();
    let mut layers = Vec::new();
    for (index, layer) in found[0].list.iter().enumerate() {
        // Nodes are in the same order for every instruction set.
        let same: Vec<&Layer<'_>> = found.iter().map(|layers| &layers.list[index]).collect();
        let merged = |access: &dyn Fn(&Layer<'_>) -> Access| {
            let accesses = same.iter().map(|layer| access(layer));
            accesses.reduce(Access::or).expect("one layer at least")
        };
        layers.push(LayerInterface {
            layer: layer.name.to_owned(),
            function: unique(
                &mut names,
                format!("{name}_layer_{}", identifier(layer.name)),
            ),
            variants: same.iter().map(|layer| layer.variant).collect(),
            whole_batch: layer.loops == Loops::Once,
            sources: (0..layer.src.len())
                .map(|index| merged(&|layer| layer.source(index)))
                .collect(),
            result: merged(&|layer| layer.result()),
        });
    }
    let ports = || [plans[0].inputs.clone(), plans[0].outputs.clone()];
    Ok(Interface {
        name: name.to_owned(),
        isas: plans.iter().map(|plan| plan.isa).collect(),
        batch: plans[0].batch,
        scratch_bytes: 0,
        network: whole.then(ports),
        layers,
    })
}

/// A name as a part of a C identifier.
pub fn identifier(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(safe).collect()
}

/// Different layers may become the same identifier, or the same macro in capitals.
fn unique(names: &mut HashSet<String>, name: String) -> String {
    let mut candidate = name.clone();
    let mut number = 1;
    while !names.insert(candidate.to_ascii_lowercase()) {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}
