//! Data bases from pictures and data sets, their mean, and features of their pictures.

use crate::support::{Workplace, ramp};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use skimjit::array::{read_npy, write_npy};
use skimjit::picture::{ChannelOrder, Picture};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::read_mean;
use skimjit_data::lmdb::{Reader, Record, Writer};
use skimjit_testing::{data, skip};
use std::path::Path;
use std::process::Command;

fn records(path: &Path) -> Vec<(String, Datum)> {
    let mut reader = Reader::open(path).unwrap();
    let decoded = |record: Record| {
        let key = String::from_utf8(record.key).unwrap();
        (key, Datum::decode(&record.value).unwrap())
    };
    std::iter::from_fn(|| reader.next().unwrap().map(decoded)).collect()
}

fn bytes(datum: &Datum) -> &[u8] {
    match &datum.pixels {
        Pixels::U8(bytes) | Pixels::Encoded(bytes) => bytes,
        Pixels::F32(_) => panic!("floats"),
    }
}

fn colour(n: u32, x: u32, y: u32, channel: u32) -> u8 {
    ((x * 7 + y * 3 + channel * 50 + n) % 256) as u8
}

/// A folder with pictures `pictures/0.png` … of 6 × 5 pixels, and `list.txt` with labels.
fn pictures(count: u32) -> Workplace {
    let place = Workplace::new();
    std::fs::create_dir(place.path("pictures")).unwrap();
    let mut list = String::new();
    for n in 0..count {
        let pixel = |x, y| Rgb([0, 1, 2].map(|channel| colour(n, x, y, channel)));
        let file = format!("{n}.png");
        let picture = RgbImage::from_fn(6, 5, pixel);
        picture.save(place.path("pictures").join(&file)).unwrap();
        list += &format!("{file} {}\n", n * 10);
    }
    place.write("list.txt", list);
    place
}

fn convert(place: &Workplace, options: &[&str], database: &str) -> Value {
    let fixed = ["convert-imageset", "pictures", "list.txt", database];
    place.json(&[&fixed[..], options].concat())
}

/// Checklist 59.
#[test]
fn pictures_become_records_in_the_order_of_the_list() {
    let place = pictures(70);
    let report = convert(&place, &["--check-size"], "db");
    assert_eq!(report["records"], 70);
    assert_eq!(report["size"], serde_json::json!([3, 5, 6]));
    let records = records(&place.path("db"));
    assert_eq!(records.len(), 70);
    for (n, (key, datum)) in (0u32..).zip(&records) {
        assert_eq!(*key, format!("{n:08}_{n}.png"));
        assert_eq!((datum.channels, datum.height, datum.width), (3, 5, 6));
        assert_eq!(datum.label, Some(n as i32 * 10));
        // Blue first.
        let at = |i: u32| colour(n, i % 6, i / 6 % 5, 2 - i / 30);
        assert!((0..90).map(at).eq(bytes(datum).iter().copied()), "{n}");
    }
}

#[test]
fn shuffling_goes_by_its_seed() {
    let place = pictures(20);
    let labels = |database: &str, seed: &str| -> Vec<i32> {
        convert(&place, &["--shuffle", "--seed", seed], database);
        let records = records(&place.path(database));
        let keyed = |(n, (key, datum)): (usize, &(String, Datum))| {
            let label = datum.label.unwrap();
            assert_eq!(*key, format!("{n:08}_{}.png", label / 10));
            label
        };
        records.iter().enumerate().map(keyed).collect()
    };
    let first = labels("a", "1");
    assert_eq!(first, labels("b", "1"));
    assert_ne!(first, labels("c", "2"));
    let mut sorted = first;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq((0..20).map(|n| n * 10)));
}

/// Checklist 59.
#[test]
fn sizes_gray_and_crop_are_those_asked_for() {
    let place = pictures(2);
    let size = ["--resize-width", "4", "--resize-height", "8"];
    for (database, more, channels) in [
        ("plain", &[][..], 3),
        ("gray", &["--gray"], 1),
        ("crop", &["--keep-aspect"], 3),
    ] {
        convert(&place, &[&size, more].concat(), database);
        let records = records(&place.path(database));
        let datum = &records[1].1;
        let found = (datum.channels, datum.height, datum.width);
        assert_eq!(found, (channels, 8, 4), "{database}");
        let file = place.path("pictures/1.png");
        let picture = Picture::open(&file, channels, ChannelOrder::Bgr).unwrap();
        let expected = match database {
            "crop" => picture.covering(4, 8),
            _ => picture.resized(4, 8),
        };
        assert_eq!(bytes(datum), expected.unwrap().planes(), "{database}");
    }
}

