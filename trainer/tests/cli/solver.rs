//! What solver definitions say, against what runs do.

use crate::support::{From, NET, Workplace, weights};
use skimjit_caffe::{read_caffemodel, write_caffemodel};
use skimjit_trainer::solver::report::{Metrics, Progress, Report, Silent};
use skimjit_trainer::solver::{Request, Solver};

/// Keeps what a run tells.
#[derive(Default)]
struct Recorder {
    lines: Vec<String>,
    metrics: Vec<Metrics>,
    losses: Vec<f32>,
    rates: Vec<f32>,
}

impl Report for Recorder {
    fn line(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }
    fn metrics(&mut self, metrics: &Metrics) {
        self.metrics.push(metrics.clone());
    }
    fn progress(&mut self, progress: &Progress) {
        self.losses.push(progress.loss);
        self.rates.push(progress.rate);
    }
}

/// The network without what is random, with batches of `batch`.
fn plain(batch: u32) -> String {
    NET.replace(" mirror: true", "")
        .replace(" crop_size: 7", "")
        .replace("dropout_ratio: 0.2", "dropout_ratio: 0")
        .replace("batch_size: 8", &format!("batch_size: {batch}"))
}

/// Runs a solver to its end.
fn run(place: &Workplace) -> (Solver, Recorder) {
    let mut solver = place.open(&From::default());
    let mut recorder = Recorder::default();
    solver.solve(&mut recorder, &mut || None).unwrap();
    (solver, recorder)
}

fn assert_close(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)], limit: f32) {
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let largest = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(largest <= limit, "{name}: {largest}");
    }
}

/// Checklist 45.
#[test]
fn two_batches_of_an_iteration_equal_one_of_both() {
    let place = Workplace::with_tiny_network();
    let mut results = Vec::new();
    for (batch, size) in [(8, 1), (4, 2), (2, 4)] {
        place.write("net.prototxt", &plain(batch));
        place.solver(&format!("max_iter: 12 iter_size: {size}"));
        let (mut solver, recorder) = run(&place);
        results.push((weights(&mut solver), recorder.losses));
    }
    for (other, losses) in &results[1..] {
        assert_close(&results[0].0, other, 2e-5);
        let pairs = results[0].1.iter().zip(losses);
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
    }
}

/// Length of the first step, without momentum and decay.
fn step(place: &Workplace, changes: &str) -> f32 {
    let common = "momentum: 0 weight_decay: 0 base_lr: 0.5 max_iter: 1 test_iter: 1 ";
    place.solver(&(common.to_owned() + changes));
    let mut solver = place.open(&From::default());
    let before = weights(&mut solver);
    solver.iterate(&mut Silent).unwrap();
    let after = weights(&mut solver);
    let differences = before
        .iter()
        .zip(&after)
        .flat_map(|((_, a), (_, b))| a.iter().zip(b));
    differences
        .map(|(a, b)| (a - b) * (a - b))
        .sum::<f32>()
        .sqrt()
}

/// Checklist 45.
#[test]
fn gradients_are_clipped_to_a_norm_of_all() {
    let place = Workplace::with_tiny_network();
    place.write(
        "net.prototxt",
        &plain(8).replace("lr_mult: 2", "lr_mult: 1"),
    );
    let free = step(&place, "");
    let near = |found: f32, expected: f32| {
        assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}")
    };
    near(step(&place, "clip_gradients: 0.01"), 0.5 * 0.01);
    near(step(&place, "clip_gradients: 1e6"), free);
    // Caffe clips the sum over the batches, before it becomes a mean.
    near(
        step(&place, "clip_gradients: 0.01 iter_size: 2"),
        0.5 * 0.01 / 2.0,
    );
}

#[test]
fn tests_run_when_they_are_due() {
    let place = Workplace::with_tiny_network();
    let tested = |changes: &str| {
        place.solver(changes);
        let (_, recorder) = run(&place);
        let iteration = |record: &Metrics| match record {
            Metrics::Test { iteration, .. } => Some(*iteration),
            _ => None,
        };
        recorder
            .metrics
            .iter()
            .filter_map(iteration)
            .collect::<Vec<u64>>()
    };
    assert_eq!(tested("max_iter: 20 test_interval: 10"), [0, 10, 20]);
    assert_eq!(
        tested("max_iter: 25 test_interval: 10 test_initialization: false"),
        [10, 20]
    );
    assert_eq!(tested("max_iter: 5 test_interval: 10"), [0]);
}

