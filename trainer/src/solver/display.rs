//! What a displayed iteration prints: SkimCaffe's lines, which scripts read.

use super::report::{Metrics, Output, Report, outputs};
use super::run::Run;
use super::treatment::Treatment;
use crate::param::{Param, Role};
use crate::prune::regularization::Regularization;
use crate::prune::sparsity::{Groups, Sparsity, measure, total};
use crate::prune::winograd::Transform;
use std::fmt::Write;

/// `name = value (* weight = loss)`.
pub fn output(output: &Output) -> String {
    let value = general(output.value);
    match output.loss_weight {
        Some(weight) => {
            let product = general(output.value * f64::from(weight));
            format!(
                "{} = {value} (* {} = {product} loss)",
                output.name,
                general(weight.into())
            )
        }
        None => format!("{} = {value}", output.name),
    }
}

/// Six significant digits, as C++ streams print.
pub fn general(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let exponent = format!("{value:.5e}");
    let (digits, power) = exponent.split_once('e').unwrap_or((&exponent, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..6).contains(&power) {
        let decimals = usize::try_from(5 - power).unwrap_or_default();
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), power.abs())
}

/// What a displayed iteration measures of a parameter.
struct Measured {
    sparsity: Sparsity,
    /// Shares of zeros in the Winograd domain: exact, and at the measuring threshold.
    winograd: [f64; 2],
    pruned_in_winograd: bool,
}

impl Run {
    /// Prints loss, results, rate, and how sparse parameters are.
    pub(super) fn display(&mut self, loss: f32, rate: f32, report: &mut dyn Report) {
        let n = self.iteration;
        report.line(&format!("Iteration {n}, loss = {}", general(loss.into())));
        let outputs = outputs(self.engine.as_ref(), self.net);
        for (index, one) in outputs.iter().enumerate() {
            report.line(&format!("    Train net output #{index}: {}", output(one)));
        }
        report.line(&format!("Iteration {n}, lr = {}", general(rate.into())));
        let measured = self.measure();
        lines(&measured).iter().for_each(|line| report.line(line));
        let regularization = self.regularization();
        report.line(&format!(
            "    Total regularization terms: {} loss+regular. : {}",
            general(regularization),
            general(regularization + f64::from(loss))
        ));
        if self.settings.debug_info {
            self.debug(report);
        }
        let sparsity: Vec<Sparsity> = measured.into_iter().map(|one| one.sparsity).collect();
        report.metrics(&Metrics::Train {
            iteration: n,
            loss: loss.into(),
            rate: rate.into(),
            regularization,
            outputs,
            total_sparsity: total(&sparsity),
            sparsity,
            seconds: self.started.elapsed().as_secs_f64(),
        });
    }

    /// Of all parameters of two axes or more.
    fn measure(&mut self) -> Vec<Measured> {
        let (threshold, adjust) = (
            self.settings.measure_threshold,
            self.settings.winograd_adjust_threshold,
        );
        let mut all = Vec::new();
        for index in 0..self.treatments.len() {
            let settings = &self.settings;
            self.engine.read(index, &mut |param, state| {
                let Some(mut sparsity) = measure(param, &state.data, threshold) else {
                    return;
                };
                let stored = sparsity.element;
                if param.role == Role::Winograd {
                    // Shares of the kernels that the weights stand for, as SkimCaffe prints them.
                    let spatial = Transform::of(param)
                        .and_then(|transform| transform.spatial(param, &state.data))
                        .and_then(|(param, data)| measure(&param, &data, threshold));
                    sparsity = spatial.unwrap_or(sparsity);
                }
                let regularization = Regularization::of(param, settings);
                let pruned_in_winograd = matches!(regularization, Ok(Regularization::L1Winograd));
                let winograd = match Transform::of(param).filter(|_| pruned_in_winograd) {
                    Some(transform) => [
                        transform.sparsity(&state.data, 1e-7, false),
                        transform.sparsity(&state.data, threshold, adjust),
                    ],
                    None => [stored; 2],
                };
                all.push(Measured {
                    sparsity,
                    winograd,
                    pruned_in_winograd,
                });
            });
        }
        all
    }

