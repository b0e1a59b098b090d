//! Old formats become today's: the pipeline that every net from any file goes through.

mod v0;
mod v1;

use super::proto::solver_parameter::SolverType;
use super::proto::{BlobShape, InputParameter, LayerParameter, NetParameter, SolverParameter};
use skimjit_models::{Error, Result};

/// Upgrades a net to layers of today's form: V0 layers, V1 layers, inputs outside of layers, and
/// parameters of BatchNorm layers, in this order. A net of today's form is returned as it is.
///
/// Inputs without dims, as caffemodels have them, are dropped.
pub fn upgrade_net(mut net: NetParameter) -> Result<NetParameter> {
    if !net.layers.is_empty() && !net.layer.is_empty() {
        return Err(Error::new("both \"layer\" and \"layers\"")
            .field("layers")
            .expected("layers of one format")
            .hint("upgrade the old ones by hand"));
    }
    let old = std::mem::take(&mut net.layers);
    if old.iter().any(|layer| layer.layer.is_some()) {
        net.layers = v0::upgrade(old)?;
    } else {
        net.layers = old;
    }
    for layer in std::mem::take(&mut net.layers) {
        net.layer.push(v1::upgrade(layer)?);
    }
    upgrade_inputs(&mut net)?;
    net.layer.iter_mut().for_each(upgrade_batch_norm);
    Ok(net)
}

/// Inputs outside of layers become one Input layer, which comes first.
fn upgrade_inputs(net: &mut NetParameter) -> Result<()> {
    let names = std::mem::take(&mut net.input);
    let mut shapes = std::mem::take(&mut net.input_shape);
    let dims = std::mem::take(&mut net.input_dim);
    if names.is_empty() || (shapes.is_empty() && dims.is_empty()) {
        return Ok(());
    }
    if shapes.is_empty() {
        if dims.len() != 4 * names.len() {
            return Err(Error::new(format!("{} numbers", dims.len()))
                .field("input_dim")
                .expected(format!("4 for each of {} inputs", names.len())));
        }
        let shape = |dims: &[i32]| BlobShape {
            dim: dims.iter().map(|&dim| dim.into()).collect(),
            ..BlobShape::default()
        };
        shapes = dims.chunks(4).map(shape).collect();
    } else if shapes.len() != names.len() {
        return Err(Error::new(format!("{} shapes", shapes.len()))
            .field("input_shape")
            .expected(format!("{}, one for each input", names.len())));
    }
    let layer = LayerParameter {
        name: Some("input".to_owned()),
        r#type: Some("Input".to_owned()),
        top: names,
        input_param: Some(Box::new(InputParameter {
            shape: shapes,
            ..InputParameter::default()
        })),
        ..LayerParameter::default()
    };
    net.layer.insert(0, layer);
    Ok(())
}

/// The statistics of a BatchNorm layer are never learned, whatever old files say.
fn upgrade_batch_norm(layer: &mut LayerParameter) {
    if layer.r#type() == "BatchNorm" && layer.param.len() == 3 {
        for spec in &mut layer.param {
            spec.lr_mult = Some(0.0);
            spec.decay_mult = Some(0.0);
        }
    }
}

/// `solver_type` becomes `type`.
pub fn upgrade_solver(solver: &mut SolverParameter) -> Result<()> {
    let Some(old) = solver.solver_type.take() else {
        return Ok(());
    };
    if solver.r#type.is_some() {
        return Err(Error::new("both \"solver_type\" and \"type\"")
            .field("solver_type")
            .expected("one of them"));
    }
    let name = match SolverType::try_from(old) {
        Ok(SolverType::Sgd) => "SGD",
        Ok(SolverType::Nesterov) => "Nesterov",
        Ok(SolverType::Adagrad) => "AdaGrad",
        Ok(SolverType::Rmsprop) => "RMSProp",
        Ok(SolverType::Adadelta) => "AdaDelta",
        Ok(SolverType::Adam) => "Adam",
        Err(_) => {
            return Err(Error::new(old.to_string())
                .field("solver_type")
                .expected("0 to 5"));
        }
    };
    solver.r#type = Some(name.to_owned());
    Ok(())
}
