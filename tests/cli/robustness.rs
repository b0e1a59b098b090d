//! Inputs that are no numbers, files that change while they are read, and more threads than cores.

use crate::support::{Workplace, ramp};
use skimjit::array::write_npy;
use skimjit::{LoadOptions, Model};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn an_input_that_is_not_finite_is_refused_alike_by_run_and_verify() {
    let place = Workplace::with_tiny_network();
    let mut input = ramp([2, 3, 8, 8], 1.0);
    input.data_mut()[3 * 64 + 70] = f32::NEG_INFINITY;
    write_npy(&place.path("in.npy"), &input).unwrap();
    for isa in ["auto", "avx2"] {
        for command in ["run", "verify"] {
            let arguments = [
                command,
                "tiny.caffemodel",
                "--input",
                "in.npy",
                "--isa",
                isa,
            ];
            let result = place.skimjit(&arguments);
            assert_eq!(result.code, Some(3), "{command}: {}", result.stderr);
            let words = "found -inf at element 70 of image 1";
            assert!(
                result.stderr.contains(words),
                "{command}: {}",
                result.stderr
            );
        }
    }
}

#[test]
fn more_threads_than_cores_are_told_of_once_and_are_no_warning() {
    let place = Workplace::with_tiny_network();
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    let run = ["run", "tiny.caffemodel", "--input", "in.npy", "--strict"];
    let many = place.skimjit(&[&run[..], &["--threads", "200"]].concat());
    assert_eq!(many.code, Some(0), "{}", many.stderr);
    let notes = many
        .stderr
        .matches("note: --threads: found 200 threads for");
    assert_eq!(notes.count(), 1, "{}", many.stderr);
    let result = place.skimjit(&[&run[..], &["--threads", "1"]].concat());
    assert_eq!((result.code, &result.stderr[..]), (Some(0), ""));
    let knob = place
        .command(&run)
        .env("SKIMJIT_THREADS", "200")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&knob.stderr).into_owned();
    assert!(
        text.contains("SKIMJIT_THREADS: found 200 threads for"),
        "{text}"
    );
    let usual = place.skimjit(&run);
    assert_eq!((usual.code, &usual.stderr[..]), (Some(0), ""));
}

/// A mapped file would kill the process where it is cut.
#[test]
fn an_artifact_that_is_cut_while_it_is_read_is_an_error_or_whole() {
    let place = Workplace::with_tiny_network();
    place.ok(&["compile", "tiny.caffemodel", "--no-tune", "-o", "tiny.skim"]);
    let whole = std::fs::read(place.path("tiny.skim")).unwrap();
    let file = place.path("changing.skim");
    std::fs::write(&file, &whole).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::fs::write(&file, &whole[..100]).unwrap();
                std::fs::write(&file, &whole).unwrap();
            }
        });
        let load = |_| Model::load(&file, &LoadOptions::default()).is_ok();
        let loaded = (0..500).filter(|&i| load(i)).count();
        done.store(true, Ordering::Relaxed);
        println!("{loaded} of 500 were whole");
    });
    assert!(Model::load(&file, &LoadOptions::default()).is_ok());
}
