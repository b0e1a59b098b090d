//! A measurement beside an earlier one.

use super::Report;
use crate::support::output::{self, Output};
use crate::support::table::{Table, left, milliseconds, right};
use serde::Serialize;
use skimjit::{Error, Result};
use skimjit_models::Error as InputError;
use std::collections::BTreeSet;
use std::path::Path;

/// Reads what `time --json` printed.
pub fn read(path: &Path) -> Result<Report> {
    let failed = |found: String| {
        let error = InputError::new(found).file(path);
        Error::from(error.expected("what `skimjit time --json` printed"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

/// Two measurements.
#[derive(Serialize)]
pub struct Comparison<'a> {
    #[serde(flatten)]
    now: &'a Report,
    before: &'a Report,
    /// How many times as fast as before, by the medians.
    speedup: f64,
    #[serde(skip)]
    lines: Vec<Line<'a>>,
}

/// A step in one or both of the measurements.
struct Line<'a> {
    layer: &'a str,
    label: &'a str,
    before_ms: Option<f64>,
    now_ms: Option<f64>,
}

impl<'a> Comparison<'a> {
    pub fn new(before: &'a Report, now: &'a Report) -> Self {
        let same =
            (&before.isa, before.batch, before.threads) == (&now.isa, now.batch, now.threads);
        if !same {
            let what = |report: &Report| {
                let (isa, batch, threads) = (&report.isa, report.batch, report.threads);
                format!("{isa}, batch {batch}, {threads} threads")
            };
            output::warn(format!(
                "compared: {} with {} before",
                what(now),
                what(before)
            ));
        }
        let layers = |report: &'a Report| -> BTreeSet<&'a str> {
            report.steps.iter().map(|step| &*step.layer).collect()
        };
        let (old, new) = (layers(before), layers(now));
        let common = old.intersection(&new).count();
        if 4 * common < 3 * old.len().max(new.len()) {
            output::warn(format!(
                "compared: {} layers with {} before, of which only {common} have the same names: another network?",
                new.len(),
                old.len()
            ));
        }
        before.spread.note("the measurement before");
        Self {
            now,
            before,
            speedup: before.spread.median_ms / now.spread.median_ms.max(f64::MIN_POSITIVE),
            lines: lines(before, now),
        }
    }

    pub fn print(&self, out: &mut Output) {
        let mut table = Table::new([
            left("layer"),
            left("step"),
            right("before ms"),
            right("now ms"),
            right("times as fast"),
        ]);
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), milliseconds);
        for line in &self.lines {
            let ratio = line.before_ms.zip(line.now_ms);
            let ratio = ratio.filter(|&(_, now)| now > 0.0);
            table.row([
                line.layer.to_owned(),
                line.label.to_owned(),
                time(line.before_ms),
                time(line.now_ms),
                ratio.map_or_else(String::new, |(before, now)| format!("{:.2}", before / now)),
            ]);
        }
        out.table(&table);
        out.line(self.now.machine());
        let range = |report: &Report| {
            let [low, high] = report.spread.quartiles_ms.map(milliseconds);
            let median = milliseconds(report.spread.median_ms);
            format!("{median} ms (half of the runs {low} to {high})")
        };
        out.sentence(format!(
            "{:.2} times as fast: median {} instead of {}",
            self.speedup,
            range(self.now),
            range(self.before)
        ));
    }
}

/// Steps in the order of the new measurement, then those that are gone; the n-th of a name is compared
/// with the n-th of that name.
fn lines<'a>(before: &'a Report, now: &'a Report) -> Vec<Line<'a>> {
    let mut old: Vec<_> = before.steps.iter().map(Some).collect();
    let mut lines = Vec::new();
    for step in &now.steps {
        let same = old.iter_mut().find(|old| {
            old.is_some_and(|old| (&old.layer, &old.label) == (&step.layer, &step.label))
        });
        lines.push(Line {
            layer: &step.layer,
            label: &step.label,
            before_ms: same.and_then(Option::take).map(|old| old.time_ms),
            now_ms: Some(step.time_ms),
        });
    }
    lines.extend(old.into_iter().flatten().map(|gone| Line {
        layer: &gone.layer,
        label: &gone.label,
        before_ms: Some(gone.time_ms),
        now_ms: None,
    }));
    let whole = |layer, before_ms, now_ms| Line {
        layer,
        label: "",
        before_ms: Some(before_ms),
        now_ms: Some(now_ms),
    };
    lines.push(whole("outside kernels", before.outside_ms, now.outside_ms));
    lines.push(whole("total", before.total_ms, now.total_ms));
    lines
}
