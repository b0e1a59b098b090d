//! BatchNorm's running sums, gathered anew: pruning changes what the layers see, and their old
//! statistics no longer fit.

use crate::engine::{Engine, NetId};
use crate::param::Role;
use crate::solver::source::order;
use crate::trial::Stream;
use skimjit_data::Feed;
use skimjit_models::{Result, Tensor};
use std::collections::BTreeMap;

/// Sums of one layer.
struct Sums {
    /// Parameters: means, variances, factor.
    params: [usize; 3],
    /// What they were.
    before: [Vec<f32>; 3],
    /// Sums over batches.
    sums: [Vec<f64>; 2],
    batches: u32,
}

/// Statistics of all BatchNorm layers: the mean over some batches, each of the same weight.
pub struct Recalibration {
    layers: Vec<Sums>,
}

impl Recalibration {
    /// Of the networks of an engine.
    pub fn new(engine: &mut dyn Engine) -> Self {
        let mut found: BTreeMap<&str, [Option<usize>; 3]> = BTreeMap::new();
        for (index, param) in engine.params().iter().enumerate() {
            if param.role == Role::Statistic && param.index < 3 {
                found.entry(&param.layer).or_default()[param.index] = Some(index);
            }
        }
        let complete = found
            .into_values()
            .filter_map(|[mean, variance, factor]| Some([mean?, variance?, factor?]));
        let complete: Vec<[usize; 3]> = complete.collect();
        let sums = |params: [usize; 3]| {
            let before = params.map(|param| {
                let mut data = Vec::new();
                engine.edit(param, &mut |_, state| data.clone_from(&state.data));
                data
            });
            Sums {
                params,
                sums: [0, 1].map(|index| vec![0.0; before[index].len()]),
                before,
                batches: 0,
            }
        };
        Self {
            layers: complete.into_iter().map(sums).collect(),
        }
    }

    /// To be called before each forward run of the network of phase TRAIN.
    pub fn before_batch(&self, engine: &mut dyn Engine) {
        for param in self.layers.iter().flat_map(|layer| layer.params) {
            engine.edit(param, &mut |_, state| state.data.fill(0.0));
        }
    }

    /// To be called after it.
    pub fn after_batch(&mut self, engine: &mut dyn Engine) {
        for layer in &mut self.layers {
            let mut factor = 0.0;
            engine.edit(layer.params[2], &mut |_, state| factor = state.data[0]);
            if factor == 0.0 {
                // The layer keeps its statistics: use_global_stats.
                continue;
            }
            layer.batches += 1;
            for (&param, sums) in layer.params.iter().zip(&mut layer.sums) {
                engine.edit(param, &mut |_, state| {
                    let all = sums.iter_mut().zip(&state.data);
                    all.for_each(|(sum, x)| *sum += f64::from(x / factor));
                });
            }
        }
    }

    fn run(
        &mut self,
        engine: &mut dyn Engine,
        net: NetId,
        inputs: &[&Tensor],
        turn: u32,
    ) -> Result<()> {
        self.before_batch(engine);
        engine.forward(net, inputs, turn.into())?;
        self.after_batch(engine);
        Ok(())
    }

    /// Sets the new statistics; the number of layers that have some.
    pub fn finish(self, engine: &mut dyn Engine) -> usize {
        let mut changed = 0;
        for layer in self.layers {
            if layer.batches == 0 {
                for (&param, before) in layer.params.iter().zip(&layer.before) {
                    engine.edit(param, &mut |_, state| state.data.clone_from(before));
                }
                continue;
            }
            changed += 1;
            for (&param, sums) in layer.params.iter().zip(&layer.sums) {
                engine.edit(param, &mut |_, state| {
                    let all = state.data.iter_mut().zip(sums);
                    all.for_each(|(x, sum)| *x = (sum / f64::from(layer.batches)) as f32);
                });
            }
            engine.edit(layer.params[2], &mut |_, state| state.data.fill(1.0));
        }
        changed
    }
}

/// Gathers the statistics of all BatchNorm layers anew, from the next batches of the network of phase
/// TRAIN; the number of layers.
pub fn recalibrate(
    engine: &mut dyn Engine,
    net: NetId,
    feed: &mut Feed,
    batches: u32,
) -> Result<usize> {
    let order = order(engine.net(net), feed)?;
    gather(engine, &mut |engine, recalibration| {
        for turn in 0..batches {
            let batch = feed.next()?;
            let inputs: Vec<&Tensor> = order.iter().map(|&index| &batch[index]).collect();
            recalibration.run(engine, net, &inputs, turn)?;
        }
        Ok(())
    })
}

/// The same from all batches of a stream, whose network normalises by the statistics of its batch.
pub fn recalibrate_by(engine: &mut dyn Engine, stream: &Stream) -> Result<usize> {
    gather(engine, &mut |engine, recalibration| {
        for (turn, batch) in (0..).zip(stream.batches()) {
            let inputs: Vec<&Tensor> = batch.iter().collect();
            recalibration.run(engine, stream.id(), &inputs, turn)?;
        }
        Ok(())
    })
}

/// Statistics are what they were where a run fails before it gave any.
fn gather(
    engine: &mut dyn Engine,
    run: &mut dyn FnMut(&mut dyn Engine, &mut Recalibration) -> Result<()>,
) -> Result<usize> {
    let mut recalibration = Recalibration::new(engine);
    let result = run(engine, &mut recalibration);
    let changed = recalibration.finish(engine);
    result.map(|()| changed)
}
