//! Guided pruning: layers are pruned as far as that makes them faster on the machine that is to run them
//! (Park et al. 2017), with times that were measured there.

use crate::cost::{CostTable, LayerCost};
use crate::layer::Layer;
use crate::method::{Method, Run, Start, above, weights};
use serde::Deserialize;
use skimjit_models::{Error, Result};

/// What is to be reached, and when. `Cost` is where the [`CostTable`] comes from: a path in the trainer's recipes, the
/// table itself for who has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuidedOptions<Cost> {
    /// Times of the network.
    pub cost: Cost,
    /// How many times as fast as dense.
    #[serde(default)]
    pub target_speedup: Option<f64>,
    /// Time of the network, in milliseconds.
    #[serde(default)]
    pub target_latency_ms: Option<f64>,
    /// First iteration.
    #[serde(default)]
    pub begin: u64,
    /// Iteration at which the goal is reached.
    pub end: u64,
    /// Iterations between two steps.
    #[serde(default = "usual_interval")]
    pub every: u64,
}

fn usual_interval() -> u64 {
    100
}

/// A layer that may be pruned.
struct Candidate {
    layer: usize,
    cost: LayerCost,
    crossover: f64,
    bound: f64,
    /// What was said of it last.
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pruned,
    Stopped,
    Restored,
}

/// Guided pruning.
pub struct Guided {
    begin: u64,
    end: u64,
    every: u64,
    table: CostTable,
    candidates: Vec<Candidate>,
    /// Layers that stay dense, in milliseconds, with the rest.
    fixed_ms: f64,
    goal_ms: f64,
}

impl<Cost> GuidedOptions<Cost> {
    /// Checks what can be checked without the cost table.
    pub fn check(&self) -> Result<()> {
        let goal = match (self.target_speedup, self.target_latency_ms) {
            (Some(speedup), None) => speedup > 1.0,
            (None, Some(ms)) => ms > 0.0,
            _ => false,
        };
        if !goal {
            return Err(Error::new("another goal")
                .field("target_speedup, target_latency_ms")
                .expected("one of them: more than 1, or a time in milliseconds"));
        }
        if self.every == 0 || self.end <= self.begin {
            return Err(Error::new(format!(
                "{} to {} every {}",
                self.begin, self.end, self.every
            ))
            .field("begin, end, every")
            .expected("an end after the beginning, and steps of 1 or more"));
        }
        Ok(())
    }
}

impl Guided {
    /// Checks options and takes the cost table that they speak of.
    pub fn new<Cost>(options: &GuidedOptions<Cost>, table: CostTable) -> Result<Self> {
        options.check()?;
        let speedup = options
            .target_speedup
            .map(|speedup| table.dense_ms() / speedup);
        let goal_ms = speedup.or(options.target_latency_ms).unwrap_or_default();
        Ok(Self {
            begin: options.begin,
            end: options.end,
            every: options.every,
            fixed_ms: table.rest_ms,
            table,
            candidates: Vec::new(),
            goal_ms,
        })
    }

    /// Shares of zeros when all weights up to a magnitude go: what a layer's bound and crossover leave of
    /// that, and what comes of them.
    fn shares(&self, sorted: &[Vec<f32>], threshold: f32) -> Vec<(f64, State)> {
        let share = |(candidate, sorted): (&Candidate, &Vec<f32>)| {
            let zeros =
                sorted.partition_point(|w| *w <= threshold) as f64 / sorted.len().max(1) as f64;
            if zeros < candidate.crossover {
                (0.0, State::Restored)
            } else if zeros >= candidate.bound {
                (candidate.bound, State::Stopped)
            } else {
                (zeros, State::Pruned)
            }
        };
        self.candidates.iter().zip(sorted).map(share).collect()
    }

    fn projected(&self, shares: &[(f64, State)]) -> f64 {
        let times = self
            .candidates
            .iter()
            .zip(shares)
            .map(|(candidate, (zeros, _))| candidate.cost.ms(*zeros));
        self.fixed_ms + times.sum::<f64>()
    }

