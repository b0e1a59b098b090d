//! Times of runs, by step.

use skimjit_runtime::Profile;

/// Times of one run or the sums of several, in nanoseconds.
#[derive(Clone, Default)]
pub struct Times {
    /// Of each step, over all threads.
    pub steps: Vec<u64>,
    /// Of each step, of the thread that spent most on it in each run.
    pub longest: Vec<u64>,
    /// Outside of all steps, over all threads.
    pub outside: u64,
    /// Elapsed.
    pub wall: u64,
    /// Of that, what the thread that was hindered most spent without a core.
    pub stalled: u64,
}

impl Times {
    pub fn of(profile: &Profile) -> Self {
        let steps = profile.steps();
        Self {
            steps: steps.iter().map(|step| step.time_ns).collect(),
            longest: steps.iter().map(|step| step.longest_ns).collect(),
            outside: profile.outside_ns(),
            wall: profile.wall_ns(),
            stalled: profile.stalled_ns(),
        }
    }
    /// Adds the times of another run of the same plan.
    pub fn add(&mut self, other: &Self) {
        for (sums, times) in [
            (&mut self.steps, &other.steps),
            (&mut self.longest, &other.longest),
        ] {
            sums.resize(times.len(), 0);
            sums.iter_mut()
                .zip(times)
                .for_each(|(sum, time)| *sum += time);
        }
        self.outside += other.outside;
        self.wall += other.wall;
        self.stalled += other.stalled;
    }
}
