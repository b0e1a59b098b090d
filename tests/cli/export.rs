//! `skimjit export`: blobs go out as they came in, to every format, and other programs read them.

use crate::support::{PROTOTXT, Workplace, ramp, tiny};
use crate::testing::text;
use safetensors::SafeTensors;
use skimjit::array::{parse_npy, read_npy, write_npy};
use skimjit_caffe::blob::{from_tensor, take_tensor};
use skimjit_caffe::proto::blob_proto::Type;
use skimjit_caffe::proto::{BlobProto, BlobShape, NetParameter};
use skimjit_caffe::{parse_prototxt, read_caffemodel, read_prototxt, write_caffemodel};
use skimjit_models::{Shape, Tensor};
use skimjit_testing::{data, skip};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

type Blobs = BTreeMap<String, Tensor>;

/// Blobs by layer and index, of either layer form, in the shapes stored.
fn blobs_of(net: NetParameter) -> Blobs {
    let new = net.layer.into_iter().map(|l| (l.name, l.blobs));
    let old = net.layers.into_iter().map(|l| (l.name, l.blobs));
    let mut all = Blobs::new();
    for (name, blobs) in new.chain(old) {
        for (index, mut blob) in blobs.into_iter().enumerate() {
            let name = format!("{}.{index}", name.as_deref().unwrap_or_default());
            all.insert(name, take_tensor(&mut blob).unwrap());
        }
    }
    all
}

fn stored(path: &Path) -> Blobs {
    blobs_of(read_caffemodel(path).unwrap())
}

