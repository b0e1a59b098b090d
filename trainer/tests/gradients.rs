//! Gradients of every layer against differences of the loss.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use skimjit_caffe::{Definition, Phase};
use skimjit_models::{Tensor, ValueId};
use skimjit_trainer::engine::{Engine, NetId, loss};
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::net::Net;
use skimjit_trainer::param::Role;

fn net(text: &str, phase: Phase) -> Net {
    let definition = Definition::parse(text, "test.prototxt").unwrap();
    Net::new(&definition.in_phase(phase), &[], &[], 3)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Step of differences.
const STEP: f32 = 3e-3;

/// A network under test, with values of its inputs.
struct Case {
    engine: CpuEngine,
    id: NetId,
    inputs: Vec<Tensor>,
    turn: u64,
    text: String,
}

impl Case {
    /// `range` of the values; labels are whole numbers.
    fn new(text: &str, phase: Phase, range: [f32; 2], classes: u32) -> Self {
        let mut engine = CpuEngine::default();
        let id = engine
            .add(net(text, phase))
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut draw = |shape: &skimjit_models::Shape, label: bool| {
            let next = |_| {
                let unit = random.next_u32() as f32 / u32::MAX as f32;
                if label {
                    (unit * classes as f32).floor().min(classes as f32 - 1.0)
                } else {
                    // Not close to kinks and ties.
                    range[0] + (range[1] - range[0]) * unit
                }
            };
            let data = (0..shape.count()).map(next).collect();
            Tensor::new(shape.clone(), data)
        };
        let graph = &engine.net(id).graph;
        let inputs = graph.inputs.iter().map(|&input| {
            let value = graph.value(input);
            draw(&value.shape, value.name == "label")
        });
        let inputs = inputs.collect();
        let text = text.to_owned();
        Self {
            engine,
            id,
            inputs,
            turn: 5,
            text,
        }
    }
    fn loss(&mut self) -> f64 {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        self.engine.forward(self.id, &inputs, self.turn).unwrap();
        f64::from(loss(&self.engine, self.id))
    }
    /// Where the loss has a kink within the step, any slope between those of its sides will do.
    fn compare(&self, what: &str, found: f64, middle: f64, [above, below]: [f64; 2]) {
        let (left, right) = (
            (middle - below) / f64::from(STEP),
            (above - middle) / f64::from(STEP),
        );
        let scale = found.abs().max(left.abs()).max(right.abs()).max(1.0);
        let between = left.min(right) - 3e-3 * scale..left.max(right) + 3e-3 * scale;
        // The mean of both sides is exact for quadratic losses, however curved.
        let curved = (found - (left + right) / 2.0).abs() < 3e-3 * scale;
        assert!(
            curved || between.contains(&found) && (left - right).abs() < 0.5 * scale,
            "{what}: {found}, by differences {left} and {right}\n{}",
            self.text
        );
    }
    /// Compares gradients of some elements of all parameters and of inputs named x, x2.
    fn check(mut self) {
        let middle = self.loss();
        self.engine.backward(self.id);
        let inputs: Vec<(usize, ValueId)> = {
            let net = self.engine.net(self.id);
            let named = |id: &ValueId| net.graph.value(*id).name.starts_with('x');
            net.graph
                .inputs
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, id)| named(id))
                .collect()
        };
        let of_inputs: Vec<Vec<f32>> = inputs
            .iter()
            .map(|&(_, id)| self.engine.value_gradient(self.id, id).expect("a gradient"))
            .collect();
        let params = self.engine.params().len();
        let mut of_params = Vec::new();
        for param in 0..params {
            self.engine.edit(param, &mut |_, state| {
                of_params.push(state.gradient.clone())
            });
        }
        for (gradient, (input, _)) in of_inputs.iter().zip(&inputs) {
            for index in (0..gradient.len()).step_by(gradient.len().div_ceil(40)) {
                let at = |case: &mut Self, delta: f32| {
                    let data = case.inputs[*input].data_mut();
                    let old = data[index];
                    data[index] = old + delta;
                    let loss = case.loss();
                    case.inputs[*input].data_mut()[index] = old;
                    loss
                };
                let sides = [STEP, -STEP].map(|step| at(&mut self, step));
                self.compare(
                    &format!("input {input}[{index}]"),
                    gradient[index].into(),
                    middle,
                    sides,
                );
            }
        }
        for (param, gradient) in of_params.iter().enumerate() {
            if self.engine.params()[param].lr_mult == 0.0 {
                continue;
            }
            for index in (0..gradient.len()).step_by(gradient.len().div_ceil(40)) {
                let at = |case: &mut Self, delta: f32| {
                    case.engine
                        .edit(param, &mut |_, state| state.data[index] += delta);
                    let loss = case.loss();
                    case.engine
                        .edit(param, &mut |_, state| state.data[index] -= delta);
                    loss
                };
                let sides = [STEP, -STEP].map(|step| at(&mut self, step));
                let name = self.engine.params()[param].name();
                self.compare(
                    &format!("{name}[{index}]"),
                    gradient[index].into(),
                    middle,
                    sides,
                );
            }
        }
    }
}

