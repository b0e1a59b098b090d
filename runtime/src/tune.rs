//! Choice by measurement: what the planner needs to time the candidates of a layer and to remember
//! the times. Where they are kept is not its business.

use crate::ThreadPool;
use crate::caches::Caches;
use crate::jit::{Isa, SpecHash};
use crate::plan::Basis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shortest time of each variant in nanoseconds; `None` for variants that could not be built.
pub type Times = BTreeMap<String, Option<f64>>;

/// Times that decide a layer.
#[derive(Clone)]
pub(crate) struct Verdict {
    pub times: Times,
    pub basis: Basis,
}

/// What a trial's times depend on, apart from the machine and the version of the kernels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrialKey {
    /// Instruction set.
    pub isa: Isa,
    /// Threads.
    pub threads: usize,
    /// The problem, and how it is run, in words.
    pub problem: String,
    /// Of the problem, how it is run, and where the non-zeros are.
    pub hash: SpecHash,
}

/// Keeps the times of trials.
pub trait Memory: Send + Sync {
    /// Times of an earlier trial.
    fn recall(&self, key: &TrialKey) -> Option<Times>;
    /// Keeps the times of a trial.
    fn keep(&self, key: &TrialKey, times: &Times);
}

/// Is told before each trial: the layer, its number from 1 on, and how many there are.
pub type OnTrial = dyn Fn(&str, usize, usize) + Send + Sync;

/// How candidates are timed.
#[derive(Clone)]
pub struct Tuner {
    /// The threads that will run the plan.
    pub pool: Arc<ThreadPool>,
    /// Caches of this machine.
    pub caches: Caches,
    /// Where times are kept.
    pub memory: Arc<dyn Memory>,
    /// Fail rather than measure.
    pub frozen: bool,
    /// Also time layers whose variant is named; the named one is used all the same.
    pub named_too: bool,
    /// Least bytes of code and weights to assume for the whole network: a layer on its own is timed as
    /// in the network that it comes from.
    pub network_bytes: u64,
    /// Is told about progress.
    pub on_trial: Option<Arc<OnTrial>>,
}

/// Times this close are equal: the better estimate wins, so that noise does not decide.
const TIE: f64 = 1.03;

/// The variant to use, of `variants` in the order of their estimates; `None` when none has a time.
pub(crate) fn fastest<'a>(
    variants: impl Iterator<Item = &'a str> + Clone,
    times: &Times,
) -> Option<&'a str> {
    let time = |variant: &str| times.get(variant).copied().flatten();
    let best = variants.clone().filter_map(time).min_by(f64::total_cmp)?;
    let mut variants = variants;
    variants.find(|variant| time(variant).is_some_and(|time| time <= best * TIE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_time_wins_and_ties_go_to_the_better_estimate() {
        let times = |times: [Option<f64>; 3]| -> Times {
            let names = ["a", "b", "c"].map(str::to_owned);
            names.into_iter().zip(times).collect()
        };
        let order = ["a", "b", "c"].into_iter();
        let decide = |list| fastest(order.clone(), &times(list));
        assert_eq!(decide([Some(5.0), Some(3.0), Some(4.0)]), Some("b"));
        assert_eq!(decide([Some(102.0), Some(100.0), Some(200.0)]), Some("a"));
        assert_eq!(decide([None, Some(100.0), Some(98.0)]), Some("b"));
        assert_eq!(decide([None, None, None]), None);
        assert_eq!(fastest(["z"].into_iter(), &times([None; 3])), None);
    }
}
