//! Many kernels over time and threads: the planner turns a graph into a [`Plan`], a [`Session`] runs
//! it on a [`ThreadPool`].

mod arena;
mod buffers;
mod caches;
mod error;
mod kernel_store;
pub mod machine;
pub mod plan;
mod planner;
mod pool;
mod profile;
pub mod recipe;
mod session;
mod tune;

pub use arena::give_back;
pub use caches::Caches;
pub use error::{PlanError, PlanErrorKind, RunError};
pub use kernel_store::{KernelStore, hash_problem};
pub use plan::{Basis, Candidate, Choice, Plan, Port};
pub use planner::plan;
pub use pool::{MOST_THREADS, ThreadPool, map, usable_cores};
pub use profile::{Event, Profile, StepTime};
pub use session::Session;
pub use skimjit_kernels as kernels;
pub use skimjit_kernels::jit;
pub use tune::{Memory, OnTrial, Times, TrialKey, Tuner};

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Looks at the kernels of a plan, on several threads at once.
pub trait KernelInspector: Send + Sync {
    /// `built` is how `variant` computes `problem` with these weights, for `layer`.
    fn inspect(
        &self,
        layer: &str,
        variant: &str,
        problem: &kernels::Problem,
        weights: kernels::Weights<'_>,
        built: &kernels::Built,
    );
}

/// How a graph is planned.
#[derive(Clone, Default)]
pub struct Options {
    /// Variant by layer name, tried first (from an artifact).
    pub variants: HashMap<String, String>,
    /// Keep each kernel's bytes for disassembly.
    pub keep_code: bool,
    /// Is told where each kernel lies.
    pub observer: Option<Arc<dyn jit::observe::CodeObserver>>,
    /// Sees every kernel before its code is published.
    pub inspector: Option<Arc<dyn KernelInspector>>,
    /// Times the candidates of a layer; without it, estimates decide.
    pub tuner: Option<Tuner>,
    /// Where kernels are taken from and put, when several plans are made of one network.
    pub kernels: Option<Arc<KernelStore>>,
    /// The plan is looked at or written to a file, never run: it needs no executable memory.
    pub stored: bool,
    /// Caches of the machine that will run the plan.
    pub caches: Caches,
    /// Threads that generate code; without it, one per core, which stay.
    pub builders: Option<Arc<ThreadPool>>,
}

impl Options {
    /// Maps items on the threads that generate code, keeping their order.
    pub(crate) fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        f: impl Fn(&T) -> R + Sync + Send,
    ) -> Vec<R> {
        match &self.builders {
            Some(team) => team.map(items, f),
            None => pool::map(items, f),
        }
    }
    /// The same for items of which each is gone when its result is there.
    pub(crate) fn map_owned<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        f: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<R> {
        let items: Vec<_> = items
            .into_iter()
            .map(|item| Mutex::new(Some(item)))
            .collect();
        let take = |item: &Mutex<Option<T>>| item.lock().ok()?.take();
        self.map(&items, |item| f(take(item).expect("items are taken once")))
    }
    /// The variant named for a layer.
    pub(crate) fn variant(&self, layer: &str) -> Option<&str> {
        self.variants.get(layer).map(String::as_str)
    }
}
