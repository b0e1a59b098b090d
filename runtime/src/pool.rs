//! OpenMP-like threads: a team that runs one function on every member, with a barrier inside.
//!
//! The members are the threads of a rayon pool that wait for work for as long as the team lives; the
//! calling thread is member 0. Starting a region and passing a barrier allocate nothing.
//! One of the few files with `unsafe`.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// Spins before a waiting thread gives its core away, where each thread has a core of its own.
const SPINS: u32 = 20_000;

/// Spins before a waiting thread of a team gives its core away: none when the team has more members than
/// cores, because the one it waits for may need this core.
fn patience(threads: usize) -> u32 {
    if threads > usable_cores() { 1 } else { SPINS }
}

/// Cores that this process may use: those that the affinity of the calling thread allows, or fewer where a
/// control group has a quota of processor time. At least 1.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Most members of a team.
pub const MOST_THREADS: usize = 256;

/// A function every member runs, with the member's number.
type Job = dyn Fn(usize) + Sync;

/// What the members share.
struct Shared {
    /// Region number and the job of that region.
    state: Mutex<State>,
    wake: Condvar,
    /// Number of the newest region, for spinning without the lock.
    region: AtomicUsize,
    /// Members that have finished the current region.
    finished: AtomicUsize,
    panicked: AtomicBool,
    barrier: Barrier,
    /// Spins before a waiting member gives its core away.
    patience: u32,
}

struct State {
    region: usize,
    job: Option<JobPtr>,
    stop: bool,
}

/// The job with its lifetime removed; valid until `run` returns.
#[derive(Clone, Copy)]
struct JobPtr(*const Job);

// SAFETY: the job is `Sync`, and `run` keeps it alive until every member has finished.
unsafe impl Send for JobPtr {}

/// A team of threads.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: usize,
    /// Serialises regions of concurrent callers.
    turn: Mutex<()>,
    /// Owns the worker threads; `None` for a team of one.
    _workers: Option<rayon::ThreadPool>,
}

