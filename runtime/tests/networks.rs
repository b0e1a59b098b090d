//! Small networks through planner and session, compared with the reference interpreter.

mod network;

use network::{Net, Random, everything};
use skimjit_models::ops::{Convolution, Lrn, Mvn, Normalize, PostOps, Standardize, Window};
use skimjit_models::{Graph, Op, Shape, WeightId, interpreter};
use skimjit_runtime::jit::Isa;
use skimjit_runtime::plan::Work;
use skimjit_runtime::{Options, Session, ThreadPool, plan};
use skimjit_testing::isas;
use std::sync::Arc;

fn run(graph: &Graph, isa: Isa, threads: usize, input: &[f32], n: usize) -> Vec<Vec<f32>> {
    let plan = Arc::new(plan(graph, isa, &Options::default()).unwrap());
    let pool = Arc::new(ThreadPool::new(threads).unwrap());
    let mut session = Session::new(plan.clone(), pool);
    let mut outputs: Vec<Vec<f32>> = plan
        .outputs
        .iter()
        .map(|port| vec![f32::NAN; port.elems * n])
        .collect();
    for _ in 0..2 {
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
        session.run(&[input], &mut slices).unwrap();
    }
    outputs
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= 2e-5 * scale,
            "{what}: element {i}: found {a}, expected {b}"
        );
    }
}

/// Checklist 39.
#[test]
fn every_isa_thread_count_and_batch_agrees_with_the_interpreter() {
    let n = 5;
    let graph = everything(n as u32);
    let input = Random::new(7).tensor(&[n as u32, 3, 31, 31], 1.0);
    let expected = interpreter::run_outputs(&graph, std::slice::from_ref(&input)).unwrap();
    for isa in isas() {
        for batch in [1, 2, 5, 8, 16] {
            let graph = graph.with_batch(batch).unwrap();
            let mut first: Option<Vec<Vec<f32>>> = None;
            for threads in [1, 2, 3] {
                let found = run(&graph, isa, threads, input.data(), n);
                for (o, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let what = format!("{isa}, batch {batch}, {threads} threads, output {o}");
                    assert_close(found, expected.data(), &what);
                }
                let same = first.get_or_insert_with(|| found.clone());
                assert_eq!(
                    *same, found,
                    "{isa}, batch {batch}: bits differ with {threads} threads"
                );
            }
        }
    }
}

/// The rule of ARCHITECTURE.md: the plan decides the bits, nothing else does.
#[test]
fn an_image_has_the_same_bits_in_any_place_beside_any_others_and_in_a_batch_that_is_not_full() {
    let n = 13;
    let row = 3 * 31 * 31;
    let input = Random::new(21).tensor(&[n as u32, 3, 31, 31], 1.0);
    for isa in isas() {
        for batch in [1, 2, 3, 8, 16] {
            let graph = everything(batch);
            let together = run(&graph, isa, 2, input.data(), n);
            for image in [0, 2, 7, 12] {
                let alone = run(&graph, isa, 3, &input.data()[image * row..][..row], 1);
                for (alone, together) in alone.iter().zip(&together) {
                    let same = &together[image * alone.len()..][..alone.len()];
                    let bits = |values: &[f32]| -> Vec<u32> {
                        values.iter().map(|value| value.to_bits()).collect()
                    };
                    assert_eq!(
                        bits(alone),
                        bits(same),
                        "{isa}, batch {batch}, image {image}"
                    );
                }
            }
        }
    }
}

/// Layers that mix images read parts of a concatenation and of a slice, whose rows lie apart.
#[test]
fn layers_that_mix_images_read_parts_of_other_blobs() {
    use skimjit_models::Op;
    use skimjit_models::ops::{Reduction, ReductionOp, Slice};
    let batch = 4;
    let (mut net, data) = Net::new(batch, 3, 1, 1);
    let [a, b] = [8, 5].map(|outputs| net.fc(data, outputs, 1.0));
    let cat = net.add(Op::Concat { axis: 1 }, &[a, b]);
    let slice = |begin, end| {
        Op::Slice(Slice {
            axis: 1,
            begin,
            end,
        })
    };
    let part = net.add(slice(2, 9), &[cat]);
    let mean = || {
        Op::Reduction(Reduction {
            op: ReductionOp::Mean,
            axis: 0,
            coeff: 1.0,
        })
    };
    let softmax = Op::Softmax { axis: 0 };
    let mixed = [a, b, part].map(|x| net.add(softmax.clone(), &[x]));
    let total = net.add(mean(), &[cat]);
    net.graph.outputs = [&mixed[..], &[total, cat]].concat();
    let input = Random::new(5).tensor(&[batch, 3, 1, 1], 1.0);
    let expected = interpreter::run_outputs(&net.graph, std::slice::from_ref(&input)).unwrap();
    for isa in isas() {
        let plan = Arc::new(plan(&net.graph, isa, &Options::default()).unwrap());
        let mut session = Session::new(plan.clone(), Arc::new(ThreadPool::new(2).unwrap()));
        let mut outputs: Vec<Vec<f32>> = expected
            .iter()
            .map(|tensor| vec![f32::NAN; tensor.data().len()])
            .collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
        session.run(&[input.data()], &mut slices).unwrap();
        for (o, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
            assert_close(found, expected.data(), &format!("{isa}, output {o}"));
        }
    }
}

