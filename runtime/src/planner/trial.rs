//! A trial: the kernels of one layer by turns, as a plan would run them.

use crate::buffers::{BufferId, Buffers, Home, Placement};
use crate::plan::{Plan, Segment, Step, Work};
use crate::{PlanError, Session, ThreadPool};
use skimjit_host::memory;
use skimjit_kernels::jit::{CodeRegion, CpuInfo, Isa};
use skimjit_kernels::{Built, CompiledKernel, Extent, Planes, Problem};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a plan runs the layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Setting {
    /// Image by image, this many at a time.
    Images(usize),
    /// Task by task over a batch of this many images.
    Tasks(usize),
    /// Once for the batch.
    Columns,
}

/// Where code and weights of a layer are when its turn comes: other layers run in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Distance {
    /// In the second-level cache: the whole network fits there.
    Inner,
    /// In the last-level cache.
    Outer,
    /// In memory.
    Memory,
}

impl Distance {
    /// Of a network with that many bytes of code and weights.
    pub fn of_network(bytes: u64) -> Self {
        let cpu = CpuInfo::query();
        let fits =
            |cache: Option<u64>, usual: u64, share: u64| bytes <= cache.unwrap_or(usual) / share;
        // Activations need room as well, and the last level is shared with other cores.
        match () {
            () if fits(cpu.l2_bytes, USUAL_L2_BYTES, 2) => Self::Inner,
            () if fits(cpu.l3_bytes, USUAL_L3_BYTES, 4) => Self::Outer,
            () => Self::Memory,
        }
    }
}

/// Time after which a trial ends.
const BUDGET: Duration = Duration::from_millis(12);
/// The trial of a machine that is busy with something else may take this many times as long.
const PATIENCE: u32 = 20;
/// Rounds of a trial, of which the first warms up; the budget decides in between.
const LEAST_ROUNDS: usize = 4;
/// As above.
const MOST_ROUNDS: usize = 40;
/// A round counts if every thread had a core for this share of it.
const QUIET: f64 = 0.9;
/// Rounds that count, below which the kernel's time is not one to remember.
const LEAST_QUIET_ROUNDS: usize = 3;
/// A variant this many times slower than the best is out after the first round.
const HOPELESS: f64 = 3.0;
/// A variant this many times slower than the best is out after [`LEAST_ROUNDS`].
const SLOWER: f64 = 1.3;

/// What is common to the kernels of a trial.
pub(super) struct Trial<'a> {
    pub problem: &'a Problem,
    pub setting: Setting,
    pub distance: Distance,
    pub isa: Isa,
    pub pool: &'a Arc<ThreadPool>,
}

/// A kernel in a network of its own.
struct Contender {
    session: Session,
    /// Number of the kernel's steps, behind the one that writes its source.
    steps: usize,
    best_ns: Option<f64>,
    /// Shortest of the rounds in which something else had the core of a thread.
    disturbed_ns: Option<f64>,
    quiet_rounds: usize,
    out: bool,
}

/// What a trial finds.
pub(super) struct Outcome {
    /// Shortest time of each kernel in nanoseconds; `None` where there is no kernel.
    pub times: Vec<Option<f64>>,
    /// The machine was too busy with something else for times that hold at other times.
    pub disturbed: bool,
}

