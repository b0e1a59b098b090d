//! Kernels chosen by timing them: the tune cache, and what `explain` says.

use crate::support::{Workplace, outcome};
use crate::{find, number};
use serde_json::Value;
use skimjit_caffe::zoo;
use skimjit_caffe::{blob, parse_prototxt, write_caffemodel};
use skimjit_models::{Shape, Tensor};
use std::process::Stdio;

/// A folder with a pruned network.
fn workplace() -> Workplace {
    let place = Workplace::new();
    let arguments = ["synth", "lenet", "--sparsity", "90", "-o", "net.caffemodel"];
    place.ok(&arguments);
    place
}

fn compile(place: &Workplace, more: &[&str]) -> Value {
    let arguments = ["compile", "net.caffemodel", "--no-verify", "--threads", "1"];
    place.json(&[&arguments[..], more].concat())
}

/// Variant and why it, layer by layer.
fn choices(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let layers = report["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| (text(&layer["variant"]), text(&layer["basis"])))
        .collect()
}

fn count(report: &Value, basis: &str) -> usize {
    choices(report)
        .iter()
        .filter(|choice| choice.1 == basis)
        .count()
}

/// Networks of one inner product each, all different, compiled at the same time with one cache.
#[test]
fn compilations_at_once_lose_nothing() {
    let place = Workplace::new();
    let names: Vec<String> = (1..=8).map(|number| format!("n{number}")).collect();
    for (number, name) in (1..).zip(&names) {
        let text = format!(
            "layer {{ name: 'data' type: 'Input' top: 'data' input_param {{ shape {{ dim: 1 dim: 32 }} }} }}
             layer {{ name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'ip'
               inner_product_param {{ num_output: {} }} }}",
            16 * number
        );
        let (mut net, _) = parse_prototxt(&text, name).unwrap();
        place.write(&format!("{name}.prototxt"), text);
        let data = |count: usize| (0..count).map(|x| x as f32 + 1.0).collect();
        let blob = |dims: &[u32]| {
            let shape = Shape::new(dims).unwrap();
            let count = shape.count();
            blob::from_tensor(Tensor::new(shape, data(count)))
        };
        net.layer[1].blobs = vec![blob(&[16 * number, 32]), blob(&[16 * number])];
        write_caffemodel(&net, &place.path(&format!("{name}.caffemodel"))).unwrap();
    }
    let arguments = |name: &str, more: &[&str]| {
        let (model, artifact) = (format!("{name}.caffemodel"), format!("{name}.skim"));
        let mut all = vec!["compile".to_owned(), model, "-o".to_owned(), artifact];
        all.extend(["--no-verify", "--threads", "1"].map(str::to_owned));
        all.extend(more.iter().map(|&word| word.to_owned()));
        all
    };
    let run = |name: &str, more: &[&str]| {
        let arguments = arguments(name, more);
        place.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let started: Vec<_> = names
        .iter()
        .map(|name| run(name, &[]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut process in started {
        assert!(process.wait().unwrap().success());
    }
    for name in &names {
        let result = outcome(&mut run(name, &["--frozen"]));
        assert_eq!(result.code, Some(0), "{name}: {}", result.stderr);
    }
}

#[test]
fn the_second_compilation_measures_nothing() {
    let place = workplace();
    let first = compile(&place, &[]);
    let measured = count(&first, "measured");
    assert!(measured > 0, "{first}");
    let second = compile(&place, &["--frozen"]);
    assert_eq!(
        (count(&second, "measured"), count(&second, "remembered")),
        (0, measured)
    );
    let variants = |report| {
        choices(report)
            .into_iter()
            .map(|choice| choice.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(variants(&first), variants(&second));
    // Verification takes the same kernels, and an artifact names them.
    place.ok(&[
        "compile",
        "net.caffemodel",
        "--threads",
        "1",
        "--frozen",
        "-o",
        "net.skim",
    ]);
    let third = place.json(&["compile", "net.skim", "-o", "again.skim", "--no-verify"]);
    assert_eq!(
        (count(&third, "measured"), count(&third, "remembered")),
        (0, 0)
    );
    assert_eq!(variants(&first), variants(&third));
    let by_estimate = compile(&place, &["--no-tune"]);
    assert_eq!(
        count(&by_estimate, "measured") + count(&by_estimate, "remembered"),
        0
    );
}

#[test]
fn a_frozen_compilation_without_times_names_the_layer() {
    let place = workplace();
    for command in [
        &["compile", "--threads", "1"][..],
        &["time", "--tune"],
        &["explain"],
    ] {
        let arguments = [command, &["net.caffemodel", "--frozen"]].concat();
        let result = place.skimjit(&arguments);
        assert_eq!(result.code, Some(3), "{arguments:?} {}", result.stderr);
        assert!(
            result.stderr.starts_with("error: layer \"conv1\""),
            "{}",
            result.stderr
        );
        assert!(result.stderr.contains("tune cache"), "{}", result.stderr);
    }
    assert!(!place.path("tune.json").exists());
}

#[test]
fn a_cache_that_cannot_be_used_is_a_warning() {
    let place = workplace();
    let arguments = [
        "compile",
        "net.caffemodel",
        "--no-verify",
        "--threads",
        "1",
        "--tune-cache",
        "c.json",
    ];
    for text in [
        "",
        "{\"format\": 7, \"trials\": {}}",
        "{\"format\": 1, \"tr",
    ] {
        place.write("c.json", text);
        let result = place.skimjit(&arguments);
        assert_eq!(result.code, Some(0), "{}", result.stderr);
        assert!(
            result.stderr.starts_with("warning: c.json: "),
            "{}",
            result.stderr
        );
        // It was made anew.
        place.ok(&[&arguments[..], &["--frozen"]].concat());
    }
    // What is no tune cache is never replaced.
    for text in ["[[[[", "\u{0}\u{1}"] {
        place.write("c.json", text);
        let result = place.skimjit(&arguments);
        assert_eq!(result.code, Some(3), "{}", result.stderr);
        assert!(
            result.stderr.contains("a file of another kind"),
            "{}",
            result.stderr
        );
        assert_eq!(std::fs::read_to_string(place.path("c.json")).unwrap(), text);
    }
    std::fs::create_dir(place.path("folder")).unwrap();
    let folder = [&arguments[..arguments.len() - 1], &["folder"]].concat();
    let result = place.skimjit(&folder);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert!(
        result.stderr.contains("folder: found no file"),
        "{}",
        result.stderr
    );
}

#[test]
fn commands_that_go_by_estimates_measure_when_asked() {
    let place = workplace();
    // One thread: where tests take the cores from a team, its times are not kept.
    let timed = [
        "time",
        "net.caffemodel",
        "--iterations",
        "1",
        "--threads",
        "1",
    ];
    place.ok(&timed);
    assert!(!place.path("tune.json").exists());
    place.ok(&[&timed[..], &["--tune"]].concat());
    assert!(place.path("tune.json").exists());
    let bench = [
        "bench",
        "--net",
        "lenet",
        "--layers",
        "ip1",
        "--iterations",
        "1",
    ];
    place.ok(&[&bench[..], &["--tune-cache", "bench.json"]].concat());
    assert!(place.path("bench.json").exists());
}

#[test]
fn explain_gives_limits_candidates_and_advice() {
    let place = workplace();
    let arguments = ["explain", "net.caffemodel", "--iterations", "3"];
    let report = place.json(&[&arguments[..], &["--crossover"]].concat());
    let net = zoo::find("lenet").unwrap();
    for shape in zoo::layers(net)
        .unwrap()
        .iter()
        .filter(|shape| shape.has_weights())
    {
        let layer = find(&report["layers"], "layer", &shape.name);
        assert_eq!(layer["macs"].as_u64(), Some(shape.macs));
        let [time, limit] = ["time_ms", "limit_ms"].map(|key| number(&layer[key]));
        assert!(time > 0.0 && limit > 0.0, "{layer}");
        let expected = number(&layer["compute_ms"]).max(number(&layer["bytes_ms"]));
        assert!((limit - expected).abs() < 1e-12, "{layer}");
        let candidates = layer["candidates"].as_array().unwrap();
        assert!(
            candidates.iter().all(|c| number(&c["estimate_ms"]) > 0.0),
            "{layer}"
        );
        assert!(
            candidates.iter().any(|c| c["variant"] == layer["variant"]),
            "{layer}"
        );
        assert!(!layer["crossover"].is_null(), "{layer}");
    }
    let network = &report["network"];
    let parts = ["dense", "sparse", "other"].map(|part| number(&network[part]["time_ms"]));
    let sum = parts.iter().sum::<f64>() + number(&network["outside_ms"]);
    assert!(sum >= 0.9 * number(&network["total_ms"]), "{network}");
    let advice = report["advice"].as_array().unwrap();
    assert!(advice.len() <= 3);
    let saves: Vec<f64> = advice.iter().map(|a| number(&a["saves_ms"])).collect();
    assert!(
        saves.is_sorted_by(|a, b| a >= b) && saves.iter().all(|&ms| ms > 0.0),
        "{saves:?}"
    );

    // An artifact's choices are kept, its candidates are timed all the same.
    place.ok(&["compile", "net.caffemodel", "--threads", "1", "--no-verify"]);
    let report = place.json(&["explain", "net.skim", "--iterations", "1", "--frozen"]);
    let layer = find(&report["layers"], "layer", "conv2");
    assert_eq!(layer["basis"], "named");
    let candidates = layer["candidates"].as_array().unwrap();
    assert!(
        candidates.iter().any(|c| c["measured_ms"].is_number()),
        "{layer}"
    );

    let text = place.ok(&arguments);
    for words in ["GFLOP/s", "conv2", "times its limit", "sparse kernels: "] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn rounding_inner_products_says_what_it_changes() {
    let place = workplace();
    let report = compile(&place, &["--no-tune", "--bf16-fc", "-o", "rounded.skim"]);
    let rounding = &report["rounding"];
    let layers = rounding["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2, "{report}");
    for layer in layers {
        let change = number(&layer["largest_change"]);
        assert!(change > 0.0 && change <= 1.0 / 256.0, "{layer}");
    }
    let difference = number(&rounding["output_difference"]);
    assert!(difference > 0.0 && difference < 0.01, "{difference}");
    let exact = compile(&place, &["--no-tune", "-o", "exact.skim"]);
    assert!(exact["rounding"].is_null());
    let weight_bytes = |report: &Value| number(&report["weight_bytes"]);
    assert!(weight_bytes(&report) <= weight_bytes(&exact));
    place.ok(&["verify", "rounded.skim"]);
}
