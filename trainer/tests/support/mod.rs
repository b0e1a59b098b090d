//! Small data sets and networks for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_data::data_base::{Backend, Writer};
use std::path::Path;

/// Writes a data base of grey pictures.
pub fn data_base(path: &Path, size: u32, records: impl Iterator<Item = (Vec<u8>, i32)>) {
    let mut writer = Writer::create(path, Backend::Lmdb).unwrap();
    for (number, (pixels, label)) in records.enumerate() {
        let datum = Datum {
            channels: 1,
            height: size,
            width: size,
            label: Some(label),
            pixels: Pixels::U8(pixels),
        };
        let key = format!("{number:08}");
        writer.put(key.as_bytes(), datum.encode().unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

/// Pictures of 8×8 with a bar across (class 0) or upright (class 1) and some noise, as `folder/lmdb`.
pub fn bars(folder: &Path) {
    let picture = |number: u32| {
        let label = number % 2;
        let at = number / 2 % 8;
        let pixel = |index: u32| {
            let place = if label == 0 { index / 8 } else { index % 8 };
            let noise = number
                .wrapping_mul(2_654_435_761)
                .wrapping_add(index * 40_503)
                >> 7;
            (if place == at { 160 } else { 20 }) + (noise % 60) as u8
        };
        ((0..64).map(pixel).collect(), label as i32)
    };
    data_base(&folder.join("lmdb"), 8, (0..64).map(picture));
}

/// Data layers of both phases over `folder/lmdb`.
pub fn data_layers(folder: &Path, batch: u32) -> String {
    let layer = |phase: &str| {
        format!(
            "layer {{ name: \"d\" type: \"Data\" top: \"data\" top: \"label\" include {{ phase: {phase} }}
             transform_param {{ scale: 0.00390625 }}
             data_param {{ source: \"{}\" batch_size: {batch} backend: LMDB }} }}\n",
            folder.join("lmdb").display()
        )
    };
    format!("{}{}", layer("TRAIN"), layer("TEST"))
}

/// Loss and accuracy of scores `i`.
pub const JUDGES: &str = r#"
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "i" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "i" bottom: "label" top: "accuracy" include { phase: TEST } }
"#;
