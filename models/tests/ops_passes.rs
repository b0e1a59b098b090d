//! Passes keep what random small graphs compute, and find what real nets contain.

mod ops_cases;

use ops_cases::Random;
use proptest::prelude::*;
use skimjit_models::ops::*;
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId, interpreter, passes};

/// Adds a node with the weights of a case, whose operand shapes the caller vouches for.
fn add(graph: &mut Graph, mut op: Op, weights: &[Tensor], inputs: &[ValueId], name: &str) {
    for id in op.weights_mut() {
        *id = graph.add_weight(weights[id.0 as usize].clone());
    }
    graph.add_node(name, op, inputs.to_vec(), name).unwrap();
}

/// A chain of convolutions and what is fused behind them, with branches, copies, shared weights
/// and random outputs.
fn graph(random: &mut Random) -> Graph {
    let mut graph = Graph::default();
    let (n, c, size) = (random.range(1, 2), random.range(1, 4), random.range(4, 7));
    let data = graph.add_value("data", Shape::new([n, c, size, size]).unwrap());
    graph.inputs = vec![data];
    for layer in 0..random.range(3, 14) {
        let newest = ValueId(graph.values.len() as u32 - 1);
        let any = ValueId(random.range(0, newest.0));
        let mut input = if random.range(0, 3) > 0 { newest } else { any };
        if graph.shape(input).rank() != 4 {
            input = data;
        }
        add_layer(&mut graph, random, input, &format!("layer{layer}"));
    }
    let last = ValueId(graph.values.len() as u32 - 1);
    graph.outputs = (1..=last.0)
        .map(ValueId)
        .filter(|_| random.range(0, 5) == 0)
        .collect();
    if !graph.outputs.contains(&last) {
        graph.outputs.push(last);
    }
    graph
}

fn add_layer(graph: &mut Graph, random: &mut Random, input: ValueId, name: &str) {
    let shape = graph.shape(input).clone();
    let c = shape.dim(1);
    match random.range(0, 9) {
        0 | 1 => add_convolution(graph, random, input, name),
        2 => {
            let (outputs, axis) = (random.range(1, 4), random.range(1, 2));
            let summed = shape.count_of(axis as usize, 4) as u32;
            let transpose = random.flag();
            let dims = if transpose {
                [summed, outputs]
            } else {
                [outputs, summed]
            };
            let weights = [random.sparse_tensor(&dims), random.tensor(&[outputs])];
            let bias = random.flag().then_some(skimjit_models::WeightId(1));
            let (post, weight) = (PostOps::default(), skimjit_models::WeightId(0));
            let op = InnerProduct {
                outputs,
                axis,
                transpose,
                weights: weight,
                bias,
                post,
            };
            add(graph, Op::InnerProduct(op), &weights, &[input], name);
            let flat = graph.find(name).unwrap();
            add_affine(graph, random, flat, &format!("{name}/affine"));
        }
        3 => {
            let window = Window::square(random.range(1, 2), 1, 0);
            if shape.dim(2) < 3 {
                return add(graph, Op::Identity, &[], &[input], name);
            }
            let method = random.pick(&[PoolMethod::Max, PoolMethod::Max, PoolMethod::Average]);
            let op = Pooling {
                method,
                window,
                global: false,
                made_for: None,
                rounding: Rounding::Up,
                relu: false,
                mask: false,
            };
            add(graph, Op::Pooling(op), &[], &[input], name);
        }
        4 => {
            let op = EltwiseOp::Sum {
                coefficients: vec![1.0, random.value()],
            };
            let op = Eltwise {
                op,
                post: PostOps::default(),
            };
            let same = (0..graph.values.len() as u32)
                .map(ValueId)
                .find(|&id| *graph.shape(id) == shape);
            add(
                graph,
                Op::Eltwise(op),
                &[],
                &[input, same.unwrap_or(input)],
                name,
            );
        }
        5 => {
            let slope = random.pick(&[0.0, 0.0, 0.25]);
            add(
                graph,
                Op::Activation(Activation::ReLU { slope }),
                &[],
                &[input],
                name,
            );
        }
        6 => add(graph, Op::Identity, &[], &[input], name),
        _ if c > 0 => add_affine(graph, random, input, name),
        _ => {}
    }
}

