//! Snapshots in HDF5: Caffe's, as h5py writes them, and our own.

use crate::support::{From, Workplace, weights};
use skimjit_caffe::{read_caffemodel, read_solverstate};
use skimjit_testing::skip;
use skimjit_trainer::solver::report::Silent;
use std::process::Command;

const RUN: [&str; 4] = ["train", "--solver", "solver.prototxt", "--quiet"];

/// Weights by layer name.
fn blobs(place: &Workplace, file: &str) -> Vec<(String, Vec<Vec<f32>>)> {
    let net = read_caffemodel(&place.path(file)).unwrap();
    let layers = net
        .layer
        .into_iter()
        .filter(|layer| !layer.blobs.is_empty());
    let mut all: Vec<_> = layers
        .map(|layer| {
            (
                layer.name().to_owned(),
                layer.blobs.into_iter().map(|blob| blob.data).collect(),
            )
        })
        .collect();
    all.sort_by(|(a, _): &(String, _), (b, _)| a.cmp(b));
    all
}

#[test]
fn runs_go_on_from_snapshots_in_hdf5() {
    let place = Workplace::with_tiny_network();
    // A name with slashes becomes groups.
    let net = crate::support::NET.replace("name: \"conv1\"", "name: \"conv1/3x3_s1\"");
    place.write("net.prototxt", &net);
    for kind in ["SGD", "Adam"] {
        let common = format!("max_iter: 40 snapshot: 15 type: \"{kind}\" ");
        place.solver(&(common.clone() + "snapshot_prefix: \"proto/tiny\""));
        place.ok(&RUN);
        place.solver(&(common.clone() + "snapshot_prefix: \"five/tiny\" snapshot_format: HDF5"));
        place.ok(&RUN);
        assert_eq!(
            blobs(&place, "proto/tiny_iter_40.caffemodel"),
            blobs(&place, "five/tiny_iter_40.caffemodel.h5")
        );
        let states = [
            "proto/tiny_iter_15.solverstate",
            "five/tiny_iter_15.solverstate.h5",
        ];
        let states = states.map(|file| read_solverstate(&place.path(file)).unwrap());
        assert_eq!(states[0].history, states[1].history);
        assert_eq!(states[0].iter, states[1].iter);
        assert_eq!(states[1].learned_net(), "five/tiny_iter_15.caffemodel.h5");
        std::fs::remove_file(place.path("five/tiny_iter_40.caffemodel.h5")).unwrap();
        let mut again = RUN.to_vec();
        again.extend(["--snapshot", "five/tiny_iter_15.solverstate.h5"]);
        place.ok(&again);
        assert_eq!(
            blobs(&place, "proto/tiny_iter_40.caffemodel"),
            blobs(&place, "five/tiny_iter_40.caffemodel.h5")
        );
    }
}

#[test]
fn shared_parameters_are_stored_once() {
    let place = Workplace::with_tiny_network();
    let net = crate::support::NET;
    let (head, tail) = net.split_at(net.find("layer { name: \"accuracy\"").unwrap());
    let extra = |name: &str, from: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"{from}\" top: \"{name}\" param {{ name: \"w\" }} inner_product_param {{ num_output: 10 bias_term: false weight_filler {{ type: \"xavier\" }} }} }}\n"
        )
    };
    let tail = tail.replace("bottom: \"ip1\"", "bottom: \"ip3\"");
    place.write(
        "net.prototxt",
        &(head.to_owned() + &extra("ip2", "ip1") + &extra("ip3", "ip2") + &tail),
    );
    place.solver("max_iter: 3 snapshot_format: HDF5");
    place.ok(&RUN);
    let stored = blobs(&place, "snap/tiny_iter_3.caffemodel.h5");
    let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["conv1", "ip1", "ip2"]);
    let state = place.path("snap/tiny_iter_3.solverstate.h5");
    let mut solver = place.open(&From {
        snapshot: Some(&state),
        ..From::default()
    });
    assert_eq!(weights(&mut solver)[4].1, stored[2].1[0]);
    solver.iterate(&mut Silent).unwrap();
}

/// As Caffe lays out its files, with h5py.
const WRITE: &str = r#"
import h5py, numpy as np, sys
folder = sys.argv[1]
rng = np.random.RandomState(3)
shapes = {"conv1": [(6, 1, 3, 3), (6,)], "ip1": [(10, 150), (10,)]}
with h5py.File(folder + "/x.caffemodel.h5", "w") as f, h5py.File(folder + "/x.solverstate.h5", "w") as s:
    for name, blobs in shapes.items():
        for index, shape in enumerate(blobs):
            f.create_dataset("data/%s/%d" % (name, index), data=(rng.rand(*shape) - 0.5).astype("f4"))
    number = 0
    for blobs in shapes.values():
        for shape in blobs:
            s.create_dataset("history/%d" % number, data=np.full(shape, number + 1, "f4"))
            number += 1
    s.create_dataset("iter", data=np.array([12], "i4"))
    s.create_dataset("current_step", data=np.array([1], "i4"))
    if sys.argv[2] == "fixed":
        s.create_dataset("learned_net", data=np.bytes_("/elsewhere/x.caffemodel.h5"))
    else:
        s["learned_net"] = "/elsewhere/x.caffemodel.h5"
