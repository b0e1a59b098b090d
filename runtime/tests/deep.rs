//! Very deep networks: the time of planning grows with the layers, not with their square. A file of its
//! own: it counts the processor time of its thread.

#[allow(dead_code, reason = "other tests use the rest")]
mod network;

use network::Net;
use skimjit_host::clock::thread_time;
use skimjit_models::ops::{Activation, Eltwise, EltwiseOp, PostOps};
use skimjit_models::{Graph, Op, passes};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::{Options, ThreadPool, plan};
use std::sync::Arc;

/// Groups of a copy, a ReLU, a sum that a convolution can do, and a branch that nobody reads.
fn chain(layers: usize) -> Graph {
    let (mut net, mut x) = Net::new(1, 1, 2, 2);
    let sum = || {
        Op::Eltwise(Eltwise {
            op: EltwiseOp::Sum {
                coefficients: vec![1.0, 1.0],
            },
            post: PostOps::default(),
        })
    };
    let window = skimjit_models::ops::Window::square(1, 1, 0);
    for _ in 0..layers / 5 {
        let copy = net.add(Op::Identity, &[x]);
        let relu = net.add(Op::Activation(Activation::ReLU { slope: 0.0 }), &[copy]);
        net.add(Op::Activation(Activation::AbsVal), &[relu]);
        let conv = net.conv(relu, 1, window, 1, 1.0, false);
        x = net.add(sum(), &[x, conv]);
    }
    net.graph.outputs = vec![x];
    net.graph
}

fn cpu_seconds(work: impl FnOnce()) -> f64 {
    let started = thread_time();
    work();
    (thread_time() - started).as_secs_f64()
}

#[test]
fn the_time_of_planning_is_linear_in_the_layers() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    let options = Options {
        // One thread does everything, so that its time is all.
        builders: Some(Arc::new(ThreadPool::new(1).unwrap())),
        ..Options::default()
    };
    let time = |layers: usize| {
        let graph = chain(layers);
        cpu_seconds(|| {
            let graph = passes::optimize(graph).unwrap();
            plan(&graph, isa, &options).map(drop).unwrap();
        })
    };
    time(1_000);
    let ratio = |(): ()| {
        let (small, large) = (time(4_000), time(16_000));
        println!("4,000 layers {small:.3} s, 16,000 layers {large:.3} s");
        large / small
    };
    let best = [(); 3].map(ratio).into_iter().fold(f64::INFINITY, f64::min);
    assert!(best < 7.0, "{best} times the time for 4 times the layers");
}
