//! Training in the Winograd domain, and pruning of spatial kernels seen in it.

mod support;

use skimjit_caffe::import::ImportOptions;
use skimjit_caffe::solver::SolverDefinition;
use skimjit_caffe::{Definition, Weights};
use skimjit_models::Care;
use skimjit_models::ops::winograd::WinogradTransform;
use skimjit_models::{Op, Shape};
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::param::Role;
use skimjit_trainer::solver::report::{Metrics, Progress, Report};
use skimjit_trainer::solver::{Solver, Start};
use std::path::Path;

/// Keeps what a run tells.
#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    losses: Vec<f64>,
}

impl Report for Kept {
    fn line(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }
    fn metrics(&mut self, metrics: &Metrics) {
        if let Metrics::Train { loss, .. } = metrics {
            self.losses.push(*loss);
        }
    }
    fn progress(&mut self, _progress: &Progress) {}
}

impl Kept {
    /// Numbers below the last line of that title.
    fn numbers(&self, title: &str) -> Vec<f64> {
        let found = self.lines.iter().rev().find(|line| line.contains(title));
        let text = found.unwrap_or_else(|| panic!("no line {title:?}"));
        let numbers = text.lines().nth(1).unwrap_or_default().split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

const LAYERS: &str = r#"
layer { name: "r" type: "ReLU" bottom: "w" top: "w" }
layer { name: "i" type: "InnerProduct" bottom: "w" top: "i" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } param { regularization_type: "L2" } }
"#;

fn convolution(kind: &str, bottom: &str) -> String {
    format!(
        "layer {{ name: \"w\" type: \"{kind}\" bottom: \"{bottom}\" top: \"w\" convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: \"xavier\" }} }} }}\n{LAYERS}"
    )
}

/// Trains on bars, across or upright.
fn train(folder: &Path, kind: &str, solver: &str, weights: &[Weights]) -> (Solver, Kept) {
    let layers = convolution(kind, "data");
    let net = format!(
        "{}{layers}{}",
        support::data_layers(folder, 16),
        support::JUDGES
    );
    std::fs::write(folder.join("net.prototxt"), net).unwrap();
    let file = folder.join("solver.prototxt");
    let text = format!(
        "net: \"{}\" test_iter: 2 test_interval: 20 momentum: 0.9 lr_policy: \"fixed\"
         display: 20 max_iter: 40 snapshot_after_train: false random_seed: 3 {solver}",
        folder.join("net.prototxt").display()
    );
    std::fs::write(&file, text).unwrap();
    let definition = SolverDefinition::read(&file, Care::default(), &mut |_| ()).unwrap();
    let settings = definition.settings().unwrap();
    let networks = definition.networks(Care::default(), &mut |_| ()).unwrap();
    let mut kept = Kept::default();
    let start = Start {
        weights,
        resume: None,
    };
    let engine = Box::new(CpuEngine::default());
    let mut solver = Solver::new(settings, &networks, engine, start, &mut kept).unwrap();
    solver.solve(&mut kept, &mut || None).unwrap();
    (solver, kept)
}

fn weights(solver: &mut Solver) -> Vec<f32> {
    let mut data = Vec::new();
    solver
        .engine()
        .edit(0, &mut |_, state| data.clone_from(&state.data));
    data
}

/// Checklist 53.
#[test]
fn a_winograd_layer_is_trained_pruned_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    support::bars(folder.path());
    let solver = "base_lr: 0.001 weight_decay: 0.002 regularization_type: \"L1\" prune_threshold: 0.05 measure_threshold: 0 winograd_adjust_threshold: 1";
    let (mut solver, kept) = train(folder.path(), "Winograd", solver, &[]);
    let param = solver.engine().params()[0].clone();
    assert_eq!(param.role, Role::Winograd);
    assert_eq!(param.shape, Shape::new([6, 6, 4, 1]).unwrap());
    assert!(
        kept.losses.last() < kept.losses.first(),
        "{:?}",
        kept.losses
    );
    // Thresholds by place: 1 over the norm of what an element does to the output.
    let factor = [1.0, 0.5, 0.5, 0.108_465, 0.108_465, 1.0];
    let data = weights(&mut solver);
    let mut below = 0;
    for (index, u) in data.iter().enumerate() {
        let place = index / 4;
        let limit = 0.05 * factor[place / 6] * factor[place % 6];
        assert!(*u == 0.0 || u.abs() > limit * 0.999, "{index}: {u} {limit}");
        below += usize::from(*u != 0.0 && u.abs() < 0.05);
    }
    assert!(below > 0 && data.contains(&0.0));
    // What is stored is sparse; the kernels it stands for are not. Lines describe the weights before
    // the update of their iteration.
    let [element, winograd] = ["Element Sparsity", "  Winograd Sparsity"].map(|t| kept.numbers(t));
    assert!(
        winograd[0] > 0.0 && element[0] == 0.0,
        "{element:?} {winograd:?}"
    );
    assert_eq!(element[1], winograd[1]);
    assert!(
        kept.lines
            .iter()
            .any(|line| line.contains("Test net output #0: accuracy"))
    );

