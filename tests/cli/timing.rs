//! Times: what adds up, spreads, comparisons, streams, traces.

use crate::support::Workplace;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn steps_add_up_to_the_total_and_the_spread_is_told() {
    let place = Workplace::with_tiny_network();
    let report = place.json(&["time", "tiny.caffemodel", "--iterations", "20"]);
    let steps = report["steps"].as_array().unwrap();
    let steps: f64 = steps.iter().map(|step| number(&step["time_ms"])).sum();
    let total = number(&report["total_ms"]);
    let sum = steps + number(&report["outside_ms"]);
    assert!((sum - total).abs() < 1e-6 * total, "{sum} {total}");
    let [low, high] = [0, 1].map(|at| number(&report["quartiles_ms"][at]));
    let (least, median) = (number(&report["least_ms"]), number(&report["median_ms"]));
    assert!(least <= low && low <= median && median <= high, "{report}");
    assert!((low..=high).contains(&total), "{report}");
    assert!(number(&report["cpu_share"]) <= 1.0);
    let text = place.ok(&["time", "tiny.caffemodel", "--iterations", "20"]);
    assert!(text.contains("median") && text.contains("least"), "{text}");
}

#[test]
fn rows_of_explain_add_up_to_its_total() {
    let place = Workplace::with_tiny_network();
    let report = place.json(&["explain", "tiny.caffemodel", "--iterations", "10"]);
    let layers = report["layers"].as_array().unwrap();
    let layers: f64 = layers.iter().map(|layer| number(&layer["time_ms"])).sum();
    let network = &report["network"];
    let total = number(&network["total_ms"]);
    let sum = layers + number(&network["outside_ms"]);
    assert!((sum - total).abs() < 1e-6 * total, "{sum} {total}");
    assert!(number(&network["least_ms"]) <= number(&network["median_ms"]));
}

#[test]
fn a_measurement_is_compared_with_an_earlier_one() {
    let place = Workplace::with_tiny_network();
    let time = ["time", "tiny.caffemodel", "--iterations", "5"];
    let before = place.ok(&[&time[..], &["--json"]].concat());
    place.write("before.json", &before);
    let compare = [&time[..], &["--compare", "before.json"]].concat();
    let text = place.ok(&compare);
    for words in [
        "before ms",
        "now ms",
        "times as fast: median",
        "total",
        "conv1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let both = place.json(&compare);
    let ratio = number(&both["before"]["median_ms"]) / number(&both["median_ms"]);
    assert!((number(&both["speedup"]) - ratio).abs() < 1e-9);

    let other = place.skimjit(&[&compare[..], &["--batch", "2"]].concat());
    assert_eq!(other.code, Some(0), "{}", other.stderr);
    assert!(other.stderr.contains("batch 2"), "{}", other.stderr);
    let strict = place.skimjit(&[&compare[..], &["--batch", "2", "--strict"]].concat());
    assert_eq!(strict.code, Some(3), "{}", strict.stderr);
    assert!(
        strict.stderr.contains("found 1 warning"),
        "{}",
        strict.stderr
    );
    place.write("other.json", "{\"layers\": []}");
    let refused = place.skimjit(&[&time[..], &["--compare", "other.json"]].concat());
    assert_eq!(refused.code, Some(3));
    for words in ["other.json", "skimjit time --json"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

#[test]
fn streams_share_the_cores_and_count_all_images() {
    let place = Workplace::with_tiny_network();
    let time = [
        "time",
        "tiny.caffemodel",
        "--streams",
        "2",
        "--iterations",
        "7",
    ];
    let report = place.json(&[&time[..], &["--batch", "3", "--threads", "1"]].concat());
    assert_eq!(
        (&report["streams"], &report["runs"], &report["threads"]),
        (&2.into(), &14.into(), &1.into())
    );
    assert!(number(&report["images_per_second"]) > 0.0);
    assert!(number(&report["percentile_95_ms"]) >= number(&report["median_ms"]));
    let text = place.ok(&time);
    assert!(text.contains("2 streams of"), "{text}");
    let refused = place.skimjit(&[&time[..], &["--trace", "t.json"]].concat());
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[test]
fn a_trace_has_every_step_of_every_thread() {
    let place = Workplace::with_tiny_network();
    let time = [
        "time",
        "tiny.caffemodel",
        "--iterations",
        "2",
        "--threads",
        "2",
    ];
    let text = place.ok(&[&time[..], &["--trace", "trace.json"]].concat());
    assert!(text.contains("trace.json"), "{text}");
    let trace = std::fs::read_to_string(place.path("trace.json")).unwrap();
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let threads = events.iter().filter(|event| event["ph"] == "M").count();
    assert_eq!(threads, 2);
    let convs = events.iter().filter(|event| event["name"] == "conv1");
    let convs: Vec<_> = convs.collect();
    assert!(convs.len() >= 4, "{trace}");
    assert!(convs.iter().all(|event| number(&event["dur"]) >= 0.0));
    // Of one thread, one after the other.
    for thread in 0..2 {
        let own = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["tid"] == thread);
        let mut end = 0.0;
        for event in own {
            let begin = number(&event["ts"]);
            assert!(begin >= end - 1e-3, "{event}");
            end = begin + number(&event["dur"]);
        }
    }
}
