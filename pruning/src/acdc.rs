//! AC/DC: phases in which the smallest weights are masked take turns with phases in which all weights
//! train (Peste, Iofinova, Vladu and Alistarh 2021). It ends masked.

use crate::allocation::{Allocation, Scope, Wanted};
use crate::gradual::alone;
use crate::layer::Layer;
use crate::method::{Method, Run, Start};
use crate::written::{self, share};
use serde::Deserialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;

/// What is pruned, how far and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlternatingOptions {
    /// Share of zeros in masked phases, over all chosen layers.
    #[serde(deserialize_with = "share")]
    pub sparsity: f64,
    /// Iterations at the beginning in which all weights train.
    pub warm_up: u64,
    /// Iterations of a masked phase.
    pub compressed: u64,
    /// Iterations of a phase in which all weights train.
    pub dense: u64,
    /// Iteration from which on weights are masked for good.
    pub end: u64,
    /// How zeros are shared out.
    #[serde(default)]
    pub scope: Scope,
    /// Layers; all convolutions and inner products when empty.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Shares of single layers, instead of what `scope` gives them.
    #[serde(default, deserialize_with = "written::shares")]
    pub targets: BTreeMap<String, f64>,
    /// Neighbouring output channels of a convolution that share positions.
    #[serde(default = "alone")]
    pub cluster: usize,
}

impl AlternatingOptions {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            sparsity: self.sparsity,
            scope: &self.scope,
            layers: &self.layers,
            targets: &self.targets,
            cluster: self.cluster,
        }
    }
    /// Whether weights are masked while iteration `n` (from 0) runs.
    fn is_compressed(&self, n: u64) -> bool {
        if n >= self.end {
            return true;
        }
        let turn = self.compressed.saturating_add(self.dense);
        n >= self.warm_up && (n - self.warm_up) % turn < self.compressed
    }
}

/// AC/DC training. Everything but the masks, which snapshots keep, follows from the iteration.
pub struct Alternating {
    options: AlternatingOptions,
    allocation: Allocation,
}

impl Alternating {
    /// Checks options; parameters are found when the run starts.
    pub fn new(options: AlternatingOptions) -> Result<Self> {
        options.wanted().check()?;
        if options.compressed == 0 || options.dense == 0 {
            return Err(Error::new(format!(
                "phases of {} and {} iterations",
                options.compressed, options.dense
            ))
            .field("compressed, dense")
            .expected("1 or more"));
        }
        // The first dense phase after a masked one.
        if options.warm_up.saturating_add(options.compressed) >= options.end {
            return Err(Error::new(format!(
                "{} and {} of {} iterations",
                options.warm_up, options.compressed, options.end
            ))
            .field("warm_up, compressed")
            .expected("less than end in all, so that masked and dense phases take turns"));
        }
        Ok(Self {
            options,
            allocation: Allocation::default(),
        })
    }

    fn turn(&self, run: &mut dyn Run, compressed: bool) {
        let (text, reached) = if compressed {
            let reached = self.allocation.prune(run, self.options.sparsity);
            ("compressed", Some(reached))
        } else {
            self.allocation.unmask(run);
            ("dense", None)
        };
        run.event(format!("{text} phase"), reached);
    }
}

impl Method for Alternating {
    fn start(&mut self, layers: &[Layer], at: Start, run: &mut dyn Run) -> Result<()> {
        self.allocation = Allocation::new(layers, &self.options.wanted())?;
        if at.iteration == 0 && self.options.is_compressed(0) {
            self.turn(run, true);
        }
        Ok(())
    }

    fn is_due(&self, iteration: u64) -> bool {
        let before = iteration.saturating_sub(1);
        self.options.is_compressed(iteration) != self.options.is_compressed(before)
    }

    fn step(&mut self, iteration: u64, run: &mut dyn Run) {
        if self.is_due(iteration) {
            self.turn(run, self.options.is_compressed(iteration));
        }
    }

    fn end(&self) -> u64 {
        self.options.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> AlternatingOptions {
        AlternatingOptions {
            sparsity: 0.9,
            warm_up: 10,
            compressed: 5,
            dense: 3,
            end: 30,
            scope: Scope::Global,
            layers: vec![],
            targets: BTreeMap::new(),
            cluster: 1,
        }
    }

    #[test]
    fn phases_take_turns_and_the_last_is_masked() {
        let phases: String = (0..36)
            .map(|n| if options().is_compressed(n) { 'c' } else { 'd' })
            .collect();
        assert_eq!(
            phases,
            "ddddddddddcccccdddcccccdddccccCCCCCC".to_lowercase()
        );
    }

    #[test]
    fn impossible_options_are_refused() {
        for wrong in [
            AlternatingOptions {
                dense: 0,
                ..options()
            },
            AlternatingOptions {
                warm_up: 25,
                ..options()
            },
            AlternatingOptions {
                sparsity: 1.0,
                ..options()
            },
        ] {
            assert!(Alternating::new(wrong).is_err());
        }
    }
}
