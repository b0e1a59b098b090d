//! Repeated measurements.

use crate::support::output;
use crate::support::times::Times;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How often something is measured.
#[derive(Clone, Copy)]
pub enum Repeat {
    /// This often.
    Times(u32),
    /// At least [`LEAST`] times, until this time has passed, at most [`MOST`] times.
    For(Duration),
    /// At least [`LEAST`] times, until then.
    Until(Instant),
}

/// Fewest measurements a median is taken of, when their number is left open.
const LEAST: u32 = 5;
/// Most measurements, when their number is left open.
const MOST: u32 = 200;

impl Repeat {
    /// `times` when given, otherwise as often as `time` allows.
    pub fn new(times: Option<u32>, time: Duration) -> Self {
        times.map_or(Self::For(time), Self::Times)
    }
    /// Calls `work` until it is enough.
    pub fn run<E>(self, mut work: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let started = Instant::now();
        let enough = |done: u32| match self {
            Self::Times(times) => done >= times,
            Self::For(time) => done >= MOST || done >= LEAST && started.elapsed() >= time,
            Self::Until(end) => done >= LEAST && Instant::now() >= end,
        };
        let mut done = 0;
        while !enough(done) {
            work()?;
            done += 1;
        }
        Ok(())
    }
}

/// Middle of the sorted values; 0 for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(&value), 1) => value,
        (Some(&value), _) => (values[middle - 1] + value) / 2.0,
    }
}

/// Share of the time that a thread may be without a core before a measurement is doubted.
const BUSY: f64 = 0.05;

/// What many runs of the same thing took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs took no longer.
    pub median_ms: f64,
    /// Of the fastest run.
    pub least_ms: f64,
    /// A quarter of the runs was faster, a quarter slower.
    pub quartiles_ms: [f64; 2],
    /// Share of the elapsed time for which the thread that was hindered most had a core. Less than 1: the
    /// machine did something else as well, or has fewer cores than the team has threads.
    pub cpu_share: f64,
}

impl Spread {
    /// Of runs, from their elapsed times and the time without a core in nanoseconds.
    pub fn of(runs: &[Times]) -> Self {
        let mut walls: Vec<f64> = runs.iter().map(|run| run.wall as f64 / 1e6).collect();
        walls.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let last = walls.len().saturating_sub(1);
            walls.get(last * quarters / 4).copied().unwrap_or_default()
        };
        let sum = |of: fn(&Times) -> u64| runs.iter().map(of).sum::<u64>() as f64;
        let stalled = sum(|run| run.stalled) / sum(|run| run.wall).max(1.0);
        Self {
            median_ms: median(walls.clone()),
            least_ms: at(0),
            quartiles_ms: [at(1), at(3)],
            cpu_share: 1.0 - stalled.min(1.0),
        }
    }
    /// Something else took cores away.
    pub fn is_busy(&self) -> bool {
        self.cpu_share < 1.0 - BUSY
    }
    /// Why the measurement is in doubt: the machine was busy.
    pub fn doubt(&self) -> Option<String> {
        let share = self.cpu_share * 100.0;
        self.is_busy().then(|| {
            format!(
                "a thread had a core for only {share:.0} % of the time, so the times are too long; measure \
                 again when nothing else runs, or with fewer --threads"
            )
        })
    }
    /// Says so.
    pub fn note(&self, what: &str) {
        if let Some(doubt) = self.doubt() {
            output::note(format!("busy machine: {what}: {doubt}"));
        }
    }
}

/// The runs in the middle half by elapsed time: what is averaged over them adds up as in a single run, and
/// is as little moved by a disturbance as a median.
pub fn middle(runs: &[Times]) -> Vec<&Times> {
    let mut sorted: Vec<&Times> = runs.iter().collect();
    sorted.sort_by_key(|run| run.wall);
    let quarter = sorted.len() / 4;
    sorted[quarter..sorted.len() - quarter].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wall: u64, stalled: u64) -> Times {
        Times {
            wall: wall * 1_000_000,
            stalled: stalled * 1_000_000,
            ..Times::default()
        }
    }

    #[test]
    fn the_spread_of_runs() {
        let runs = [run(4, 0), run(1, 0), run(3, 0), run(2, 0), run(90, 0)];
        let spread = Spread::of(&runs);
        assert_eq!((spread.median_ms, spread.least_ms), (3.0, 1.0));
        assert_eq!(spread.quartiles_ms, [2.0, 4.0]);
        assert!(!spread.is_busy());
        let walls: Vec<u64> = middle(&runs)
            .iter()
            .map(|run| run.wall / 1_000_000)
            .collect();
        assert_eq!(walls, [2, 3, 4]);
        assert!(Spread::of(&[run(10, 1), run(10, 1)]).is_busy());
        assert_eq!(Spread::of(&[]).cpu_share, 1.0);
        assert!(middle(&[]).is_empty());
    }

    #[test]
    fn median_of_few_values() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn repeats_as_often_as_asked() {
        let mut count = 0;
        let mut work = || -> Result<(), ()> {
            count += 1;
            Ok(())
        };
        Repeat::Times(3).run(&mut work).unwrap();
        Repeat::For(Duration::ZERO).run(&mut work).unwrap();
        assert_eq!(count, 3 + LEAST);
    }
}
