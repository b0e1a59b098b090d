//! One artifact for other batches and input sizes, compared with the interpreter and with references
//! made by another engine.

use skimjit::{AnyShape, CompileOptions, Isa, Keep, LoadOptions, Model, TuneCache, Tuning, array};
use skimjit_caffe as caffe;
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_models::{Shape, Tensor, interpreter};
use skimjit_runtime::Basis;
use skimjit_testing::{Noise, data, isas};
use std::num::NonZeroUsize;
use std::path::Path;

const TOLERANCE: f64 = 1e-4;

/// A model of the shared data, written as an artifact for its own shape and read again.
fn artifact(data: &Path, name: &str) -> Model {
    let folder = data.join("models").join(name);
    let options = LoadOptions {
        prototxt: Some(folder.join("deploy.prototxt")),
        ..Default::default()
    };
    let model = Model::load(&folder.join("model.caffemodel"), &options).unwrap();
    let engine = model.compile(&CompileOptions::default()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("net.skim");
    model.write_artifact(&engine, &file).unwrap();
    Model::load(&file, &LoadOptions::default()).unwrap()
}

/// Spread values, other ones for every seed.
fn noise(dims: &[u32], seed: u32) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let values = Noise::new(seed.into()).values(shape.count());
    Tensor::new(shape, values)
}

#[track_caller]
fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = |most: f64, x: &f32| most.max(f64::from(x.abs()));
    let scale = expected.data().iter().fold(0.0, largest);
    let pairs = found.data().iter().zip(expected.data());
    let apart = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    let worst = apart.fold(0.0, |most, x| if x <= most { most } else { x });
    assert!(
        worst <= TOLERANCE * scale,
        "{what}: differs by {worst:e} of {scale}"
    );
}

fn options(isa: Isa) -> CompileOptions {
    CompileOptions {
        isa: Some(isa),
        threads: 2,
        ..Default::default()
    }
}

fn engines(model: &Model, isa: Isa) -> AnyShape {
    AnyShape::new(model, &options(isa), AnyShape::USUAL_SHAPES).unwrap()
}

/// Every size on every instruction set against the interpreter.
fn check(name: &str, amplitude: f32, sizes: &[[u32; 4]]) {
    let Some(data) = data("") else { return };
    let model = artifact(&data, name);
    let input = model.graph().value(model.graph().inputs[0]).name.clone();
    let cases: Vec<(Tensor, Vec<Tensor>)> = sizes
        .iter()
        .enumerate()
        .map(|(seed, dims)| {
            let image = noise(dims, seed as u32);
            let values = image.data().iter().map(|x| x * amplitude).collect();
            let image = Tensor::new(image.shape().clone(), values);
            let shapes = [(&input[..], image.shape().clone())];
            let resized = model.graph().with_input_shapes(&shapes).unwrap();
            let expected = interpreter::run_outputs(&resized, std::slice::from_ref(&image));
            (image, expected.unwrap())
        })
        .collect();
    for isa in isas() {
        let mut session = engines(&model, isa).session();
        for round in 0..2 {
            for (image, expected) in &cases {
                let found = session.run(std::slice::from_ref(image)).unwrap();
                for (found, expected) in found.iter().zip(expected) {
                    let what = format!("{name} {}, {isa}, round {round}", image.shape());
                    assert_close(&what, found, expected);
                }
            }
        }
    }
}

#[test]
fn a_fully_convolutional_network_takes_any_size() {
    check(
        "mtcnn_det1",
        1.0,
        &[
            [1, 3, 12, 12],
            [1, 3, 61, 88],
            [1, 3, 200, 150],
            [2, 3, 33, 12],
            [3, 3, 13, 90],
        ],
    );
}

#[test]
fn a_detector_takes_any_size() {
    check("rfb320_face", 1.0, &[[1, 3, 120, 160], [1, 3, 130, 100]]);
}

/// This one's Reshape layers put the boxes of all images into one row, as Caffe does.
#[test]
fn a_network_that_combines_images_runs_the_very_batch() {
    check("rfb320_face", 1.0, &[[2, 3, 80, 96]]);
}

#[test]
fn a_network_with_crops_and_deconvolutions_takes_any_size() {
    check("wechat_sr", 1.0, &[[1, 1, 40, 31], [2, 1, 17, 64]]);
}

#[test]
fn a_network_with_global_pooling_takes_any_size() {
    check(
        "squeezenet_v1.0_dc",
        100.0,
        &[[1, 3, 227, 227], [1, 3, 256, 300]],
    );
}

/// The reference outputs were made at 97 x 74; the prototxt says 12 x 12.
#[test]
fn the_published_detector_gives_the_reference_maps() {
    let Some(data) = data("") else { return };
    let refs = data.join("refs/mtcnn_det1");
    let input = array::read_npy(&refs.join("input.npy")).unwrap();
    let model = artifact(&data, "mtcnn_det1");
    for isa in isas() {
        let engines = engines(&model, isa);
        let found = engines.session().run(std::slice::from_ref(&input)).unwrap();
        let engine = engines.engine(&[input.shape().clone()]).unwrap();
        for (port, found) in engine.plan().outputs.iter().zip(&found) {
            let file = refs.join(format!("output__{}.npy", port.name));
            assert_close(&port.name, found, &array::read_npy(&file).unwrap());
        }
        assert_eq!(engines.generated(), 1);
    }
}

