//! `run --reshape`, and `--input-shape` for artifacts.

use crate::number;
use crate::support::{Workplace, ramp};
use skimjit::array::{read_npy, write_npy};
use skimjit_caffe::proto::{BlobProto, BlobShape};
use skimjit_caffe::{parse_prototxt, write_caffemodel};

/// Takes any size: a map, and classes by global pooling.
const PROTOTXT: &str = r#"name: "maps"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "map" type: "Pooling" bottom: "conv" top: "map"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"#;

/// A folder with `maps.skim`, for 8 x 8, and pictures of 8 x 8, 12 x 10 and 12 x 10.
fn workplace() -> Workplace {
    let place = Workplace::with_tiny_network();
    let (mut net, _) = parse_prototxt(PROTOTXT, "maps.prototxt").unwrap();
    let blob = |dims: &[i64], data: Vec<f32>| BlobProto {
        shape: Some(BlobShape {
            dim: dims.to_vec(),
            ..BlobShape::default()
        }),
        data,
        ..BlobProto::default()
    };
    let weights = ramp([4, 3, 3, 3], 0.1).into_data();
    net.layer[1].blobs = vec![blob(&[4, 3, 3, 3], weights), blob(&[4], vec![0.5; 4])];
    write_caffemodel(&net, &place.path("maps.caffemodel")).unwrap();
    for net in ["maps", "tiny"] {
        let arguments = [
            "compile",
            &format!("{net}.caffemodel"),
            "--no-tune",
            "--no-verify",
        ];
        place.ok(&arguments);
    }
    for (file, [width, height], start) in [
        ("a.png", [8, 8], 0),
        ("b.png", [12, 10], 50),
        ("c.png", [12, 10], 90),
    ] {
        let pixel = |x: u32, y: u32| {
            let value = |c: u32| (start + x * 7 + y * 11 + c * 40) as u8;
            image::Rgb([value(0), value(1), value(2)])
        };
        let picture = image::RgbImage::from_fn(width, height, pixel);
        picture.save(place.path(file)).unwrap();
    }
    place
}

