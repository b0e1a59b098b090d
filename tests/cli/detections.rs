//! `skimjit run` on a detector.

use crate::support::{Workplace, ramp};
use skimjit::array::write_npy;
use skimjit_caffe::{parse_prototxt, write_caffemodel};

/// Priors of 8x8 positions in 32x32 pixels whose scores are those of the input's channels.
const DETECTOR: &str = r#"name: "detector"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 6 dim: 8 dim: 8 } } }
layer { name: "loc" type: "Slice" bottom: "data" top: "loc" top: "conf"
  slice_param { axis: 1 slice_point: 4 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf_soft" type: "Softmax" bottom: "conf" top: "conf_soft" }
layer { name: "conf_perm" type: "Permute" bottom: "conf_soft" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "priors" type: "PriorBox" bottom: "data" bottom: "data" top: "priors"
  prior_box_param { min_size: 8 img_size: 32 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors"
  top: "found" detection_output_param { num_classes: 2 keep_top_k: 3 code_type: CENTER_SIZE
  confidence_threshold: 0.6 nms_param { nms_threshold: 0.4 } } }
"#;

#[test]
fn objects_are_listed_for_each_picture() {
    let place = Workplace::new();
    let (net, _) = parse_prototxt(DETECTOR, "detector.prototxt").unwrap();
    write_caffemodel(&net, &place.path("net.caffemodel")).unwrap();
    place.write("labels.txt", "background\ncat\n");
    // The second image has no score above the threshold.
    let mut images = ramp([2, 6, 8, 8], 1.0);
    images.data_mut()[6 * 64..].fill(0.0);
    write_npy(&place.path("in.npy"), &images).unwrap();
    let arguments = [
        "run",
        "net.caffemodel",
        "--input",
        "in.npy",
        "--labels",
        "labels.txt",
    ];
    let report = place.json(&arguments);
    let found = report["detections"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["input"], "in.npy[0]");
    let objects = found[0]["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 3);
    for object in objects {
        assert_eq!(
            (&object["class"], object["label"].as_str()),
            (&1.into(), Some("cat"))
        );
        assert!(
            object["score"].as_f64() > Some(0.6)
                && object["corners"].as_array().unwrap().len() == 4
        );
    }
    assert!(found[1]["objects"].as_array().unwrap().is_empty());
    let text = place.ok(&arguments);
    assert!(
        text.contains("in.npy[0]: 3 objects") && text.contains("xmin"),
        "{text}"
    );
    assert!(
        text.contains("in.npy[1]: 0 objects") && text.contains("cat"),
        "{text}"
    );
    assert!(!text.contains("mean"), "no line about an array: {text}");
}