/// Checklist 26, 59.
#[test]
fn encoded_records_hold_files() {
    let place = pictures(3);
    let original = std::fs::read(place.path("pictures/1.png")).unwrap();
    let pixels = |datum: &Datum, channels| {
        Picture::decode(bytes(datum), Some(channels), ChannelOrder::Bgr).unwrap()
    };
    let original_pixels = Picture::decode(&original, Some(3), ChannelOrder::Bgr).unwrap();
    convert(&place, &["--encoded"], "as_is");
    let datum = records(&place.path("as_is")).remove(1).1;
    assert_eq!(datum.pixels, Pixels::Encoded(original));
    assert_eq!((datum.channels, datum.label), (0, Some(10)));
    convert(&place, &["--encoded", "--gray"], "gray");
    let datum = records(&place.path("gray")).remove(1).1;
    let native = Picture::decode(bytes(&datum), None, ChannelOrder::Bgr).unwrap();
    assert_eq!(native.channels(), 1);
    convert(&place, &["--encoded", "--encode-type", "jpg"], "jpg");
    let datum = records(&place.path("jpg")).remove(1).1;
    assert!(bytes(&datum).starts_with(b"\xff\xd8"));
    let made = pixels(&datum, 3);
    let far = made.data().iter().zip(original_pixels.data());
    let far = far.map(|(&a, &b)| a.abs_diff(b)).max();
    assert!(far < Some(60), "{far:?}");
    // The mean of encoded and of raw records is the same.
    convert(&place, &[], "raw");
    place.ok(&["compute-image-mean", "raw", "raw.binaryproto"]);
    place.ok(&["compute-image-mean", "as_is", "as_is.binaryproto"]);
    let means = ["raw", "as_is"]
        .map(|name| read_mean(&place.path(&format!("{name}.binaryproto"))).unwrap());
    assert_eq!(means[0], means[1]);
    assert_eq!(means[0].shape().dims(), [1, 3, 5, 6]);
    for (i, &mean) in (0u32..).zip(means[0].data()) {
        let value = |n| f64::from(colour(n, i % 6, i / 6 % 5, 2 - i / 30));
        let expected = (0..3).map(value).sum::<f64>() / 3.0;
        assert!((f64::from(mean) - expected).abs() < 1e-4, "{i}");
    }
}

#[test]
fn faults_name_the_picture_and_leave_no_data_base() {
    let place = pictures(3);
    let gray = GrayImage::from_pixel(9, 9, Luma([1]));
    gray.save(place.path("pictures/other.png")).unwrap();
    place.write("pictures/bad.jpg", b"\xff\xd8\xff\xe0 nothing more");
    for (line, options, words) in [
        (
            "no.jpg 1",
            &[][..],
            ["no.jpg (line 4 of the list)", "No such file"],
        ),
        (
            "bad.jpg 1",
            &[],
            ["bad.jpg (line 4 of the list)", "no readable picture"],
        ),
        (
            "other.png 1",
            &["--check-size"],
            ["other.png", "expected 3x5x6, as 0.png has"],
        ),
        ("0.png one", &[], ["more.txt:4:1", "label \"one\""]),
        ("0.png", &[], ["more.txt:4:1", "without a label"]),
    ] {
        let list = std::fs::read_to_string(place.path("list.txt")).unwrap();
        place.write("more.txt", format!("{list}{line}\n"));
        let fixed = ["convert-imageset", "pictures", "more.txt", "db"];
        let result = place.skimjit(&[&fixed[..], options].concat());
        assert_eq!(result.code, Some(3), "{line}: {}", result.stderr);
        for word in words {
            assert!(result.stderr.contains(word), "{line}: {}", result.stderr);
        }
        assert!(!place.path("db").exists(), "{line}");
    }
    convert(&place, &[], "db");
    let again = place.skimjit(&["convert-imageset", "pictures", "list.txt", "db"]);
    assert_eq!(again.code, Some(3));
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    assert_eq!(records(&place.path("db")).len(), 3, "it is as it was");
    let half = [
        "convert-imageset",
        "pictures",
        "list.txt",
        "x",
        "--resize-width",
        "3",
    ];
    assert_eq!(place.skimjit(&half).code, Some(2));
}