#[test]
fn every_picture_keeps_its_size() {
    let place = workplace();
    let arguments = [
        "run",
        "maps.skim",
        "--input",
        "a.png",
        "b.png",
        "c.png",
        "b.png",
        "--scale",
        "1",
    ];
    let more = ["--reshape", "--output", "map=map.npy", "--top", "2"];
    let report = place.json(&[&arguments[..], &more].concat());
    assert_eq!(report["sizes"], 2);
    let files = report["files"].as_array().unwrap();
    let text = |index: usize, field: &str| files[index][field].as_str().unwrap().to_owned();
    assert_eq!(
        [text(0, "shape"), text(1, "shape")],
        ["1x3x8x8", "1x3x10x12"]
    );
    let generated: Vec<bool> = files
        .iter()
        .map(|file| file["generated_ms"].is_number())
        .collect();
    assert_eq!(generated, [true, true, false, false]);
    for (index, file) in files.iter().enumerate() {
        assert!(number(&file["run_ms"]) > 0.0);
        assert_eq!(file["outputs"][0]["blob"], "map");
        assert_eq!(
            file["images"][0]["classes"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(file["written"][0]["file"], format!("map.{index}.npy"));
    }
    // As if compiled for that size.
    let larger = [
        "--input-shape",
        "1,3,10,12",
        "--input",
        "c.png",
        "--scale",
        "1",
        "--output",
        "map=exact.npy",
    ];
    place.ok(&[&["run", "maps.skim"], &larger[..]].concat());
    let (exact, found) = (place.path("exact.npy"), place.path("map.2.npy"));
    let (exact, found) = (read_npy(&exact).unwrap(), read_npy(&found).unwrap());
    assert_eq!(found.shape().dims(), [1, 4, 5, 6]);
    assert_eq!(exact, found);
    let again = read_npy(&place.path("map.3.npy")).unwrap();
    assert_eq!(again, read_npy(&place.path("map.1.npy")).unwrap());
}

#[test]
fn the_table_tells_size_and_times() {
    let place = workplace();
    let arguments = ["run", "maps.skim", "--input", "b.png", "c.png", "--reshape"];
    let text = place.ok(&[&arguments[..], &["--scale", "1"]].concat());
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("1x3x10x12"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("b.png") && lines[0].contains("generated in"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("c.png") && !lines[1].contains("generated"),
        "{text}"
    );
    assert!(text.contains("map: 1x4x5x6"), "{text}");
}

#[test]
fn arrays_keep_their_size_and_batch() {
    let place = workplace();
    write_npy(&place.path("in.npy"), &ramp([3, 3, 9, 20], 2.0)).unwrap();
    let arguments = ["run", "maps.skim", "--input", "in.npy", "--reshape"];
    let more = [
        "--output",
        "map=map.npy",
        "--dump-blob",
        "conv=conv.npy",
        "--top",
        "1",
    ];
    let report = place.json(&[&arguments[..], &more].concat());
    let file = &report["files"][0];
    assert_eq!(file["images"].as_array().map(Vec::len), Some(3));
    assert_eq!(file["written"].as_array().map(Vec::len), Some(2));
    // A single file needs no number.
    let dims = |file: &str| read_npy(&place.path(file)).unwrap().shape().to_string();
    assert_eq!(
        [dims("map.npy"), dims("conv.npy")],
        ["3x4x5x10", "3x4x9x20"]
    );
}

#[test]
fn pictures_are_resized_and_cropped_first() {
    let place = workplace();
    let arguments = ["run", "maps.skim", "--input", "a.png", "b.png", "--reshape"];
    let report = place.json(&[&arguments[..], &["--resize", "short:20"]].concat());
    let shape = |report: &serde_json::Value, index: usize| report["files"][index]["shape"].clone();
    assert_eq!(
        [shape(&report, 0), shape(&report, 1)],
        ["1x3x20x20", "1x3x20x24"]
    );
    let report = place.json(&[&arguments[..], &["--crop", "7", "--mean-value", "10"]].concat());
    assert_eq!(shape(&report, 1), "1x3x7x7");
    assert_eq!(report["sizes"], 1);
}

#[test]
fn artifacts_take_other_input_shapes() {
    let place = workplace();
    let shape = ["--input-shape", "2,3,20,24"];
    let report = place.json(&[&["inspect", "maps.skim"], &shape[..]].concat());
    assert!(report.to_string().contains("2x4x20x24"), "{report}");
    let timed = [&["time", "maps.skim", "--iterations", "2"], &shape[..]].concat();
    assert_eq!(place.json(&timed)["batch"], 2);
    let compiled = ["compile", "maps.skim", "--no-tune", "-o", "large.skim"];
    place.ok(&[&compiled[..], &shape].concat());
    let verified = place.json(&["verify", "large.skim"]);
    assert_eq!(verified["passed"], true);
}

/// Arguments, exit code, words of the only line of error.
#[test]
fn what_cannot_be_is_refused_with_one_line() {
    let place = workplace();
    place.write("broken.png", "no picture");
    #[rustfmt::skip]
    let cases: [(&str, i32, &[&str]); 8] = [
        ("run tiny.skim --input b.png --reshape", 3, &["b.png", "\"ip1\"", "120 inputs", "expected 64", "10x12"]),
        ("run maps.skim --input b.png", 3, &["b.png", "12x10", "--reshape"]),
        ("run maps.skim --input broken.png --reshape", 3, &["broken.png"]),
        ("run maps.skim --input a.png --reshape --profile", 2, &["--profile", "--reshape"]),
        ("run maps.skim --input a.png --reshape --output nothing=x.npy", 2, &["nothing", "map"]),
        ("time tiny.skim --input-shape 1,3,9,30", 3, &["tiny.skim", "\"ip1\"", "300 inputs"]),
        ("time maps.skim --input-shape 1,3,9", 3, &["maps.skim", "1x3x9", "4 axes"]),
        ("time maps.skim --input-shape 1,3,100000,100000", 2, &["100000x100000", "2147483648"]),
    ];
    for (arguments, code, words) in cases {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let result = place.skimjit(&arguments);
        assert_eq!(result.code, Some(code), "{arguments:?}: {}", result.stderr);
        assert_eq!(result.stderr.lines().count(), 1, "{}", result.stderr);
        for word in words {
            assert!(
                result.stderr.contains(word),
                "no {word:?} in {}",
                result.stderr
            );
        }
    }
}