#[test]
fn a_network_with_inner_products_says_what_it_takes() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "lenet");
    let shape = Shape::new([1, 1, 40, 40]).unwrap();
    let mut errors = vec![model.with_input_shape(&shape).err().unwrap().to_string()];
    let engines = engines(&model, Isa::Avx2);
    let run = engines.session().run(&[Tensor::zeros(shape)]);
    errors.push(run.unwrap_err().to_string());
    for error in errors {
        for word in ["\"ip1\"", "2450 inputs", "expected 800", "28x28", "40x40"] {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    assert_eq!(engines.generated(), 0);
    // An engine for one size says who takes others.
    let engine = model.compile(&options(Isa::Avx2)).unwrap();
    let image = Tensor::zeros(Shape::new([1, 1, 30, 28]).unwrap());
    let error = engine.run(&mut engine.session(), &[image]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("1x1x30x28") && error.contains("--reshape"),
        "{error}"
    );
}

#[test]
fn every_number_of_images_is_run() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "lenet");
    for isa in isas() {
        let engines = engines(&model, isa);
        let mut session = engines.session();
        for images in [1, 2, 3, 17, 64, 100] {
            let input = [noise(&[images, 1, 28, 28], images)];
            let found = session.run(&input).unwrap();
            let exact = CompileOptions {
                batch: Some(images),
                ..options(isa)
            };
            let exact = model.compile(&exact).unwrap();
            let expected = exact.run(&mut exact.session(), &input).unwrap();
            let what = format!("{images} images, {isa}");
            assert_close(&what, &found[0], &expected[0]);
        }
        // 1, 2, 4, 32, 64: what is between is run by the next larger one.
        assert_eq!(engines.generated(), 5);
        assert!(
            engines.kernels().hits() > 0,
            "convolutions are the same for every batch"
        );
        let shape = |images| Shape::new([images, 1, 28, 28]).unwrap();
        assert_eq!(engines.engine(&[shape(100)]).unwrap().plan().batch, 64);
        assert_eq!(engines.engine(&[shape(3)]).unwrap().plan().batch, 4);
    }
}

#[test]
fn the_batch_asked_for_is_the_most() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "lenet");
    let options = CompileOptions {
        batch: Some(6),
        ..options(Isa::Avx2)
    };
    let engines = AnyShape::new(&model, &options, AnyShape::USUAL_SHAPES).unwrap();
    let batch = |images| {
        let shape = Shape::new([images, 1, 28, 28]).unwrap();
        engines.engine(&[shape]).unwrap().plan().batch
    };
    assert_eq!([1, 2, 3, 5, 6, 7, 1000].map(batch), [1, 2, 4, 6, 6, 6, 6]);
}

#[test]
fn the_size_used_longest_ago_gives_way() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "mtcnn_det1");
    let two = NonZeroUsize::new(2).unwrap();
    let engines = AnyShape::new(&model, &options(Isa::Avx2), two).unwrap();
    let mut session = engines.session();
    let mut run = |side: u32| {
        let input = [noise(&[1, 3, side, side], 1)];
        let found = session.run(&input).unwrap();
        (found, engines.generated())
    };
    let (first, _) = run(20);
    let made = [30, 20, 40, 20, 30].map(|side| run(side).1);
    assert_eq!(made, [2, 2, 3, 3, 4]);
    let (again, _) = run(20);
    assert_eq!(first, again);
    // What cannot be takes nobody's place.
    let refused = engines.session().run(&[noise(&[1, 3, 5, 5], 1)]);
    assert!(refused.is_err());
    assert_eq!([20, 30].map(|side| run(side).1), [4, 4]);
}

#[test]
fn threads_that_ask_for_the_same_size_wait_for_one_engine() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "mtcnn_det1");
    for isa in isas() {
        let engines = engines(&model, isa);
        let sizes = [50, 70, 90];
        let results: Vec<Vec<Vec<Tensor>>> = std::thread::scope(|scope| {
            let work = |member: usize| {
                let mut session = engines.session();
                move || {
                    let order = (0..sizes.len()).map(|i| (i + member) % sizes.len());
                    let mut found = vec![Vec::new(); sizes.len()];
                    for index in order {
                        let input = noise(&[1, 3, sizes[index], 40], 5);
                        found[index] = session.run(&[input]).unwrap();
                    }
                    found
                }
            };
            let members: Vec<_> = (0..6).map(|member| scope.spawn(work(member))).collect();
            members
                .into_iter()
                .map(|member| member.join().unwrap())
                .collect()
        });
        assert_eq!(engines.generated(), sizes.len());
        assert!(
            results.iter().all(|result| *result == results[0]),
            "same bits"
        );
    }
}

