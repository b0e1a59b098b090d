//! A solver definition, checked.

use super::field::{at_least_one, count, fault, fraction, magnitude};
use super::rate::Policy;
use crate::proto::SolverParameter;
use crate::proto::solver_parameter::SnapshotFormat;
use skimjit_models::Result;

/// Caffe's solvers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are the definition's")]
pub enum Rule {
    /// h = rate·g + μh; w −= h.
    Sgd { momentum: f32 },
    /// h' = rate·g + μh; w −= (1 + μ)h' − μh.
    Nesterov { momentum: f32 },
    /// h += g²; w −= rate·g/(√h + δ).
    AdaGrad { delta: f32 },
    /// h = ρh + (1 − ρ)g²; w −= rate·g/(√h + δ).
    RmsProp { delta: f32, decay: f32 },
    /// u = g·√((h₂ + δ)/(h₁ + δ)) with running means h₁ of g² and h₂ of u²; w −= rate·u.
    AdaDelta { momentum: f32, delta: f32 },
    /// w −= rate·√(1 − β₂ᵗ)/(1 − β₁ᵗ)·m/(√v + δ).
    Adam { beta1: f32, beta2: f32, delta: f32 },
}

impl Rule {
    /// Arrays that it remembers per parameter.
    pub fn histories(&self) -> usize {
        match self {
            Self::AdaDelta { .. } | Self::Adam { .. } => 2,
            _ => 1,
        }
    }
}

/// What a solver definition says, and what it leaves to the caller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Update rule.
    pub rule: Rule,
    /// Learning rate.
    pub policy: Policy,
    /// Iterations in all.
    pub max_iter: u64,
    /// Batches per iteration.
    pub iter_size: u32,
    /// Losses that the displayed one is the mean of.
    pub average_loss: usize,
    /// Largest norm of all gradients.
    pub clip: Option<f32>,
    /// Factor of the regularisation.
    pub weight_decay: f32,
    /// Regularisation of parameters that say none.
    pub regularization: String,
    /// Iterations between displayed ones; 0: none.
    pub display: u64,
    /// Iterations between tests; 0: none.
    pub test_interval: u64,
    /// Batches of each test.
    pub test_iter: Vec<u32>,
    /// Test before the first iteration.
    pub test_initialization: bool,
    /// Print the loss of tests.
    pub test_compute_loss: bool,
    /// Iterations between snapshots; 0: none.
    pub snapshot: u64,
    /// Beginning of the names of snapshots.
    pub snapshot_prefix: String,
    /// Write gradients too.
    pub snapshot_diff: bool,
    /// A snapshot at the end.
    pub snapshot_after_train: bool,
    /// Snapshots in HDF5 instead of binary protocol buffers.
    pub snapshot_hdf5: bool,
    /// Seed of all that is random.
    pub seed: u64,
    /// Print the size of every value and gradient.
    pub debug_info: bool,
    /// Magnitude at and below which weights become 0.
    pub prune_threshold: f32,
    /// Magnitude at and below which a weight counts as 0 in reports.
    pub measure_threshold: f32,
    /// Largest threshold over the smallest; below 2 all are `prune_threshold`.
    pub max_threshold_factor: f32,
    /// Thresholds in the Winograd domain follow the norms of the transformation.
    pub winograd_adjust_threshold: bool,
    /// Group lasso over rows of weight matrices.
    pub breadth_decay: f32,
    /// Group lasso over columns.
    pub kernel_shape_decay: f32,
    /// Group lasso over blocks.
    pub block_group_decay: f32,
    /// The adaptive threshold compares gradients, as SkimCaffe documents it, instead of updates, as its code does.
    pub threshold_by_gradient: bool,
    /// Thresholds reach biases, factors and statistics too, as in SkimCaffe.
    pub threshold_all: bool,
}

