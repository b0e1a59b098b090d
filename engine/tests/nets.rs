//! Real models against reference outputs made by another engine, and real photographs.

use skimjit::picture::{self, ChannelOrder, Mean, Preprocess};
use skimjit::{CompileOptions, Engine, Keep, LoadOptions, Model, array};
use skimjit_models::{Shape, Tensor};
use skimjit_testing::{data, isas};
use std::fs;
use std::path::{Path, PathBuf};

const TOLERANCE: f64 = 1e-4;

/// Panics unless the largest difference is within the tolerance of the largest value.
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: number of elements");
    let scale = expected
        .iter()
        .fold(0f64, |most, x| most.max(f64::from(x.abs())));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .fold(0f64, |most, x| {
            if x.is_nan() {
                f64::INFINITY
            } else {
                most.max(x)
            }
        });
    assert!(
        worst <= TOLERANCE * scale,
        "{what}: differs by {worst:e}, largest value {scale}"
    );
}

fn load(data: &Path, name: &str, weights: &str) -> (Model, Tensor) {
    let folder = data.join("models").join(name);
    let input = array::read_npy(&data.join("refs").join(name).join("input.npy")).unwrap();
    let options = LoadOptions {
        prototxt: Some(folder.join("deploy.prototxt")),
        input_shape: Some(input.shape().clone()),
        ..Default::default()
    };
    let model =
        Model::load(&folder.join(weights), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    (model, input)
}

fn output<'a>(engine: &Engine, outputs: &'a [Tensor], blob: &str) -> &'a Tensor {
    let index = engine
        .plan()
        .outputs
        .iter()
        .position(|port| port.name == blob);
    &outputs[index.unwrap_or_else(|| panic!("no output {blob}"))]
}

/// Files `<prefix><blob>.npy` of a folder: blob names and paths.
fn reference_outputs(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let blob = path
                .file_name()?
                .to_str()?
                .strip_prefix("output__")?
                .strip_suffix(".npy")?;
            Some((blob.replace("__", "/"), path.clone()))
        })
        .collect();
    found.sort();
    assert!(
        !found.is_empty(),
        "no reference outputs in {}",
        folder.display()
    );
    found
}

/// Blobs of the first input: names and paths.
fn reference_blobs(folder: &Path) -> Vec<(String, PathBuf)> {
    let index = fs::read_to_string(folder.join("layers/INDEX.tsv")).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[7] != "-").then(|| (fields[1].to_owned(), folder.join("layers").join(fields[7])))
    };
    index.lines().skip(1).filter_map(line).collect()
}

/// The first image of a batch.
fn first_image(batch: &Tensor) -> Tensor {
    let shape = batch.shape().with_batch(1);
    let data = batch.data()[..shape.count()].to_vec();
    Tensor::new(shape, data)
}

fn check_model(data: &Path, name: &str, weights: &str) {
    let (model, input) = load(data, name, weights);
    let refs = data.join("refs").join(name);
    for isa in isas() {
        for (batch, threads) in [(None, 1), (Some(1), 2), (Some(16), 1), (Some(16), 2)] {
            let options = CompileOptions {
                isa: Some(isa),
                batch,
                threads,
                ..Default::default()
            };
            // A network that mixes the images of a batch runs with its own batch only.
            let engine = model
                .compile(&options)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            if engine.plan().coupled && batch.is_some() {
                continue;
            }
            let found = engine.run(&mut engine.session(), std::slice::from_ref(&input));
            let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
            for (blob, path) in reference_outputs(&refs) {
                let expected = array::read_npy(&path).unwrap();
                let what = format!("{name} {blob}, {isa}, batch {batch:?}, {threads} threads");
                // A folder may hold an inner blob as well; those are checked below.
                if engine.plan().outputs.iter().any(|port| port.name == blob) {
                    assert_close(
                        &what,
                        output(&engine, &found, &blob).data(),
                        expected.data(),
                    );
                }
            }
        }
        let keep = Keep::All;
        let options = CompileOptions {
            isa: Some(isa),
            batch: Some(1),
            threads: 1,
            keep,
            ..Default::default()
        };
        let engine = model.compile(&options).unwrap();
        let found = engine
            .run(&mut engine.session(), &[first_image(&input)])
            .unwrap();
        for (blob, path) in reference_blobs(&refs) {
            let expected = array::read_npy(&path).unwrap();
            let what = format!("{name} {blob}, {isa}, all blobs kept");
            assert_close(
                &what,
                output(&engine, &found, &blob).data(),
                expected.data(),
            );
        }
    }
}

macro_rules! models {
    ($($test:ident: $name:literal, $weights:literal;)*) => {
        $(
            #[test]
            fn $test() {
                if let Some(data) = data("") {
                    check_model(&data, $name, $weights);
                }
            }
        )*
    };
}

models! {
    squeezenet_pruned: "squeezenet_v1.0_dc", "model.caffemodel";
    lenet: "lenet", "model.caffemodel";
    lenet_pruned: "lenet5_dns_sparse", "model.caffemodel";
    cifar10_quick_v1_format: "cifar10_quick_v1format", "model.caffemodel";
    resnet20: "resnet20_cifar10", "model.caffemodel";
    arm_cifar10: "arm_cifar10_m4", "model.caffemodel";
    arm_cifar10_hdf5: "arm_cifar10_m4", "model.caffemodel.h5";
    arm_cifar10_quantised: "arm_cifar10_m4_quantised", "model.caffemodel";
    mtcnn_det1: "mtcnn_det1", "model.caffemodel";
    mtcnn_det2: "mtcnn_det2", "model.caffemodel";
    rfb320_face: "rfb320_face", "model.caffemodel";
    wechat_sr: "wechat_sr", "model.caffemodel";
    hyperlpr_finemapping: "hyperlpr_finemapping", "model.caffemodel";
    alexnet_pruned_convolutions: "alexnet_pruned_convs", "model.caffemodel";
}

