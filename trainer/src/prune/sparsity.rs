//! How sparse parameters are: zeros, and fibers and slices of zeros.

use crate::param::Param;
use serde::{Deserialize, Serialize};

/// Shares of zeros of a parameter, in percent. A parameter is seen as oc × ic × k.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sparsity {
    /// Layer.
    pub layer: String,
    /// Index of the blob.
    pub index: usize,
    /// Elements.
    pub count: usize,
    /// Elements that are zero.
    pub element: f64,
    /// Of 4-axis parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
}

/// Shares of groups that are all zero, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Positions (ic, k), zero for every oc.
    pub oc_fiber: f64,
    /// Positions (oc, k), zero for every ic.
    pub ic_fiber: f64,
    /// Kernels (oc, ic).
    pub kernel_fiber: f64,
    /// Filters.
    pub oc_slice: f64,
    /// Input channels.
    pub ic_slice: f64,
    /// Positions k.
    pub kernel_slice: f64,
    /// Rows of the weight matrix: filters.
    pub row: f64,
    /// Columns of the weight matrix, per convolution group.
    pub column: f64,
}

/// Measures a parameter; `None` for those of fewer than two axes. Elements of at most `threshold` count
/// as zero.
pub fn measure(param: &Param, data: &[f32], threshold: f32) -> Option<Sparsity> {
    if param.shape.rank() < 2 {
        return None;
    }
    let zeros = data.iter().filter(|w| w.abs() <= threshold).count();
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    let groups = (param.shape.rank() == 4).then(|| groups(param, data, threshold));
    Some(Sparsity {
        layer: param.layer.clone(),
        index: param.index,
        count: data.len(),
        element: percent(zeros, data.len()),
        groups,
    })
}

fn groups(param: &Param, data: &[f32], threshold: f32) -> Groups {
    let dim = |axis| param.shape.dim(axis) as usize;
    let (i, j, k) = (dim(0), dim(1), dim(2) * dim(3));
    // Which groups have an element that is not zero.
    let used = |count: usize, group: &dyn Fn(usize, usize, usize) -> usize| {
        let mut used = vec![false; count];
        for (index, w) in data.iter().enumerate() {
            if w.abs() > threshold {
                used[group(index / (j * k), index / k % j, index % k)] = true;
            }
        }
        let zeros = used.iter().filter(|used| !**used).count();
        100.0 * zeros as f64 / count.max(1) as f64
    };
    let convolution_groups = param.groups.max(1) as usize;
    let filters = (i / convolution_groups).max(1);
    let oc_slice = used(i, &|oc, _, _| oc);
    Groups {
        oc_fiber: used(j * k, &|_, ic, position| ic * k + position),
        ic_fiber: used(i * k, &|oc, _, position| oc * k + position),
        kernel_fiber: used(i * j, &|oc, ic, _| oc * j + ic),
        oc_slice,
        ic_slice: used(j, &|_, ic, _| ic),
        kernel_slice: used(k, &|_, _, position| position),
        row: oc_slice,
        column: used(convolution_groups * j * k, &|oc, ic, position| {
            ((oc / filters).min(convolution_groups - 1) * j + ic) * k + position
        }),
    }
}

/// Zeros over all parameters that weights lie in, in percent.
pub fn total(all: &[Sparsity]) -> f64 {
    let count: usize = all.iter().map(|one| one.count).sum();
    let zeros: f64 = all.iter().map(|one| one.element * one.count as f64).sum();
    if count == 0 {
        0.0
    } else {
        zeros / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checklist 51.
    #[test]
    fn fibers_and_slices() {
        let param = Param::weights("c", &[2, 3, 1, 2], 1);
        // Filter 0 has (ic 0, k 0) and (ic 1, k 0); filter 1 nothing above the threshold.
        let data = [1.0, 0.0, -1.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let found = measure(&param, &data, 0.01).unwrap();
        assert!((found.element - 1000.0 / 12.0).abs() < 1e-9);
        let groups = found.groups.unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(groups.oc_fiber, 400.0 / 6.0);
        close(groups.ic_fiber, 75.0);
        close(groups.kernel_fiber, 400.0 / 6.0);
        close(groups.oc_slice, 50.0);
        close(groups.ic_slice, 100.0 / 3.0);
        close(groups.kernel_slice, 50.0);
        close(groups.column, 400.0 / 6.0);
    }
}