    /// The smallest threshold with which the network takes `ms` at most; else the largest that helps.
    fn find(&self, sorted: &[Vec<f32>], ms: f64) -> f32 {
        let most = sorted
            .iter()
            .filter_map(|sorted| sorted.last())
            .fold(0f32, |a, &b| a.max(b));
        let (mut low, mut high) = (0f32, most);
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            if self.projected(&self.shares(sorted, middle)) <= ms {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// Time that is to be reached by an iteration.
    fn goal_at(&self, iteration: u64) -> f64 {
        let length = (self.end - self.begin) as f64;
        let t = ((iteration - self.begin) as f64 / length).min(1.0);
        self.goal_ms + (self.table.dense_ms() - self.goal_ms) * (1.0 - t).powi(3)
    }

    fn prune(&mut self, iteration: u64, run: &mut dyn Run) {
        let magnitudes = |candidate: &Candidate| magnitudes(run, candidate.layer);
        let sorted: Vec<Vec<f32>> = self.candidates.iter().map(magnitudes).collect();
        let threshold = self.find(&sorted, self.goal_at(iteration));
        let shares = self.shares(&sorted, threshold);
        let projected = self.projected(&shares);
        for ((candidate, sorted), (zeros, state)) in
            self.candidates.iter_mut().zip(&sorted).zip(&shares)
        {
            let threshold = match (zeros * sorted.len() as f64).round() as usize {
                0 => -1.0,
                count => sorted[count.min(sorted.len()) - 1],
            };
            let kept = (*state != State::Restored)
                .then(|| above(&weights(run, candidate.layer), threshold));
            run.mask(candidate.layer, kept);
            if candidate.state != *state {
                candidate.state = *state;
                let text = candidate.text();
                run.line(&format!("Iteration {iteration}, guided pruning: {text}"));
                run.event(text, None);
            }
        }
        let text = format!(
            "projected {projected:.4} ms, {:.2} times as fast as dense",
            self.table.dense_ms() / projected
        );
        run.line(&format!("Iteration {iteration}, guided pruning: {text}"));
        let layers = self.candidates.iter().zip(&shares);
        let zeros = layers.map(|(candidate, (zeros, _))| (candidate.cost.layer.clone(), *zeros));
        run.event(text, Some(zeros.collect()));
    }

    /// Tells where even all layers at their bounds are too slow.
    fn tell_of_limit(&self, run: &mut dyn Run) {
        let bound = |candidate: &Candidate| (candidate.bound, State::Stopped);
        let bounds: Vec<_> = self.candidates.iter().map(bound).collect();
        let best = self.projected(&bounds);
        if best > self.goal_ms {
            let text = format!(
                "the goal of {:.4} ms cannot be reached: with all layers at their bounds it is {best:.4} ms, {:.2} times as fast as dense",
                self.goal_ms,
                self.table.dense_ms() / best
            );
            run.line(&format!("Guided pruning: {text}"));
            run.event(text, None);
        }
    }
}

impl Candidate {
    fn text(&self) -> String {
        let layer = &self.cost.layer;
        match self.state {
            State::Pruned => format!(
                "{layer} is pruned: it gains from {:.1} % zeros on",
                100.0 * self.crossover
            ),
            State::Stopped => format!(
                "{layer} is stopped at {:.1} % zeros: more win nothing",
                100.0 * self.bound
            ),
            State::Restored => format!(
                "{layer} is restored: below {:.1} % zeros it is faster dense",
                100.0 * self.crossover
            ),
        }
    }
}

/// Magnitudes of a layer's weights, in order.
fn magnitudes(run: &mut dyn Run, layer: usize) -> Vec<f32> {
    let mut all: Vec<f32> = weights(run, layer).iter().map(|w| w.abs()).collect();
    all.sort_unstable_by(f32::total_cmp);
    all
}

impl Method for Guided {
    fn start(&mut self, layers: &[Layer], _at: Start, run: &mut dyn Run) -> Result<()> {
        for cost in self.table.layers.clone() {
            let Some(layer) = layers.iter().position(|layer| layer.name == cost.layer) else {
                return Err(Error::new(format!("layer {:?}", cost.layer))
                    .expected("a convolution or inner product of the network")
                    .hint("make the table with this network"));
            };
            match cost.crossover() {
                Some(crossover) => self.candidates.push(Candidate {
                    layer,
                    crossover,
                    bound: cost.bound().max(crossover),
                    cost,
                    state: State::Restored,
                }),
                None => {
                    self.fixed_ms += cost.dense_ms();
                    let text = format!(
                        "{} is not pruned: it is never faster than dense",
                        cost.layer
                    );
                    run.line(&format!("Guided pruning: {text}"));
                    run.event(text, None);
                }
            }
        }
        self.tell_of_limit(run);
        Ok(())
    }

    fn is_due(&self, iteration: u64) -> bool {
        (self.begin..=self.end).contains(&iteration)
            && ((iteration - self.begin).is_multiple_of(self.every) || iteration == self.end)
    }

    fn step(&mut self, iteration: u64, run: &mut dyn Run) {
        if self.is_due(iteration) {
            self.prune(iteration, run);
        }
    }

    fn end(&self) -> u64 {
        self.end
    }
}
