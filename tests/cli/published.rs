//! `skimjit test` on published networks and images: the accuracies that the data's README states.

use crate::support::Workplace;
use crate::testing::{mean, number, tested, text};
use flate2::read::GzDecoder;
use image::{GrayImage, Luma, Rgb, RgbImage};
use skimjit_testing::data;
use std::io::Read;
use std::path::Path;

/// Counts of ACCURACY.tsv: correct, of how many.
fn counts(shared: &Path, model: &str, inputs: &str) -> [f64; 2] {
    let table = std::fs::read_to_string(shared.join("ACCURACY.tsv")).expect("ACCURACY.tsv");
    let row = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .find(|row| row[..2] == [model, inputs])
        .unwrap_or_else(|| panic!("no {model}, {inputs}"));
    [row[3], row[2]].map(|count| count.parse().expect("a count"))
}

#[track_caller]
fn assert_share(model: &str, found: f64, [correct, of]: [f64; 2]) {
    println!("{model}: accuracy {found:.4}, expected {:.4}", correct / of);
    assert!(
        (found - correct / of).abs() < 5e-5,
        "{model}: {found}, {correct} of {of}"
    );
}

/// Contents of a compressed file.
fn unpacked(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(file).expect("a readable file");
    GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .expect("a gzip file");
    bytes
}

/// Writes lossless pictures and their list: channel planes, in the order that the network sees them.
fn pictures(place: &Workplace, side: u32, images: &[&[u8]], labels: &[u8]) {
    let plane = (side * side) as usize;
    let mut list = String::new();
    for (index, (planes, label)) in images.iter().zip(labels).enumerate() {
        let file = format!("{index:05}.png");
        let value = |x: u32, y: u32, c: usize| planes[c * plane + (y * side + x) as usize];
        let path = place.path(&file);
        // Caffe reads pictures as blue, green, red, whatever that is for the network.
        let saved = match planes.len() / plane {
            1 => GrayImage::from_fn(side, side, |x, y| Luma([value(x, y, 0)])).save(path),
            _ => RgbImage::from_fn(side, side, |x, y| Rgb([2, 1, 0].map(|c| value(x, y, c))))
                .save(path),
        };
        saved.expect("a picture that is written");
        list += &format!("{file} {label}\n");
    }
    place.write("list.txt", list);
}

#[test]
fn lenet_on_mnist() {
    let Some(shared) = data("") else { return };
    let place = Workplace::new();
    let file = |name: &str| shared.join("data/mnist").join(name).display().to_string();
    let images = file("test_first3000-images-idx3-ubyte.gz");
    let labels = file("test_first3000-labels-idx1-ubyte.gz");
    // The data base under the name that the published definition has for it.
    let folder = "examples/mnist/mnist_test_lmdb";
    std::fs::create_dir_all(place.path("examples/mnist")).unwrap();
    place.ok(&["convert-dataset", "mnist", &images, &labels, folder]);
    let definition = shared.join("formats/train_lenet_train_test.prototxt");
    std::fs::copy(definition, place.path("test.prototxt")).expect("the definition of LeNet");
    for model in ["lenet", "lenet5_dns_sparse"] {
        let weights = shared.join("models").join(model).join("model.caffemodel");
        let report = tested(&place, &weights, 30);
        let expected = counts(&shared, model, "mnist_test_first3000");
        assert_share(model, mean(&report, "accuracy"), expected);
        assert_eq!(report["images"], 3000);
        assert!(
            (0.03..0.06).contains(&number(&report["loss"])),
            "{}",
            report["loss"]
        );
    }
}

/// A deploy definition of CIFAR-10, of either format, behind a data layer and with an Accuracy.
fn cifar10(deploy: &str, mean_file: &str) -> String {
    let (layer, [data, accuracy]) = match deploy.contains("layers {") {
        true => ("layers", ["IMAGE_DATA", "ACCURACY"]),
        false => ("layer", ["\"ImageData\"", "\"Accuracy\""]),
    };
    let mut lines = deploy.lines();
    let input = lines
        .find_map(|line| line.strip_prefix("input:"))
        .expect("an input");
    let network: Vec<&str> = deploy
        .lines()
        .filter(|line| !line.starts_with("input"))
        .collect();
    format!(
        r#"{layer} {{ name: "cifar" type: {data} top: {input} top: "label"
  transform_param {{ mean_file: "{mean_file}" }}
  image_data_param {{ source: "list.txt" batch_size: 100 }} }}
{network}
{layer} {{ name: "accuracy" type: {accuracy} bottom: "prob" bottom: "label" top: "accuracy" }}"#,
        network = network.join("\n")
    )
}

#[test]
fn cifar10_networks() {
    let Some(shared) = data("") else { return };
    let place = Workplace::new();
    let records = unpacked(&shared.join("data/cifar10/test_00000_00499.bin.gz"));
    let records = records.chunks_exact(1 + 3 * 32 * 32);
    let (labels, images): (Vec<u8>, Vec<&[u8]>) = records.map(|r| (r[0], &r[1..])).unzip();
    pictures(&place, 32, &images, &labels);
    let mean_file = text(&shared.join("formats/cifar10_mean.binaryproto"));
    for model in [
        "cifar10_quick_v1format",
        "resnet20_cifar10",
        "arm_cifar10_m4",
        "arm_cifar10_m4_quantised",
    ] {
        let folder = shared.join("models").join(model);
        let deploy = std::fs::read_to_string(folder.join("deploy.prototxt")).expect(model);
        place.write("test.prototxt", cifar10(&deploy, &mean_file));
        let report = tested(&place, &folder.join("model.caffemodel"), 5);
        let expected = counts(&shared, model, "cifar10_test_00000_00499");
        assert_share(model, mean(&report, "accuracy"), expected);
    }
}

/// Pictures of 300 that another JPEG decoder may decide otherwise: the reference has two whose best two
/// scores differ by less than 0.01, and a grey level here and there changes scores by as much.
const CHANGED: f64 = 2.0;

#[test]
fn squeezenet_on_photographs() {
    let Some(shared) = data("") else { return };
    let place = Workplace::new();
    let table = std::fs::read_to_string(shared.join("imagenet/labels.tsv")).expect("labels.tsv");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let list: String = rows.map(|row| format!("{} {}\n", row[1], row[3])).collect();
    place.write("list.txt", list);
    let folder = shared.join("models/squeezenet_v1.0_dc");
    let published = std::fs::read_to_string(folder.join("train_val.prototxt")).expect("train_val");
    let network = published.find("layer {\n  name: \"conv1\"").expect("conv1");
    let data = format!(
        r#"layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  transform_param {{ crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 }}
  image_data_param {{ source: "list.txt" root_folder: "{}/" batch_size: 50 }} }}"#,
        text(&shared.join("imagenet/images256"))
    );
    place.write(
        "test.prototxt",
        format!("{data}\n{}", &published[network..]),
    );
    let report = tested(&place, &folder.join("model.caffemodel"), 6);
    for (top, blob) in [("top-1", "accuracy_top1"), ("top-5", "accuracy_top5")] {
        let found = mean(&report, blob);
        let inputs = format!("imagenet/images256 {top}");
        let [correct, of] = counts(&shared, "squeezenet_v1.0_dc", &inputs);
        println!(
            "squeezenet {top}: {:.0} of {of}, by OpenCV's decoder {correct}",
            found * of
        );
        assert!(
            (found * of - correct).abs() <= CHANGED + 1e-3,
            "{top}: {found}"
        );
    }
}
