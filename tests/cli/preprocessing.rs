//! How pictures become inputs, and what the classes are called, belongs to the network.

use crate::support::{Workplace, ramp, tiny};
use skimjit::array::{read_npy, write_npy};
use skimjit::{LoadOptions, Model};
use skimjit_caffe::{parse_prototxt, write_caffemodel, write_mean};
use skimjit_models::artifact::{Kind, Reader, Writer, pictures};
use skimjit_models::preprocess::{ChannelOrder, Mean, Resize};
use skimjit_models::{Preprocess, Shape, Tensor};

/// `tiny.caffemodel`, and `trained.caffemodel`, the same with a data layer; a picture of 12 × 10 pixels.
fn workplace(transform: &str) -> Workplace {
    let place = Workplace::with_tiny_network();
    let text = format!(
        "layer {{ name: 'data' type: 'Data' top: 'data' top: 'label' {transform}
           data_param {{ source: 'absent_lmdb' batch_size: 4 }} }}"
    );
    let (data, _) = parse_prototxt(&text, "data.prototxt").unwrap();
    let mut net = tiny();
    net.layer[0] = data.layer[0].clone();
    write_caffemodel(&net, &place.path("trained.caffemodel")).unwrap();
    let picture =
        image::RgbImage::from_fn(12, 10, |x, y| image::Rgb([x as u8 * 20, y as u8 * 20, 7]));
    picture.save(place.path("a.png")).unwrap();
    place
}

const TRANSFORM: &str = "transform_param { crop_size: 8 mirror: true scale: 0.25
    mean_value: 104 mean_value: 117 mean_value: 123 }";
/// The same by options.
const OPTIONS: [&str; 6] = [
    "--crop",
    "8",
    "--scale",
    "0.25",
    "--mean-value",
    "104,117,123",
];

fn load(place: &Workplace, file: &str) -> Model {
    Model::load(&place.path(file), &LoadOptions::default()).unwrap()
}

/// Output of a run, and what it said.
fn output(place: &Workplace, arguments: &[&str]) -> (Tensor, String) {
    let result = place.skimjit(&[&["run"], arguments, &["--output", "out.npy"]].concat());
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    (read_npy(&place.path("out.npy")).unwrap(), result.stderr)
}

#[test]
fn what_the_data_layer_does_survives_import_and_artifact() {
    let place = workplace(TRANSFORM);
    let by_options = output(
        &place,
        &[&["tiny.caffemodel", "a.png"], &OPTIONS[..]].concat(),
    );
    assert_eq!(by_options.1, "", "all is said by options");
    let own = output(&place, &["trained.caffemodel", "a.png"]);
    assert_eq!(own.0, by_options.0);
    for word in ["note", "8x8", "BGR", "104,117,123", "0.25", "--resize"] {
        assert!(own.1.contains(word), "no {word:?} in {}", own.1);
    }
    let compiled = place.ok(&["compile", "trained.caffemodel"]);
    assert!(compiled.contains("pictures: centre of 8x8"), "{compiled}");
    assert_eq!(output(&place, &["trained.skim", "a.png"]).0, own.0);
    // Options change single steps.
    let other = output(&place, &["trained.skim", "a.png", "--scale", "1"]);
    let same = ["--scale", "1", "--crop", "8", "--mean-value", "104,117,123"];
    assert_eq!(
        other.0,
        output(&place, &[&["tiny.caffemodel", "a.png"], &same[..]].concat()).0
    );
    assert_ne!(other.0, own.0);
    // What is used is in the report too.
    let report = place
        .skimjit(&["run", "trained.skim", "a.png", "--json"])
        .stdout;
    assert!(
        report.contains("centre of 8x8, pixels 0 to 255, BGR, minus 104,117,123"),
        "{report}"
    );
}

#[test]
fn a_deploy_definition_takes_it_from_the_weights() {
    let place = workplace(TRANSFORM);
    place.write("deploy.prototxt", crate::support::PROTOTXT);
    let deploy = [
        "trained.caffemodel",
        "--prototxt",
        "deploy.prototxt",
        "a.png",
    ];
    let own = output(&place, &["trained.caffemodel", "a.png"]);
    assert_eq!(output(&place, &deploy).0, own.0);
}

