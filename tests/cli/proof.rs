//! Proofs of generated code.

use crate::support::Workplace;

#[test]
fn every_kernel_of_a_network_is_proved() {
    let place = Workplace::new();
    place.ok(&["synth", "lenet", "--sparsity", "90", "-o", "net.caffemodel"]);
    for isa in ["avx2", "avx512"] {
        if place
            .skimjit(&["time", "net.caffemodel", "--isa", isa, "--iterations", "1"])
            .code
            != Some(0)
        {
            println!("skipped: this CPU lacks {isa}");
            continue;
        }
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
