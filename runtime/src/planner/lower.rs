//! One node → steps.

use super::{Planner, image_dims};
use crate::PlanError;
use crate::buffers::{Form, Home};
use crate::plan::{Reference, Work};
use skimjit_kernels::{
    ChannelwiseProblem, ConvProblem, EltwiseKind, EltwiseProblem, FcProblem, LrnProblem, Planes,
    PoolProblem, Problem, Relu, SoftmaxProblem,
};
use skimjit_models::ops::{Activation, EltwiseOp, PostOps, Window};
use skimjit_models::{Graph, Op, Shape, ValueId, WeightId, ops};
use std::collections::HashMap;

/// Images from which on an inner product runs as a convolution over the batch.
const COLUMN_BATCH: u32 = 8;

/// Zeros that same-size convolutions read behind planes of each size.
pub(super) fn gaps(graph: &Graph) -> HashMap<(u32, u32), u32> {
    let mut gaps = HashMap::new();
    for node in &graph.nodes {
        let Op::Convolution(op) = &node.op else { continue };
        let (_, h, w) = image_dims(graph.shape(node.inputs[0]));
        let (_, oh, ow) = image_dims(graph.shape(node.output));
        if op.window.stride == [1, 1] && (h, w) == (oh, ow) {
            let gap = gaps.entry((h, w)).or_insert(0);
            *gap = (*gap).max(op.window.pad[0] * w + op.window.pad[1]);
        }
    }
    gaps
}

/// Sums of two operands that the convolution computing one of them can do: conv node → sum node.
pub(super) fn fusible_sums(graph: &Graph) -> HashMap<usize, usize> {
    let producer: HashMap<ValueId, usize> =
        graph.nodes.iter().enumerate().map(|(index, node)| (node.output, index)).collect();
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    let operands = graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs);
    operands.for_each(|&id| *uses.entry(id).or_default() += 1);
    let mut fused = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Op::Eltwise(ops::Eltwise { op: EltwiseOp::Sum { coefficients }, .. }) = &node.op else {
            continue;
        };
        if node.inputs.len() != 2 || coefficients.iter().any(|&c| c != 1.0) {
            continue;
        }
        // The later operand, if a convolution made it, can add the earlier one.
        let made = |id: &ValueId| producer.get(id).copied();
        let Some(&last) = node.inputs.iter().max_by_key(|&id| made(id)) else { continue };
        let Some(conv) = made(&last) else { continue };
        let plain = matches!(&graph.nodes[conv].op, Op::Convolution(op) if op.post.relu.is_none());
        let (_, h, w) = image_dims(graph.shape(last));
        if plain && uses[&last] == 1 && node.inputs[0] != node.inputs[1] && h * w > 1 {
            fused.insert(conv, index);
        }
    }
    fused
}

fn relu(post: &PostOps) -> Option<Relu> {
    post.relu.map(Relu::new)
}

