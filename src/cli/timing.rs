//! Repeated measurements.

use std::time::{Duration, Instant};

/// How often something is measured.
#[derive(Clone, Copy)]
pub enum Repeat {
    /// This often.
    Times(u32),
    /// At least [`LEAST`] times, until this time has passed, at most [`MOST`] times.
    For(Duration),
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

#[cfg(test)]
mod tests {
    use super::*;

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
