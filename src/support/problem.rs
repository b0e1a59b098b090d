//! Problems of one layer, written the way oneDNN's benchdnn writes them.

use crate::support::noise::Noise;
use skimjit::{Model, Result};
use skimjit_models::ops::{Convolution, InnerProduct, PostOps, Window};
use skimjit_models::{Error as InputError, Graph, Op, Shape, Tensor};
use std::collections::BTreeMap;

/// A convolution (`g2mb1ic96ih27oc256oh27kh5ph2`) or an inner product (`mb1ic9216oc4096`).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Problem {
    pub batch: u32,
    pub ic: u32,
    pub oc: u32,
    /// `None`: inner product.
    pub convolution: Option<Geometry>,
}

/// What a convolution has beyond channels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Geometry {
    pub input: [u32; 2],
    pub window: Window,
    pub groups: u32,
}

const KEYS: [&str; 17] = [
    "g", "mb", "ic", "ih", "iw", "oc", "oh", "ow", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw",
    "n",
];

impl Problem {
    /// Widths default to heights, strides, images and groups to 1, pads and dilations to 0. The name
    /// behind `n` is ignored.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let fields = fields(text)?;
        let get = |key: &str| fields.get(key).copied();
        let need = |key: &str| get(key).ok_or_else(|| format!("found no \"{key}\", expected one"));
        let pair = |h: &str, w: &str, default: u32| {
            let h = get(h).unwrap_or(default);
            [h, get(w).unwrap_or(h)]
        };
        let (ic, oc) = (need("ic")?, need("oc")?);
        let batch = get("mb").unwrap_or(1);
        if get("kh").is_none() && get("ih").is_none() {
            return Ok(Self {
                batch,
                ic,
                oc,
                convolution: None,
            });
        }
        let (ih, kh) = (need("ih")?, need("kh")?);
        let window = Window {
            kernel: pair("kh", "kw", kh),
            stride: pair("sh", "sw", 1),
            pad_begin: pair("ph", "pw", 0),
            pad_end: pair("ph", "pw", 0),
            dilation: pair("dh", "dw", 0).map(|d| d.saturating_add(1)),
        };
        let input = pair("ih", "iw", ih);
        for (axis, key) in ["oh", "ow"].into_iter().enumerate() {
            let size = window
                .output_size(axis, input[axis])
                .map_err(|error| error.to_string())?;
            if let Some(given) = get(key).filter(|&given| given != size) {
                return Err(format!("{key}: found {given}, expected {size}"));
            }
        }
        let groups = get("g").unwrap_or(1);
        Ok(Self {
            batch,
            ic,
            oc,
            convolution: Some(Geometry {
                input,
                window,
                groups,
            }),
        })
    }

    /// Dims of the weights: `oc × ic/groups × kh × kw`, or `oc × ic`.
    fn weight_dims(&self) -> Vec<u32> {
        match self.convolution {
            None => vec![self.oc, self.ic],
            Some(Geometry { window, groups, .. }) => {
                vec![
                    self.oc,
                    self.ic / groups.max(1),
                    window.kernel[0],
                    window.kernel[1],
                ]
            }
        }
    }

    /// Of the weight matrix.
    pub fn rows_and_columns(&self) -> [u32; 2] {
        let columns = self
            .weight_dims()
            .iter()
            .skip(1)
            .fold(1u32, |product, &dim| product.saturating_mul(dim));
        [self.oc, columns]
    }

    /// Shape of the input for that many images.
    pub fn input_shape(&self, images: u32) -> Result<Shape> {
        Ok(match self.convolution {
            None => Shape::new([images, self.ic])?,
            Some(Geometry { input: [h, w], .. }) => Shape::new([images, self.ic, h, w])?,
        })
    }

    /// The layer with random weights, each kept with probability `density`.
    pub fn model(&self, density: f64, seed: u64) -> Result<Model> {
        let mut noise = Noise::new(seed);
        let shape = Shape::new(self.weight_dims())?;
        let mut keep = Noise::new(seed ^ 0x5eed);
        let mut weights = noise.tensor(shape, 1.0);
        for weight in weights.data_mut() {
            let share = keep.bits() as f64 / u64::MAX as f64;
            if share >= density {
                *weight = 0.0;
            }
        }
        self.model_with(
            weights.into_data(),
            noise.tensor(Shape::new([self.oc])?, 1.0),
        )
    }

    /// The layer with these weights, row-major.
    pub fn model_with(&self, weights: Vec<f32>, bias: Tensor) -> Result<Model> {
        let shape = Shape::new(self.weight_dims())?;
        if weights.len() != shape.count() {
            let error = InputError::new(format!("{} weights", weights.len()));
            return Err(error.expected(format!("{shape}")).into());
        }
        let mut graph = Graph::default();
        let weights = graph.add_weight(Tensor::new(shape, weights));
        let bias = Some(graph.add_weight(bias));
        let post = PostOps::relu(0.0);
        let op = match self.convolution {
            None => {
                let outputs = self.oc;
                Op::InnerProduct(InnerProduct {
                    outputs,
                    axis: 1,
                    transpose: false,
                    weights,
                    bias,
                    post,
                })
            }
            Some(Geometry { window, groups, .. }) => Op::Convolution(Convolution {
                window,
                oc: self.oc,
                groups,
                weights,
                bias,
                post,
            }),
        };
        let input = graph.add_value("data", self.input_shape(self.batch)?);
        graph.inputs.push(input);
        let output = graph.add_node("problem", op, vec![input], "result")?;
        graph.outputs.push(output);
        Model::from_graph(graph)
    }
}