#[test]
fn nothing_known_is_said_plainly() {
    let place = workplace(TRANSFORM);
    let small = ["tiny.caffemodel", "a.png", "--input-shape", "1,3,8,8"];
    let error = place.skimjit(&[&["run"], &small[..]].concat());
    assert_eq!(error.code, Some(3));
    let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3]));
    picture.save(place.path("b.png")).unwrap();
    let (_, said) = output(&place, &["tiny.caffemodel", "b.png"]);
    for word in [
        "warning",
        "no preprocessing known",
        "0 to 255, BGR",
        "--mean-value",
        "compile",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    let strict = place.skimjit(&["run", "tiny.caffemodel", "b.png", "--strict"]);
    assert_eq!(strict.code, Some(3), "{}", strict.stderr);
    assert!(
        strict.stderr.contains("found 1 warning"),
        "{}",
        strict.stderr
    );
    let given = ["--mean-value", "0", "--strict"];
    assert_eq!(
        output(
            &place,
            &[&["tiny.caffemodel", "b.png"], &given[..]].concat()
        )
        .1,
        ""
    );
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    assert_eq!(
        output(&place, &["tiny.caffemodel", "in.npy"]).1,
        "",
        "arrays need none"
    );
}

#[test]
fn compile_keeps_what_its_options_say() {
    let place = workplace(TRANSFORM);
    place.write("labels.txt", "ant\nbee\ncat\ndog\nelk\n");
    let options = [
        "--resize",
        "short:9",
        "--crop",
        "8",
        "--channel-order",
        "rgb",
        "--mean-value",
        "1,2,3",
    ];
    let labels = ["--labels", "labels.txt"];
    place.ok(&[&["compile", "tiny.caffemodel"], &options[..], &labels].concat());
    let own = output(&place, &["tiny.skim", "a.png"]);
    let by_options = output(
        &place,
        &[&["tiny.caffemodel", "a.png"], &options[..]].concat(),
    );
    assert_eq!(own.0, by_options.0);
    let model = load(&place, "tiny.skim");
    assert_eq!(model.labels(), ["ant", "bee", "cat", "dog", "elk"]);
    let expected = Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Some(Resize::Short(9)),
        crop: Some(8),
        mean: Mean::Values(vec![1.0, 2.0, 3.0]),
        scale: 1.0,
    };
    assert_eq!(model.preprocess(), Some(&expected));
    let named = place
        .skimjit(&["run", "tiny.skim", "a.png", "--top", "1"])
        .stdout;
    let best = ["ant", "bee", "cat", "dog", "elk"]
        .iter()
        .filter(|name| named.contains(**name))
        .count();
    assert_eq!(best, 1, "{named}");
    // A step is taken away, and an artifact is compiled again.
    place.ok(&[
        "compile",
        "tiny.skim",
        "-o",
        "again.skim",
        "--resize",
        "none",
        "--no-tune",
    ]);
    let again = load(&place, "again.skim");
    assert_eq!(again.preprocess().map(|own| own.resize), Some(None));
    assert_eq!(again.labels().len(), 5);
}

#[test]
fn a_mean_image_is_kept_whole_and_says_the_size() {
    let place = workplace("transform_param { crop_size: 8 mean_file: 'mean.binaryproto' }");
    let mean = ramp([1, 3, 9, 11], 40.0);
    write_mean(mean.clone(), &place.path("mean.binaryproto")).unwrap();
    place.ok(&["compile", "trained.caffemodel", "--no-tune"]);
    std::fs::remove_file(place.path("mean.binaryproto")).unwrap();
    let model = load(&place, "trained.skim");
    let own = model.preprocess().unwrap();
    assert_eq!(own.mean, Mean::Image(mean));
    assert_eq!(
        (own.resize, own.crop),
        (Some(Resize::Exact(11, 9)), Some(8))
    );
    output(&place, &["trained.skim", "a.png"]);
}

#[test]
fn a_mean_image_that_is_missing_is_no_mean_of_zero() {
    let place = workplace("transform_param { crop_size: 8 mean_file: '../gone/mean.binaryproto' }");
    let compiled = place.skimjit(&["compile", "trained.caffemodel", "--no-tune"]);
    assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
    assert!(
        compiled.stderr.contains("../gone/mean.binaryproto"),
        "{}",
        compiled.stderr
    );
    let strict = [
        "compile",
        "trained.caffemodel",
        "--no-tune",
        "--strict",
        "-o",
        "strict.skim",
    ];
    let strict = place.skimjit(&strict);
    assert_eq!(strict.code, Some(3), "{}", strict.stderr);
    assert!(!place.path("strict.skim").exists());
    for model in ["trained.caffemodel", "trained.skim"] {
        let result = place.skimjit(&["run", model, "a.png"]);
        assert_eq!(result.code, Some(3), "{}", result.stderr);
        for word in [
            "a.png",
            "mean_file",
            "../gone/mean.binaryproto",
            "--mean-value",
        ] {
            assert!(
                result.stderr.contains(word),
                "no {word:?} in {}",
                result.stderr
            );
        }
        output(&place, &[model, "a.png", "--mean-value", "0"]);
    }
    // Nothing else needs it.
    place.ok(&["inspect", "trained.caffemodel"]);
}