fn input(name: &str, dims: &str) -> String {
    let dims: String = dims.split('x').map(|dim| format!("dim: {dim} ")).collect();
    format!(
        "layer {{ name: \"{name}\" type: \"Input\" top: \"{name}\" input_param {{ shape {{ {dims} }} }} }}\n"
    )
}

/// Layers from x (and x2) to y, judged by their distance from t.
fn judged(inputs: &[(&str, &str)], t: &str, layers: &str) -> String {
    let inputs: String = inputs
        .iter()
        .map(|(name, dims)| input(name, dims))
        .collect();
    let t = input("t", t);
    format!(
        "force_backward: true\n{inputs}{t}{layers}\n\
         layer {{ name: \"loss\" type: \"EuclideanLoss\" bottom: \"y\" bottom: \"t\" top: \"loss\" }}"
    )
}

const XAVIER: &str =
    "weight_filler { type: \"xavier\" } bias_filler { type: \"uniform\" min: -0.5 max: 0.5 }";

fn one(x: &str, t: &str, layer: &str) -> Case {
    let layers = format!("layer {{ name: \"l\" bottom: \"x\" top: \"y\" {layer} }}");
    Case::new(
        &judged(&[("x", x)], t, &layers),
        Phase::Train,
        [-1.0, 1.0],
        0,
    )
}

/// Checklist 10.
#[test]
fn convolutions() {
    for (x, t, attributes) in [
        (
            "5x4x7x6",
            "5x6x3x3",
            "num_output: 6 kernel_size: 3 stride: 2 pad: 1 pad: 0 group: 2",
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
            "1x2x4x4",
            "1x2x4x4",
            "num_output: 2 kernel_size: 3 pad: 1 group: 2",
        ),
    ] {
        let layer = format!("type: \"Convolution\" convolution_param {{ {attributes} {XAVIER} }}");
        if attributes.contains("pad: 1 pad: 0") {
            one(x, "5x6x4x2", &layer).check();
        } else {
            one(x, t, &layer).check();
        }
    }
}

#[test]
fn deconvolutions() {
    for (x, t, attributes) in [
        (
            "3x4x3x4",
            "3x6x7x9",
            "num_output: 6 kernel_size: 3 stride: 2 group: 2",
        ),
        ("2x3x5x5", "2x2x5x5", "num_output: 2 kernel_size: 3 pad: 1"),
    ] {
        let layer =
            format!("type: \"Deconvolution\" convolution_param {{ {attributes} {XAVIER} }}");
        one(x, t, &layer).check();
    }
}

