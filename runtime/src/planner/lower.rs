//! One node → steps.

use super::job::Job;
use super::select::Chosen;
use super::{Planner, image_dims};
use crate::PlanError;
use crate::buffers::{BufferId, Form, Home};
use crate::plan::{Reference, Work};
use skimjit_kernels::{Planes, Problem};
use skimjit_models::ops::EltwiseOp;
use skimjit_models::{Graph, Op, Shape, ValueId, ops};
use std::collections::{HashMap, HashSet};

/// Zeros that same-size convolutions read behind planes of each size.
pub(super) fn gaps(graph: &Graph) -> HashMap<(u32, u32), u32> {
    let mut gaps = HashMap::new();
    for node in &graph.nodes {
        let Op::Convolution(op) = &node.op else {
            continue;
        };
        let (_, h, w) = image_dims(graph.shape(node.inputs[0]));
        let (_, oh, ow) = image_dims(graph.shape(node.output));
        if op.window.stride == [1, 1] && (h, w) == (oh, ow) {
            let gap = gaps.entry((h, w)).or_insert(0);
            *gap = (*gap).max(skimjit_kernels::gap(&op.window, w) as u32);
        }
    }
    gaps
}

/// Sums that the convolution before them does.
#[derive(Default)]
pub(super) struct FusedSums {
    /// Sum of each convolution, by node.
    sums: HashMap<usize, usize>,
    fused: HashSet<usize>,
}

impl FusedSums {
    fn add(&mut self, conv: usize, sum: usize) {
        self.sums.insert(conv, sum);
        self.fused.insert(sum);
    }
    /// The sum that a convolution does.
    pub fn of(&self, conv: usize) -> Option<usize> {
        self.sums.get(&conv).copied()
    }
    /// True for a sum that a convolution does.
    pub fn contains(&self, sum: usize) -> bool {
        self.fused.contains(&sum)
    }
    /// The sum behind a convolution is computed by itself.
    fn split(&mut self, conv: usize) {
        if let Some(sum) = self.sums.remove(&conv) {
            self.fused.remove(&sum);
        }
    }
}

/// Sums of two operands that the convolution computing one of them can do.
pub(super) fn fusible_sums(graph: &Graph) -> FusedSums {
    let producer: HashMap<ValueId, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.output, index))
        .collect();
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    let operands = graph
        .nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(&graph.outputs);
    operands.for_each(|&id| *uses.entry(id).or_default() += 1);
    let mut fused = FusedSums::default();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Op::Eltwise(ops::Eltwise {
            op: EltwiseOp::Sum { coefficients },
            ..
        }) = &node.op
        else {
            continue;
        };
        if node.inputs.len() != 2 || coefficients.iter().any(|&c| c != 1.0) {
            continue;
        }
        // The later operand, if a convolution made it, can add the earlier one.
        let made = |id: &ValueId| producer.get(id).copied();
        let Some(&last) = node.inputs.iter().max_by_key(|&id| made(id)) else {
            continue;
        };
        let Some(conv) = made(&last) else { continue };
        let plain = matches!(&graph.nodes[conv].op, Op::Convolution(op) if op.post.relu.is_none());
        let (_, h, w) = image_dims(graph.shape(last));
        if plain && uses[&last] == 1 && node.inputs[0] != node.inputs[1] && h * w > 1 {
            fused.add(conv, index);
        }
    }
    fused
}