#[test]
fn names_must_be_as_many_as_classes() {
    let place = workplace(TRANSFORM);
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    place.write("four.txt", "ant\nbee\ncat\ndog\n");
    place.write("six.txt", "ant\nbee\ncat\ndog\nelk\nfox\n");
    place.write(
        "titles.csv",
        "id,name\n0,ant\n1,\"bee, small\"\n2,cat\n3,dog\n4,elk\n",
    );
    place.write("one.csv", "1,ant\n2,bee\n3,cat\n4,dog\n5,elk\n");
    for (file, words) in [
        (
            "four.txt",
            &["four.txt", "4 names", "5, the classes of \"prob\""][..],
        ),
        (
            "six.txt",
            &["six.txt", "6 names", "5, the classes of \"prob\""],
        ),
        ("one.csv", &["one.csv", "no class 0", "counted from 0"]),
    ] {
        for arguments in [
            &["run", "tiny.caffemodel", "in.npy"][..],
            &["compile", "tiny.caffemodel"],
        ] {
            let result = place.skimjit(&[arguments, &["--labels", file]].concat());
            assert_eq!(result.code, Some(3), "{file}: {}", result.stderr);
            for word in words {
                assert!(
                    result.stderr.contains(word),
                    "no {word:?} in {}",
                    result.stderr
                );
            }
        }
    }
    let text = place.ok(&["run", "tiny.caffemodel", "in.npy", "--labels", "titles.csv"]);
    for (class, name) in ["ant", "bee, small", "cat", "dog", "elk"]
        .iter()
        .enumerate()
    {
        let line = text.lines().find(|line| line.ends_with(name)).unwrap();
        assert!(line.trim_start().starts_with(&class.to_string()), "{text}");
    }
}

#[test]
fn code_without_skimjit_takes_no_pictures() {
    let place = workplace(TRANSFORM);
    let emit = [
        "compile",
        "tiny.caffemodel",
        "--emit",
        "obj",
        "--scale",
        "2",
    ];
    let result = place.skimjit(&emit);
    assert_eq!(result.code, Some(2), "{}", result.stderr);
    assert!(
        result.stderr.contains("--scale") && result.stderr.contains("--emit"),
        "{}",
        result.stderr
    );
}

/// Every byte of the sections, one at a time: an error or another value, never a panic or a large allocation.
#[test]
fn damaged_sections_are_refused_or_mean_something() {
    let preprocess = Preprocess {
        resize: Some(Resize::Exact(11, 9)),
        crop: Some(8),
        mean: Mean::Image(Tensor::zeros(Shape::new([1, 3, 9, 11]).unwrap())),
        ..Preprocess::default()
    };
    let labels = ["ant".to_owned(), "bee".to_owned()];
    let mut writer = Writer::new();
    pictures::write_preprocess(&mut writer, &preprocess).unwrap();
    pictures::write_labels(&mut writer, &labels).unwrap();
    let file = writer.to_bytes();
    let reader = Reader::new(&file).unwrap();
    assert_eq!(
        pictures::read_preprocess(&reader).unwrap(),
        Some(preprocess)
    );
    assert_eq!(
        pictures::read_labels(&reader).unwrap(),
        Some(labels.to_vec())
    );
    for (kind, name) in [
        (Kind::PREPROCESS, pictures::PREPROCESS_SECTION),
        (Kind::LABELS, pictures::LABELS_SECTION),
    ] {
        let whole = reader.section(kind, name).unwrap();
        let read = |bytes: &[u8]| {
            let mut writer = Writer::new();
            writer.add(kind, name, bytes.to_vec()).unwrap();
            let file = writer.to_bytes();
            let reader = Reader::new(&file).unwrap();
            let preprocess = pictures::read_preprocess(&reader).map(|read| read.is_some());
            preprocess.and(pictures::read_labels(&reader).map(|read| read.is_some()))
        };
        for at in 0..whole.len().min(64) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = value;
                let _ = read(&bytes);
            }
            assert!(read(&whole[..at]).is_err(), "{name} cut to {at}");
        }
        assert!(read(&[whole, &[0]].concat()).is_err(), "{name} with more");
        let mut newer = whole.to_vec();
        newer[0] = 2;
        let error = read(&newer).unwrap_err().to_string();
        assert!(
            error.contains("version 2") && error.contains("update"),
            "{error}"
        );
    }
}
