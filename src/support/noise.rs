//! Random inputs.

use skimjit::{Model, Result};
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId};

/// Seed where none is asked for.
const USUAL_SEED: u64 = 1;

/// SplitMix64: the same numbers for the same seed on any computer.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// Uniform in −1..1, never 0.
    pub fn uniform(&mut self) -> f32 {
        let odd = (self.bits() >> 40) as i32 | 1;
        (odd - (1 << 23)) as f32 / (1 << 23) as f32
    }
    /// Whole numbers from 0 to `count` − 1.
    fn indices(&mut self, shape: Shape, count: u32) -> Tensor {
        let data = (0..shape.count())
            .map(|_| (self.bits() % u64::from(count.max(1))) as f32)
            .collect();
        Tensor::new(shape, data)
    }
    pub fn tensor(&mut self, shape: Shape, amplitude: f32) -> Tensor {
        let data = (0..shape.count())
            .map(|_| self.uniform() * amplitude)
            .collect();
        Tensor::new(shape, data)
    }
}

/// `images` random images for every input of the network; whole numbers where layers read indices.
pub fn inputs(model: &Model, images: u32, seed: u64) -> Result<Vec<Tensor>> {
    let mut noise = Noise::new(seed);
    let graph = model.graph();
    let amplitude = amplitude(graph);
    let first = graph.inputs.first().map_or(1, |&id| graph.shape(id).dim(0));
    let tensors = graph.inputs.iter().map(|&id| {
        let shape = graph.shape(id);
        // Of other inputs there is one for the batch.
        let shape = match shape.dim(0) == first {
            true => Shape::new(shape.with_batch(images).dims())?,
            false => shape.clone(),
        };
        Ok(match indices(graph, id) {
            Some(count) => noise.indices(shape, count),
            None => noise.tensor(shape, amplitude),
        })
    });
    tensors.collect()
}

/// How many values an input may have that a layer reads as indices or marks.
fn indices(graph: &Graph, input: ValueId) -> Option<u32> {
    graph.nodes.iter().find_map(|node| {
        let operand = node.inputs.iter().position(|&id| id == input)?;
        match (&node.op, operand) {
            (Op::Embed(op), 0) => Some(graph.weight(op.weights).shape().dim(0)),
            (Op::BatchReindex, 1) => Some(graph.shape(node.inputs[0]).dim(0)),
            (Op::Recurrent(_) | Op::Filter, 1) | (Op::LstmUnit(_), 2) => Some(2),
            _ => None,
        }
    })
}

/// What a network is checked with: one random image, or a batch where images are combined.
pub fn usual_inputs(model: &Model, batch: Option<u32>) -> Result<Vec<Tensor>> {
    let images = if model.combines_images() {
        batch.unwrap_or_else(|| model.batch())
    } else {
        1
    };
    inputs(model, images, USUAL_SEED)
}

/// Size of inputs for which the first layer's results are about 1: networks are trained on pixels of
/// 0 to 255 or of 0 to 1, and inputs of the wrong size drive every later layer into saturation.
fn amplitude(graph: &Graph) -> f32 {
    let first = graph.nodes.iter().find_map(|node| match &node.op {
        Op::Convolution(op) => Some((op.weights, op.oc)),
        Op::InnerProduct(op) => Some((op.weights, op.outputs)),
        _ => None,
    });
    let Some((weights, rows)) = first else {
        return 1.0;
    };
    let squares = graph
        .weight(weights)
        .data()
        .iter()
        .map(|&w| f64::from(w) * f64::from(w));
    let row_norm = (squares.sum::<f64>() / f64::from(rows.max(1))).sqrt();
    // Of uniform numbers, the standard deviation is 1/√3.
    ((3f64.sqrt() / row_norm.max(1e-6)) as f32).clamp(0.25, 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_and_never_zero() {
        let mut noise = Noise::new(7);
        let values: Vec<f32> = (0..1000).map(|_| noise.uniform()).collect();
        assert!(values.iter().all(|&x| x != 0.0 && (-1.0..1.0).contains(&x)));
        let mean = values.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.06, "{mean}");
        assert_eq!(Noise::new(7).bits(), Noise::new(7).bits());
    }
}