fn from_safetensors(path: &Path) -> Blobs {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        let dims: Vec<u32> = view.shape().iter().map(|&dim| dim as u32).collect();
        let (values, _) = view.data().as_chunks::<4>();
        let values = values.iter().map(|&four| f32::from_le_bytes(four));
        (
            name,
            Tensor::new(Shape::new(dims).unwrap(), values.collect()),
        )
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn from_npz(path: &Path) -> Blobs {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let count = archive.len();
    let read = |index| {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let name = file.name().expect("a name in UTF-8").into_owned();
        let name = name.strip_suffix(".npy").expect("an array").to_owned();
        (name, parse_npy(&bytes).unwrap())
    };
    (0..count).map(read).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.data().iter().map(|value| value.to_bits()).collect()
}

/// The same names and bits; shapes too, or only where they have as many axes.
#[track_caller]
fn assert_same(found: &Blobs, expected: &Blobs, shapes: bool) {
    assert!(
        found.keys().eq(expected.keys()),
        "{:?} {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, tensor) in expected {
        let same = !shapes || found[name].shape() == tensor.shape();
        assert!(same, "{name}: {} {}", found[name].shape(), tensor.shape());
        assert!(bits(&found[name]) == bits(tensor), "{name}");
    }
}

/// The tiny network, pruned, with a zero of either sign and a smallest number.
fn pruned() -> Workplace {
    let place = Workplace::new();
    let mut net = tiny();
    let conv1 = net
        .layer
        .iter_mut()
        .find(|layer| layer.name() == "conv1")
        .unwrap();
    let weights = &mut conv1.blobs[0].data;
    weights
        .iter_mut()
        .filter(|w| w.abs() < 0.3)
        .for_each(|w| *w = 0.0);
    weights[7] = f32::from_bits(1);
    write_caffemodel(&net, &place.path("tiny.caffemodel")).unwrap();
    place.write("tiny.prototxt", PROTOTXT);
    place
}

fn probabilities(place: &Workplace, model: &[&str]) -> Tensor {
    write_npy(&place.path("in.npy"), &ramp([2, 3, 8, 8], 1.0)).unwrap();
    let more = ["--input", "in.npy", "--output", "prob=prob.npy"];
    place.ok(&[&["run"], model, &more].concat());
    read_npy(&place.path("prob.npy")).unwrap()
}

#[test]
fn a_caffemodel_comes_back_from_an_artifact() {
    let place = pruned();
    let original = stored(&place.path("tiny.caffemodel"));
    let expected = probabilities(&place, &["tiny.caffemodel"]);
    place.ok(&["compile", "tiny.caffemodel", "--no-tune"]);
    let report = place.json(&["export", "tiny.skim", "weights.caffemodel"]);
    assert_eq!(report["weights_only"], true);
    let zeros = original
        .values()
        .flat_map(|t| t.data())
        .filter(|&&w| w == 0.0);
    assert_eq!(report["zeros"], zeros.count());
    assert_same(&stored(&place.path("weights.caffemodel")), &original, true);
    let model = ["weights.caffemodel", "--prototxt", "tiny.prototxt"];
    assert_eq!(probabilities(&place, &model), expected);
    // With a definition the result says its own topology.
    let arguments = ["export", "weights.caffemodel", "whole.caffemodel"];
    let report = place.json(&[&arguments[..], &["--prototxt", "tiny.prototxt"]].concat());
    assert_eq!(report["weights_only"], false);
    assert_same(&stored(&place.path("whole.caffemodel")), &original, true);
    assert_eq!(probabilities(&place, &["whole.caffemodel"]), expected);
}

#[test]
fn named_tensors_are_read_back() {
    let place = pruned();
    let original = stored(&place.path("tiny.caffemodel"));
    place.ok(&["export", "tiny.caffemodel", "w.safetensors"]);
    assert_same(
        &from_safetensors(&place.path("w.safetensors")),
        &original,
        true,
    );
    place.ok(&["export", "tiny.caffemodel", "w.npz"]);
    assert_same(&from_npz(&place.path("w.npz")), &original, true);
    place.ok(&["export", "tiny.caffemodel", "w", "--format", "npz"]);
    assert_same(&from_npz(&place.path("w")), &original, true);
}

const PYTHON: &str = r"
import json, struct, sys
import numpy
archive = numpy.load(sys.argv[1])
data = open(sys.argv[2], 'rb').read()
length, = struct.unpack('<Q', data[:8])
header = json.loads(data[8:8 + length])
header.pop('__metadata__', None)
assert sorted(header) == sorted(archive.files) == ['conv1.0', 'conv1.1', 'ip1.0', 'ip1.1'], header
for name, entry in header.items():
    begin, end = (8 + length + at for at in entry['data_offsets'])
    tensor = numpy.frombuffer(data[begin:end], '<f4').reshape(entry['shape'])
    assert entry['dtype'] == 'F32' and archive[name].dtype == numpy.float32, name
    assert archive[name].tobytes() == tensor.tobytes() and archive[name].shape == tensor.shape, name
try:
    from safetensors.numpy import load_file
except ImportError:
    print('skipped: no python3 with the package safetensors')
else:
    for name, tensor in load_file(sys.argv[2]).items():
        assert tensor.tobytes() == archive[name].tobytes() and tensor.shape == archive[name].shape, name
print(*(archive[name].shape for name in sorted(header)))
";

#[test]
fn python_reads_what_is_exported() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import numpy"]).is_ok_and(|output| output.status.success()) {
        skip("no python3 with the package numpy");
        return;
    }
    let place = pruned();
    place.ok(&["export", "tiny.caffemodel", "w.npz"]);
    place.ok(&["export", "tiny.caffemodel", "w.safetensors"]);
    let files = ["w.npz", "w.safetensors"].map(|file| text(&place.path(file)));
    let output = python(&["-c", PYTHON, &files[0], &files[1]]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .filter_map(|line| line.strip_prefix("skipped: "))
        .for_each(skip);
    assert!(said.ends_with("(4, 3, 3, 3) (4,) (5, 64) (5,)\n"), "{said}");
}

/// Half and double precision, and the four numbers of old shapes, become what Caffe writes today.
#[test]
fn old_blobs_become_todays() {
    let place = Workplace::new();
    let mut net = tiny();
    let expected = blobs_of(net.clone());
    for layer in &mut net.layer {
        for blob in &mut layer.blobs {
            let dims = blob.shape.take().unwrap().dim;
            let dims = [vec![1; 4 - dims.len()], dims].concat();
            let [num, channels, height, width] = [0, 1, 2, 3].map(|axis| Some(dims[axis] as i32));
            let double_data = std::mem::take(&mut blob.data)
                .into_iter()
                .map(f64::from)
                .collect();
            *blob = BlobProto {
                num,
                channels,
                height,
                width,
                double_data,
                ..BlobProto::default()
            };
        }
    }
    write_caffemodel(&net, &place.path("old.caffemodel")).unwrap();
    place.ok(&["export", "old.caffemodel", "new.caffemodel"]);
    assert_same(&stored(&place.path("new.caffemodel")), &expected, true);
    let half = |value: f32| half::f16::from_f32(value);
    let conv1 = net
        .layer
        .iter_mut()
        .find(|layer| layer.name() == "conv1")
        .unwrap();
    let values = expected["conv1.1"].data();
    conv1.blobs[1] = BlobProto {
        shape: Some(BlobShape {
            dim: vec![4],
            ..BlobShape::default()
        }),
        raw_data_type: Some(Type::Float16.into()),
        raw_data: Some(values.iter().flat_map(|&v| half(v).to_le_bytes()).collect()),
        ..BlobProto::default()
    };
    write_caffemodel(&net, &place.path("half.caffemodel")).unwrap();
    let arguments = [
        "export",
        "half.caffemodel",
        "new.caffemodel",
        "--zero-below",
        "0.2",
    ];
    place.ok(&arguments);
    let found = stored(&place.path("new.caffemodel"));
    let rounded = values.iter().map(|&value| half(value).to_f32());
    assert!(
        found["conv1.1"].data().iter().copied().eq(rounded),
        "biases are not pruned"
    );
    let kept = |w: f32| if w.abs() <= 0.2 { 0.0 } else { w };
    let weights = expected["ip1.0"].data().iter().map(|&w| kept(w));
    assert!(found["ip1.0"].data().iter().copied().eq(weights));
}

