//! Data layers, against what the files hold.

use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::parse_prototxt;
use skimjit_caffe::proto::{NetParameter, Phase};
use skimjit_data::data_base::{Backend, Writer};
use skimjit_data::picture::{ChannelOrder, FileKind, Picture};
use skimjit_data::{Feed, FeedOptions, lmdb};
use skimjit_models::Tensor;
use skimjit_testing::data;
use std::path::Path;

fn net(text: &str) -> NetParameter {
    parse_prototxt(text, "test.prototxt").unwrap().0
}

fn open(text: &str, folder: &Path) -> Result<Feed, String> {
    let options = FeedOptions {
        folder: Some(folder.to_owned()),
        ..FeedOptions::default()
    };
    Feed::open(&net(text), &options).map_err(|error| error.to_string())
}

fn next(feed: &mut Feed) -> Result<Vec<Tensor>, String> {
    feed.next()
        .map(<[Tensor]>::to_vec)
        .map_err(|error| error.to_string())
}

/// Pixel (c, y, x) of image `n`.
fn pixel(n: usize, c: usize, y: usize, x: usize) -> u8 {
    ((n * 31 + c * 17 + y * 7 + x * 3) % 251) as u8
}

fn datum(n: usize, [c, h, w]: [usize; 3]) -> Datum {
    let all = (0..c * h * w).map(|i| pixel(n, i / (h * w), i / w % h, i % w));
    Datum {
        channels: c as u32,
        height: h as u32,
        width: w as u32,
        label: Some(n as i32),
        pixels: Pixels::U8(all.collect()),
    }
}

fn base(folder: &Path, name: &str, records: &[Datum]) {
    let mut writer = lmdb::Writer::create(&folder.join(name)).unwrap();
    for (n, record) in records.iter().enumerate() {
        writer
            .put(format!("{n:08}").as_bytes(), record.encode().unwrap())
            .unwrap();
    }
    writer.finish().unwrap();
}

fn layer(batch: u32, rest: &str) -> String {
    format!(
        "layer {{ name: 'data' type: 'Data' top: 'data' top: 'label' \
         data_param {{ source: 'base' batch_size: {batch} backend: LMDB }} {rest} }}"
    )
}

/// Checklist 25.
#[test]
fn records_come_in_order_and_begin_again() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<Datum> = (0..5).map(|n| datum(n, [3, 6, 7])).collect();
    base(folder.path(), "base", &records);
    for readers in [1, 3] {
        let options = FeedOptions {
            folder: Some(folder.path().into()),
            readers,
            ..FeedOptions::default()
        };
        let mut feed = Feed::open(&net(&layer(3, "")), &options).unwrap();
        let shapes: Vec<String> = feed
            .blobs()
            .iter()
            .map(|b| format!("{} {}", b.name, b.shape))
            .collect();
        assert_eq!(shapes, ["data 3x3x6x7", "label 3"]);
        for batch in 0..7 {
            let found = next(&mut feed).unwrap();
            for place in 0..3 {
                let n = (batch * 3 + place) % 5;
                assert_eq!(found[1].data()[place], n as f32);
                let pixels = &found[0].data()[place * 126..][..126];
                let expected = (0..126).map(|i| f32::from(pixel(n, i / 42, i / 7 % 6, i % 7)));
                assert!(
                    pixels.iter().copied().eq(expected),
                    "batch {batch}, image {place}"
                );
            }
        }
    }
    // A run that goes on starts where the one before would be.
    let options = FeedOptions {
        folder: Some(folder.path().into()),
        skip: 4,
        ..FeedOptions::default()
    };
    let mut feed = Feed::open(&net(&layer(3, "")), &options).unwrap();
    assert_eq!(next(&mut feed).unwrap()[1].data(), [2.0, 3.0, 4.0]);
}

