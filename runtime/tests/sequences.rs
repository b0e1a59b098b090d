//! Networks of layers that mix the images of a batch in other ways than losses do, and whose inputs do not
//! all begin with the batch: recurrent layers over time, and layers that choose images. Compared with the
//! reference interpreter, batch by batch, with one thread and two.

#[expect(dead_code, reason = "the other suites' networks")]
mod network;

use network::{Net, Random};
use skimjit_models::ops::{
    Cell, Embed, Im2col, InnerProduct, LstmUnit, Mvn, PoolMethod, Pooling, PostOps, Recurrent,
    Reshape, Rounding, Slice, Window,
};
use skimjit_models::{Graph, Op, Shape, Tensor, ValueId, WeightId, interpreter};
use skimjit_runtime::{Options, Session, ThreadPool, plan};
use skimjit_testing::isas;
use std::sync::Arc;

/// Batches of one run.
const BATCHES: usize = 2;

/// Numbers for every input; whole ones for the inputs whose names say so.
fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    let input = |&id: &ValueId| {
        let mut tensor = random.tensor(graph.shape(id).dims(), 1.0);
        let most = match graph.value(id).name.as_str() {
            "cont" | "selector" => 2.0,
            "words" => 7.0,
            "indices" => 4.0,
            _ => return tensor,
        };
        for x in tensor.data_mut() {
            *x = ((*x + 1.0) / 2.0 * most).floor();
        }
        tensor
    };
    graph.inputs.iter().map(input).collect()
}

/// Runs [`BATCHES`] batches at once, and each alone through the interpreter.
fn check(graph: &Graph) {
    let batches: Vec<Vec<Tensor>> = (0..BATCHES).map(|n| inputs(graph, n as u64 + 3)).collect();
    let each = batches
        .iter()
        .map(|inputs| interpreter::run_outputs(graph, inputs).expect("results"));
    let expected = join(&each.collect::<Vec<_>>());
    let given = join(&batches);
    for isa in isas() {
        let plan = Arc::new(plan(graph, isa, &Options::default()).expect("a plan"));
        for threads in [1, 2] {
            let pool = Arc::new(ThreadPool::new(threads).expect("threads"));
            let mut session = Session::new(plan.clone(), pool);
            let mut outputs: Vec<Vec<f32>> = expected.clone();
            outputs.iter_mut().for_each(|output| output.fill(f32::NAN));
            let mut targets: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
            let sources: Vec<&[f32]> = given.iter().map(|input| &input[..]).collect();
            session.run(&sources, &mut targets).expect("a run");
            for (index, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                close(
                    found,
                    expected,
                    &format!("{isa}, {threads} threads, output {index}"),
                );
            }
            // Every array must have its length.
            let short: Vec<&[f32]> = given.iter().map(|input| &input[1..]).collect();
            let mut targets: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
            assert!(session.run(&short, &mut targets).is_err());
        }
    }
}

