//! What is drawn: boxes and what leads from one to another.

use skimjit_models::ops::{PoolMethod, Window};
use skimjit_models::{Graph, Node, Op, Shape, WeightId};
use std::collections::HashMap;

/// Kinds of layers that look alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    Input,
    Convolution,
    InnerProduct,
    Pooling,
    Normalization,
    Combination,
    Other,
}

/// A layer, with those that follow it in place.
#[derive(Clone, Debug)]
pub struct Card {
    pub family: Family,
    pub title: String,
    /// Type and attributes; then what follows in place.
    pub lines: Vec<String>,
    /// Shape of the result.
    pub shape: String,
    /// Share of weights that are not zero.
    pub density: Option<f64>,
}

/// Boxes, and edges between them by index.
pub struct Picture {
    pub name: String,
    pub boxes: Vec<Card>,
    pub edges: Vec<[usize; 2]>,
}

impl Picture {
    /// Of a network as it was read.
    pub fn of(graph: &Graph, has_weights: bool) -> Self {
        let mut uses = vec![0; graph.values.len()];
        for node in &graph.nodes {
            node.inputs.iter().for_each(|id| uses[id.0 as usize] += 1);
        }
        let mut picture = Self {
            name: graph.name.clone(),
            boxes: Vec::new(),
            edges: Vec::new(),
        };
        // Box that makes each value.
        let mut maker: HashMap<u32, usize> = HashMap::new();
        for &id in &graph.inputs {
            let value = graph.value(id);
            maker.insert(id.0, picture.boxes.len());
            picture.boxes.push(Card {
                family: Family::Input,
                title: value.name.clone(),
                lines: vec!["Input".to_owned()],
                shape: value.shape.to_string(),
                density: None,
            });
        }
        for node in &graph.nodes {
            let from: Vec<usize> = node
                .inputs
                .iter()
                .filter_map(|id| maker.get(&id.0).copied())
                .collect();
            let alone = matches!(node.inputs[..], [id] if uses[id.0 as usize] == 1);
            let card = card(graph, node, has_weights);
            if let ([before], true, true) = (&from[..], alone, is_elementwise(&node.op)) {
                let host = &mut picture.boxes[*before];
                if host.family != Family::Input {
                    host.lines.push(card.lines.concat());
                    maker.insert(node.output.0, *before);
                    continue;
                }
            }
            let index = picture.boxes.len();
            picture
                .edges
                .extend(from.into_iter().map(|from| [from, index]));
            maker.insert(node.output.0, index);
            picture.boxes.push(card);
        }
        picture
    }
}

/// True for layers that change the elements of one blob.
fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Activation(_)
            | Op::PRelu(_)
            | Op::BatchNorm(_)
            | Op::Scale(_)
            | Op::Identity
            | Op::Dropout { .. }
    )
}

fn card(graph: &Graph, node: &Node, has_weights: bool) -> Card {
    let weights = match &node.op {
        Op::Convolution(op) | Op::Deconvolution(op) => Some(op.weights),
        Op::InnerProduct(op) => Some(op.weights),
        _ => None,
    };
    let shape: &Shape = graph.shape(node.output);
    Card {
        family: family(&node.op),
        title: node.name.clone(),
        lines: vec![attributes(&node.op)],
        shape: shape.to_string(),
        density: weights.filter(|_| has_weights).map(|id| density(graph, id)),
    }
}

fn density(graph: &Graph, id: WeightId) -> f64 {
    let data = graph.weight(id).data();
    data.iter().filter(|w| **w != 0.0).count() as f64 / data.len().max(1) as f64
}

fn family(op: &Op) -> Family {
    match op {
        Op::Convolution(_) | Op::Deconvolution(_) | Op::WinogradConvolution(_) | Op::Im2col(_) => {
            Family::Convolution
        }
        Op::InnerProduct(_) | Op::Embed(_) | Op::Recurrent(_) | Op::LstmUnit(_) => {
            Family::InnerProduct
        }
        Op::Pooling(_) => Family::Pooling,
        Op::Lrn(_) | Op::BatchNorm(_) | Op::Scale(_) | Op::Mvn(_) | Op::Normalize(_) => {
            Family::Normalization
        }
        Op::Concat { .. } | Op::Eltwise(_) | Op::Slice(_) => Family::Combination,
        _ => Family::Other,
    }
}

/// Type, and what tells two layers of a type apart.
fn attributes(op: &Op) -> String {
    let name = op.name();
    match op {
        Op::Convolution(op) | Op::Deconvolution(op) => {
            let groups = if op.groups > 1 {
                format!(", {} groups", op.groups)
            } else {
                String::new()
            };
            format!("{name} {}{groups}", window(&op.window))
        }
        Op::Pooling(op) => {
            let method = match op.method {
                PoolMethod::Max => "max",
                PoolMethod::Average | PoolMethod::AverageInside => "average",
                PoolMethod::Lp { .. } => "norm",
            };
            match op.global {
                true => format!("{name} {method}, whole plane"),
                false => format!("{name} {method} {}", window(&op.window)),
            }
        }
        Op::Lrn(op) => format!("{name} {}", op.size),
        _ => name.to_owned(),
    }
}

fn window(window: &Window) -> String {
    let pair = |[a, b]: [u32; 2], by: &str| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}{by}{b}")
        }
    };
    let [kh, kw] = window.kernel;
    let mut text = format!("{kh}×{kw}");
    if window.stride != [1, 1] {
        text += &format!("/{}", pair(window.stride, "×"));
    }
    if window.is_padded() {
        text += &format!(", pad {}", pair(window.pad_begin, "×"));
    }
    if window.pad_end != window.pad_begin {
        text += &format!(" before, {} behind", pair(window.pad_end, "×"));
    }
    if window.dilation != [1, 1] {
        text += &format!(", dilation {}", pair(window.dilation, "×"));
    }
    text
}