impl ThreadPool {
    /// A team of `threads` members (at least 1), the caller included.
    pub fn new(threads: usize) -> Result<Self, String> {
        let threads = threads.clamp(1, MOST_THREADS);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                region: 0,
                job: None,
                stop: false,
            }),
            wake: Condvar::new(),
            region: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            barrier: Barrier::new(threads),
            patience: patience(threads),
        });
        let workers = (threads > 1).then(|| start(&shared, threads)).transpose()?;
        Ok(Self {
            shared,
            threads,
            turn: Mutex::new(()),
            _workers: workers,
        })
    }

    /// Members.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `job` once on every member and returns when all have finished.
    ///
    /// # Panics
    /// When the job panicked on any member.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync + '_)) {
        if self.threads == 1 {
            return job(0);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes; this function returns after all members are done.
        let job_ptr = JobPtr(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job)
        });
        self.shared.finished.store(0, Ordering::Relaxed);
        self.shared.barrier.reset();
        {
            let mut state = self.shared.lock();
            state.region += 1;
            state.job = Some(job_ptr);
            self.shared.region.store(state.region, Ordering::Release);
        }
        self.shared.wake.notify_all();
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        if mine.is_err() {
            self.shared.barrier.abandon();
        }
        wait_until(self.shared.patience, || {
            self.shared.finished.load(Ordering::Acquire) == self.threads - 1
        });
        let theirs = self.shared.panicked.swap(false, Ordering::Relaxed);
        assert!(mine.is_ok() && !theirs, "a worker thread panicked");
    }

    /// Maps items on the members, keeping their order.
    ///
    /// # Panics
    /// When `f` panicked.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(items.len()));
        self.run(&|_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(index) else { break };
                let result = f(item);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.push((index, result));
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|&(index, _)| index);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Waits, inside a region, until every member has arrived.
    pub fn barrier(&self) {
        self.shared.barrier.wait(self.shared.patience);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        // Wakes the spinners as well as the sleepers.
        self.shared.region.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does all its life.
    fn work(&self, member: usize) {
        let mut seen = 0;
        while let Some((region, job)) = self.next(seen) {
            seen = region;
            // SAFETY: `run` keeps the job alive until `finished` has counted this member.
            let job = unsafe { &*job.0 };
            if catch_unwind(AssertUnwindSafe(|| job(member))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
                self.barrier.abandon();
            }
            self.finished.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits for a region newer than `seen`: spins, then sleeps.
    fn next(&self, seen: usize) -> Option<(usize, JobPtr)> {
        for _ in 0..self.patience {
            if self.region.load(Ordering::Acquire) != seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if let (true, Some(job)) = (state.region != seen, state.job) {
                return Some((state.region, job));
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn start(shared: &Arc<Shared>, threads: usize) -> Result<rayon::ThreadPool, String> {
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(threads - 1)
        .thread_name(|i| format!("skimjit-{}", i + 1))
        .build()
        .map_err(|error| format!("cannot start {} threads: {error}", threads - 1))?;
    let shared = Arc::clone(shared);
    workers.spawn_broadcast(move |context| shared.work(context.index() + 1));
    Ok(workers)
}

/// Spins, giving the core away every `patience` spins, until `done`.
fn wait_until(patience: u32, done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        spins += 1;
        if spins == patience {
            spins = 0;
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A reusable barrier: a counter and a generation. A member that panics abandons it, so that the
/// others do not wait for ever.
struct Barrier {
    abandoned: AtomicBool,
    members: usize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
}

impl Barrier {
    fn new(members: usize) -> Self {
        Self {
            abandoned: AtomicBool::new(false),
            members,
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
        }
    }
    /// Makes it usable again; no member is inside.
    fn reset(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.abandoned.store(false, Ordering::Relaxed);
    }
    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }
    fn wait(&self, patience: u32) {
        if self.members == 1 {
            return;
        }
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.store(generation + 1, Ordering::Release);
        } else {
            let abandoned = || self.abandoned.load(Ordering::Acquire);
            wait_until(patience, || {
                self.generation.load(Ordering::Acquire) != generation || abandoned()
            });
            assert!(!abandoned(), "another member of the team panicked");
        }
    }
}

/// Maps items on all cores (rayon's global pool), keeping their order; on this thread where no others can be
/// started. For loading, not for runs.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    use rayon::prelude::*;
    static HAS_THREADS: OnceLock<bool> = OnceLock::new();
    let start = || match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // An error without a cause: somebody else has started it.
        Err(error) => std::error::Error::source(&error).is_none(),
    };
    match *HAS_THREADS.get_or_init(start) {
        true => items.par_iter().map(f).collect(),
        false => items.iter().map(f).collect(),
    }
}

/// Part of tasks `0..costs.len()` that member `member` of `members` runs, by cumulated cost:
/// `cumulated[i]` is the cost of tasks `0..=i`.
pub fn share(cumulated: &[f32], member: usize, members: usize) -> Range<usize> {
    let total = cumulated.last().copied().unwrap_or(0.0);
    let bound = |member: usize| {
        if member >= members {
            return cumulated.len();
        }
        let target = total * member as f32 / members as f32;
        // A task belongs to the member in whose share its middle lies.
        let mut previous = 0.0;
        cumulated
            .iter()
            .position(|&end| {
                let middle = (previous + end) / 2.0;
                previous = end;
                middle >= target
            })
            .unwrap_or(cumulated.len())
    };
    bound(member)..bound(member + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_runs_once_per_region_and_barriers_order_phases() {
        let pool = ThreadPool::new(3).unwrap();
        for _ in 0..200 {
            let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(&|_| {
                first.fetch_add(1, Ordering::Relaxed);
                pool.barrier();
                assert_eq!(first.load(Ordering::Relaxed), 3);
                second.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(second.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    fn a_panicking_member_is_reported_and_the_team_survives() {
        let pool = ThreadPool::new(2).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|member| assert_eq!(member, 0, "planned"));
        }));
        assert!(failed.is_err());
        pool.run(&|_| ());
    }

    #[test]
    fn mapped_items_keep_their_order() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [1, 3] {
            let pool = ThreadPool::new(threads).unwrap();
            let doubled: Vec<usize> = items.iter().map(|i| 2 * i).collect();
            assert_eq!(pool.map(&items, |i| 2 * i), doubled);
            assert!(pool.map(&items[..0], |i| *i).is_empty());
        }
    }

    #[test]
    fn nobody_waits_for_a_member_that_panicked() {
        let pool = ThreadPool::new(3).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|member| {
                assert_ne!(member, 1, "planned");
                pool.barrier();
            });
        }));
        assert!(failed.is_err());
        pool.run(&|_| pool.barrier());
    }

    #[test]
    fn shares_cover_all_tasks_once() {
        let costs = [5.0f32, 1.0, 1.0, 8.0, 0.5];
        let mut sum = 0.0;
        let cumulated: Vec<f32> = costs
            .iter()
            .map(|c| {
                sum += c;
                sum
            })
            .collect();
        for members in 1..7 {
            let mut next = 0;
            for member in 0..members {
                let part = share(&cumulated, member, members);
                assert_eq!(part.start, next);
                next = part.end;
            }
            assert_eq!(next, costs.len());
        }
        assert!(share(&[], 0, 2).is_empty());
    }
}
