//! What a plan depends on: the graph and the options, neither the machine nor how weights are kept.

mod network;

use network::everything;
use skimjit_models::{Elements, Graph, Weight};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::kernels::{EltwiseKind, EltwiseProblem, LrnProblem, Planes, Problem};
use skimjit_runtime::{Caches, Options, Plan, hash_problem, plan};
use std::sync::Arc;

fn planned(graph: &Graph, isa: Isa, options: Options) -> Plan {
    let options = Options {
        keep_code: true,
        stored: true,
        ..options
    };
    plan(graph, isa, &options).unwrap()
}

fn code(plan: &Plan) -> Vec<(&str, &str, &[u8])> {
    let listings = plan.listings.iter();
    listings
        .map(|l| (&l.layer[..], l.variant, &l.bytes[..]))
        .collect()
}

#[test]
fn sparse_weights_give_the_plan_of_dense_ones() {
    for batch in [1, 4] {
        let dense = everything(batch);
        let mut sparse = dense.clone();
        for weight in &mut sparse.weights {
            let (rows, cols) = weight.shape().matrix();
            let elements = Elements::of(rows, cols, weight.data());
            *weight = Arc::new(Weight::sparse(weight.shape().clone(), elements));
        }
        for isa in [Isa::Avx2, Isa::Avx512] {
            let [dense, sparse] =
                [&dense, &sparse].map(|graph| planned(graph, isa, Options::default()));
            assert_eq!(code(&dense), code(&sparse));
        }
    }
}

#[test]
fn caches_are_what_the_options_say() {
    let graph = everything(1);
    let none = Caches {
        l2_bytes: 0,
        l3_bytes: 0,
    };
    for (caches, far) in [(none, true), (Caches::default(), false)] {
        let options = Options {
            caches,
            ..Options::default()
        };
        let plan = planned(&graph, Isa::Avx2, options);
        assert_eq!((plan.caches, plan.code_is_far), (caches, far));
    }
}

#[test]
fn problems_that_differ_in_a_number_have_other_hashes() {
    let planes = Planes::compact(2, 1, 1);
    let lrn = |alpha, beta, k| {
        let size = 3;
        Problem::Lrn(LrnProblem {
            planes,
            size,
            within_channel: false,
            alpha,
            beta,
            k,
        })
    };
    let eltwise = |kind| {
        Problem::Eltwise(EltwiseProblem {
            elems: 2,
            operands: 2,
            kind,
            post: None,
        })
    };
    let problems = [
        lrn(1.0, 1.0, 1.0),
        lrn(2.0, 1.0, 1.0),
        lrn(1.0, 2.0, 1.0),
        lrn(1.0, 1.0, 2.0),
        eltwise(EltwiseKind::Max),
        eltwise(EltwiseKind::Product),
        eltwise(EltwiseKind::Sum(vec![1.0, 2.0])),
        eltwise(EltwiseKind::Sum(vec![1.0, -2.0])),
    ];
    let hashes = problems.each_ref().map(|problem| {
        let mut hasher = skimjit_runtime::jit::SpecHasher::new();
        hash_problem(problem, &mut hasher);
        hasher.finish128()
    });
    for (index, hash) in hashes.iter().enumerate() {
        assert_eq!(hashes.iter().position(|other| other == hash), Some(index));
    }
}
