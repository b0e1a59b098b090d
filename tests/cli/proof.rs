//! Proofs of generated code.

use crate::support::Workplace;
use skimjit_testing::isas;

#[test]
fn every_kernel_of_a_network_is_proved() {
    let place = Workplace::new();
    place.ok(&["synth", "lenet", "--sparsity", "90", "-o", "net.caffemodel"]);
    for isa in isas() {
        let isa = &isa.to_string();
        for batch in ["1", "5"] {
            let report = place.json(&[
                "verify",
                "net.caffemodel",
                "--kernels",
                "--isa",
                isa,
                "--batch",
                batch,
            ]);
            assert_eq!(report["passed"], true);
            let kernels = report["kernels"].as_array().unwrap();
            assert!(kernels.len() >= 5, "{report}");
            let sparse = kernels
                .iter()
                .filter(|kernel| kernel["variant"].as_str().unwrap().starts_with("sparse_"));
            for kernel in sparse {
                assert_eq!(kernel["values"], true);
                assert!(kernel["multiply_adds"].as_u64() > Some(0));
            }
        }
    }
}

/// Pruned networks on every instruction set that can be chosen here; tests/proofs.rs proves all of the zoo.
#[test]
fn every_kernel_of_pruned_networks_is_proved() {
    let place = Workplace::new();
    let nets = [("cifar10-quick", "85"), ("squeezenet", "67")];
    for (net, sparsity) in nets {
        place.ok(&["synth", net, "--sparsity", sparsity, "-o", "net.caffemodel"]);
        for isa in isas() {
            let isa = &isa.to_string();
            let arguments = [
                "verify",
                "net.caffemodel",
                "--kernels",
                "--json",
                "--isa",
                isa,
            ];
            let outcome = place.skimjit(&arguments);
            assert_eq!(outcome.code, Some(0), "{net} {isa}: {}", outcome.stderr);
            let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
            let kernels = report["kernels"].as_array().unwrap();
            println!("{net} {isa}: {} kernels", kernels.len());
            assert!(kernels.iter().all(|kernel| kernel["passed"] == true));
        }
    }
}