impl Trial<'_> {
    /// Times the kernels; none where there is no kernel, or no memory for one more network of one layer.
    pub fn run(&self, built: Vec<Option<Built>>) -> Result<Outcome, PlanError> {
        let mut contenders = Vec::with_capacity(built.len());
        let mut bytes = 0;
        for built in built {
            let contender = built.map(|built| self.contender(built, &mut bytes));
            contenders.push(contender.transpose()?.flatten());
        }
        let sweep = Sweep::new();
        let started = Instant::now();
        for round in 0.. {
            for contender in contenders.iter_mut().flatten().filter(|c| !c.out) {
                match self.distance {
                    Distance::Inner => {}
                    Distance::Outer => self.pool.run(&|_| sweep.read()),
                    Distance::Memory => contender.flush(),
                }
                contender.time();
            }
            let left = drop_slow(&mut contenders, round);
            let settled = contenders.iter().flatten().all(Contender::is_settled);
            let budget = if settled { BUDGET } else { BUDGET * PATIENCE };
            let enough = round + 1 >= LEAST_ROUNDS && started.elapsed() > budget;
            if enough || settled && (left < 2 || round + 1 >= MOST_ROUNDS) {
                break;
            }
        }
        let disturbed = !contenders.iter().flatten().all(Contender::is_settled);
        let best = |contender: Option<Contender>| contender.and_then(|c| c.time_ns());
        Ok(Outcome {
            times: contenders.into_iter().map(best).collect(),
            disturbed,
        })
    }

    /// `bytes` is what the contenders before it take. The first must fit; others are left out where they
    /// would leave less than is taken.
    fn contender(&self, built: Built, bytes: &mut u64) -> Result<Option<Contender>, PlanError> {
        let plan = self.plan(built)?;
        let more = plan.session_bytes(self.pool.threads());
        let wanted = if *bytes == 0 {
            more
        } else {
            2 * (*bytes + more)
        };
        if let Err(found) = memory::check(wanted) {
            return match *bytes {
                0 => Err(PlanError::too_large(found.bytes, found.budget)),
                _ => Ok(None),
            };
        }
        *bytes += more;
        let steps = plan.segments[0].steps.len() - 1;
        Ok(Some(Contender {
            session: Session::try_new(Arc::new(plan), self.pool.clone())?,
            steps,
            best_ns: None,
            disturbed_ns: None,
            quiet_rounds: 0,
            out: false,
        }))
    }

    /// A plan without inputs and outputs: a copy that writes the source, the staged copy, the kernel.
    fn plan(&self, built: Built) -> Result<Plan, PlanError> {
        let (region, base) = CodeRegion::publish_all(&[&built.code]).map_err(PlanError::memory)?;
        let batch = match self.setting {
            Setting::Images(images) | Setting::Tasks(images) => images,
            Setting::Columns => 1,
        };
        let scratch_elems = built.footprint.scratch_bytes.div_ceil(4);
        let code_bytes = built.code.bytes.len();
        let (placement, steps) = self.steps(built, &region, base[0], batch);
        Ok(Plan {
            isa: self.isa,
            batch,
            coupled: false,
            segments: vec![Segment {
                per_image: matches!(self.setting, Setting::Images(_)),
                steps,
            }],
            inputs: vec![],
            outputs: vec![],
            image_elems: placement.image_elems,
            batch_elems: placement.batch_elems,
            scratch_elems,
            code_is_far: self.distance != Distance::Inner,
            choices: vec![],
            code_bytes,
            listings: vec![],
        })
    }

    /// Room for the operands of a kernel.
    fn memory(&self, built: &Built) -> Memory {
        let home = match self.setting {
            Setting::Images(_) => Home::Image,
            Setting::Tasks(_) => Home::Batch,
            Setting::Columns => Home::Whole,
        };
        let operands = self.problem.operands();
        let (src_planes, dst_planes, residual) = (operands.src[0], operands.dst, operands.residual);
        let mut buffers = Buffers::default();
        let mut add = |planes: Planes, extent: Extent| {
            let id = buffers.add(planes, home);
            // Touched by every step, so that none shares its memory.
            (0..4).for_each(|step| buffers.touch(id, step, extent));
            id
        };
        let whole = Extent {
            before: 0,
            after: src_planes.elems(),
        };
        let footprint = built.footprint;
        let origin = add(src_planes, whole);
        let seen = if built.staging.is_some() {
            whole
        } else {
            footprint.src
        };
        let src = add(src_planes, seen);
        let staged = built.staging.map(|staging| {
            let planes = Planes::compact(staging.elems() as u32, 1, 1);
            add(planes, footprint.src)
        });
        let dst = add(dst_planes, footprint.dst);
        let mut sources = vec![staged.unwrap_or(src)];
        sources.extend(residual.then(|| add(dst_planes, footprint.dst)));
        Memory {
            buffers,
            origin,
            src,
            staged,
            dst,
            sources,
        }
    }

    fn steps(
        &self,
        built: Built,
        region: &Arc<CodeRegion>,
        base: usize,
        batch: usize,
    ) -> (Placement, Vec<Step>) {
        let memory = self.memory(&built);
        let placement = memory.buffers.place(batch, &[]);
        let operand = |&id: &BufferId| placement.operand(&memory.buffers, id);
        let step = |work, label, src: &[BufferId], dst, costs| Step {
            layer: String::new(),
            node: None,
            label,
            work,
            src: src.iter().map(operand).collect(),
            dst: operand(&dst),
            cumulated: sums(costs),
            whole_batch: self.setting == Setting::Columns,
        };
        let (src, channels) = (memory.src, memory.buffers.planes(memory.src).c);
        let costs = vec![1.0; channels as usize];
        let mut steps = vec![step(
            Work::Copy,
            "source",
            &[memory.origin],
            src,
            costs.clone(),
        )];
        if let (Some(staging), Some(staged)) = (built.staging, memory.staged) {
            steps.push(step(Work::Stage(staging), "stage", &[src], staged, costs));
        }
        let costs = built.tasks.iter().map(|task| task.cost).collect();
        let work = Work::Kernel(Arc::new(CompiledKernel::new(built, region, base)));
        steps.push(step(work, "kernel", &memory.sources, memory.dst, costs));
        (placement, steps)
    }
}

