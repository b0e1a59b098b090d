//! Weights of a graph: every element, or only those that are not zero.

use super::{ElementType, Places, PlacesWriter, Shape, Tensor, TensorRef};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A weight array, dense or sparse. Row-major; the rows of a sparse one are its first axis.
///
/// Whoever asks for all elements of a sparse one gets them, and they stay from then on: kernels that are
/// made for a pattern don't ask.
#[derive(Clone)]
pub struct Weight {
    shape: Shape,
    element: ElementType,
    form: Form,
}

#[derive(Clone)]
enum Form {
    Dense(Vec<f32>),
    Sparse {
        elements: Elements,
        dense: OnceLock<Vec<f32>>,
    },
    /// Only the shape is known.
    LetGo,
}

/// The elements of a sparse array that are stored; all others are +0.
#[derive(Clone, PartialEq, Debug)]
pub struct Elements {
    /// Where they are: rows are the first axis, columns all others.
    pub places: Places,
    /// One for each place. A zero is stored where its sign matters.
    pub values: Vec<f32>,
}

impl Weight {
    /// Of all elements.
    ///
    /// # Panics
    /// When `data.len() != shape.count()`; callers check data from outside first.
    pub fn dense(shape: Shape, data: Vec<f32>) -> Self {
        assert_eq!(shape.count(), data.len(), "shape {shape}");
        Self {
            shape,
            element: ElementType::F32,
            form: Form::Dense(data),
        }
    }
    /// Of some elements.
    ///
    /// # Panics
    /// When the places are not those of that shape, or there is not one value for each.
    pub fn sparse(shape: Shape, elements: Elements) -> Self {
        let Elements { places, values } = &elements;
        assert_eq!((places.rows(), places.cols()), shape.matrix(), "{shape}");
        assert_eq!(places.count(), values.len(), "values of {shape}");
        let dense = OnceLock::new();
        Self {
            shape,
            element: ElementType::F32,
            form: Form::Sparse { elements, dense },
        }
    }
    /// The same elements as those of a type.
    ///
    /// # Panics
    /// When the type does not have one of them; callers check data from outside with
    /// [`Weight::fits`] first.
    #[must_use]
    pub fn of_type(self, element: ElementType) -> Self {
        assert!(self.fits(element), "{element:?} elements of {}", self.shape);
        Self { element, ..self }
    }
    /// Whether a type has all elements.
    pub fn fits(&self, element: ElementType) -> bool {
        self.stored().iter().all(|&value| element.has(value))
    }
    /// What is left for who needs only shape and type: whoever asks for elements of it panics.
    #[must_use]
    pub fn let_go(&self) -> Self {
        Self {
            shape: self.shape.clone(),
            element: self.element,
            form: Form::LetGo,
        }
    }
    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }
    /// Dims.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// All elements, row-major.
    pub fn data(&self) -> &[f32] {
        match &self.form {
            Form::Dense(data) => data,
            Form::Sparse { elements, dense } => dense.get_or_init(|| elements.dense()),
            Form::LetGo => self.missing(),
        }
    }
    /// Zeros instead would be numbers that nobody notices.
    fn missing(&self) -> ! {
        panic!("elements of a weight {} that was let go", self.shape)
    }
    /// All elements with their shape.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef {
            shape: &self.shape,
            data: self.data(),
        }
    }
    /// The elements to be changed; the array is dense from then on, and they can be any.
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.element = ElementType::F32;
        if let Form::Sparse { elements, dense } = &mut self.form {
            self.form = Form::Dense(dense.take().unwrap_or_else(|| elements.dense()));
        }
        match &mut self.form {
            Form::Dense(data) => data,
            Form::Sparse { .. } | Form::LetGo => panic!("no elements of {}", self.shape),
        }
    }
    /// The stored elements, of a sparse array.
    pub fn elements(&self) -> Option<&Elements> {
        match &self.form {
            Form::Dense(_) | Form::LetGo => None,
            Form::Sparse { elements, .. } => Some(elements),
        }
    }
    /// The elements that are stored: all of a dense array.
    pub fn stored(&self) -> &[f32] {
        match &self.form {
            Form::Dense(data) => data,
            Form::Sparse { elements, .. } => &elements.values,
            Form::LetGo => self.missing(),
        }
    }
    /// True while a sparse array has not been made dense for anybody.
    pub fn stayed_sparse(&self) -> bool {
        matches!(&self.form, Form::Sparse { dense, .. } if dense.get().is_none())
    }
    /// Elements that are not zero.
    pub fn nonzeros(&self) -> usize {
        self.stored().iter().filter(|value| **value != 0.0).count()
    }
    /// With `of(i, element)` for every stored element, i its row-major index; what is not stored stays +0. The
    /// results can be any numbers.
    #[must_use]
    pub fn map(&self, of: impl Fn(usize, f32) -> f32) -> Self {
        let shape = self.shape.clone();
        match &self.form {
            Form::Dense(data) => {
                let data = data.iter().enumerate();
                Self::dense(
                    shape,
                    data.map(|(index, &value)| of(index, value)).collect(),
                )
            }
            Form::Sparse { elements, .. } => {
                // Exactly as many, which an iterator that leaves some out cannot say.
                let mut values = Vec::with_capacity(elements.values.len());
                let stored = elements.places.iter().zip(&elements.values);
                values.extend(stored.map(|(index, &value)| of(index, value)));
                let places = elements.places.clone();
                Self::sparse(shape, Elements { places, values })
            }
            Form::LetGo => self.missing(),
        }
    }
    /// All elements as an array of its own.
    pub fn to_tensor(&self) -> Tensor {
        Tensor::new(self.shape.clone(), self.data().to_vec())
    }
    /// Gives all elements away.
    pub fn into_tensor(self) -> Tensor {
        let data = match self.form {
            Form::LetGo => self.missing(),
            Form::Dense(data) => data,
            Form::Sparse {
                elements,
                mut dense,
            } => dense.take().unwrap_or_else(|| elements.dense()),
        };
        Tensor::new(self.shape, data)
    }
}