#[test]
fn means_of_sizes_that_differ_are_refused_by_record() {
    let place = pictures(2);
    let gray = GrayImage::from_pixel(9, 9, Luma([1]));
    gray.save(place.path("pictures/1.png")).unwrap();
    convert(&place, &[], "db");
    let result = place.skimjit(&["compute-image-mean", "db"]);
    assert_eq!(result.code, Some(3));
    for word in [
        "data.mdb",
        "record \"00000001_1.png\"",
        "found 3x9x9, expected 3x5x6",
    ] {
        assert!(result.stderr.contains(word), "{}", result.stderr);
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let result = place.skimjit(&["compute-image-mean", "empty"]);
    assert!(result.stderr.contains("data.mdb"), "{}", result.stderr);
}

#[test]
fn damaged_data_bases_are_refused_by_page_and_record() {
    let place = pictures(60);
    convert(&place, &[], "db");
    let file = std::fs::read(place.path("db/data.mdb")).unwrap();
    std::fs::create_dir(place.path("cut")).unwrap();
    place.write("cut/data.mdb", &file[..3 * 4096 - 1]);
    let mut writer = Writer::create(&place.path("short")).unwrap();
    let short = [8, 1, 16, 1, 24, 2, 34, 1, 9];
    writer.put(b"00000000_short", short.to_vec()).unwrap();
    writer.finish().unwrap();
    for (database, words) in [
        ("cut", ["cut/data.mdb", "page", "cut off or damaged"]),
        (
            "short",
            ["record \"00000000_short\"", "found 1 bytes", "1x1x2"],
        ),
    ] {
        let result = place.skimjit(&["compute-image-mean", database]);
        assert_eq!(result.code, Some(3), "{}", result.stderr);
        for word in words {
            assert!(result.stderr.contains(word), "{}", result.stderr);
        }
    }
}

fn idx(dims: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    file.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    file.extend(elements);
    file
}

#[test]
fn mnist_and_cifar_files_become_data_bases() {
    let place = Workplace::new();
    let pixels: Vec<u8> = (0..2 * 4 * 3).collect();
    place.write("images", idx(&[2, 4, 3], &pixels));
    place.write("labels", idx(&[2], &[7, 0]));
    let report = place.json(&["convert-dataset", "mnist", "images", "labels", "mnist"]);
    assert_eq!(report["records"], 2);
    assert_eq!(report["labels"][7], 1);
    let records_of = |database: &str| records(&place.path(database));
    let second = records_of("mnist").remove(1);
    assert_eq!((&*second.0, second.1.label), ("00000001", Some(0)));
    assert_eq!(second.1.pixels, Pixels::U8(pixels[12..].to_vec()));
    place.write("labels", idx(&[3], &[7, 0, 1]));
    let result = place.skimjit(&["convert-dataset", "mnist", "images", "labels", "no"]);
    assert!(
        result.stderr.contains("found 3 labels, expected 2"),
        "{}",
        result.stderr
    );

    // The same two pictures as a binary batch and as a sheet.
    let value = |n: usize, channel: usize, pixel: usize| (n * 3 + channel * 80 + pixel) as u8;
    let mut batch = Vec::new();
    let mut sheet = RgbImage::new(1024, 2);
    for n in 0..2 {
        batch.push(9 - n as u8);
        batch.extend((0..3072).map(|i| value(n, i / 1024, i % 1024)));
        for pixel in 0..1024 {
            let colours = [0, 1, 2].map(|channel| value(n, channel, pixel));
            sheet.put_pixel(pixel as u32, n as u32, Rgb(colours));
        }
    }
    place.write("batch.bin", &batch);
    place.write("labels.u8", [9, 8]);
    sheet.save(place.path("sheet.png")).unwrap();
    place.ok(&[
        "convert-dataset",
        "cifar10",
        "batch.bin",
        "batch.bin",
        "binary",
    ]);
    place.ok(&[
        "convert-dataset",
        "cifar10",
        "--labels",
        "labels.u8",
        "sheet.png",
        "sheets",
    ]);
    let (binary, sheets) = (records_of("binary"), records_of("sheets"));
    assert_eq!((binary.len(), &binary[..2]), (4, &sheets[..]));
    assert_eq!((&*binary[3].0, binary[3].1.label), ("00003", Some(8)));
    let result = place.skimjit(&["convert-dataset", "cifar10", "sheet.png", "no"]);
    assert!(result.stderr.contains("--labels"), "{}", result.stderr);
}

/// Checklist 59.
#[test]
fn features_are_those_that_run_writes() {
    let place = Workplace::with_tiny_network();
    place.write("tiny.prototxt", crate::support::PROTOTXT);
    write_npy(&place.path("in.npy"), &ramp([5, 3, 8, 8], 1.0)).unwrap();
    let run =
        "run tiny.caffemodel --input in.npy --dump-blob conv1=conv1.npy --dump-blob ip1=ip1.npy";
    place.ok(&run.split(' ').collect::<Vec<_>>());
    let extract = |output: &str, batch: &str| {
        let fixed = "extract-features --prototxt tiny.prototxt --weights tiny.caffemodel conv1 ip1";
        let fixed: Vec<&str> = fixed.split(' ').collect();
        let more = ["--input", "in.npy", "--output", output, "--batch", batch];
        place.json(&[&fixed[..], &more].concat())
    };
    let report = extract("{blob}_again.npy", "2");
    assert_eq!(report["images"], 5);
    extract("features/{blob}", "3");
    extract("features.h5", "5");
    for blob in ["conv1", "ip1"] {
        let expected = read_npy(&place.path(&format!("{blob}.npy"))).unwrap();
        let found = read_npy(&place.path(&format!("{blob}_again.npy"))).unwrap();
        assert_eq!(found, expected);
        let rows = records(&place.path("features").join(blob));
        assert_eq!(rows.len(), 5);
        let size = expected.data().len() / 5;
        for (n, (key, datum)) in rows.iter().enumerate() {
            assert_eq!(*key, format!("{n:010}"));
            assert_eq!(datum.channels, expected.shape().dim(1));
            let row = &expected.data()[n * size..][..size];
            assert_eq!(datum.pixels, Pixels::F32(row.to_vec()));
        }
    }
    let result = place.skimjit(&[
        "extract-features",
        "--prototxt",
        "tiny.prototxt",
        "--weights",
        "tiny.caffemodel",
        "nothing",
        "--input",
        "in.npy",
        "--output",
        "x.npy",
    ]);
    assert_eq!(result.code, Some(3));
    assert!(
        result.stderr.contains("no blob \"nothing\""),
        "{}",
        result.stderr
    );
}

#[test]
fn features_come_from_data_layers_too() {
    let place = Workplace::with_tiny_network();
    std::fs::create_dir(place.path("pictures")).unwrap();
    let mut list = String::new();
    for n in 0..5 {
        let pixel = |x, y| Rgb([0, 1, 2].map(|channel| colour(n * 9, x, y, channel)));
        let picture = RgbImage::from_fn(8, 8, pixel);
        picture
            .save(place.path(&format!("pictures/{n}.png")))
            .unwrap();
        list += &format!("{n}.png {}\n", n + 2);
    }
    place.write("list.txt", list);
    convert(&place, &[], "db");
    let input =
        "type: \"Input\" top: \"data\"\n  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }";
    let data = "type: \"Data\" top: \"data\" top: \"label\"\n  transform_param { scale: 0.01 }\n  \
                data_param { source: \"db\" batch_size: 2 backend: LMDB } }";
    let prototxt = crate::support::PROTOTXT.replace(input, data)
        + "layer { name: \"loss\" type: \"Accuracy\" bottom: \"prob\" bottom: \"label\" top: \"loss\" }";
    assert!(prototxt.contains("data_param"));
    place.write("data.prototxt", prototxt);
    let fixed = "extract-features --prototxt data.prototxt --weights tiny.caffemodel ip1 label";
    let more = "--iterations 3 --output {blob}.npy";
    let arguments: Vec<&str> = fixed.split(' ').chain(more.split(' ')).collect();
    assert_eq!(place.json(&arguments)["images"], 6);
    let label = read_npy(&place.path("label.npy")).unwrap();
    assert_eq!(label.data(), [2.0, 3.0, 4.0, 5.0, 6.0, 2.0]);
    let files = ["0", "1", "2", "3", "4"].map(|n| format!("pictures/{n}.png"));
    let run = "run tiny.caffemodel --scale 0.01 --dump-blob ip1=run.npy --input";
    let files = files.iter().map(String::as_str);
    place.ok(&run.split(' ').chain(files).collect::<Vec<_>>());
    let (found, expected) = ("ip1.npy", "run.npy");
    let read = |name: &str| read_npy(&place.path(name)).unwrap().into_data();
    assert_eq!(read(found)[..25], read(expected)[..]);
}

#[test]
fn leveldb_is_made_and_read_as_well() {
    let place = pictures(9);
    convert(&place, &[], "lmdb");
    convert(&place, &["--backend", "leveldb"], "leveldb");
    let mean = |database: &str| place.json(&["compute-image-mean", database]);
    assert_eq!(mean("lmdb"), mean("leveldb"));
    assert_eq!(mean("leveldb")["records"], 9);
}

const PYTHON: &str = r"
import lmdb, sys

def fields(data):
    at = 0
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]; at += 1
            value |= (byte & 127) << shift; shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            at += value
            value = data[at - value:at]
        else:
            assert key & 7 == 0, key
        yield key >> 3, value

