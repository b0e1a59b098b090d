//! The weight codec: bit-exact, compact, and safe against any bytes.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skimjit_models::artifact::weights::{decode, decode_weight, encode, encode_weight};
use skimjit_models::{Pattern, Shape};

fn bits(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|weight| weight.to_bits()).collect()
}

/// Every element is non-zero with probability `density`, and then one of `distinct` values.
fn random(count: usize, density: f64, distinct: u32, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut value = || match rng.random_bool(density) {
        true => f32::from_bits(0x3e00_0000 + rng.random_range(0..distinct)),
        false => 0.0,
    };
    (0..count).map(|_| value()).collect()
}

fn assert_round_trip(weights: &[f32]) -> usize {
    let bytes = encode(weights);
    assert_eq!(bits(&decode(&bytes, weights.len()).unwrap()), bits(weights));
    bytes.len()
}

/// Bits per element of the best code for random positions.
fn entropy(density: f64) -> f64 {
    -density * density.log2() - (1.0 - density) * (1.0 - density).log2()
}

#[test]
fn special_values_keep_their_bits() {
    assert_round_trip(&[]);
    assert_round_trip(&[0.0; 1000]);
    assert_round_trip(&[-0.0; 1000]);
    let odd = [
        0.0,
        -0.0,
        f32::MIN_POSITIVE / 8.0,
        f32::INFINITY,
        -f32::MAX,
        1e-45,
        0.0,
        1.0,
    ];
    assert_round_trip(&odd);
    let mut last = vec![0.0; 100_000];
    last[99_999] = 3.0;
    assert!(assert_round_trip(&last) < 100);
}

#[test]
fn sizes_are_near_the_entropy() {
    let count = 200_000;
    for density in [0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.005] {
        let weights = random(count, density, 1 << 24, 5);
        let nnz = weights.iter().filter(|&&weight| weight != 0.0).count();
        let positions = assert_round_trip(&weights) - 32 - 4 * nnz;
        let ideal = entropy(density) * count as f64 / 8.0;
        assert!(
            positions as f64 <= 1.05 * ideal,
            "{density}: {positions} bytes, entropy {ideal}"
        );
    }
    assert!(assert_round_trip(&random(count, 0.1, 100, 6)) < count / 10 * 17 / 10);
    assert!(assert_round_trip(&random(count, 1.0, 200, 7)) < count + 2000);
    assert!(assert_round_trip(&random(count, 1.0, 3000, 7)) < 2 * count + 20_000);
    assert!(assert_round_trip(&random(count, 0.97, 250, 7)) < count + 2000);
}

#[test]
fn plain_weights_are_aligned_and_raw() {
    let weights = random(70_000, 1.0, 1 << 24, 8);
    let bytes = encode(&weights);
    assert_eq!(bytes.len(), 64 + 4 * weights.len());
    assert_eq!(bytes[64..68], weights[0].to_le_bytes());
}

#[test]
fn what_is_stored_by_gaps_stays_sparse() {
    let cases = [
        (64, 75, 0.1, 1 << 20, true),
        (1, 1, 1.0, 1, false),
        (40, 9, 0.02, 50, true),
        (7, 300, 0.9, 1 << 20, false),
        // A byte for each place: columns as four bytes each would take as much as all elements.
        (1000, 1, 0.1, 9, true),
    ];
    for (rows, cols, density, distinct, is_sparse) in cases {
        let mut weights = random((rows * cols) as usize, density, distinct, 11);
        weights[0] = -0.0;
        let bytes = encode(&weights);
        let weight = decode_weight(&bytes, &Shape::new([rows, cols]).unwrap()).unwrap();
        assert_eq!(weight.stayed_sparse(), is_sparse, "{rows}x{cols}");
        assert_eq!(encode_weight(&weight), bytes);
        let nonzeros = Pattern::from_weights(rows, cols, &weights).nnz();
        assert_eq!(weight.nonzeros(), nonzeros as usize);
        assert_eq!(weight.stayed_sparse(), is_sparse, "nobody asked for all");
        assert_eq!(bits(weight.data()), bits(&weights));
    }
}

#[test]
fn wrong_counts_and_truncations_are_refused() {
    for (count, density, distinct) in [(500, 0.2, 9), (90_000, 0.9, 1 << 24), (300, 1.0, 400)] {
        let bytes = encode(&random(count, density, distinct, 1));
        assert!(decode(&bytes, count - 1).is_err());
        assert!(decode(&bytes, count + 1).is_err());
        assert!(decode(&bytes, usize::MAX).is_err());
        let other = Shape::new([2, count as u32]).unwrap();
        assert!(decode_weight(&bytes, &other).is_err());
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 2000) {
            assert!(decode(&bytes[..length], count).is_err(), "{length} bytes");
        }
        assert!(decode(&[&bytes[..], &[0]].concat(), count).is_err());
    }
}

/// Bit patterns in which zeros, −0 and repeated values are frequent.
fn patterns() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(
        prop_oneof![Just(0), Just(1 << 31), 0u32..9, any::<u32>()],
        0..400,
    )
}

proptest! {
    #[test]
    fn any_bits_come_back(pattern in patterns()) {
        let weights: Vec<f32> = pattern.iter().map(|&bits| f32::from_bits(bits)).collect();
        prop_assert_eq!(bits(&decode(&encode(&weights), weights.len()).unwrap()), pattern);
    }

    #[test]
    fn random_densities_come_back(
        count in 0usize..5000, density in 0.0f64..=1.0, distinct in 1u32..2000, seed: u64,
    ) {
        assert_round_trip(&random(count, density, distinct, seed));
    }

    #[test]
    fn any_change_is_survived(
        density in 0.0f64..=1.0, distinct in 1u32..2000, seed: u64,
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encode(&random(600, density, distinct, seed));
        for (at, byte) in changes {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(weights) = decode(&bytes, 600) {
            prop_assert_eq!(weights.len(), 600);
        }
        let _ = decode_weight(&bytes, &Shape::new([20, 30]).unwrap());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 4..200), gaps in 0u8..2) {
        let mut bytes = bytes;
        let width = 1 << (bytes[1] % 3);
        bytes[..2].copy_from_slice(&[gaps, width]);
        let _ = decode(&bytes, 100);
    }
}
