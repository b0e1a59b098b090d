//! Really pruned networks as ONNX models, against what another runtime computed.

use skimjit::{CompileOptions, LoadOptions, Model, array};
use skimjit_testing::{data, isas};

/// Largest difference over the largest element.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn pruned_networks_of_mediapipe() {
    for (name, outputs) in [
        ("hand_landmark_sparse", 3),
        ("face_detection_full_range_sparse", 2),
    ] {
        let Some(path) = data(&format!("onnx/{name}.onnx")) else {
            return;
        };
        let beside = |ending: &str| path.with_file_name(format!("{name}.{ending}.npy"));
        let model = Model::load(&path, &LoadOptions::default()).unwrap();
        assert!(model.warnings.is_empty(), "{:?}", model.warnings);
        let input = array::read_npy(&beside("input")).unwrap();
        for isa in isas() {
            for batch in [1, 3] {
                let options = CompileOptions {
                    isa: Some(isa),
                    batch: Some(batch),
                    threads: 2,
                    ..CompileOptions::default()
                };
                let engine = model.compile(&options).unwrap();
                let mut session = engine.session();
                let results = engine
                    .run(&mut session, std::slice::from_ref(&input))
                    .unwrap();
                for (index, result) in results.iter().enumerate().take(outputs) {
                    let expected =
                        array::read_npy(&beside(&format!("litert_output{index}"))).unwrap();
                    let found = difference(result.data(), expected.data());
                    assert!(found <= 1e-4, "{name} {index} {isa} batch {batch}: {found}");
                }
            }
        }
    }
}
