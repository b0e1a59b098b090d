//! Tensors whose elements are known when a network is imported.

use crate::element::Kind;
use skimjit_models::{Result, Shape, Weight};
use std::sync::Arc;

/// A tensor that is known.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    /// Dims; other than those of values, one may be 0.
    pub dims: Vec<usize>,
    pub elements: Elements,
    /// What floats were computed from; integers say it themselves.
    pub from: Source,
}

/// The elements of a [`Constant`], row-major.
#[derive(Clone)]
pub(crate) enum Elements {
    /// Floats; `None` when there are no elements.
    Floats(Option<Arc<Weight>>),
    /// Integers or conditions.
    Ints(Kind, Vec<Int>),
}

/// An integer, which may depend on the batch: `images·batch + rest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Int {
    pub images: i64,
    pub rest: i64,
    /// What it was computed from.
    pub from: Source,
}

/// What of the operands' shapes a number was computed from, and may not change therefore.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Source {
    /// Nothing: the file says it.
    #[default]
    File,
    /// The sizes of images.
    Sizes,
    /// The sizes, and the batch in a way that cannot be followed.
    Batch,
}

impl Int {
    pub fn known(value: i64) -> Self {
        Self {
            images: 0,
            rest: value,
            from: Source::File,
        }
    }
    /// What the value for one batch is computed from.
    pub fn source(&self) -> Source {
        match self.images {
            0 => self.from,
            _ => Source::Batch,
        }
    }
    /// The value for a batch.
    pub fn at(self, batch: u32) -> i64 {
        let images = self.images.saturating_mul(i64::from(batch));
        images.saturating_add(self.rest)
    }
}

/// A function of the values for one batch.
pub(crate) fn at<const N: usize>(ints: &[Int; N], batch: u32, of: impl Fn([i64; N]) -> i64) -> Int {
    let from = ints.iter().map(Int::source).max().unwrap_or_default();
    Int {
        from,
        ..Int::known(of(ints.map(|int| int.at(batch))))
    }
}

/// The product, for a batch where it depends on that in another way.
pub(crate) fn times(a: Int, b: Int, batch: u32) -> Int {
    let (factor, of) = match (a.images, b.images) {
        (0, _) => (a, b),
        (_, 0) => (b, a),
        _ => return at(&[a, b], batch, |[a, b]| a.saturating_mul(b)),
    };
    Int {
        images: of.images.saturating_mul(factor.rest),
        rest: of.rest.saturating_mul(factor.rest),
        from: a.from.max(b.from),
    }
}

impl Constant {
    pub fn ints(kind: Kind, dims: Vec<usize>, ints: Vec<Int>) -> Self {
        Self {
            dims,
            elements: Elements::Ints(kind, ints),
            from: Source::File,
        }
    }
    /// Floats with as many elements as the dims say.
    pub fn floats(dims: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        let elements = match data.is_empty() {
            true => None,
            false => Some(Arc::new(Weight::dense(shape(&dims)?, data))),
        };
        Ok(Self {
            dims,
            elements: Elements::Floats(elements),
            from: Source::File,
        })
    }
    pub fn weight(weight: Weight) -> Self {
        let dims = weight.shape().dims().iter();
        Self {
            dims: dims.map(|&dim| dim as usize).collect(),
            elements: Elements::Floats(Some(Arc::new(weight))),
            from: Source::File,
        }
    }
    pub fn kind(&self) -> Kind {
        match &self.elements {
            Elements::Floats(_) => Kind::Float,
            Elements::Ints(kind, _) => *kind,
        }
    }
    /// Elements in all.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }
    /// The floats, of a tensor of floats that has any.
    pub fn as_weight(&self) -> Option<&Arc<Weight>> {
        match &self.elements {
            Elements::Floats(weight) => weight.as_ref(),
            Elements::Ints(..) => None,
        }
    }
    pub fn as_ints(&self) -> Option<&[Int]> {
        match &self.elements {
            Elements::Floats(_) => None,
            Elements::Ints(_, ints) => Some(ints),
        }
    }
    /// All elements as floats, for a batch.
    pub fn to_floats(&self, batch: u32) -> Vec<f32> {
        match &self.elements {
            Elements::Floats(weight) => weight
                .as_ref()
                .map_or_else(Vec::new, |weight| weight.data().to_vec()),
            Elements::Ints(_, ints) => ints.iter().map(|int| int.at(batch) as f32).collect(),
        }
    }
    /// What the elements were computed from.
    pub fn source(&self) -> Source {
        match &self.elements {
            Elements::Floats(_) => self.from,
            Elements::Ints(_, ints) => ints.iter().map(Int::source).max().unwrap_or_default(),
        }
    }
}

/// Dims as a shape of the graph.
pub(crate) fn shape(dims: &[usize]) -> Result<Shape> {
    let dim = |&dim: &usize| u32::try_from(dim).unwrap_or(u32::MAX);
    Shape::new(dims.iter().map(dim).collect::<Vec<_>>())
}

impl std::fmt::Debug for Elements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Floats(weight) => write!(f, "{:?}", weight.as_ref().map(|one| one.data())),
            Self::Ints(kind, ints) => write!(f, "{kind:?} {ints:?}"),
        }
    }
}
