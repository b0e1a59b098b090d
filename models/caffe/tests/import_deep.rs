//! Very deep networks: the time of an import grows with the layers, not with their square. A file of its
//! own: it counts the processor time of its thread.

use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::parse_prototxt;
use skimjit_host::clock::thread_time;
use std::fmt::Write;

const INPUT: &str =
    "layer { name: 'in' type: 'Input' top: 'x0' input_param { shape { dim: 1 dim: 2 } } }\n";

/// A chain of layers of one type.
fn chain(layers: usize, kind: &str) -> String {
    let mut text = INPUT.to_owned();
    for i in 0..layers {
        let next = i + 1;
        writeln!(
            text,
            "layer {{ name: 'l{i}' type: '{kind}' bottom: 'x{i}' top: 'x{next}' }}"
        )
        .unwrap();
    }
    text
}

/// Branches that nothing reads but a Silence each.
fn silences(layers: usize) -> String {
    let mut text = INPUT.to_owned();
    text += "layer { name: 'out' type: 'TanH' bottom: 'x0' top: 'out' }\n";
    for i in 0..layers / 2 {
        writeln!(
            text,
            "layer {{ name: 'a{i}' type: 'AbsVal' bottom: 'x0' top: 'y{i}' }}"
        )
        .unwrap();
        writeln!(
            text,
            "layer {{ name: 's{i}' type: 'Silence' bottom: 'y{i}' }}"
        )
        .unwrap();
    }
    text
}

/// Data layers, of which each is kept as an input.
fn data(layers: usize) -> String {
    let mut text = String::new();
    for i in 0..layers {
        let param = "memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }";
        writeln!(
            text,
            "layer {{ name: 'd{i}' type: 'MemoryData' top: 'y{i}' top: 'l{i}' {param} }}"
        )
        .unwrap();
    }
    text
}

fn seconds(work: impl FnOnce()) -> f64 {
    let started = thread_time();
    work();
    (thread_time() - started).as_secs_f64()
}

#[test]
fn the_time_of_an_import_is_linear_in_the_layers() {
    let options = ImportOptions {
        data_to_input: true,
        strip_losses: true,
        ..ImportOptions::default()
    };
    let networks: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("ReLU", &|layers| chain(layers, "ReLU")),
        ("Dropout", &|layers| chain(layers, "Dropout")),
        ("Silence", &silences),
        ("data", &data),
    ];
    for (name, text) in networks {
        let time = |layers: usize| {
            let text = text(layers);
            seconds(|| {
                let (net, _) = parse_prototxt(&text, "deep").unwrap();
                let graph = import(net, vec![], &options).unwrap().graph;
                skimjit_models::passes::optimize(graph).unwrap();
            })
        };
        let ratio = |(): ()| {
            let (small, large) = (time(5_000), time(20_000));
            println!("{name}: 5,000 layers {small:.3} s, 20,000 layers {large:.3} s");
            large / small
        };
        let best = [(); 3].map(ratio).into_iter().fold(f64::INFINITY, f64::min);
        assert!(
            best < 7.0,
            "{name}: {best} times the time for 4 times the layers"
        );
    }
}
