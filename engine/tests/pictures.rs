//! Pictures against the pixels and inputs that OpenCV made of the same files.

use skimjit::array::read_npy;
use skimjit::picture::{ChannelOrder, Mean, Picture, Preprocess, Resize, load};
use skimjit_testing::data;

/// Largest and mean absolute difference.
fn differences(a: impl Iterator<Item = f32>, b: &[f32]) -> (f32, f32) {
    let differences: Vec<f32> = a.zip(b).map(|(a, b)| (a - b).abs()).collect();
    assert_eq!(differences.len(), b.len());
    let mean = differences.iter().sum::<f32>() / b.len() as f32;
    (differences.into_iter().fold(0.0, f32::max), mean)
}

#[test]
fn jpeg_pixels_are_those_of_opencv() {
    let Some(file) = data("imagenet/pixels_u8_bgr_hwc_first8.npy") else {
        return;
    };
    let (pixels, labels) = (
        read_npy(&file).unwrap(),
        data("imagenet/labels.tsv").unwrap(),
    );
    let labels = std::fs::read_to_string(labels).unwrap();
    let count = pixels.shape().count_of(1, 4);
    let mut compared = 0;
    for (line, reference) in labels
        .lines()
        .skip(1)
        .zip(pixels.data().chunks_exact(count))
    {
        let name = line.split('\t').nth(1).unwrap();
        let file = data(&format!("imagenet/images256/{name}")).unwrap();
        let picture = Picture::open(&file, 3, ChannelOrder::Bgr).unwrap();
        // The reference is either the whole picture or its centre.
        let side = pixels.shape().dim(1) as usize;
        let offset = (picture.height() as usize - side) / 2;
        let ours = (0..count).map(|i| {
            let (y, x, c) = (i / (3 * side), i / 3 % side, i % 3);
            let index = (y + offset) * picture.width() as usize + x + offset;
            f32::from(picture.data()[index * 3 + c])
        });
        let (worst, mean) = differences(ours, reference);
        assert!(
            worst <= 4.0 && mean <= 0.05,
            "{name}: worst {worst}, mean {mean}"
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn squeezenet_input_is_that_of_the_reference() {
    let Some(file) = data("refs/squeezenet_v1.0_dc/input.npy") else {
        return;
    };
    let reference = read_npy(&file).unwrap();
    let preprocess = Preprocess {
        crop: Some(227),
        mean: Mean::Values(vec![104.0, 117.0, 123.0]),
        ..Preprocess::default()
    };
    let names = [
        "n01440764_tench.jpg",
        "n01484850_great_white_shark.jpg",
        "n01498041_stingray.jpg",
    ];
    for (name, image) in names
        .iter()
        .zip(reference.data().chunks_exact(3 * 227 * 227))
    {
        let file = data(&format!("imagenet/images256/{name}")).unwrap();
        let input = load(&file, [3, 227, 227], &preprocess).unwrap();
        let (worst, mean) = differences(input.data().iter().copied(), image);
        assert!(
            worst <= 4.0 && mean <= 0.05,
            "{name}: worst {worst}, mean {mean}"
        );
    }
}

#[test]
fn resized_input_is_that_of_the_reference() {
    let Some(file) = data("refs/rfb320_face/input.npy") else {
        return;
    };
    let reference = read_npy(&file).unwrap();
    let preprocess = Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Some(Resize::Exact(320, 240)),
        mean: Mean::Values(vec![127.0]),
        scale: 1.0 / 128.0,
        ..Preprocess::default()
    };
    let input = load(
        &data("images/linzaer_2.jpg").unwrap(),
        [3, 240, 320],
        &preprocess,
    )
    .unwrap();
    let (worst, mean) = differences(input.data().iter().copied(), reference.data());
    let (worst, mean) = (worst * 128.0, mean * 128.0);
    assert!(
        worst <= 4.0 && mean <= 0.3,
        "grey levels: worst {worst}, mean {mean}"
    );
}

#[test]
fn a_mean_image_file_is_cropped_with_the_picture() {
    let Some(file) = data("formats/ilsvrc_2012_mean.npy") else {
        return;
    };
    let preprocess = Preprocess {
        crop: Some(227),
        mean: Mean::Image(read_npy(&file).unwrap()),
        ..Preprocess::default()
    };
    let picture = data("imagenet/images256/n01440764_tench.jpg").unwrap();
    assert!(load(&picture, [3, 227, 227], &preprocess).is_ok());
    let original = data("images/caffe_cat.jpg").unwrap();
    let text = load(&original, [3, 227, 227], &preprocess)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("caffe_cat.jpg") && text.contains("mean image"),
        "{text}"
    );
}

#[test]
fn files_that_are_no_pictures_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.jpg");
    std::fs::write(&file, "no picture").unwrap();
    let text = load(&file, [3, 8, 8], &Preprocess::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("text.jpg"), "{text}");
    let absent = folder.path().join("absent.png");
    assert!(load(&absent, [3, 8, 8], &Preprocess::default()).is_err());
}