impl Planner<'_> {
    /// Appends the steps of a node.
    pub(super) fn lower(&mut self, node: usize) -> Result<(), PlanError> {
        if self.coupled[node] {
            return self.reference(node);
        }
        let graph = self.graph;
        match &graph.nodes[node].op {
            Op::Convolution(op) => self.convolution(node, op),
            Op::InnerProduct(op) if op.axis == 1 => self.inner_product(node, op),
            Op::Pooling(op) if !op.mask => self.pooling(node, op),
            Op::Lrn(op) if !op.within_channel => self.lrn(node, op),
            Op::Softmax { axis: 1 } => self.softmax(node),
            Op::Eltwise(op) => self.eltwise(node, op),
            Op::Activation(op) => self.activation(node, *op),
            Op::PRelu(op) => self.prelu(node, op.slope),
            Op::Scale(op) => self.scale(node, op),
            Op::Concat { axis: 1 } => self.concat(node),
            Op::Slice(op) if op.axis == 1 => self.slice(node, op.begin),
            Op::Flatten { .. } | Op::Reshape(_) | Op::Identity => self.view(node),
            _ => self.reference(node),
        }
    }

    fn operand(&self, node: usize, index: usize) -> ValueId {
        self.graph.nodes[node].inputs[index]
    }

    fn result(&self, node: usize) -> ValueId {
        self.graph.nodes[node].output
    }

    fn bias(&self, bias: Option<WeightId>) -> &[f32] {
        bias.map_or(&[], |id| self.graph.weight(id).data())
    }

    fn convolution(&mut self, node: usize, op: &ops::Convolution) -> Result<(), PlanError> {
        let graph = self.graph;
        let sum = self.fused_sums.get(&node).copied();
        let input = self.operand(node, 0);
        let output = sum.map_or(self.result(node), |sum| self.result(sum));
        let (src, dst) = (self.info(input), self.info(output));
        let post = match sum.map(|sum| &graph.nodes[sum].op) {
            Some(Op::Eltwise(sum)) => sum.post,
            _ => op.post,
        };
        let weights = graph.weight(op.weights).data();
        let pointwise = src.planes.hw() == 1 && op.window.kernel == [1, 1] && op.groups == 1;
        if pointwise && sum.is_none() && dst.planes.hw() == 1 {
            let problem = Problem::Fc(FcProblem {
                inputs: src.planes.c,
                outputs: dst.planes.c,
                relu: relu(&post),
            });
            return self.kernel(node, problem, weights, op.bias, &[input], output);
        }
        let problem = Problem::Conv(ConvProblem {
            src: src.planes,
            dst: dst.planes,
            window: op.window,
            groups: op.groups,
            relu: relu(&post),
            residual: sum.is_some(),
        });
        let mut operands = vec![input];
        if let Some(sum) = sum {
            let other = graph.nodes[sum].inputs.iter().find(|&&id| id != self.result(node));
            operands.extend(other);
        }
        self.kernel(node, problem, weights, op.bias, &operands, output)
    }

    /// A kernel whose operands and result are in their natural forms.
    fn kernel(
        &mut self,
        node: usize,
        problem: Problem,
        weights: &[f32],
        bias: Option<WeightId>,
        operands: &[ValueId],
        output: ValueId,
    ) -> Result<(), PlanError> {
        let bias = self.bias(bias).to_vec();
        let Some((label, built)) = self.select(node, &problem, weights, &bias)? else {
            return self.reference(node);
        };
        let src = operands.iter().map(|&id| self.need(id, self.info(id).form)).collect();
        let dst = self.output(output, self.info(output).form);
        self.push_kernel(node, label, built, src, dst, false);
        Ok(())
    }

    fn inner_product(&mut self, node: usize, op: &ops::InnerProduct) -> Result<(), PlanError> {
        let graph = self.graph;
        let tensor = graph.weight(op.weights);
        let inputs = (tensor.data().len() / op.outputs as usize) as u32;
        let transposed;
        let weights = if op.transpose {
            transposed = transpose(tensor.data(), inputs as usize, op.outputs as usize);
            &transposed[..]
        } else {
            tensor.data()
        };
        let (input, output) = (self.operand(node, 0), self.result(node));
        let relu = relu(&op.post);
        let batched = !self.per_image[self.segment_of[node]] && self.batch >= COLUMN_BATCH;
        let bias = self.bias(op.bias).to_vec();
        let (problem, form) = if batched {
            let columns = |c: u32| Planes::with_gap(c, 1, self.batch, 0);
            let window = Window::square(1, 1, 0);
            let problem = ConvProblem {
                src: columns(inputs),
                dst: columns(op.outputs),
                window,
                groups: 1,
                relu,
                residual: false,
            };
            (Problem::Conv(problem), Form::Columns)
        } else {
            (Problem::Fc(FcProblem { inputs, outputs: op.outputs, relu }), Form::Rows)
        };
        let Some((label, built)) = self.select(node, &problem, weights, &bias)? else {
            return self.reference(node);
        };
        let src = self.need(input, form);
        let dst = if batched { self.columns(output) } else { self.output(output, form) };
        self.push_kernel(node, label, built, vec![src], dst, batched);
        if batched && !self.only_columns(output) {
            self.need(output, self.info(output).form);
        }
        Ok(())
    }

    /// Result of a batched inner product.
    fn columns(&mut self, value: ValueId) -> usize {
        let planes = self.planes_of(value, Form::Columns);
        let buffer = self.buffers.add(planes, Home::Whole);
        self.forms.insert((value, Form::Columns), buffer);
        buffer
    }

    /// True when every consumer is a batched inner product.
    fn only_columns(&self, value: ValueId) -> bool {
        let consumers = self.graph.nodes.iter().enumerate();
        !self.graph.outputs.contains(&value)
            && consumers.filter(|(_, node)| node.inputs.contains(&value)).all(|(index, node)| {
                matches!(node.op, Op::InnerProduct(ref op) if op.axis == 1)
                    && !self.per_image[self.segment_of[index]]
                    && !self.coupled[index]
            })
    }

    fn pooling(&mut self, node: usize, op: &ops::Pooling) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (src, dst) = (self.info(input), self.info(output));
        let problem = Problem::Pool(PoolProblem {
            src: src.planes,
            dst: dst.planes,
            window: op.effective_window([src.planes.h, src.planes.w]),
            method: op.method,
            relu: op.relu,
        });
        self.kernel(node, problem, &[], None, &[input], output)
    }

    fn lrn(&mut self, node: usize, op: &ops::Lrn) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let planes = self.info(input).planes;
        let (size, alpha, beta, k) = (op.size, op.alpha, op.beta, op.k);
        let problem = Problem::Lrn(LrnProblem { planes, size, alpha, beta, k });
        self.kernel(node, problem, &[], None, &[input], output)
    }

    fn softmax(&mut self, node: usize) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let planes = self.info(input).planes;
        self.kernel(node, Problem::Softmax(SoftmaxProblem { planes }), &[], None, &[input], output)
    }

    fn eltwise(&mut self, node: usize, op: &ops::Eltwise) -> Result<(), PlanError> {
        if self.fused_sums.values().any(|&sum| sum == node) {
            self.note(node, "fused");
            return Ok(());
        }
        let inputs = self.graph.nodes[node].inputs.clone();
        let output = self.result(node);
        let kind = match &op.op {
            EltwiseOp::Sum { coefficients } => EltwiseKind::Sum(coefficients.clone()),
            EltwiseOp::Product => EltwiseKind::Product,
            EltwiseOp::Max => EltwiseKind::Max,
        };
        let problem = Problem::Eltwise(EltwiseProblem {
            elems: self.info(output).planes.elems() as u32,
            operands: inputs.len() as u32,
            kind,
            relu: relu(&op.post),
        });
        self.kernel(node, problem, &[], None, &inputs, output)
    }

    fn activation(&mut self, node: usize, op: Activation) -> Result<(), PlanError> {
        let channels = self.info(self.operand(node, 0)).planes.c as usize;
        match op {
            Activation::ReLU { slope } => {
                let constants = [1.0, 0.0, slope].repeat(channels);
                self.channelwise(node, &constants, false, true)
            }
            Activation::Power { power: 1.0, scale, shift } => {
                let constants = [scale, shift, 0.0].repeat(channels);
                self.channelwise(node, &constants, true, false)
            }
            _ => self.reference(node),
        }
    }

    fn prelu(&mut self, node: usize, slope: WeightId) -> Result<(), PlanError> {
        let slopes = self.graph.weight(slope).clone();
        let channels = self.info(self.operand(node, 0)).planes.c as usize;
        let slopes = (0..channels).map(|c| slopes.data()[c.min(slopes.data().len() - 1)]);
        let constants: Vec<f32> = slopes.flat_map(|slope| [1.0, 0.0, slope]).collect();
        self.channelwise(node, &constants, false, true)
    }

    fn scale(&mut self, node: usize, op: &ops::Scale) -> Result<(), PlanError> {
        let channels = self.info(self.operand(node, 0)).planes.c as usize;
        let graph = self.graph;
        let per_channel = |id: Option<WeightId>| {
            id.is_none_or(|id| graph.weight(id).data().len() == channels)
        };
        let learned = graph.nodes[node].inputs.len() == 1 && op.axis == 1;
        if !learned || !per_channel(op.scale) || !per_channel(op.bias) {
            return self.reference(node);
        }
        let constant = |id: Option<WeightId>, c: usize, default: f32| {
            id.map_or(default, |id| graph.weight(id).data()[c])
        };
        let constants: Vec<f32> = (0..channels)
            .flat_map(|c| [constant(op.scale, c, 1.0), constant(op.bias, c, 0.0), 0.0])
            .collect();
        self.channelwise(node, &constants, true, false)
    }

    fn channelwise(
        &mut self,
        node: usize,
        constants: &[f32],
        affine: bool,
        leaky: bool,
    ) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (src, dst) = (self.info(input).planes, self.info(output).planes);
        let problem = Problem::Channelwise(ChannelwiseProblem { src, dst, affine, leaky });
        self.kernel(node, problem, constants, None, &[input], output)
    }

    fn concat(&mut self, node: usize) -> Result<(), PlanError> {
        let output = self.result(node);
        let info = self.info(output);
        let whole = self.output(output, info.form);
        let mut channel = 0;
        for input in self.graph.nodes[node].inputs.clone() {
            let planes = Planes { c: self.info(input).planes.c, ..info.planes };
            let offset = channel as usize * planes.pitch as usize;
            let source = self.need(input, self.info(input).form);
            if !self.buffers.is_part(source, whole, offset) {
                let part = self.buffers.add_part(whole, offset, planes);
                let layer = self.graph.nodes[node].name.clone();
                let tasks = planes.c as usize;
                self.push_native(
                    &layer,
                    Some(node),
                    "copy",
                    Work::Copy,
                    vec![source],
                    part,
                    tasks,
                    false,
                );
            }
            channel += planes.c;
        }
        self.note(node, "view");
        Ok(())
    }

    fn slice(&mut self, node: usize, begin: u32) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (from, to) = (self.info(input), self.info(output));
        let source = self.need(input, from.form);
        let offset = begin as usize * from.planes.pitch as usize;
        let shared = from.form == to.form && from.home == to.home;
        let part = self.buffers.add_part(
            source,
            offset,
            Planes { c: to.planes.c, ..self.buffers.planes(source) },
        );
        if shared && !self.parent.contains_key(&output) {
            self.forms.insert((output, to.form), part);
        } else {
            let target = self.output(output, to.form);
            let layer = self.graph.nodes[node].name.clone();
            let tasks = to.planes.c as usize;
            self.push_native(
                &layer,
                Some(node),
                "copy",
                Work::Copy,
                vec![part],
                target,
                tasks,
                false,
            );
        }
        self.note(node, "view");
        Ok(())
    }

    /// Same elements in the same order: rows of the operand are rows of the result.
    fn view(&mut self, node: usize) -> Result<(), PlanError> {
        let (input, output) = (self.operand(node, 0), self.result(node));
        let (from, to) = (self.info(input), self.info(output));
        let rows = self.need(input, Form::Rows);
        let part_of_concat = self.parent.contains_key(&output) && to.form == Form::Rows;
        if from.home == to.home && !part_of_concat {
            let planes = Planes::compact(to.planes.c, to.planes.h, to.planes.w);
            let part = self.buffers.add_part(rows, 0, planes);
            self.forms.insert((output, Form::Rows), part);
        } else {
            let planes = Planes::compact(from.planes.c * from.planes.hw(), 1, 1);
            let source = self.buffers.add_part(rows, 0, planes);
            let target = self.output(output, Form::Rows);
            let target = self.buffers.add_part(target, 0, planes);
            let layer = self.graph.nodes[node].name.clone();
            let work = Work::Copy;
            self.push_native(&layer, Some(node), "copy", work, vec![source], target, 1, false);
        }
        self.note(node, "view");
        Ok(())
    }

    fn reference(&mut self, node: usize) -> Result<(), PlanError> {
        let graph = self.graph;
        // A sum behind a convolution without kernel is computed by itself.
        self.fused_sums.remove(&node);
        let whole = self.coupled[node];
        let shape = |id: ValueId| -> Shape {
            let shape = self.shape(id);
            if whole { shape.clone() } else { shape.with_batch(1) }
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
        let src = inputs.iter().map(|&id| self.need(id, Form::Rows)).collect();
        let dst = self.output(output, Form::Rows);
        let layer = graph.nodes[node].name.clone();
        let work = Work::Reference(Box::new(reference));
        self.push_native(&layer, Some(node), "reference", work, src, dst, 1, whole);
        self.note(node, "reference");
        Ok(())
    }
}

/// `columns × rows` to `rows × columns`.
fn transpose(values: &[f32], columns: usize, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (column, line) in values.chunks_exact(rows).enumerate() {
        for (row, &value) in line.iter().enumerate() {
            out[row * columns + column] = value;
        }
    }
    out
}
