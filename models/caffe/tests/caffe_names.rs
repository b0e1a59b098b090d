//! Strings that are not UTF-8: the same in a text and in a binary file, and written as they were.

mod import_support;

use skimjit_caffe::import::{ImportOptions, import, load};
use skimjit_caffe::proto::{LayerParameter, NetParameter};
use skimjit_caffe::{
    odd_names, read_caffemodel, read_prototxt, read_solver, text, write_caffemodel,
    write_caffemodel_hdf5,
};
use skimjit_host::{octets, printable};
use std::path::{Path, PathBuf};

/// "café" in Latin-1, and "卷积" in GBK.
const NAMES: [&[u8]; 2] = [b"caf\xe9", b"\xbe\xed\xbb\xfd"];

fn definition(name: &[u8]) -> Vec<u8> {
    [
        b"input: 'data' input_shape { dim: 1 dim: 2 }\nlayer { name: '".as_slice(),
        name,
        b"' type: 'InnerProduct' bottom: 'data' top: '",
        name,
        b"' inner_product_param { num_output: 1 } }\n",
    ]
    .concat()
}

/// Weights of 3 and 5 and a bias of 7 for a layer of that name.
fn weights(name: &[u8]) -> NetParameter {
    let name = octets::text(name);
    import_support::weights(&name, &[(&[1, 2], &[3.0, 5.0]), (&[1], &[7.0])])
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn loaded(prototxt: &Path, weights: PathBuf) -> skimjit_models::Imported {
    load(Some(prototxt), &[weights], &ImportOptions::default()).unwrap()
}

#[test]
fn names_of_a_text_match_those_of_a_caffemodel() {
    let scratch = Scratch::new();
    for name in NAMES {
        let prototxt = scratch.file("net.prototxt", &definition(name));
        let caffemodel = scratch.path("net.caffemodel");
        write_caffemodel(&weights(name), &caffemodel).unwrap();
        let written = std::fs::read(&caffemodel).unwrap();
        assert!(contains(&written, name), "{written:?}");

        let imported = loaded(&prototxt, caffemodel);
        // The input is 0 and 0.25.
        let found = import_support::run(&imported.graph);
        assert_eq!(found[0].data(), [0.25 * 5.0 + 7.0]);
        let warnings: Vec<String> = imported.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("net.prototxt:2:15: 2 strings not in UTF-8"));
        assert!(warnings[1].contains("net.caffemodel: 1 string not in UTF-8"));
    }
    let prototxt = scratch.file("net.prototxt", &definition("café".as_bytes()));
    let caffemodel = scratch.path("net.caffemodel");
    write_caffemodel(&weights("café".as_bytes()), &caffemodel).unwrap();
    assert!(loaded(&prototxt, caffemodel).warnings.is_empty());
}

