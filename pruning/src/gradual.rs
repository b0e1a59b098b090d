//! Gradual magnitude pruning: the smallest weights become zero, more of them as training goes on
//! (Zhu and Gupta 2017).

use crate::allocation::{Allocation, Scope, Wanted};
use crate::layer::Layer;
use crate::method::{Method, Run, Start};
use crate::written::{self, share};
use serde::Deserialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;

/// What is pruned, how far and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradualOptions {
    /// Share of zeros at the end, over all chosen layers.
    #[serde(deserialize_with = "share")]
    pub sparsity: f64,
    /// Share of zeros at the beginning.
    #[serde(default, deserialize_with = "share")]
    pub initial: f64,
    /// First iteration.
    #[serde(default)]
    pub begin: u64,
    /// Iteration at which `sparsity` is reached.
    pub end: u64,
    /// Iterations between two steps.
    #[serde(default = "usual_interval")]
    pub every: u64,
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

fn usual_interval() -> u64 {
    50
}

/// No channel shares positions with others.
pub fn alone() -> usize {
    1
}

impl GradualOptions {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            sparsity: self.sparsity,
            scope: &self.scope,
            layers: &self.layers,
            targets: &self.targets,
            cluster: self.cluster,
        }
    }
}

/// Gradual magnitude pruning.
pub struct Gradual {
    options: GradualOptions,
    allocation: Allocation,
}

/// Share of zeros at iteration `n`: a cubic that is steep at first, when most weights are easy to do
/// without.
pub fn share_at(options: &GradualOptions, n: u64) -> f64 {
    if n >= options.end {
        return options.sparsity;
    }
    let length = options.end.saturating_sub(options.begin).max(1) as f64;
    let t = (n.saturating_sub(options.begin) as f64 / length).min(1.0);
    options.sparsity + (options.initial - options.sparsity) * (1.0 - t).powi(3)
}

impl Gradual {
    /// Checks options; parameters are found when the run starts.
    pub fn new(options: GradualOptions) -> Result<Self> {
        options.wanted().check()?;
        if !(0.0..1.0).contains(&options.initial) {
            return Err(Error::new(options.initial.to_string())
                .field("initial")
                .expected("0 or more and less than 1"));
        }
        if options.every == 0 || options.end < options.begin {
            return Err(Error::new(format!(
                "{} to {} every {}",
                options.begin, options.end, options.every
            ))
            .field("begin, end, every")
            .expected("an end not before the beginning, and steps of 1 or more"));
        }
        Ok(Self {
            options,
            allocation: Allocation::default(),
        })
    }
}

impl Method for Gradual {
    fn start(&mut self, layers: &[Layer], _at: Start, _run: &mut dyn Run) -> Result<()> {
        self.allocation = Allocation::new(layers, &self.options.wanted())?;
        Ok(())
    }

    fn is_due(&self, iteration: u64) -> bool {
        let options = &self.options;
        let inside = (options.begin..=options.end).contains(&iteration);
        let due = inside && (iteration - options.begin).is_multiple_of(options.every);
        due || iteration == options.end
    }

    fn step(&mut self, iteration: u64, run: &mut dyn Run) {
        if self.is_due(iteration) {
            let share = share_at(&self.options, iteration);
            let reached = self.allocation.prune(run, share);
            run.event(format!("pruned to {:.2} %", 100.0 * share), Some(reached));
        }
    }

    fn end(&self) -> u64 {
        self.options.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(sparsity: f64) -> GradualOptions {
        GradualOptions {
            sparsity,
            initial: 0.0,
            begin: 100,
            end: 300,
            every: 50,
            scope: Scope::Global,
            layers: vec![],
            targets: BTreeMap::new(),
            cluster: 1,
        }
    }

    #[test]
    fn the_schedule_is_cubic() {
        let options = options(0.8);
        for (n, share) in [
            (0, 0.0),
            (100, 0.0),
            (200, 0.8 - 0.8 / 8.0),
            (300, 0.8),
            (900, 0.8),
        ] {
            assert!((share_at(&options, n) - share).abs() < 1e-12, "{n}");
        }
    }

    /// One step is all: it reaches the goal.
    #[test]
    fn an_end_at_the_beginning_prunes() {
        let begin = 300;
        let options = GradualOptions {
            begin,
            ..options(0.8)
        };
        assert!((share_at(&options, 300) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn impossible_options_are_refused() {
        for wrong in [
            options(1.0),
            GradualOptions {
                initial: -0.1,
                ..options(0.5)
            },
            GradualOptions {
                end: 50,
                ..options(0.5)
            },
            GradualOptions {
                every: 0,
                ..options(0.5)
            },
        ] {
            assert!(Gradual::new(wrong).is_err());
        }
    }
}
