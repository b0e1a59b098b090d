//! Time per step, and outside of all steps.

use crate::plan::{Plan, Step};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times of a session's runs.
pub struct Profile {
    /// `[step][member]` nanoseconds.
    times: Vec<AtomicU64>,
    members: usize,
    layers: Vec<(String, Option<usize>, &'static str)>,
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
            wall_ns: 0,
            runs: 0,
            images: 0,
        }
    }
    pub(crate) fn add(&self, step: usize, member: usize, time: Duration) {
        let slot = &self.times[step * self.members + member];
        slot.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
    pub(crate) fn add_run(&mut self, wall: Duration, images: usize) {
        self.wall_ns += wall.as_nanos() as u64;
        self.runs += 1;
        self.images += images as u64;
    }
    /// Time of each step, summed over threads.
    pub fn steps(&self) -> Vec<StepTime> {
        let sum = |step: usize| {
            let times = &self.times[step * self.members..(step + 1) * self.members];
            times.iter().map(|time| time.load(Ordering::Relaxed)).sum()
        };
        let lines = self.layers.iter().enumerate();
        lines
            .map(|(step, &(ref layer, node, label))| StepTime {
                layer: layer.clone(),
                node,
                label,
                time_ns: sum(step),
                longest_ns: self.longest_ns(step),
            })
            .collect()
    }
    /// Time of a step on the member that spent most on it.
    pub(crate) fn longest_ns(&self, step: usize) -> u64 {
        let times = &self.times[step * self.members..(step + 1) * self.members];
        let times = times.iter().map(|time| time.load(Ordering::Relaxed));
        times.max().unwrap_or(0)
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
    /// Runs measured.
    pub fn runs(&self) -> u64 {
        self.runs
    }
    /// Images measured.
    pub fn images(&self) -> u64 {
        self.images
    }
}
