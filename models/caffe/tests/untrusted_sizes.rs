//! Files that claim far more than they hold: an error, and no memory taken for what they claim. Without the
//! checks the process ends, as no computer has it.

use skimjit_caffe::{read_caffemodel, read_hdf5_numbers, read_solverstate};
use skimjit_models::artifact::{Reader, read_graph};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/claims")
        .join(name)
}

const HDF5: [&str; 5] = [
    "328-bytes.h5",
    "497-bytes.h5",
    "crash.h5",
    "min.caffemodel.h5",
    "net.caffemodel.h5",
];

#[test]
fn hdf5_weights_and_solver_states_that_claim_too_much_are_refused() {
    for name in HDF5 {
        let text = read_caffemodel(&file(name)).unwrap_err().to_string();
        assert!(text.contains(name), "{text}");
        assert!(read_solverstate(&file(name)).is_err(), "{name}");
    }
}

/// What data layers read.
#[test]
fn hdf5_datasets_that_claim_too_much_are_refused() {
    for name in HDF5 {
        let Ok(opened) = hdf5_pure::File::open(file(name)) else {
            continue;
        };
        for set in opened.root().datasets().unwrap_or_default() {
            let Ok(set) = opened.root().dataset(&set) else {
                continue;
            };
            let mut memory = 64 << 20;
            if let Ok(numbers) = read_hdf5_numbers(&set, &mut memory) {
                assert!(numbers.values.len() < 1 << 20, "{name}");
            }
        }
    }
}

/// 849 bytes with 4 GiB of zeros.
#[test]
fn an_artifact_of_zeros_without_end_is_refused() {
    let bytes = std::fs::read(file("bomb.skim")).unwrap();
    let text = read_graph(&Reader::new(&bytes).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("no more than a file of this size can hold"),
        "{text}"
    );
}
