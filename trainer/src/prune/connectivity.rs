//! `connectivity_mode`: which weights stay zero.

use crate::param::Param;
use crate::update::ParamState;
use skimjit_models::Connectivity;

/// Zeroes small weights and makes the mask that the parameter's mode asks for. What it did, as
/// SkimCaffe says it.
pub fn freeze(param: &Param, state: &mut ParamState, threshold: f32) -> Option<String> {
    if param.connectivity == Connectivity::Free {
        return None;
    }
    for weight in state
        .data
        .iter_mut()
        .filter(|weight| weight.abs() <= threshold)
    {
        *weight = 0.0;
    }
    let layer = &param.layer;
    Some(match param.connectivity {
        Connectivity::Groups => {
            state.mask = Some(group_mask(param, &state.data));
            format!("weights lying in all-zero groups of {layer} are frozen")
        }
        _ => {
            state.mask = Some(element_mask(&state.data));
            format!("all zero weights of {layer} are frozen")
        }
    })
}

/// 1 where a weight is not zero.
pub fn element_mask(data: &[f32]) -> Vec<f32> {
    data.iter()
        .map(|&weight| f32::from(u8::from(weight != 0.0)))
        .collect()
}

/// 0 in all-zero rows and columns of the matrix of each convolution group.
fn group_mask(param: &Param, data: &[f32]) -> Vec<f32> {
    let groups = param.groups.max(1) as usize;
    let (rows, columns) = param.matrix();
    let rows = rows / groups;
    let mut mask = vec![1.0; data.len()];
    let matrices = data
        .chunks_exact(rows * columns)
        .zip(mask.chunks_exact_mut(rows * columns));
    for (data, mask) in matrices {
        let mut column_used = vec![false; columns];
        for row in data.chunks_exact(columns) {
            column_used
                .iter_mut()
                .zip(row)
                .for_each(|(used, w)| *used |= *w != 0.0);
        }
        for (row, mask) in data
            .chunks_exact(columns)
            .zip(mask.chunks_exact_mut(columns))
        {
            let row_used = row.iter().any(|&w| w != 0.0);
            let each = mask.iter_mut().zip(&column_used);
            each.for_each(|(mask, used)| *mask = f32::from(u8::from(row_used && *used)));
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(mode: Connectivity, groups: u32) -> Param {
        Param {
            connectivity: mode,
            ..Param::weights("conv", &[4, 1, 1, 3], groups)
        }
    }

    /// Checklist 50.
    #[test]
    fn masks_of_both_modes() {
        let data = vec![0.5, 0.0, 1e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
        let state = || ParamState {
            data: data.clone(),
            ..ParamState::default()
        };
        let mut elements = state();
        let text = freeze(&param(Connectivity::Elements, 2), &mut elements, 1e-4);
        assert_eq!(text.as_deref(), Some("all zero weights of conv are frozen"));
        assert_eq!(elements.data[2], 0.0);
        let mask = elements.mask.unwrap();
        assert_eq!(mask.iter().sum::<f32>(), 2.0);
        let mut groups = state();
        freeze(&param(Connectivity::Groups, 2), &mut groups, 1e-4);
        let mask = groups.mask.unwrap();
        assert_eq!(
            mask,
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        );
        let mut one = state();
        freeze(&param(Connectivity::Groups, 1), &mut one, 1e-4);
        assert_eq!(
            one.mask.unwrap(),
            [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
        );
        assert!(freeze(&param(Connectivity::Free, 1), &mut state(), 1.0).is_none());
    }
}
