//! What a run has told so far: from its metrics, or from a log of SkimCaffe's.

use crate::solver::report::Metrics;
use serde::Serialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbers over iterations.
pub type Series = Vec<(f64, f64)>;

/// A run, or the phases of a recipe one after the other.
#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    /// Smoothed loss.
    pub loss: Series,
    /// Learning rate.
    pub rate: Series,
    /// Results of tests, by name; those of further test networks have their number.
    pub tests: BTreeMap<String, Series>,
    /// Zeros of each parameter, in percent, in the order of the layers.
    pub sparsity: Vec<(String, Series)>,
    /// Zeros of all of them, in percent.
    pub total: Series,
    /// Where phases begin, after the first.
    pub phases: Vec<(f64, String)>,
    /// What methods did.
    pub events: Vec<(f64, String)>,
}

/// File names in a folder of a run.
const METRICS: &str = "metrics.jsonl";
const LOG: &str = "train.info";
/// What a history is read from.
const FOLDER: &str = "the --log folder of a run, or the output folder of a recipe";

impl History {
    /// Reads a folder: its own files, or those of the numbered folders of a recipe in it.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut history = Self::default();
        if let Some(file) = history.read_run(folder, 0.0)? {
            return match history.is_empty() {
                false => Ok(history),
                true => Err(Error::new("neither a loss nor a test")
                    .file(file)
                    .expected("what a run has told")
                    .hint("a run tells its loss every `display` iterations")),
            };
        }
        let mut phases: Vec<(u32, PathBuf)> = Vec::new();
        let unreadable = |error: std::io::Error| Error::unreadable(folder, &error, FOLDER);
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if let Some(number) = name
                .split('-')
                .next()
                .and_then(|number| number.parse().ok())
            {
                phases.push((number, path));
            }
        }
        phases.sort();
        let mut offset = 0.0;
        for (_, path) in phases {
            if offset > 0.0 {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                history.phases.push((offset, name.to_owned()));
            }
            history.read_run(&path, offset)?;
            offset = history.end();
        }
        if history.is_empty() {
            return Err(Error::new("a folder without a run")
                .file(folder)
                .expected(format!("{METRICS} or {LOG}, or numbered folders with them"))
                .hint("give the --log folder of a run, or the output folder of a recipe"));
        }
        Ok(history)
    }

    /// Whether there is nothing to draw.
    fn is_empty(&self) -> bool {
        self.loss.is_empty() && self.tests.is_empty()
    }

    /// Last iteration.
    fn end(&self) -> f64 {
        let tests = self.tests.values().flatten();
        self.loss
            .iter()
            .chain(tests)
            .map(|(n, _)| *n)
            .fold(0.0, f64::max)
    }

    /// Adds a run, whose file it returns; `None` when the folder has none.
    fn read_run(&mut self, folder: &Path, offset: f64) -> Result<Option<PathBuf>> {
        let (metrics, log) = (folder.join(METRICS), folder.join(LOG));
        let text = |path: &Path| {
            let bytes =
                std::fs::read(path).map_err(|error| Error::unreadable(path, &error, "a log"))?;
            Ok::<String, Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        if metrics.is_file() {
            self.add_metrics(&text(&metrics)?, offset)
                .map_err(|error| error.file(&metrics))?;
            return Ok(Some(metrics));
        }
        if log.is_file() {
            self.add_log(&text(&log)?, offset);
            return Ok(Some(log));
        }
        Ok(None)
    }

    fn add_metrics(&mut self, text: &str, offset: f64) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(metrics) => self.add(metrics, offset),
                // Where a run was killed or the disk was full.
                Err(error) if error.is_eof() => {}
                Err(error) => {
                    return Err(Error::new(error.to_string())
                        .position(number as u32 + 1, 1)
                        .expected("a record of skimjit-train"));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, metrics: Metrics, offset: f64) {
        match metrics {
            Metrics::Train {
                iteration,
                loss,
                rate,
                sparsity,
                total_sparsity,
                ..
            } => {
                let n = iteration as f64 + offset;
                push(&mut self.loss, n, loss);
                push(&mut self.rate, n, rate);
                push(&mut self.total, n, total_sparsity);
                for one in sparsity {
                    let name = if one.index == 0 {
                        one.layer
                    } else {
                        format!("{}[{}]", one.layer, one.index)
                    };
                    self.add_sparsity(&name, n, one.element);
                }
            }
            Metrics::Test {
                iteration,
                net,
                outputs,
                ..
            } => {
                for output in outputs {
                    let name = if net == 0 {
                        output.name
                    } else {
                        format!("{} (#{net})", output.name)
                    };
                    push(
                        self.tests.entry(name).or_default(),
                        iteration as f64 + offset,
                        output.value,
                    );
                }
            }
            Metrics::Event {
                iteration, text, ..
            } => self.events.push((iteration as f64 + offset, text)),
            Metrics::Snapshot { .. } => {}
        }
    }

    fn add_sparsity(&mut self, name: &str, n: f64, value: f64) {
        match self.sparsity.iter_mut().find(|(known, _)| known == name) {
            Some((_, series)) => push(series, n, value),
            None => self.sparsity.push((name.to_owned(), vec![(n, value)])),
        }
    }

    /// The lines that SkimCaffe's own plotting script looks for.
    fn add_log(&mut self, text: &str, offset: f64) {
        let mut iteration = 0.0;
        let mut sparsity_follows = false;
        for line in text.lines() {
            let content = line
                .split_once("] ")
                .map_or(line, |(_, content)| content)
                .trim();
            if sparsity_follows {
                sparsity_follows = false;
                let values = content
                    .split_whitespace()
                    .map_while(|word| word.parse::<f64>().ok());
                for (index, value) in values.enumerate() {
                    self.add_sparsity(&format!("weight {index}"), iteration, value);
                }
            } else if content.starts_with("Element Sparsity %") {
                sparsity_follows = true;
            } else if let Some(rest) = content.strip_prefix("Iteration ") {
                let Some((number, rest)) = rest.split_once([',', ' ']) else {
                    continue;
                };
                let Ok(number) = number.parse::<f64>() else {
                    continue;
                };
                iteration = number + offset;
                if let Some(loss) = value_of(rest, "loss = ") {
                    push(&mut self.loss, iteration, loss);
                } else if let Some(rate) = value_of(rest, "lr = ") {
                    push(&mut self.rate, iteration, rate);
                }
            } else if let Some((_, rest)) = content.split_once("Test net output #") {
                let Some((name, value)) = rest
                    .split_once(": ")
                    .and_then(|(_, rest)| rest.split_once(" = "))
                else {
                    continue;
                };
                if let Some(value) = value
                    .split_whitespace()
                    .next()
                    .and_then(|word| word.parse().ok())
                {
                    push(
                        self.tests.entry(name.to_owned()).or_default(),
                        iteration,
                        value,
                    );
                }
            }
        }
    }
}

