//! Weights in files beside the model.

mod support;

use prost::Message;
use skimjit_models::Result;
use skimjit_onnx::proto::{ModelProto, StringStringEntryProto};
use skimjit_onnx::{ImportOptions, Model};
use std::path::Path;
use support::{floats, node, single};

/// y = x · w, with the elements of w somewhere.
fn network(entries: &[(&str, &str)]) -> ModelProto {
    let mut weights = floats("w", &[2, 3], &[]);
    weights.raw_data = None;
    weights.data_location = Some(1);
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    weights.external_data = entries.iter().map(entry).collect();
    single(
        node("MatMul", &["x", "w"], &["y"], &[]),
        &[0, 2],
        vec![weights],
    )
}

fn read(folder: &Path, entries: &[(&str, &str)]) -> Result<Vec<f32>> {
    let path = folder.join("model.onnx");
    std::fs::write(&path, network(entries).encode_to_vec()).unwrap();
    let imported = skimjit_onnx::import(&Model::read(&path)?, &ImportOptions::default())?;
    Ok(imported.graph.weights[0].data().to_vec())
}

fn weights(folder: &Path) {
    let bytes: Vec<u8> = (0..8)
        .flat_map(|value| (value as f32).to_le_bytes())
        .collect();
    std::fs::write(folder.join("model.onnx.data"), bytes).unwrap();
}

#[test]
fn parts_of_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    weights(folder.path());
    let location = ("location", "model.onnx.data");
    let whole = read(folder.path(), &[location]).unwrap();
    assert_eq!(whole, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let part = read(
        folder.path(),
        &[location, ("offset", "8"), ("length", "24")],
    )
    .unwrap();
    assert_eq!(part, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::copy(
        folder.path().join("model.onnx.data"),
        folder.path().join("sub/w"),
    )
    .unwrap();
    assert!(read(folder.path(), &[("location", "sub/w")]).is_ok());
}

#[test]
fn faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    weights(folder.path());
    let outside = tempfile::tempdir().unwrap();
    weights(outside.path());
    let absolute = outside.path().join("model.onnx.data");
    std::os::unix::fs::symlink(&absolute, folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("folder")).unwrap();
    let location = ("location", "model.onnx.data");
    let absolute = absolute.display().to_string();
    for (entries, words) in [
        (&[][..], "no location"),
        (&[("location", "")], "no location"),
        (&[("location", "none.data")], "no such file"),
        (&[("location", &absolute)], "in the folder of the model"),
        (
            &[("location", "../model.onnx.data")],
            "in the folder of the model",
        ),
        (&[("location", "sub/../../x")], "in the folder of the model"),
        (&[("location", "link")], "in the folder of the model"),
        (
            &[("location", "folder/model.onnx.data")],
            "in the folder of the model",
        ),
        (&[("location", ".")], "in the folder of the model"),
        (&[location, ("offset", "12")], "cut short"),
        (&[location, ("offset", "18446744073709551615")], "cut short"),
        (&[location, ("offset", "-1")], "offset \"-1\""),
        (&[location, ("length", "20")], "20 bytes"),
        (&[location, ("place", "3")], "\"place\""),
    ] {
        let text = read(folder.path(), entries).unwrap_err().to_string();
        assert!(
            text.contains(words) && text.contains("initializer \"w\""),
            "{entries:?}: {text}"
        );
    }
}
