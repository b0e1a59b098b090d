//! The smallest weights.

/// Elements that are zero for a share of zeros.
pub fn zeros_of(count: usize, sparsity: f64) -> usize {
    ((count as f64 * sparsity).round() as usize).min(count)
}

/// Indices of the `count` smallest scores; of equal ones the first.
pub fn smallest(scores: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    if count < order.len() {
        let of = |index: &u32| scores[*index as usize];
        order.select_nth_unstable_by(count, |a, b| of(a).total_cmp(&of(b)).then(a.cmp(b)));
        order.truncate(count);
    }
    order
}

/// Zeroes the smallest weights, so that a share of all is zero.
pub fn prune(data: &mut [f32], sparsity: f64) {
    let scores: Vec<f32> = data.iter().map(|w| w.abs()).collect();
    for index in smallest(&scores, zeros_of(data.len(), sparsity)) {
        data[index as usize] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_as_asked() {
        let mut data = [0.5, -0.1, 0.1, 2.0, -0.1];
        prune(&mut data, 0.4);
        assert_eq!(data, [0.5, 0.0, 0.0, 2.0, -0.1]);
        prune(&mut data, 1.0);
        assert_eq!(data, [0.0; 5]);
        prune(&mut [], 0.5);
    }
}