fn add_convolution(graph: &mut Graph, random: &mut Random, input: ValueId, name: &str) {
    let ic = graph.shape(input).dim(1);
    let shared = graph.nodes.iter().rev().find_map(|node| match &node.op {
        Op::Convolution(op) if graph.shape(node.inputs[0]).dim(1) == ic => Some(op.clone()),
        _ => None,
    });
    let shared = shared.filter(|_| random.flag());
    if shared.is_some_and(|op| {
        graph
            .add_node(name, Op::Convolution(op), vec![input], name)
            .is_ok()
    }) {
        return;
    }
    let groups = if ic.is_multiple_of(2) {
        random.pick(&[1, 2])
    } else {
        1
    };
    let oc = groups * random.range(1, 3);
    let transposed = random.range(0, 3) == 0;
    // What reads one pixel of four lets others leave the rest out.
    let thin = !transposed && random.range(0, 2) == 0;
    let kernel = if thin { 1 } else { 3 };
    let dims = if transposed {
        [ic, oc / groups, kernel, kernel]
    } else {
        [oc, ic / groups, kernel, kernel]
    };
    let weights = [random.sparse_tensor(&dims), random.tensor(&[oc])];
    let op = Convolution {
        window: match thin {
            true => Window::square(1, 2, 0),
            false => Window::square(3, 1, 1),
        },
        oc,
        groups,
        weights: skimjit_models::WeightId(0),
        bias: random.flag().then_some(skimjit_models::WeightId(1)),
        post: PostOps::default(),
    };
    let op = if transposed {
        Op::Deconvolution(op)
    } else {
        Op::Convolution(op)
    };
    add(graph, op, &weights, &[input], name);
}

fn add_affine(graph: &mut Graph, random: &mut Random, input: ValueId, name: &str) {
    let dims = graph.shape(input).dims().to_vec();
    if random.flag() {
        let case = ops_cases::batch_norm(random, &dims);
        let weights = case.weights.iter();
        let weights: Vec<Tensor> = weights.map(|w| w.to_tensor()).collect();
        return add(graph, case.op, &weights, &[input], name);
    }
    let weights = [random.tensor(&dims[1..2]), random.tensor(&dims[1..2])];
    let mut weight = |id| random.flag().then_some(skimjit_models::WeightId(id));
    let op = Scale {
        axis: 1,
        scale: weight(0),
        bias: weight(1),
        add_operand: false,
    };
    add(graph, Op::Scale(op), &weights, &[input], name);
}