/// Crop, mirror, mean and scale in Caffe's order: (pixel − mean)·scale at the stored position.
/// Checklist 25.
#[test]
fn transformations_are_caffes() {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<Datum> = (0..4).map(|n| datum(n, [2, 8, 9])).collect();
    base(folder.path(), "base", &records);
    let text = layer(
        4,
        "transform_param { crop_size: 5 mirror: true scale: 0.5 mean_value: 10 mean_value: 20 }",
    );
    let mut seen = [false; 2];
    for (phase, seed) in [(Phase::Test, 1), (Phase::Train, 1), (Phase::Train, 2)] {
        let options = |readers| FeedOptions {
            folder: Some(folder.path().into()),
            phase,
            seed,
            readers,
            ..FeedOptions::default()
        };
        let mut feed = Feed::open(&net(&text), &options(1)).unwrap();
        let mut other = Feed::open(&net(&text), &options(4)).unwrap();
        for _ in 0..6 {
            let found = next(&mut feed).unwrap();
            assert_eq!(
                found[0].data(),
                next(&mut other).unwrap()[0].data(),
                "any number of readers"
            );
            for n in 0..4 {
                let image = &found[0].data()[n * 50..][..50];
                let matches = |top: usize, left: usize, mirrored: bool| {
                    (0..50).all(|i| {
                        let (c, y, x) = (i / 25, i / 5 % 5, i % 5);
                        let x = if mirrored { 4 - x } else { x };
                        let mean = [10.0, 20.0][c];
                        image[i] == (f32::from(pixel(n, c, top + y, left + x)) - mean) * 0.5
                    })
                };
                let all = (0..4).flat_map(|top| (0..5).map(move |left| (top, left)));
                let places: Vec<(usize, usize)> = match phase {
                    Phase::Test => vec![(1, 2)],
                    Phase::Train => all.collect(),
                };
                let mirrored =
                    [false, true].map(|m| places.iter().any(|&(top, left)| matches(top, left, m)));
                assert!(mirrored.contains(&true), "{phase:?} image {n}");
                seen.iter_mut()
                    .zip(mirrored)
                    .for_each(|(seen, m)| *seen |= m);
            }
        }
    }
    assert_eq!(seen, [true; 2], "mirrored or not by chance");
}

/// Records of files beside records of pixels, from either kind of data base. Checklist 26.
#[test]
fn encoded_records_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let size = [3, 6, 7];
    let encoded = |n: usize| {
        let at = |i: usize| pixel(n, i % 3, i / 21, i / 3 % 7);
        let pixels = (0..3 * 6 * 7).map(at).collect();
        let picture = Picture::from_pixels(7, 6, 3, pixels).unwrap();
        let file = picture.encode(FileKind::Png, ChannelOrder::Bgr).unwrap();
        Datum {
            channels: 0,
            height: 0,
            width: 0,
            label: Some(n as i32),
            pixels: Pixels::Encoded(file),
        }
    };
    for (backend, name) in [(Backend::Lmdb, "LMDB"), (Backend::LevelDb, "LEVELDB")] {
        let mut writer = Writer::create(&folder.path().join(name), backend).unwrap();
        for n in 0..6 {
            let record = if n % 2 == 0 {
                datum(n, size)
            } else {
                encoded(n)
            };
            let key = format!("{n:08}");
            writer
                .put(key.as_bytes(), record.encode().unwrap())
                .unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 6);
        let text = layer(6, "")
            .replace("LMDB", name)
            .replace("'base'", &format!("'{name}'"));
        let mut feed = open(&text, folder.path()).unwrap();
        let found = next(&mut feed).unwrap();
        assert_eq!(found[1].data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{name}");
        let expected = (0..6 * 126).map(|i| (i / 126, i / 42 % 3, i / 7 % 6, i % 7));
        let expected = expected.map(|(n, c, y, x)| f32::from(pixel(n, c, y, x)));
        assert!(expected.eq(found[0].data().iter().copied()), "{name}");
    }
}

#[track_caller]
fn fails(feed: Result<Feed, String>, words: &[&str]) {
    let error = feed.and_then(|mut feed| {
        (0..3)
            .try_for_each(|_| next(&mut feed).map(drop))
            .map(|()| feed)
    });
    let error = error.err().expect("an error");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error:?}");
    }
    assert!(!error.contains('\n'));
}

#[test]
fn what_is_wrong_with_a_record_is_said_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let good = || datum(0, [1, 4, 4]);
    base(path, "base", &[good(), datum(1, [1, 4, 5])]);
    fails(
        open(&layer(2, ""), path),
        &["data", "base", "00000001", "1x4x5", "1x4x4"],
    );
    // Cut to one size, images of several sizes are fine.
    assert!(
        open(&layer(2, "transform_param { crop_size: 3 }"), path)
            .is_ok_and(|mut f| f.next().is_ok())
    );
    fails(
        open(&layer(2, "transform_param { crop_size: 5 }"), path),
        &["crop_size", "00000000", "4x4"],
    );
    let mean = "transform_param { mean_value: 1 mean_value: 2 }";
    fails(
        open(&layer(1, mean), path),
        &["mean_value", "00000000", "2 mean values"],
    );
    let both = "transform_param { mean_value: 1 mean_file: 'm' }";
    fails(open(&layer(1, both), path), &["mean_file", "one of them"]);

    let other = tempfile::tempdir().unwrap();
    base(
        other.path(),
        "base",
        &[
            good(),
            Datum {
                label: None,
                ..good()
            },
        ],
    );
    fails(open(&layer(2, ""), other.path()), &["00000001", "no label"]);

    let encoded = tempfile::tempdir().unwrap();
    let broken = Datum {
        channels: 0,
        height: 0,
        width: 0,
        label: Some(1),
        pixels: Pixels::Encoded(b"\xff\xd8\xff\xe0 no picture".to_vec()),
    };
    base(encoded.path(), "base", &[broken]);
    fails(
        open(&layer(1, ""), encoded.path()),
        &["00000000", "picture"],
    );

    let mean_file = tempfile::tempdir().unwrap();
    base(mean_file.path(), "base", &[good()]);
    let shape = skimjit_models::Shape::new([1, 1, 4, 5]).unwrap();
    let mean = Tensor::zeros(shape);
    skimjit_caffe::write_binaryproto(mean, &mean_file.path().join("mean")).unwrap();
    let text = layer(1, "transform_param { mean_file: 'mean' }");
    fails(
        open(&text, mean_file.path()),
        &["mean_file", "1x1x4x5", "1x1x4x4"],
    );
}

