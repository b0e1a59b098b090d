//! Which weights become zero when a share of all has to: how zeros are shared out among layers, and
//! which positions they take in a layer.

use crate::layer::{Layer, chosen};
use crate::method::{Run, weights};
use serde::Deserialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;

/// How zeros are shared out among the layers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One threshold for all layers.
    #[default]
    Global,
    /// The same share in every layer.
    Uniform,
    /// More in layers with many weights for their dims (Erdős–Rényi kernel).
    Erk,
}

/// What is pruned, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Share of zeros over all chosen layers.
    pub sparsity: f64,
    /// How zeros are shared out.
    pub scope: &'a Scope,
    /// Layers; all convolutions and inner products when empty.
    pub layers: &'a [String],
    /// Shares of single layers, instead of what `scope` gives them.
    pub targets: &'a BTreeMap<String, f64>,
    /// Neighbouring output channels of a convolution that have their weights at the same positions;
    /// 1: every channel for itself.
    pub cluster: usize,
}

impl Wanted<'_> {
    /// Checks what can be checked without a network.
    pub fn check(&self) -> Result<()> {
        let mut shares = self.targets.values().chain([&self.sparsity]);
        if let Some(wrong) = shares.find(|share| !(0.0..1.0).contains(*share)) {
            return Err(Error::new(format!("{} %", 100.0 * wrong))
                .field("sparsity")
                .expected("0 % or more and less than 100 %"));
        }
        if !(1..=MOST_CHANNELS).contains(&self.cluster) {
            return Err(Error::new(self.cluster.to_string())
                .field("cluster")
                .expected(format!("1 to {MOST_CHANNELS} output channels")));
        }
        Ok(())
    }
}

/// Output channels of a cluster at most: more than any kernel computes together.
const MOST_CHANNELS: usize = 64;

/// The layers that are pruned, and how far each.
#[derive(Debug, Default)]
pub struct Allocation {
    /// With their indices.
    layers: Vec<(usize, Layer)>,
    /// Share of zeros of each at the end; `None`: by the common threshold.
    shares: Vec<Option<f64>>,
    sparsity: f64,
    cluster: usize,
}

impl Allocation {
    /// Finds the layers of a network.
    pub fn new(layers: &[Layer], wanted: &Wanted<'_>) -> Result<Self> {
        let indices = chosen(layers, wanted.layers, "layers")?;
        let targets: Vec<String> = wanted.targets.keys().cloned().collect();
        chosen(layers, &targets, "targets")?;
        let selected: Vec<&Layer> = indices.iter().map(|&index| &layers[index]).collect();
        if wanted.cluster > 1 && !selected.iter().any(|layer| layer.has_positions) {
            return Err(Error::new(wanted.cluster.to_string())
                .field("cluster")
                .expected("1, as none of the layers is a convolution"));
        }
        let by_scope: Vec<Option<f64>> = match wanted.scope {
            Scope::Global => vec![None; selected.len()],
            Scope::Uniform => vec![Some(wanted.sparsity); selected.len()],
            Scope::Erk => {
                let dims: Vec<&[usize]> = selected.iter().map(|layer| &layer.dims[..]).collect();
                let densities = erk(&dims, 1.0 - wanted.sparsity).into_iter();
                densities.map(|density| Some(1.0 - density)).collect()
            }
        };
        let own = |layer: &Layer| wanted.targets.get(&layer.name).copied();
        let shares = selected.iter().zip(by_scope);
        Ok(Self {
            shares: shares.map(|(layer, share)| own(layer).or(share)).collect(),
            layers: indices
                .iter()
                .map(|&index| (index, layers[index].clone()))
                .collect(),
            sparsity: wanted.sparsity,
            cluster: wanted.cluster,
        })
    }

    /// Takes all masks away.
    pub fn unmask(&self, run: &mut dyn Run) {
        for (index, _) in &self.layers {
            run.mask(*index, None);
        }
    }

    /// Masks weights so that `share` of them, all in all, are zero; the zeros of each layer.
    pub fn prune(&self, run: &mut dyn Run, share: f64) -> Vec<(String, f64)> {
        let scale = if self.sparsity > 0.0 {
            share / self.sparsity
        } else {
            0.0
        };
        let common = self.threshold(run, share);
        let mut reached = Vec::new();
        for ((index, layer), own) in self.layers.iter().zip(&self.shares) {
            let weights = weights(run, *index);
            let scores = scores(layer, &weights, self.cluster);
            let threshold = match own {
                Some(own) => smallest(&scores, own * scale),
                None => common,
            };
            let kept = |(w, score): (&f32, &f32)| *w != 0.0 && *score > threshold;
            let kept: Vec<bool> = weights.iter().zip(&scores).map(kept).collect();
            let zeros = kept.iter().filter(|kept| !**kept).count();
            reached.push((layer.name.clone(), zeros as f64 / kept.len() as f64));
            run.mask(*index, Some(kept));
        }
        reached
    }

    /// Score at and below which weights go, over all layers without a share of their own.
    fn threshold(&self, run: &mut dyn Run, share: f64) -> f32 {
        let mut all = Vec::new();
        for ((index, layer), own) in self.layers.iter().zip(&self.shares) {
            if own.is_none() {
                run.see(*index, &mut |weights| {
                    all.extend(scores(layer, weights, self.cluster));
                });
            }
        }
        smallest(&all, share)
    }
}