#[test]
fn tests_are_means_over_their_batches() {
    let place = Workplace::with_tiny_network();
    let mut results = Vec::new();
    for (batches, times) in [(6, 1), (1, 6), (2, 3)] {
        place.solver(&format!("test_iter: {batches} test_compute_loss: true"));
        let mut solver = place.open(&From::default());
        let mut sum = 0.0;
        let mut recorder = Recorder::default();
        for _ in 0..times {
            let outputs = solver.test(&mut recorder).unwrap();
            let accuracy = outputs[0]
                .iter()
                .find(|output| output.name == "accuracy")
                .unwrap();
            sum += accuracy.value;
        }
        assert!(
            recorder
                .lines
                .iter()
                .any(|line| line.starts_with("Test loss: "))
        );
        results.push(sum / f64::from(times));
    }
    assert!(
        results.iter().all(|mean| (mean - results[0]).abs() < 1e-6),
        "{results:?}"
    );
}

#[test]
fn displayed_losses_are_means_of_the_last() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 8");
    let single = run(&place).1.losses;
    place.solver("max_iter: 8 average_loss: 3");
    let smooth = run(&place).1.losses;
    for (index, found) in smooth.iter().enumerate() {
        let window = &single[index.saturating_sub(2)..=index];
        let mean = window.iter().sum::<f32>() / window.len() as f32;
        assert!((found - mean).abs() < 1e-5, "{index}: {found} {mean}");
    }
}

#[test]
fn multistep_goes_on_where_it_was() {
    let place = Workplace::with_tiny_network();
    let steps =
        "max_iter: 30 lr_policy: \"multistep\" gamma: 0.5 stepvalue: 8 stepvalue: 16 snapshot: 100";
    place.solver(steps);
    let (mut whole, recorder) = run(&place);
    let rates = recorder.rates;
    assert_eq!(
        (rates[7], rates[8], rates[15], rates[16], rates[29]),
        (0.02, 0.01, 0.01, 0.005, 0.005)
    );
    for stop in [8, 12, 16, 20] {
        let mut solver = place.open(&From::default());
        let mut done = 0;
        let mut asked = || {
            done += 1;
            (done == stop).then_some(Request::Stop)
        };
        solver.solve(&mut Silent, &mut asked).unwrap();
        let state = place.path(&format!("snap/tiny_iter_{stop}.solverstate"));
        let mut solver = place.open(&From {
            snapshot: Some(&state),
            ..From::default()
        });
        let mut recorder = Recorder::default();
        solver.solve(&mut recorder, &mut || None).unwrap();
        assert_eq!(recorder.rates, rates[stop..]);
        assert_eq!(
            weights(&mut solver),
            weights(&mut whole),
            "stopped at {stop}"
        );
    }
}

/// Two inner products of the same input, whose sum is compared; `param` names the weights.
fn pair(params: [&str; 2]) -> String {
    let data = &plain(8)[..plain(8).find("layer { name: \"conv1\"").unwrap()];
    let layer = |name: &str, param: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"data\" top: \"{name}\" param {{ {param} }} \
             inner_product_param {{ num_output: 10 bias_term: false weight_filler {{ type: \"xavier\" }} }} }}\n"
        )
    };
    format!(
        "{data}{}{}layer {{ name: \"sum\" type: \"Eltwise\" bottom: \"a\" bottom: \"b\" top: \"sum\" \
         eltwise_param {{ coeff: 1 coeff: -0.25 }} }}\n\
         layer {{ name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"sum\" bottom: \"label\" top: \"loss\" }}\n",
        layer("a", params[0]),
        layer("b", params[1])
    )
}