/// What is taken of channels, rows, columns, planes and images; each layer reads planes with gaps and without.
fn layers_of_groups() -> Vec<Op> {
    let standardize = |axis, end| {
        Op::Standardize(Standardize {
            axis,
            end,
            eps: 1e-3,
        })
    };
    let mvn = |normalize_variance, across_channels| {
        Op::Mvn(Mvn {
            normalize_variance,
            across_channels,
            eps: 1e-9,
        })
    };
    let normalize = |across_spatial| {
        Op::Normalize(Normalize {
            across_spatial,
            eps: 1e-10,
            scale: WeightId(0),
        })
    };
    let lrn = Lrn {
        size: 3,
        alpha: 0.5,
        beta: 0.75,
        k: 2.0,
        within_channel: true,
    };
    let mut ops = vec![
        Op::Lrn(lrn),
        standardize(1, Some(2)),
        standardize(1, None),
        standardize(2, None),
        standardize(2, Some(3)),
        standardize(3, None),
        mvn(true, true),
        mvn(true, false),
        mvn(false, false),
        normalize(true),
        normalize(false),
    ];
    ops.extend((1..4).map(|axis| Op::Softmax { axis }));
    ops.extend((1..4).map(|axis| Op::LogSoftmax { axis }));
    ops
}

fn upscaling() -> Op {
    Op::Deconvolution(Convolution {
        window: Window::square(4, 2, 1),
        oc: 6,
        groups: 6,
        weights: WeightId(1),
        bias: None,
        post: PostOps::relu(0.0),
    })
}

#[test]
fn layers_of_groups_have_kernels() {
    for (op, batch) in layers_of_groups()
        .into_iter()
        .chain([upscaling()])
        .flat_map(|op| [1, 3].map(|batch| (op.clone(), batch)))
    {
        let (mut net, data) = Net::new(batch, 6, 9, 20);
        net.graph.add_weight(Random::new(8).tensor(&[6], 1.0));
        net.graph
            .add_weight(Random::new(9).tensor(&[6, 1, 4, 4], 1.0));
        let direct = net.add(op.clone(), &[data]);
        let conv = net.conv(data, 6, Window::square(3, 1, 1), 1, 1.0, false);
        let behind = net.add(op.clone(), &[conv]);
        net.graph.outputs = vec![direct, behind, conv];
        let input = Random::new(5).tensor(&[batch, 6, 9, 20], 1.0);
        let expected = interpreter::run_outputs(&net.graph, std::slice::from_ref(&input)).unwrap();
        for isa in isas() {
            let plan = plan(&net.graph, isa, &Options::default()).unwrap();
            let mut steps = plan.segments.iter().flat_map(|segment| &segment.steps);
            assert!(
                !steps.any(|step| matches!(step.work, Work::Reference(_))),
                "{op:?}"
            );
            let found = run(&net.graph, isa, 2, input.data(), batch as usize);
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(
                    found,
                    expected.data(),
                    &format!("{isa}, batch {batch}, {op:?}"),
                );
            }
        }
    }
}

/// An input that an inner product reads as columns, and a convolution behind it image by image.
#[test]
fn an_input_is_read_by_the_whole_batch_and_then_image_by_image() {
    let (batch, n) = (16, 2);
    let (mut net, data) = Net::new(batch, 3, 7, 6);
    let wide = net.fc(data, 131, 0.0);
    let small = net.fc(wide, 1, 0.0);
    let window = skimjit_models::ops::Window::square(1, 1, 0);
    let conv = net.conv(data, 1, window, 1, 1.0, false);
    net.graph.outputs = vec![small, conv];
    let input = Random::new(3).tensor(&[n, 3, 7, 6], 1.0);
    let alone = net.graph.with_batch(n).unwrap();
    let expected = interpreter::run_outputs(&alone, std::slice::from_ref(&input)).unwrap();
    for isa in isas() {
        for threads in [1, 2] {
            let found = run(&net.graph, isa, threads, input.data(), n as usize);
            for (o, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("{isa}, {threads} threads, output {o}");
                assert_close(found, expected.data(), &what);
            }
        }
    }
}

