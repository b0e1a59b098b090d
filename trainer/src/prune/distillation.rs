//! Knowledge distillation: a trained network, the teacher, tells how probable each class is (Hinton,
//! Vinyals and Dean 2015). Pruned networks learn more from it than from labels alone.

use crate::engine::{Engine, NetId};
use crate::net::Net;
use crate::solver::method::{Context, Method};
use crate::solver::report::Metrics;
use crate::weights;
use serde::Deserialize;
use skimjit_caffe::{Definition, Phase, Weights};
use skimjit_data::Blob;
use skimjit_models::{Error, Op, Place, Result, Tensor, ValueId};
use std::path::PathBuf;

/// Who teaches, and how much it counts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationOptions {
    /// Weights of the teacher, seen from the working folder.
    #[serde(default)]
    pub teacher: Option<PathBuf>,
    /// Phase of the recipe whose weights are the teacher's, instead.
    #[serde(default)]
    pub phase: Option<String>,
    /// Scores are divided by it before they become probabilities.
    #[serde(default = "usual_temperature")]
    pub temperature: f32,
    /// Factor of the distillation loss, which is added to that of the labels.
    #[serde(default = "usual_weight")]
    pub weight: f32,
}

fn usual_temperature() -> f32 {
    4.0
}

fn usual_weight() -> f32 {
    1.0
}

/// Scores that a SoftmaxWithLoss takes.
struct Head {
    /// Name of the softmax.
    name: String,
    scores: ValueId,
    classes: usize,
    inner: usize,
    /// Weight of the loss.
    weight: f32,
}

/// The teacher at work.
struct Teacher {
    engine: Box<dyn Engine>,
    id: NetId,
    /// The teacher's scores of each head.
    scores: Vec<ValueId>,
}

/// Distillation: a method beside those that prune.
pub struct Distillation {
    options: DistillationOptions,
    /// Definition of both networks.
    definition: Definition,
    heads: Vec<Head>,
    teacher: Option<Teacher>,
}

impl Distillation {
    /// Checks options; files are read when the run starts. `definition` has all phases.
    pub fn new(options: DistillationOptions, definition: &Definition) -> Result<Self> {
        let fine = |x: f32| x.is_finite() && x > 0.0;
        if !fine(options.temperature) || !fine(options.weight) {
            return Err(
                Error::new(format!("{} and {}", options.temperature, options.weight))
                    .field("temperature, weight")
                    .expected("more than 0"),
            );
        }
        if options.teacher.is_some() == options.phase.is_some() {
            return Err(Error::new("teacher and phase, or neither")
                .field("teacher")
                .expected("a caffemodel as teacher, or a phase of the recipe"));
        }
        Ok(Self {
            options,
            definition: definition.clone().in_phase(Phase::Test),
            heads: Vec::new(),
            teacher: None,
        })
    }

    fn open(&self, student: &Net, mut engine: Box<dyn Engine>) -> Result<Teacher> {
        let path = self.options.teacher.clone().unwrap_or_default();
        let weights = weights::read(&path)?;
        let blobs: Vec<Blob> = student
            .graph
            .inputs
            .iter()
            .map(|&id| Blob {
                name: student.graph.value(id).name.clone(),
                shape: student.graph.shape(id).clone(),
            })
            .collect();
        let files = std::slice::from_ref(&weights);
        let net = Net::new(&self.definition, files, &blobs, 0);
        let net = net.map_err(|error| error.file(&path))?;
        complete(&net, &weights).map_err(|error| error.file(&path))?;
        let theirs = heads(&net);
        let scores = self.heads.iter().map(|head| {
            let other = theirs.iter().find(|other| other.name == head.name);
            let fits = |other: &&Head| {
                let shapes = [
                    student.graph.shape(head.scores),
                    net.graph.shape(other.scores),
                ];
                shapes[0] == shapes[1]
            };
            other.filter(fits).map(|other| other.scores).ok_or_else(|| {
                Error::new("other scores, or none, in phase TEST")
                    .layer(head.name.clone())
                    .expected("the loss in both phases, of scores of one shape")
            })
        });
        let scores = scores.collect::<Result<Vec<_>>>()?;
        let id = engine.add(net)?;
        Ok(Teacher { engine, id, scores })
    }
}

/// Every parameter has its values from the file: none was filled.
fn complete(net: &Net, weights: &Weights) -> Result<()> {
    for parameter in &net.training.parameters {
        let Place { layer, index, .. } = &parameter.places[0];
        let mut layers = weights.layers();
        let found = layers.find(|(name, _)| name == layer);
        if found.is_none_or(|(_, arrays)| arrays <= *index) {
            return Err(Error::new("no weights")
                .layer(layer.clone())
                .expected("a teacher with weights of all layers"));
        }
    }
    Ok(())
}

