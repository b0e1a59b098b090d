//! Fillers: of DummyData, and of weights that no file has. The same layer gives the same numbers on any
//! computer.

use crate::proto::FillerParameter;
use crate::proto::filler_parameter::VarianceNorm;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use skimjit_host::memory;
use skimjit_models::{Error, Result, Shape, Tensor};

/// A number that tells the tensors of a network apart (FNV-1a of layer and index).
pub(super) fn stream(layer: &str, index: usize) -> u64 {
    let bytes = layer.bytes().chain((index as u64).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// True when the filler draws numbers.
pub(super) fn is_random(filler: &FillerParameter) -> bool {
    !["constant", "bilinear"].contains(&filler.r#type())
}

/// True when the filler makes nothing but zeros.
pub(super) fn is_zero(filler: &FillerParameter) -> bool {
    filler.r#type() == "constant" && filler.value() == 0.0
}

/// Fills a tensor; `stream` chooses the random numbers.
pub(super) fn fill(filler: &FillerParameter, shape: Shape, stream: u64) -> Result<Tensor> {
    let mut random = Random::new(stream);
    let fan = fan(filler, &shape);
    let count = shape.count();
    memory::check(size_of::<f32>() as u64 * count as u64)?;
    let mut draw = |next: &mut dyn FnMut(&mut Random) -> f64| -> Vec<f32> {
        (0..count).map(|_| next(&mut random) as f32).collect()
    };
    let data = match filler.r#type() {
        "constant" => vec![filler.value(); count],
        "uniform" => {
            let (min, max) = (f64::from(filler.min()), f64::from(filler.max()));
            draw(&mut |random| min + (max - min) * random.unit())
        }
        "gaussian" => {
            let (mean, std) = (f64::from(filler.mean()), f64::from(filler.std()));
            let kept = share_kept(filler, &shape)?;
            draw(&mut |random| {
                let value = mean + std * random.normal();
                match kept {
                    Some(share) if random.unit() >= share => 0.0,
                    _ => value,
                }
            })
        }
        "positive_unitball" => unit_sums(draw(&mut Random::unit), &shape),
        "xavier" => {
            let scale = (3.0 / fan).sqrt();
            draw(&mut |random| scale * (2.0 * random.unit() - 1.0))
        }
        "msra" => {
            let std = (2.0 / fan).sqrt();
            draw(&mut |random| std * random.normal())
        }
        "bilinear" => bilinear(&shape)?,
        other => return Err(refused(other)),
    };
    Ok(Tensor::new(shape, data))
}

fn refused(kind: &str) -> Error {
    Error::new(format!("filler {kind:?}"))
        .expected("constant, uniform, gaussian, positive_unitball, xavier, msra or bilinear")
}

/// `sparse`: the share of a Gaussian's elements that are kept, so that each output has about that many.
fn share_kept(filler: &FillerParameter, shape: &Shape) -> Result<Option<f64>> {
    match filler.sparse() {
        -1 => Ok(None),
        sparse if sparse >= 0 => Ok(Some(f64::from(sparse) / f64::from(shape.dim(0)))),
        sparse => Err(Error::new(format!("sparse {sparse}")).expected("-1 (dense), 0 or more")),
    }
}

/// Divides each row (axis 0) by its sum.
fn unit_sums(mut data: Vec<f32>, shape: &Shape) -> Vec<f32> {
    for row in data.chunks_exact_mut(shape.count() / shape.dim(0) as usize) {
        let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / sum) as f32);
    }
    data
}