/// A transposition behind a transposition, as one step: where another reads what is between them it is made too.
#[test]
fn layers_that_only_move_what_others_moved_are_one_step() {
    let permute = |order: [u32; 4]| Op::Permute {
        order: order.to_vec(),
    };
    for (other, steps) in [(false, 1), (true, 2)] {
        let mut graph = Graph::default();
        let data = graph.add_value("data", Shape::new([2, 6, 5, 7]).unwrap());
        graph.inputs = vec![data];
        let mut last = data;
        for (name, order) in [
            ("a", [0, 2, 3, 1]),
            ("b", [0, 3, 2, 1]),
            ("c", [0, 2, 1, 3]),
        ] {
            last = graph
                .add_node(name, permute(order), vec![last], name)
                .unwrap();
        }
        graph.outputs = vec![last];
        if other {
            graph.outputs.push(graph.find("b").unwrap());
        }
        let input = Random::new(5).tensor(&[2, 6, 5, 7], 1.0);
        let expected = interpreter::run_outputs(&graph, std::slice::from_ref(&input)).unwrap();
        for isa in isas() {
            let found = run(&graph, isa, 2, input.data(), 2);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected.data());
            }
            let plan = plan(&graph, isa, &Options::default()).unwrap();
            let labels = plan.segments.iter().flat_map(|segment| &segment.steps);
            let moves = labels.filter(|step| step.label == "moves").count();
            assert_eq!(moves, steps);
        }
    }
}

/// A window of one pixel on a plane of one pixel is an inner product, unless it lies in the padding.
#[test]
fn a_window_of_one_pixel_in_the_padding_reads_zero() {
    for (pad, stride, outputs) in [(0, 1, 1), (1, 3, 1), (1, 1, 9)] {
        let mut graph = Graph::default();
        let data = graph.add_value("data", Shape::new([1, 4, 1, 1]).unwrap());
        graph.inputs = vec![data];
        let weights = graph.add_weight(Random::new(3).tensor(&[2, 4, 1, 1], 1.0));
        let bias = graph.add_weight(Random::new(4).tensor(&[2], 1.0));
        let op = Convolution {
            window: Window::square(1, stride, pad),
            oc: 2,
            groups: 1,
            weights,
            bias: Some(bias),
            post: PostOps::default(),
        };
        let conv = graph.add_node("conv", Op::Convolution(op), vec![data], "conv");
        graph.outputs = vec![conv.unwrap()];
        let input = Random::new(5).tensor(&[1, 4, 1, 1], 1.0);
        let expected = interpreter::run_outputs(&graph, std::slice::from_ref(&input)).unwrap();
        assert_eq!(expected[0].data().len(), 2 * outputs);
        for isa in isas() {
            let found = run(&graph, isa, 1, input.data(), 1);
            assert_close(&found[0], expected[0].data(), &format!("{isa}, pad {pad}"));
        }
    }
}

/// Functions that fade to 0 do so for the largest operands too, where a factor's rounding would be large.
#[test]
fn what_fades_is_0_far_away() {
    use skimjit_models::ops::Activation::{Gelu, Mish, Swish};
    let far = [-6.0, -20.0, -87.0, -89.0, -1e4, -1e30, -3e38];
    let functions = [
        Gelu { tanh: false },
        Gelu { tanh: true },
        Mish,
        Swish { beta: 1.0 },
        Swish { beta: 1.702 },
    ];
    for function in functions {
        let mut graph = Graph::default();
        let shape = Shape::new([1, far.len() as u32, 1, 3]).unwrap();
        let data = graph.add_value("data", shape);
        graph.inputs = vec![data];
        let node = graph.add_node("f", Op::Activation(function), vec![data], "f");
        graph.outputs = vec![node.unwrap()];
        let input: Vec<f32> = far.iter().flat_map(|&x| [x; 3]).collect();
        for isa in isas() {
            let found = run(&graph, isa, 1, &input, 1);
            let reference = |x: f32| function.apply(f64::from(x));
            for (x, found) in input.iter().zip(&found[0]) {
                let difference = (f64::from(*found) - reference(*x)).abs();
                assert!(difference <= 4e-7, "{isa}, {function:?} of {x}: {found}");
            }
        }
    }
}
