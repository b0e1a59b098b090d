//! Guided pruning: layers are pruned as far as that makes them faster on the machine that is to run them
//! (Park et al. 2017), with times that were measured there.

use super::mask::mask_below;
use crate::engine::Engine;
use crate::param::prunable;
use crate::solver::method::{Context, Method};
use crate::solver::report::Metrics;
use serde::{Deserialize, Serialize};
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// What a layer must win before it counts as a gain.
const GAIN: f64 = 0.03;

/// Times of a network on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// CPU, for people.
    pub machine: String,
    /// Images computed together.
    pub batch: u32,
    /// Threads.
    pub threads: u32,
    /// Layers that can be pruned.
    pub layers: Vec<LayerCost>,
    /// Everything else, in milliseconds.
    pub rest_ms: f64,
}

/// Times of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCost {
    /// Layer.
    pub layer: String,
    /// Share of zeros and milliseconds, from dense on.
    pub points: Vec<[f64; 2]>,
}

impl LayerCost {
    /// Time without zeros.
    pub fn dense_ms(&self) -> f64 {
        self.points.first().map_or(0.0, |point| point[1])
    }
    /// Time at a share of zeros, between measured ones in proportion; never more than dense, as the dense
    /// kernel is there for it.
    pub fn ms(&self, zeros: f64) -> f64 {
        let above = self.points.iter().position(|point| point[0] >= zeros);
        let time = match above {
            Some(0) => self.dense_ms(),
            Some(index) => {
                let ([x0, y0], [x1, y1]) = (self.points[index - 1], self.points[index]);
                y0 + (y1 - y0) * (zeros - x0) / (x1 - x0).max(f64::MIN_POSITIVE)
            }
            None => self.points.last().map_or(0.0, |point| point[1]),
        };
        time.min(self.dense_ms())
    }
    /// Share of zeros from which on the layer is faster than dense; `None` when it never is.
    pub fn crossover(&self) -> Option<f64> {
        let limit = self.dense_ms() * (1.0 - GAIN);
        (0..=1000)
            .map(|n| f64::from(n) / 1000.0)
            .find(|&zeros| self.ms(zeros) <= limit)
    }
    /// Share of zeros beyond which nothing is won any more.
    pub fn bound(&self) -> f64 {
        let best = self
            .points
            .iter()
            .map(|point| point[1])
            .fold(f64::INFINITY, f64::min);
        let limit = best + GAIN * self.dense_ms();
        (0..=1000)
            .map(|n| f64::from(n) / 1000.0)
            .find(|&zeros| self.ms(zeros) <= limit)
            .unwrap_or(1.0)
    }
}

impl CostTable {
    /// Reads a table as [`CostTable`] is written.
    pub fn read(path: &Path) -> Result<Self> {
        const TABLE: &str = "a cost table (JSON)";
        const HINT: &str = "make the table with `skimjit-train cost`";
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::unreadable(path, &error, TABLE).hint(HINT))?;
        let wrong = |error: serde_json::Error| Error::new(error.to_string()).file(path);
        let table: Self =
            serde_json::from_str(&text).map_err(|error| wrong(error).expected(TABLE).hint(HINT))?;
        let fine = |layer: &LayerCost| {
            let sorted = layer.points.is_sorted_by(|a, b| a[0] < b[0]);
            let numbers = layer
                .points
                .iter()
                .flatten()
                .all(|x| x.is_finite() && *x >= 0.0);
            sorted && numbers && layer.points.first().is_some_and(|point| point[0] == 0.0)
        };
        match table.layers.iter().find(|layer| !fine(layer)) {
            None => Ok(table),
            Some(layer) => Err(Error::new("times that are not in order")
                .file(path)
                .layer(layer.layer.clone())
                .expected("points [share of zeros, milliseconds] from 0 on")),
        }
    }
    /// Time of the whole network without zeros.
    pub fn dense_ms(&self) -> f64 {
        self.rest_ms + self.layers.iter().map(LayerCost::dense_ms).sum::<f64>()
    }
}

/// What is to be reached, and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuidedOptions {
    /// File of a [`CostTable`], seen from the working folder.
    pub cost: PathBuf,
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
    param: usize,
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
    options: GuidedOptions,
    table: CostTable,
    candidates: Vec<Candidate>,
    /// Layers that stay dense, in milliseconds, with the rest.
    fixed_ms: f64,
    goal_ms: f64,
}

