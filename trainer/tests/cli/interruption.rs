//! Runs that are killed or asked to stop.

use crate::support::{NET, Workplace, outcome};
use skimjit_caffe::{read_caffemodel, read_solverstate};
use skimjit_testing::Noise;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Iteration of the newest solverstate; every file under a final name is read.
fn newest(place: &Workplace) -> Option<u64> {
    let mut newest = None;
    // What a killed run was writing is hidden.
    let files = place.files("snap");
    for name in files.into_iter().filter(|name| !name.starts_with('.')) {
        let path = place.path("snap").join(&name);
        let Some((stem, extension)) = name.rsplit_once('.') else {
            panic!("{name}");
        };
        match extension {
            "caffemodel" => drop(read_caffemodel(&path).unwrap()),
            "solverstate" => {
                let state = read_solverstate(&path).unwrap();
                let number = stem.rsplit('_').next().and_then(|n| n.parse::<u64>().ok());
                assert_eq!(u64::try_from(state.iter()).ok(), number, "{name}");
                assert_eq!(state.history.len(), 4, "{name}");
                let model = path.with_extension("caffemodel");
                assert!(model.is_file(), "{name} without its weights");
                newest = newest.max(number);
            }
            _ => panic!("{name}"),
        }
    }
    newest
}

/// The last iteration whose snapshot was reported as written.
fn reported(place: &Workplace) -> Option<u64> {
    let text = std::fs::read_to_string(place.path("log/metrics.jsonl")).unwrap_or_default();
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let snapshots = records.filter(|record: &serde_json::Value| record["kind"] == "snapshot");
    snapshots
        .filter_map(|record| record["iteration"].as_u64())
        .max()
}

fn train(place: &Workplace, snapshot: Option<u64>, threads: &str) -> Child {
    let state = snapshot.map(|n| format!("snap/tiny_iter_{n}.solverstate"));
    let mut arguments = vec![
        "train",
        "--solver",
        "solver.prototxt",
        "--log",
        "log",
        "--quiet",
    ];
    arguments.extend(["--threads", threads]);
    if let Some(state) = &state {
        arguments.extend(["--snapshot", state]);
    }
    place.command(&arguments).spawn().unwrap()
}

/// On one, two and three threads, among which images are shared out.
///
/// Checklist 55, 56.
#[test]
fn killed_runs_go_on_to_the_same_bits() {
    let changes = "max_iter: 600 snapshot: 7 test_interval: 100";
    let whole = Workplace::with_tiny_network();
    whole.solver(changes);
    let started = Instant::now();
    let done = outcome(train(&whole, None, "1").wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let duration = started.elapsed().as_millis() as u64;

    let place = Workplace::with_tiny_network();
    place.solver(changes);
    let (mut noise, mut kills) = (Noise::new(5), 0);
    loop {
        let threads = ["1", "2", "3"][kills % 3];
        let from = newest(&place);
        let mut child = train(&place, from, threads);
        // The last runs are left alone: a slow machine gets to the end too.
        if kills < 9 {
            let pause = 5 + noise.below((duration / 3).max(20));
            std::thread::sleep(Duration::from_millis(pause));
            // Fails where it has ended already.
            let _ = child.kill();
        }
        let ended = outcome(child.wait_with_output().unwrap());
        let found = newest(&place);
        assert!(
            found >= reported(&place),
            "{found:?} {:?}",
            reported(&place)
        );
        assert!(found >= from);
        match ended.code {
            Some(0) => break,
            None => kills += 1,
            _ => panic!("{}", ended.stderr),
        }
    }
    assert!(kills >= 2, "{kills} kills in {duration} ms");
    for file in [
        "snap/tiny_iter_600.caffemodel",
        "snap/tiny_iter_600.solverstate",
    ] {
        assert!(
            whole.bytes(file) == place.bytes(file),
            "{file} after {kills} kills"
        );
    }
    // Logs of killed runs can be drawn.
    place.ok(&["plot", "log"]);
}

/// Waits until a file is there.
fn wait_for(place: &Workplace, file: &str) {
    let started = Instant::now();
    while !place.path(file).is_file() {
        assert!(started.elapsed() < Duration::from_secs(60), "no {file}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Checklist 55.
#[test]
fn signals_snapshot_and_stop() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 1000000 snapshot: 20 test_interval: 100000");
    let child = train(&place, None, "1");
    wait_for(&place, "snap/tiny_iter_20.solverstate");
    // Between the multiples of 20 there are only the snapshots that were asked for.
    let asked = |place: &Workplace| {
        let numbers = place.files("snap").into_iter().filter_map(|name| {
            name.strip_suffix(".solverstate")?
                .rsplit('_')
                .next()?
                .parse::<u64>()
                .ok()
        });
        numbers.filter(|n| n % 20 != 0).count()
    };
    let started = Instant::now();
    while asked(&place) == 0 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "SIGHUP without snapshot"
        );
        signal(&child, "-HUP");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = newest(&place).unwrap();
    wait_for(
        &place,
        &format!("snap/tiny_iter_{}.solverstate", (before / 20 + 2) * 20),
    );
    signal(&child, "-INT");
    let ended = outcome(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let last = newest(&place).unwrap();
    assert!(last > before);
    let told = format!(
        "stopped: after {last} of 1000000 iterations; --snapshot snap/tiny_iter_{last}.solverstate"
    );
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    let log = String::from_utf8(place.bytes("log/train.info")).unwrap();
    assert!(log.contains("Optimization stopped early."));
}

#[test]
fn pruning_methods_go_on_after_a_stop() {
    let masked = NET.replace(
        "name: \"ip1\" type",
        "connectivity_mode: DISCONNECTED_ELTWISE name: \"ip1\" type",
    );
    let run = |place: &Workplace, parts: &[u32]| {
        place.write("net.prototxt", NET);
        place.solver("max_iter: 40 regularization_type: \"L1\" prune_threshold: 0.01 max_threshold_factor: 10 snapshot_prefix: \"snap/pruned\"");
        place.ok(&["train", "--solver", "solver.prototxt", "--quiet"]);
        place.write("net.prototxt", &masked);
        let mut from = None;
        for iterations in parts {
            place.solver(&format!("max_iter: {iterations} prune_threshold: 0"));
            let state = from.map(|n| format!("snap/tiny_iter_{n}.solverstate"));
            let start = match &state {
                None => ["--weights", "snap/pruned_iter_40.caffemodel"],
                Some(state) => ["--snapshot", state.as_str()],
            };
            let mut arguments = vec!["train", "--solver", "solver.prototxt", "--quiet"];
            arguments.extend(start);
            place.ok(&arguments);
            from = Some(*iterations);
        }
        let net = read_caffemodel(&place.path("snap/tiny_iter_60.caffemodel")).unwrap();
        let layer = net.layer.into_iter().find(|layer| layer.name() == "ip1");
        layer.unwrap().blobs[0].data.clone()
    };
    let (once, parted) = (
        Workplace::with_tiny_network(),
        Workplace::with_tiny_network(),
    );
    let (a, b) = (run(&once, &[60]), run(&parted, &[13, 41, 60]));
    assert_eq!(a, b);
    let zeros = a.iter().filter(|w| **w == 0.0).count();
    assert!(zeros > a.len() / 20, "{zeros} of {}", a.len());
}