/// Keys and numbers of a problem; separators `_` are skipped.
fn fields(text: &str) -> std::result::Result<BTreeMap<&str, u32>, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let letters = rest
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(rest.len());
        let (key, behind) = rest.split_at(letters);
        if key.starts_with('n') {
            break;
        }
        let digits = behind
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (number, behind) = behind.split_at(digits);
        let number = number
            .parse()
            .map_err(|_| format!("found \"{rest}\", expected a key and a number"))?;
        if !KEYS.contains(&key) || fields.insert(key, number).is_some() {
            return Err(format!(
                "found \"{key}\", expected each of {} at most once",
                KEYS.join(" ")
            ));
        }
        rest = behind.trim_start_matches('_');
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_read() {
        let problem = Problem::parse("g2mb4ic96ih27oc256oh27kh5ph2nconv2").unwrap();
        assert_eq!((problem.batch, problem.ic, problem.oc), (4, 96, 256));
        let geometry = problem.convolution.unwrap();
        assert_eq!(geometry.window, Window::square(5, 1, 2));
        assert_eq!((geometry.groups, geometry.input), (2, [27, 27]));
        let problem = Problem::parse("ic8_ih9iw11_oc4_kh3kw1_sh2sw1_ph1pw0_dh1dw0").unwrap();
        let window = problem.convolution.unwrap().window;
        assert_eq!(window.dilation, [2, 1]);
        assert_eq!(Problem::parse("mb1ic9216oc4096").unwrap().convolution, None);
    }

    #[test]
    fn faulty_problems_are_refused() {
        for bad in [
            "",
            "ic3",
            "ic3oc4kh3",
            "ic3oc4ih5",
            "ic3ih5oc4oh4kh3",
            "ic3ih5oc4ow4kh3",
            "ic3ih2oc4kh3",
            "ic3ih5oc4kh3sh0",
            "xx3",
            "ic3ic3oc4",
            "ic99999999999oc1",
            "ic3oc4ih5kh3dh4294967295",
        ] {
            assert!(Problem::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn models_have_the_density_asked_for() {
        let problem = Problem::parse("mb2ic100oc100").unwrap();
        let model = problem.model(0.25, 3).unwrap();
        let weights = model.graph().weights[0].data();
        let nnz = weights.iter().filter(|&&w| w != 0.0).count();
        assert!((2200..2800).contains(&nnz), "{nnz}");
        assert!(
            Problem::parse("g3ic4ih3oc6kh1")
                .unwrap()
                .model(1.0, 1)
                .is_err()
        );
    }
}