/// Buffers of a trial.
struct Memory {
    buffers: Buffers,
    /// What the source is copied from, so that it is as near as if a layer had just written it.
    origin: BufferId,
    src: BufferId,
    staged: Option<BufferId>,
    dst: BufferId,
    /// What the kernel reads.
    sources: Vec<BufferId>,
}

impl Contender {
    fn flush(&self) {
        for step in &self.session.plan().segments[0].steps {
            if let Work::Kernel(kernel) = &step.work {
                kernel.flush();
            }
        }
    }
    fn time(&mut self) {
        self.session.start_profile();
        let run = self.session.run(&[], &mut []);
        run.expect("a plan without inputs and outputs runs");
        let Some(profile) = self.session.profile() else {
            return;
        };
        let steps = 1..=self.steps;
        let ns: u64 = steps.map(|step| profile.longest_ns(step)).sum();
        let quiet = profile.stalled_ns() as f64 <= (1.0 - QUIET) * profile.wall_ns() as f64;
        let best = match quiet {
            true => &mut self.best_ns,
            false => &mut self.disturbed_ns,
        };
        *best = Some(best.unwrap_or(f64::INFINITY).min(ns as f64));
        self.quiet_rounds += usize::from(quiet);
    }
    /// The time to go by: of a quiet round, if there was one.
    fn time_ns(&self) -> Option<f64> {
        self.best_ns.or(self.disturbed_ns)
    }
    /// The time will hold, or does not matter.
    fn is_settled(&self) -> bool {
        let least = if self.out { 1 } else { LEAST_QUIET_ROUNDS };
        self.quiet_rounds >= least
    }
}

/// Takes out who is clearly slower than the best so far; returns how many are left.
fn drop_slow(contenders: &mut [Option<Contender>], round: usize) -> usize {
    let times = contenders.iter().flatten().filter_map(|c| c.best_ns);
    let best = times.fold(f64::INFINITY, f64::min);
    let factor = match round + 1 {
        1 => HOPELESS,
        rounds if rounds >= LEAST_ROUNDS => SLOWER,
        _ => f64::INFINITY,
    };
    let mut left = 0;
    for contender in contenders.iter_mut().flatten() {
        contender.out |= contender.best_ns.is_some_and(|time| time > best * factor);
        left += usize::from(!contender.out);
    }
    left
}

/// Costs of tasks `0..=i`.
fn sums(mut costs: Vec<f32>) -> Vec<f32> {
    let mut sum = 0.0;
    for cost in &mut costs {
        sum += *cost;
        *cost = sum;
    }
    costs
}

/// Memory whose reading empties the inner caches.
struct Sweep(Vec<u64>);

/// Where the CPU does not tell the size of its second-level cache.
const USUAL_L2_BYTES: u64 = 1 << 20;
/// The same for the last level.
const USUAL_L3_BYTES: u64 = 16 << 20;
/// Largest second-level cache that is emptied.
const MOST_L2_BYTES: u64 = 8 << 20;

impl Sweep {
    fn new() -> Self {
        let l2 = CpuInfo::query().l2_bytes.unwrap_or(USUAL_L2_BYTES);
        // Twice the size, because replacement is not quite least recently used.
        let words = l2.min(MOST_L2_BYTES) as usize * 2 / 8;
        // Ones: pages of zeros might all be one page.
        Self(vec![1; words])
    }
    fn read(&self) {
        // One word of each line.
        let sum = self
            .0
            .chunks(8)
            .fold(0, |sum: u64, line| sum.wrapping_add(line[0]));
        std::hint::black_box(sum);
    }
}
