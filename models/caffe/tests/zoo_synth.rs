//! Synthetic weights: exact sparsity, repeatable, independent between layers, of sane size.

use skimjit_caffe::zoo::{self, Sparsity, synthesize};
use std::collections::HashMap;

/// Blobs of each layer by its name.
fn blobs(name: &str, sparsity: Sparsity, seed: u64) -> HashMap<String, Vec<Vec<f32>>> {
    let net = synthesize(zoo::find(name).unwrap(), sparsity, seed).unwrap();
    let blobs = |layer: skimjit_caffe::proto::LayerParameter| {
        let data = layer.blobs.into_iter().map(|blob| blob.data).collect();
        (layer.name.unwrap(), data)
    };
    net.layer.into_iter().map(blobs).collect()
}

fn zeros(weights: &[f32]) -> usize {
    weights.iter().filter(|&&weight| weight == 0.0).count()
}

#[test]
fn published_sparsities_come_out_exactly() {
    for name in ["googlenet-aux", "resnet-50"] {
        let net = zoo::find(name).unwrap();
        let published: HashMap<_, _> = net.published.unwrap().iter().copied().collect();
        let blobs = blobs(name, Sparsity::Published, 1);
        for layer in zoo::layers(net)
            .unwrap()
            .iter()
            .filter(|layer| layer.has_weights())
        {
            let percent = published.get(layer.name.as_str()).copied().unwrap_or(0.0);
            let expected = (layer.blob_count(0) as f64 * percent / 100.0).round() as usize;
            assert_eq!(
                zeros(&blobs[&layer.name][0]),
                expected,
                "{name} {}",
                layer.name
            );
        }
    }
}

#[test]
fn a_percentage_spares_the_first_convolution_and_all_other_blobs() {
    let net = zoo::find("lenet").unwrap();
    for percent in [0.0, 33.3, 90.0, 100.0] {
        let blobs = blobs("lenet", Sparsity::Percent(percent), 2);
        for layer in zoo::layers(net)
            .unwrap()
            .iter()
            .filter(|layer| layer.has_weights())
        {
            let percent = if layer.name == "conv1" { 0.0 } else { percent };
            let expected = (layer.blob_count(0) as f64 * percent / 100.0).round() as usize;
            assert_eq!(zeros(&blobs[&layer.name][0]), expected, "{}", layer.name);
            assert_eq!(zeros(&blobs[&layer.name][1]), 0, "{} bias", layer.name);
        }
    }
    for percent in [-1.0, 100.5, f64::NAN] {
        assert!(synthesize(net, Sparsity::Percent(percent), 2).is_err());
    }
    let text = synthesize(net, Sparsity::Published, 2)
        .unwrap_err()
        .to_string();
    assert!(text.contains("lenet"), "{text}");
}

#[test]
fn seed_and_layer_decide_and_nothing_else() {
    let one = blobs("googlenet", Sparsity::Percent(80.0), 3);
    assert_eq!(one, blobs("googlenet", Sparsity::Percent(80.0), 3));
    // The heads add layers but do not change the others.
    let aux = blobs("googlenet-aux", Sparsity::Percent(80.0), 3);
    assert!(one.iter().all(|(layer, data)| aux[layer] == *data));
    let other = blobs("googlenet", Sparsity::Percent(80.0), 4);
    let layer = "inception_3a/3x3";
    assert_ne!(one[layer][0], other[layer][0]);
    assert_ne!(one[layer][0][..1000], one["inception_3b/3x3"][0][..1000]);
}

/// These bits may only change together with the product's release notes: benches name the seed.
#[test]
fn the_bits_are_fixed() {
    let blobs = blobs("lenet", Sparsity::Percent(50.0), 0);
    let bits = |layer: &str| {
        blobs[layer][0][..3]
            .iter()
            .map(|w| w.to_bits())
            .collect::<Vec<_>>()
    };
    let hash = crc32fast::hash(
        &blobs["ip1"][0]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        (bits("conv1"), hash),
        (
            vec![3_204_756_758, 3_210_137_234, 1_061_028_669],
            1_406_881_877
        )
    );
}

#[test]
fn weights_are_normal_with_the_variance_of_surviving_inputs() {
    for (percent, density) in [(0.0, 1.0), (90.0, 0.1)] {
        let blobs = blobs("lenet", Sparsity::Percent(percent), 5);
        let weights: Vec<f64> = blobs["ip1"][0]
            .iter()
            .filter(|&&w| w != 0.0)
            .map(|&w| f64::from(w))
            .collect();
        let std = f64::sqrt(2.0 / (800.0 * density));
        let moment =
            |k: i32| weights.iter().map(|w| (w / std).powi(k)).sum::<f64>() / weights.len() as f64;
        assert!(moment(1).abs() < 0.02, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.06, "skewness {}", moment(3));
        assert!((moment(4) - 2.95).abs() < 0.1, "kurtosis {}", moment(4));
    }
}

/// No row or column of a sparse layer is favoured.
#[test]
fn zeros_are_spread_evenly() {
    let blobs = blobs("lenet", Sparsity::Percent(90.0), 6);
    let rows = blobs["ip1"][0]
        .chunks_exact(800)
        .map(|row| 800 - zeros(row));
    let counts: Vec<usize> = rows.collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // 500 draws of a binomial of mean 80 and standard deviation 8.5.
    assert!(*least > 80 - 43 && *most < 80 + 43, "{least} to {most}");
    let first_half: usize = counts[..250].iter().sum();
    assert!(
        (19_300..20_700).contains(&first_half),
        "{first_half} of 40000"
    );
}
