//! Runs a plan. One session per concurrent caller; plans are shared. One of the few files with
//! `unsafe`.

use crate::arena::{Arena, ArenaPtr};
use crate::plan::{
    Loops, MOST_OPERANDS, MOST_PORTS, Operand, Place, Plan, Port, Reference, SLACK_ELEMS, Segment,
    Step, Work,
};
use crate::pool::{ThreadPool, share};
use crate::profile::Profile;
use crate::{PlanError, RunError};
use skimjit_host::memory;
use skimjit_kernels::{KernelIo, Planes, stage::Staging};
use skimjit_models::{Shape, TensorRef};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Elements of an input from which on the team looks at it together.
const SHARED_CHECK: usize = 1 << 17;

/// Memory and threads to run a [`Plan`].
pub struct Session {
    plan: Arc<Plan>,
    pool: Arc<ThreadPool>,
    images: Vec<Arena>,
    batch: Arena,
    scratch: Vec<Arena>,
    profile: Option<Profile>,
}

impl Session {
    /// Allocates everything a run needs.
    ///
    /// # Panics
    /// When there is no memory for it: see [`Session::try_new`].
    pub fn new(plan: Arc<Plan>, pool: Arc<ThreadPool>) -> Self {
        Self::try_new(plan, pool).unwrap_or_else(|error| panic!("{error}"))
    }
    /// Allocates everything a run needs, if that is within the budget of memory and there is so much.
    pub fn try_new(plan: Arc<Plan>, pool: Arc<ThreadPool>) -> Result<Self, PlanError> {
        let threads = pool.threads();
        let needed = plan.session_bytes(threads);
        memory::check(needed).map_err(|more| PlanError::too_large(more.bytes, more.budget))?;
        let many = |count: usize, elems: usize| -> Option<Vec<Arena>> {
            (0..count).map(|_| Arena::new(elems)).collect()
        };
        let images = many(plan.image_arenas(threads), plan.image_elems + SLACK_ELEMS);
        let scratch = many(threads, plan.scratch_elems + SLACK_ELEMS);
        let batch = Arena::new(plan.batch_elems + SLACK_ELEMS);
        let (Some(images), Some(scratch), Some(batch)) = (images, scratch, batch) else {
            return Err(PlanError::no_memory(needed));
        };
        Ok(Self {
            plan,
            pool,
            images,
            batch,
            scratch,
            profile: None,
        })
    }
    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
    /// Switches per-step timing on; the times of all later runs add up.
    pub fn start_profile(&mut self) {
        self.profile = Some(Profile::new(&self.plan, self.pool.threads()));
    }
    /// [`Session::start_profile`], with the beginning and end of every step.
    pub fn start_trace(&mut self) {
        self.profile = Some(Profile::new(&self.plan, self.pool.threads()).trace());
    }
    /// Switches it off, and forgets the times.
    pub fn stop_profile(&mut self) {
        self.profile = None;
    }
    /// Times since [`Session::start_profile`].
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Computes all outputs for `n` images: `inputs[i]` and `outputs[o]` hold `n` rows of
    /// [`crate::plan::Port::elems`] elements (those of the batch as a whole: one row per full
    /// batch). Any `n`; a plan with coupled images needs a multiple of its batch.
    pub fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), RunError> {
        let n = self.check(inputs, outputs)?;
        let started = Instant::now();
        self.check_finite(inputs)?;
        let plan = self.plan.clone();
        let mut first = 0;
        while first < n {
            let count = plan.batch.min(n - first);
            self.run_batch(&plan, inputs, outputs, first, count);
            first += count;
        }
        if let Some(profile) = &mut self.profile {
            profile.add_run(started.elapsed(), n);
        }
        Ok(())
    }

    /// Checks the arrays' lengths; returns the number of images.
    fn check(&self, inputs: &[&[f32]], outputs: &[&mut [f32]]) -> Result<usize, RunError> {
        let plan = &self.plan;
        if inputs.len() != plan.inputs.len() || outputs.len() != plan.outputs.len() {
            return Err(RunError::Arrays {
                inputs: (inputs.len(), plan.inputs.len()),
                outputs: (outputs.len(), plan.outputs.len()),
            });
        }
        let rows = |len: usize, elems: usize| len.is_multiple_of(elems).then_some(len / elems);
        let first = plan.inputs.first().zip(inputs.first());
        // A network without inputs computes its batch once.
        let n = first.map_or(Some(plan.batch), |(port, input)| {
            let per_image = port.shape.count() / plan.batch;
            rows(input.len(), per_image)
        });
        let n = n.filter(|&n| n > 0 && (!plan.coupled || n % plan.batch == 0));
        let Some(n) = n else {
            let (found, port) = (inputs[0].len(), &plan.inputs[0]);
            return Err(RunError::input(port, found, plan.coupled));
        };
        let elems = |port: &Port| if port.per_image { n } else { n / plan.batch } * port.elems;
        for (port, input) in plan.inputs.iter().zip(inputs) {
            if input.len() != elems(port) {
                return Err(RunError::input(port, input.len(), plan.coupled));
            }
        }
        for (port, output) in plan.outputs.iter().zip(outputs) {
            let expected = elems(port);
            if output.len() != expected {
                return Err(RunError::Output {
                    name: port.name.clone(),
                    found: output.len(),
                    expected,
                });
            }
        }
        Ok(n)
    }

    /// Refuses infinities and NaN: what they give depends on which zeros a kernel multiplies by.
    fn check_finite(&self, inputs: &[&[f32]]) -> Result<(), RunError> {
        let threads = self.pool.threads();
        for (port, input) in self.plan.inputs.iter().zip(inputs) {
            let all = if threads == 1 || input.len() < SHARED_CHECK {
                finite(input)
            } else {
                let all = AtomicBool::new(true);
                let part = input.len().div_ceil(threads);
                self.pool.run(&|member| {
                    let part = input.chunks(part).nth(member).unwrap_or_default();
                    if !finite(part) {
                        all.store(false, Ordering::Relaxed);
                    }
                });
                all.into_inner()
            };
            if !all {
                return Err(RunError::not_finite(port, input));
            }
        }
        Ok(())
    }

    fn run_batch(
        &mut self,
        plan: &Plan,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        first: usize,
        count: usize,
    ) {
        let mut bases = [std::ptr::null_mut(); MOST_PORTS];
        for (base, (port, output)) in bases.iter_mut().zip(plan.outputs.iter().zip(outputs)) {
            let row = if port.per_image {
                first
            } else {
                first / plan.batch
            };
            *base = output[row * port.elems..].as_mut_ptr();
        }
        let mut images = [None; crate::pool::MOST_THREADS];
        let mut scratch = [None; crate::pool::MOST_THREADS];
        self.images
            .iter_mut()
            .zip(&mut images)
            .for_each(|(arena, ptr)| *ptr = Some(arena.base()));
        self.scratch
            .iter_mut()
            .zip(&mut scratch)
            .for_each(|(arena, ptr)| *ptr = Some(arena.base()));
        let region = Region {
            plan,
            pool: &self.pool,
            count,
            first,
            inputs,
            outputs: Outputs(&bases),
            images: &images[..self.images.len()],
            scratch: &scratch,
            batch: self.batch.base(),
            profile: self.profile.as_ref(),
        };
        self.pool.run(&|member| match region.profile {
            None => region.work(member),
            Some(profile) => profile.in_region(member, || region.work(member)),
        });
    }
}