/// Bilinear upsampling by a deconvolution.
fn bilinear(shape: &Shape) -> Result<Vec<f32>> {
    let &[_, _, kh, kw] = shape.dims() else {
        return Err(Error::new(format!("filler \"bilinear\" of shape {shape}"))
            .expected("4 axes, as kernels have"));
    };
    if kh != kw {
        return Err(
            Error::new(format!("filler \"bilinear\" of {kh}x{kw} kernels"))
                .expected("square kernels"),
        );
    }
    let factor = f64::from(kw.div_ceil(2));
    let center = (2.0 * factor - 1.0 - factor % 2.0) / (2.0 * factor);
    let weight = |index: u32| 1.0 - (f64::from(index) / factor - center).abs();
    let plane: Vec<f32> = (0..kh)
        .flat_map(|y| (0..kw).map(move |x| (weight(y) * weight(x)) as f32))
        .collect();
    Ok(plane.repeat(shape.count_of(0, 2)))
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

    /// Mean 0, deviation 1: twelve uniform numbers of 16 bits, as `ln` and `cos` differ between
    /// computers.
    fn normal(&mut self) -> f64 {
        let mut sum = 0;
        for _ in 0..3 {
            let bits = self.0.next_u64();
            sum += [0, 16, 32, 48]
                .map(|at| bits >> at & 0xffff)
                .iter()
                .sum::<u64>();
        }
        // Each of the twelve stands for the middle of its interval of 2⁻¹⁶.
        (sum as f64 + 6.0) / 65_536.0 - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(kind: &str) -> FillerParameter {
        FillerParameter {
            r#type: Some(kind.to_owned()),
            ..FillerParameter::default()
        }
    }

    fn filled(filler: &FillerParameter, dims: &[u32]) -> Vec<f32> {
        let shape = Shape::new(dims).unwrap();
        fill(filler, shape, stream("conv1", 0)).unwrap().into_data()
    }

    /// Mean and deviation.
    fn moments(data: &[f32]) -> [f64; 2] {
        let mean_of = |of: &dyn Fn(f64) -> f64| {
            data.iter().map(|&x| of(f64::from(x))).sum::<f64>() / data.len() as f64
        };
        let mean = mean_of(&|x| x);
        [mean, mean_of(&|x| (x - mean).powi(2)).sqrt()]
    }

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} {expected}");
    }

    #[test]
    fn moments_are_those_asked_for() {
        let dims = [50, 20, 5, 5];
        let gaussian = FillerParameter {
            mean: Some(2.0),
            std: Some(0.5),
            ..filler("gaussian")
        };
        let [mean, deviation] = moments(&filled(&gaussian, &dims));
        close(mean, 2.0, 0.02);
        close(deviation, 0.5, 0.01);
        let uniform = FillerParameter {
            min: Some(-3.0),
            ..filler("uniform")
        };
        let [mean, deviation] = moments(&filled(&uniform, &dims));
        close(mean, -1.0, 0.05);
        close(deviation, 4.0 / 12f64.sqrt(), 0.02);
        // Fans: 20·25 in, 50·25 out. A uniform number within ±a has deviation a/√3.
        for (norm, fan) in [
            (VarianceNorm::FanIn, 500.0),
            (VarianceNorm::FanOut, 1250.0),
            (VarianceNorm::Average, 875.0),
        ] {
            let of = |kind| FillerParameter {
                variance_norm: Some(norm as i32),
                ..filler(kind)
            };
            let [_, xavier] = moments(&filled(&of("xavier"), &dims));
            close(xavier * f64::sqrt(fan), 1.0, 0.02);
            let [_, msra] = moments(&filled(&of("msra"), &dims));
            close(msra * f64::sqrt(fan / 2.0), 1.0, 0.02);
        }
    }

    #[test]
    fn sparse_gaussian_keeps_so_many_per_output() {
        let sparse = FillerParameter {
            sparse: Some(15),
            ..filler("gaussian")
        };
        let data = filled(&sparse, &[100, 400]);
        let kept = data.iter().filter(|x| **x != 0.0).count();
        close(kept as f64 / data.len() as f64, 0.15, 0.01);
        let wrong = FillerParameter {
            sparse: Some(-2),
            ..sparse
        };
        assert!(fill(&wrong, Shape::new([2]).unwrap(), 0).is_err());
    }

    #[test]
    fn rows_of_the_unit_ball_sum_to_one() {
        for row in filled(&filler("positive_unitball"), &[4, 3, 2]).chunks_exact(6) {
            assert!(row.iter().all(|x| *x > 0.0));
            close(row.iter().map(|&x| f64::from(x)).sum(), 1.0, 1e-6);
        }
    }

    #[test]
    fn bilinear_kernels() {
        // Factor 2 upsamples with a kernel of 4: 1/4, 3/4, 3/4, 1/4 along each axis.
        let found = filled(&filler("bilinear"), &[2, 1, 4, 4]);
        let line = [0.25f32, 0.75, 0.75, 0.25];
        let plane: Vec<f32> = line
            .iter()
            .flat_map(|y| line.iter().map(move |x| x * y))
            .collect();
        assert_eq!(found, plane.repeat(2));
        // Factor 3, kernel 5: 1/3, 2/3, 1, 2/3, 1/3.
        let found = filled(&filler("bilinear"), &[1, 1, 5, 5]);
        for (x, expected) in [1.0, 2.0, 3.0, 2.0, 1.0].into_iter().enumerate() {
            close(found[10 + x].into(), expected / 3.0, 1e-6);
        }
        for dims in [&[1, 1, 4, 3][..], &[4, 4]] {
            assert!(fill(&filler("bilinear"), Shape::new(dims).unwrap(), 0).is_err());
        }
    }

    #[test]
    fn layers_get_numbers_of_their_own() {
        let shape = || Shape::new([8]).unwrap();
        let of = |layer, index| fill(&filler("xavier"), shape(), stream(layer, index)).unwrap();
        assert_eq!(of("a", 0), of("a", 0));
        assert_ne!(of("a", 0), of("a", 1));
        assert_ne!(of("a", 0), of("b", 0));
        assert!(fill(&filler("cubic"), shape(), 0).is_err());
        assert!(is_random(&filler("msra")) && !is_random(&filler("bilinear")));
    }
}