#[test]
fn shared_parameters_take_the_gradients_of_both_layers() {
    let place = Workplace::with_tiny_network();
    place.write("net.prototxt", &pair(["name: \"w\"", "name: \"w\""]));
    place.solver("momentum: 0 weight_decay: 0 max_iter: 1 snapshot: 1");
    let mut shared = place.open(&From::default());
    let start = weights(&mut shared);
    assert_eq!(start.len(), 1);
    shared.snapshot(&mut Silent).unwrap();
    shared.iterate(&mut Silent).unwrap();
    shared.snapshot(&mut Silent).unwrap();
    let both = weights(&mut shared);
    // Both layers are in the snapshot, with the same weights.
    let net = read_caffemodel(&place.path("snap/tiny_iter_1.caffemodel")).unwrap();
    let stored: Vec<&Vec<f32>> = net
        .layer
        .iter()
        .filter_map(|layer| layer.blobs.first())
        .map(|blob| &blob.data)
        .collect();
    assert_eq!(stored, [&both[0].1, &both[0].1]);
    // Layers of their own, from the same weights.
    place.write("net.prototxt", &pair(["lr_mult: 1", "lr_mult: 1"]));
    let file = [place.path("snap/tiny_iter_0.caffemodel")];
    let mut own = place.open(&From {
        weights: &file,
        ..From::default()
    });
    assert_eq!(weights(&mut own)[1].1, start[0].1);
    own.iterate(&mut Silent).unwrap();
    let own = weights(&mut own);
    for (index, start) in start[0].1.iter().enumerate() {
        let sum = (own[0].1[index] - start) + (own[1].1[index] - start);
        let found = both[0].1[index] - start;
        assert!((sum - found).abs() < 1e-6, "{index}: {found} {sum}");
    }
}

#[test]
fn layers_without_rate_stay() {
    let place = Workplace::with_tiny_network();
    let frozen = NET.replacen(
        "param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }",
        "param { lr_mult: 0 } param { lr_mult: 0 }",
        1,
    );
    place.write("net.prototxt", &frozen);
    place.solver("max_iter: 10");
    let before = weights(&mut place.open(&From::default()));
    let after = weights(&mut run(&place).0);
    assert_eq!(before[..2], after[..2]);
    assert!(before[2] != after[2] && before[3] != after[3]);
}

#[test]
fn states_choose_layers() {
    let place = Workplace::with_tiny_network();
    let include = |rule: &str| {
        format!(
            "layer {{ name: \"extra\" type: \"InnerProduct\" bottom: \"ip1\" top: \"ip1\" include {{ {rule} }} inner_product_param {{ num_output: 10 weight_filler {{ type: \"xavier\" }} }} }}\n"
        )
    };
    let count = |rule: &str, state: &str| {
        let (head, tail) = NET.split_at(NET.find("layer { name: \"accuracy\"").unwrap());
        // Not in place: inner products have results of another shape.
        let extra = include(rule).replace("top: \"ip1\"", "top: \"ip2\"");
        place.write("net.prototxt", &(head.to_owned() + &extra + &tail.replace("layer { name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"ip1\"", "layer { name: \"silence\" type: \"Silence\" bottom: \"data\" }\nlayer { name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"ip1\"")));
        place.solver(&format!("max_iter: 1 {state}"));
        place.open(&From::default()).engine().params().len()
    };
    assert_eq!(count("stage: \"deep\"", ""), 4);
    assert_eq!(
        count(
            "stage: \"deep\"",
            "train_state: { stage: \"deep\" } test_state: { stage: \"deep\" }"
        ),
        6
    );
    assert_eq!(count("min_level: 2", "train_state: { level: 1 }"), 4);
    assert_eq!(
        count(
            "min_level: 2",
            "train_state: { level: 2 } test_state: { level: 2 }"
        ),
        6
    );
}

#[test]
fn of_several_weight_files_the_later_wins() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 2");
    let mut solver = run(&place).0;
    let trained = weights(&mut solver);
    let net = read_caffemodel(&place.path("snap/tiny_iter_2.caffemodel")).unwrap();
    let mut other = net.clone();
    other.layer.retain(|layer| layer.name() == "ip1");
    other.layer[0].blobs[0].data.fill(0.125);
    let files = ["all.caffemodel", "part.caffemodel"].map(|name| place.path(name));
    write_caffemodel(&net, &files[0]).unwrap();
    write_caffemodel(&other, &files[1]).unwrap();
    let found = weights(&mut place.open(&From {
        weights: &files,
        ..From::default()
    }));
    assert_eq!(found[..2], trained[..2]);
    assert!(found[2].1.iter().all(|&w| w == 0.125));
    assert_eq!(found[3], trained[3]);
    // And on the command line.
    place.solver("max_iter: 0");
    place.ok(&[
        "train",
        "--solver",
        "solver.prototxt",
        "--quiet",
        "--weights",
        "all.caffemodel,part.caffemodel",
    ]);
    let kept = read_caffemodel(&place.path("snap/tiny_iter_0.caffemodel")).unwrap();
    let ip1 = kept
        .layer
        .iter()
        .find(|layer| layer.name() == "ip1")
        .unwrap();
    assert!(ip1.blobs[0].data.iter().all(|&w| w == 0.125));
    assert_eq!(ip1.blobs[1].data, trained[3].1);
}