#[test]
fn inner_products() {
    let layer = |more: &str| {
        format!("type: \"InnerProduct\" inner_product_param {{ num_output: 5 {more} {XAVIER} }}")
    };
    one("4x3x2x2", "4x5", &layer("")).check();
    one("4x3x2x2", "4x5", &layer("transpose: true bias_term: false")).check();
    one("4x3x7", "4x3x5", &layer("axis: 2")).check();
}

#[test]
fn poolings() {
    for (t, attributes) in [
        ("2x3x4x3", "pool: MAX kernel_size: 3 stride: 2"),
        ("2x3x5x4", "pool: MAX kernel_size: 3 stride: 2 pad: 1"),
        ("2x3x4x3", "pool: AVE kernel_size: 3 stride: 2"),
        ("2x3x5x5", "pool: AVE kernel_size: 3 stride: 2 pad: 2"),
        ("2x3x1x1", "pool: AVE global_pooling: true"),
        ("2x3x1x1", "pool: MAX global_pooling: true"),
    ] {
        one(
            "2x3x8x7",
            t,
            &format!("type: \"Pooling\" pooling_param {{ {attributes} }}"),
        )
        .check();
    }
}

/// Inner products of 5, `a` of x and `y` of a, with something between them and attributes of `y`.
fn chain(between: &str, y: &str) -> String {
    let product = |name: &str, bottom: &str, more: &str| {
        format!(
            "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"{bottom}\" top: \"{name}\" {more} inner_product_param {{ num_output: 5 {XAVIER} }} }}\n"
        )
    };
    let judge = "layer { name: \"loss\" type: \"EuclideanLoss\" bottom: \"y\" bottom: \"t\" top: \"loss\" }";
    let inputs = input("x", "4x6") + &input("t", "4x5");
    inputs + &product("a", "x", "") + between + &product("y", "a", y) + judge
}

/// Sums of magnitudes of the gradients of all parameters, by name.
fn magnitudes(case: &mut Case) -> Vec<(String, f32)> {
    case.loss();
    case.engine.backward(case.id);
    let mut all = Vec::new();
    for param in 0..case.engine.params().len() {
        case.engine.edit(param, &mut |param, state| {
            let sum = state.gradient.iter().map(|g| g.abs()).sum();
            all.push((param.name(), sum));
        });
    }
    all
}

/// The layers whose parameters have gradients.
fn learning(text: &str) -> Vec<String> {
    let mut case = Case::new(text, Phase::Train, [-1.0, 1.0], 0);
    let all = magnitudes(&mut case).into_iter();
    let learning = all.filter(|(_, sum)| *sum > 0.0);
    let mut names: Vec<String> = learning
        .map(|(name, _)| name.replace(['[', ']', '0', '1'], ""))
        .collect();
    names.dedup();
    names
}

#[test]
fn gradients_stop_where_the_definition_says() {
    let relu = |said: &str| {
        format!(
            "layer {{ name: \"r\" type: \"ReLU\" bottom: \"a\" top: \"a\" relu_param {{ negative_slope: 0.1 }} {said} }}\n"
        )
    };
    for (text, expected) in [
        (chain("", ""), vec!["a", "y"]),
        (chain("", "propagate_down: true"), vec!["a", "y"]),
        (chain("", "propagate_down: false"), vec!["y"]),
        (chain(&relu("propagate_down: false"), ""), vec!["y"]),
        (chain(&relu("propagate_down: true"), ""), vec!["a", "y"]),
        (
            chain("", "").replace(
                "bottom: \"t\" top: \"loss\"",
                "bottom: \"t\" top: \"loss\" propagate_down: false propagate_down: false",
            ),
            vec![],
        ),
        // force_backward goes first, as in Caffe.
        (
            format!(
                "force_backward: true\n{}",
                chain("", "propagate_down: false")
            ),
            vec!["a", "y"],
        ),
    ] {
        assert_eq!(learning(&text), expected, "{text}");
        if expected.len() == 2 {
            let forced = format!(
                "force_backward: true\n{}",
                text.replace("force_backward: true\n", "")
            );
            Case::new(&forced, Phase::Train, [-1.0, 1.0], 0).check();
        }
    }
}