fn value_of(text: &str, key: &str) -> Option<f64> {
    let (_, rest) = text.split_once(key)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A later value of the same iteration replaces an earlier one: resumed runs repeat iterations.
fn push(series: &mut Series, n: f64, value: f64) {
    while series.last().is_some_and(|(last, _)| *last >= n) {
        series.pop();
    }
    series.push((n, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skimcaffes_logs_are_read() {
        let log = "I1225 18:16:57.0 1 solver.cpp:2] Iteration 0, Testing net (#0)\n\
                   I1225 18:16:57.0 1 solver.cpp:3]     Test net output #0: accuracy = 0.57\n\
                   I1225 18:16:57.0 1 solver.cpp:3]     Test net output #1: loss = 1.8 (* 1 = 1.8 loss)\n\
                   I1225 18:16:58.0 1 solver.cpp:2] Iteration 200, loss = 1.25\n\
                   I1225 18:16:58.0 1 solver.cpp:2] Iteration 200, lr = 0.001\n\
                   I1225 18:16:58.0 1 solver.cpp:2]     Element Sparsity %: \n\
                   0.23\t85.6\t93.1\t\n";
        let mut history = History::default();
        history.add_log(log, 1000.0);
        assert_eq!(history.tests["accuracy"], [(1000.0, 0.57)]);
        assert_eq!(history.loss, [(1200.0, 1.25)]);
        assert_eq!(history.rate, [(1200.0, 0.001)]);
        assert_eq!(
            history.sparsity[1],
            ("weight 1".to_owned(), vec![(1200.0, 85.6)])
        );
    }

    #[test]
    fn a_run_that_has_told_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for file in [LOG, METRICS] {
            std::fs::write(folder.path().join(file), []).unwrap();
            let text = History::read(folder.path()).unwrap_err().to_string();
            assert!(
                text.contains(file) && text.contains("expected what a run"),
                "{text}"
            );
        }
        let text = History::read(&folder.path().join(LOG))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("Not a directory") && text.contains("expected the --log folder"),
            "{text}"
        );
    }

    #[test]
    fn resumed_runs_repeat_iterations() {
        let mut series = Vec::new();
        for (n, value) in [(0.0, 1.0), (100.0, 2.0), (200.0, 3.0), (100.0, 4.0)] {
            push(&mut series, n, value);
        }
        assert_eq!(series, [(0.0, 1.0), (100.0, 4.0)]);
    }
}
