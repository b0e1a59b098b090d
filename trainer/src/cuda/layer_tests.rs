//! Every layer on the device against that of the CPU, one at a time, in shapes that are not the usual ones.

use super::tests::{compare, engines};
use crate::engine::{Engine, NetId, loss};
use crate::executor::CpuEngine;
use crate::net::Net;
use crate::update::{Decay, Rule, Threshold, Update};
use skimjit_caffe::{Definition, Phase};
use skimjit_models::{Shape, Tensor};

fn net(text: &str) -> Net {
    let definition = Definition::parse(text, "test.prototxt").unwrap();
    let built = Net::new(&definition.in_phase(Phase::Train), &[], &[], 3);
    built.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn input(name: &str, dims: &str) -> String {
    let dims: String = dims.split('x').map(|dim| format!("dim: {dim} ")).collect();
    format!(
        "layer {{ name: \"{name}\" type: \"Input\" top: \"{name}\" input_param {{ shape {{ {dims} }} }} }}\n"
    )
}

/// Values between −0.9 and 0.9, some of them equal; labels are whole numbers.
fn values(shape: &Shape, name: &str, turn: u64) -> Tensor {
    let next = |index: usize| {
        let hash = (index as u64 + 1000 * turn + name.len() as u64).wrapping_mul(2_654_435_761);
        let step = hash >> 9;
        match name {
            "label" => (step % 4) as f32,
            _ => (step % 181) as f32 / 100.0 - 0.9,
        }
    };
    Tensor::new(shape.clone(), (0..shape.count()).map(next).collect())
}

fn step(engine: &mut dyn Engine, id: NetId, turn: u64) {
    let graph = &engine.net(id).graph;
    let tensors: Vec<Tensor> = graph
        .inputs
        .iter()
        .map(|&id| values(graph.shape(id), &graph.value(id).name, turn))
        .collect();
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    engine.clear_gradients();
    engine.forward(id, &inputs, turn).unwrap();
    engine.backward(id);
    engine.check().unwrap();
}

/// Layers from x (and x2) to y, judged by the distance of y from t. `on_device`: the layers have kernels.
fn agree(inputs: &[(&str, &str)], t: &str, layers: &str, on_device: bool) {
    let all: String = inputs
        .iter()
        .map(|(name, dims)| input(name, dims))
        .collect();
    let text = format!(
        "force_backward: true\n{all}{}{layers}\nlayer {{ name: \"loss\" type: \"EuclideanLoss\" bottom: \"y\" bottom: \"t\" top: \"loss\" }}",
        input("t", t)
    );
    both(&text, usize::from(!on_device) + 1);
}

/// Runs a network on all devices and on the CPU; `on_host` of its layers have no kernel.
fn both(text: &str, on_host: usize) {
    for mut gpu in engines() {
        let mut cpu = CpuEngine::default();
        let id = cpu.add(net(text)).unwrap();
        assert_eq!(gpu.add(net(text)).unwrap(), id);
        assert_eq!(gpu.on_host(id), on_host, "{text}");
        for turn in 0..2 {
            step(&mut gpu, id, turn);
            step(&mut cpu, id, turn);
            compare(&mut gpu, &mut cpu, id);
            for &value in &cpu.net(id).graph.inputs.clone() {
                let gradients = [gpu.value_gradient(id, value), cpu.value_gradient(id, value)];
                assert_eq!(gradients[0].is_some(), gradients[1].is_some(), "{text}");
                if let [Some(a), Some(b)] = &gradients {
                    super::tests::close(&format!("gradient of an input\n{text}"), a, b);
                }
            }
        }
    }
}

fn one(x: &str, t: &str, layer: &str) {
    let layer = format!("layer {{ name: \"l\" bottom: \"x\" top: \"y\" {layer} }}");
    agree(&[("x", x)], t, &layer, true);
}

const XAVIER: &str =
    "weight_filler { type: \"xavier\" } bias_filler { type: \"uniform\" min: -0.5 max: 0.5 }";

#[test]
fn convolutions() {
    for (x, t, attributes) in [
        (
            "5x4x7x6",
            "5x6x4x2",
            "num_output: 6 kernel_size: 3 stride: 2 stride: 3 pad: 1 pad: 0 group: 2",
        ),
        (
            "2x3x5x5",
            "2x4x5x5",
            "num_output: 4 kernel_size: 3 pad: 2 dilation: 2",
        ),
        ("9x3x4x5", "9x2x4x5", "num_output: 2 kernel_size: 1"),
        (
            "2x2x9x8",
            "2x3x3x2",
            "num_output: 3 kernel_h: 5 kernel_w: 4 stride_h: 2 stride_w: 3 bias_term: false",
        ),
        (
            "3x6x4x4",
            "3x6x4x4",
            "num_output: 6 kernel_size: 3 pad: 1 group: 6",
        ),
    ] {
        one(
            x,
            t,
            &format!("type: \"Convolution\" convolution_param {{ {attributes} {XAVIER} }}"),
        );
    }
    for (x, t, attributes) in [
        (
            "3x4x3x4",
            "3x6x7x9",
            "num_output: 6 kernel_size: 3 stride: 2 group: 2",
        ),
        (
            "2x3x5x5",
            "2x2x5x5",
            "num_output: 2 kernel_size: 3 pad: 1 bias_term: false",
        ),
    ] {
        one(
            x,
            t,
            &format!("type: \"Deconvolution\" convolution_param {{ {attributes} {XAVIER} }}"),
        );
    }
}

#[test]
fn inner_products() {
    for (x, t, more) in [
        ("4x3x2x2", "4x5", ""),
        ("4x3x2x2", "4x5", "transpose: true bias_term: false"),
        ("4x3x7", "4x3x5", "axis: 2"),
    ] {
        let param = format!("num_output: 5 {more} {XAVIER}");
        one(
            x,
            t,
            &format!("type: \"InnerProduct\" inner_product_param {{ {param} }}"),
        );
    }
}

#[test]
fn poolings() {
    for (t, attributes) in [
        ("2x3x4x3", "pool: MAX kernel_size: 3 stride: 2"),
        ("2x3x5x4", "pool: MAX kernel_size: 3 stride: 2 pad: 1"),
        ("2x3x4x3", "pool: AVE kernel_size: 3 stride: 2"),
        ("2x3x5x5", "pool: AVE kernel_size: 3 stride: 2 pad: 2"),
        ("2x3x3x3", "pool: MAX kernel_size: 2 stride: 3"),
        ("2x3x1x1", "pool: AVE global_pooling: true"),
        ("2x3x1x1", "pool: MAX global_pooling: true"),
    ] {
        one(
            "2x3x8x7",
            t,
            &format!("type: \"Pooling\" pooling_param {{ {attributes} }}"),
        );
    }
}

#[test]
fn normalizations() {
    for attributes in [
        "local_size: 5 alpha: 0.8 beta: 0.75 k: 2",
        "local_size: 3 alpha: 0.5 beta: 0.6",
        "local_size: 3 alpha: 0.9 beta: 0.75 norm_region: WITHIN_CHANNEL",
    ] {
        one(
            "2x7x4x5",
            "2x7x4x5",
            &format!("type: \"LRN\" lrn_param {{ {attributes} }}"),
        );
    }
    // Rows of more than one piece.
    one("4x3x17x13", "4x3x17x13", "type: \"BatchNorm\"");
    one(
        "6x5",
        "6x5",
        "type: \"BatchNorm\" batch_norm_param { eps: 0.1 }",
    );
    one(
        "4x3x3x2",
        "4x3x3x2",
        "type: \"BatchNorm\" batch_norm_param { use_global_stats: true eps: 0.5 }",
    );
}

#[test]
fn factors_and_offsets() {
    let filler = "filler { type: \"uniform\" min: 0.5 max: 2 } bias_filler { type: \"uniform\" min: -1 max: 1 }";
    for layer in [
        format!("type: \"Scale\" scale_param {{ bias_term: true {filler} }}"),
        format!("type: \"Scale\" scale_param {{ axis: 0 num_axes: 2 {filler} }}"),
        "type: \"Bias\" bias_param { filler { type: \"uniform\" } }".to_owned(),
        "type: \"PReLU\" prelu_param { filler { type: \"uniform\" } }".to_owned(),
        "type: \"PReLU\" prelu_param { channel_shared: true }".to_owned(),
    ] {
        one("3x4x11x12", "3x4x11x12", &layer);
    }
    for (kind, axis, x2) in [
        ("Scale", 0, "3x4"),
        ("Bias", 0, "3x4"),
        ("Scale", 1, "4"),
        ("Bias", 1, "4x5"),
    ] {
        let param = format!("{}_param {{ axis: {axis} }}", kind.to_lowercase());
        let layer = format!(
            "layer {{ name: \"l\" type: \"{kind}\" bottom: \"x\" bottom: \"x2\" top: \"y\" {param} }}"
        );
        agree(&[("x", "3x4x5"), ("x2", x2)], "3x4x5", &layer, true);
    }
}

#[test]
fn elementwise_functions() {
    for (t, layer) in [
        ("4x6", "type: \"ReLU\" relu_param { negative_slope: 0.2 }"),
        ("4x6", "type: \"ReLU\""),
        ("4x6", "type: \"ELU\" elu_param { alpha: 0.7 }"),
        ("4x6", "type: \"Sigmoid\""),
        ("4x6", "type: \"TanH\""),
        ("4x6", "type: \"AbsVal\""),
        ("4x6", "type: \"BNLL\""),
        (
            "4x6",
            "type: \"Power\" power_param { power: 2 scale: 0.5 shift: 1.5 }",
        ),
        (
            "4x6",
            "type: \"Power\" power_param { power: 0 scale: 0.5 shift: 1.5 }",
        ),
        (
            "4x6",
            "type: \"Exp\" exp_param { base: 2 scale: 0.5 shift: 0.1 }",
        ),
        ("4x6", "type: \"Exp\" exp_param { scale: 0.5 }"),
        (
            "4x6",
            "type: \"Log\" log_param { base: 3 scale: 0.5 shift: 1.5 }",
        ),
        ("4x6", "type: \"Swish\" swish_param { beta: 1.5 }"),
        ("4x6", "type: \"Clip\" clip_param { min: -0.5 max: 0.6 }"),
        ("4x6", "type: \"Softmax\""),
        (
            "24",
            "type: \"Flatten\" flatten_param { axis: 0 end_axis: 1 }",
        ),
        (
            "8x3",
            "type: \"Reshape\" reshape_param { shape { dim: 8 dim: -1 } }",
        ),
    ] {
        one("4x6", t, layer);
    }
    one(
        "3x4x5x2",
        "3x4x5x2",
        "type: \"Softmax\" softmax_param { axis: 2 }",
    );
}

#[test]
fn gradients_stop_where_the_definition_says() {
    let product = |name: &str, bottom: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"{bottom}\" top: \"{name}\" inner_product_param {{ num_output: 6 weight_filler {{ type: \"xavier\" }} }} }}\n"
        )
    };
    for (said, below) in [("false", "true"), ("true", "false")] {
        let text = format!(
            "{}{}{}{}layer {{ name: \"y\" type: \"Eltwise\" bottom: \"a\" bottom: \"b\" top: \"y\" propagate_down: {said} propagate_down: {below} }}
             layer {{ name: \"loss\" type: \"EuclideanLoss\" bottom: \"y\" bottom: \"t\" top: \"loss\" }}",
            input("x", "4x6"),
            input("t", "4x6"),
            product("a", "x"),
            product("b", "x"),
        );
        both(&text, 1);
    }
}

#[test]
fn stochastic_poolings_draw_what_the_cpu_draws() {
    let layers = "layer { name: \"a\" type: \"AbsVal\" bottom: \"x\" top: \"a\" }
        layer { name: \"y\" type: \"Pooling\" bottom: \"a\" top: \"y\" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 } }";
    agree(&[("x", "3x4x8x7")], "3x4x4x3", layers, false);
}

/// More than one chunk of the generator, blocks that are not full, and two layers with numbers of their own.
#[test]
fn dropouts_drop_what_the_cpu_drops() {
    let layers = "layer { name: \"d\" type: \"Dropout\" bottom: \"x\" top: \"d\" dropout_param { dropout_ratio: 0.4 } }
        layer { name: \"e\" type: \"Dropout\" bottom: \"d\" top: \"y\" dropout_param { dropout_ratio: 0.7 } }";
    agree(&[("x", "3x7x29x61")], "3x7x29x61", layers, true);
}

#[test]
fn combinations() {
    for (attributes, operands) in [
        ("operation: SUM coeff: 0.5 coeff: -2", vec!["x", "x2"]),
        ("operation: PROD", vec!["x", "x2", "x2"]),
        ("operation: MAX", vec!["x", "x2"]),
        ("operation: MAX", vec!["x", "x2", "x"]),
        ("", vec!["x", "x", "x2", "x"]),
    ] {
        let bottoms: String = operands
            .iter()
            .map(|name| format!("bottom: \"{name}\" "))
            .collect();
        let layer = format!(
            "layer {{ name: \"l\" type: \"Eltwise\" {bottoms} top: \"y\" eltwise_param {{ {attributes} }} }}"
        );
        agree(&[("x", "3x4x5"), ("x2", "3x4x5")], "3x4x5", &layer, true);
    }
    let concat = "layer { name: \"l\" type: \"Concat\" bottom: \"x\" bottom: \"x2\" bottom: \"x\" top: \"y\" }";
    agree(&[("x", "3x4x5"), ("x2", "3x2x5")], "3x10x5", concat, true);
    let slice = "layer { name: \"s\" type: \"Slice\" bottom: \"x\" top: \"a\" top: \"b\" slice_param { slice_point: 2 } }
        layer { name: \"i\" type: \"InnerProduct\" bottom: \"b\" top: \"c\" inner_product_param { num_output: 4 weight_filler { type: \"xavier\" } } }
        layer { name: \"f\" type: \"Flatten\" bottom: \"a\" top: \"g\" }
        layer { name: \"l\" type: \"Concat\" bottom: \"c\" bottom: \"g\" top: \"y\" }";
    agree(&[("x", "3x5x2")], "3x8", slice, true);
}

/// Layers without kernels, on the host.
#[test]
fn winograd_convolutions_and_losses() {
    let layer = format!(
        "layer {{ name: \"l\" bottom: \"x\" top: \"y\" type: \"Winograd\" convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 group: 2 {XAVIER} }} }}"
    );
    agree(&[("x", "3x4x7x6")], "3x6x7x6", &layer, false);
    for (kind, x, label) in [
        ("SoftmaxWithLoss", "4x5x2x3", "4x1x2x3"),
        ("HingeLoss", "4x5", "4"),
        ("SigmoidCrossEntropyLoss", "4x5", "4x5"),
    ] {
        let text = format!(
            "force_backward: true\n{}{}layer {{ name: \"loss\" type: \"{kind}\" bottom: \"x\" bottom: \"label\" top: \"loss\" loss_weight: 2.5 }}",
            input("x", x),
            input("label", label)
        );
        both(&text, 1);
    }
}

/// Sixty steps of a LeNet on pictures of bars: both engines learn, and arrive at the same weights.
#[test]
fn a_lenet_trains_alike() {
    let layers = format!(
        "{}{}layer {{ name: \"c1\" type: \"Convolution\" bottom: \"data\" top: \"c1\" convolution_param {{ num_output: 5 kernel_size: 5 {XAVIER} }} }}
        layer {{ name: \"p1\" type: \"Pooling\" bottom: \"c1\" top: \"p1\" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
        layer {{ name: \"c2\" type: \"Convolution\" bottom: \"p1\" top: \"c2\" convolution_param {{ num_output: 8 kernel_size: 3 {XAVIER} }} }}
        layer {{ name: \"p2\" type: \"Pooling\" bottom: \"c2\" top: \"p2\" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
        layer {{ name: \"i1\" type: \"InnerProduct\" bottom: \"p2\" top: \"i1\" inner_product_param {{ num_output: 20 {XAVIER} }} }}
        layer {{ name: \"r1\" type: \"ReLU\" bottom: \"i1\" top: \"i1\" }}
        layer {{ name: \"d1\" type: \"Dropout\" bottom: \"i1\" top: \"i1\" dropout_param {{ dropout_ratio: 0.2 }} }}
        layer {{ name: \"i2\" type: \"InnerProduct\" bottom: \"i1\" top: \"i2\" inner_product_param {{ num_output: 2 {XAVIER} }} }}
        layer {{ name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"i2\" bottom: \"label\" top: \"loss\" }}",
        input("data", "16x1x20x20"),
        input("label", "16")
    );
    for mut gpu in engines() {
        let mut cpu = CpuEngine::default();
        let id = cpu.add(net(&layers)).unwrap();
        gpu.add(net(&layers)).unwrap();
        let losses = [train(&mut gpu, id), train(&mut cpu, id)];
        for (a, b) in losses[0].iter().zip(&losses[1]) {
            assert!((a - b).abs() < 2e-3 * b.max(0.1), "{losses:?}");
        }
        let last: f32 = losses[0][55..].iter().sum();
        let first: f32 = losses[0][..5].iter().sum();
        assert!(last < 0.7 * first, "{losses:?}");
        for param in 0..cpu.params().len() {
            let [mut a, mut b] = [Vec::new(), Vec::new()];
            gpu.read(param, &mut |_, state| a.clone_from(&state.data));
            cpu.read(param, &mut |_, state| b.clone_from(&state.data));
            let apart = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let distance: f64 = a.iter().zip(&b).map(apart).sum();
            let size: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
            assert!(distance.sqrt() < 1e-3 * size.sqrt(), "{distance} {size}");
        }
    }
}

/// Losses of the steps.
fn train(engine: &mut dyn Engine, id: NetId) -> Vec<f32> {
    let pixel = |image: usize, turn: u64, index: usize| {
        let (row, column) = (index / 20, index % 20);
        let place = (image / 2 * 3 + turn as usize * 5) % 20;
        let across = image.is_multiple_of(2);
        let bar = if across {
            row == place
        } else {
            column == place
        };
        f32::from(u8::from(bar)) + (index * 37 % 11) as f32 / 40.0
    };
    let one = |turn: u64| {
        let pixels = (0..16).flat_map(|image| (0..400).map(move |index| pixel(image, turn, index)));
        let data = Tensor::new(Shape::new([16, 1, 20, 20]).unwrap(), pixels.collect());
        let labels = (0..16).map(|image| (image % 2) as f32).collect();
        let label = Tensor::new(Shape::new([16]).unwrap(), labels);
        engine.clear_gradients();
        engine.forward(id, &[&data, &label], turn).unwrap();
        engine.backward(id);
        for param in 0..engine.params().len() {
            let update = Update {
                rule: Rule::Sgd { momentum: 0.9 },
                rate: 0.05,
                iteration: turn,
                scale: 1.0,
                decay: Decay::L2(5e-4),
                threshold: Threshold::None,
                factors: None,
            };
            engine.update(param, &update);
        }
        engine.check().unwrap();
        loss(engine, id)
    };
    (0..60).map(one).collect()
}
