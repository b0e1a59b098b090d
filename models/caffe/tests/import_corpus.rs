//! Every network of BVLC's repository: what it becomes, or why it is refused.

mod import_support;

use import_support::outputs;
use skimjit_caffe::import::{ImportOptions, load};
use skimjit_models::{Error, Shape};
use skimjit_testing::data;
use std::path::Path;

/// What a file becomes when data layers become inputs and losses go.
enum Becomes {
    /// A network with these results.
    Network(&'static [&'static str]),
    /// An error with these words.
    Refused(&'static [&'static str]),
}

use Becomes::{Network, Refused};

struct Case {
    file: &'static str,
    /// Shape of the input, where the file does not tell.
    shape: &'static [u32],
    stage: &'static str,
    becomes: Becomes,
}

const fn case(
    file: &'static str,
    shape: &'static [u32],
    stage: &'static str,
    becomes: Becomes,
) -> Case {
    Case {
        file,
        shape,
        stage,
        becomes,
    }
}

const PROB: Becomes = Network(&["prob"]);
const CIFAR: &[u32] = &[1, 3, 32, 32];
const MNIST: &[u32] = &[1, 1, 28, 28];

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("examples__cifar10__cifar10_full", &[], "", PROB),
    case("examples__cifar10__cifar10_full_sigmoid_train_test", CIFAR, "", PROB),
    case("examples__cifar10__cifar10_full_sigmoid_train_test_bn", CIFAR, "", PROB),
    case("examples__cifar10__cifar10_full_train_test", CIFAR, "", PROB),
    case("examples__cifar10__cifar10_quick", &[], "", PROB),
    case("examples__cifar10__cifar10_quick_train_test", CIFAR, "", PROB),
    case("examples__feature_extraction__imagenet_val", &[], "", Network(&["loss", "prob"])),
    case("examples__finetune_pascal_detection__pascal_finetune_trainval_test", &[], "", PROB),
    case("examples__hdf5_classification__nonlinear_auto_test", &[10, 4], "", PROB),
    case("examples__hdf5_classification__nonlinear_auto_train", &[10, 4], "", PROB),
    case("examples__hdf5_classification__nonlinear_train_val", &[10, 4], "", PROB),
    case("examples__hdf5_classification__train_val", &[10, 4], "", PROB),
    case("examples__mnist__lenet", &[], "", PROB),
    case("examples__mnist__lenet_train_test", MNIST, "", PROB),
    case("examples__mnist__mnist_autoencoder", MNIST, "test-on-test", Network(&["decode1neuron", "flatdata"])),
    // Its data layers belong to stages.
    case("examples__mnist__mnist_autoencoder", &[], "", Refused(&["flatdata", "bottom[0]"])),
    case("examples__net_surgery__bvlc_caffenet_full_conv", &[], "", PROB),
    case("examples__net_surgery__conv", &[], "", Network(&["conv"])),
    case("examples__pycaffe__linreg", &[], "", Refused(&["Python", "(pyloss.EuclideanLossLayer)"])),
    case("examples__siamese__mnist_siamese", &[], "", Network(&["feat"])),
    case("examples__siamese__mnist_siamese_train_test", &[1, 2, 28, 28], "", Network(&["feat", "feat_p"])),
    case("models__bvlc_alexnet__deploy", &[], "", PROB),
    case("models__bvlc_alexnet__train_val", &[], "", PROB),
    case("models__bvlc_googlenet__deploy", &[], "", PROB),
    case("models__bvlc_googlenet__train_val", &[], "", Network(&["loss1/loss1", "loss2/loss2", "loss3/loss3"])),
    case("models__bvlc_reference_caffenet__deploy", &[], "", PROB),
    case("models__bvlc_reference_caffenet__train_val", &[], "", PROB),
    case("models__bvlc_reference_rcnn_ilsvrc13__deploy", &[], "", Network(&["fc-rcnn"])),
    case("models__finetune_flickr_style__deploy", &[], "", PROB),
    case("models__finetune_flickr_style__train_val", &[], "", PROB),
];

/// Names of the results.
fn becomes(folder: &Path, case: &Case) -> Result<Vec<String>, Error> {
    let shape = (!case.shape.is_empty()).then(|| Shape::new(case.shape).expect("a shape"));
    let options = ImportOptions {
        input_shape: shape,
        stages: vec![case.stage.to_owned()],
        data_to_input: true,
        strip_losses: true,
        allow_missing_weights: true,
        ..ImportOptions::default()
    };
    let file = folder.join(format!("{}.prototxt", case.file));
    let graph = load(Some(&file), &[], &options)?.graph;
    graph.check().expect("a sound graph");
    Ok(outputs(&graph).into_iter().map(str::to_owned).collect())
}

#[test]
fn every_file_imports_or_says_why() {
    let Some(root) = data("") else { return };
    let folder = root.join("prototxt_corpus/BVLC__caffe");
    for case in CASES {
        let found = becomes(&folder, case);
        let text = match &found {
            Ok(names) => names.join(", "),
            Err(error) => error.to_string(),
        };
        println!("{:70} {text}", case.file);
        match (&case.becomes, found) {
            (Network(names), Ok(found)) => assert_eq!(found, *names, "{}", case.file),
            (Refused(words), Err(_)) => {
                assert!(words.iter().all(|word| text.contains(word)), "{text}");
            }
            _ => panic!("{}: {text}", case.file),
        }
    }
    for entry in std::fs::read_dir(&folder).expect("files").flatten() {
        let path = entry.path();
        let text = std::fs::read(&path).expect("a readable file");
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let listed = CASES.iter().any(|case| case.file == stem);
        let solver = skimjit_caffe::text::is_solver(&text);
        assert!(listed || solver, "{stem} is not in the table");
    }
}