/// Half-precision weights: the same network, so close to the single-precision reference.
#[test]
fn half_precision_blobs() {
    let Some(data) = data("") else { return };
    let refs = data.join("refs/hyperlpr_finemapping");
    let input = array::read_npy(&refs.join("input.npy")).unwrap();
    let options = LoadOptions {
        prototxt: Some(data.join("formats/hyperlpr_finemapping_fp16.prototxt")),
        input_shape: Some(input.shape().clone()),
        ..Default::default()
    };
    let weights = data.join("formats/hyperlpr_finemapping_fp16.caffemodel");
    let engine = Model::load(&weights, &options)
        .unwrap()
        .compile(&CompileOptions::default())
        .unwrap();
    let found = engine.run(&mut engine.session(), &[input]).unwrap();
    let expected = array::read_npy(&refs.join("output__dense.npy")).unwrap();
    let scale = expected
        .data()
        .iter()
        .fold(0f32, |most, x| most.max(x.abs()));
    for (a, b) in output(&engine, &found, "dense")
        .data()
        .iter()
        .zip(expected.data())
    {
        // Weights rounded to 11 bits.
        assert!((a - b).abs() <= 5e-3 * scale, "found {a}, expected {b}");
    }
}

fn top1(scores: &[f32]) -> usize {
    (0..scores.len())
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
        .unwrap()
}

fn photographs() -> Preprocess {
    Preprocess {
        channel_order: ChannelOrder::Bgr,
        crop: Some(227),
        mean: Mean::Values(vec![104.0, 117.0, 123.0]),
        ..Default::default()
    }
}

fn squeezenet(data: &Path) -> Model {
    let folder = data.join("models/squeezenet_v1.0_dc");
    let options = LoadOptions {
        prototxt: Some(folder.join("deploy.prototxt")),
        ..Default::default()
    };
    Model::load(&folder.join("model.caffemodel"), &options).unwrap()
}

/// Given pixels: scores agree to 1e-4 and so does the class. Given JPEG files, whose decoders differ
/// by a grey level: the class agrees for at least 97 % of the 300 photographs.
#[test]
fn squeezenet_classifies_photographs() {
    let Some(data) = data("") else { return };
    let model = squeezenet(&data);
    let folder = data.join("imagenet");
    let logits = array::read_npy(&folder.join("logits_squeezenet.npy")).unwrap();
    let classes = logits.shape().dim(1) as usize;
    let pixels = array::read_npy(&folder.join("pixels_u8_bgr_hwc_first8.npy")).unwrap();
    let exact = to_input(&pixels);
    let labels = fs::read_to_string(folder.join("labels.tsv")).unwrap();
    let files: Vec<&str> = labels
        .lines()
        .skip(1)
        .map(|line| line.split('\t').nth(1).unwrap())
        .collect();
    let images: Vec<Tensor> = files
        .iter()
        .map(|file| {
            let path = folder.join("images256").join(file);
            picture::load(&path, [3, 227, 227], &photographs()).unwrap()
        })
        .collect();
    let all = stack(&images);
    for isa in isas() {
        for (batch, threads) in [(1, 1), (1, 2), (16, 1), (16, 2)] {
            let options = CompileOptions {
                isa: Some(isa),
                batch: Some(batch),
                threads,
                ..Default::default()
            };
            let engine = model.compile(&options).unwrap();
            let mut session = engine.session();
            let what = format!("{isa}, batch {batch}, {threads} threads");
            let scores = engine
                .run(&mut session, std::slice::from_ref(&exact))
                .unwrap();
            let expected = &logits.data()[..8 * classes];
            assert_close(&what, scores[0].data(), expected);
            for (a, b) in scores[0]
                .data()
                .chunks(classes)
                .zip(expected.chunks(classes))
            {
                assert_eq!(top1(a), top1(b), "{what}");
            }
            let scores = engine
                .run(&mut session, std::slice::from_ref(&all))
                .unwrap();
            let rows = scores[0]
                .data()
                .chunks(classes)
                .zip(logits.data().chunks(classes));
            let agree = rows.filter(|(a, b)| top1(a) == top1(b)).count();
            println!(
                "{what}: top-1 agrees for {agree} of {} photographs",
                images.len()
            );
            assert!(
                agree * 100 >= images.len() * 97,
                "{what}: {agree} of {}",
                images.len()
            );
        }
    }
}

/// `N × H × W × 3` grey levels to `N × 3 × H × W`, mean subtracted.
fn to_input(pixels: &Tensor) -> Tensor {
    let &[n, h, w, c] = pixels.shape().dims() else {
        panic!("N,H,W,C pixels")
    };
    let hw = (h * w) as usize;
    let mut data = Vec::with_capacity(pixels.data().len());
    for image in pixels.data().chunks(hw * c as usize) {
        for (channel, mean) in [104.0, 117.0, 123.0].into_iter().enumerate() {
            data.extend((0..hw).map(|i| image[i * c as usize + channel] - mean));
        }
    }
    Tensor::new(Shape::new(vec![n, c, h, w]).unwrap(), data)
}

fn stack(images: &[Tensor]) -> Tensor {
    let mut dims = vec![images.len() as u32];
    dims.extend(images[0].shape().dims());
    let data = images
        .iter()
        .flat_map(|image| image.data().iter().copied())
        .collect();
    Tensor::new(Shape::new(dims).unwrap(), data)
}