/// Checklist 27: WindowData is refused by name.
#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fails(
        open(&layer(1, ""), folder.path()),
        &["layer \"data\"", "base"],
    );
    let list = "layer { name: 'images' type: 'ImageData' top: 'data' image_data_param { source: 'list.txt' batch_size: 2 } }";
    fails(open(list, folder.path()), &["list.txt"]);
    std::fs::write(folder.path().join("list.txt"), "a.jpg 1\nb.jpg\n").unwrap();
    fails(
        open(list, folder.path()),
        &["list.txt:2:1", "b.jpg", "label"],
    );
    std::fs::write(folder.path().join("list.txt"), "a.jpg 1\n").unwrap();
    fails(open(list, folder.path()), &["a.jpg"]);
    let window = "layer { name: 'w' type: 'WindowData' top: 'data' top: 'label' }";
    fails(open(window, folder.path()), &["WindowData"]);
}

/// Checklist 27.
#[test]
fn a_list_of_photographs_gives_the_reference_pixels() {
    let Some(root) = data("") else { return };
    let images = root.join("imagenet/images256");
    let mut names: Vec<String> = std::fs::read_dir(&images)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = names
        .iter()
        .take(8)
        .enumerate()
        .map(|(n, name)| format!("{name} {n}"))
        .collect();
    std::fs::write(folder.path().join("list.txt"), lines.join("\n")).unwrap();
    let text = format!(
        "layer {{ name: 'data' type: 'ImageData' top: 'data' top: 'label' \
         image_data_param {{ source: 'list.txt' batch_size: 8 root_folder: '{}/' }} transform_param {{ crop_size: 227 }} }}",
        images.display()
    );
    let found = next(&mut open(&text, folder.path()).unwrap()).unwrap();
    assert_eq!(found[1].data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let bytes = std::fs::read(root.join("imagenet/pixels_u8_bgr_hwc_first8.npy")).unwrap();
    const SIDE: usize = 227;
    const PLANE: usize = SIDE * SIDE;
    let pixels = &bytes[bytes.len() - 8 * PLANE * 3..];
    let (mut most, mut far) = (0.0f32, 0);
    for (i, &expected) in pixels.iter().enumerate() {
        let (n, y, x, c) = (i / (3 * PLANE), i / (3 * SIDE) % SIDE, i / 3 % SIDE, i % 3);
        let pixel = found[0].data()[n * 3 * PLANE + c * PLANE + y * SIDE + x];
        let difference = (pixel - f32::from(expected)).abs();
        most = most.max(difference);
        far += usize::from(difference > 1.0);
    }
    // JPEG decoders round differently: OpenCV's made the reference.
    println!(
        "largest difference {most}, {far} of {} pixels differ by more than 1",
        pixels.len()
    );
    assert!(most <= 3.0 && far * 200 < pixels.len(), "{most}, {far}");
}

/// Values that Python's h5py reads from these files.
/// Checklist 27.
#[test]
fn hdf5_samples_give_their_values() {
    let Some(root) = data("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = ["sample_data.h5", "sample_data_2_gzip.h5"];
    let lines: Vec<String> = files
        .iter()
        .map(|f| root.join("formats").join(f).display().to_string())
        .collect();
    std::fs::write(folder.path().join("list.txt"), lines.join("\n")).unwrap();
    let text = "layer { name: 'h' type: 'HDF5Data' top: 'data' top: 'label' top: 'label2' \
                hdf5_data_param { source: 'list.txt' batch_size: 7 } }";
    let mut feed = open(text, folder.path()).unwrap();
    let shapes: Vec<String> = feed.blobs().iter().map(|b| b.shape.to_string()).collect();
    assert_eq!(shapes, ["7x8x6x5", "7x1", "7x1"]);
    let first = next(&mut feed).unwrap();
    assert_eq!(first[1].data(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert!(
        first[0]
            .data()
            .iter()
            .enumerate()
            .all(|(i, &value)| value == i as f32)
    );
    let second = next(&mut feed).unwrap();
    assert_eq!(second[0].data()[0], 1680.0);
    // The second file has labels of one byte, and is compressed.
    assert_eq!(second[1].data(), [8.0, 9.0, 10.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(second[2].data(), [9.0, 10.0, 11.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(second[0].data()[7 * 240 - 1], 3359.0);
    // 20 rows in all: the third batch begins again.
    let third = next(&mut feed).unwrap();
    assert_eq!(third[0].data()[6 * 240..], first[0].data()[..240]);
    // The 20 rows count on from 0.
    let rows = [&first, &second, &third].map(|batch| batch[0].data());
    let all = rows.into_iter().flatten().take(20 * 240);
    assert!(all.copied().eq((0..20 * 240).map(|i| i as f32)));
}

/// Values that Python's h5py reads from this file.
#[test]
fn samples_of_a_solver_give_their_values() {
    let Some(root) = data("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = root.join("formats/solver_data.h5");
    std::fs::write(folder.path().join("list.txt"), file.display().to_string()).unwrap();
    let text = "layer { name: 'h' type: 'HDF5Data' top: 'targets' top: 'data' \
                hdf5_data_param { source: 'list.txt' batch_size: 8 } }";
    let found = next(&mut open(text, folder.path()).unwrap()).unwrap();
    let [targets, data] = [&found[0], &found[1]];
    assert_eq!(data.shape().to_string(), "8x3x10x10");
    assert_eq!(data.data()[..3], [0.54360026, -0.80006456, -1.4199172]);
    assert_eq!(data.data()[2398..], [2.3568568, 1.7201595]);
    let sum: f64 = data.data().iter().map(|&x| f64::from(x)).sum();
    assert!((sum + 19.425706761307083).abs() < 1e-9, "{sum}");
    assert_eq!(targets.data()[..3], [2.2617085, 0.930156, -0.8923104]);
    assert_eq!(targets.data()[6..], [0.5951175, 1.3378657]);
}

/// Values and sums, weighted by place, that Python's h5py gives.
#[test]
fn the_usps_file_gives_its_values() {
    let Some(root) = data("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = root.join("data/usps/usps.h5");
    std::fs::write(folder.path().join("list.txt"), file.display().to_string()).unwrap();
    type Row = (usize, f32, [f32; 3]);
    let cases: [(&str, u32, [f64; 2], Row); 2] = [
        (
            "test",
            2007,
            [6_618_636.291441858, 360_097.0],
            (1234, 4.0, [0.037499994, 0.797, 0.9875]),
        ),
        (
            "train",
            7291,
            [22_772_441.08397913, 1_357_721.0],
            (100, 8.0, [0.7755, 0.006000012, 0.0]),
        ),
    ];
    for (part, rows, sums, (row, target, pixels)) in cases {
        let text = format!(
            "layer {{ name: 'h' type: 'HDF5Data' top: '{part}/data' top: '{part}/target' \
             hdf5_data_param {{ source: 'list.txt' batch_size: {rows} }} }}"
        );
        let found = next(&mut open(&text, folder.path()).unwrap()).unwrap();
        assert_eq!(found[0].shape().to_string(), format!("{rows}x256"));
        for (tensor, expected) in found.iter().zip(sums) {
            let values = tensor.data().iter().enumerate();
            let weighted = values.map(|(i, &x)| f64::from(x) * ((i + 1) % 97) as f64);
            let sum: f64 = weighted.sum();
            assert!((sum - expected).abs() < 1e-4, "{part}: {sum}, {expected}");
        }
        assert_eq!(found[0].data()[row * 256 + 100..][..3], pixels);
        assert_eq!(found[1].data()[row], target);
    }
}

#[test]
fn hdf5_of_another_shape_is_refused() {
    let Some(root) = data("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = ["sample_data.h5", "solver_data.h5"];
    let lines: Vec<String> = files
        .iter()
        .map(|f| root.join("formats").join(f).display().to_string())
        .collect();
    std::fs::write(folder.path().join("list.txt"), lines.join("\n")).unwrap();
    let text = "layer { name: 'h' type: 'HDF5Data' top: 'data' hdf5_data_param { source: 'list.txt' batch_size: 6 } }";
    fails(
        open(text, folder.path()),
        &["solver_data.h5", "\"data\"", "[3, 10, 10]", "[8, 6, 5]"],
    );
    let text = text.replace("top: 'data'", "top: 'nothing'");
    fails(open(&text, folder.path()), &["sample_data.h5", "nothing"]);
    std::fs::write(folder.path().join("list.txt"), "list.txt").unwrap();
    fails(open(&text, folder.path()), &["list.txt", "HDF5"]);
}
