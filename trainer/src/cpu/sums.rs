//! Sums that do not depend on the number of threads.

use super::layer::CHUNK;
use rayon::prelude::*;

/// Sum of all elements, in double precision and in several lanes: as exact as it is fast.
pub fn total(elements: &[f32]) -> f32 {
    let mut lanes = [0f64; 8];
    let (chunks, rest) = elements.as_chunks::<8>();
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, &x)| *lane += f64::from(x));
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x)).sum();
    (lanes.iter().sum::<f64>() + rest) as f32
}

/// `sum += part`.
pub fn add(part: &[f32], sum: &mut [f32]) {
    let chunks = sum.par_chunks_mut(CHUNK);
    chunks.zip(part.par_chunks(CHUNK)).for_each(|(sum, part)| {
        sum.iter_mut()
            .zip(part)
            .for_each(|(sum, part)| *sum += part);
    });
}