/// Compares within the rounding of the folded weights, relative to the largest value: folding
/// reorders sums of numbers of that size.
fn check(before: &Graph, after: &Graph, random: &mut Random) -> Result<(), TestCaseError> {
    after.check().unwrap();
    let inputs: Vec<Tensor> = before
        .inputs
        .iter()
        .map(|&id| random.tensor(before.shape(id).dims()))
        .collect();
    let largest = |tensors: &[Tensor]| {
        tensors
            .iter()
            .flat_map(Tensor::data)
            .fold(1.0f32, |largest, x| largest.max(x.abs()))
    };
    let all = interpreter::run(before, &inputs).unwrap();
    let expected = interpreter::run_outputs(before, &inputs).unwrap();
    let found = interpreter::run_outputs(after, &inputs).unwrap();
    let tolerance = 1e-5 * largest(&all);
    let names = |graph: &Graph| -> Vec<String> {
        graph
            .outputs
            .iter()
            .map(|&id| graph.value(id).name.clone())
            .collect()
    };
    prop_assert_eq!(names(before), names(after));
    for (expected, found) in expected.iter().zip(&found) {
        prop_assert_eq!(expected.shape(), found.shape());
        for (a, b) in expected.data().iter().zip(found.data()) {
            prop_assert!(
                (a - b).abs() <= tolerance || a.to_bits() == b.to_bits(),
                "{} {}",
                a,
                b
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn passes_keep_outputs(seed: u64) {
        let mut random = Random::new(seed);
        let before = graph(&mut random);
        for pass in [
            passes::dead,
            passes::drop_identity,
            passes::fold_batch_norm,
            passes::fold_constants,
            passes::fuse_activations,
            passes::raise_strides,
            passes::split_deconvolution,
        ] {
            check(&before, &pass(before.clone()), &mut random)?;
        }
        let after = passes::optimize(before.clone()).unwrap();
        check(&before, &after, &mut random)?;
        let again = passes::optimize(after.clone()).unwrap();
        prop_assert_eq!(&after.nodes, &again.nodes, "a second run finds nothing");
    }

    /// Checklist 18.
    #[test]
    fn folding_keeps_zeros(seed: u64) {
        let mut random = Random::new(seed);
        let mut graph = Graph::default();
        let data = graph.add_value("data", Shape::new([1, 2, 5, 5]).unwrap());
        graph.inputs = vec![data];
        add_convolution(&mut graph, &mut random, data, "conv");
        let conv = graph.find("conv").unwrap();
        let zeros = |graph: &Graph| {
            let weights = graph.weight(graph.nodes[0].op.weights()[0]).clone();
            weights.data().iter().map(|&w| w == 0.0).collect::<Vec<_>>()
        };
        let before = zeros(&graph);
        let ones = Tensor::new(Shape::new([graph.shape(conv).dim(1)]).unwrap(), vec![-3.0; graph.shape(conv).dim(1) as usize]);
        let scale = graph.add_weight(ones);
        let op = Scale { axis: 1, scale: Some(scale), bias: None, add_operand: false };
        let out = graph.add_node("scale", Op::Scale(op), vec![conv], "scale").unwrap();
        graph.outputs = vec![out];
        let after = passes::fold_batch_norm(graph);
        prop_assert_eq!((after.nodes.len(), zeros(&after)), (1, before));
    }
}

/// conv → bn → scale → relu → dropout → max pool → relu, in place as in Caffe's nets.
#[test]
fn a_typical_block_becomes_two_nodes() {
    let mut random = Random::new(7);
    let mut graph = Graph::default();
    let data = graph.add_value("data", Shape::new([2, 3, 8, 8]).unwrap());
    graph.inputs = vec![data];
    let weights = [random.tensor(&[4, 3, 3, 3])];
    let conv = Convolution {
        window: Window::square(3, 1, 1),
        oc: 4,
        groups: 1,
        weights: skimjit_models::WeightId(0),
        bias: None,
        post: PostOps::default(),
    };
    add(&mut graph, Op::Convolution(conv), &weights, &[data], "conv");
    let mut last = graph.find("conv").unwrap();
    let affine = |random: &mut Random| {
        let scale = graph.add_weight(random.tensor(&[4]));
        let bias = graph.add_weight(random.tensor(&[4]));
        Op::Scale(Scale {
            axis: 1,
            scale: Some(scale),
            bias: Some(bias),
            add_operand: false,
        })
    };
    let pool = Pooling {
        method: PoolMethod::Max,
        window: Window::square(3, 2, 0),
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu: false,
        mask: false,
    };
    let mut affine = affine;
    let relu = Op::Activation(Activation::ReLU { slope: 0.0 });
    let ops = [
        (affine(&mut random), "conv"),
        (affine(&mut random), "conv"),
        (relu.clone(), "conv"),
        (Op::Identity, "conv"),
        (Op::Pooling(pool), "pool"),
        (relu, "pool"),
    ];
    for (op, name) in ops {
        last = graph.add_node(name, op, vec![last], name).unwrap();
    }
    graph.outputs = vec![last];
    let after = passes::optimize(graph.clone()).unwrap();
    check(&graph, &after, &mut random).unwrap();
    assert_eq!(
        (after.nodes.len(), after.values.len(), after.weights.len()),
        (2, 3, 2)
    );
    let (Op::Convolution(conv), Op::Pooling(pool)) = (&after.nodes[0].op, &after.nodes[1].op)
    else {
        panic!("{:?}", after.nodes)
    };
    assert!(conv.post == PostOps::relu(0.0) && pool.relu);
    // A value that the user keeps stays as it is.
    let mut kept = graph.clone();
    kept.outputs = vec![kept.nodes[1].output, last];
    let after = passes::optimize(kept.clone()).unwrap();
    check(&kept, &after, &mut random).unwrap();
    let names: Vec<&str> = after.nodes.iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["Convolution", "Scale", "ReLU", "ReLUPooling"]);
}

#[test]
fn the_interpreter_refuses_other_inputs() {
    let graph = graph(&mut Random::new(3));
    assert!(interpreter::run(&graph, &[]).is_err());
    let other = Tensor::zeros(Shape::new([1]).unwrap());
    let error = interpreter::run_outputs(&graph, &[other]).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("input \"data\""));
}

/// A graph of one input and functions of it, each of an earlier value.
struct Chain(Graph);

impl Chain {
    fn new(dims: &[u32]) -> Self {
        let mut graph = Graph::default();
        let data = graph.add_value("x", Shape::new(dims).unwrap());
        graph.inputs = vec![data];
        Self(graph)
    }
    fn add(&mut self, op: Op, inputs: &[u32]) -> u32 {
        let inputs = inputs.iter().map(|&id| ValueId(id)).collect();
        let name = format!("v{}", self.0.values.len());
        self.0.add_node(&name, op, inputs, &name).unwrap().0
    }
    fn function(&mut self, activation: Activation, x: u32) -> u32 {
        self.add(Op::Activation(activation), &[x])
    }
    fn affine(&mut self, scale: f32, shift: f32, x: u32) -> u32 {
        let power = 1.0;
        self.function(
            Activation::Power {
                power,
                scale,
                shift,
            },
            x,
        )
    }
    fn product(&mut self, a: u32, b: u32) -> u32 {
        let (op, post) = (EltwiseOp::Product, PostOps::default());
        self.add(Op::Eltwise(Eltwise { op, post }), &[a, b])
    }
    /// The nodes that the passes leave, which compute the same.
    fn optimized(mut self) -> Vec<Op> {
        let last = ValueId(self.0.values.len() as u32 - 1);
        self.0.outputs = vec![last];
        let shape = self.0.shape(ValueId(0)).clone();
        let numbers = (0..shape.count()).map(|index| index as f32 * 0.37 - 5.0);
        let input = [Tensor::new(shape.clone(), numbers.collect())];
        let optimized = passes::optimize(self.0.clone()).unwrap();
        let run = |graph: &Graph| interpreter::run_outputs(graph, &input).unwrap();
        let (before, after) = (run(&self.0), run(&optimized));
        for (a, b) in before[0].data().iter().zip(after[0].data()) {
            assert!((a - b).abs() <= 2e-6 * a.abs().max(1.0), "{a} {b}");
        }
        optimized.nodes.into_iter().map(|node| node.op).collect()
    }
}

#[test]
fn functions_that_exporters_write_out_are_recognised() {
    let swish = Op::Activation(Activation::Swish { beta: 1.0 });
    let hard_swish = Op::Activation(Activation::HardSwish);
    let gelu = Op::Activation(Activation::Gelu { tanh: false });
    let chain = || Chain::new(&[1, 2, 4, 4]);

    let mut silu = chain();
    let gate = silu.function(Activation::Sigmoid, 0);
    silu.product(gate, 0);
    assert_eq!(silu.optimized(), std::slice::from_ref(&swish));

    let (alpha, beta) = (1.0 / 6.0, 0.5);
    let mut hard = chain();
    let gate = hard.function(Activation::HardSigmoid { alpha, beta }, 0);
    hard.product(0, gate);
    assert_eq!(hard.optimized(), std::slice::from_ref(&hard_swish));

    // x · (clip(x + 3, 0, 6) / 6), and (x · clip(x + 3, 0, 6)) / 6.
    for last in [false, true] {
        let mut hard = chain();
        let shifted = hard.affine(1.0, 3.0, 0);
        let clipped = hard.function(Activation::Clip { min: 0.0, max: 6.0 }, shifted);
        if last {
            let product = hard.product(0, clipped);
            hard.affine(0.166_666_67, 0.0, product);
        } else {
            let gate = hard.affine(0.166_666_67, 0.0, clipped);
            hard.product(0, gate);
        }
        assert_eq!(hard.optimized(), std::slice::from_ref(&hard_swish));
    }

    for order in 0..3 {
        let mut erf = chain();
        let scaled = erf.affine(0.707_106_77, 0.0, 0);
        let erfs = erf.function(Activation::Erf, scaled);
        let gate = erf.affine(1.0, 1.0, erfs);
        match order {
            0 => {
                let product = erf.product(0, gate);
                erf.affine(0.5, 0.0, product);
            }
            1 => {
                let half = erf.affine(0.5, 0.0, 0);
                erf.product(half, gate);
            }
            _ => {
                let half = erf.affine(0.5, 0.0, gate);
                erf.product(0, half);
            }
        }
        assert_eq!(erf.optimized(), std::slice::from_ref(&gelu), "{order}");
    }
}

#[test]
fn what_only_looks_alike_stays() {
    // A sigmoid of something else, and one that others read.
    let mut other = Chain::new(&[1, 2, 4, 4]);
    let gate = other.function(Activation::Sigmoid, 0);
    let shifted = other.affine(1.0, 0.25, 0);
    other.product(gate, shifted);
    assert_eq!(other.optimized().len(), 3);
    let mut read = Chain::new(&[1, 2, 4, 4]);
    let gate = read.function(Activation::Sigmoid, 0);
    let product = read.product(gate, 0);
    read.product(product, gate);
    assert_eq!(read.optimized().len(), 3);
}

#[test]
fn padding_becomes_the_convolutions_own() {
    let mut chain = Chain::new(&[1, 2, 5, 6]);
    let weights = Tensor::new(
        Shape::new([3, 2, 3, 3]).unwrap(),
        (0..54).map(|i| i as f32 / 54.0).collect(),
    );
    let weights = chain.0.add_weight(weights);
    let pad = Pad {
        begin: vec![0, 0, 0, 1],
        end: vec![0, 0, 2, 1],
        mode: PadMode::Constant { value: 0.0 },
    };
    let padded = chain.add(Op::Pad(pad), &[0]);
    let convolution = Convolution {
        window: Window::square(3, 2, 0),
        oc: 3,
        groups: 1,
        weights,
        bias: None,
        post: PostOps::default(),
    };
    chain.add(Op::Convolution(convolution), &[padded]);
    let ops = chain.optimized();
    let [Op::Convolution(op)] = &ops[..] else {
        panic!("{ops:?}");
    };
    assert_eq!((op.window.pad_begin, op.window.pad_end), ([0, 1], [2, 1]));
}

/// The end of a stage of Caffe's ResNet: two strided layers read a sum.
#[test]
fn strides_are_raised_to_where_work_is_saved() {
    let mut random = Random::new(3);
    let mut graph = Graph::default();
    let data = graph.add_value("data", Shape::new([1, 4, 7, 7]).unwrap());
    graph.inputs = vec![data];
    let mut conv = |graph: &mut Graph, name: &str, input: ValueId, window: Window| {
        let [kernel, _] = window.kernel;
        let weights = [random.tensor(&[4, 4, kernel, kernel])];
        let op = Convolution {
            window,
            oc: 4,
            groups: 1,
            weights: skimjit_models::WeightId(0),
            bias: None,
            post: PostOps::default(),
        };
        add(graph, Op::Convolution(op), &weights, &[input], name);
        graph.find(name).unwrap()
    };
    let (pixel, strided) = (Window::square(1, 1, 0), Window::square(1, 2, 0));
    let first = conv(&mut graph, "first", data, Window::square(3, 1, 1));
    let inner = conv(&mut graph, "inner", first, Window::square(3, 1, 1));
    let last = conv(&mut graph, "last", inner, pixel);
    let op = EltwiseOp::Sum {
        coefficients: vec![1.0, 1.0],
    };
    let op = Op::Eltwise(Eltwise {
        op,
        post: PostOps::default(),
    });
    let sum = graph.add_node("sum", op, vec![first, last], "sum").unwrap();
    let a = conv(&mut graph, "a", sum, strided);
    let b = conv(&mut graph, "b", sum, strided);
    graph.outputs = vec![a, b];
    let mut random = Random::new(4);
    let after = passes::optimize(graph.clone()).unwrap();
    check(&graph, &after, &mut random).unwrap();
    let stride = |name: &str| {
        let node = after.nodes.iter().find(|node| node.name == name).unwrap();
        match &node.op {
            Op::Convolution(op) => op.window.stride[0],
            Op::Pooling(op) => op.window.stride[0],
            _ => 0,
        }
    };
    let names = ["first", "inner", "last", "sum/thin0", "a", "b"];
    assert_eq!(names.map(stride), [1, 2, 1, 2, 1, 1]);
    assert_eq!(after.nodes.len(), 7);
    // The name of a node that is added is nobody else's.
    let mut named = graph.clone();
    named.nodes[1].name = "sum/thin0".to_owned();
    let after = passes::optimize(named).unwrap();
    let of = |name: &str| after.nodes.iter().filter(|node| node.name == name).count();
    assert_eq!(["sum/thin0", "sum/thin0_"].map(of), [1, 1]);
    // Somebody looks at the sum: it is computed in full.
    graph.outputs.push(sum);
    let after = passes::optimize(graph.clone()).unwrap();
    check(&graph, &after, &mut random).unwrap();
    assert_eq!(after.nodes.len(), 6);
}
