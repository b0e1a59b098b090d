//! Choice by measurement: times are remembered, a second plan measures nothing, a frozen one refuses.

mod network;

use network::everything;
use skimjit_runtime::jit::Isa;
use skimjit_runtime::{
    Basis, Caches, Memory, Options, Plan, PlanError, ThreadPool, Times, TrialKey, Tuner, plan,
};
use skimjit_testing::skip;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Remembers, and counts what is kept.
#[derive(Default)]
struct Notebook(Mutex<HashMap<u128, Times>>);

impl Notebook {
    fn trials(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Memory for Notebook {
    fn recall(&self, key: &TrialKey) -> Option<Times> {
        self.0.lock().unwrap().get(&key.hash.0).cloned()
    }
    fn keep(&self, key: &TrialKey, times: &Times) {
        let before = self.0.lock().unwrap().insert(key.hash.0, times.clone());
        assert_eq!(before, None, "measured twice: {}", key.problem);
    }
}

fn tuner(memory: &Arc<Notebook>, threads: usize, frozen: bool) -> Tuner {
    Tuner {
        pool: Arc::new(ThreadPool::new(threads).unwrap()),
        caches: Caches::of_machine(),
        memory: memory.clone(),
        frozen,
        named_too: false,
        network_bytes: 0,
        on_trial: None,
    }
}

fn tuned(batch: u32, tuner: Tuner) -> Result<Plan, PlanError> {
    let options = Options {
        tuner: Some(tuner),
        ..Options::default()
    };
    plan(&everything(batch), Isa::detect(None).unwrap(), &options)
}

fn variants(plan: &Plan) -> Vec<(&str, &str)> {
    let choices = plan.choices.iter();
    choices
        .map(|choice| (&choice.layer[..], &choice.variant[..]))
        .collect()
}

fn count(plan: &Plan, basis: Basis) -> usize {
    let choices = plan.choices.iter();
    choices.filter(|choice| choice.basis == basis).count()
}

/// Whether something else on this machine disturbed a trial, whose times are not kept then; says so.
fn disturbed(plan: &Plan) -> bool {
    let disturbed = count(plan, Basis::Disturbed) > 0;
    if disturbed {
        skip("measurements, which something else on this machine disturbed");
    }
    disturbed
}

#[test]
fn a_second_plan_is_the_same_without_measuring() {
    // One by one, image by image on several threads, task by task and over columns.
    for (batch, threads) in [(1, 1), (1, 2), (4, 2), (16, 1)] {
        let memory = Arc::new(Notebook::default());
        let refused = tuned(batch, tuner(&memory, threads, true)).err().unwrap();
        assert_eq!(refused.layer.as_deref(), Some("node0"), "{refused}");
        assert!(refused.message.contains("tune cache"), "{refused}");
        assert_eq!(memory.trials(), 0);

        let first = tuned(batch, tuner(&memory, threads, false)).unwrap();
        if disturbed(&first) {
            continue;
        }
        let trials = memory.trials();
        assert!(trials > 5, "{trials}");
        assert!(count(&first, Basis::Measured) >= trials);
        // What is not measured has no weights, or a dense variant far ahead of all others.
        let estimated = first.choices.iter().filter(|c| c.basis == Basis::Estimated);
        let weighted = estimated.filter(|choice| choice.density.is_some());
        for choice in weighted {
            assert!(choice.variant.starts_with("dense_"), "{}", choice.variant);
        }

        let second = tuned(batch, tuner(&memory, threads, true)).unwrap();
        assert_eq!(memory.trials(), trials);
        assert_eq!(count(&second, Basis::Measured), 0);
        assert_eq!(variants(&first), variants(&second));
    }
}

#[test]
fn other_threads_and_batches_are_measured_anew() {
    let memory = Arc::new(Notebook::default());
    let first = tuned(1, tuner(&memory, 1, false)).unwrap();
    let one = memory.trials();
    let second = tuned(2, tuner(&memory, 2, false)).unwrap();
    assert!(memory.trials() > one || disturbed(&first) || disturbed(&second));
}

#[test]
fn the_choice_has_the_shortest_time_and_dense_takes_part() {
    let memory = Arc::new(Notebook::default());
    let plan = tuned(1, tuner(&memory, 1, false)).unwrap();
    disturbed(&plan);
    for choice in plan.choices.iter().filter(|c| c.basis == Basis::Measured) {
        let times = choice.candidates.iter();
        let times: Vec<(&str, f64)> = times
            .filter_map(|c| Some((&c.variant[..], c.time_ns?)))
            .collect();
        let best = times.iter().map(|t| t.1).fold(f64::INFINITY, f64::min);
        let own = times.iter().find(|t| t.0 == choice.variant).unwrap().1;
        assert!(own <= best * 1.03, "{choice:?}");
        assert!(
            times.iter().any(|t| t.0.starts_with("dense_")),
            "{choice:?}"
        );
    }
}

#[test]
fn named_variants_are_not_measured_unless_asked_for() {
    let memory = Arc::new(Notebook::default());
    let first = tuned(1, tuner(&memory, 1, false)).unwrap();
    let named: HashMap<String, String> = variants(&first)
        .into_iter()
        .map(|(layer, variant)| (layer.to_owned(), variant.to_owned()))
        .collect();
    for named_too in [false, true] {
        let memory = Arc::new(Notebook::default());
        let options = Options {
            variants: named.clone(),
            tuner: Some(Tuner {
                named_too,
                ..tuner(&memory, 1, false)
            }),
            ..Options::default()
        };
        let second = plan(&everything(1), Isa::detect(None).unwrap(), &options).unwrap();
        assert_eq!(variants(&first), variants(&second));
        assert_eq!(memory.trials() > 0, named_too);
        assert_eq!(count(&second, Basis::Measured), 0);
        assert!(count(&second, Basis::Named) > 0);
    }
}
