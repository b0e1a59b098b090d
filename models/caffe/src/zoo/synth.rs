//! Weights made up for a zoo network: right shapes, right sparsity, activations of sane size.
//!
//! Speed does not depend on what weights are worth, so a network without published weights is
//! benched with these. The same network, sparsity and seed give the same bits on any computer: only
//! integer arithmetic, `sqrt` and single multiplications are used.

use super::layers::{LayerShape, layer_shapes};
use super::{Net, topology};
use crate::proto::{BlobProto, BlobShape, LayerParameter, NetParameter};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use skimjit_models::{Error, Result};
use std::collections::HashMap;

/// How many weights are zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sparsity {
    /// As in the published pruned model, see [`Net::published`].
    Published,
    /// This percentage in every convolution and inner product but the first convolution.
    Percent(f64),
}

/// Standard deviation of biases and of the means of batch normalisations.
const BIAS_STD: f32 = 0.005;
/// Factor of a branch that is added to an identity shortcut; keeps a sum of many such branches
/// within a small factor of the first.
const RESIDUAL_GAIN: f32 = 0.25;
/// Factor of each of two branches whose sum replaces their common operand.
const PROJECTION_GAIN: f32 = 0.7;

/// Makes a network with its weights, as a caffemodel holds them; it needs no prototxt.
///
/// Weights are normal with variance 2 / (surviving inputs of an output), which keeps the size of
/// activations through ReLU layers whatever the sparsity; the first layer also brings inputs of the
/// usual size ([`Net::input_std`]) to about 1. Exactly round(count·sparsity) weights of a layer are
/// +0, at random positions; no other is zero. Each blob has a random stream of its own, chosen by
/// layer name and blob index.
pub fn synthesize(net: &Net, sparsity: Sparsity, seed: u64) -> Result<NetParameter> {
    let mut topology = topology(net)?;
    let shapes = layer_shapes(&topology)?;
    let fractions = zero_fractions(net, &shapes, sparsity)?;
    let gains = scale_gains(&topology);
    let mut input_gain = Some(1.0 / net.input_std);
    for (layer, shape) in topology.layer.iter_mut().zip(&shapes) {
        let maker = Maker { layer: shape, seed };
        let blobs = match shape.kind.as_str() {
            "Convolution" | "InnerProduct" => {
                let zeros = fractions.get(shape.name.as_str()).copied().unwrap_or(0.0);
                maker.weights_and_bias(zeros, input_gain.take().unwrap_or(1.0))
            }
            "BatchNorm" => maker.statistics(),
            "Scale" => maker.scale(gains.get(&shape.name).copied().unwrap_or(1.0)),
            _ => continue,
        };
        layer.blobs = blobs
            .into_iter()
            .zip(&shape.blobs)
            .map(|(data, dims)| blob(data, dims))
            .collect();
    }
    Ok(topology)
}

fn blob(data: Vec<f32>, dims: &[u32]) -> BlobProto {
    let dim = dims.iter().map(|&dim| i64::from(dim)).collect();
    BlobProto {
        shape: Some(BlobShape {
            dim,
            ..BlobShape::default()
        }),
        data,
        ..BlobProto::default()
    }
}

/// Share of zeros of each layer that has any.
fn zero_fractions<'a>(
    net: &Net,
    shapes: &'a [LayerShape],
    sparsity: Sparsity,
) -> Result<HashMap<&'a str, f64>> {
    let weighted = || shapes.iter().filter(|shape| shape.has_weights());
    match sparsity {
        Sparsity::Published => {
            let published = net.published.ok_or_else(|| {
                Error::new(format!("no published sparsities of {}", net.name))
                    .hint("give one percentage for all layers")
            })?;
            let percent = |name: &str| published.iter().find(|(layer, _)| *layer == name);
            Ok(weighted()
                .filter_map(|shape| Some((shape.name.as_str(), percent(&shape.name)?.1 / 100.0)))
                .collect())
        }
        Sparsity::Percent(percent) if (0.0..=100.0).contains(&percent) => {
            let first = weighted().position(|shape| shape.kind == "Convolution");
            Ok(weighted()
                .enumerate()
                .filter(|&(index, _)| Some(index) != first)
                .map(|(_, shape)| (shape.name.as_str(), percent / 100.0))
                .collect())
        }
        Sparsity::Percent(percent) => {
            Err(Error::new(format!("a sparsity of {percent} %")).expected("0 to 100"))
        }
    }
}

