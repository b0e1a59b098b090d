//! What a layer on the device is.

use crate::cuda::device::{Device, Operand};
use skimjit_models::Result;

/// Addresses of a forward run.
pub struct Forward<'a> {
    /// Operands.
    pub inputs: &'a [u64],
    /// Result; in place, it is the operand.
    pub output: u64,
    /// Weights.
    pub weights: &'a [u64],
    /// Memory for the time of the run, as much as [`Native::scratch`] asks for.
    pub scratch: u64,
    /// Chooses random numbers.
    pub turn: u64,
}

/// Addresses of a backward run.
pub struct Backward<'a> {
    /// Operands.
    pub inputs: &'a [u64],
    /// Result.
    pub output: u64,
    /// Gradient of the result.
    pub output_gradient: u64,
    /// Gradients of the operands, to be overwritten; 0 where nobody wants them.
    pub input_gradients: &'a [u64],
    /// Weights.
    pub weights: &'a [u64],
    /// Gradients of the weights, to be added to; 0 where nobody wants them.
    pub weight_gradients: &'a [u64],
    /// Memory for the time of the run.
    pub scratch: u64,
}

/// A layer with its memory on the device.
pub trait Native: Send {
    /// Elements of memory that a run needs besides.
    fn scratch(&self) -> usize {
        0
    }
    /// Computes the result.
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()>;
    /// Computes the gradients.
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()>;
}

/// A matrix as it lies.
pub fn plain(address: u64) -> Operand {
    Operand {
        address,
        transposed: false,
    }
}

/// The transpose of a matrix.
pub fn transposed(address: u64) -> Operand {
    Operand {
        address,
        transposed: true,
    }
}
