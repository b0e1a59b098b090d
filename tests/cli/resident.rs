//! The memory that a loaded network takes: what its kernels need, and little more while it is loaded.

use crate::support::Workplace;
use skimjit_testing::skip;

/// A network of the program, pruned: loaded from its artifact for one image, it takes at most so many megabytes, and
/// 1.3 times as many while it is loaded.
#[track_caller]
fn assert_resident(network: &str, sparsity: &str, megabytes: f64) {
    if cfg!(debug_assertions) {
        return skip("memory of a program that is not optimised, and much larger");
    }
    let place = Workplace::new();
    let files = ["net.caffemodel", "net.skim"];
    let synth = ["synth", network, "--sparsity", sparsity, "--seed", "1"];
    place.ok(&[&synth[..], &["-o", files[0]]].concat());
    place.ok(&[
        "compile",
        files[0],
        "--no-tune",
        "--no-verify",
        "-o",
        files[1],
    ]);
    std::fs::remove_file(place.path(files[0])).unwrap();
    for isa in skimjit_testing::isas() {
        let isa = isa.to_string();
        let time = ["time", files[1], "--iterations", "1", "--threads", "1"];
        let report = place.json(&[&time[..], &["--isa", &isa]].concat());
        let of = |name: &str| Some(report[name].as_f64()? / 1e6);
        let found = of("resident_bytes").zip(of("loading_bytes"));
        let Some((resident, loading)) = found else {
            return skip("memory of a process, which /proc does not tell");
        };
        println!("{network}, {isa}: {resident:.1} MB, {loading:.1} MB while it is loaded");
        assert!(resident <= megabytes, "{network}, {isa}: {resident} MB");
        assert!(loading <= 1.3 * megabytes, "{network}, {isa}: {loading} MB");
    }
}

#[test]
fn caffenet_with_its_published_zeros() {
    assert_resident("caffenet", "published", 110.0);
}

#[test]
fn resnet_50_with_nine_tenths_of_its_weights_zero() {
    assert_resident("resnet-50", "90", 75.0);
}

#[test]
fn it_is_told_by_time_and_explain() {
    let place = Workplace::with_tiny_network();
    for command in ["time", "explain"] {
        let arguments = [command, "tiny.caffemodel", "--iterations", "1"];
        let report = place.json(&arguments);
        let told = match command {
            "time" => &report,
            _ => &report["network"],
        };
        let Some(resident) = told["resident_bytes"].as_u64() else {
            return skip("memory of a process, which /proc does not tell");
        };
        let loading = told["loading_bytes"].as_u64().unwrap();
        assert!(resident > 1 << 20 && loading > 1 << 20, "{told}");
        let text = place.ok(&arguments);
        assert!(
            text.contains(" MB resident with the engine loaded"),
            "{text}"
        );
    }
}