/// What decides whether a weight stays: its size, or in a cluster the mean size (in the square) of the
/// weights that all its channels have at that position.
fn scores(layer: &Layer, data: &[f32], cluster: usize) -> Vec<f32> {
    if cluster == 1 || !layer.has_positions {
        return data.iter().map(|w| w.abs()).collect();
    }
    let positions: usize = layer.dims[1..].iter().product();
    let channels = layer.dims[0] / layer.groups.max(1);
    let mut scores = Vec::with_capacity(data.len());
    for group in data.chunks((channels * positions).max(1)) {
        for cluster in group.chunks((cluster * positions).max(1)) {
            let rows = cluster.len() / positions;
            let squares = |position: usize| {
                let column = cluster[position..].iter().step_by(positions);
                column.map(|w| f64::from(*w).powi(2)).sum::<f64>()
            };
            let mean = |position| (squares(position) / rows as f64).sqrt() as f32;
            let of_cluster: Vec<f32> = (0..positions).map(mean).collect();
            (0..rows).for_each(|_| scores.extend_from_slice(&of_cluster));
        }
    }
    scores
}

/// The magnitude that `share` of all elements do not exceed; negative when that is none.
pub fn smallest(data: &[f32], share: f64) -> f32 {
    let count = (share * data.len() as f64).round() as usize;
    if count == 0 {
        return -1.0;
    }
    let mut magnitudes: Vec<f32> = data.iter().map(|w| w.abs()).collect();
    let last = (count - 1).min(magnitudes.len() - 1);
    *magnitudes.select_nth_unstable_by(last, f32::total_cmp).1
}

/// Densities of layers by their dims, so that their mean over all weights is `density`: in proportion to
/// (oc + ic + kh + kw)/(oc·ic·kh·kw), and 1 at most.
pub fn erk(layers: &[&[usize]], density: f64) -> Vec<f64> {
    let count = |dims: &&[usize]| dims.iter().product::<usize>() as f64;
    let raw = |dims: &&[usize]| dims.iter().sum::<usize>() as f64 / count(dims);
    let raw: Vec<f64> = layers.iter().map(raw).collect();
    let counts: Vec<f64> = layers.iter().map(count).collect();
    let wanted = density * counts.iter().sum::<f64>();
    let mut dense = vec![false; layers.len()];
    loop {
        let fixed: f64 = counts
            .iter()
            .zip(&dense)
            .filter(|(_, dense)| **dense)
            .map(|(count, _)| count)
            .sum();
        let free = raw
            .iter()
            .zip(&counts)
            .zip(&dense)
            .filter(|(_, dense)| !**dense);
        let sum: f64 = free.map(|((raw, count), _)| raw * count).sum();
        let factor = if sum > 0.0 {
            (wanted - fixed).max(0.0) / sum
        } else {
            0.0
        };
        let over = (0..raw.len()).find(|&index| !dense[index] && raw[index] * factor > 1.0);
        match over {
            Some(index) => dense[index] = true,
            None => {
                let of = |(raw, dense): (&f64, &bool)| if *dense { 1.0 } else { raw * factor };
                return raw.iter().zip(&dense).map(of).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_take_the_smallest() {
        let data = [0.5, -0.1, 0.3, -0.4];
        assert_eq!(smallest(&data, 0.5), 0.3);
        assert_eq!(smallest(&data, 0.0), -1.0);
    }

    #[test]
    fn channels_of_a_cluster_share_positions() {
        let layer = Layer {
            groups: 2,
            ..Layer::of("a", &[6, 2, 1, 3])
        };
        let data: Vec<f32> = (0..36).map(|i| ((i * 7 % 11) as f32 - 5.0) / 5.0).collect();
        let scores = scores(&layer, &data, 2);
        // A group has three channels: a cluster of two, and one that is alone.
        for (channel, partner) in [(0, 1), (2, 2), (3, 4), (5, 5)] {
            for position in 0..6 {
                let [a, b] = [channel, partner].map(|channel| channel * 6 + position);
                let expected = ((data[a].powi(2) + data[b].powi(2)) / 2.0).sqrt();
                assert!((scores[a] - expected).abs() < 1e-6);
                assert_eq!(scores[a], scores[b]);
            }
        }
        let alone = super::scores(&layer, &data, 1);
        assert!(alone.iter().zip(&data).all(|(score, w)| *score == w.abs()));
    }

    #[test]
    fn erk_keeps_the_mean_and_small_layers() {
        let dims: [&[usize]; 4] = [&[20, 1, 5, 5], &[50, 20, 5, 5], &[500, 800], &[10, 500]];
        let densities = erk(&dims, 0.1);
        let count = |dims: &&[usize]| dims.iter().product::<usize>() as f64;
        let total: f64 = dims.iter().map(count).sum();
        let kept = dims.iter().zip(&densities).map(|(dims, d)| d * count(dims));
        let kept: f64 = kept.sum();
        assert!((kept / total - 0.1).abs() < 1e-9);
        assert!(densities.iter().all(|d| (0.0..=1.0).contains(d)));
        assert_eq!(densities[0], 1.0, "{densities:?}");
        assert!(densities[2] < densities[3]);
    }

    #[test]
    fn impossible_shares_are_refused() {
        let targets = BTreeMap::from([("a".to_owned(), 1.5)]);
        let none = BTreeMap::new();
        let wanted = |sparsity, cluster, targets| Wanted {
            sparsity,
            scope: &Scope::Global,
            layers: &[],
            targets,
            cluster,
        };
        assert!(wanted(0.5, 8, &none).check().is_ok());
        for wrong in [
            wanted(1.0, 1, &none),
            wanted(-0.1, 1, &none),
            wanted(0.5, 0, &none),
            wanted(0.5, 65, &none),
            wanted(0.5, 1, &targets),
        ] {
            assert!(wrong.check().is_err());
        }
    }
}