with lmdb.open(sys.argv[1], readonly=True, lock=False) as db, db.begin() as transaction:
    for n, (key, value) in enumerate(transaction.cursor()):
        assert key == b'%08d_%d.png' % (n, n), key
        datum = dict(fields(value))
        pixels = bytes((x * 7 + y * 3 + c * 50 + n) % 256
                       for c in (2, 1, 0) for y in range(5) for x in range(6))
        assert datum == {1: 3, 2: 5, 3: 6, 4: pixels, 5: n * 10}, (n, datum)
    assert n == 29

def varint(value):
    out = b''
    while value > 127:
        out += bytes([value & 127 | 128]); value >>= 7
    return out + bytes([value])

with lmdb.open(sys.argv[2], map_size=1 << 24) as db, db.begin(write=True) as transaction:
    for n in range(40):
        pixels = bytes([n, n + 1])
        datum = b'\x08\x01\x10\x01\x18\x02\x22' + varint(len(pixels)) + pixels + b'\x28' + varint(n * 9)
        transaction.put(b'%08d_by_python' % n, datum)
";

#[test]
fn python_reads_our_data_bases_and_we_read_its() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import lmdb"]).is_ok_and(|output| output.status.success()) {
        skip("no python3 with the package lmdb");
        return;
    }
    let place = pictures(30);
    convert(&place, &[], "ours");
    let [ours, theirs] = ["ours", "theirs"].map(|name| place.path(name));
    let paths = [ours.to_str().unwrap(), theirs.to_str().unwrap()];
    let output = python(&["-c", PYTHON, paths[0], paths[1]]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let report = place.json(&["compute-image-mean", "theirs"]);
    assert_eq!(
        (&report["records"], &report["width"]),
        (&40.into(), &2.into())
    );
    assert_eq!(report["mean_value"][0], 20.0);
    for (n, (key, datum)) in records(&theirs).iter().enumerate() {
        assert_eq!(*key, format!("{n:08}_by_python"));
        assert_eq!(datum.label, Some(n as i32 * 9));
        assert_eq!(bytes(datum), [n as u8, n as u8 + 1]);
    }
}

