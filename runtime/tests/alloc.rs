//! A warm run allocates nothing, on any number of threads.

mod network;

use network::{Net, Random, everything};
use skimjit_models::ops::{Cell, Im2col, Mvn, Recurrent, Reshape, Slice, Window};
use skimjit_models::{Graph, Op, Shape};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::{Options, Session, ThreadPool, plan};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Layers without kernels: normalisation, an LSTM over 4 steps of 2 sequences, chosen steps.
fn without_kernels() -> Graph {
    let (mut net, data) = Net::new(4, 4, 6, 6);
    let mut input = |name: &str, dims: &[u32]| {
        let id = net.graph.add_value(name, Shape::new(dims).unwrap());
        net.graph.inputs.push(id);
        id
    };
    let (cont, chosen) = (input("cont", &[4, 2]), input("chosen", &[4]));
    let mvn = Mvn {
        normalize_variance: true,
        across_channels: false,
        eps: 0.1,
    };
    let normal = net.add(Op::Mvn(mvn), &[data]);
    let window = Window::square(3, 2, 1);
    let columns = net.add(Op::Im2col(Im2col { window }), &[normal]);
    let reshape = Reshape {
        dims: vec![4, 2, -1],
        axis: 0,
        num_axes: -1,
    };
    let sequence = net.add(Op::Reshape(reshape), &[columns]);
    let inputs = net.graph.shape(sequence).dim(2);
    let mut weight = |dims: &[u32]| net.graph.add_weight(Random::new(9).tensor(dims, 1.0));
    let lstm = Recurrent {
        outputs: 3,
        cell: Cell::Lstm,
        initial: false,
        input_weights: weight(&[12, inputs]),
        input_bias: weight(&[12]),
        static_weights: None,
        hidden_weights: weight(&[12, 3]),
    };
    let all = net.add(Op::Recurrent(lstm), &[sequence, cont]);
    let steps = Slice {
        axis: 0,
        begin: 0,
        end: 4,
    };
    let h = net.add(Op::Slice(steps), &[all]);
    let filtered = net.add(Op::Filter, &[h, chosen]);
    let reindexed = net.add(Op::BatchReindex, &[h, chosen]);
    net.graph.outputs = vec![filtered, reindexed];
    net.graph
}

fn check_without_kernels(isa: Isa, threads: usize) {
    let graph = without_kernels();
    let plan = Arc::new(plan(&graph, isa, &Options::default()).unwrap());
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    let mut session = Session::new(plan.clone(), pool);
    let inputs = graph.inputs.iter().map(|&id| graph.shape(id).dims());
    let inputs: Vec<_> = inputs
        .map(|dims| Random::new(3).tensor(dims, 1.0))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(|input| input.data()).collect();
    let mut outputs: Vec<Vec<f32>> = plan
        .outputs
        .iter()
        .map(|port| vec![0.0; port.shape.count()])
        .collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
    for _ in 0..2 {
        session.run(&inputs, &mut slices).unwrap();
    }
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    session.run(&inputs, &mut slices).unwrap();
    let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
    assert_eq!(count, 0, "allocations of references with {threads} threads");
}

#[test]
fn a_warm_run_allocates_nothing() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    for (batch, threads) in [(1, 1), (1, 2), (4, 1), (4, 2), (16, 2)] {
        let graph = everything(batch);
        let plan = Arc::new(plan(&graph, isa, &Options::default()).unwrap());
        let pool = Arc::new(ThreadPool::new(threads).unwrap());
        let mut session = Session::new(plan.clone(), pool);
        let n = batch as usize + 1;
        let input = Random::new(3).tensor(&[n as u32, 3, 31, 31], 1.0);
        let mut outputs: Vec<Vec<f32>> = plan
            .outputs
            .iter()
            .map(|port| vec![0.0; port.elems * n])
            .collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
        for _ in 0..2 {
            session.run(&[input.data()], &mut slices).unwrap();
        }
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        for _ in 0..3 {
            session.run(&[input.data()], &mut slices).unwrap();
        }
        let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
        assert_eq!(
            count, 0,
            "allocations at batch {batch} with {threads} threads"
        );
    }
    for threads in [1, 2] {
        check_without_kernels(isa, threads);
    }
}
