//! Graph → plan: which kernel for which layer, in which layout, in which order.

mod job;
mod kernel;
mod lower;
mod segments;
mod select;
mod trial;
mod tune;

use crate::buffers::{BufferId, Buffers, Form, Home, Span};
use crate::plan::{Choice, Listing, Plan, Port, Segment, Step, Work};
use crate::{Options, PlanError};
use kernel::Kernel;
use lower::FusedSums;
use skimjit_kernels::jit::observe::PublishedCode;
use skimjit_kernels::jit::{Code, CodeRegion, Isa};
use skimjit_kernels::{Extent, Planes, limits};
use skimjit_models::{Graph, Op, Shape, ValueId, Weight};
use std::collections::HashMap;
use std::sync::Arc;

/// Work of a step before its code is published.
pub(crate) enum DraftWork {
    Kernel(Kernel),
    Other(Work),
}

/// A step before its buffers are placed.
pub(crate) struct Draft {
    layer: String,
    node: Option<usize>,
    label: &'static str,
    work: DraftWork,
    src: Vec<BufferId>,
    dst: BufferId,
    costs: Vec<f32>,
    whole_batch: bool,
    segment: usize,
}

/// What the planner knows about a value.
#[derive(Clone, Copy)]
struct ValueInfo {
    /// Natural form.
    form: Form,
    /// Arena.
    home: Home,
    /// Layout of that form for one image (rows: as one array).
    planes: Planes,
}

pub(crate) struct Planner<'g> {
    graph: &'g Graph,
    options: &'g Options,
    isa: Isa,
    batch: u32,
    weights: Arc<[Arc<Weight>]>,
    /// Segment of each node, and whether that segment is per image.
    segment_of: Vec<usize>,
    per_image: Vec<bool>,
    coupled: Vec<bool>,
    values: Vec<ValueInfo>,
    /// Concat that a value is a part of: the result and the first channel.
    parent: HashMap<ValueId, (ValueId, u32)>,
    buffers: Buffers,
    forms: HashMap<(ValueId, Form), BufferId>,
    drafts: Vec<Draft>,
    choices: Vec<Choice>,
    scratch_bytes: usize,
    /// Convolutions that also do the sum behind them.
    fused_sums: FusedSums,
    /// Nodes that read each value.
    readers: Vec<Vec<usize>>,
    /// Weights that are all finite numbers.
    finite_weights: Vec<bool>,
    /// Segment steps are appended to.
    current: usize,
}

/// Plans a graph (already optimised) for its batch.
pub fn plan(graph: &Graph, isa: Isa, options: &Options) -> Result<Plan, PlanError> {
    let mut planner = Planner::new(graph, isa, options)?;
    let nodes: Vec<usize> = (0..graph.nodes.len()).collect();
    let wanted = |node: usize| {
        let name = options.variants.get(&graph.nodes[node].name);
        name.map(|name| &name[..])
    };
    // Trials come first and one at a time: code generation on other cores would disturb them.
    let verdicts = match &options.tuner {
        Some(tuner) => planner.tune(tuner, &nodes)?,
        None => vec![None; nodes.len()],
    };
    // Code generation and packing take most of the time of a load, and layers are independent.
    let built = options.map(&nodes, |&node| {
        let job = planner.job(node);
        let chosen = job.as_ref().and_then(|job| {
            let verdict = verdicts[node].as_ref();
            select::choose(job, isa, wanted(node), verdict, options.kernels.as_deref())
        });
        if let (Some(inspector), Some(job), Some(chosen)) = (&options.inspector, &job, &chosen) {
            let layer = &planner.graph.nodes[node].name;
            select::inspect(&**inspector, layer, job, chosen);
        }
        (job, chosen)
    });
    for (node, (job, chosen)) in built.into_iter().enumerate() {
        planner.current = planner.segment_of[node];
        planner.lower(node, job, chosen)?;
    }
    planner.store_outputs();
    planner.finish()
}