/// Checklist 59.
#[test]
fn the_mean_of_a_real_data_base_is_the_one_beside_it() {
    let Some(data) = data("data") else { return };
    let place = Workplace::new();
    let database = data.join("lmdb_coiss/train_lmdb");
    let arguments = [
        "compute-image-mean",
        database.to_str().unwrap(),
        "mean.binaryproto",
    ];
    let report = place.json(&arguments);
    assert_eq!(report["records"], 380);
    let found = read_mean(&place.path("mean.binaryproto")).unwrap();
    let expected = read_mean(&data.join("lmdb_coiss/coiss384Mean.binaryproto")).unwrap();
    assert_eq!(found.shape(), expected.shape());
    let pairs = found.data().iter().zip(expected.data());
    let far = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-3, "{far}");
}

#[test]
fn real_mnist_and_cifar_files_keep_their_pixels() {
    let Some(data) = data("data") else { return };
    let place = Workplace::new();
    let file = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let [images, labels] = ["images-idx3", "labels-idx1"]
        .map(|kind| file(&format!("mnist/test_first3000-{kind}-ubyte.gz")));
    place.ok(&["convert-dataset", "mnist", &images, &labels, "mnist"]);
    let found = records(&place.path("mnist"));
    let images = skimjit_data::idx::read_images(Path::new(&images)).unwrap();
    let labels = skimjit_data::idx::read_labels(Path::new(&labels)).unwrap();
    assert_eq!((found.len(), images.height, images.width), (3000, 28, 28));
    for ((key, datum), (n, (pixels, label))) in
        found.iter().zip(images.iter().zip(labels).enumerate())
    {
        assert_eq!(*key, format!("{n:08}"));
        assert_eq!(datum.label, Some(label.into()));
        assert_eq!(bytes(datum), pixels);
    }
    let batch = file("cifar10/test_00000_00499.bin.gz");
    let report = place.json(&["convert-dataset", "cifar10", &batch, "cifar10"]);
    assert_eq!(report["records"], 500);
}