/// Start of each output for the current batch.
#[derive(Clone, Copy)]
struct Outputs<'a>(&'a [*mut f32; MOST_PORTS]);

// SAFETY: an address alone allows nothing; steps write disjoint rows of the outputs, which `run`
// holds exclusively for the whole region.
unsafe impl Sync for Outputs<'_> {}
// SAFETY: as above.
unsafe impl Send for Outputs<'_> {}

/// One parallel region: what every member sees.
struct Region<'a> {
    plan: &'a Plan,
    pool: &'a ThreadPool,
    /// Images of this batch.
    count: usize,
    /// First of them among the images of the run.
    first: usize,
    inputs: &'a [&'a [f32]],
    outputs: Outputs<'a>,
    images: &'a [Option<ArenaPtr>],
    scratch: &'a [Option<ArenaPtr>],
    batch: ArenaPtr,
    profile: Option<&'a Profile>,
}

/// Who works on an image: one member alone, or the team.
#[derive(Clone, Copy)]
struct Team {
    member: usize,
    members: usize,
    /// Image arena.
    arena: usize,
}

impl Region<'_> {
    fn work(&self, member: usize) {
        let mut step = 0;
        for segment in &self.plan.segments {
            if segment.per_image {
                self.per_image(segment, step, member);
            } else {
                let team = Team {
                    member,
                    members: self.pool.threads(),
                    arena: 0,
                };
                for (offset, work) in segment.steps.iter().enumerate() {
                    self.timed(step + offset, member, || self.batch_step(work, team));
                    self.pool.barrier();
                }
            }
            step += segment.steps.len();
        }
    }

    /// Whole images first, one member each and no barriers; the team shares what is left over.
    fn per_image(&self, segment: &Segment, first_step: usize, member: usize) {
        let members = self.pool.threads();
        let alone = self.count / members * members;
        let own = Team {
            member: 0,
            members: 1,
            arena: member,
        };
        let compute = |image: usize, team: Team| {
            for (offset, step) in segment.steps.iter().enumerate() {
                let work = || self.image_step(step, image, team, member);
                self.timed(first_step + offset, member, work);
                if team.members > 1 {
                    self.pool.barrier();
                }
            }
        };
        (member..alone)
            .step_by(members)
            .for_each(|image| compute(image, own));
        if alone < self.count {
            self.pool.barrier();
        }
        let team = Team {
            member,
            members,
            arena: 0,
        };
        (alone..self.count).for_each(|image| compute(image, team));
        self.pool.barrier();
    }

    fn timed(&self, step: usize, member: usize, work: impl FnOnce()) {
        let Some(profile) = self.profile else {
            return work();
        };
        let begin = Instant::now();
        work();
        profile.add(step, member, begin);
    }

    /// This member's part of a step that is not per image.
    fn batch_step(&self, step: &Step, team: Team) {
        match step.loops {
            Loops::Once => self.image_step(step, 0, team, team.member),
            Loops::Images => {
                (0..self.count).for_each(|image| self.image_step(step, image, team, team.member));
            }
            Loops::Tasks => {
                for task in share(&step.cumulated, team.member, team.members) {
                    for image in 0..self.count {
                        self.tasks(step, image, team, team.member, task..task + 1);
                    }
                }
            }
        }
    }

    /// This member's part of a step for one image.
    fn image_step(&self, step: &Step, image: usize, team: Team, member: usize) {
        if team.member == 0 {
            for operand in &step.unclean {
                clear_gaps(&operand.planes, self.address(operand, image, team));
            }
        }
        let tasks = if team.members == 1 {
            0..step.cumulated.len()
        } else {
            share(&step.cumulated, team.member, team.members)
        };
        if !tasks.is_empty() {
            self.tasks(step, image, team, member, tasks);
        }
    }

    /// Address of plane 0 of an operand.
    fn address(&self, operand: &Operand, image: usize, team: Team) -> *mut f32 {
        match operand.place {
            Place::Image { offset } => self.arena(team).at(offset),
            Place::Batch { offset, stride } => self.batch.at(offset + image * stride),
            Place::Input { index } => {
                let port = &self.plan.inputs[index];
                let row = if port.per_image {
                    self.first + image
                } else {
                    self.first / self.plan.batch
                };
                self.inputs[index][row * port.elems..].as_ptr().cast_mut()
            }
            Place::Output { index } => {
                let port = &self.plan.outputs[index];
                let row = if port.per_image {
                    image * port.elems
                } else {
                    0
                };
                self.outputs.0[index].wrapping_add(row)
            }
        }
    }

    fn arena(&self, team: Team) -> ArenaPtr {
        self.images[team.arena].expect("an arena per working member")
    }

    fn tasks(&self, step: &Step, image: usize, team: Team, member: usize, tasks: Range<usize>) {
        let dst = self.address(&step.dst, image, team);
        let mut sources = [std::ptr::null(); MOST_OPERANDS];
        for (source, operand) in sources.iter_mut().zip(&step.src) {
            *source = self.address(operand, image, team).cast_const();
        }
        let sources = &sources[..step.src.len()];
        match &step.work {
            Work::Kernel(kernel) | Work::Stage(_, Some(kernel)) => {
                let scratch = self.scratch[member].expect("scratch per member").at(0);
                let io = KernelIo {
                    src: sources,
                    dst,
                    scratch,
                };
                // SAFETY: the plan sized and placed every buffer for the kernel's footprint and
                // orders steps with barriers; members run disjoint tasks, images have own parts.
                unsafe {
                    if self.plan.code_is_far {
                        kernel.run_far(&io, tasks);
                    } else {
                        kernel.run(&io, tasks);
                    }
                }
            }
            Work::Stage(staging, None) => self.stage(staging, sources[0], dst, tasks),
            Work::Copy => copy(step, sources[0], dst, tasks),
            Work::ToColumns => to_columns(step, image, sources[0], dst, tasks),
            Work::FromColumns => from_columns(step, image, sources[0], dst, tasks),
            Work::Reference(reference) => evaluate(reference, sources, dst),
        }
    }

    fn stage(&self, staging: &Staging, src: *const f32, dst: *mut f32, tasks: Range<usize>) {
        for channel in tasks {
            let (from, to) = (&staging.src, staging.channel as usize);
            // SAFETY: channel planes of the source and channels of the copy lie inside their
            // buffers; this member alone writes this channel.
            let (plane, copy) = unsafe {
                (
                    read(src, channel * from.pitch as usize, from.hw() as usize),
                    write(dst, channel * to, to),
                )
            };
            staging.copy_channel(plane, copy);
        }
    }
}