    let trained = solver.trained();
    let deploy = format!(
        "layer {{ name: \"x\" type: \"Input\" top: \"x\" input_param {{ shape {{ dim: 1 dim: 1 dim: 8 dim: 8 }} }} }}\n{}",
        convolution("Winograd", "x")
    );
    let deploy = Definition::parse(&deploy, "deploy.prototxt").unwrap();
    let imported = deploy.import(std::slice::from_ref(&trained), ImportOptions::default());
    let imported = imported.unwrap();
    let Op::WinogradConvolution(op) = &imported.graph.nodes[0].op else {
        panic!("{:?}", imported.graph.nodes[0].op)
    };
    assert_eq!(imported.graph.weight(op.weights).data(), data);

    // Trained further from there.
    let more = "base_lr: 0.001 weight_decay: 0 prune_threshold: 0";
    train(folder.path(), "Winograd", more, &[trained]);
}

#[test]
fn spatial_weights_are_converted_once() {
    let folder = tempfile::tempdir().unwrap();
    support::bars(folder.path());
    let still = "weight_decay: 0 base_lr: 0";
    let (mut spatial, _) = train(folder.path(), "Convolution", still, &[]);
    let kernels = weights(&mut spatial);
    let loaded = spatial.trained();
    let (mut winograd, _) = train(folder.path(), "Winograd", still, &[loaded]);
    let expected = WinogradTransform::of(3).unwrap().kernels(&kernels);
    assert_eq!(weights(&mut winograd), expected);
    let again = winograd.trained();
    let (mut resumed, _) = train(folder.path(), "Winograd", still, &[again]);
    assert_eq!(weights(&mut resumed), expected);
}

#[test]
fn l1_winograd_prunes_kernels_in_the_domain() {
    let folder = tempfile::tempdir().unwrap();
    support::bars(folder.path());
    let solver = |adjust: u32| {
        format!(
            "base_lr: 0.05 weight_decay: 0.001 regularization_type: \"L1_Winograd\" prune_threshold: 0.02 measure_threshold: 0.02 winograd_adjust_threshold: {adjust}"
        )
    };
    let mut shares = Vec::new();
    for adjust in [0, 1] {
        let (mut trained, kept) = train(folder.path(), "Convolution", &solver(adjust), &[]);
        assert!(kept.losses.last() < kept.losses.first());
        let param = trained.engine().params()[0].clone();
        assert_eq!(param.shape.dims(), [4, 1, 3, 3]);
        let old = kept.numbers("Winograd Old Sparsity");
        // One line of fibers and slices for the one layer pruned in the domain.
        let fibers = kept
            .lines
            .iter()
            .rev()
            .find(|line| line.contains("fiber/slice"));
        assert_eq!(fibers.unwrap().lines().count(), 2);
        let terms = kept
            .lines
            .iter()
            .rev()
            .find(|line| line.contains("Total regularization"));
        assert!(!terms.unwrap().contains("terms: 0 "), "{terms:?}");
        shares.push(old[0]);
    }
    assert!(shares[1] > 0.0, "{shares:?}");
    // Factors are above 1: adjusted thresholds take more.
    assert!(shares[1] >= shares[0], "{shares:?}");
}
