//! Fillers of DummyData. The same filler gives the same numbers on any computer.

use crate::caffe::proto::FillerParameter;
use crate::caffe::proto::filler_parameter::VarianceNorm;
use crate::{Error, Result, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Fills a tensor; `stream` tells the tensors of a layer apart.
pub(super) fn fill(filler: &FillerParameter, shape: Shape, stream: u64) -> Result<Tensor> {
    let mut random = Random::new(stream);
    let fan = fan(filler, &shape);
    let count = shape.count();
    let mut draw = |next: &mut dyn FnMut(&mut Random) -> f64| -> Vec<f32> {
        (0..count).map(|_| next(&mut random) as f32).collect()
    };
    let data = match filler.r#type() {
        "constant" => vec![filler.value(); count],
        "uniform" => {
            let (min, max) = (f64::from(filler.min()), f64::from(filler.max()));
            draw(&mut |random| min + (max - min) * random.unit())
        }
        "gaussian" if filler.sparse() < 0 => {
            let (mean, std) = (f64::from(filler.mean()), f64::from(filler.std()));
            draw(&mut |random| mean + std * random.normal())
        }
        "xavier" => {
            let scale = (3.0 / fan).sqrt();
            draw(&mut |random| scale * (2.0 * random.unit() - 1.0))
        }
        "msra" => {
            let std = (2.0 / fan).sqrt();
            draw(&mut |random| std * random.normal())
        }
        "gaussian" => return Err(refused("gaussian with sparse")),
        other => return Err(refused(other)),
    };
    Ok(Tensor::new(shape, data))
}

fn refused(kind: &str) -> Error {
    Error::new(format!("filler {kind:?}")).expected("constant, uniform, gaussian, xavier or msra")
}

/// Number that the spread of xavier and msra depends on.
fn fan(filler: &FillerParameter, shape: &Shape) -> f64 {
    let count = shape.count() as f64;
    let (fan_in, fan_out) = (
        count / f64::from(shape.dim(0)),
        count / f64::from(shape.dim(1)),
    );
    match filler.variance_norm() {
        VarianceNorm::FanIn => fan_in,
        VarianceNorm::FanOut => fan_out,
        VarianceNorm::Average => (fan_in + fan_out) / 2.0,
    }
}

struct Random(ChaCha8Rng);

impl Random {
    fn new(stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(stream);
        Self(rng)
    }

    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        (f64::from(self.0.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0)
    }

    /// Mean 0, deviation 1: twelve uniform numbers, as `ln` and `cos` differ between computers.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}