impl Elements {
    /// Of a row-major matrix, without the elements that are +0.
    ///
    /// # Panics
    /// When `data.len() != rows·cols`.
    pub fn of(rows: u32, cols: u32, data: &[f32]) -> Self {
        assert_eq!(data.len(), rows as usize * cols as usize, "{rows} × {cols}");
        let stored = data.iter().copied().enumerate();
        Self::collect(rows, cols, stored.filter(|(_, value)| value.to_bits() != 0))
    }
    /// From places, ascending, and values.
    fn collect(rows: u32, cols: u32, elements: impl Iterator<Item = (usize, f32)>) -> Self {
        let mut places = PlacesWriter::default();
        let value = |(place, value)| {
            places.push(place);
            value
        };
        let values = elements.map(value).collect();
        Self {
            places: places.finish(rows, cols),
            values,
        }
    }
    /// Without the zeros that are stored for their sign.
    pub fn nonzero(&self) -> Cow<'_, Self> {
        if !self.values.contains(&0.0) {
            return Cow::Borrowed(self);
        }
        let stored = self.places.iter().zip(self.values.iter().copied());
        let nonzero = stored.filter(|&(_, value)| value != 0.0);
        Cow::Owned(Self::collect(
            self.places.rows(),
            self.places.cols(),
            nonzero,
        ))
    }
    /// With the zeros.
    fn dense(&self) -> Vec<f32> {
        let mut data = vec![0.0; self.places.rows() as usize * self.places.cols() as usize];
        for (place, &value) in self.places.iter().zip(&self.values) {
            data[place] = value;
        }
        data
    }
}

/// Equal arrays, whatever their form and type.
impl PartialEq for Weight {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        let shape = tensor.shape().clone();
        Self::dense(shape, tensor.into_data())
    }
}

impl From<Tensor> for Arc<Weight> {
    fn from(tensor: Tensor) -> Self {
        Self::new(tensor.into())
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight({})", self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_array_is_what_the_dense_one_is() {
        let shape = Shape::new([2, 3]).unwrap();
        let data = [0.0, -0.0, 2.0, 0.0, f32::NAN, 0.0];
        let dense = Weight::dense(shape.clone(), data.to_vec());
        let sparse = Weight::sparse(shape, Elements::of(2, 3, &data));
        assert!(sparse.stayed_sparse());
        assert_eq!((sparse.stored().len(), sparse.nonzeros()), (3, 2));
        assert_eq!(dense.nonzeros(), 2);
        let bits = |weight: &Weight| -> Vec<u32> {
            weight.data().iter().map(|value| value.to_bits()).collect()
        };
        let twice = |index: usize, value: f32| value * (index + 1) as f32;
        let (mut scaled, other) = (sparse.map(twice), dense.map(twice));
        assert!(scaled.stayed_sparse() && sparse.stayed_sparse());
        assert_eq!(bits(&sparse), bits(&dense));
        assert_eq!(bits(&scaled), bits(&other));
        assert!(!sparse.stayed_sparse());
        let nonzero = sparse.elements().unwrap().nonzero();
        assert!(nonzero.places.iter().eq([2, 4]));
        assert!(nonzero.values.len() == 2 && nonzero.values[0] == 2.0);
        let narrow = scaled.clone().of_type(ElementType::Bf16);
        assert_eq!(narrow.element(), ElementType::Bf16);
        assert_eq!(narrow.map(twice).element(), ElementType::F32);
        scaled.data_mut()[0] = 1.0 + f32::EPSILON;
        assert!(!scaled.fits(ElementType::Bf16));
        scaled.data_mut()[0] = 1.0;
        assert!(scaled.elements().is_none());
        assert_eq!(scaled.data()[..3], [1.0, -0.0, 6.0]);
        assert_eq!(sparse.into_tensor().data()[2], 2.0);
    }

    #[test]
    #[should_panic(expected = "elements of a weight 2x3 that was let go")]
    fn what_was_let_go_is_not_zeros() {
        let shape = Shape::new([2, 3]).unwrap();
        let left = Weight::dense(shape.clone(), vec![1.0; 6]).let_go();
        assert_eq!(left.shape(), &shape);
        left.data();
    }
}
