//! Regularisation: what SkimCaffe calls `regularization_type`.

use crate::param::{Param, Role};
use crate::solver::settings::Settings;
use skimjit_models::{Error, Result};

/// What pulls weights to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regularization {
    /// λ/2·Σw².
    L2,
    /// λ·Σ|w|, then the threshold.
    L1,
    /// λ·Σ|w|, then all weights come closer to zero by rate·λ.
    Ista,
    /// λ·Σ|u| of the kernels' Winograd transforms u, then a threshold on u.
    L1Winograd,
    /// L1 with dynamic network surgery: pruned weights can come back.
    L1Dns,
    /// L2 with dynamic network surgery.
    L2Dns,
}

impl Regularization {
    /// What holds for a parameter: its own type, or that of the solver.
    pub fn of(param: &Param, settings: &Settings) -> Result<Self> {
        let own = param.regularization.as_deref();
        let found = own.unwrap_or(&settings.regularization);
        let kind = match found {
            "L2" => Self::L2,
            "L1" => Self::L1,
            "ISTA" => Self::Ista,
            "L1_Winograd" => Self::L1Winograd,
            "L1_DNS" => Self::L1Dns,
            "L2_DNS" => Self::L2Dns,
            other => {
                let error = Error::new(format!("{other:?}"))
                    .field("regularization_type")
                    .expected("L1, L2, ISTA, L1_Winograd, L1_DNS or L2_DNS");
                return Err(match own {
                    Some(_) => error.layer(param.layer.clone()),
                    None => error,
                });
            }
        };
        if kind == Self::L1Winograd && !has_winograd(param) {
            if own.is_some() {
                return Err(Error::new(format!(
                    "{found:?} for a parameter of shape {}",
                    param.shape
                ))
                .layer(param.layer.clone())
                .field(format!("param[{}].regularization_type", param.index))
                .expected("kernels of 3x3 or 5x5")
                .hint("use \"L1\" here"));
            }
            return Ok(Self::L1);
        }
        // Surgery is for what is pruned.
        Ok(match (kind, param.role) {
            (Self::L1Dns, role) if role != Role::Weight => Self::L1,
            (Self::L2Dns, role) if role != Role::Weight => Self::L2,
            _ => kind,
        })
    }
    /// True for sums of squares.
    pub fn is_square(self) -> bool {
        matches!(self, Self::L2 | Self::L2Dns)
    }
    /// True when weights that are pruned can come back.
    pub fn is_surgery(self) -> bool {
        matches!(self, Self::L1Dns | Self::L2Dns)
    }
    /// λ times the norm: what is reported.
    pub fn term(self, decay: f32, data: &[f32]) -> f64 {
        let sum = |of: fn(f64) -> f64| data.iter().map(|&w| of(f64::from(w))).sum::<f64>();
        let decay = f64::from(decay);
        match self {
            _ if decay == 0.0 => 0.0,
            Self::L2 | Self::L2Dns => decay / 2.0 * sum(|w| w * w),
            _ => decay * sum(f64::abs),
        }
    }
}

/// True for kernels that a Winograd transform of the spec exists for.
pub fn has_winograd(param: &Param) -> bool {
    let square = matches!(param.shape.dims(), [_, _, 3, 3] | [_, _, 5, 5]);
    param.role == Role::Weight && square
}