/// One of two ways is closed: what is left is the gradient of the other one, which is that of the sum
/// where the other operand is a constant.
#[test]
fn one_of_two_ways_may_be_closed() {
    let layers = |said: &str| {
        let ways = ["a", "b"].map(|name| {
            format!(
                "layer {{ name: \"{name}\" type: \"InnerProduct\" bottom: \"x\" top: \"{name}\" inner_product_param {{ num_output: 5 {XAVIER} }} }}\n"
            )
        });
        ways.concat()
            + &format!(
                "layer {{ name: \"y\" type: \"Eltwise\" bottom: \"a\" bottom: \"b\" top: \"y\" {said} }}"
            )
    };
    let of = |said: &str| {
        let text = judged(&[("x", "4x6")], "4x5", &layers(said));
        let text = text.replace("force_backward: true\n", "");
        let mut case = Case::new(&text, Phase::Train, [-1.0, 1.0], 0);
        magnitudes(&mut case)
    };
    let open = of("");
    let closed = of("propagate_down: true propagate_down: false");
    for ((name, open), (_, closed)) in open.iter().zip(&closed) {
        let expected = if name.starts_with('a') { *open } else { 0.0 };
        assert_eq!(*closed, expected, "{name}");
    }
}

/// A gradient that is asked for is there, though nothing below learns.
#[test]
fn gradients_of_data_can_be_asked_for() {
    let text = chain("", "");
    let asked = text.replace(
        "bottom: \"x\" top: \"a\"",
        "bottom: \"x\" top: \"a\" propagate_down: true",
    );
    for (text, there) in [(&text, false), (&asked, true)] {
        let mut case = Case::new(text, Phase::Train, [-1.0, 1.0], 0);
        case.loss();
        case.engine.backward(case.id);
        let x = case.engine.net(case.id).input("x").unwrap();
        assert_eq!(case.engine.value_gradient(case.id, x).is_some(), there);
    }
    Case::new(&asked, Phase::Train, [-1.0, 1.0], 0).check();
}

/// What cannot be obeyed is refused when the network is built.
fn refusal(text: &str) -> String {
    let definition = Definition::parse(text, "test.prototxt").unwrap();
    let built = Net::new(&definition.in_phase(Phase::Train), &[], &[], 3);
    let built = built.and_then(|net| CpuEngine::default().add(net));
    built.expect_err(text).to_string()
}

