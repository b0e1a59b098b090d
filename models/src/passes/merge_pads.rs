//! Makes padding a part of the convolution behind it.

use super::dead;
use super::uses::Uses;
use crate::ops::{Pad, PadMode};
use crate::{Graph, Node, Op};

/// Lets convolutions read what is before a padding with zeros of planes, which becomes their own. Where other
/// layers read the padding too, it stays for them.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let uses = Uses::of(&graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Pad(pad), &[x]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        let Some([begin, end]) = planes(pad) else {
            continue;
        };
        let output = node.output;
        for &reader in uses.readers(output) {
            absorb(&mut graph.nodes[reader], output, x, [begin, end]);
        }
    }
    dead(graph)
}

/// Rows and columns before and behind, of a padding of planes with zeros.
fn planes(pad: &Pad) -> Option<[[u32; 2]; 2]> {
    if pad.mode != (PadMode::Constant { value: 0.0 }) {
        return None;
    }
    let sides = |pads: &[i32]| match *pads {
        [0, 0, h, w] => Some([u32::try_from(h).ok()?, u32::try_from(w).ok()?]),
        _ => None,
    };
    Some([sides(&pad.begin)?, sides(&pad.end)?])
}

fn absorb(
    reader: &mut Node,
    padded: crate::ValueId,
    x: crate::ValueId,
    [begin, end]: [[u32; 2]; 2],
) {
    let (Op::Convolution(op), [input]) = (&mut reader.op, reader.inputs.as_mut_slice()) else {
        return;
    };
    if *input != padded {
        return;
    }
    let mut window = op.window;
    for axis in 0..2 {
        let sides = [
            window.pad_begin[axis].checked_add(begin[axis]),
            window.pad_end[axis].checked_add(end[axis]),
        ];
        let [Some(first), Some(last)] = sides else {
            return;
        };
        (window.pad_begin[axis], window.pad_end[axis]) = (first, last);
    }
    // Pads have a limit of their own.
    if window.check().is_ok() {
        (op.window, *input) = (window, x);
    }
}
