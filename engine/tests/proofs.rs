//! Every kernel of the zoo's networks is proved: what `skimjit verify --kernels` does, for both
//! instruction sets on any computer, as the code is decoded and not run.

use skimjit::{CompileOptions, Isa, Model};
use skimjit_caffe::{import, zoo};
use skimjit_models::{ElementType, Pattern};
use skimjit_runtime::KernelInspector;
use skimjit_runtime::kernels::{
    Built, ConvProblem, FcProblem, Planes, Problem, Values, Weights, registry,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// Weights times pixels from which on a layer is proved with fewer output channels, then with fewer lines.
const MOST_PRODUCTS: u64 = 1_000_000;
/// Output channels of a group that stay whatever they cost, a block of every variant.
const LEAST_CHANNELS: u32 = 32;
/// Lines of the result that stay.
const LEAST_LINES: u32 = 16;
/// Per cent of the weights that are zero, where no pruned model was published.
const ZEROS: f64 = 85.0;

/// Proves kernels while a network is planned.
struct Prover {
    isa: Isa,
    /// Every kernel as it is; otherwise layers of one shape once, large ones in part.
    whole: bool,
    seen: Mutex<HashSet<String>>,
    proved: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

impl KernelInspector for Prover {
    fn inspect(
        &self,
        layer: &str,
        name: &str,
        problem: &Problem,
        weights: Weights<'_>,
        built: &Built,
    ) {
        if !self.whole
            && !self
                .seen
                .lock()
                .unwrap()
                .insert(format!("{name} {problem:?}"))
        {
            return;
        }
        let proof = match narrowed(problem, weights).filter(|_| !self.whole) {
            Some(narrow) => narrow.prove(name, self.isa),
            None => skimjit_verifier::verify(problem, weights, self.isa, built)
                .map_err(|fault| fault.to_string()),
        };
        let kernel = format!("{layer}, {name}, {}", self.isa);
        match proof {
            Ok(_) => self.proved.lock().unwrap().push(kernel),
            Err(fault) => self
                .failures
                .lock()
                .unwrap()
                .push(format!("{kernel}: {fault}")),
        }
    }
}

/// A part of a layer.
struct Narrow {
    problem: Problem,
    values: Vec<f32>,
    pattern: Pattern,
    bias: Vec<f32>,
}

impl Narrow {
    fn prove(&self, name: &str, isa: Isa) -> Result<skimjit_verifier::Proof, String> {
        let weights = Weights {
            values: Values::All(&self.values),
            pattern: &self.pattern,
            bias: &self.bias,
            element: ElementType::narrowest(&self.values),
        };
        let variant = registry::find(name).expect("a variant of the registry");
        let built = variant
            .build(&self.problem, weights, isa)
            .map_err(|error| error.to_string())?;
        skimjit_verifier::verify(&self.problem, weights, isa, &built)
            .map_err(|fault| fault.to_string())
    }
}

/// The first channels of each group, and the first lines, of a layer that is too large.
fn narrowed(problem: &Problem, weights: Weights<'_>) -> Option<Narrow> {
    let (groups, channels, pixels) = match problem {
        Problem::Conv(p) => (p.groups, p.ocg(), p.dst.hw()),
        Problem::Fc(p) => (1, p.outputs, 1),
        _ => return None,
    };
    let products = weights.pattern.nnz() as u64 * u64::from(pixels);
    let kept = (u64::from(channels) * MOST_PRODUCTS / products.max(1)) as u32;
    // A last block that is not full stays so.
    let kept =
        kept.max(LEAST_CHANNELS) / LEAST_CHANNELS * LEAST_CHANNELS + channels % LEAST_CHANNELS;
    if kept >= channels {
        return None;
    }
    let rows =
        (0..groups).flat_map(|group| (0..kept).map(move |row| (group * channels + row) as usize));
    let cols = weights.pattern.cols() as usize;
    let all = weights.all();
    let values: Vec<f32> = rows
        .clone()
        .flat_map(|row| &all[row * cols..][..cols])
        .copied()
        .collect();
    Some(Narrow {
        problem: with_channels(
            problem,
            groups * kept,
            products * u64::from(kept) / u64::from(channels),
        ),
        pattern: Pattern::from_weights(groups * kept, cols as u32, &values),
        values,
        bias: rows
            .filter_map(|row| weights.bias.get(row).copied())
            .collect(),
    })
}

fn with_channels(problem: &Problem, channels: u32, products: u64) -> Problem {
    match problem {
        Problem::Conv(p) => Problem::Conv(with_lines(
            ConvProblem {
                dst: Planes {
                    c: channels,
                    ..p.dst
                },
                ..p.clone()
            },
            products,
        )),
        Problem::Fc(p) => Problem::Fc(FcProblem {
            outputs: channels,
            ..p.clone()
        }),
        other => other.clone(),
    }
}

/// With the first lines; planes are as far apart as before.
fn with_lines(mut p: ConvProblem, products: u64) -> ConvProblem {
    let kept = (u64::from(p.dst.h) * MOST_PRODUCTS / products.max(1)) as u32;
    let kept = kept.max(LEAST_LINES);
    let padded = (kept - 1) * p.window.stride[0] + p.window.extent(0) as u32;
    if kept < p.dst.h && u64::from(padded) > p.window.pads(0) {
        p.dst.h = kept;
        p.src.h = padded - p.window.pads(0) as u32;
    }
    p
}

fn model(net: &zoo::Net) -> Model {
    let sparsity = match net.published {
        Some(_) => zoo::Sparsity::Published,
        None => zoo::Sparsity::Percent(ZEROS),
    };
    let weights = zoo::synthesize(net, sparsity, 7).unwrap();
    let imported = import::import(weights, vec![], &import::ImportOptions::default());
    Model::from_graph(imported.unwrap().graph).unwrap()
}

/// Plans all networks for both instruction sets.
fn prove_all(whole: bool) {
    let provers = Isa::ALL.map(|isa| {
        Arc::new(Prover {
            isa,
            whole,
            seen: Mutex::default(),
            proved: Mutex::default(),
            failures: Mutex::default(),
        })
    });
    for net in zoo::all() {
        let (model, started) = (model(net), std::time::Instant::now());
        for prover in &provers {
            let options = CompileOptions {
                batch: Some(1),
                inspector: Some(prover.clone()),
                ..Default::default()
            };
            let before = prover.proved.lock().unwrap().len();
            model.plan(&options, prover.isa).unwrap();
            let proved = prover.proved.lock().unwrap().len() - before;
            println!(
                "{} {}: {proved} kernels, {:.1?}",
                net.name,
                prover.isa,
                started.elapsed()
            );
            assert!(proved > 0 || !whole);
        }
    }
    for prover in &provers {
        let failures = prover.failures.lock().unwrap();
        assert!(
            failures.is_empty(),
            "{}:\n{}",
            failures.len(),
            failures.join("\n")
        );
        assert!(prover.proved.lock().unwrap().len() >= 100);
    }
}

/// Layers of one shape once, and of large layers some of the output channels and lines.
#[test]
fn every_kind_of_layer_of_the_zoo_is_proved() {
    prove_all(false);
}

/// Every kernel whole; takes minutes:
/// `cargo test --release -p skimjit --test proofs -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn every_kernel_of_the_zoo_is_proved() {
    prove_all(true);
}
