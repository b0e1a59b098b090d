//! Every kernel of the suite's table is proved, and seeded faults are found.

#[path = "../../tests/suite/data.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod data;
#[path = "../../tests/suite/function.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod function;
#[path = "../../tests/suite/oracle.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod oracle;
#[path = "../../tests/suite/spec.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod spec;
#[path = "../../tests/suite/table.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod table;

mod attacks;
mod faults;
mod random;

use data::Data;
use function::is_proved;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Problem, Values, Variant, Weights, registry};
use skimjit_verifier::{Fault, Proof, Scope, verify};
use spec::Spec;

/// A case with its weights.
struct Case {
    spec: Spec,
    data: Data,
}

impl Case {
    fn new(spec: Spec) -> Self {
        let data = Data::new(&spec);
        Self { spec, data }
    }

    fn weights(&self) -> Weights<'_> {
        Weights {
            values: Values::All(&self.data.values),
            pattern: &self.data.pattern,
            bias: &self.data.bias,
            element: self.spec.element(),
        }
    }

    fn build(&self, variant: &dyn Variant, isa: Isa) -> Option<Built> {
        variant.supports(&self.spec.problem, isa).ok()?;
        variant.build(&self.spec.problem, self.weights(), isa).ok()
    }

    fn verify(&self, isa: Isa, built: &Built) -> Result<Proof, Fault> {
        verify(&self.spec.problem, self.weights(), isa, built)
    }
}

/// Larger cases repeat what smaller ones show.
const MOST_MACS: u64 = 3_000_000;

fn small(spec: &Spec) -> bool {
    match &spec.problem {
        Problem::Conv(p) => p.macs() < MOST_MACS,
        _ => true,
    }
}

#[test]
fn every_kernel_of_the_table_is_proved() {
    let mut failures = Vec::new();
    let mut proved = 0;
    for spec in table::all().into_iter().filter(small) {
        let case = Case::new(spec);
        for (&variant, isa) in registry::VARIANTS
            .iter()
            .flat_map(|v| Isa::ALL.map(|isa| (v, isa)))
        {
            let Some(built) = case.build(variant, isa) else {
                continue;
            };
            proved += 1;
            let smooth = match &case.spec.problem {
                Problem::Softmax(_) => true,
                Problem::Function(p) => !is_proved(&p.function),
                _ => false,
            };
            let expected = match smooth {
                true => Scope::BoundsOnly,
                false => Scope::Values,
            };
            match case.verify(isa, &built) {
                Ok(proof) => assert_eq!(proof.scope, expected, "{}", variant.name()),
                Err(fault) => {
                    failures.push(format!("{} {isa} {}: {fault}", variant.name(), case.spec));
                }
            }
        }
    }
    println!("{proved} kernels");
    let shown = failures
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        failures.is_empty(),
        "{} of {proved}:\n{shown}",
        failures.len()
    );
}

#[test]
fn multiply_adds_of_a_sparse_kernel_are_those_of_its_pattern() {
    let spec = "conv src=8x13x13x224 dst=28x13x13x224 k=3x3 s=1x1 p=1x1 d=1x1 g=1 density=20 bias=1 scale=1 seed=7";
    let case = Case::new(spec.parse().unwrap());
    let variant = registry::find("sparse_conv.baked").unwrap();
    for isa in Isa::ALL {
        let built = case.build(variant, isa).unwrap();
        let proof = case.verify(isa, &built).unwrap();
        assert_eq!(proof.scope, Scope::Values);
        assert_eq!(proof.results, 28 * 13 * 13);
        let nnz = case.data.pattern.nnz() as u64;
        // Whole vectors: a little more than one per pixel.
        let per_weight = proof.multiply_adds / nnz;
        assert!((169..=208).contains(&per_weight), "{isa}: {per_weight}");
    }
}
