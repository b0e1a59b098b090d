//! Every registered variant against the reference of its op, on every ISA of this machine.
//!
//! Operands lie between unmapped pages at exactly the documented footprint; what a kernel may read
//! but not use is poisoned with NaN; what it must not write keeps a sentinel. A failing case prints
//! one line that repeats it.

mod data;
mod function;
mod golden;
mod guard;
mod harness;
mod oracle;
mod random;
mod refusal;
mod spec;
mod table;

use skimjit_kernels::jit::Isa;
use skimjit_kernels::registry;
use spec::Spec;

/// Runs all cases and reports every failure.
fn run(specs: Vec<Spec>) {
    let failures: Vec<String> = specs
        .iter()
        .filter_map(|spec| match harness::check(spec) {
            Ok(true) => None,
            Ok(false) => Some(format!("no variant supports {spec}")),
            Err(fault) => Some(fault),
        })
        .collect();
    let shown: Vec<&str> = failures.iter().take(20).map(String::as_str).collect();
    let (failed, all) = (failures.len(), specs.len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} cases fail:\n{}",
        shown.join("\n")
    );
}

/// Checklist 30.
#[test]
fn conv_windows() {
    run(table::conv_windows());
}

/// Checklist 29.
#[test]
fn conv_layers() {
    run(table::conv_layers());
}

#[test]
fn deconvolutions() {
    run(table::deconvs());
}

/// Checklist 36.
#[test]
fn inner_products() {
    run(table::fc());
}

/// What the zeros of weights, and elements outside of a sum, are multiplied by never shows in other sums.
#[test]
fn sums_of_values_that_are_not_finite() {
    run(table::special_sums());
}

#[test]
fn poolings() {
    run(table::pools());
}

/// Checklist 17.
#[test]
fn normalisations() {
    run(table::lrns());
}

#[test]
fn channelwise_functions() {
    run(table::channelwises());
}

#[test]
fn functions_of_two_operands() {
    run(table::binaries());
}

#[test]
fn functions() {
    run(table::functions());
}

#[test]
fn elementwise_combinations() {
    run(table::eltwises());
}

#[test]
fn padded_copies() {
    run(table::copies());
}

#[test]
fn standardizations() {
    run(table::standardizations());
}

#[test]
fn softmaxes() {
    run(table::softmaxes());
}

#[test]
fn resizings() {
    run(table::resamples());
}

#[test]
fn every_variant_has_cases() {
    let specs = table::all();
    for variant in registry::VARIANTS {
        let builds = |isa| {
            specs
                .iter()
                .any(|spec| harness::builds(*variant, isa, spec))
        };
        let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|&isa| builds(isa)).collect();
        // What one ISA has, a later one has too.
        assert!(
            isas.contains(&Isa::Avx512),
            "{} runs no case of the table",
            variant.name()
        );
        println!("{}: {isas:?}", variant.name());
    }
}

#[test]
fn variant_names_are_unique_and_found() {
    for (i, variant) in registry::VARIANTS.iter().enumerate() {
        let same = |other: &&&dyn skimjit_kernels::Variant| other.name() == variant.name();
        assert_eq!(registry::VARIANTS.iter().position(|v| same(&v)), Some(i));
        assert!(registry::find(variant.name()).is_some());
    }
    assert!(registry::find("none").is_none());
}

#[test]
fn cases_survive_their_line() {
    for spec in table::all() {
        assert_eq!(
            spec.to_string().parse::<Spec>().as_ref(),
            Ok(&spec),
            "{spec}"
        );
    }
}

/// Repeats the case in `SKIMJIT_CASE`: variant, ISA and problem, as failures print it.
#[test]
#[ignore = "a tool"]
fn replay() {
    let line = std::env::var("SKIMJIT_CASE").expect("SKIMJIT_CASE: variant, ISA, problem");
    let mut words = line.trim().splitn(3, ' ');
    let mut word = || words.next().expect("SKIMJIT_CASE: variant, ISA, problem");
    let variant = registry::find(word()).expect("a variant's name");
    let isa = word().parse().expect("an ISA");
    let spec = word().parse().expect("a problem");
    harness::check_one(variant, isa, &spec).unwrap();
}