/// Writes elements of an image into its column.
fn to_columns(step: &Step, image: usize, src: *const f32, dst: *mut f32, channels: Range<usize>) {
    let (from, pitch) = (step.src[0].planes, step.dst.planes.pitch as usize);
    let hw = from.hw() as usize;
    for (channel, pixel) in channels.flat_map(|channel| (0..hw).map(move |pixel| (channel, pixel)))
    {
        let (at, e) = (channel * from.pitch as usize + pixel, channel * hw + pixel);
        // SAFETY: the pixel of the source and column entry (e, image) lie inside their buffers; this
        // member alone writes the columns of its channels.
        unsafe { write(dst, e * pitch + image, 1)[0] = read(src, at, 1)[0] };
    }
}

/// The reverse, to a row.
fn from_columns(step: &Step, image: usize, src: *const f32, dst: *mut f32, elements: Range<usize>) {
    let pitch = step.src[0].planes.pitch as usize;
    for e in elements {
        // SAFETY: as in `to_columns`, with the roles exchanged.
        unsafe { write(dst, e, 1)[0] = read(src, e * pitch + image, 1)[0] };
    }
}

/// Zeros behind every plane.
fn clear_gaps(planes: &Planes, base: *mut f32) {
    for channel in 0..planes.c as usize {
        let at = channel * planes.pitch as usize + planes.hw() as usize;
        // SAFETY: the gap lies inside the buffer; other members write pixels only, and nobody reads it.
        unsafe { write(base, at, planes.gap() as usize).fill(0.0) };
    }
}

