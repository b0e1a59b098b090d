//! `skimjit verify --kernels`.

use crate::support::output::Output;
use skimjit_program::progress;
use crate::support::table::{Table, left, millions, right};
use serde::Serialize;
use skimjit::{CompileOptions, Error, Isa, Model, Result};
use skimjit_runtime::KernelInspector;
use skimjit_runtime::kernels::{Built, Problem, Weights};
use skimjit_verifier::Scope;
use std::sync::{Arc, Mutex, PoisonError};

/// What was proved of a layer's kernel.
#[derive(Clone, Serialize)]
struct Line {
    layer: String,
    variant: String,
    passed: bool,
    /// Instructions walked, over all tasks of one image (of a batch for inner products of a batch).
    instructions: u64,
    multiply_adds: u64,
    results: u64,
    /// `false`: bounds only. The layer has exponentials; proved is that every result is defined.
    values: bool,
    /// What the code does wrong.
    fault: Option<String>,
}

#[derive(Serialize)]
struct Report {
    passed: bool,
    isa: String,
    kernels: Vec<Line>,
}

/// Collects the proofs.
struct Prover {
    isa: Isa,
    lines: Mutex<Vec<Line>>,
}

impl KernelInspector for Prover {
    fn inspect(
        &self,
        layer: &str,
        variant: &str,
        problem: &Problem,
        weights: Weights<'_>,
        built: &Built,
    ) {
        let proof = skimjit_verifier::verify(problem, weights, self.isa, built);
        let known = proof.as_ref().ok();
        let line = Line {
            layer: layer.to_owned(),
            variant: variant.to_owned(),
            passed: proof.is_ok(),
            instructions: known.map_or(0, |proof| proof.instructions),
            multiply_adds: known.map_or(0, |proof| proof.multiply_adds),
            results: known.map_or(0, |proof| proof.results),
            values: known.is_some_and(|proof| proof.scope == Scope::Values),
            fault: proof.err().map(|fault| fault.to_string()),
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }
}

pub fn run(model: &Model, mut options: CompileOptions, json: bool, out: &mut Output) -> Result<()> {
    let prover = Arc::new(Prover {
        isa: Isa::detect(options.isa)?,
        lines: Mutex::default(),
    });
    options.inspector = Some(prover.clone());
    let engine = progress::spin("proving", || model.compile(&options))?;
    let mut kernels =
        std::mem::take(&mut *prover.lines.lock().unwrap_or_else(PoisonError::into_inner));
    let choices = &engine.plan().choices;
    // Threads finish in any order.
    kernels.sort_by_key(|line| choices.iter().position(|choice| choice.layer == line.layer));
    let report = Report {
        passed: kernels.iter().all(|line| line.passed),
        isa: engine.plan().isa.to_string(),
        kernels,
    };
    if json {
        out.json(&report)?;
    } else {
        print(&report, out);
    }
    match report.kernels.iter().find(|line| !line.passed) {
        None => Ok(()),
        Some(line) => Err(Error::Check(format!(
            "layer \"{}\", kernel {}: {}; this is a bug of skimjit, please report it",
            line.layer,
            line.variant,
            line.fault.as_deref().unwrap_or_default()
        ))),
    }
}

fn print(report: &Report, out: &mut Output) {
    let mut table = Table::new([
        left("layer"),
        left("kernel"),
        right("10^6 instructions").extra(),
        right("10^6 multiply-adds"),
        right("results").extra(),
        left("proved"),
    ]);
    for line in &report.kernels {
        let proved = match (&line.fault, line.values) {
            (Some(fault), _) => fault.clone(),
            (None, true) => "values and bounds".to_owned(),
            (None, false) => "bounds only: all results defined".to_owned(),
        };
        table.row([
            line.layer.clone(),
            line.variant.clone(),
            millions(line.instructions),
            millions(line.multiply_adds),
            line.results.to_string(),
            proved,
        ]);
    }
    out.table(&table);
    let verdict = if report.passed { "passed" } else { "FAILED" };
    out.line(format!(
        "{verdict}: {} kernels, {}",
        report.kernels.len(),
        report.isa
    ));
}
