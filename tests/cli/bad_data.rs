//! `skimjit test` on faulty data: one `error:` line that names the record, or the file and what is in it.

use crate::support::{PROTOTXT, Workplace};
use crate::testing::text;
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::write_mean;
use skimjit_data::lmdb::Writer;
use skimjit_models::{Shape, Tensor};
use skimjit_testing::data;

fn record(n: usize) -> Datum {
    Datum {
        channels: 3,
        height: 8,
        width: 8,
        label: Some(n as i32 % 5),
        pixels: Pixels::U8((0..192).map(|i| (i * 7 + n) as u8).collect()),
    }
}

/// The tiny network behind a data layer.
fn definition(data: &str) -> String {
    let layers = PROTOTXT.find("layer { name: \"conv1\"").expect("conv1");
    let accuracy = r#"layer { name: "accuracy" type: "Accuracy" bottom: "prob" bottom: "label" top: "accuracy" }"#;
    format!("{data}\n{}\n{accuracy}\n", &PROTOTXT[layers..])
}

fn lmdb(transform: &str) -> String {
    let data = format!(
        r#"layer {{ name: "data" type: "Data" top: "data" top: "label" {transform}
  data_param {{ source: "db" batch_size: 5 backend: LMDB }} }}"#
    );
    definition(&data)
}

/// A workplace with a data base of 100 records; `change` gets each with its number.
fn data_base(change: impl Fn(usize, Datum) -> Vec<u8>) -> Workplace {
    let place = Workplace::with_tiny_network();
    let mut writer = Writer::create(&place.path("db")).unwrap();
    for n in 0..100 {
        let key = format!("{n:08}");
        writer.put(key.as_bytes(), change(n, record(n))).unwrap();
    }
    writer.finish().unwrap();
    place.write("test.prototxt", lmdb(""));
    place
}

const TEST: &str = "test --prototxt test.prototxt --weights tiny.caffemodel --iterations 20";

#[track_caller]
fn refused(place: &Workplace, words: &[&str]) {
    let result = place.skimjit(&TEST.split(' ').collect::<Vec<_>>());
    assert_eq!(result.code, Some(3), "{}\n{}", result.stdout, result.stderr);
    let lines = result.stderr.lines();
    let errors: Vec<&str> = lines.filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", result.stderr);
    println!("{}", errors[0]);
    for word in words {
        assert!(errors[0].contains(word), "no {word:?}: {}", errors[0]);
    }
}

/// The control: nothing is wrong with it.
#[test]
fn sound_data_are_tested() {
    let place = data_base(|_, datum| datum.encode().unwrap());
    let report = place.json(&TEST.split(' ').collect::<Vec<_>>());
    assert_eq!(report["images"], 100);
}

#[test]
fn a_damaged_page_names_the_record_that_it_keeps_from_being_read() {
    let place = data_base(|_, datum| datum.encode().unwrap());
    let file = place.path("db/data.mdb");
    let sound = std::fs::read(&file).unwrap();
    // Leaves have flag 2 behind their number and two bytes.
    let pages = 2..sound.len() / 4096;
    let leaves: Vec<usize> = pages
        .filter(|page| sound[page * 4096 + 10..][..2] == [2, 0])
        .collect();
    assert!(leaves.len() > 3, "{leaves:?}");
    let damaged = leaves[leaves.len() - 2];
    // The first key of the leaf tells which record comes first on it.
    let leaf = &sound[damaged * 4096..][..4096];
    let node = usize::from(u16::from_le_bytes([leaf[16], leaf[17]]));
    let key = std::str::from_utf8(&leaf[node + 8..][..8]).unwrap();
    let record = format!("record {} (page {damaged})", key.parse::<u32>().unwrap());
    for (at, bytes) in [(0, [0xff; 2]), (10, [1, 0]), (12, [0xff; 2])] {
        let mut bad = sound.clone();
        bad[damaged * 4096 + at..][..2].copy_from_slice(&bytes);
        std::fs::write(&file, bad).unwrap();
        refused(&place, &["data.mdb", &record, "cut off or damaged"]);
    }
    std::fs::write(&file, &sound[..damaged * 4096 + 100]).unwrap();
    refused(&place, &["data.mdb", "record ", "cut off or damaged"]);
}

