//! Losses and Accuracy.

use super::layer::{Layer, param};
use super::normalization::softmax_axis;
use crate::proto::hinge_loss_parameter::Norm;
use crate::proto::loss_parameter::NormalizationMode;
use skimjit_models::ops::{Accuracy, Loss, Normalization};
use skimjit_models::{Error, Op, Result, Tensor, ValueId, WeightId};

/// SoftmaxWithLoss: a Softmax, which is the second top if there is one, and the loss of it.
pub(super) fn softmax_with_loss(layer: &mut Layer<'_>) -> Result<()> {
    let axis = softmax_axis(layer)?;
    let (ignore_label, normalization) = loss_param(layer, Normalization::Valid);
    let loss = Loss::SoftmaxWithLoss {
        axis,
        ignore_label,
        normalization,
    };
    with_softmax(layer, axis, loss)
}

fn with_softmax(layer: &mut Layer<'_>, axis: u32, loss: Loss) -> Result<()> {
    let scores = vec![layer.inputs[0]];
    let softmax = Op::Softmax { axis };
    let probabilities = match layer.tops() {
        0 | 1 => layer.hidden("softmax", softmax, scores)?,
        _ => layer.top(1, softmax, scores)?,
    };
    let mut operands: Vec<ValueId> = layer.inputs.clone();
    operands[0] = probabilities;
    layer.top(0, Op::Loss(loss), operands).map(drop)
}

/// EuclideanLoss.
pub(super) fn euclidean(layer: &mut Layer<'_>) -> Result<()> {
    layer.node(Op::Loss(Loss::Euclidean))
}

/// SigmoidCrossEntropyLoss.
pub(super) fn sigmoid_cross_entropy(layer: &mut Layer<'_>) -> Result<()> {
    let (ignore_label, normalization) = loss_param(layer, Normalization::BatchSize);
    layer.node(Op::Loss(Loss::SigmoidCrossEntropy {
        ignore_label,
        normalization,
    }))
}

/// HingeLoss.
pub(super) fn hinge(layer: &mut Layer<'_>) -> Result<()> {
    let l2 = param(&layer.def.hinge_loss_param).norm() == Norm::L2;
    layer.node(Op::Loss(Loss::Hinge { l2 }))
}

/// MultinomialLogisticLoss.
pub(super) fn multinomial_logistic(layer: &mut Layer<'_>) -> Result<()> {
    layer.node(Op::Loss(Loss::MultinomialLogistic))
}

/// ContrastiveLoss.
pub(super) fn contrastive(layer: &mut Layer<'_>) -> Result<()> {
    let contrastive = param(&layer.def.contrastive_loss_param);
    let (margin, legacy) = (contrastive.margin(), contrastive.legacy_version());
    layer.node(Op::Loss(Loss::Contrastive { margin, legacy }))
}

/// InfogainLoss. SkimCaffe's operands are probabilities; BVLC's later version computes them from
/// scores itself and is the only one with an axis and a second top, by which it is recognised.
pub(super) fn infogain(layer: &mut Layer<'_>) -> Result<()> {
    let infogain = param(&layer.def.infogain_loss_param);
    let scores = infogain.axis.is_some() || layer.tops() > 1;
    let axis = layer.axis("infogain_loss_param.axis", infogain.axis(), &layer.shape(0))?;
    let matrix = match layer.inputs.len() {
        2 => Some(infogain_matrix(layer, infogain.source())?),
        _ => None,
    };
    if scores {
        let (ignore_label, normalization) = loss_param(layer, Normalization::Valid);
        return with_softmax(
            layer,
            axis,
            Loss::Infogain {
                matrix,
                axis,
                ignore_label,
                normalization,
            },
        );
    }
    let (ignore_label, normalization) = loss_param(layer, Normalization::BatchSize);
    layer.node(Op::Loss(Loss::Infogain {
        matrix,
        axis,
        ignore_label,
        normalization,
    }))
}

fn infogain_matrix(layer: &mut Layer<'_>, source: &str) -> Result<WeightId> {
    let field = "infogain_loss_param.source";
    if source.is_empty() {
        return Err(layer
            .fault(field, "nothing")
            .expected("the file of the matrix, or the matrix as third bottom"));
    }
    let paths = layer.paths_of(source);
    let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
    let matrix = read_matrix(path).map_err(|error| error.layer(layer.def.name()).field(field))?;
    Ok(layer.constant(matrix))
}

fn read_matrix(path: &std::path::Path) -> Result<Tensor> {
    let at_file = |error: Error| error.file(path);
    crate::read_binaryproto(path).map_err(at_file)
}

/// `loss_param`: ignored label and divisor.
fn loss_param(layer: &Layer<'_>, default: Normalization) -> (Option<i32>, Normalization) {
    let loss = param(&layer.def.loss_param);
    let normalization = match (loss.normalization, loss.normalize) {
        (Some(_), _) => match loss.normalization() {
            NormalizationMode::Full => Normalization::Full,
            NormalizationMode::Valid => Normalization::Valid,
            NormalizationMode::BatchSize => Normalization::BatchSize,
            NormalizationMode::None => Normalization::None,
        },
        (None, Some(true)) => Normalization::Valid,
        (None, Some(false)) => Normalization::BatchSize,
        (None, None) => default,
    };
    (loss.ignore_label, normalization)
}

/// Accuracy; the second top is the accuracy of each class.
pub(super) fn accuracy(layer: &mut Layer<'_>) -> Result<()> {
    let accuracy = param(&layer.def.accuracy_param);
    let axis = layer.axis("accuracy_param.axis", accuracy.axis(), &layer.shape(0))?;
    let top_k = layer.positive("accuracy_param.top_k", Some(accuracy.top_k()))?;
    let ignore_label = accuracy.ignore_label;
    let operands = layer.inputs.clone();
    for top in 0..layer.tops() {
        let per_class = top == 1;
        let op = Accuracy {
            top_k,
            axis,
            ignore_label,
            per_class,
        };
        layer.top(top, Op::Accuracy(op), operands.clone())?;
    }
    Ok(())
}