impl<'g> Planner<'g> {
    fn new(graph: &'g Graph, isa: Isa, options: &'g Options) -> Result<Self, PlanError> {
        let batch = graph.inputs.first().map_or(1, |&id| graph.shape(id).dim(0));
        let ports = graph.inputs.len().max(graph.outputs.len());
        if ports > crate::session::MOST_PORTS {
            return Err(PlanError::ports(ports));
        }
        for (value, shape) in graph.values.iter().map(|value| (&value.name, &value.shape)) {
            let images = if shape.dims().first() == Some(&batch) {
                batch
            } else {
                1
            };
            if shape.count() as u64 / u64::from(images) > limits::OPERAND_ELEMS {
                return Err(PlanError::size(value, shape));
            }
        }
        let coupled = segments::couplings(graph, batch);
        let (segment_of, per_image) = segments::segments(graph, batch, &coupled);
        let mut planner = Self {
            graph,
            options,
            isa,
            batch,
            weights: graph.weights.clone().into(),
            segment_of,
            per_image,
            coupled,
            values: Vec::new(),
            parent: HashMap::new(),
            buffers: Buffers::default(),
            forms: HashMap::new(),
            drafts: Vec::new(),
            choices: Vec::new(),
            scratch_bytes: 0,
            fused_sums: lower::fusible_sums(graph),
            readers: readers(graph),
            finite_weights: options.map(&graph.weights, |weight| finite(weight.stored())),
            current: 0,
        };
        planner.describe_values();
        planner.find_concats();
        Ok(planner)
    }

    /// Form, arena and layout of every value.
    fn describe_values(&mut self) {
        let gaps = lower::gaps(self.graph);
        let homes = self.homes();
        self.values = (0..self.graph.values.len())
            .map(|index| {
                let shape = &self.graph.values[index].shape;
                let home = homes[index];
                let (c, h, w) = image_dims(shape);
                let planar = shape.rank() == 4 && h * w > 1 && home != Home::Whole;
                let (form, planes) = if planar {
                    let gap = gaps.get(&(h, w)).copied().unwrap_or(0);
                    (Form::Planes, Planes::with_gap(c, h, w, gap))
                } else if home == Home::Whole {
                    (Form::Rows, Planes::compact(shape.count() as u32, 1, 1))
                } else {
                    (Form::Rows, Planes::compact(c, h, w))
                };
                ValueInfo { form, home, planes }
            })
            .collect();
    }

    /// Image arena when producer and consumers are in one per-image segment.
    fn homes(&self) -> Vec<Home> {
        let count = self.graph.values.len();
        let mut touched: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut whole = vec![false; count];
        for &id in &self.graph.inputs {
            whole[id.0 as usize] = !segments::is_batched(self.graph.shape(id), self.batch);
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            touched[node.output.0 as usize].push(self.segment_of[index]);
            node.inputs
                .iter()
                .for_each(|id| touched[id.0 as usize].push(self.segment_of[index]));
            whole[node.output.0 as usize] = self.coupled[index];
        }
        let last = self.per_image.len() - 1;
        // Outputs are stored at the end of the last segment.
        self.graph
            .outputs
            .iter()
            .for_each(|id| touched[id.0 as usize].push(last));
        (0..count)
            .map(|index| {
                let segments = &touched[index];
                let one = segments.windows(2).all(|pair| pair[0] == pair[1]);
                match (whole[index], one, segments.first()) {
                    (true, ..) => Home::Whole,
                    (_, true, Some(&segment)) if self.per_image[segment] => Home::Image,
                    _ => Home::Batch,
                }
            })
            .collect()
    }