#[test]
fn blobs_are_kept_at_every_size() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "mtcnn_det1");
    let options = CompileOptions {
        keep: Keep::Named(vec!["conv1".to_owned()]),
        ..options(Isa::Avx2)
    };
    let engines = AnyShape::new(&model, &options, AnyShape::USUAL_SHAPES).unwrap();
    let found = engines.session().run(&[noise(&[1, 3, 25, 31], 1)]).unwrap();
    assert_eq!(found[2].shape().dims(), [1, 10, 23, 29]);
}

/// An artifact keeps its choices of kernels where they fit; who asks for measurements at another size
/// gets them.
#[test]
fn choices_are_kept_unless_measured() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "mtcnn_det1");
    let shape = [Shape::new([1, 3, 40, 44]).unwrap()];
    let bases = |tuning: Option<Tuning>| -> Vec<Basis> {
        let options = CompileOptions {
            tuning,
            threads: 1,
            ..Default::default()
        };
        let engines = AnyShape::new(&model, &options, AnyShape::USUAL_SHAPES).unwrap();
        let engine = engines.engine(&shape).unwrap();
        engine
            .plan()
            .choices
            .iter()
            .map(|choice| choice.basis)
            .collect()
    };
    let (kept, measured) = (
        bases(None),
        bases(Some(Tuning::with(TuneCache::in_memory()))),
    );
    assert!(
        kept.contains(&Basis::Named) && !kept.contains(&Basis::Measured),
        "{kept:?}"
    );
    assert!(
        measured.contains(&Basis::Measured) && !measured.contains(&Basis::Named),
        "{measured:?}"
    );
}

#[test]
fn a_resized_network_is_an_artifact_of_its_own() {
    let Some(data) = data("") else { return };
    let shape = Shape::new([2, 3, 48, 64]).unwrap();
    let model = artifact(&data, "mtcnn_det1")
        .with_input_shape(&shape)
        .unwrap();
    let engine = model.compile(&CompileOptions::default()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("larger.skim");
    model.write_artifact(&engine, &file).unwrap();
    let loaded = Model::load(&file, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.batch(), 2);
    assert_eq!(loaded.graph().shape(loaded.graph().inputs[0]), &shape);
    let small = LoadOptions {
        input_shape: Some(Shape::new([1, 3, 12, 12]).unwrap()),
        ..Default::default()
    };
    assert_eq!(Model::load(&file, &small).unwrap().batch(), 1);
    let tiny = LoadOptions {
        input_shape: Some(Shape::new([1, 3, 4, 4]).unwrap()),
        ..Default::default()
    };
    let error = Model::load(&file, &tiny).err().unwrap().to_string();
    for word in ["larger.skim", "4x4", "layer", "48x64"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// Two inputs whose sizes have to agree.
#[test]
fn several_inputs_are_resized_together() {
    let text = r#"
        layer { name: "in" type: "Input" top: "a" top: "b"
          input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
        layer { name: "pool" type: "Pooling" bottom: "b" top: "pool"
          pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }
        layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "pool" top: "sum" }"#;
    let (net, _) = caffe::parse_prototxt(text, "two.prototxt").unwrap();
    let imported = import(net, vec![], &ImportOptions::default()).unwrap();
    let model = Model::from_graph(imported.graph).unwrap();
    for isa in isas() {
        let mut session = engines(&model, isa).session();
        let inputs = [noise(&[2, 2, 7, 9], 1), noise(&[2, 2, 7, 9], 2)];
        let shape = inputs[0].shape().clone();
        let shapes = [("a", shape.clone()), ("b", shape)];
        let graph = model.graph().with_input_shapes(&shapes).unwrap();
        let expected = interpreter::run_outputs(&graph, &inputs).unwrap();
        assert_close("sum", &session.run(&inputs).unwrap()[0], &expected[0]);
        let apart = [noise(&[2, 2, 7, 9], 1), noise(&[2, 2, 7, 8], 2)];
        let error = session.run(&apart).unwrap_err().to_string();
        assert!(
            error.contains("\"sum\"") && error.contains("7x8"),
            "{error}"
        );
        let few = session.run(&inputs[..1]).unwrap_err().to_string();
        assert!(few.contains("found 1 input"), "{few}");
        let images = [noise(&[2, 2, 7, 9], 1), noise(&[3, 2, 7, 9], 2)];
        let error = session.run(&images).unwrap_err().to_string();
        assert!(error.contains("same number of images"), "{error}");
    }
}

/// Sizes that nobody has memory for are refused before any is taken.
#[test]
fn hostile_sizes_are_refused() {
    let Some(data) = data("") else { return };
    let model = artifact(&data, "mtcnn_det1");
    let engines = engines(&model, Isa::Avx2);
    for dims in [
        [1, 3, 20_000, 20_000],
        [1, 3, 9_000, 9_000],
        [60, 3, 2_000, 2_000],
    ] {
        let shape = Shape::new(dims).unwrap();
        let error = engines.engine(&[shape]).err().unwrap().to_string();
        assert!(error.contains("expected"), "{error}");
    }
    assert_eq!(engines.generated(), 0);
}
