//! Layers that bring data: Input, MemoryData, DummyData, Parameter, and the refusal of those that read
//! files; and HDF5Output, which takes it away.

use super::filler;
use super::layer::{Layer, param};
use super::store::Wanted;
use crate::proto::{BlobShape, DummyDataParameter};
use skimjit_models::{Error, Op, Result, Shape};

/// Input: every top is a network input.
pub(super) fn input(layer: &mut Layer<'_>) -> Result<()> {
    let shapes = param(&layer.def.input_param).shape;
    let field = "input_param.shape";
    if shapes.len() > 1 && shapes.len() != layer.tops() {
        return Err(layer
            .fault(field, format!("{} shapes", shapes.len()))
            .expected(format!("1 or {}, one per top", layer.tops())));
    }
    for top in 0..layer.tops() {
        let Some(shape) = shapes.get(top).or(shapes.first()) else {
            return Err(layer
                .fault(field, "no dims")
                .expected("a shape")
                .hint("pass --input-shape"));
        };
        let shape = checked(shape).map_err(|error| error.layer(layer.def.name()).field(field))?;
        layer.network_input(top, shape);
    }
    Ok(())
}

/// MemoryData: data and labels come from outside.
pub(super) fn memory_data(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.memory_data_param);
    let field = "memory_data_param";
    let dims = vec![p.batch_size(), p.channels(), p.height(), p.width()];
    let data = layer.checked_shape(field, dims)?;
    let labels = layer.checked_shape(field, vec![p.batch_size()])?;
    layer.network_input(0, data);
    if layer.tops() > 1 {
        layer.network_input(1, labels);
    }
    Ok(())
}

/// Data, ImageData, HDF5Data: refused unless the options turned them into inputs before.
pub(super) fn file_data(layer: &mut Layer<'_>) -> Result<()> {
    let kind = layer.def.r#type().to_owned();
    Err(layer
        .fault("type", format!("{kind}, which reads files"))
        .expected("an Input layer")
        .hint("put an Input layer in its place, or import with `ImportOptions::data_to_input`"))
}

/// Most elements of a constant that a definition alone makes.
const MAX_DUMMY_COUNT: usize = 1 << 28;

/// DummyData: constants.
pub(super) fn dummy_data(layer: &mut Layer<'_>) -> Result<()> {
    let dummy = param(&layer.def.dummy_data_param);
    let fillers = &dummy.data_filler;
    if fillers.len() > 1 && fillers.len() != layer.tops() {
        return Err(layer
            .fault(
                "dummy_data_param.data_filler",
                format!("{} fillers", fillers.len()),
            )
            .expected(format!("none, 1 or {}, one per top", layer.tops())));
    }
    for top in 0..layer.tops() {
        let shape = dummy_shape(layer, &dummy, top)?;
        if shape.count() > MAX_DUMMY_COUNT {
            return Err(layer
                .fault("dummy_data_param.shape", format!("shape {shape}"))
                .expected(format!("at most {MAX_DUMMY_COUNT} elements")));
        }
        let filler = fillers
            .get(top)
            .or(fillers.first())
            .cloned()
            .unwrap_or_default();
        if filler::is_random(&filler) {
            layer.warn(format!(
                "its {} filler draws once, when the network is loaded; Caffe draws for every run",
                filler.r#type()
            ));
        }
        let stream = filler::stream(layer.def.name(), top);
        let tensor = filler::fill(&filler, shape, stream).map_err(|error| {
            error
                .layer(layer.def.name())
                .field("dummy_data_param.data_filler")
        })?;
        let constant = layer.constant(tensor);
        layer.top(top, Op::Constant(constant), Vec::new())?;
    }
    Ok(())
}

/// Parameter: a learned blob.
pub(super) fn parameter(layer: &mut Layer<'_>) -> Result<()> {
    let field = "parameter_param.shape";
    let Some(shape) = param(&layer.def.parameter_param).shape else {
        return Err(layer.fault(field, "nothing").expected("dims"));
    };
    let shape = checked(&shape).map_err(|error| error.layer(layer.def.name()).field(field))?;
    let ids = layer.weights(&[Wanted::new(shape, None)])?;
    layer.top(0, Op::Constant(ids[0]), Vec::new()).map(drop)
}

/// HDF5Output: its operands are results of the network; nothing is written on the way.
pub(super) fn hdf5_output(layer: &mut Layer<'_>) -> Result<()> {
    (0..layer.inputs.len()).for_each(|bottom| layer.keep_as_result(bottom));
    let file = param(&layer.def.hdf5_output_param).file_name().to_owned();
    let bottoms = layer.def.bottom.join(", ");
    layer.warn(format!(
        "{file:?} is not written; {bottoms} are results of the network"
    ));
    Ok(())
}

fn dummy_shape(layer: &Layer<'_>, dummy: &DummyDataParameter, top: usize) -> Result<Shape> {
    let at_layer = |field: &str, error: Error| error.layer(layer.def.name()).field(field);
    let check = |field: &str, len: usize| match len {
        1 => Ok(()),
        len if len == layer.tops() => Ok(()),
        _ => Err(layer
            .fault(field, format!("{len} values"))
            .expected(format!("1 or {}, one per top", layer.tops()))),
    };
    let legacy = [&dummy.num, &dummy.channels, &dummy.height, &dummy.width];
    if legacy.iter().all(|list| list.is_empty()) {
        let field = "dummy_data_param.shape";
        check(field, dummy.shape.len())?;
        let shape = dummy
            .shape
            .get(top)
            .or(dummy.shape.first())
            .cloned()
            .unwrap_or_default();
        return checked(&shape).map_err(|error| at_layer(field, error));
    }
    if !dummy.shape.is_empty() {
        return Err(layer
            .fault(
                "dummy_data_param.shape",
                "shape together with num, channels, height, width",
            )
            .expected("one or the other"));
    }
    let mut dims = Vec::new();
    for (name, list) in ["num", "channels", "height", "width"].iter().zip(legacy) {
        check(&format!("dummy_data_param.{name}"), list.len())?;
        dims.extend(list.get(top).or(list.first()));
    }
    layer.checked_shape("dummy_data_param.num", dims)
}

/// Checks the dims of a shape message.
pub(super) fn checked(shape: &BlobShape) -> Result<Shape> {
    let dim = |&dim: &i64| {
        u32::try_from(dim)
            .map_err(|_| Error::new(format!("dim {dim}")).expected(format!("1 to {}", u32::MAX)))
    };
    Shape::new(shape.dim.iter().map(dim).collect::<Result<Vec<u32>>>()?)
}