/// Names with slashes and brackets, fused and recurrent layers, layers with several tops and shared
/// parameters: an artifact's nodes are named otherwise than the layers.
const NAMES: &str = r#"
layer { name: "data" type: "Input" top: "data" top: "again" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "c" type: "Convolution" bottom: "data" bottom: "again" top: "c" top: "c2"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "c/bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "c/scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true filler { type: "uniform" } } }
layer { name: "c/conv" type: "Convolution" bottom: "c" top: "c/conv"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "fused" type: "ConvolutionReLUPool" bottom: "c2" top: "fused"
  convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "xavier" } }
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fused[7]" type: "PReLU" bottom: "fused" top: "prelu" }
layer { name: "ip/a" type: "InnerProduct" bottom: "prelu" top: "ip/a" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "fused" top: "ip" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"#;

/// Every weight is there under the name of its layer, however the graph names its nodes.
#[test]
fn names_are_those_of_the_layers() {
    let place = Workplace::new();
    place.write("names.prototxt", NAMES);
    let mut first = parse_prototxt(NAMES, "names.prototxt").unwrap().0;
    let dims = |name: &str, index| -> Option<Vec<u32>> {
        let all: &[&[u32]] = match name {
            "c" => &[&[4, 3, 3, 3], &[4]],
            "c/bn" => &[&[4], &[4], &[1]],
            "c/scale" => &[&[4], &[4]],
            "c/conv" => &[&[2, 4, 1, 1], &[2]],
            "fused" => &[&[5, 4, 1, 1], &[5]],
            "fused[7]" => &[&[5]],
            "ip/a" | "ip" => &[&[3, 45], &[3]],
            _ => &[],
        };
        all.get(index).map(|dims: &&[u32]| dims.to_vec())
    };
    for layer in &mut first.layer {
        let name = layer.name().to_owned();
        let kind = if name.starts_with("ip") {
            9.0
        } else {
            name.len() as f32
        };
        let blob = |index| {
            let shape = Shape::new(dims(&name, index)?).unwrap();
            let value = |i| kind + index as f32 * 0.1 + i as f32 * 0.01;
            let data = (0..shape.count()).map(value).collect();
            Some(from_tensor(Tensor::new(shape, data)))
        };
        layer.blobs = (0..).map_while(blob).collect();
    }
    write_caffemodel(&first, &place.path("names.caffemodel")).unwrap();
    let expected = blobs_of(first);
    assert_eq!(expected.len(), 16);
    place.ok(&["compile", "names.caffemodel", "--no-tune", "--no-verify"]);
    place.ok(&["export", "names.skim", "out.caffemodel"]);
    assert_same(&stored(&place.path("out.caffemodel")), &expected, true);
    let prototxt = ["--prototxt", "names.prototxt"];
    place.ok(&[
        &["export", "out.caffemodel", "whole.caffemodel"],
        &prototxt[..],
    ]
    .concat());
    assert_same(&stored(&place.path("whole.caffemodel")), &expected, true);
}

#[test]
fn definitions_are_written_without_weights() {
    let place = pruned();
    let arguments = [
        "export",
        "tiny.caffemodel",
        "w.npz",
        "--prototxt-out",
        "out.prototxt",
    ];
    assert!(place.ok(&arguments).contains("out.prototxt: the layers"));
    let (net, warnings) = read_prototxt(&place.path("out.prototxt")).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut expected = tiny();
    expected
        .layer
        .iter_mut()
        .for_each(|layer| layer.blobs.clear());
    assert_eq!(net, expected);
    place.ok(&["compile", "tiny.caffemodel", "--no-tune", "--no-verify"]);
    for (arguments, code, words) in [
        (
            ["tiny.skim", "w.npz", "--prototxt-out", "p.prototxt"],
            3,
            "definition of its layers",
        ),
        (
            ["tiny.caffemodel", "tiny.caffemodel", "--format", "npz"],
            2,
            "a file of its own",
        ),
        (
            ["tiny.caffemodel", "w.npz", "--prototxt-out", "w.npz"],
            2,
            "--prototxt-out",
        ),
        (
            ["tiny.caffemodel", "none/w.npz", "--format", "npz"],
            3,
            "none/w.npz: found no folder none",
        ),
    ] {
        let result = place.skimjit(&[&["export"], &arguments[..]].concat());
        assert_eq!(result.code, Some(code), "{}", result.stderr);
        assert!(result.stderr.contains(words), "{}", result.stderr);
        assert_eq!(result.stderr.lines().count(), 1, "{}", result.stderr);
    }
    let leftover = |name: &str| place.path(name).exists();
    assert!(!leftover("p.prototxt") && !leftover("w.npz.part"));
}

/// Published networks: the file itself, its way through an artifact, and together with its definition.
#[test]
fn published_networks_keep_their_weights() {
    let Some(shared) = data("") else { return };
    for model in [
        "lenet5_dns_sparse",
        "cifar10_quick_v1format",
        "resnet20_cifar10",
        "mtcnn_det2",
        "rfb320_face",
        "wechat_sr",
        "hyperlpr_finemapping",
    ] {
        let place = Workplace::new();
        let folder = shared.join("models").join(model);
        let (weights, deploy) = (
            folder.join("model.caffemodel"),
            folder.join("deploy.prototxt"),
        );
        let files = [text(&weights), text(&deploy)];
        let quiet = |arguments: &[&str]| {
            let result = place.skimjit(arguments);
            assert_eq!(result.code, Some(0), "{model}: {}", result.stderr);
        };
        quiet(&["export", &files[0], "direct.caffemodel"]);
        let original = stored(&weights);
        assert_same(&stored(&place.path("direct.caffemodel")), &original, false);
        let more = ["--no-tune", "--no-verify", "-o", "net.skim"];
        quiet(&[&["compile", &files[0], "--prototxt", &files[1]], &more[..]].concat());
        quiet(&["export", "net.skim", "skim.safetensors"]);
        quiet(&[
            "export",
            &files[0],
            "whole.caffemodel",
            "--prototxt",
            &files[1],
        ]);
        let (through, whole) = (
            from_safetensors(&place.path("skim.safetensors")),
            stored(&place.path("whole.caffemodel")),
        );
        assert_same(&through, &whole, true);
        // Files may hold layers that the definition does not have.
        let known: Blobs = original
            .into_iter()
            .filter(|(name, _)| whole.contains_key(name))
            .collect();
        assert_same(&whole, &known, false);
        println!("{model}: {} tensors", whole.len());
    }
}

#[test]
fn weights_in_hdf5_are_those_of_the_binary_file() {
    let Some(shared) = data("") else { return };
    let place = Workplace::new();
    let folder = shared.join("models/arm_cifar10_m4");
    let file = |name: &str| text(&folder.join(name));
    let (hdf5, deploy) = (file("model.caffemodel.h5"), file("deploy.prototxt"));
    let expected = stored(&folder.join("model.caffemodel"));
    let report = place.json(&["export", &hdf5, "out.caffemodel"]);
    assert_eq!(report["weights_only"], true);
    assert_same(&stored(&place.path("out.caffemodel")), &expected, true);
    let whole = ["export", &hdf5, "whole.caffemodel", "--prototxt", &deploy];
    assert_eq!(place.json(&whole)["weights_only"], false);
    assert_same(&stored(&place.path("whole.caffemodel")), &expected, true);
    let result = place.skimjit(&["export", &hdf5, "w.npz", "--zero-below", "0.1"]);
    assert_eq!(result.code, Some(3));
    for word in ["model.caffemodel.h5", "--zero-below", "pass --prototxt"] {
        assert!(result.stderr.contains(word), "{}", result.stderr);
    }
    let data = text(&shared.join("formats/sample_data.h5"));
    let result = place.skimjit(&["export", &data, "w.npz"]);
    assert!(
        result.stderr.contains("no group \"data\""),
        "{}",
        result.stderr
    );
}
