//! Binary files: what is written is read, and damaged or hostile files are errors.

use proptest::prelude::*;
use prost::Message;
use skimjit_caffe::proto::blob_proto::Type;
use skimjit_caffe::proto::{
    BlobProto, BlobShape, ConvolutionParameter, LayerParameter, NetParameter, SolverState,
};
use skimjit_caffe::upgrade::upgrade_net;
use skimjit_caffe::{
    blob, read_binaryproto, read_caffemodel, read_mean, read_solverstate, unknown,
    write_binaryproto, write_caffemodel, write_solverstate,
};
use skimjit_models::{Result, Shape, Tensor};
use std::path::PathBuf;

/// A file that is deleted with the folder it is in.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("net.caffemodel");
        std::fs::write(&path, bytes).unwrap();
        path
    }
    fn read(&self, bytes: &[u8]) -> Result<NetParameter> {
        read_caffemodel(&self.file(bytes))
    }
}

fn blob(dims: &[i64], data: Vec<f32>) -> BlobProto {
    let shape = Some(BlobShape {
        dim: dims.to_vec(),
        ..BlobShape::default()
    });
    BlobProto {
        shape,
        data,
        ..BlobProto::default()
    }
}

fn small() -> NetParameter {
    let convolution = ConvolutionParameter {
        num_output: Some(2),
        kernel_size: vec![1],
        ..Default::default()
    };
    let layer = LayerParameter {
        name: Some("conv".to_owned()),
        r#type: Some("Convolution".to_owned()),
        bottom: vec!["data".to_owned()],
        top: vec!["conv".to_owned()],
        blobs: vec![
            blob(&[2, 1, 1, 1], vec![1.5, -2.0]),
            blob(&[2], vec![0.0, 3.0]),
        ],
        propagate_down: vec![true],
        convolution_param: Some(Box::new(convolution)),
        ..Default::default()
    };
    NetParameter {
        name: Some("n".to_owned()),
        layer: vec![layer],
        ..Default::default()
    }
}

/// A field with a varint or with a length and contents.
fn varint(number: u64, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number << 3, &mut bytes);
    prost::encoding::encode_varint(value, &mut bytes);
    bytes
}

fn delimited(number: u64, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number << 3 | 2, &mut bytes);
    prost::encoding::encode_varint(contents.len() as u64, &mut bytes);
    bytes.extend_from_slice(contents);
    bytes
}

/// Checklist 2.
#[test]
fn what_is_written_is_read() {
    let scratch = Scratch::new();
    let path = scratch.0.path().join("a.caffemodel");
    write_caffemodel(&small(), &path).unwrap();
    assert_eq!(read_caffemodel(&path).unwrap(), small());

    let state = SolverState {
        iter: Some(7),
        history: vec![blob(&[1], vec![2.0])],
        ..Default::default()
    };
    write_solverstate(&state, &path).unwrap();
    assert_eq!(read_solverstate(&path).unwrap(), state);

    let mean = Tensor::new(Shape::new([1, 2, 1, 2]).unwrap(), vec![1.0, 2.0, 3.0, 4.0]);
    write_binaryproto(mean.clone(), &path).unwrap();
    assert_eq!(read_binaryproto(&path).unwrap(), mean);
    assert_eq!(read_mean(&path).unwrap(), mean);
    write_binaryproto(Tensor::zeros(Shape::new([2, 2]).unwrap()), &path).unwrap();
    assert!(
        read_mean(&path)
            .unwrap_err()
            .to_string()
            .contains("a.caffemodel")
    );
}