#[test]
fn gradients_that_there_are_not_are_refused() {
    let labels = input("x", "4x6")
        + &input("label", "4")
        + &format!(
            "layer {{ name: \"i\" type: \"InnerProduct\" bottom: \"x\" top: \"i\" inner_product_param {{ num_output: 5 {XAVIER} }} }}\n"
        )
        + "layer { name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"i\" bottom: \"label\" top: \"loss\" propagate_down: true propagate_down: true }";
    let threshold = "layer { name: \"r\" type: \"Threshold\" bottom: \"a\" top: \"r\" }\n";
    let through =
        chain(threshold, "").replace("bottom: \"a\" top: \"y\"", "bottom: \"r\" top: \"y\"");
    let parameter = chain("", "").replace(
        "layer { name: \"loss\"",
        "layer { name: \"p\" type: \"Parameter\" top: \"p\" parameter_param { shape { dim: 4 } } }\nlayer { name: \"loss\"",
    );
    for (text, words) in [
        (labels, ["loss", "propagate_down[1]", "label"]),
        (
            chain("", "propagate_down: true propagate_down: false"),
            ["\"y\"", "propagate_down", "one per bottom"],
        ),
        (through.clone(), ["\"r\"", "Threshold", "trained through"]),
        (parameter, ["\"p\"", "Parameter", "lr_mult"]),
    ] {
        let said = refusal(&text);
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    // Nothing has to go through it where it is closed.
    let closed = through.replace("top: \"r\"", "top: \"r\" propagate_down: false");
    assert_eq!(learning(&closed), ["y"]);
}

/// As Caffe's: one element of each window, with a chance in proportion to its value, and the gradient goes
/// where it came from.
#[test]
fn stochastic_poolings_draw_in_training() {
    let text = judged(
        &[("x", "40x2x4x4")],
        "40x2x2x2",
        "layer { name: \"y\" type: \"Pooling\" bottom: \"x\" top: \"y\" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 } }",
    );
    let mut case = Case::new(&text, Phase::Train, [0.0, 1.0], 0);
    // Each window: 0.1, 0.2, 0.3, 0.4.
    let data = case.inputs[0].data_mut();
    for (index, x) in data.iter_mut().enumerate() {
        let (row, column) = (index / 4 % 4, index % 4);
        *x = 0.1 * (1 + 2 * (row % 2) + column % 2) as f32;
    }
    let y = case.engine.net(case.id).graph.nodes[0].output;
    let x = case.engine.net(case.id).input("x").unwrap();
    let mut counts = [0usize; 4];
    let mut first = Vec::new();
    for turn in 0..50 {
        case.turn = turn;
        case.loss();
        case.engine.backward(case.id);
        let drawn = case.engine.value(case.id, y);
        for value in &drawn {
            counts[(value * 10.0).round() as usize - 1] += 1;
        }
        let gradient = case.engine.value_gradient(case.id, x).unwrap();
        let reached = gradient.iter().filter(|g| **g != 0.0).count();
        assert!(reached <= drawn.len());
        if turn == 0 {
            first = drawn;
        } else {
            assert_ne!(first, drawn);
        }
    }
    let all = counts.iter().sum::<usize>() as f64;
    for (index, count) in counts.iter().enumerate() {
        let share = *count as f64 / all;
        assert!(
            (share - 0.1 * (index + 1) as f64).abs() < 0.01,
            "{counts:?}"
        );
    }
    // The same turn draws the same, and differences of the loss agree.
    case.turn = 0;
    case.loss();
    assert_eq!(case.engine.value(case.id, y), first);
    Case::new(&text, Phase::Test, [0.1, 1.0], 0).check();
    Case::new(&text, Phase::Train, [0.1, 1.0], 0).loss();
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
        )
        .check();
    }
    one("4x3x3x2", "4x3x3x2", "type: \"BatchNorm\"").check();
    one(
        "6x5",
        "6x5",
        "type: \"BatchNorm\" batch_norm_param { eps: 0.1 }",
    )
    .check();
    let global = judged(
        &[("x", "4x3x3x2")],
        "4x3x3x2",
        "layer { name: \"l\" type: \"BatchNorm\" bottom: \"x\" top: \"y\" batch_norm_param { use_global_stats: true eps: 0.5 } }",
    );
    Case::new(&global, Phase::Train, [-1.0, 1.0], 0).check();
}

#[test]
fn factors_and_offsets() {
    let filler = "filler { type: \"uniform\" min: 0.5 max: 2 } bias_filler { type: \"uniform\" min: -1 max: 1 }";
    one(
        "3x4x2x3",
        "3x4x2x3",
        &format!("type: \"Scale\" scale_param {{ bias_term: true {filler} }}"),
    )
    .check();
    one(
        "3x4x2x3",
        "3x4x2x3",
        &format!("type: \"Scale\" scale_param {{ axis: 0 num_axes: 2 {filler} }}"),
    )
    .check();
    one(
        "3x4x2x3",
        "3x4x2x3",
        "type: \"Bias\" bias_param { filler { type: \"uniform\" } }",
    )
    .check();
    one(
        "3x4x2x3",
        "3x4x2x3",
        "type: \"PReLU\" prelu_param { filler { type: \"uniform\" } }",
    )
    .check();
    one(
        "3x4x2x3",
        "3x4x2x3",
        "type: \"PReLU\" prelu_param { channel_shared: true }",
    )
    .check();
    for kind in ["Scale", "Bias"] {
        let layer = format!(
            "layer {{ name: \"l\" type: \"{kind}\" bottom: \"x\" bottom: \"x2\" top: \"y\" {}_param {{ axis: 0 }} }}",
            kind.to_lowercase()
        );
        let text = judged(&[("x", "3x4x5"), ("x2", "3x4")], "3x4x5", &layer);
        Case::new(&text, Phase::Train, [-1.0, 1.0], 0).check();
    }
}