/// Scores that are softmaxed for a loss.
fn heads(net: &Net) -> Vec<Head> {
    let graph = &net.graph;
    let loss_of = |value: ValueId| {
        let loss = graph
            .nodes
            .iter()
            .find(|node| matches!(node.op, Op::Loss(_)) && node.inputs.first() == Some(&value))?;
        let weighted = net
            .training
            .losses
            .iter()
            .find(|(id, _)| *id == loss.output);
        Some(weighted.map_or(1.0, |(_, weight)| *weight))
    };
    let mut heads = Vec::new();
    for node in &graph.nodes {
        let Op::Softmax { axis } = node.op else {
            continue;
        };
        let Some(weight) = loss_of(node.output) else {
            continue;
        };
        let shape = graph.shape(node.output);
        heads.push(Head {
            name: node.name.clone(),
            scores: node.inputs[0],
            classes: shape.dim(axis as usize) as usize,
            inner: shape.count_of(axis as usize + 1, shape.rank()),
            weight,
        });
    }
    heads
}

/// Gradient of T²·KL(teacher‖student) per item with respect to the student's scores, times `factor`; and
/// that loss, summed over the items.
fn compare(head: &Head, [student, teacher]: [&[f32]; 2], t: f32, factor: f32) -> (Vec<f32>, f64) {
    let (classes, inner) = (head.classes, head.inner);
    let mut gradient = vec![0.0; student.len()];
    let mut loss = 0.0;
    for first in (0..student.len()).step_by(classes * inner) {
        for place in first..first + inner {
            let at = |class: usize| place + class * inner;
            let logs = |scores: &[f32]| log_softmax((0..classes).map(|c| scores[at(c)] / t));
            let (p, q) = (logs(student), logs(teacher));
            for (class, (p, q)) in p.iter().zip(&q).enumerate() {
                let (p_share, q_share) = (p.exp(), q.exp());
                loss += f64::from(t * t) * q_share * (q - p);
                gradient[at(class)] = factor * t * (p_share - q_share) as f32;
            }
        }
    }
    (gradient, loss)
}

fn log_softmax(scores: impl Iterator<Item = f32> + Clone) -> Vec<f64> {
    let most = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    let shifted = scores.map(|score| f64::from(score - most));
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|score| score - sum.ln()).collect()
}

impl Method for Distillation {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        let student = run.engine.net(run.net);
        self.heads = heads(student);
        if self.heads.is_empty() {
            return Err(Error::new("a network without SoftmaxWithLoss")
                .expected("one, whose scores a teacher can explain"));
        }
        self.teacher = Some(self.open(student, run.engine.fresh()?)?);
        Ok(())
    }

    fn after_forward(&mut self, run: &mut Context<'_>, inputs: &[&Tensor]) -> Result<()> {
        let Some(teacher) = &mut self.teacher else {
            return Ok(());
        };
        teacher.engine.forward(teacher.id, inputs, 0)?;
        let (t, weight) = (self.options.temperature, self.options.weight);
        let mut total = 0.0;
        for (head, &scores) in self.heads.iter().zip(&teacher.scores) {
            let student = run.engine.value(run.net, head.scores);
            let items = (student.len() / head.classes).max(1) as f32;
            let scores = teacher.engine.value(teacher.id, scores);
            let factor = weight * head.weight / items;
            let (gradient, loss) = compare(head, [&student, &scores], t, factor);
            run.engine.seed_gradient(run.net, head.scores, gradient);
            total += loss * f64::from(factor);
        }
        let display = run.settings.display;
        if display > 0 && run.iteration.is_multiple_of(display) {
            run.report.metrics(&Metrics::Event {
                iteration: run.iteration,
                text: format!("distillation loss {total:.4}"),
                values: serde_json::json!({ "distillation_loss": total }),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let head = Head {
            name: "loss/softmax".to_owned(),
            scores: ValueId(0),
            classes: 3,
            inner: 2,
            weight: 1.0,
        };
        let student: Vec<f32> = (0..12).map(|i| (i * 5 % 7) as f32 * 0.4 - 1.0).collect();
        let teacher: Vec<f32> = (0..12).map(|i| (i * 3 % 5) as f32 * 0.7 - 1.0).collect();
        let (gradient, loss) = compare(&head, [&student, &teacher], 3.0, 1.0);
        assert!(loss > 0.0);
        let step = 1e-2;
        for index in 0..12 {
            let moved = |by: f32| {
                let mut scores = student.clone();
                scores[index] += by;
                compare(&head, [&scores, &teacher], 3.0, 1.0).1
            };
            let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            let found = f64::from(gradient[index]);
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        let (gradient, loss) = compare(&head, [&teacher, &teacher], 2.0, 1.0);
        assert!(loss.abs() < 1e-9 && gradient.iter().all(|g| *g == 0.0));
    }

    #[test]
    fn impossible_options_are_refused() {
        let options =
            |teacher: Option<&str>, phase: Option<&str>, temperature| DistillationOptions {
                teacher: teacher.map(Into::into),
                phase: phase.map(Into::into),
                temperature,
                weight: 1.0,
            };
        let net = Definition::default();
        assert!(Distillation::new(options(Some("a"), None, 4.0), &net).is_ok());
        for wrong in [
            options(None, None, 4.0),
            options(Some("a"), Some("b"), 4.0),
            options(Some("a"), None, 0.0),
            options(Some("a"), None, f32::NAN),
        ] {
            assert!(Distillation::new(wrong, &net).is_err());
        }
    }
}
