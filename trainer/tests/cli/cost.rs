//! `skimjit-train cost`, with a stand-in for the program that measures.

use crate::support::Workplace;
use serde_json::Value;
use std::process::Command;

fn measured(report: &str) -> (Workplace, crate::support::Outcome) {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 1 snapshot: 0 test_interval: 50");
    place.ok(&["train", "--solver", "solver.prototxt"]);
    let script = format!("#!/bin/sh\ncat <<'END'\n{report}\nEND\n");
    place.write("script", &script);
    let program = place.path("skimjit");
    // Another process writes it: what this one has open for writing, the processes that other tests start have too,
    // and none can run it until they let go of it.
    let mut install = Command::new("install");
    let paths = [place.path("script"), program.clone()];
    assert!(
        install
            .args(["-m", "755"])
            .args(paths)
            .status()
            .unwrap()
            .success()
    );
    let weights = [
        "--prototxt",
        "net.prototxt",
        "--weights",
        "snap/tiny_iter_1.caffemodel",
    ];
    let more = ["--levels", "90", "--skimjit", program.to_str().unwrap()];
    let outcome = place.run(&[&["cost"][..], &weights, &more].concat());
    (place, outcome)
}

#[test]
fn tables_are_made_from_what_explain_tells() {
    let report = r#"{ "cpu": "a CPU", "isa": "avx2", "more": [], "network": { "total_ms": 4.5, "jit_ms": 1 }, "layers": [
        { "layer": "conv1", "kind": "Convolution", "time_ms": 1.5, "density": null },
        { "layer": "relu1", "kind": "ReLU", "time_ms": 0.5 },
        { "layer": "ip1", "kind": "InnerProduct", "time_ms": 2 }] }"#;
    let (place, outcome) = measured(report);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let table: Value = serde_json::from_slice(&place.bytes("cost.json")).unwrap();
    let points = |time: f64| serde_json::json!([[0.0, time], [0.9, time]]);
    let expected = serde_json::json!({ "machine": "a CPU, avx2", "batch": 1, "threads": 1, "rest_ms": 1.0, "layers": [
        { "layer": "conv1", "points": points(1.5) }, { "layer": "ip1", "points": points(2.0) }] });
    assert_eq!(table, expected);
    let (_, outcome) = measured(&report.replace("time_ms", "ms"));
    let words = "skimjit explain --json: found missing field `time_ms`";
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("one version"), "{}", outcome.stderr);
}
