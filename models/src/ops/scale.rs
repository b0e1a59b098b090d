//! Scale and Bias layers.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape, TensorRef, WeightId};
use serde::{Deserialize, Serialize};

/// y = x·scale + bias, broadcast from `axis` on; the factor is a weight or the second operand.
///
/// Factor and offset each have the operand's dims from `axis` on, as many as they have axes; one
/// without axes is a scalar.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// First axis of the broadcast shape (not negative).
    pub axis: u32,
    /// Factor; `None`: the second operand, or 1 when there is only one operand (Bias layer).
    pub scale: Option<WeightId>,
    /// Offset as weight.
    pub bias: Option<WeightId>,
    /// Bias layer with two operands: the second operand is added instead of multiplied.
    pub add_operand: bool,
}

impl Operation for Scale {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let (&input, second) = match inputs {
            [input] => (input, None),
            [input, second] => (input, Some(*second)),
            _ => return Err(operands::wrong_number(inputs.len(), "1 or 2")),
        };
        if second.is_some() && self.scale.is_some() {
            return Err(operands::wrong_number(2, "1, as the factor is a weight"));
        }
        if second.is_none() && self.add_operand {
            return Err(operands::wrong_number(1, "2, as the second is added"));
        }
        if let Some(second) = second {
            self.check_broadcast(input, second, "input[1]")?;
        }
        for (blob, id) in self.scale.iter().chain(&self.bias).enumerate() {
            let shape = operands::weight(weights, *id, blob)?.shape();
            self.check_broadcast(input, shape, &format!("weights[{blob}].shape"))?;
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let weight = |id: WeightId| weights[id.0 as usize].view();
        let second = inputs.get(1).copied();
        let (factor, addend) = if self.add_operand {
            (None, second)
        } else {
            (second, None)
        };
        let factor = self.broadcast(shape, self.scale.map(weight).or(factor), 1.0);
        let bias = self.broadcast(shape, self.bias.map(weight), 0.0);
        let addend = self.broadcast(shape, addend, 0.0);
        for (index, (value, &x)) in output.iter_mut().zip(inputs[0].data).enumerate() {
            *value = (f64::from(x) * factor.at(index) + bias.at(index) + addend.at(index)) as f32;
        }
    }

    /// From axis 1 on, weights do not know the image; a second operand varies with the image only
    /// when it has the batch axis itself.
    fn per_image(&self, inputs: &[&Shape]) -> bool {
        match inputs {
            [_, _] => self.axis == 0 && self.bias.is_none(),
            _ => self.axis > 0,
        }
    }
}

impl Scale {
    fn check_broadcast(&self, input: &Shape, shape: &Shape, field: &str) -> Result<()> {
        let axis = self.axis as usize;
        let end = axis.checked_add(shape.rank());
        let dims = end.and_then(|end| input.dims().get(axis..end));
        if shape.rank() == 0 || dims == Some(shape.dims()) {
            return Ok(());
        }
        Err(Error::new(format!("shape {shape}"))
            .field(field)
            .expected(format!("the dims of {input} from axis {axis} on")))
    }

    fn broadcast<'a>(
        &self,
        shape: &Shape,
        tensor: Option<TensorRef<'a>>,
        default: f64,
    ) -> Broadcast<'a> {
        let Some(tensor) = tensor else {
            return Broadcast {
                data: &[],
                inner: 1,
                default,
            };
        };
        let inner = match tensor.shape.rank() {
            0 => 1,
            rank => shape.count_of(self.axis as usize + rank, shape.rank()),
        };
        Broadcast {
            data: tensor.data,
            inner,
            default,
        }
    }
}

/// A tensor repeated over the elements of a larger one.
struct Broadcast<'a> {
    data: &'a [f32],
    /// Elements of the larger tensor per element of `data`.
    inner: usize,
    default: f64,
}

impl Broadcast<'_> {
    fn at(&self, index: usize) -> f64 {
        match self.data.len() {
            0 => self.default,
            count => self.data[index / self.inner % count].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn broadcasts_from_the_axis() {
        let shape = Shape::new([1, 2, 3]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 2., 3., 4., 5., 6.],
        };
        let two = Shape::new([2]).unwrap();
        let weights = [
            Tensor::new(two.clone(), vec![10.0, 100.0]).into(),
            Tensor::new(Shape::new([]).unwrap(), vec![0.5]).into(),
        ];
        let (scale, bias) = (Some(WeightId(0)), Some(WeightId(1)));
        let op = Scale {
            axis: 1,
            scale,
            bias,
            add_operand: false,
        };
        assert_eq!(op.infer_shape(&[&shape], &weights), Ok(shape.clone()));
        let mut dst = [0.0; 6];
        op.evaluate(&[src], &weights, &shape, &mut dst);
        assert_eq!(dst, [10.5, 20.5, 30.5, 400.5, 500.5, 600.5]);

        let add = Scale {
            axis: 1,
            scale: None,
            bias: None,
            add_operand: true,
        };
        let second = TensorRef {
            shape: &two,
            data: &[10.0, 20.0],
        };
        add.evaluate(&[src, second], &weights, &shape, &mut dst);
        assert_eq!(dst, [11.0, 12.0, 13.0, 24.0, 25.0, 26.0]);
        assert!(add.infer_shape(&[&shape], &weights).is_err());
        assert!(
            Scale { axis: 2, ..add }
                .infer_shape(&[&shape, &two], &weights)
                .is_err()
        );
        assert!(op.infer_shape(&[&shape, &two], &weights).is_err());
    }
}
