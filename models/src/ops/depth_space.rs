//! Channels as places of a plane, and the other way round.

use super::axes::{self, Strides};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// What the channels that become a place are, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DepthOrder {
    /// Row of the block, column of the block, channel: ONNX's DCR.
    Dcr,
    /// Channel, row of the block, column of the block: ONNX's CRD, PyTorch's pixel shuffle.
    Crd,
}

/// Groups of `block`² channels become blocks of `block` × `block` pixels.
pub(super) struct DepthToSpace {
    pub block: u32,
    pub order: DepthOrder,
}

/// Blocks of `block` × `block` pixels become groups of channels: row and column of the block, then the
/// operand's channel.
pub(super) struct SpaceToDepth {
    pub block: u32,
}

/// `block`, if `dim` is a multiple of its square.
fn divides(dim: u32, by: Option<u32>, what: &str, block: u32) -> Result<u32> {
    match by {
        Some(by) if by > 0 && dim.is_multiple_of(by) => Ok(dim / by),
        _ => Err(Error::new(block.to_string())
            .field("block")
            .expected(format!("a divisor of the {what}, {dim}"))),
    }
}

/// Strides as an array for [`axes::gather`].
fn padded(strides: [usize; 6]) -> Strides {
    let mut all = [0; Shape::MAX_RANK];
    all[..6].copy_from_slice(&strides);
    all
}

impl Operation for DepthToSpace {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, c, h, w] = operands::image(input, 0)?;
        let block = self.block;
        let places = block.checked_mul(block);
        let c = divides(c, places, "channels by its square", block)?;
        // The square of a block divides a dim, and so it and products with dims are small.
        let [h, w] = [h, w].map(|dim| dim.saturating_mul(block));
        Shape::new([n, c, h, w])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [_, in_c, h, w] = [0, 1, 2, 3].map(|axis| inputs[0].shape.dim(axis) as usize);
        let (block, c, plane) = (self.block as usize, shape.dim(1) as usize, h * w);
        let [channel, row, column] = match self.order {
            DepthOrder::Dcr => [plane, block * c * plane, c * plane],
            DepthOrder::Crd => [block * block * plane, block * plane, plane],
        };
        let strides = padded([in_c * plane, channel, w, row, 1, column]);
        let dims = [
            shape.dim(0),
            shape.dim(1),
            h as u32,
            self.block,
            w as u32,
            self.block,
        ];
        axes::gather(inputs[0].data, 0, &strides, &dims, output);
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

impl Operation for SpaceToDepth {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, c, h, w] = operands::image(input, 0)?;
        let block = self.block;
        let h = divides(h, Some(block), "height", block)?;
        let w = divides(w, Some(block), "width", block)?;
        Shape::new([n, c.saturating_mul(block).saturating_mul(block), h, w])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [_, c, h, w] = [0, 1, 2, 3].map(|axis| inputs[0].shape.dim(axis) as usize);
        let block = self.block as usize;
        let strides = padded([c * h * w, w, 1, h * w, block * w, block]);
        let dims = [
            shape.dim(0),
            self.block,
            self.block,
            c as u32,
            shape.dim(2),
            shape.dim(3),
        ];
        axes::gather(inputs[0].data, 0, &strides, &dims, output);
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    fn run(op: &dyn Operation, dims: [u32; 4], data: &[f32]) -> (Shape, Vec<f32>) {
        let shape = Shape::new(dims).unwrap();
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        op.evaluate(
            &[TensorRef {
                shape: &shape,
                data,
            }],
            &[],
            &result,
            &mut output,
        );
        (result, output)
    }

    /// The examples of ONNX's documentation of DepthToSpace, with the plane's height cut to 1.
    #[test]
    fn both_orders() {
        let data: Vec<f32> = (0..24).map(|x| x as f32).collect();
        let to_space = |order| {
            let op = DepthToSpace { block: 2, order };
            run(&op, [1, 8, 1, 3], &data)
        };
        let (shape, dcr) = to_space(DepthOrder::Dcr);
        assert_eq!(shape.dims(), [1, 2, 2, 6]);
        assert_eq!(dcr[..6], [0., 6., 1., 7., 2., 8.]);
        assert_eq!(dcr[6..12], [12., 18., 13., 19., 14., 20.]);
        let (_, crd) = to_space(DepthOrder::Crd);
        assert_eq!(crd[..6], [0., 3., 1., 4., 2., 5.]);
        assert_eq!(crd[12..18], [12., 15., 13., 16., 14., 17.]);
        let (shape, back) = run(&SpaceToDepth { block: 2 }, [1, 2, 2, 6], &dcr);
        assert_eq!((shape.dims(), back), (&[1, 8, 1, 3][..], data));
    }

    #[test]
    fn blocks_that_do_not_divide_are_refused() {
        let shape = Shape::new([1, 8, 4, 6]).unwrap();
        for block in [0, 3, 1 << 16, u32::MAX] {
            let order = DepthOrder::Dcr;
            let deep = DepthToSpace { block, order }.infer_shape(&[&shape], &[]);
            let wide = SpaceToDepth { block }.infer_shape(&[&shape], &[]);
            assert!(deep.is_err() && wide.is_err(), "{block}");
        }
    }
}
