//! A warm run allocates nothing, on any number of threads.

mod network;

use network::{Random, everything};
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

#[test]
fn a_warm_run_allocates_nothing() {
    let isa = Isa::detect(None).expect("an x86 CPU with AVX2");
    for (batch, threads) in [(1, 1), (1, 2), (4, 1), (4, 2), (16, 2)] {
        let graph = everything(batch);
        let plan = Arc::new(plan(&graph, isa, &Options::default()).unwrap());
        let pool = Arc::new(ThreadPool::new(threads).unwrap());
        let mut session = Session::new(plan.clone(), pool);
        let n = batch as usize + 1;
        let input = Random(3).tensor(&[n as u32, 3, 31, 31], 1.0);
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
}