impl Planner<'_> {
    /// Appends the steps of a node; `chosen` is its kernel, if it has a problem and a variant.
    pub(super) fn lower(
        &mut self,
        node: usize,
        job: Option<Job<'_>>,
        chosen: Option<Chosen>,
    ) -> Result<(), PlanError> {
        if self.fused_sums.contains(node) {
            self.note(node, "fused");
            return Ok(());
        }
        if let (Some(job), Some(chosen)) = (job, chosen) {
            self.kernel(node, &job, chosen);
            return Ok(());
        }
        if self.coupled[node] {
            return self.reference(node);
        }
        match &self.graph.nodes[node].op {
            Op::Concat { axis: 1 } => self.concat(node),
            Op::Slice(op) if op.axis == 1 => self.slice(node, op.begin),
            Op::Flatten { .. } | Op::Reshape(_) | Op::Identity | Op::Dropout { .. } => {
                self.view(node)
            }
            _ => return self.reference(node),
        }
        Ok(())
    }

    fn kernel(&mut self, node: usize, job: &Job<'_>, chosen: Chosen) {
        self.record(node, &chosen);
        let form = |planner: &Self, id| match &job.problem {
            _ if job.columns => Form::Columns,
            Problem::Fc(_) => Form::Rows,
            _ => planner.info(id).form,
        };
        let src: Vec<_> = job
            .operands
            .iter()
            .map(|&id| {
                let form = form(self, id);
                self.need(id, form)
            })
            .collect();
        let dst = if job.columns {
            self.columns(job.output)
        } else {
            let form = form(self, job.output);
            self.output(job.output, form)
        };
        self.push_kernel(node, chosen.label, chosen.kernel, src, dst, job.columns);
        if job.columns && !self.only_columns(job.output) {
            self.need(job.output, self.info(job.output).form);
        }
    }

    /// Result of an inner product over the batch's columns.
    fn columns(&mut self, value: ValueId) -> BufferId {
        let planes = self.planes_of(value, Form::Columns);
        let buffer = self.buffers.add(planes, Home::Whole);
        self.forms.insert((value, Form::Columns), buffer);
        buffer
    }

    /// True when every consumer is an inner product over columns.
    fn only_columns(&self, value: ValueId) -> bool {
        let columns = |&index: &usize| {
            matches!(&self.graph.nodes[index].op, Op::InnerProduct(op) if op.axis == 1)
                && !self.per_image[self.segment_of[index]]
                && !self.coupled[index]
        };
        !self.graph.outputs.contains(&value) && self.readers[value.0 as usize].iter().all(columns)
    }

    fn copy(&mut self, node: usize, source: BufferId, target: BufferId, tasks: usize) {
        let layer = self.graph.nodes[node].name.clone();
        let (work, src) = (Work::Copy, vec![source]);
        self.push_native(&layer, Some(node), "copy", work, src, target, tasks, false);
    }

    fn concat(&mut self, node: usize) {
        let output = self.result(node);
        let info = self.info(output);
        let whole = self.output(output, info.form);
        let mut channel = 0;
        for input in self.graph.nodes[node].inputs.clone() {
            let planes = Planes {
                c: self.info(input).planes.c,
                ..info.planes
            };
            let offset = channel as usize * planes.pitch as usize;
            let source = self.need(input, self.info(input).form);
            if !self.buffers.is_part(source, whole, offset) {
                let part = self.buffers.add_part(whole, offset, planes);
                self.copy(node, source, part, planes.c as usize);
            }
            channel += planes.c;
        }
        self.note(node, "view");
    }

    fn slice(&mut self, node: usize, begin: u32) {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (from, to) = (self.info(input), self.info(output));
        let source = self.need(input, from.form);
        let offset = begin as usize * from.planes.pitch as usize;
        let shared = from.form == to.form && from.home == to.home;
        let part = self.buffers.add_part(
            source,
            offset,
            Planes {
                c: to.planes.c,
                ..self.buffers.planes(source)
            },
        );
        if shared && !self.parent.contains_key(&output) {
            self.forms.insert((output, to.form), part);
        } else {
            let target = self.output(output, to.form);
            self.copy(node, part, target, to.planes.c as usize);
        }
        self.note(node, "view");
    }

    /// Same elements in the same order: rows of the operand are rows of the result.
    fn view(&mut self, node: usize) {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (from, to) = (self.info(input), self.info(output));
        let rows = self.need(input, Form::Rows);
        let part_of_concat = self.parent.contains_key(&output) && to.form == Form::Rows;
        if from.home == to.home && !part_of_concat {
            let planes = Planes::compact(to.planes.c, to.planes.h, to.planes.w);
            let part = self.buffers.add_part(rows, 0, planes);
            self.forms.insert((output, Form::Rows), part);
        } else {
            let planes = Planes::compact(1, 1, from.planes.c * from.planes.hw());
            let source = self.buffers.add_part(rows, 0, planes);
            let target = self.output(output, Form::Rows);
            let target = self.buffers.add_part(target, 0, planes);
            self.copy(node, source, target, 1);
        }
        self.note(node, "view");
    }

    /// Rows of the whole batch as one array, copied when they are parts of longer rows.
    fn one_array(&mut self, node: usize, rows: BufferId) -> BufferId {
        if !self.buffers.rows_lie_apart(rows) {
            return rows;
        }
        let planes = self.buffers.planes(rows);
        let array = self.buffers.add(planes, Home::Batch);
        self.copy(node, rows, array, planes.c as usize);
        array
    }

    fn reference(&mut self, node: usize) -> Result<(), PlanError> {
        let graph = self.graph;
        // A sum behind a convolution without kernel is computed by itself.
        self.fused_sums.split(node);
        let whole = self.coupled[node];
        let shape = |id: ValueId| -> Shape {
            let shape = self.shape(id);
            if whole {
                shape.clone()
            } else {
                shape.with_batch(1)
            }
        };
        let (inputs, output) = (&graph.nodes[node].inputs, graph.nodes[node].output);
        if inputs.len() > crate::session::MOST_OPERANDS {
            return Err(PlanError::operands(&graph.nodes[node].name, inputs.len()));
        }
        let reference = Reference {
            op: graph.nodes[node].op.clone(),
            weights: self.weights.clone(),
            inputs: inputs.iter().map(|&id| shape(id)).collect(),
            output: shape(output),
        };
        let src = inputs
            .iter()
            .map(|&id| {
                let rows = self.need(id, Form::Rows);
                if whole {
                    self.one_array(node, rows)
                } else {
                    rows
                }
            })
            .collect();
        let dst = self.output(output, Form::Rows);
        let layer = graph.nodes[node].name.clone();
        let work = Work::Reference(Box::new(reference));
        self.push_native(&layer, Some(node), "reference", work, src, dst, 1, whole);
        self.note(node, "reference");
        Ok(())
    }
}
