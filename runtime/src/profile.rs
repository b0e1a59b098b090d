//! Time per step, and outside of all steps; on request every single step's beginning and end.

use crate::plan::{Plan, Step};
use skimjit_host::clock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Less than this without a core is what reading the clocks takes, and no other process.
const LEAST_STALL: Duration = Duration::from_micros(20);
/// Most events that are kept for each member.
const MOST_EVENTS: usize = 1 << 18;

/// Times of a session's runs.
pub struct Profile {
    /// `[step][member]` nanoseconds.
    times: Vec<AtomicU64>,
    members: usize,
    layers: Vec<(String, Option<usize>, &'static str)>,
    /// `[member]` nanoseconds inside of regions without a core.
    stalled: Vec<AtomicU64>,
    /// `[member]`
    events: Option<Vec<Mutex<Vec<Event>>>>,
    started: Instant,
    wall_ns: u64,
    runs: u64,
    images: u64,
}

/// One line of a profile.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StepTime {
    /// Layer.
    pub layer: String,
    /// Index of the node in the graph that was planned; `None` for input and output copies.
    pub node: Option<usize>,
    /// Variant or kind of copy.
    pub label: &'static str,
    /// Time over all threads and runs.
    pub time_ns: u64,
    /// Time over all runs of the thread that spent most on it.
    pub longest_ns: u64,
}

/// One step of one member.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Index into [`Profile::steps`].
    pub step: usize,
    /// Since the profile was started.
    pub begin: Duration,
    /// From beginning to end.
    pub time: Duration,
}

impl Profile {
    pub(crate) fn new(plan: &Plan, members: usize) -> Self {
        let steps = plan.segments.iter().flat_map(|segment| &segment.steps);
        let line = |step: &Step| (step.layer.clone(), step.node, step.label);
        let layers: Vec<_> = steps.map(line).collect();
        let times = (0..layers.len() * members)
            .map(|_| AtomicU64::new(0))
            .collect();
        Self {
            times,
            members,
            layers,
            stalled: (0..members).map(|_| AtomicU64::new(0)).collect(),
            events: None,
            started: Instant::now(),
            wall_ns: 0,
            runs: 0,
            images: 0,
        }
    }
    /// Keeps every step's beginning and end from now on.
    pub(crate) fn trace(mut self) -> Self {
        self.events = Some((0..self.members).map(|_| Mutex::default()).collect());
        self
    }
    pub(crate) fn add(&self, step: usize, member: usize, begin: Instant) {
        let time = begin.elapsed();
        let slot = &self.times[step * self.members + member];
        slot.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        let Some(Ok(mut events)) = self.events.as_ref().map(|events| events[member].lock()) else {
            return;
        };
        if events.len() < MOST_EVENTS {
            events.push(Event {
                step,
                begin: begin.duration_since(self.started),
                time,
            });
        }
    }
    /// A member's part of a region.
    pub(crate) fn in_region(&self, member: usize, work: impl FnOnce()) {
        let (begin, core) = (Instant::now(), clock::thread_time());
        work();
        let core = clock::thread_time().saturating_sub(core);
        let stalled = begin.elapsed().saturating_sub(core);
        if stalled < LEAST_STALL {
            return;
        }
        self.stalled[member].fetch_add(stalled.as_nanos() as u64, Ordering::Relaxed);
    }
    pub(crate) fn add_run(&mut self, wall: Duration, images: usize) {
        self.wall_ns += wall.as_nanos() as u64;
        self.runs += 1;
        self.images += images as u64;
    }
    /// Time of each step, summed over threads.
    pub fn steps(&self) -> Vec<StepTime> {
        let lines = self.layers.iter().enumerate();
        lines
            .map(|(step, &(ref layer, node, label))| StepTime {
                layer: layer.clone(),
                node,
                label,
                time_ns: self.step(step).sum(),
                longest_ns: self.longest_ns(step),
            })
            .collect()
    }
    /// Time of a step on the member that spent most on it.
    pub(crate) fn longest_ns(&self, step: usize) -> u64 {
        self.step(step).max().unwrap_or(0)
    }
    /// Time of a step on each member.
    fn step(&self, step: usize) -> impl Iterator<Item = u64> {
        let times = &self.times[step * self.members..(step + 1) * self.members];
        times.iter().map(|time| time.load(Ordering::Relaxed))
    }
    /// Elapsed time of all runs.
    pub fn wall_ns(&self) -> u64 {
        self.wall_ns
    }
    /// Thread time that went to no step: waiting at barriers, starting regions.
    pub fn outside_ns(&self) -> u64 {
        let inside: u64 = self.steps().iter().map(|step| step.time_ns).sum();
        (self.wall_ns * self.members as u64).saturating_sub(inside)
    }
    /// Time of all runs during which the member that was hindered most had no core: others had it, or it
    /// slept because there are fewer cores than members.
    pub fn stalled_ns(&self) -> u64 {
        let stalled = self.stalled.iter();
        let stalled = stalled.map(|time| time.load(Ordering::Relaxed));
        stalled.max().unwrap_or(0)
    }
    /// Every step of every member, in order of time, if the session traces.
    pub fn events(&self) -> Vec<Vec<Event>> {
        let members = self.events.iter().flatten();
        let copy =
            |events: &Mutex<Vec<Event>>| events.lock().map(|e| e.clone()).unwrap_or_default();
        members.map(copy).collect()
    }
    /// Runs measured.
    pub fn runs(&self) -> u64 {
        self.runs
    }
    /// Images measured.
    pub fn images(&self) -> u64 {
        self.images
    }
}