#[test]
fn another_encoding_is_another_name() {
    let (net, _) = text::net(&definition(NAMES[0])).unwrap();
    let stored = vec![weights("café".as_bytes())];
    let error = import(net, stored, &ImportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no weights"), "{error}");
    assert!(
        printable::line(&error).contains("layer \"caf\\xe9\""),
        "{error}"
    );
}

#[test]
fn what_is_written_has_the_bytes_that_were_read() {
    let scratch = Scratch::new();
    for name in NAMES {
        // Any string, wherever it is.
        let net = NetParameter {
            name: Some(octets::text(name).into_owned()),
            layer: vec![LayerParameter {
                bottom: vec![octets::text(name).into_owned(), "data".to_owned()],
                ..LayerParameter::default()
            }],
            ..weights(name)
        };
        let first = scratch.path("first.caffemodel");
        write_caffemodel(&net, &first).unwrap();
        let read = read_caffemodel(&first).unwrap();
        assert_eq!(read, net);
        let second = scratch.path("second.caffemodel");
        write_caffemodel(&read, &second).unwrap();
        assert_eq!(
            std::fs::read(&first).unwrap(),
            std::fs::read(&second).unwrap()
        );

        // A text of ASCII says the same to Caffe.
        let (net, _) = text::net(&definition(name)).unwrap();
        let printed = text::net_text(&net);
        assert!(printed.is_ascii(), "{printed}");
        assert_eq!(text::net(printed.as_bytes()).unwrap().0, net);
        let escapes: String = name
            .iter()
            .map(|&byte| match byte.is_ascii() {
                true => char::from(byte).to_string(),
                false => format!("\\{byte:03o}"),
            })
            .collect();
        assert!(printed.contains(&escapes), "{printed}");
    }
}

/// The characters that stand for bytes come back too when a file has them itself.
#[test]
fn strings_that_look_like_kept_bytes_stay_themselves() {
    let scratch = Scratch::new();
    let own = "caf\u{efe9}";
    let bytes = [b"\x0a\x06".as_slice(), own.as_bytes()].concat();
    let path = scratch.file("net.caffemodel", &bytes);
    let read = read_caffemodel(&path).unwrap();
    assert_ne!(read.name(), own);
    write_caffemodel(&read, &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn odd_names_are_counted() {
    assert_eq!(odd_names(&weights(b"conv")), None);
    let warning = odd_names(&weights(NAMES[0])).unwrap().to_string();
    assert!(warning.contains("1 string not in UTF-8") && warning.contains("\\xe9"));
}

#[test]
fn paths_have_to_be_utf_8() {
    let scratch = Scratch::new();
    let data = b"layer { name: 'd' type: 'Data' top: 'x' data_param { source: 'caf\xe9' } }";
    let error = read_prototxt(&scratch.file("net.prototxt", data))
        .unwrap_err()
        .to_string();
    for words in [
        "net.prototxt:1",
        "data_param.source",
        "a path that is not UTF-8",
    ] {
        assert!(error.contains(words), "{error}");
    }
    for field in ["net", "snapshot_prefix"] {
        let solver = [field.as_bytes(), b": 'caf\xe9'"].concat();
        let error = read_solver(&scratch.file("s.prototxt", &solver)).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn hdf5_refuses_them_by_name() {
    let scratch = Scratch::new();
    let path = scratch.path("net.caffemodel.h5");
    let error = write_caffemodel_hdf5(&weights(NAMES[0]), &path)
        .unwrap_err()
        .to_string();
    let shown = printable::line(&error).into_owned();
    for words in ["layer \"caf\\xe9\"", "not UTF-8", ".caffemodel"] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(!path.exists());
}

/// The library that reads HDF5 makes U+FFFD of them.
#[test]
fn hdf5_of_other_programs_is_refused_by_name() {
    let scratch = Scratch::new();
    let path = scratch.path("net.caffemodel.h5");
    write_caffemodel_hdf5(&weights("caf\u{fffd}".as_bytes()), &path).unwrap();
    let error = read_caffemodel(&path).unwrap_err().to_string();
    for words in [
        "net.caffemodel.h5",
        "\"caf\u{fffd}\"",
        "UTF-8",
        ".caffemodel",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

/// Numbers that SkimCaffe and NVIDIA give different fields of BatchNorm are told apart by their types.
#[test]
fn two_forks_number_batch_norm_differently() {
    let scratch = Scratch::new();
    let nvidia = [
        b"\x78\x02".as_slice(),          // engine: CUDNN
        b"\x2a\x05\x15\x00\x00\x40\x40", // scale_filler { value: 3 }
        b"\x32\x05\x15\x00\x00\x80\x40", // bias_filler { value: 4 }
        b"\x38\x01",                     // scale_bias: true
    ]
    .concat();
    let skim = b"\x28\x00\x30\x00\x3a\x05\x15\x00\x00\x40\x40".to_vec();
    for (param, fields) in [
        (nvidia, "scale_bias: true"),
        (skim, "use_weight_bias: false"),
    ] {
        let layer = [b"\xda\x08".as_slice(), &[param.len() as u8], &param].concat();
        let file = [b"\xa2\x06".as_slice(), &[layer.len() as u8], &layer].concat();
        let path = scratch.file("net.caffemodel", &file);
        let net = read_caffemodel(&path).unwrap();
        assert!(
            text::net_text(&net).contains(fields),
            "{}",
            text::net_text(&net)
        );
        assert!(skimjit_caffe::unknown::of_net(&net).is_empty());
        let printed = text::net_text(&net);
        assert_eq!(text::net(printed.as_bytes()).unwrap().0, net);
        write_caffemodel(&net, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), file);
    }
}
