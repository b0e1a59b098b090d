//! What numbers are made of.

use serde::{Deserialize, Serialize};

/// The type of the elements of a value or a weight. All are held as `f32`; of a narrower type, every element is one
/// that the type has, so that it may be stored as that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ElementType {
    /// IEEE binary32.
    #[default]
    F32,
    /// bfloat16: the upper half of an `f32`.
    Bf16,
}

impl ElementType {
    /// The narrowest type that has all of the numbers.
    pub fn narrowest(elements: &[f32]) -> Self {
        match elements.iter().all(|&element| Self::Bf16.has(element)) {
            true => Self::Bf16,
            false => Self::F32,
        }
    }
    /// Bytes that an element takes where it is stored as its type.
    pub fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
    /// Whether the type has this number.
    pub fn has(self, element: f32) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 => element.to_bits() & 0xFFFF == 0,
        }
    }
}
