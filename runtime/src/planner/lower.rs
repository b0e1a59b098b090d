//! Kernels, chosen and built → drafts of steps.

use super::analysis::Analysis;
use super::drafts::{DraftWork, Drafts, Subject};
use super::rearrange::{rearrange, rearrange_behind};
use super::select::Chosen;
use crate::PlanError;
use crate::buffers::{BufferId, Form, Home};
use crate::plan::{Choice, MOST_OPERANDS, Reference, Work};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Planes, Problem};
use skimjit_models::{Graph, Op, Shape, ValueId, Weight, WeightId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Drafts under construction, and where values are by now.
struct Lowering<'a> {
    analysis: &'a Analysis<'a>,
    weights: Arc<[Arc<Weight>]>,
    forms: HashMap<(ValueId, Form), BufferId>,
    drafts: Drafts<'a>,
    choices: Vec<Choice>,
    /// Nodes that a kernel computes.
    has_kernel: Vec<bool>,
    /// Values that only move what another holds, and that their one reader moves on: they need not be made.
    moved: HashMap<ValueId, Moved>,
}

/// A value whose elements are those of another.
struct Moved {
    of: ValueId,
    origins: Vec<u32>,
    /// The node that moves them, and its step should it be wanted after all.
    node: usize,
    step: Reference,
}

/// Steps of all nodes, and what to say of each. `chosen`: the kernels of nodes that have a problem and a variant.
pub(super) fn lower<'a>(
    analysis: &'a Analysis<'a>,
    chosen: Vec<Option<Chosen<'_>>>,
    isa: Isa,
) -> Result<(Drafts<'a>, Vec<Choice>), PlanError> {
    let mut lowering = Lowering {
        analysis,
        weights: weights_without_kernel(analysis.graph, &chosen),
        forms: HashMap::new(),
        drafts: Drafts::new(isa),
        choices: Vec::new(),
        has_kernel: chosen.iter().map(Option::is_some).collect(),
        moved: HashMap::new(),
    };
    for (node, chosen) in chosen.into_iter().enumerate() {
        lowering.drafts.segment = analysis.segment_of[node];
        lowering.node(node, chosen)?;
    }
    lowering.store_outputs();
    Ok((lowering.drafts, lowering.choices))
}

