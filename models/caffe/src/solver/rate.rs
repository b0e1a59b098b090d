//! Learning rates.

use super::field::{fault, finite, magnitude};
use crate::proto::SolverParameter;
use skimjit_models::Result;

/// How the learning rate follows the iterations.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    base: f32,
    curve: Curve,
}

#[derive(Clone, Debug, PartialEq)]
enum Curve {
    Fixed,
    Step { gamma: f32, size: u64 },
    Exponential { gamma: f32 },
    Inverse { gamma: f32, power: f32 },
    MultiStep { gamma: f32, at: Vec<u64> },
    Polynomial { power: f32, end: u64 },
    Sigmoid { gamma: f32, middle: f32 },
}

impl Policy {
    /// From `lr_policy` and what belongs to it.
    pub(super) fn new(solver: &SolverParameter) -> Result<Self> {
        let Some(base) = solver.base_lr else {
            return Err(
                fault("base_lr", "nothing".to_owned()).expected("a learning rate, like 0.01")
            );
        };
        // Only a sigmoid falls with a gamma below 0.
        let any = solver.lr_policy() == "sigmoid";
        let number = if any { finite } else { magnitude };
        let (gamma, power) = (
            number(solver.gamma(), "gamma")?,
            finite(solver.power(), "power")?,
        );
        let curve = match solver.lr_policy() {
            "fixed" => Curve::Fixed,
            "step" => match u64::try_from(solver.stepsize()) {
                Ok(size) if size > 0 => Curve::Step { gamma, size },
                _ => {
                    return Err(
                        fault("stepsize", solver.stepsize().to_string()).expected("at least 1")
                    );
                }
            },
            "exp" => Curve::Exponential { gamma },
            "inv" => Curve::Inverse { gamma, power },
            "multistep" => {
                let at: Option<Vec<u64>> = solver
                    .stepvalue
                    .iter()
                    .map(|&at| u64::try_from(at).ok())
                    .collect();
                let Some(at) = at.filter(|at| at.is_sorted()) else {
                    return Err(fault("stepvalue", format!("{:?}", solver.stepvalue))
                        .expected("iterations in order, none below 0"));
                };
                Curve::MultiStep { gamma, at }
            }
            "poly" => Curve::Polynomial {
                power,
                end: solver.max_iter().max(1) as u64,
            },
            "sigmoid" => Curve::Sigmoid {
                gamma,
                middle: solver.stepsize() as f32,
            },
            other => {
                let found = if other.is_empty() {
                    "nothing".to_owned()
                } else {
                    format!("{other:?}")
                };
                return Err(fault("lr_policy", found)
                    .expected("fixed, step, exp, inv, multistep, poly or sigmoid"));
            }
        };
        Ok(Self {
            base: magnitude(base, "base_lr")?,
            curve,
        })
    }

    /// Rate of an iteration. `step` is the counter that solverstates keep: of multistep it advances
    /// here, by one at most.
    pub fn rate(&self, iteration: u64, step: &mut i32) -> f32 {
        let base = self.base;
        let n = iteration as f32;
        match &self.curve {
            Curve::Fixed => base,
            Curve::Step { gamma, size } => {
                *step = i32::try_from(iteration / size).unwrap_or(i32::MAX);
                base * gamma.powi(*step)
            }
            Curve::Exponential { gamma } => base * gamma.powf(n),
            Curve::Inverse { gamma, power } => base * (1.0 + gamma * n).powf(-power),
            Curve::MultiStep { gamma, at } => {
                let next = usize::try_from(*step).ok().and_then(|step| at.get(step));
                if next.is_some_and(|&next| iteration >= next) {
                    *step += 1;
                }
                base * gamma.powi(*step)
            }
            Curve::Polynomial { power, end } => {
                base * (1.0 - n / *end as f32).max(0.0).powf(*power)
            }
            Curve::Sigmoid { gamma, middle } => base / (1.0 + (-gamma * (n - middle)).exp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(policy: &str, of: &[u64], more: impl Fn(&mut SolverParameter)) -> Vec<f32> {
        let mut solver = SolverParameter {
            base_lr: Some(0.1),
            lr_policy: Some(policy.to_owned()),
            gamma: Some(0.5),
            power: Some(2.0),
            stepsize: Some(10),
            max_iter: Some(100),
            stepvalue: vec![5, 6, 20],
            ..SolverParameter::default()
        };
        more(&mut solver);
        let policy = Policy::new(&solver).unwrap();
        let mut step = 0;
        let all =
            (0..=of.last().copied().unwrap_or_default()).map(|n| (n, policy.rate(n, &mut step)));
        all.filter(|(n, _)| of.contains(n))
            .map(|(_, rate)| rate)
            .collect()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!(
                (a - b).abs() <= 1e-6 * b.abs().max(1e-3),
                "{found:?} {expected:?}"
            );
        }
    }

    /// Checklist 44.
    #[test]
    fn curves() {
        let nothing = |_: &mut SolverParameter| {};
        close(&rates("fixed", &[0, 50], nothing), &[0.1, 0.1]);
        close(
            &rates("step", &[0, 9, 10, 25], nothing),
            &[0.1, 0.1, 0.05, 0.025],
        );
        close(&rates("exp", &[0, 3], nothing), &[0.1, 0.0125]);
        close(&rates("inv", &[0, 2], nothing), &[0.1, 0.025]);
        close(
            &rates("multistep", &[0, 4, 5, 6, 19, 20], nothing),
            &[0.1, 0.1, 0.05, 0.025, 0.025, 0.0125],
        );
        close(&rates("poly", &[0, 50, 100], nothing), &[0.1, 0.025, 0.0]);
        close(&rates("sigmoid", &[10], nothing), &[0.05]);
    }
}
