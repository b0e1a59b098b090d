//! A trial: the kernels of one layer by turns, as a plan would run them.

use super::drafts::{DraftWork, Drafts, Subject};
use super::kernel::Kernel;
use super::link::link;
use crate::buffers::Home;
use crate::caches::{Caches, Distance};
use crate::plan::{Plan, Work};
use crate::{Options, PlanError, Session, ThreadPool};
use skimjit_host::memory;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Problem};
use std::ops::Range;
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
    pub caches: Caches,
    pub isa: Isa,
    pub pool: &'a Arc<ThreadPool>,
}

/// A kernel in a network of its own.
struct Contender {
    session: Session,
    /// The kernel's steps, behind those that write its operands.
    steps: Range<usize>,
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
        let sweep = Sweep::new(self.caches);
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
        let wanted = match *bytes {
            0 => more,
            taken => 2 * (taken + more),
        };
        if let Err(found) = memory::check(wanted) {
            return match *bytes {
                0 => Err(PlanError::too_large(found.bytes, found.budget)),
                _ => Ok(None),
            };
        }
        *bytes += more;
        let copies = 1 + usize::from(self.problem.operands().residual);
        let steps = copies..plan.segments[0].steps.len();
        Ok(Some(Contender {
            session: Session::try_new(Arc::new(plan), self.pool.clone())?,
            steps,
            best_ns: None,
            disturbed_ns: None,
            quiet_rounds: 0,
            out: false,
        }))
    }

    /// A plan without inputs and outputs: copies that write the operands, the staged copy, the kernel.
    fn plan(&self, built: Built) -> Result<Plan, PlanError> {
        let (batch, home) = match self.setting {
            Setting::Images(images) => (images, Home::Image),
            Setting::Tasks(images) => (images, Home::Batch),
            Setting::Columns => (1, Home::Whole),
        };
        let per_image = home == Home::Image;
        let options = Options {
            caches: self.caches,
            ..Options::default()
        };
        let plan = link(
            self.steps(built, home),
            (self.isa, batch, &[per_image]),
            &options,
        )?;
        Ok(Plan {
            code_is_far: self.distance != Distance::Inner,
            ..plan
        })
    }

    fn steps(&self, built: Built, home: Home) -> Drafts<'static> {
        let mut drafts = Drafts::new(self.isa);
        let mut add = |planes| drafts.buffers.add(planes, home);
        let operands = self.problem.operands();
        let (planes, dst) = (operands.src[0], add(operands.dst));
        // What operands are copied from, so that they are as near as if a layer had just written them. What was never
        // written is one page of zeros for all addresses, which caches that look up addresses do not expect.
        let copies = [Some(planes), operands.residual.then_some(operands.dst)];
        let mut copies: Vec<_> = copies
            .into_iter()
            .flatten()
            .map(|planes| (planes, add(planes), add(planes)))
            .collect();
        let sources = copies.iter().map(|&(_, _, operand)| operand).collect();
        let subject = Subject::default();
        // The source last: it is nearer than a residual.
        copies.reverse();
        for (planes, origin, operand) in copies {
            let copy = DraftWork::Other(Work::Copy, planes.c as usize);
            drafts.push(subject, "operand", copy, vec![origin], operand);
        }
        let kernel = Kernel::New(Box::new(built), None);
        drafts.push_kernel(subject, "kernel", kernel, sources, dst);
        drafts.keep_apart();
        drafts
    }
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
        let steps = self.steps.clone();
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

/// Memory whose reading empties the inner caches.
struct Sweep(Vec<u64>);

/// Largest second-level cache that is emptied.
const MOST_L2_BYTES: u64 = 8 << 20;

impl Sweep {
    fn new(caches: Caches) -> Self {
        // Twice the size, because replacement is not quite least recently used.
        let words = caches.l2_bytes.min(MOST_L2_BYTES) as usize * 2 / 8;
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