/// The weights of the graph, of which only those have elements that no kernel has packed.
fn weights_without_kernel(graph: &Graph, chosen: &[Option<Chosen<'_>>]) -> Arc<[Arc<Weight>]> {
    let nodes = graph.nodes.iter().zip(chosen);
    let without = nodes.filter(|(_, chosen)| chosen.is_none());
    let needed: HashSet<WeightId> = without.flat_map(|(node, _)| node.op.weights()).collect();
    let weights = (0..).map(WeightId).zip(&graph.weights);
    let weights = weights.map(|(id, weight)| match needed.contains(&id) {
        true => weight.clone(),
        false => Arc::new(weight.let_go()),
    });
    weights.collect()
}

impl<'a> Lowering<'a> {
    /// The buffer a node writes its result to.
    fn output(&mut self, value: ValueId, form: Form) -> BufferId {
        if let Some(&buffer) = self.forms.get(&(value, form)) {
            return buffer;
        }
        let info = self.analysis.info(value);
        let buffer = match self.analysis.parent.get(&value).copied() {
            Some((whole, channel)) if info.form == form => {
                let whole = self.output(whole, form);
                let offset = channel as usize * info.planes.pitch as usize;
                self.drafts.buffers.add_part(whole, offset, info.planes)
            }
            _ => {
                let home = match form {
                    // They hold all images.
                    Form::Columns => Home::Whole,
                    Form::Planes | Form::Rows => info.home,
                };
                self.drafts.buffers.add(self.planes_of(value, form), home)
            }
        };
        self.forms.insert((value, form), buffer);
        buffer
    }

    fn planes_of(&self, value: ValueId, form: Form) -> Planes {
        let info = self.analysis.info(value);
        match form {
            _ if info.form == form => info.planes,
            Form::Columns => {
                let elems = info.planes.c * info.planes.hw();
                Planes::with_gap(elems, 1, self.analysis.batch, 0)
            }
            _ => Planes::compact(info.planes.c, info.planes.h, info.planes.w),
        }
    }

    /// A buffer with the value in `form`, converted when there is none yet.
    fn need(&mut self, value: ValueId, form: Form) -> BufferId {
        if let Some(&buffer) = self.forms.get(&(value, form)) {
            return buffer;
        }
        // Columns last: they hold all images at once, so a step for one image must not convert them,
        // and an input always has its rows as well.
        let (from, source) = [Form::Planes, Form::Rows]
            .into_iter()
            .find_map(|form| self.known(value, form))
            .or_else(|| self.input_rows(value))
            .or_else(|| self.known(value, Form::Columns))
            .expect("values are computed before use");
        match (from, form) {
            (Form::Columns, Form::Planes) => {
                let rows = self.need(value, Form::Rows);
                self.convert(value, rows, Form::Planes)
            }
            _ => self.convert(value, source, form),
        }
    }

    fn known(&self, value: ValueId, form: Form) -> Option<(Form, BufferId)> {
        let buffer = self.forms.get(&(value, form));
        buffer.map(|&buffer| (form, buffer))
    }

    /// The user's array, for inputs of the network.
    fn input_rows(&mut self, value: ValueId) -> Option<(Form, BufferId)> {
        let mut inputs = self.analysis.graph.inputs.iter();
        let index = inputs.position(|&input| input == value)?;
        let Planes { c, h, w, .. } = self.analysis.info(value).planes;
        let planes = Planes::compact(c, h, w);
        Some((
            Form::Rows,
            self.drafts.buffers.add(planes, Home::Input(index)),
        ))
    }

    fn convert(&mut self, value: ValueId, source: BufferId, form: Form) -> BufferId {
        let target = self.output(value, form);
        let columns = self.drafts.buffers.planes(source).c as usize;
        let from_columns = self.forms.get(&(value, Form::Columns)) == Some(&source);
        let (label, work) = match form {
            Form::Columns => ("to columns", Work::ToColumns),
            _ if from_columns => ("from columns", Work::FromColumns),
            _ => ("copy", Work::Copy),
        };
        self.move_value(value, label, (work, columns), source, target);
        target
    }

    fn move_value(
        &mut self,
        value: ValueId,
        label: &'static str,
        (work, tasks): (Work, usize),
        source: BufferId,
        target: BufferId,
    ) {
        let layer = &self.analysis.graph.value(value).name;
        let (work, src) = (DraftWork::Other(work, tasks), vec![source]);
        let subject = Subject { layer, node: None };
        self.drafts.push(subject, label, work, src, target);
    }

    fn store_outputs(&mut self) {
        self.drafts.segment = self.analysis.per_image.len() - 1;
        for (index, &value) in self.analysis.graph.outputs.iter().enumerate() {
            let known = [Form::Rows, Form::Planes]
                .into_iter()
                .find(|&form| self.forms.contains_key(&(value, form)));
            let source = self.need(value, known.unwrap_or(Form::Rows));
            let Planes { c, h, w, .. } = self.analysis.info(value).planes;
            let planes = Planes::compact(c, h, w);
            let target = self.drafts.buffers.add(planes, Home::Output(index));
            self.move_value(value, "output", (Work::Copy, c as usize), source, target);
        }
    }

    /// Appends the steps of a node; `chosen` is its kernel, if it has a problem and a variant.
    fn node(&mut self, node: usize, chosen: Option<Chosen<'_>>) -> Result<(), PlanError> {
        if self.analysis.is_fused_sum(node) {
            self.note(node, "fused");
            return Ok(());
        }
        if let Some(chosen) = chosen {
            self.kernel(node, chosen);
            return Ok(());
        }
        if self.analysis.coupled[node] {
            return self.reference(node);
        }
        match &self.analysis.graph.nodes[node].op {
            Op::Concat { axis: 1 } => self.concat(node),
            Op::Slice(op) if op.axis == 1 => self.slice(node, op.begin),
            op if is_view(op) => self.view(node),
            _ => return self.reference(node),
        }
        Ok(())
    }

    /// Notes a node that needs no kernel.
    fn note(&mut self, node: usize, how: &str) {
        self.choices.push(self.analysis.choice(node, how));
    }

    fn subject(&self, node: usize) -> Subject<'a> {
        let layer = &self.analysis.graph.nodes[node].name;
        let node = Some(node);
        Subject { layer, node }
    }

    fn kernel(&mut self, node: usize, chosen: Chosen<'_>) {
        self.choices.push(chosen.choice);
        let (analysis, job) = (self.analysis, &chosen.job);
        let form = |id| match &job.problem {
            _ if job.columns => Form::Columns,
            Problem::Fc(_) => Form::Rows,
            _ => analysis.info(id).form,
        };
        let operands = job.operands.iter();
        let src = operands.map(|&id| self.need(id, form(id))).collect();
        let dst = self.output(job.output, form(job.output));
        self.drafts
            .push_kernel(self.subject(node), chosen.label, chosen.kernel, src, dst);
        if job.columns && !self.only_columns(job.output) {
            self.need(job.output, analysis.info(job.output).form);
        }
    }

    /// True when every consumer is an inner product over columns.
    fn only_columns(&self, value: ValueId) -> bool {
        let columns = |&index: &usize| {
            matches!(&self.analysis.graph.nodes[index].op, Op::InnerProduct(op) if op.axis == 1)
                && !self.analysis.is_per_image(index)
                && !self.analysis.coupled[index]
        };
        let mut readers = self.analysis.readers[value.0 as usize].iter();
        !self.analysis.graph.outputs.contains(&value) && readers.all(columns)
    }

    fn copy(&mut self, node: usize, source: BufferId, target: BufferId, tasks: usize) {
        let (subject, work) = (self.subject(node), DraftWork::Other(Work::Copy, tasks));
        self.drafts
            .push(subject, "copy", work, vec![source], target);
    }

    fn concat(&mut self, node: usize) {
        let output = self.analysis.result(node);
        let info = self.analysis.info(output);
        let whole = self.output(output, info.form);
        let mut channel = 0;
        for &input in &self.analysis.graph.nodes[node].inputs {
            let planes = Planes {
                c: self.analysis.info(input).planes.c,
                ..info.planes
            };
            let offset = channel as usize * planes.pitch as usize;
            let source = self.need(input, self.analysis.info(input).form);
            if !self.drafts.buffers.is_part(source, whole, offset) {
                let part = self.drafts.buffers.add_part(whole, offset, planes);
                self.copy(node, source, part, planes.c as usize);
            }
            channel += planes.c;
        }
        self.note(node, "view");
    }

    fn slice(&mut self, node: usize, begin: u32) {
        let (input, output) = (self.analysis.operand(node, 0), self.analysis.result(node));
        let (from, to) = (self.analysis.info(input), self.analysis.info(output));
        let source = self.need(input, from.form);
        let offset = begin as usize * from.planes.pitch as usize;
        let shared = from.form == to.form && from.home == to.home;
        let part = self.drafts.buffers.add_part(
            source,
            offset,
            Planes {
                c: to.planes.c,
                ..self.drafts.buffers.planes(source)
            },
        );
        if shared && !self.analysis.parent.contains_key(&output) {
            self.forms.insert((output, to.form), part);
        } else {
            let target = self.output(output, to.form);
            self.copy(node, part, target, to.planes.c as usize);
        }
        self.note(node, "view");
    }

    /// Same elements in the same order: rows of the operand are rows of the result.
    fn view(&mut self, node: usize) {
        let (input, output) = (self.analysis.operand(node, 0), self.analysis.result(node));
        let (from, to) = (self.analysis.info(input), self.analysis.info(output));
        let rows = self.need(input, Form::Rows);
        let part_of_concat = self.analysis.parent.contains_key(&output) && to.form == Form::Rows;
        if from.home == to.home && !part_of_concat {
            let planes = Planes::compact(to.planes.c, to.planes.h, to.planes.w);
            let part = self.drafts.buffers.add_part(rows, 0, planes);
            self.forms.insert((output, Form::Rows), part);
        } else {
            let planes = Planes::compact(1, 1, from.planes.c * from.planes.hw());
            let source = self.drafts.buffers.add_part(rows, 0, planes);
            let target = self.output(output, Form::Rows);
            let target = self.drafts.buffers.add_part(target, 0, planes);
            self.copy(node, source, target, 1);
        }
        self.note(node, "view");
    }

    /// Rows of the whole batch as one array, copied when they are parts of longer rows.
    fn one_array(&mut self, node: usize, rows: BufferId) -> BufferId {
        if !self.drafts.buffers.rows_lie_apart(rows) {
            return rows;
        }
        let planes = self.drafts.buffers.planes(rows);
        let array = self.drafts.buffers.add(planes, Home::Batch);
        self.copy(node, rows, array, planes.c as usize);
        array
    }

    /// Whether the one reader of a node's result only moves it on, so that both can be one step.
    fn is_moved_on(&self, node: usize) -> bool {
        let (graph, output) = (self.analysis.graph, self.analysis.result(node));
        let &[reader] = self.analysis.readers[output.0 as usize].as_slice() else {
            return false;
        };
        let next = &graph.nodes[reader];
        let segment = |node: usize| self.analysis.segment_of[node];
        let alone = !graph.outputs.contains(&output) && !self.analysis.parent.contains_key(&output);
        let moves = next.op.only_moves() && next.inputs.len() == 1;
        let by_reference = !self.has_kernel[reader] && !is_view(&next.op);
        alone
            && moves
            && by_reference
            && !self.analysis.coupled[node]
            && !self.analysis.coupled[reader]
            && segment(node) == segment(reader)
    }

    fn reference(&mut self, node: usize) -> Result<(), PlanError> {
        let graph = self.analysis.graph;
        let whole = self.analysis.coupled[node];
        let shape = |id: ValueId| -> Shape {
            match whole {
                true => graph.shape(id).clone(),
                false => graph.shape(id).with_batch(1),
            }
        };
        let described = &graph.nodes[node];
        let (inputs, output) = (&described.inputs, described.output);
        if inputs.len() > MOST_OPERANDS {
            return Err(PlanError::operands(&described.name, inputs.len()));
        }
        let mut reference = Reference {
            op: described.op.clone(),
            weights: self.weights.clone(),
            inputs: inputs.iter().map(|&id| shape(id)).collect(),
            output: shape(output),
            moves: None,
        };
        match inputs.as_slice() {
            &[x] => self.moving(node, x, reference),
            _ => {
                reference.moves = rearrange(&reference);
                self.push_reference(node, inputs, reference);
            }
        }
        Ok(())
    }

    /// A node of one operand: what it moves of a value that only moves another's elements, it moves of that one.
    fn moving(&mut self, node: usize, x: ValueId, mut reference: Reference) {
        let output = self.analysis.result(node);
        let before = self.moved.remove(&x);
        let origins = before.as_ref().map(|moved| &moved.origins[..]);
        let Some((moves, origins)) = rearrange_behind(&reference, origins) else {
            if let Some(Moved { of, node, step, .. }) = before {
                self.push_without_kernel(node, &[of], step);
            }
            return self.push_reference(node, &[x], reference);
        };
        reference.moves = Some(moves);
        let mut of = x;
        if let Some(before) = before {
            of = before.of;
            reference.inputs = before.step.inputs;
        }
        if self.is_moved_on(node) {
            let moved = Moved {
                of,
                origins,
                node,
                step: reference,
            };
            self.moved.insert(output, moved);
            self.note(node, "fused");
            return;
        }
        self.push_reference(node, &[of], reference);
    }

    fn push_reference(&mut self, node: usize, sources: &[ValueId], reference: Reference) {
        let label = self.push_without_kernel(node, sources, reference);
        self.note(node, label);
    }

    /// Appends the step of an op without kernel, and returns what it is called.
    fn push_without_kernel(
        &mut self,
        node: usize,
        sources: &[ValueId],
        reference: Reference,
    ) -> &'static str {
        let whole = self.analysis.coupled[node];
        let label = match &reference.moves {
            Some(_) => "moves",
            None => "reference",
        };
        let src = sources
            .iter()
            .map(|&id| {
                let rows = self.need(id, Form::Rows);
                match whole {
                    true => self.one_array(node, rows),
                    false => rows,
                }
            })
            .collect();
        let dst = self.output(self.analysis.result(node), Form::Rows);
        let work = DraftWork::Other(Work::Reference(Box::new(reference)), 1);
        self.drafts.push(self.subject(node), label, work, src, dst);
        label
    }
}

/// True for what gives a value another shape, or another place, without a step of its own.
fn is_view(op: &Op) -> bool {
    match op {
        Op::Concat { axis } => *axis == 1,
        Op::Slice(op) => op.axis == 1,
        op => matches!(
            op,
            Op::Flatten { .. } | Op::Reshape(_) | Op::Identity | Op::Dropout { .. }
        ),
    }
}