#[test]
fn elementwise_functions() {
    for layer in [
        "type: \"ReLU\" relu_param { negative_slope: 0.2 }",
        "type: \"ReLU\"",
        "type: \"ELU\" elu_param { alpha: 0.7 }",
        "type: \"Sigmoid\"",
        "type: \"TanH\"",
        "type: \"AbsVal\"",
        "type: \"BNLL\"",
        "type: \"Power\" power_param { power: 2 scale: 0.5 shift: 1.5 }",
        "type: \"Exp\" exp_param { base: 2 scale: 0.5 shift: 0.1 }",
        "type: \"Log\" log_param { base: 3 scale: 0.5 shift: 1.5 }",
        "type: \"Swish\" swish_param { beta: 1.5 }",
        "type: \"Clip\" clip_param { min: -0.5 max: 0.6 }",
        "type: \"Dropout\" dropout_param { dropout_ratio: 0.4 }",
        "type: \"Softmax\"",
        "type: \"Flatten\" flatten_param { axis: 0 end_axis: 1 }",
        "type: \"Reshape\" reshape_param { shape { dim: 8 dim: -1 } }",
    ] {
        let t = match layer {
            layer if layer.contains("Flatten") => "24",
            layer if layer.contains("Reshape") => "8x3",
            _ => "4x6",
        };
        one("4x6", t, layer).check();
    }
}

