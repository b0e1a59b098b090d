//! Inner products with bfloat16 weights.

use crate::{ElementType, Graph, Op};
use std::sync::Arc;

/// What rounding did to a layer.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Rounded {
    /// Layer name.
    pub layer: String,
    /// Largest change of a weight, as a share of its magnitude.
    pub largest_change: f32,
}

/// Rounds the weights of inner products to the nearest bfloat16 number (ties to even), and says that they are of
/// that type. Zeros stay zero; biases are left alone.
pub fn inner_products_to_bf16(graph: &mut Graph) -> Vec<Rounded> {
    let layers: Vec<_> = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::InnerProduct(op) => Some((node.name.clone(), op.weights)),
            _ => None,
        })
        .collect();
    let round = |(layer, id): (String, crate::WeightId)| {
        let weights = &mut graph.weights[id.0 as usize];
        let rounded = weights.map(|_, weight| to_bf16(weight));
        let both = weights.stored().iter().zip(rounded.stored());
        let changed = both.filter(|(weight, rounded)| **weight != 0.0 && rounded.is_finite());
        let change = changed.map(|(weight, rounded)| ((rounded - weight) / weight).abs());
        let largest_change = change.fold(0.0, f32::max);
        *weights = Arc::new(rounded.of_type(ElementType::Bf16));
        Rounded {
            layer,
            largest_change,
        }
    };
    layers.into_iter().map(round).collect()
}

/// Nearest bfloat16, ties to even; infinities and NaN stay what they are.
fn to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    if value.is_nan() {
        // The upper half alone might read as infinite.
        return f32::from_bits(bits & 0xFFFF_0000 | 0x0040_0000);
    }
    let half = 0x7FFF + (bits >> 16 & 1);
    f32::from_bits(bits.wrapping_add(half) & 0xFFFF_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_nearest_number_is_taken(value in any::<f32>()) {
            let rounded = to_bf16(value);
            prop_assert_eq!(rounded.to_bits() & 0xFFFF, 0);
            prop_assert_eq!(rounded.is_nan(), value.is_nan());
            if value.is_finite() && rounded.is_finite() {
                let error = (f64::from(rounded) - f64::from(value)).abs();
                let step = |up: u32| f64::from(f32::from_bits((value.to_bits() & 0xFFFF_0000) + up));
                let width = (step(0x1_0000) - step(0)).abs();
                prop_assert!(!width.is_finite() || error <= width / 2.0, "{} to {}", value, rounded);
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_special_values_stay() {
        assert_eq!(to_bf16(f32::from_bits(0x3F80_8000)).to_bits(), 0x3F80_0000);
        assert_eq!(to_bf16(f32::from_bits(0x3F81_8000)).to_bits(), 0x3F82_0000);
        assert_eq!(to_bf16(0.0).to_bits(), 0);
        assert_eq!(to_bf16(f32::INFINITY), f32::INFINITY);
        assert!(to_bf16(f32::from_bits(0x7F80_0001)).is_nan());
    }
}