impl GuidedOptions {
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
    /// Reads the cost table.
    pub fn new(options: GuidedOptions) -> Result<Self> {
        options.check()?;
        let table = CostTable::read(&options.cost)?;
        let speedup = options
            .target_speedup
            .map(|speedup| table.dense_ms() / speedup);
        let goal_ms = speedup.or(options.target_latency_ms).unwrap_or_default();
        Ok(Self {
            fixed_ms: table.rest_ms,
            options,
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

    fn step(&mut self, run: &mut Context<'_>) {
        let sorted: Vec<Vec<f32>> = self
            .candidates
            .iter()
            .map(|candidate| magnitudes(run.engine, candidate.param))
            .collect();
        let dense = self.table.dense_ms();
        let length = (self.options.end - self.options.begin) as f64;
        let t = ((run.iteration - self.options.begin) as f64 / length).min(1.0);
        let ms = self.goal_ms + (dense - self.goal_ms) * (1.0 - t).powi(3);
        let shares = self.shares(&sorted, self.find(&sorted, ms));
        let projected = self.projected(&shares);
        for ((candidate, sorted), (zeros, state)) in
            self.candidates.iter_mut().zip(&sorted).zip(&shares)
        {
            let threshold = match (zeros * sorted.len() as f64).round() as usize {
                0 => -1.0,
                count => sorted[count.min(sorted.len()) - 1],
            };
            run.engine.edit(candidate.param, &mut |_, values| {
                if *state == State::Restored {
                    values.mask = None;
                } else {
                    mask_below(values, threshold);
                }
            });
            if candidate.state != *state {
                candidate.state = *state;
                let text = candidate.text();
                run.report.line(&format!(
                    "Iteration {}, guided pruning: {text}",
                    run.iteration
                ));
                event(run, text, serde_json::Value::Null);
            }
        }
        let text = format!(
            "projected {projected:.4} ms, {:.2} times as fast as dense",
            dense / projected
        );
        run.report.line(&format!(
            "Iteration {}, guided pruning: {text}",
            run.iteration
        ));
        let layers = self.candidates.iter().zip(&shares);
        let layers: serde_json::Map<_, _> = layers
            .map(|(candidate, (zeros, _))| (candidate.cost.layer.clone(), (*zeros).into()))
            .collect();
        event(run, text, layers.into());
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

fn event(run: &mut Context<'_>, text: String, values: serde_json::Value) {
    run.report.metrics(&Metrics::Event {
        iteration: run.iteration,
        text,
        values,
    });
}

/// Magnitudes of a parameter, in order.
fn magnitudes(engine: &mut dyn Engine, param: usize) -> Vec<f32> {
    let mut all: Vec<f32> = Vec::new();
    engine.edit(param, &mut |_, state| {
        all.extend(state.data.iter().map(|w| w.abs()))
    });
    all.sort_unstable_by(f32::total_cmp);
    all
}

impl Method for Guided {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        let prunable = prunable(run.engine.params(), &[], "layers")?;
        for cost in self.table.layers.clone() {
            let params = run.engine.params();
            let Some(&param) = prunable
                .iter()
                .find(|&&index| params[index].layer == cost.layer)
            else {
                return Err(Error::new(format!("layer {:?}", cost.layer))
                    .file(&self.options.cost)
                    .expected("a convolution or inner product of the network")
                    .hint("make the table with this network"));
            };
            match cost.crossover() {
                Some(crossover) => self.candidates.push(Candidate {
                    param,
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
                    run.report.line(&format!("Guided pruning: {text}"));
                    event(run, text, serde_json::Value::Null);
                }
            }
        }
        let best = self.projected(
            &self
                .candidates
                .iter()
                .map(|candidate| (candidate.bound, State::Stopped))
                .collect::<Vec<_>>(),
        );
        if best > self.goal_ms {
            let dense = self.table.dense_ms();
            let text = format!(
                "the goal of {:.4} ms cannot be reached: with all layers at their bounds it is {best:.4} ms, {:.2} times as fast as dense",
                self.goal_ms,
                dense / best
            );
            run.report.line(&format!("Guided pruning: {text}"));
            event(run, text, serde_json::Value::Null);
        }
        Ok(())
    }

    fn after_update(&mut self, run: &mut Context<'_>) -> Result<()> {
        let (begin, end) = (self.options.begin, self.options.end);
        let due = (begin..=end).contains(&run.iteration)
            && ((run.iteration - begin).is_multiple_of(self.options.every) || run.iteration == end);
        if due {
            self.step(run);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(points: &[[f64; 2]]) -> LayerCost {
        LayerCost {
            layer: "l".to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn times_crossovers_and_bounds() {
        let layer = cost(&[
            [0.0, 10.0],
            [0.5, 12.0],
            [0.8, 6.0],
            [0.9, 4.0],
            [0.98, 3.9],
        ]);
        assert_eq!(layer.ms(0.0), 10.0);
        assert_eq!(layer.ms(0.5), 10.0, "the dense kernel is there");
        assert!((layer.ms(0.85) - 5.0).abs() < 1e-9);
        assert_eq!(layer.ms(1.0), 3.9);
        // 12 − 20·(s − 0.5) reaches 9.7 at 0.615.
        assert!((layer.crossover().unwrap() - 0.615).abs() < 2e-3);
        // 4.2 on the way from 6 to 4.
        assert!((layer.bound() - 0.89).abs() < 2e-3);
        assert_eq!(cost(&[[0.0, 1.0], [0.9, 1.1]]).crossover(), None);
    }
}