#[test]
fn combinations() {
    for attributes in [
        "operation: SUM coeff: 0.5 coeff: -2",
        "operation: PROD",
        "operation: MAX",
        "",
    ] {
        let layer = format!(
            "layer {{ name: \"l\" type: \"Eltwise\" bottom: \"x\" bottom: \"x2\" top: \"y\" eltwise_param {{ {attributes} }} }}"
        );
        let text = judged(&[("x", "3x4x5"), ("x2", "3x4x5")], "3x4x5", &layer);
        Case::new(&text, Phase::Train, [-1.0, 1.0], 0).check();
    }
    let concat = "layer { name: \"l\" type: \"Concat\" bottom: \"x\" bottom: \"x2\" bottom: \"x\" top: \"y\" }";
    Case::new(
        &judged(&[("x", "3x4x5"), ("x2", "3x2x5")], "3x10x5", concat),
        Phase::Train,
        [-1.0, 1.0],
        0,
    )
    .check();
    let slice = "layer { name: \"s\" type: \"Slice\" bottom: \"x\" top: \"a\" top: \"b\" slice_param { slice_point: 2 } }
        layer { name: \"i\" type: \"InnerProduct\" bottom: \"b\" top: \"c\" inner_product_param { num_output: 4 weight_filler { type: \"xavier\" } } }
        layer { name: \"f\" type: \"Flatten\" bottom: \"a\" top: \"g\" }
        layer { name: \"l\" type: \"Concat\" bottom: \"c\" bottom: \"g\" top: \"y\" }";
    Case::new(
        &judged(&[("x", "3x5x2")], "3x8", slice),
        Phase::Train,
        [-1.0, 1.0],
        0,
    )
    .check();
}

/// In place after a convolution, used twice, and with weights of the losses.
#[test]
fn whole_networks() {
    let text = format!(
        "force_backward: true\n{}{}
        layer {{ name: \"c\" type: \"Convolution\" bottom: \"x\" top: \"c\" convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 {XAVIER} }} }}
        layer {{ name: \"r\" type: \"ReLU\" bottom: \"c\" top: \"c\" relu_param {{ negative_slope: 0.3 }} }}
        layer {{ name: \"d\" type: \"Dropout\" bottom: \"c\" top: \"c\" dropout_param {{ dropout_ratio: 0.3 }} }}
        layer {{ name: \"n\" type: \"BatchNorm\" bottom: \"c\" top: \"c\" }}
        layer {{ name: \"s\" type: \"Scale\" bottom: \"c\" top: \"c\" scale_param {{ bias_term: true }} }}
        layer {{ name: \"c2\" type: \"Convolution\" bottom: \"c\" top: \"c2\" convolution_param {{ num_output: 6 kernel_size: 1 {XAVIER} }} }}
        layer {{ name: \"e\" type: \"Eltwise\" bottom: \"c2\" bottom: \"c\" top: \"e\" }}
        layer {{ name: \"r2\" type: \"Sigmoid\" bottom: \"e\" top: \"e\" }}
        layer {{ name: \"i\" type: \"InnerProduct\" bottom: \"e\" top: \"i\" inner_product_param {{ num_output: 4 {XAVIER} }} }}
        layer {{ name: \"i2\" type: \"InnerProduct\" bottom: \"c\" top: \"i2\" inner_product_param {{ num_output: 4 {XAVIER} }} }}
        layer {{ name: \"loss\" type: \"SoftmaxWithLoss\" bottom: \"i\" bottom: \"label\" top: \"loss\" }}
        layer {{ name: \"loss2\" type: \"SoftmaxWithLoss\" bottom: \"i2\" bottom: \"label\" top: \"loss2\" loss_weight: 0.3 }}
        layer {{ name: \"a\" type: \"Accuracy\" bottom: \"i\" bottom: \"label\" top: \"a\" }}",
        input("x", "5x3x4x4"),
        input("label", "5")
    );
    Case::new(&text, Phase::Train, [-1.0, 1.0], 4).check();
}

#[test]
fn losses() {
    let labelled = |kind: &str, scores: &str, labels: &str, more: &str| {
        format!(
            "force_backward: true\n{}{}layer {{ name: \"loss\" type: \"{kind}\" bottom: \"x\" bottom: \"label\" top: \"loss\" {more} }}",
            input("x", scores),
            input("label", labels)
        )
    };
    for more in [
        "",
        "loss_weight: 2.5",
        "loss_param { ignore_label: 2 }",
        "loss_param { normalization: FULL }",
        "loss_param { normalization: BATCH_SIZE ignore_label: 1 }",
        "loss_param { normalization: NONE }",
    ] {
        let text = labelled("SoftmaxWithLoss", "4x5x2x3", "4x1x2x3", more);
        Case::new(&text, Phase::Train, [-1.0, 1.0], 5).check();
    }
    let hinge = labelled("HingeLoss", "4x5", "4", "hinge_loss_param { norm: L2 }");
    Case::new(&hinge, Phase::Train, [-1.0, 1.0], 5).check();
    Case::new(
        &labelled("HingeLoss", "4x5", "4", ""),
        Phase::Train,
        [-0.9, 0.9],
        5,
    )
    .check();
    Case::new(
        &labelled("MultinomialLogisticLoss", "4x5", "4", ""),
        Phase::Train,
        [0.2, 0.9],
        5,
    )
    .check();
    let pair = |kind: &str, more: &str| {
        format!(
            "force_backward: true\n{}{}layer {{ name: \"loss\" type: \"{kind}\" bottom: \"x\" bottom: \"t\" top: \"loss\" {more} }}",
            input("x", "4x5"),
            input("t", "4x5")
        )
    };
    Case::new(
        &pair("SigmoidCrossEntropyLoss", ""),
        Phase::Train,
        [0.0, 1.0],
        0,
    )
    .check();
    Case::new(
        &pair(
            "SigmoidCrossEntropyLoss",
            "loss_param { normalization: VALID }",
        ),
        Phase::Train,
        [0.0, 1.0],
        0,
    )
    .check();
    let two = format!(
        "force_backward: true\n{}{}layer {{ name: \"loss\" type: \"EuclideanLoss\" bottom: \"x\" bottom: \"x2\" top: \"loss\" }}",
        input("x", "4x5"),
        input("x2", "4x5")
    );
    Case::new(&two, Phase::Train, [-1.0, 1.0], 0).check();
    for more in [
        "",
        "contrastive_loss_param { margin: 3 }",
        "contrastive_loss_param { margin: 3 legacy_version: true }",
    ] {
        let text = format!(
            "force_backward: true\n{}{}{}layer {{ name: \"loss\" type: \"ContrastiveLoss\" bottom: \"x\" bottom: \"x2\" bottom: \"label\" top: \"loss\" {more} }}",
            input("x", "6x3"),
            input("x2", "6x3"),
            input("label", "6")
        );
        Case::new(&text, Phase::Train, [-1.0, 1.0], 2).check();
    }
}

#[test]
fn winograd_convolutions() {
    for (x, t, attributes) in [
        (
            "3x4x7x6",
            "3x6x7x6",
            "num_output: 6 kernel_size: 3 pad: 1 group: 2",
        ),
        ("9x2x5x9", "9x3x3x7", "num_output: 3 kernel_size: 3"),
        (
            "2x3x6x5",
            "2x4x8x5",
            "num_output: 4 kernel_size: 3 pad: 2 pad: 1 bias_term: false",
        ),
        (
            "2x2x9x10",
            "2x2x9x10",
            "num_output: 2 kernel_size: 5 pad: 2",
        ),
        (
            "1x4x7x6",
            "1x2x3x2",
            "num_output: 2 kernel_size: 5 group: 2",
        ),
    ] {
        let layer = format!("type: \"Winograd\" convolution_param {{ {attributes} {XAVIER} }}");
        one(x, t, &layer).check();
    }
}

/// The layer against the reference, and against the spatial convolution that its weights are made of.
#[test]
fn winograd_forward() {
    let layer = |kind: &str, shape: [u32; 2]| {
        let layer = format!(
            "layer {{ name: \"l\" bottom: \"x\" top: \"y\" type: \"{kind}\" convolution_param {{ num_output: 20 kernel_size: {} pad: {} group: 2 {XAVIER} }} }}",
            shape[0], shape[1]
        );
        let text = format!("{}{layer}", input("x", "13x6x21x18"));
        let mut case = Case::new(&text, Phase::Train, [-1.0, 1.0], 0);
        let inputs: Vec<&Tensor> = case.inputs.iter().collect();
        case.engine.forward(case.id, &inputs, 0).unwrap();
        case
    };
    for shape in [[3, 1], [5, 2]] {
        let spatial = layer("Convolution", shape);
        let mut case = layer("Winograd", shape);
        let mut graph = case.engine.net(case.id).graph.clone();
        let output = graph.nodes[0].output;
        let values = case.engine.value(case.id, output);
        assert_eq!(case.engine.params()[0].role, Role::Winograd);
        for param in 0..2 {
            let id = graph.nodes[0].op.weights()[param];
            case.engine.edit(param, &mut |param, state| {
                let tensor = Tensor::new(param.shape.clone(), state.data.clone());
                graph.weights[id.0 as usize] = tensor.into();
            });
        }
        let shape = graph.shape(output).clone();
        let mut expected = vec![0.0; shape.count()];
        let node = &graph.nodes[0];
        node.op.evaluate(
            &[case.inputs[0].view()],
            &graph.weights,
            &shape,
            &mut expected,
        );
        let convolution = spatial.engine.value(spatial.id, output);
        for (found, (reference, convolution)) in
            values.iter().zip(expected.iter().zip(&convolution))
        {
            assert!((found - reference).abs() < 2e-4, "{found} {reference}");
            assert!((found - convolution).abs() < 2e-4, "{found} {convolution}");
        }
    }
}
