//! What Linux's perf shows of generated code.

use crate::support::{Outcome, Workplace, outcome};
use skimjit_testing::{has, skip};
use std::process::Command;

const LAYERS: [&str; 2] = ["conv1", "conv2"];

/// A place with a network, where perf leaves everything in the folder.
struct Perf(Workplace);

impl Perf {
    /// `None`, with a line that says so, where perf is missing or may not sample.
    fn new() -> Option<Self> {
        let place = Workplace::new();
        place.ok(&["synth", "lenet", "--sparsity", "80", "-o", "net.caffemodel"]);
        let perf = Self(place);
        if !has("perf") {
            return None;
        }
        let sampled = perf.run(&["record", "-e", "cpu-clock", "-o", "try.data", "true"]);
        if sampled.code != Some(0) {
            skip(format!("perf may not sample: {}", sampled.stderr.trim()));
            return None;
        }
        Some(perf)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("perf");
        command.args(["--no-pager", "--buildid-dir", "buildid"]);
        outcome(command.args(arguments).current_dir(self.0.path(".")))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let Outcome {
            code,
            stdout,
            stderr,
        } = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}\n{stdout}\n{stderr}");
        stdout
    }

    /// Samples a run of the network; the clock is the software one, which virtual machines have too.
    fn record(&self, tool: &str) {
        let record = [
            "record",
            "-k",
            "mono",
            "-e",
            "cpu-clock",
            "-F",
            "4000",
            "-o",
            "perf.data",
        ];
        let time = [
            "time",
            "net.caffemodel",
            "--threads",
            "1",
            "--iterations",
            "4000",
        ];
        let program = [env!("CARGO_BIN_EXE_skimjit")];
        let told = ["--code-info", tool, "--code-folder", "code"];
        self.ok(&[&record[..], &program, &time, &told].concat());
    }
}

/// Whether a report has a line about a layer.
fn names(report: &str, layer: &str) -> bool {
    let samples = report.lines().filter(|line| line.contains("[.]"));
    samples
        .flat_map(str::split_whitespace)
        .any(|word| word == layer)
}

#[test]
fn perf_reports_layers_from_a_map_of_names() {
    let Some(perf) = Perf::new() else { return };
    perf.record("perf-map");
    let report = perf.ok(&["report", "-i", "perf.data", "--stdio", "--sort", "symbol"]);
    for layer in LAYERS {
        assert!(names(&report, layer), "{layer}\n{report}");
    }
}

#[test]
fn perf_reports_and_annotates_layers_from_a_jitdump() {
    let Some(perf) = Perf::new() else { return };
    perf.record("jitdump");
    perf.ok(&["inject", "--jit", "-i", "perf.data", "-o", "perf.jit.data"]);
    let report = perf.ok(&[
        "report",
        "-i",
        "perf.jit.data",
        "--stdio",
        "--sort",
        "symbol",
    ]);
    for layer in LAYERS {
        assert!(names(&report, layer), "{layer}\n{report}");
    }
    // What perf annotates with.
    if !has("objdump") {
        return;
    }
    let code = perf.ok(&[
        "annotate",
        "-i",
        "perf.jit.data",
        "--stdio",
        "-l",
        "-s",
        LAYERS[1],
    ]);
    assert!(code.contains("vfmadd231ps"), "{code}");
    // Lines of the listing, with what each multiply-add is.
    assert!(code.contains("skimjit_conv2.lst:"), "{code}");
}