/// The batches' arrays, one behind the other.
fn join(batches: &[Vec<Tensor>]) -> Vec<Vec<f32>> {
    (0..batches[0].len())
        .map(|index| {
            batches
                .iter()
                .flat_map(|batch| batch[index].data())
                .copied()
                .collect()
        })
        .collect()
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(1e-2f32, |most, x| most.max(x.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        let near = (a - b).abs() <= 2e-5 * scale;
        assert!(near, "{what}: element {index}: {a}, expected {b}");
    }
}

/// A network with these inputs, and their values.
fn with_inputs(inputs: &[(&str, &[u32])]) -> (Net, Vec<ValueId>) {
    let (mut net, _) = Net::new(1, 1, 1, 1);
    net.graph = Graph::default();
    let mut ids = Vec::new();
    for (name, dims) in inputs {
        let shape = Shape::new(*dims).expect("a shape");
        ids.push(net.graph.add_value(*name, shape));
    }
    net.graph.inputs = ids.clone();
    (net, ids)
}

fn weight(net: &mut Net, dims: &[u32], seed: u64) -> WeightId {
    let tensor = Random::new(seed).tensor(dims, 1.0);
    net.graph.add_weight(tensor)
}

fn steps(begin: u32, end: u32) -> Op {
    Op::Slice(Slice {
        axis: 0,
        begin,
        end,
    })
}

/// An inner product over all but the first two axes.
fn scores(net: &mut Net, x: ValueId, outputs: u32) -> ValueId {
    let inputs = net.graph.shape(x).dim(2);
    let weights = weight(net, &[outputs, inputs], 21);
    let op = InnerProduct {
        outputs,
        axis: 2,
        transpose: false,
        weights,
        bias: None,
        post: PostOps::default(),
    };
    net.add(Op::InnerProduct(op), &[x])
}

/// Words of captions: embedded, through an LSTM that sees an image's features and whose state comes from
/// outside and goes there.
#[test]
fn captions() {
    let (steps_, streams, cells) = (4, 3, 5);
    let (mut net, ids) = with_inputs(&[
        ("words", &[steps_, streams]),
        ("cont", &[steps_, streams]),
        ("image", &[streams, 6]),
        ("h0", &[1, streams, cells]),
        ("c0", &[1, streams, cells]),
    ]);
    let &[words, cont, image, h0, c0] = &ids[..] else {
        panic!("five inputs")
    };
    let table = weight(&mut net, &[7, 4], 11);
    let embed = Embed {
        outputs: 4,
        weights: table,
        bias: None,
    };
    let x = net.add(Op::Embed(embed), &[words]);
    let lstm = Recurrent {
        outputs: cells,
        cell: Cell::Lstm,
        initial: true,
        input_weights: weight(&mut net, &[4 * cells, 4], 12),
        input_bias: weight(&mut net, &[4 * cells], 13),
        static_weights: Some(weight(&mut net, &[4 * cells, 6], 14)),
        hidden_weights: weight(&mut net, &[4 * cells, cells], 15),
    };
    let all = net.add(Op::Recurrent(lstm), &[x, cont, image, h0, c0]);
    let h = net.add(steps(0, steps_), &[all]);
    let last = net.add(steps(steps_ - 1, steps_), &[all]);
    let state = net.add(steps(steps_, steps_ + 1), &[all]);
    let words = scores(&mut net, h, 7);
    let p = net.add(Op::Softmax { axis: 2 }, &[words]);
    net.graph.outputs = vec![p, last, state];
    check(&net.graph);
}

/// A single step: gates computed apart, and a batch of 1.
#[test]
fn one_step() {
    let (mut net, ids) = with_inputs(&[
        ("x", &[1, 3, 8]),
        ("cont", &[1, 3]),
        ("c", &[1, 3, 2]),
        ("fixed", &[3, 4]),
    ]);
    let &[x, cont, c, fixed] = &ids[..] else {
        panic!("four inputs")
    };
    let unit = |hidden| Op::LstmUnit(LstmUnit { hidden });
    let outputs = [false, true].map(|hidden| net.add(unit(hidden), &[c, x, cont]));
    let rnn = Recurrent {
        outputs: 2,
        cell: Cell::Rnn {
            weights: weight(&mut net, &[2, 2], 16),
            bias: weight(&mut net, &[2], 17),
        },
        initial: false,
        input_weights: weight(&mut net, &[2, 8], 18),
        input_bias: weight(&mut net, &[2], 19),
        static_weights: Some(weight(&mut net, &[2, 4], 20)),
        hidden_weights: weight(&mut net, &[2, 2], 21),
    };
    let all = net.add(Op::Recurrent(rnn), &[x, cont, fixed]);
    let result = net.add(steps(0, 1), &[all]);
    net.graph.outputs = vec![outputs[0], outputs[1], result];
    check(&net.graph);
}

/// Frames of films: convolutions image by image, then an RNN over time.
#[test]
fn films() {
    let (frames, films) = (3, 2);
    let (mut net, ids) = with_inputs(&[
        ("data", &[frames * films, 3, 9, 9]),
        ("cont", &[frames, films]),
    ]);
    let square = Window::square;
    let mvn = Mvn {
        normalize_variance: true,
        across_channels: true,
        eps: 0.1,
    };
    let normal = net.add(Op::Mvn(mvn), &[ids[0]]);
    let conv = net.conv(normal, 16, square(3, 1, 1), 1, 0.3, true);
    let pooling = Pooling {
        method: PoolMethod::Max,
        window: square(3, 2, 0),
        global: false,
        made_for: None,
        rounding: Rounding::Up,
        relu: false,
        mask: false,
    };
    let pooled = net.add(Op::Pooling(pooling), &[conv]);
    let features = net.fc(pooled, 10, 1.0);
    let reshape = Reshape {
        dims: vec![frames.into(), films.into(), -1],
        axis: 0,
        num_axes: -1,
    };
    let sequence = net.add(Op::Reshape(reshape), &[features]);
    let rnn = Recurrent {
        outputs: 4,
        cell: Cell::Rnn {
            weights: weight(&mut net, &[4, 4], 16),
            bias: weight(&mut net, &[4], 17),
        },
        initial: false,
        input_weights: weight(&mut net, &[4, 10], 18),
        input_bias: weight(&mut net, &[4], 19),
        static_weights: None,
        hidden_weights: weight(&mut net, &[4, 4], 20),
    };
    let all = net.add(Op::Recurrent(rnn), &[sequence, ids[1]]);
    let result = net.add(steps(0, frames), &[all]);
    let scores = scores(&mut net, result, 5);
    // The features too: an output image by image beside one of the batch.
    net.graph.outputs = vec![scores, features];
    check(&net.graph);
}

/// Images that are chosen by a selector and by indices, and go on through convolutions.
#[test]
fn chosen_images() {
    let (mut net, ids) = with_inputs(&[
        ("data", &[4, 2, 6, 6]),
        ("selector", &[4]),
        ("indices", &[6]),
    ]);
    let square = Window::square;
    let conv = net.conv(ids[0], 8, square(3, 1, 1), 1, 0.5, true);
    let filtered = net.add(Op::Filter, &[conv, ids[1]]);
    let behind = net.conv(filtered, 4, square(3, 2, 0), 1, 1.0, false);
    let chosen = net.add(Op::BatchReindex, &[conv, ids[2]]);
    let window = square(2, 2, 0);
    let columns = net.add(Op::Im2col(Im2col { window }), &[chosen]);
    net.graph.outputs = vec![behind, columns, ids[2]];
    check(&net.graph);
}