    /// Values that can be written straight into a concatenation along channels.
    fn find_concats(&mut self) {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if !matches!(node.op, Op::Concat { axis: 1 }) || self.coupled[index] {
                continue;
            }
            let result = self.values[node.output.0 as usize];
            let mut channel = 0;
            for &input in &node.inputs {
                let info = self.values[input.0 as usize];
                let same = info.form == result.form
                    && info.home == result.home
                    && info.planes.pitch == result.planes.pitch;
                let free = !self.parent.contains_key(&input) && !self.graph.inputs.contains(&input);
                if same && free {
                    self.parent.insert(input, (node.output, channel));
                }
                channel += info.planes.c;
            }
        }
    }

    fn info(&self, value: ValueId) -> ValueInfo {
        self.values[value.0 as usize]
    }

    fn shape(&self, value: ValueId) -> &'g Shape {
        self.graph.shape(value)
    }

    /// The buffer a node writes its result to.
    fn output(&mut self, value: ValueId, form: Form) -> BufferId {
        if let Some(&buffer) = self.forms.get(&(value, form)) {
            return buffer;
        }
        let info = self.info(value);
        let buffer = match self.parent.get(&value).copied() {
            Some((whole, channel)) if info.form == form => {
                let whole = self.output(whole, form);
                let offset = channel as usize * info.planes.pitch as usize;
                self.buffers.add_part(whole, offset, info.planes)
            }
            _ => {
                let home = match form {
                    // They hold all images.
                    Form::Columns => Home::Whole,
                    Form::Planes | Form::Rows => info.home,
                };
                self.buffers.add(self.planes_of(value, form), home)
            }
        };
        self.forms.insert((value, form), buffer);
        buffer
    }

    fn planes_of(&self, value: ValueId, form: Form) -> Planes {
        let info = self.info(value);
        match form {
            _ if info.form == form => info.planes,
            Form::Columns => {
                let elems = info.planes.c * info.planes.hw();
                Planes::with_gap(elems, 1, self.batch, 0)
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
        let mut inputs = self.graph.inputs.iter();
        let index = inputs.position(|&input| input == value)?;
        let Planes { c, h, w, .. } = self.info(value).planes;
        let planes = Planes::compact(c, h, w);
        Some((Form::Rows, self.buffers.add(planes, Home::Input(index))))
    }

    fn convert(&mut self, value: ValueId, source: BufferId, form: Form) -> BufferId {
        let target = self.output(value, form);
        let columns = self.buffers.planes(source).c as usize;
        let from_columns = self.forms.get(&(value, Form::Columns)) == Some(&source);
        let (label, work) = match form {
            Form::Columns => ("to columns", Work::ToColumns),
            _ if from_columns => ("from columns", Work::FromColumns),
            _ => ("copy", Work::Copy),
        };
        let name = self.graph.value(value).name.clone();
        let whole = matches!(work, Work::ToColumns | Work::FromColumns)
            || self.info(value).home == Home::Whole;
        self.push_native(
            &name,
            None,
            label,
            work,
            vec![source],
            target,
            columns,
            whole,
        );
        target
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a step")]
    fn push_native(
        &mut self,
        layer: &str,
        node: Option<usize>,
        label: &'static str,
        work: Work,
        src: Vec<BufferId>,
        dst: BufferId,
        tasks: usize,
        whole_batch: bool,
    ) {
        let step = self.drafts.len();
        for &buffer in src.iter().chain([&dst]) {
            let extent = Extent {
                before: 0,
                after: self.buffers.planes(buffer).elems(),
            };
            self.buffers.touch(buffer, step, extent);
        }
        self.drafts.push(Draft {
            layer: layer.to_owned(),
            node,
            label,
            work: DraftWork::Other(work),
            src,
            dst,
            costs: vec![1.0; tasks.max(1)],
            whole_batch,
            segment: self.current,
        });
    }

    /// Appends a kernel, with the staged copy it wants.
    fn push_kernel(
        &mut self,
        node: usize,
        label: &'static str,
        kernel: Kernel,
        mut src: Vec<BufferId>,
        dst: BufferId,
        whole_batch: bool,
    ) {
        let layer = self.graph.nodes[node].name.clone();
        if let Some(&staging) = kernel.staging() {
            let home = self.buffers.home(dst);
            let home = if home == Home::Whole {
                Home::Whole
            } else {
                Home::Image
            };
            let planes = Planes::compact(staging.elems() as u32, 1, 1);
            let staged = self.buffers.add(planes, home);
            let channels = staging.src.c as usize;
            let work = Work::Stage(staging);
            self.push_native(
                &layer,
                Some(node),
                "stage",
                work,
                vec![src[0]],
                staged,
                channels,
                false,
            );
            src[0] = staged;
        }
        let step = self.drafts.len();
        let footprint = kernel.footprint();
        src.iter()
            .for_each(|&buffer| self.buffers.touch(buffer, step, footprint.src));
        // A residual lies as the result does.
        if let Some(&residual) = src.get(1) {
            self.buffers.touch(residual, step, footprint.dst);
        }
        self.buffers.touch(dst, step, footprint.dst);
        self.scratch_bytes = self.scratch_bytes.max(footprint.scratch_bytes);
        let costs = kernel.tasks().iter().map(|task| task.cost).collect();
        self.drafts.push(Draft {
            layer,
            node: Some(node),
            label,
            work: DraftWork::Kernel(kernel),
            src,
            dst,
            costs,
            whole_batch,
            segment: self.current,
        });
    }

    fn store_outputs(&mut self) {
        self.current = self.per_image.len() - 1;
        for (index, &value) in self.graph.outputs.iter().enumerate() {
            let info = self.info(value);
            let known = [Form::Rows, Form::Planes]
                .into_iter()
                .find(|&form| self.forms.contains_key(&(value, form)));
            let source = self.need(value, known.unwrap_or(Form::Rows));
            let planes = Planes::compact(info.planes.c, info.planes.h, info.planes.w);
            let target = self.buffers.add(planes, Home::Output(index));
            let name = self.graph.value(value).name.clone();
            let whole = info.home == Home::Whole;
            let tasks = planes.c as usize;
            self.push_native(
                &name,
                None,
                "output",
                Work::Copy,
                vec![source],
                target,
                tasks,
                whole,
            );
        }
    }

    /// For each step the first and last that other images may be at while one is there.
    fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = (0..self.drafts.len()).map(|step| (step, step)).collect();
        let mut first = 0;
        for segment in self.drafts.chunk_by(|a, b| a.segment == b.segment) {
            let last = first + segment.len() - 1;
            if self.per_image[segment[0].segment] {
                spans[first..=last].fill((first, last));
            }
            first = last + 1;
        }
        spans
    }

    fn finish(mut self) -> Result<Plan, PlanError> {
        let placement = self.buffers.place(self.batch as usize, &self.spans());
        let drafts = std::mem::take(&mut self.drafts);
        let kernels = || drafts.iter().filter_map(Draft::kernel);
        let codes: Vec<&Code> = kernels().filter_map(Kernel::new_code).collect();
        let code_bytes = kernels().map(|kernel| kernel.code().len()).sum();
        let published = match self.options.stored {
            true => CodeRegion::store_all(&codes),
            false => CodeRegion::publish_all(&codes),
        };
        let (region, bases) = published.map_err(PlanError::memory)?;
        let mut listings = Vec::new();
        let mut bases = bases.into_iter();
        let mut segments: Vec<Segment> = self
            .per_image
            .iter()
            .map(|&per_image| Segment {
                per_image,
                steps: vec![],
            })
            .collect();
        for draft in drafts {
            if let Some(kernel) = draft.kernel() {
                let bytes = if self.options.keep_code {
                    kernel.code().to_vec()
                } else {
                    vec![]
                };
                listings.push(Listing {
                    layer: draft.layer.clone(),
                    variant: draft.label,
                    bytes,
                });
            }
            let segment = draft.segment;
            let step = self.compile(draft, &region, &mut bases, &placement)?;
            segments[segment].steps.push(step);
        }
        let port = |&value: &ValueId| self.port(value);
        let mut coupled = self.coupled.iter().any(|&coupled| coupled);
        coupled |= self
            .graph
            .inputs
            .iter()
            .any(|&id| self.info(id).home == Home::Whole);
        let weight_bytes: usize = self.choices.iter().map(|choice| choice.weight_bytes).sum();
        let distance = trial::Distance::of_network((code_bytes + weight_bytes) as u64);
        Ok(Plan {
            isa: self.isa,
            batch: self.batch as usize,
            coupled,
            segments,
            inputs: self.graph.inputs.iter().map(port).collect(),
            outputs: self.graph.outputs.iter().map(port).collect(),
            image_elems: placement.image_elems,
            batch_elems: placement.batch_elems,
            scratch_elems: self.scratch_bytes.div_ceil(4),
            code_is_far: distance != trial::Distance::Inner,
            choices: self.choices,
            code_bytes,
            listings,
        })
    }

    fn compile(
        &self,
        draft: Draft,
        region: &Arc<CodeRegion>,
        bases: &mut impl Iterator<Item = usize>,
        placement: &crate::buffers::Placement,
    ) -> Result<Step, PlanError> {
        let mut sum = 0.0;
        let cumulated = draft.costs.iter().map(|&cost| {
            sum += cost;
            sum
        });
        let cumulated = cumulated.collect();
        let work = match draft.work {
            DraftWork::Other(work) => work,
            DraftWork::Kernel(kernel) => {
                let observed = self.options.observer.is_some();
                let code = kernel.new_code().filter(|_| observed).cloned();
                let mut untold = None;
                let base = || {
                    let base = bases.next().expect("one base per new kernel");
                    if let (Some(observer), Some(code)) = (&self.options.observer, &code) {
                        let start = region.addresses().start + base;
                        let published = PublishedCode {
                            name: &draft.layer,
                            addresses: start..start + code.bytes.len(),
                            bytes: &code.bytes,
                            entries: &code.entries,
                            source: None,
                        };
                        untold = observer.register(&published).err();
                    }
                    base
                };
                let compiled = kernel.compiled(region, base, self.options.kernels.as_deref());
                // Who asked for it would wait for what never comes.
                if let Some(error) = untold {
                    return Err(PlanError::untold(&draft.layer, &error));
                }
                Work::Kernel(compiled)
            }
        };
        let operand = |id: &BufferId| placement.operand(&self.buffers, *id);
        Ok(Step {
            layer: draft.layer,
            node: draft.node,
            label: draft.label,
            work,
            src: draft.src.iter().map(operand).collect(),
            dst: operand(&draft.dst),
            cumulated,
            whole_batch: draft.whole_batch,
        })
    }

    fn port(&self, value: ValueId) -> Port {
        let info = self.info(value);
        let shape = self.shape(value).clone();
        let per_image = info.home != Home::Whole;
        let elems = if per_image {
            shape.count() / self.batch as usize
        } else {
            shape.count()
        };
        Port {
            value,
            name: self.graph.value(value).name.clone(),
            shape,
            elems,
            per_image,
        }
    }
}

impl Draft {
    fn kernel(&self) -> Option<&Kernel> {
        match &self.work {
            DraftWork::Kernel(kernel) => Some(kernel),
            DraftWork::Other(_) => None,
        }
    }
}

/// True when all are finite numbers.
pub(crate) fn finite(values: &[f32]) -> bool {
    // Without a branch for each, so that several are looked at together.
    let block = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    values.chunks(1 << 12).all(block)
}

/// Nodes that read each value.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            readers[id.0 as usize].push(index);
        }
    }
    readers
}

/// Channels, height and width of one image; further axes count as width.
pub(crate) fn image_dims(shape: &Shape) -> (u32, u32, u32) {
    let rank = shape.rank();
    match rank {
        0 | 1 => (1, 1, 1),
        2 => (shape.dim(1), 1, 1),
        3 => (shape.dim(1), 1, shape.dim(2)),
        _ => (shape.dim(1), shape.dim(2), shape.count_of(3, rank) as u32),
    }
}