#[test]
fn packed_and_unpacked_lists_are_the_same() {
    let mut unpacked = Vec::new();
    for value in [1.5_f32, -2.0] {
        unpacked.push(5 << 3 | 5);
        unpacked.extend_from_slice(&value.to_le_bytes());
    }
    let shape = [varint(1, 1), varint(1, 2)].concat();
    unpacked.extend(delimited(7, &shape));
    let layer = delimited(100, &delimited(7, &unpacked));
    let net = Scratch::new().read(&layer).unwrap();
    assert_eq!(net.layer[0].blobs[0], blob(&[1, 2], vec![1.5, -2.0]));
    // The other way round for a field that is written unpacked.
    let weights = [1.0_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat();
    let net = Scratch::new()
        .read(&delimited(100, &delimited(5, &weights)))
        .unwrap();
    assert_eq!(net.layer[0].loss_weight, [1.0, 0.5]);
}

#[test]
fn fields_of_other_forks_are_kept_beside_the_message() {
    let mut bytes = [delimited(5000, b"abc"), varint(6000, 300)].concat();
    bytes.extend([
        (7000_u32 << 3 | 5) as u8 | 0x80,
        (7000_u32 << 3 >> 7) as u8 | 0x80,
        3,
        1,
        2,
        3,
        4,
    ]);
    // LayerParameter 147 is swish_param, 12 an enum, 1 a string: here they are something else.
    let layer = [
        varint(147, 5),
        delimited(12, b"mode"),
        varint(1, 9),
        delimited(2, b"ReLU"),
    ]
    .concat();
    bytes.extend(delimited(100, &layer));
    let net = Scratch::new().read(&bytes).unwrap();
    let mut layer = net.layer[0].clone();
    let numbers = |net: &NetParameter| -> Vec<String> {
        let found = unknown::of_net(net).into_iter();
        found
            .map(|one| format!("{}: {}", one.message, one.name))
            .collect()
    };
    assert_eq!(
        numbers(&net),
        [
            "LayerParameter: 147",
            "LayerParameter: 12",
            "LayerParameter: 1",
            "NetParameter: 5000",
            "NetParameter: 6000",
            "NetParameter: 7000",
        ]
    );
    layer.unknown_fields.clear();
    let expected = LayerParameter {
        r#type: Some("ReLU".to_owned()),
        ..Default::default()
    };
    assert_eq!(layer, expected);
}

/// Messages inside each other, each with unknown fields at its end, as Google's library writes them.
fn with_unknown_fields(seed: u64) -> Vec<u8> {
    let odd = |level: u64| {
        let number = 3000 + level + seed % 1000;
        [varint(number, seed), delimited(number, &seed.to_le_bytes())].concat()
    };
    let shape = [delimited(1, &[2]), odd(1)].concat();
    let values = [1.5_f32.to_le_bytes(), seed_value(seed)].concat();
    let blob = [delimited(5, &values), delimited(7, &shape), odd(2)].concat();
    let spec = [delimited(1, b"w"), odd(3)].concat();
    let filler = [delimited(1, b"xavier"), odd(4)].concat();
    let convolution = [varint(1, 2), delimited(7, &filler), odd(5)].concat();
    let layer = [
        delimited(1, b"conv"),
        delimited(2, b"Convolution"),
        delimited(6, &spec),
        delimited(7, &blob),
        delimited(106, &convolution),
        odd(6),
    ];
    [
        delimited(1, b"n"),
        delimited(100, &layer.concat()),
        delimited(100, &delimited(1, b"plain")),
        odd(7),
    ]
    .concat()
}

fn seed_value(seed: u64) -> [u8; 4] {
    ((seed % 100) as f32).to_le_bytes()
}

proptest! {
    #[test]
    fn unknown_fields_of_every_level_are_written_back_byte_for_byte(seed in any::<u64>()) {
        let scratch = Scratch::new();
        let bytes = with_unknown_fields(seed);
        let net = scratch.read(&bytes).unwrap();
        prop_assert_eq!(net.layer[0].blobs[0].data.len(), 2);
        let path = scratch.0.path().join("again.caffemodel");
        write_caffemodel(&upgrade_net(net).unwrap(), &path).unwrap();
        prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn unknown_fields_between_others_come_last_as_protobuf_writes_them() {
    let scratch = Scratch::new();
    // What the format reserves for itself and what this program uses inside are a fork's business too.
    let odd = [delimited(536_870_911, b"own"), varint(19_000, 7)].concat();
    let bytes = [odd.clone(), delimited(1, b"n")].concat();
    let path = scratch.0.path().join("again.caffemodel");
    write_caffemodel(&scratch.read(&bytes).unwrap(), &path).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        [delimited(1, b"n"), odd].concat()
    );
    let state = [varint(1, 7), varint(900, 1)].concat();
    write_solverstate(&read_solverstate(&scratch.file(&state)).unwrap(), &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), state);
}

#[test]
fn unknown_fields_of_old_layers_have_no_place_in_new_ones() {
    let scratch = Scratch::new();
    let layer = [delimited(4, b"r"), varint(5, 18), varint(900, 1)].concat();
    let net = upgrade_net(scratch.read(&delimited(2, &layer)).unwrap()).unwrap();
    let path = scratch.0.path().join("again.caffemodel");
    let error = write_caffemodel(&net, &path).unwrap_err().to_string();
    assert!(
        error.contains("unknown field 900 of V1LayerParameter"),
        "{error}"
    );
    let mut net = net;
    assert!(unknown::refuse_moved(&net).is_err());
    unknown::forget_moved(&mut net);
    write_caffemodel(&net, &path).unwrap();
}

/// Every message with one unknown byte pair, many times: records are counted too.
#[test]
fn many_unknown_fields_do_not_take_far_more_memory_than_the_file() {
    let tiny = delimited(100, &delimited(6, &varint(100, 1)));
    let bytes = tiny.repeat(1 << 20);
    let error = Scratch::new().read(&bytes).unwrap_err();
    assert!(error.found.contains("memory"), "{error}");
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_net() {
    let scratch = Scratch::new();
    let bytes = small().encode_to_vec();
    for length in 0..bytes.len() {
        match scratch.read(&bytes[..length]) {
            Ok(net) => assert!(net.layer.is_empty(), "{length}"),
            Err(error) => assert!(error.to_string().contains("net.caffemodel: "), "{error}"),
        }
    }
}

#[test]
fn lying_lengths_name_the_place() {
    let scratch = Scratch::new();
    let mut blob = delimited(7, &delimited(1, &[1]));
    blob.extend([5 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]);
    let layer = [delimited(1, b"conv"), delimited(7, &blob)].concat();
    let error = scratch.read(&delimited(100, &layer)).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("layer[0].blobs[0].data[0]"));
    assert!(
        error.found.contains("a length of 2147483647 at byte"),
        "{error}"
    );
    assert!(error.found.contains("where 2 bytes are left"), "{error}");
    for (bytes, found) in [
        (
            delimited(100, &delimited(7, &delimited(5, &[0; 7]))),
            "7 bytes at byte",
        ),
        (
            vec![
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            "more than 64 bits",
        ),
        (vec![0x0f], "wire type 7"),
        (vec![0x00], "field number 0"),
        (vec![0x0b], "wire type 3"),
    ] {
        let error = scratch.read(&bytes).unwrap_err();
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn bombs_of_tiny_messages_are_refused() {
    let scratch = Scratch::new();
    // Three bytes that decode to hundreds; in V1 layers only two.
    for bomb in [delimited(100, &[]), delimited(2, &[]), delimited(8, &[])] {
        let Err(error) = scratch.read(&bomb.repeat(2_000_000)) else {
            panic!("{bomb:?} repeated is read");
        };
        assert!(error.found.contains("memory"), "{error}");
    }
    let blobs = delimited(100, &delimited(7, &[]).repeat(2_000_000));
    assert!(scratch.read(&blobs).unwrap_err().found.contains("memory"));
    let dims = delimited(8, &delimited(1, &[1; 20_000_000]));
    assert!(scratch.read(&dims).unwrap_err().found.contains("memory"));
}

#[test]
fn large_weights_are_no_bomb() {
    let net = NetParameter {
        layer: vec![LayerParameter {
            blobs: vec![blob(&[20_000_000], vec![0.5; 20_000_000])],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        Scratch::new().read(&net.encode_to_vec()).unwrap().layer[0].blobs[0]
            .data
            .len(),
        20_000_000
    );
}

#[test]
fn usual_mistakes_get_a_hint() {
    let scratch = Scratch::new();
    for (bytes, hint) in [
        (&b""[..], "download"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html>", "raw file"),
        (b"PK\x03\x04abc", "unpack"),
        (b"name: 'lenet'\nlayer { }", "prototxt"),
    ] {
        let error = scratch.read(bytes).unwrap_err();
        assert!(
            error.hint.as_ref().is_some_and(|text| text.contains(hint)),
            "{error}"
        );
    }
    let error = read_caffemodel(&scratch.0.path().join("missing")).unwrap_err();
    assert!(
        error.to_string().contains("missing: found No such file"),
        "{error}"
    );
    assert!(read_caffemodel(scratch.0.path()).is_err());
}

#[test]
fn blobs_become_tensors() {
    let take = |mut source: BlobProto| blob::take_tensor(&mut source);
    let expected = Tensor::new(Shape::new([1, 2]).unwrap(), vec![1.0, -0.5]);
    assert_eq!(take(blob(&[1, 2], vec![1.0, -0.5])).unwrap(), expected);
    let doubles = BlobProto {
        double_data: vec![1.0, -0.5],
        ..blob(&[1, 2], vec![])
    };
    assert_eq!(take(doubles).unwrap(), expected);
    for (kind, raw) in [
        (Type::Float16, vec![0x00, 0x3c, 0x00, 0xb8]),
        (Type::Float, [1.0_f32, -0.5].map(f32::to_le_bytes).concat()),
        (Type::Double, [1.0_f64, -0.5].map(f64::to_le_bytes).concat()),
    ] {
        let raw = BlobProto {
            raw_data: Some(raw),
            raw_data_type: Some(kind.into()),
            ..blob(&[1, 2], vec![])
        };
        assert_eq!(take(raw).unwrap(), expected);
    }
    let legacy = BlobProto {
        num: Some(1),
        channels: Some(1),
        height: Some(1),
        width: Some(2),
        ..blob(&[7], vec![1.0, -0.5])
    };
    assert_eq!(take(legacy).unwrap().shape().dims(), [1, 1, 1, 2]);
    assert_eq!(take(blob(&[], vec![2.0])).unwrap().shape().rank(), 0);
    assert_eq!(take(blob::from_tensor(expected.clone())).unwrap(), expected);
}

#[test]
fn blobs_that_do_not_fit_are_refused() {
    for (mut source, found) in [
        (blob(&[3], vec![1.0]), "data: found 1 values, expected 3"),
        (blob(&[-1], vec![1.0]), "shape: found dims"),
        (blob(&[1 << 40], vec![1.0]), "shape: found dims"),
        (
            blob(&[65536, 65536], vec![1.0]),
            "shape: found shape 65536x65536",
        ),
        (blob(&[0], vec![]), "shape: found shape 0"),
        (
            blob(&[3], vec![1.0, f32::NAN, 2.0]),
            "data: found NaN at index 1",
        ),
        (
            blob(&[1], vec![f32::NEG_INFINITY]),
            "data: found -inf at index 0",
        ),
        (
            BlobProto {
                double_data: vec![1e300],
                ..blob(&[1], vec![])
            },
            "inf at index 0",
        ),
        (
            BlobProto {
                raw_data: Some(vec![1]),
                ..blob(&[1], vec![])
            },
            "a multiple of 4",
        ),
        (
            BlobProto {
                raw_data: Some(vec![1]),
                raw_data_type: Some(4),
                ..blob(&[1], vec![])
            },
            "elements of type UINT",
        ),
    ] {
        let error = blob::take_tensor(&mut source).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_damage_panics(flips in prop::collection::vec((0..1000_usize, any::<u8>()), 1..8)) {
        let scratch = Scratch::new();
        let mut bytes = small().encode_to_vec();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(net) = scratch.read(&bytes) {
            for mut blob in net.layer.into_iter().flat_map(|layer| layer.blobs) {
                let _ = blob::take_tensor(&mut blob);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Scratch::new().read(&bytes);
    }
}