/// The program, allowed to write files of so many blocks of 512 bytes.
fn with_full_disk(place: &Workplace, blocks: u32, arguments: &[&str]) -> crate::support::Outcome {
    let script = format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_skimjit")]);
    command.args(arguments).current_dir(place.path(""));
    crate::support::outcome(&mut command)
}

fn names(place: &Workplace) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_data_base() {
    let place = pictures(9);
    let list: String = (0..20_000)
        .map(|n| format!("{}.png {n}\n", n % 9))
        .collect();
    place.write("list.txt", list);
    let before = names(&place);
    for backend in ["lmdb", "leveldb"] {
        for blocks in [0, 8, 64, 500] {
            let arguments = [
                "convert-imageset",
                "pictures",
                "list.txt",
                "base",
                "--backend",
                backend,
            ];
            let result = with_full_disk(&place, blocks, &arguments);
            let what = format!("{backend}, {blocks} blocks: {}", result.stderr);
            assert_eq!(result.code, Some(3), "{what}");
            assert_eq!(result.stderr.lines().count(), 1, "{what}");
            assert!(result.stderr.contains("base"), "{what}");
            assert_eq!(names(&place), before, "{what}");
        }
    }
}

#[test]
fn a_conversion_that_is_killed_leaves_no_data_base() {
    let place = pictures(9);
    let list: String = (0..200_000)
        .map(|n| format!("{}.png {n}\n", n % 9))
        .collect();
    place.write("list.txt", list);
    for backend in ["lmdb", "leveldb"] {
        let arguments = [
            "convert-imageset",
            "pictures",
            "list.txt",
            "base",
            "--backend",
            backend,
        ];
        let mut running = place.command(&arguments).spawn().unwrap();
        let begun = || names(&place).iter().any(|name| name.starts_with(".base."));
        while !begun() && running.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(
            running.try_wait().unwrap().is_none(),
            "{backend}: ended by itself"
        );
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(!place.path("base").exists(), "{backend}");
        for name in names(&place)
            .iter()
            .filter(|name| name.starts_with(".base."))
        {
            std::fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
}

#[test]
fn a_picture_that_is_cut_off_is_an_error_wherever_it_is() {
    let place = pictures(2);
    let whole = std::fs::read(place.path("pictures/1.png")).unwrap();
    let jpeg = place.json(&[
        "convert-imageset",
        "pictures",
        "list.txt",
        "whole",
        "--encoded",
        "--encode-type",
        "jpg",
    ]);
    assert_eq!(jpeg["records"], 2);
    place.write("pictures/1.png", &whole[..whole.len() / 3]);
    for options in [&[][..], &["--encoded"]] {
        let result = place.skimjit(
            &[
                &["convert-imageset", "pictures", "list.txt", "base"],
                options,
            ]
            .concat(),
        );
        assert_eq!(result.code, Some(3), "{}", result.stderr);
        assert!(result.stderr.contains("1.png"), "{}", result.stderr);
        assert!(!place.path("base").exists());
    }
    // The same in a record.
    let mut writer = Writer::create(&place.path("cut")).unwrap();
    for (key, mut datum) in records(&place.path("whole")) {
        if let Pixels::Encoded(file) = &mut datum.pixels {
            file.truncate(file.len() * 3 / 10);
        }
        writer.put(key.as_bytes(), datum.encode().unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let result = place.skimjit(&["compute-image-mean", "cut"]);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert!(
        result.stderr.contains("record \"00000000_0.png\""),
        "{}",
        result.stderr
    );
}
