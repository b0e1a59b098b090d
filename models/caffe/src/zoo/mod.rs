//! Well-known networks by name: topologies written for this project, with the layer names that
//! published weights bind to, and the sparsities that pruned versions of them reached.

pub mod layers;
mod published;
pub mod synth;
mod training;

pub use layers::{LayerShape, layers};
pub use synth::{Sparsity, synthesize};
pub use training::{TrainVal, train_val, usual_scale};

use crate::proto::NetParameter;
use crate::text;
use skimjit_models::Result;

/// A layer's name and the percentage of its weights that are zero.
pub type LayerSparsity = (&'static str, f64);

/// A network of the zoo.
#[derive(Debug)]
pub struct Net {
    /// Name, as users type it.
    pub name: &'static str,
    /// Other names, lower case.
    pub aliases: &'static [&'static str],
    /// Topology with one Input layer and softmax outputs (or detections), batch 1.
    pub prototxt: &'static str,
    /// N, C, H, W of the input.
    pub input_shape: [u32; 4],
    /// Usual standard deviation of input elements: of pixels of 0 to 255 less their mean, or of
    /// pixels that are scaled.
    pub input_std: f32,
    /// Sparsity of each pruned layer of a published model, where there is one. Layers that are
    /// not listed are dense.
    pub published: Option<&'static [LayerSparsity]>,
}

/// All networks.
pub fn all() -> &'static [Net] {
    &NETS
}

/// The network with that name or alias, in any case, with `-` and `_` alike.
pub fn find(name: &str) -> Option<&'static Net> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    NETS.iter()
        .find(|net| net.name == name || net.aliases.contains(&name.as_str()))
}

static NETS: [Net; 12] = [
    Net {
        name: "lenet",
        aliases: &["lenet-5", "mnist"],
        prototxt: include_str!("nets/lenet.prototxt"),
        input_shape: [1, 1, 28, 28],
        input_std: 0.3,
        published: None,
    },
    Net {
        name: "cifar10-quick",
        aliases: &["cifar10", "cifar-10-quick", "cifar"],
        prototxt: include_str!("nets/cifar10_quick.prototxt"),
        input_shape: [1, 3, 32, 32],
        input_std: 64.0,
        published: None,
    },
    Net {
        name: "cifar10-full",
        aliases: &["cifar-10-full"],
        prototxt: include_str!("nets/cifar10_full.prototxt"),
        input_shape: [1, 3, 32, 32],
        input_std: 64.0,
        published: None,
    },
    Net {
        name: "resnet-20",
        aliases: &["resnet20", "resnet-20-cifar10"],
        prototxt: include_str!("nets/resnet20.prototxt"),
        input_shape: [1, 3, 32, 32],
        input_std: 0.5,
        published: None,
    },
    Net {
        name: "squeezenet-v1.0",
        aliases: &["squeezenet"],
        prototxt: include_str!("nets/squeezenet_v1.0.prototxt"),
        input_shape: [1, 3, 227, 227],
        input_std: 64.0,
        published: None,
    },
    Net {
        name: "googlenet",
        aliases: &["bvlc-googlenet", "inception-v1"],
        prototxt: include_str!("nets/googlenet.prototxt"),
        input_shape: [1, 3, 224, 224],
        input_std: 64.0,
        published: Some(published::GOOGLENET),
    },
    Net {
        name: "googlenet-aux",
        aliases: &["inception-v1-aux"],
        prototxt: include_str!("nets/googlenet_aux.prototxt"),
        input_shape: [1, 3, 224, 224],
        input_std: 64.0,
        published: Some(published::GOOGLENET),
    },
    Net {
        name: "resnet-50",
        aliases: &["resnet50", "resnet"],
        prototxt: include_str!("nets/resnet50.prototxt"),
        input_shape: [1, 3, 224, 224],
        input_std: 64.0,
        published: Some(published::RESNET_50),
    },
    Net {
        name: "caffenet",
        aliases: &["bvlc-reference-caffenet"],
        prototxt: include_str!("nets/caffenet.prototxt"),
        input_shape: [1, 3, 227, 227],
        input_std: 64.0,
        published: Some(published::CAFFENET),
    },
    Net {
        name: "alexnet",
        aliases: &["bvlc-alexnet"],
        prototxt: include_str!("nets/alexnet.prototxt"),
        input_shape: [1, 3, 227, 227],
        input_std: 64.0,
        published: None,
    },
    Net {
        name: "vgg-16",
        aliases: &["vgg16", "vgg"],
        prototxt: include_str!("nets/vgg16.prototxt"),
        input_shape: [1, 3, 224, 224],
        input_std: 64.0,
        published: None,
    },
    Net {
        name: "mobilenet-ssd",
        aliases: &["mobilenetssd", "mobilenet-v1-ssd"],
        prototxt: include_str!("nets/mobilenet_ssd.prototxt"),
        input_shape: [1, 3, 300, 300],
        input_std: 0.5,
        published: None,
    },
];

/// The network's topology as Caffe's message.
fn topology(net: &Net) -> Result<NetParameter> {
    text::parse_net(net.prototxt).map_err(|error| error.file(format!("zoo/{}.prototxt", net.name)))
}
