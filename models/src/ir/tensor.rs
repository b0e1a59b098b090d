//! Dense row-major arrays.

use super::Shape;

/// A dense row-major `f32` array that owns its data (weights, reference results).
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

/// A borrowed dense row-major array: what an op's reference reads.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    /// Dims.
    pub shape: &'a Shape,
    /// `shape.count()` elements.
    pub data: &'a [f32],
}

impl Tensor {
    /// # Panics
    /// When `data.len() != shape.count()`; callers check data from outside first.
    pub fn new(shape: Shape, data: Vec<f32>) -> Self {
        assert_eq!(shape.count(), data.len(), "shape {shape}");
        Self { shape, data }
    }
    /// All zero.
    pub fn zeros(shape: Shape) -> Self {
        let data = vec![0.0; shape.count()];
        Self { shape, data }
    }
    /// Dims.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// Elements, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
    /// Elements, row-major.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
    /// Gives the elements away.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
    /// Borrowed view.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef {
            shape: &self.shape,
            data: &self.data,
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({})", self.shape)
    }
}