    /// Regularisation terms of all parameters.
    fn regularization(&mut self) -> f64 {
        let mut sum = 0.0;
        for (index, treatment) in self.treatments.iter().enumerate() {
            let settings = &self.settings;
            let mut add = |param: &Param, treatment: &Treatment, data: &[f32]| {
                sum += treatment.term(param, data, settings);
            };
            self.engine.read(index, &mut |param, state| {
                add(param, treatment, &state.data)
            });
        }
        sum
    }

    /// Mean magnitudes of all values and gradients, as Caffe's debug_info.
    fn debug(&mut self, report: &mut dyn Report) {
        let mean = |data: &[f32]| {
            data.iter().map(|x| f64::from(x.abs())).sum::<f64>() / data.len().max(1) as f64
        };
        let net = self.engine.net(self.net);
        for node in &net.graph.nodes {
            let data = mean(&self.engine.value(self.net, node.output));
            let blob = &net.graph.value(node.output).name;
            let diff = self.engine.value_gradient(self.net, node.output);
            let diff = diff.map_or(String::new(), |diff| {
                format!(" diff: {}", general(mean(&diff)))
            });
            report.line(&format!(
                "    [Debug] Layer {}, top blob {blob} data: {}{diff}",
                node.name,
                general(data)
            ));
        }
        for index in 0..self.treatments.len() {
            self.engine.read(index, &mut |param, state| {
                let (data, diff) = (mean(&state.data), mean(&state.gradient));
                report.line(&format!(
                    "    [Debug] Param {} data: {} diff: {}",
                    param.name(),
                    general(data),
                    general(diff)
                ));
            });
        }
    }
}

/// One of the shares of [`Groups`].
type OfGroups = fn(&Groups) -> f64;

fn lines(measured: &[Measured]) -> Vec<String> {
    let row = |title: &str, values: &mut dyn Iterator<Item = f64>| {
        let mut text = format!("{title}\n");
        values.for_each(|value| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}\t", general(value));
        });
        text
    };
    let mut lines = vec![
        row(
            "    Element Sparsity %: ",
            &mut measured.iter().map(|one| one.sparsity.element),
        ),
        row(
            "     Winograd Sparsity %: ",
            &mut measured.iter().map(|one| one.winograd[0]),
        ),
        row(
            "     Winograd Old Sparsity %: ",
            &mut measured.iter().map(|one| one.winograd[1]),
        ),
    ];
    let mut fibers = "     Winograd fiber/slice sparsity %: ".to_owned();
    for groups in measured
        .iter()
        .filter(|one| one.pruned_in_winograd)
        .filter_map(|one| one.sparsity.groups.as_ref())
    {
        let _ = write!(
            fibers,
            "\n{}/{}\t{}/{}\t{}/{}\t",
            general(groups.oc_fiber),
            general(groups.oc_slice),
            general(groups.ic_fiber),
            general(groups.ic_slice),
            general(groups.kernel_fiber),
            general(groups.kernel_slice)
        );
    }
    lines.push(fibers);
    let of_groups: [(&str, OfGroups); 8] = [
        ("OC-fiber", |groups| groups.oc_fiber),
        ("IC-fiber", |groups| groups.ic_fiber),
        ("kernel-fiber", |groups| groups.kernel_fiber),
        ("OC-slice", |groups| groups.oc_slice),
        ("IC-slice", |groups| groups.ic_slice),
        ("kernel-slice", |groups| groups.kernel_slice),
        ("Column", |groups| groups.column),
        ("Row", |groups| groups.row),
    ];
    for (name, of) in of_groups {
        let mut values = measured
            .iter()
            .filter_map(|one| one.sparsity.groups.as_ref())
            .map(of);
        lines.push(row(&format!("        {name} Sparsity %: "), &mut values));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_cpp_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.01, "0.01"),
            (2.345_678_9, "2.34568"),
            (123_456.7, "123457"),
            (1_234_567.0, "1.23457e+06"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (-85.638_21, "-85.6382"),
            (100.0, "100"),
        ] {
            assert_eq!(general(value), text);
        }
    }
}
