//! Group lasso: gradients that shrink whole rows, columns and blocks of weight matrices.

use crate::param::Param;
use crate::solver::settings::Settings;
use skimjit_models::{Error, Result};

/// Groups of a parameter, each with its factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Lasso {
    groups: Vec<Grid>,
}

/// Blocks of a matrix: `rows` × `columns` of them.
#[derive(Clone, Debug, PartialEq)]
struct Grid {
    /// λ.
    factor: f32,
    /// Rows and columns of the matrix.
    matrix: [usize; 2],
    /// Rows and columns of a block.
    block: [usize; 2],
}

impl Lasso {
    /// What settings and parameter ask for; `None` when that is nothing.
    pub fn of(param: &Param, settings: &Settings) -> Result<Option<Self>> {
        if !param.is_prunable() {
            return Ok(None);
        }
        let (rows, columns) = param.matrix();
        let rows_of_group = rows / param.groups.max(1) as usize;
        let mut groups = Vec::new();
        for (factor, block) in [
            (
                settings.breadth_decay * param.breadth_decay_mult,
                [1, columns],
            ),
            (
                settings.kernel_shape_decay * param.kernel_shape_decay_mult,
                [rows_of_group, 1],
            ),
        ] {
            groups.push((factor, block));
        }
        for spec in &param.block_group_lasso {
            let block = [spec.rows as usize, spec.columns as usize];
            if block.contains(&0) || rows % block[0] != 0 || columns % block[1] != 0 {
                return Err(Error::new(format!("blocks of {}x{}", block[0], block[1]))
                    .layer(param.layer.clone())
                    .field(format!("param[{}].block_group_lasso", param.index))
                    .expected(format!("ydimen and xdimen that divide {rows}x{columns}")));
            }
            groups.push((settings.block_group_decay * spec.decay_mult, block));
        }
        let grid = |(factor, block)| Grid {
            factor,
            matrix: [rows, columns],
            block,
        };
        let groups: Vec<Grid> = groups
            .into_iter()
            .filter(|(factor, _)| *factor != 0.0)
            .map(grid)
            .collect();
        Ok((!groups.is_empty()).then_some(Self { groups }))
    }
    /// Adds the gradient; returns the term itself.
    pub fn add(&self, data: &[f32], gradient: &mut [f32]) -> f64 {
        self.groups
            .iter()
            .map(|grid| grid.add(data, Some(gradient)))
            .sum()
    }
    /// The term.
    pub fn term(&self, data: &[f32]) -> f64 {
        self.groups.iter().map(|grid| grid.add(data, None)).sum()
    }
}

impl Grid {
    fn add(&self, data: &[f32], mut gradient: Option<&mut [f32]>) -> f64 {
        let [rows, columns] = self.matrix;
        let [height, width] = self.block;
        let across = columns / width;
        let mut squares = vec![0f64; rows / height * across];
        let block = |index: usize| index / columns / height * across + index % columns / width;
        for (index, &w) in data.iter().enumerate() {
            squares[block(index)] += f64::from(w) * f64::from(w);
        }
        let norms: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        if let Some(gradient) = &mut gradient {
            for (index, (g, &w)) in gradient.iter_mut().zip(data).enumerate() {
                let norm = norms[block(index)];
                if norm > 0.0 {
                    *g += self.factor * (f64::from(w) / norm) as f32;
                }
            }
        }
        f64::from(self.factor) * norms.iter().sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checklist 49.
    #[test]
    fn norms_of_blocks() {
        let grid = |block| Grid {
            factor: 0.5,
            matrix: [2, 4],
            block,
        };
        let data = [3.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut gradient = [0.0; 8];
        assert_eq!(grid([1, 4]).add(&data, Some(&mut gradient)), 2.5);
        assert_eq!(gradient[..4], [0.3, 0.0, 0.4, 0.0]);
        assert_eq!(gradient[4..], [0.0; 4], "nothing where all is zero");
        assert_eq!(grid([2, 1]).add(&data, None), 3.5);
        assert_eq!(grid([2, 2]).add(&data, None), 3.5);
    }
}