/// Copies channels between layouts.
fn copy(step: &Step, src: *const f32, dst: *mut f32, channels: Range<usize>) {
    let (from, to): (Planes, Planes) = (step.src[0].planes, step.dst.planes);
    if from.gap() == 0 && to.gap() == 0 {
        let hw = from.hw() as usize;
        let (at, len) = (channels.start * hw, channels.len() * hw);
        // SAFETY: channels of both layouts lie inside their buffers; this member alone writes them.
        unsafe { write(dst, at, len).copy_from_slice(read(src, at, len)) };
        return;
    }
    for channel in channels {
        let (f, t) = (channel * from.pitch as usize, channel * to.pitch as usize);
        // SAFETY: as above.
        unsafe {
            write(dst, t, to.hw() as usize).copy_from_slice(read(src, f, from.hw() as usize))
        };
    }
}

fn evaluate(reference: &Reference, sources: &[*const f32], dst: *mut f32) {
    static SCALAR: std::sync::OnceLock<Shape> = std::sync::OnceLock::new();
    let scalar = SCALAR.get_or_init(|| Shape::new(vec![]).expect("rank 0 is a shape"));
    let mut operands = [TensorRef {
        shape: scalar,
        data: &[],
    }; MOST_OPERANDS];
    for (operand, (shape, &src)) in operands
        .iter_mut()
        .zip(reference.inputs.iter().zip(sources))
    {
        // SAFETY: the buffer holds a row of the operand's shape.
        let data = unsafe { read(src, 0, shape.count()) };
        *operand = TensorRef { shape, data };
    }
    // SAFETY: the buffer holds a row of the result's shape; a reference is one task.
    let output = unsafe { write(dst, 0, reference.output.count()) };
    let operands = &operands[..sources.len()];
    match &reference.moves {
        Some(moves) => moves
            .iter()
            .for_each(|part| part.apply(operands[part.operand].data, output)),
        None => {
            let (weights, shape) = (&reference.weights, &reference.output);
            reference.op.evaluate(operands, weights, shape, output);
        }
    }
}

/// True when all are finite numbers.
pub(crate) fn finite(values: &[f32]) -> bool {
    // Without a branch for each, so that several are looked at together.
    let block = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    values.chunks(1 << 12).all(block)
}

/// # Safety
/// `base[offset..offset + len]` is initialised memory that nobody writes during `'a`.
unsafe fn read<'a>(base: *const f32, offset: usize, len: usize) -> &'a [f32] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(base.add(offset), len) }
}

/// # Safety
/// `base[offset..offset + len]` is initialised memory that nobody else touches during `'a`.
unsafe fn write<'a>(base: *mut f32, offset: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.add(offset), len) }
}