impl Settings {
    /// Checks a definition; snapshots go to `prefix`.
    pub(super) fn new(solver: &SolverParameter, prefix: String) -> Result<Self> {
        let max_iter = count(solver.max_iter(), "max_iter")?;
        let iter_size = at_least_one(solver.iter_size(), "iter_size")?;
        let tests = solver.test_iter.iter();
        let test_iter: Vec<u32> = tests
            .map(|&n| at_least_one(n, "test_iter"))
            .collect::<Result<_>>()?;
        let test_interval = count(solver.test_interval(), "test_interval")?;
        if !test_iter.is_empty() && test_interval == 0 {
            return Err(fault(
                "test_interval",
                "0 although there is a test_iter".to_owned(),
            )
            .expected("iterations between tests, at least 1"));
        }
        let seed = solver.random_seed();
        Ok(Self {
            rule: rule(solver)?,
            policy: Policy::new(solver)?,
            max_iter,
            iter_size,
            average_loss: at_least_one(solver.average_loss(), "average_loss")? as usize,
            clip: clip(solver.clip_gradients())?,
            weight_decay: magnitude(solver.weight_decay(), "weight_decay")?,
            regularization: solver.regularization_type().to_owned(),
            display: count(solver.display(), "display")?,
            test_interval,
            test_iter,
            test_initialization: solver.test_initialization(),
            test_compute_loss: solver.test_compute_loss(),
            snapshot: count(solver.snapshot(), "snapshot")?,
            snapshot_prefix: prefix,
            snapshot_diff: solver.snapshot_diff(),
            snapshot_after_train: solver.snapshot_after_train(),
            snapshot_hdf5: solver.snapshot_format() == SnapshotFormat::Hdf5,
            seed: u64::try_from(seed).unwrap_or(1),
            debug_info: solver.debug_info(),
            prune_threshold: magnitude(solver.prune_threshold(), "prune_threshold")?,
            measure_threshold: magnitude(solver.measure_threshold(), "measure_threshold")?,
            max_threshold_factor: magnitude(solver.max_threshold_factor(), "max_threshold_factor")?,
            winograd_adjust_threshold: solver.winograd_adjust_threshold() == 1,
            breadth_decay: magnitude(solver.breadth_decay(), "breadth_decay")?,
            kernel_shape_decay: magnitude(solver.kernel_shape_decay(), "kernel_shape_decay")?,
            block_group_decay: magnitude(solver.block_group_decay(), "block_group_decay")?,
            threshold_by_gradient: false,
            threshold_all: false,
        })
    }
}

/// The update rule, from `type` and what belongs to it.
fn rule(solver: &SolverParameter) -> Result<Rule> {
    let momentum = fraction(solver.momentum(), "momentum")?;
    let delta = magnitude(solver.delta(), "delta")?;
    let kind = solver.r#type();
    if matches!(kind, "AdaGrad" | "RMSProp") && momentum != 0.0 {
        return Err(fault("momentum", momentum.to_string()).expected(format!("0: {kind} has none")));
    }
    Ok(match kind {
        "SGD" => Rule::Sgd { momentum },
        "Nesterov" => Rule::Nesterov { momentum },
        "AdaGrad" => Rule::AdaGrad { delta },
        "RMSProp" => Rule::RmsProp {
            delta,
            decay: fraction(solver.rms_decay(), "rms_decay")?,
        },
        "AdaDelta" => Rule::AdaDelta { momentum, delta },
        "Adam" => Rule::Adam {
            beta1: momentum,
            beta2: fraction(solver.momentum2(), "momentum2")?,
            delta,
        },
        other => {
            return Err(fault("type", format!("{other:?}"))
                .expected("SGD, Nesterov, AdaGrad, RMSProp, AdaDelta or Adam"));
        }
    })
}

/// Largest norm of all gradients; below 0, as the default is, nothing is clipped.
fn clip(value: f32) -> Result<Option<f32>> {
    match value {
        value if value < 0.0 && value.is_finite() => Ok(None),
        value if value > 0.0 && value.is_finite() => Ok(Some(value)),
        value => Err(fault("clip_gradients", value.to_string())
            .expected("more than 0, or -1 for no clipping")),
    }
}