"#;

/// What h5py finds in ours.
const READ: &str = r#"
import h5py, sys
with h5py.File(sys.argv[1] + "_iter_3.solverstate.h5") as s, h5py.File(sys.argv[1] + "_iter_3.caffemodel.h5") as f:
    text = s["learned_net"][()]
    print(int(s["iter"][0]), int(s["current_step"][0]), text.decode().rstrip("\0"), s["iter"].shape, s["learned_net"].shape)
    print(sorted(s["history"].keys()), s["history/0"].shape, s["history/0"].dtype)
    print(f["data/conv1/0"].shape, f["data/ip1/1"].shape, float(f["data/ip1/0"][()].sum()))
"#;

/// A Python with h5py, where there is one.
fn python(script: &str, arguments: &[&str]) -> Option<String> {
    let found = std::env::var("SKIMJIT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&found)
        .args(["-c", "import h5py"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !has {
        skip(format!(
            "{found} has no h5py; SKIMJIT_PYTHON names another Python"
        ));
        return None;
    }
    let output = Command::new(&found)
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn snapshots_of_the_c_library_are_read() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 14");
    let folder = place.path("").display().to_string();
    for text in ["fixed", "variable"] {
        let Some(_) = python(WRITE, &[&folder, text]) else {
            return;
        };
        let state = read_solverstate(&place.path("x.solverstate.h5")).unwrap();
        assert_eq!((state.iter(), state.current_step()), (12, 1));
        assert_eq!(state.learned_net(), "/elsewhere/x.caffemodel.h5");
        assert_eq!(state.history.len(), 4);
        assert!(state.history[2].data.iter().all(|&x| x == 3.0));
        place.ok(&[
            "train",
            "--solver",
            "solver.prototxt",
            "--quiet",
            "--snapshot",
            "x.solverstate.h5",
        ]);
        assert!(place.path("snap/tiny_iter_14.caffemodel").is_file());
    }
}

#[test]
fn the_c_library_reads_ours() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 3 snapshot_format: HDF5");
    place.ok(&RUN);
    let prefix = place.path("snap/tiny").display().to_string();
    let Some(text) = python(READ, &[&prefix]) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "3 0 snap/tiny_iter_3.caffemodel.h5 (1,) ()");
    assert_eq!(lines[1], "['0', '1', '2', '3'] (6, 1, 3, 3) float32");
    assert!(lines[2].starts_with("(6, 1, 3, 3) (10,) "), "{text}");
}

#[test]
fn wrong_files_are_refused() {
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 3 snapshot_format: HDF5");
    place.ok(&RUN);
    let state = place.bytes("snap/tiny_iter_3.solverstate.h5");
    for (number, bytes) in [
        b"\x89HDF\r\n\x1a\n".to_vec(),
        state[..state.len() / 2].to_vec(),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("{number}.solverstate.h5");
        std::fs::write(place.path(&file), bytes).unwrap();
        let error = read_solverstate(&place.path(&file))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&file) && error.contains("HDF5"), "{error}");
    }
    let error = read_solverstate(&place.path("snap/tiny_iter_3.caffemodel.h5")).unwrap_err();
    assert!(error.to_string().contains("solverstate.h5"), "{error}");
    let error = read_caffemodel(&place.path("snap/tiny_iter_3.solverstate.h5")).unwrap_err();
    assert!(error.to_string().contains("no group \"data\""), "{error}");
    // Damage of any kind is an error or other numbers, never a panic.
    let file = place.path("damaged.solverstate.h5");
    for at in (0..state.len()).step_by(7) {
        let mut bytes = state.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&file, bytes).unwrap();
        let _ = read_solverstate(&file);
    }
}

/// A file of 8 KB whose elements claim 128 KiB each.
#[test]
fn data_that_claim_more_memory_than_there_is_are_one_error() {
    let place = Workplace::with_tiny_network();
    let bad = include_bytes!("../../../models/caffe/tests/claims/crash.h5");
    std::fs::write(place.path("crash.h5"), bad).unwrap();
    place.write("list.txt", "crash.h5\n");
    place.write(
        "net.prototxt",
        "layer { name: \"d\" type: \"HDF5Data\" top: \"data\" top: \"label\"
           hdf5_data_param { source: \"list.txt\" batch_size: 2 } }
         layer { name: \"f\" type: \"InnerProduct\" bottom: \"data\" top: \"f\"
           inner_product_param { num_output: 2 } }
         layer { name: \"loss\" type: \"EuclideanLoss\" bottom: \"f\" bottom: \"f\" top: \"loss\" }",
    );
    place.solver("max_iter: 1");
    let result = place.run(&RUN);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert!(result.stderr.contains("crash.h5"), "{}", result.stderr);
    assert_eq!(result.stderr.lines().count(), 1, "{}", result.stderr);
}