/// Factor of each Scale layer whose result is an operand of an Eltwise layer.
fn scale_gains(topology: &NetParameter) -> HashMap<String, f32> {
    let mut producer: HashMap<&str, &LayerParameter> = HashMap::new();
    let mut gains = HashMap::new();
    for layer in &topology.layer {
        if layer.r#type() == "Eltwise" {
            let operands = layer
                .bottom
                .iter()
                .filter_map(|name| producer.get(name.as_str()));
            let scales: Vec<_> = operands.filter(|layer| layer.r#type() == "Scale").collect();
            let all = scales.len() == layer.bottom.len();
            let gain = if all { PROJECTION_GAIN } else { RESIDUAL_GAIN };
            gains.extend(scales.iter().map(|scale| (scale.name().to_owned(), gain)));
        }
        producer.extend(layer.top.iter().map(|top| (top.as_str(), layer)));
    }
    gains
}

/// Makes the blobs of one layer.
struct Maker<'a> {
    layer: &'a LayerShape,
    seed: u64,
}

impl Maker<'_> {
    fn weights_and_bias(&self, zeros: f64, gain: f32) -> Vec<Vec<f32>> {
        let count = self.layer.blob_count(0);
        let kept = count - (count as f64 * zeros).round() as u64;
        let fan_in = self.layer.blobs[0][1..]
            .iter()
            .map(|&dim| f64::from(dim))
            .product::<f64>();
        let fan_in = fan_in * kept.max(1) as f64 / count as f64;
        let std = (2.0 / fan_in.max(1.0)).sqrt() as f32 * gain;
        let weights = self.stream(0).pruned(count, kept, std);
        std::iter::once(weights).chain(self.small(1)).collect()
    }
    /// Means near 0, variances near 1, scale factor 1.
    fn statistics(&self) -> Vec<Vec<f32>> {
        let count = self.layer.blob_count(1);
        let mut stream = self.stream(1);
        let variances = (0..count).map(|_| 1.0 + 0.2 * stream.uniform()).collect();
        self.small(0)
            .into_iter()
            .chain([variances, vec![1.0]])
            .collect()
    }
    /// Factors within a tenth of `gain`.
    fn scale(&self, gain: f32) -> Vec<Vec<f32>> {
        let mut stream = self.stream(0);
        let count = self.layer.blob_count(0);
        let factors = (0..count)
            .map(|_| gain * (1.0 + 0.2 * stream.uniform()))
            .collect();
        std::iter::once(factors).chain(self.small(1)).collect()
    }
    /// Blob `index`, if the layer has it, of small values around 0.
    fn small(&self, index: usize) -> Option<Vec<f32>> {
        let dims = self.layer.blobs.get(index)?;
        let mut stream = self.stream(index);
        Some((0..dims[0]).map(|_| stream.normal() * BIAS_STD).collect())
    }
    fn stream(&self, blob: usize) -> Stream {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(fnv1a(&format!("{}/{blob}", self.layer.name)));
        Stream(rng)
    }
}

/// FNV-1a: any fixed hash would do, as long as it never changes.
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

struct Stream(ChaCha8Rng);

impl Stream {
    /// `count` values of which `kept`, at random positions, are not 0.
    ///
    /// Each position is kept with the probability that makes all remaining choices equally likely
    /// (Knuth's algorithm S), so that the number comes out exactly.
    fn pruned(&mut self, count: u64, kept: u64, std: f32) -> Vec<f32> {
        if kept == count {
            return (0..count).map(|_| self.normal() * std).collect();
        }
        let mut missing = kept;
        let mut choose = |left: u64| {
            let keep = (u64::from(self.0.next_u32()) * left) >> 32 < missing;
            missing -= u64::from(keep);
            if keep { self.normal() * std } else { 0.0 }
        };
        (0..count).map(|index| choose(count - index)).collect()
    }
    /// Nearly standard normal and never 0: a binomial of 40 coins, blurred by one step.
    fn normal(&mut self) -> f32 {
        const COINS: u32 = 40;
        const BLUR_BITS: u32 = 64 - COINS;
        let bits = self.0.next_u64();
        let heads = (bits >> BLUR_BITS).count_ones() as i64 - i64::from(COINS / 2);
        // Odd, so that the sum cannot be 0, and uniform between −1 and 1 half steps.
        let blur = (bits as i64 & ((1 << BLUR_BITS) - 1)) * 2 + 1 - (1 << BLUR_BITS);
        // Variance: COINS / 4 of the coins and 1/12 of the blur, in steps.
        const STD: f64 = 3.175_426_480_542_942;
        ((heads * (2 << BLUR_BITS) + blur) as f64 / ((2u64 << BLUR_BITS) as f64 * STD)) as f32
    }
    /// Uniform in −½..½.
    fn uniform(&mut self) -> f32 {
        (f64::from(self.0.next_u32()) / f64::from(u32::MAX) - 0.5) as f32
    }
}