#[test]
fn records_of_another_size_are_named() {
    let place = data_base(|n, mut datum| {
        if n == 33 {
            datum.width = 7;
            datum.pixels = Pixels::U8(vec![1; 3 * 8 * 7]);
        }
        datum.encode().unwrap()
    });
    refused(&place, &["db", "record \"00000033\"", "3x8x7", "3x8x8"]);
    let place = data_base(|n, datum| match n {
        // Channels, height, width, and 9 bytes of pixels.
        34 => [&[8, 3, 16, 8, 24, 8, 34, 9][..], &[1; 9], &[40, 1]].concat(),
        _ => datum.encode().unwrap(),
    });
    refused(&place, &["db", "record \"00000034\"", "9 bytes", "3x8x8"]);
    let place = data_base(|n, datum| match n {
        35 => b"\xff\xff\xff".to_vec(),
        _ => datum.encode().unwrap(),
    });
    refused(&place, &["db", "record \"00000035\""]);
}

#[test]
fn records_without_label_are_named() {
    let place = data_base(|n, mut datum| {
        datum.label = datum.label.filter(|_| n != 36);
        datum.encode().unwrap()
    });
    refused(&place, &["db", "record \"00000036\"", "no label"]);
}

#[test]
fn pictures_that_cannot_be_decoded_are_named() {
    let broken = b"\xff\xd8\xff\xe0 no picture";
    let place = data_base(|n, mut datum| {
        if n == 37 {
            datum.pixels = Pixels::Encoded(broken.to_vec());
        }
        datum.encode().unwrap()
    });
    refused(
        &place,
        &["db", "record \"00000037\"", "no readable picture"],
    );
    let place = Workplace::with_tiny_network();
    image::RgbImage::new(8, 8)
        .save(place.path("good.png"))
        .unwrap();
    place.write("bad.jpg", broken);
    place.write("list.txt", "good.png 1\ngood.png 2\nbad.jpg 3\n");
    let images = r#"layer { name: "images" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 1 } }"#;
    place.write("test.prototxt", definition(images));
    refused(&place, &["bad.jpg", "no readable picture"]);
}

#[test]
fn a_mean_of_another_size_is_named() {
    let place = data_base(|_, datum| datum.encode().unwrap());
    let mean = |dims: [u32; 4]| {
        let mean = Tensor::zeros(Shape::new(dims).unwrap());
        write_mean(mean, &place.path("mean.binaryproto")).unwrap();
    };
    let transform = r#"transform_param { mean_file: "mean.binaryproto" }"#;
    place.write("test.prototxt", lmdb(transform));
    mean([1, 3, 9, 8]);
    refused(
        &place,
        &["record \"00000000\"", "mean_file", "1x3x9x8", "3x8x8"],
    );
    mean([1, 1, 8, 8]);
    refused(&place, &["record \"00000000\"", "mean_file", "1x1x8x8"]);
}

#[test]
fn data_sets_of_another_shape_are_named() {
    let Some(shared) = data("") else { return };
    let place = Workplace::with_tiny_network();
    let files = ["sample_data.h5", "solver_data.h5"];
    let files = files.map(|file| text(&shared.join("formats").join(file)));
    place.write("list.txt", files.join("\n"));
    let net = r#"layer { name: "data" type: "HDF5Data" top: "data" hdf5_data_param { source: "list.txt" batch_size: 5 } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { global_pooling: true pool: AVE } }"#;
    place.write("test.prototxt", net);
    refused(
        &place,
        &[
            "solver_data.h5",
            "data set \"data\"",
            "[3, 10, 10]",
            "[8, 6, 5]",
        ],
    );
    place.write(
        "test.prototxt",
        net.replace("top: \"data\"", "top: \"other\"")
            .replace("bottom: \"data\"", "bottom: \"other\""),
    );
    refused(&place, &["sample_data.h5", "data set \"other\""]);
}
