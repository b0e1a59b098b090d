//! HDF5 files that end early.

use skimjit_caffe::proto::{BlobProto, BlobShape, LayerParameter, NetParameter, SolverState};
use skimjit_caffe::{
    read_caffemodel, read_solverstate, write_caffemodel_hdf5, write_solverstate_hdf5,
};
use skimjit_models::Result;
use std::path::Path;

fn blob() -> BlobProto {
    BlobProto {
        shape: Some(BlobShape {
            dim: vec![6],
            ..BlobShape::default()
        }),
        data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        ..BlobProto::default()
    }
}

fn every_length_is_refused<T>(path: &Path, read: impl Fn(&Path) -> Result<T>) {
    read(path).unwrap();
    let whole = std::fs::read(path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(path, &whole[..length]).unwrap();
        let text = read(path).err().map(|error| error.to_string());
        let text = text.unwrap_or_else(|| panic!("{length} of {}", whole.len()));
        assert!(!text.contains("layer \"\""), "{text}");
        if length + 16 >= whole.len() {
            let words = format!("expected {} bytes", whole.len());
            assert!(text.contains(&words), "{text}");
        }
    }
}

#[test]
fn every_end_that_is_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.caffemodel.h5");
    let layer = LayerParameter {
        name: Some("ip".to_owned()),
        blobs: vec![blob()],
        ..LayerParameter::default()
    };
    let net = NetParameter {
        layer: vec![layer],
        ..NetParameter::default()
    };
    write_caffemodel_hdf5(&net, &path).unwrap();
    every_length_is_refused(&path, read_caffemodel);

    let path = folder.path().join("a.solverstate.h5");
    let state = SolverState {
        iter: Some(7),
        learned_net: Some("a.caffemodel.h5".to_owned()),
        current_step: Some(0),
        history: vec![blob()],
        ..SolverState::default()
    };
    write_solverstate_hdf5(&state, &path).unwrap();
    every_length_is_refused(&path, read_solverstate);
}

/// In the file of another writer too: a root group whose names are beyond the end.
#[test]
fn an_unreadable_group_is_named_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.caffemodel.h5");
    let layer = LayerParameter {
        name: Some("ip".to_owned()),
        blobs: vec![blob()],
        ..LayerParameter::default()
    };
    let net = NetParameter {
        layer: vec![layer],
        ..NetParameter::default()
    };
    write_caffemodel_hdf5(&net, &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        if let Err(error) = read_caffemodel(&path) {
            let text = error.to_string();
            assert!(!text.contains("layer \"\""), "{at}: {text}");
        }
    }
}
