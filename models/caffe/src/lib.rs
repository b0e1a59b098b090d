//! Caffe's files: prototxt, caffemodel, solverstate, binaryproto, and weights in HDF5; how a network
//! becomes a [`skimjit_models::Graph`] ([`import`]); and the networks that are known by name ([`zoo`]).
//!
//! Who needs no messages takes values: a [`Definition`], [`Weights`], and what a [`solver`] definition says.
#![forbid(unsafe_code)]

pub mod binary;
pub mod blob;
pub mod datum;
mod definition;
pub mod fields;
pub mod filter;
mod foreign;
mod forms;
mod hdf5;
pub mod import;
pub mod limits;
pub mod paths;
#[rustfmt::skip]
#[allow(missing_docs, clippy::doc_markdown, clippy::large_enum_variant)]
pub mod proto;
mod rewrite;
mod scan;
#[allow(missing_docs)]
mod schema;
#[rustfmt::skip]
mod schema_table;
pub mod solver;
pub mod text;
pub mod unknown;
pub mod upgrade;
mod weights;
mod wire;
pub mod zoo;

pub use definition::Definition;
pub use foreign::{is_definition, is_text};
pub use forms::odd_names;
pub use hdf5::{Numbers, check_end as check_hdf5_end, read_numbers as read_hdf5_numbers};
pub use proto::Phase;
pub use weights::{Array, SolverState, Weights};

use foreign::Wanted;
use proto::{BlobProto, NetParameter, SolverParameter};
use schema_table::{BLOB_PROTO, NET_PARAMETER, SOLVER_STATE};
use skimjit_models::{Care, Error, Result, Tensor, Warning};
use std::path::Path;

/// Reads a network definition as it is written, old formats not yet upgraded. Unknown fields are
/// warnings.
pub fn read_prototxt(path: &Path) -> Result<(NetParameter, Vec<Warning>)> {
    read_text(path, |bytes| {
        let (net, warnings) = text::net(bytes)?;
        if net.layer.is_empty() && net.layers.is_empty() && text::is_solver(bytes) {
            return Err(Error::new("a solver definition")
                .expected("a network definition")
                .hint("give the file that its \"net\" field names"));
        }
        Ok((net, warnings))
    })
}

/// Parses a network definition; `name` stands for the file in errors and warnings.
pub fn parse_prototxt(text: &str, name: impl AsRef<Path>) -> Result<(NetParameter, Vec<Warning>)> {
    let parsed = or_foreign(text::net(text.as_bytes()), text.as_bytes());
    in_file(parsed, name.as_ref())
}

/// Reads a network definition, tells its warnings and brings it to today's form.
///
/// Unknown fields of layers stay with them, for [`unknown::refuse_in_layers`] once it is known which
/// layers are used, unless they are to be ignored.
pub fn read_definition(
    path: &Path,
    care: Care,
    tell: &mut dyn FnMut(&Warning),
) -> Result<NetParameter> {
    let (mut net, warnings) = read_prototxt(path)?;
    warnings.iter().for_each(tell);
    settle(&mut net, care);
    upgrade::upgrade_net(net).map_err(|error| error.file(path))
}

/// Reads a solver definition and tells its warnings; networks inside of it are as
/// [`read_definition`] leaves them, but not upgraded.
pub fn read_solver_definition(
    path: &Path,
    care: Care,
    tell: &mut dyn FnMut(&Warning),
) -> Result<SolverParameter> {
    let (mut solver, warnings) = read_solver(path)?;
    warnings.iter().for_each(tell);
    let nets = solver
        .net_param
        .iter_mut()
        .chain(&mut solver.train_net_param);
    nets.chain(&mut solver.test_net_param)
        .for_each(|net| settle(net, care));
    Ok(solver)
}

/// Drops the unknown fields that a warning is enough for.
fn settle(net: &mut NetParameter, care: Care) {
    match care.ignore_unknown_fields {
        true => unknown::forget(net),
        false => net.unknown_fields.clear(),
    }
}

/// Reads a solver definition, with `solver_type` already turned into `type`.
pub fn read_solver(path: &Path) -> Result<(SolverParameter, Vec<Warning>)> {
    let (mut solver, warnings) = read_text(path, text::solver)?;
    upgrade::upgrade_solver(&mut solver).map_err(|error| error.file(path))?;
    Ok((solver, warnings))
}

fn read_text<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<(T, Vec<Warning>)>,
) -> Result<(T, Vec<Warning>)> {
    let bytes = binary::read_file(path, Wanted::Definition.name())?;
    recognise(Wanted::Definition, path, &bytes)?;
    in_file(or_foreign(parse(&bytes), &bytes), path)
}

/// What is no text of this format may be that of another program.
fn or_foreign<T>(parsed: Result<T>, text: &[u8]) -> Result<T> {
    let other = || foreign::check(Wanted::Definition, Path::new(""), text).err();
    parsed.map_err(|error| other().unwrap_or(error))
}

/// Refuses what is a file of another kind.
fn recognise(wanted: Wanted, path: &Path, bytes: &[u8]) -> Result<()> {
    foreign::check(wanted, path, bytes).map_err(|error| error.file(path))
}

fn in_file<T>(parsed: Result<(T, Vec<Warning>)>, file: &Path) -> Result<(T, Vec<Warning>)> {
    let (message, warnings) = parsed.map_err(|error| error.file(file))?;
    Ok((
        message,
        warnings
            .into_iter()
            .map(|warning| warning.file(file))
            .collect(),
    ))
}

/// Reads a caffemodel as it is stored, old formats not yet upgraded. HDF5 files (`.caffemodel.h5`)
/// give layers of nothing but names and blobs.
pub fn read_caffemodel(path: &Path) -> Result<NetParameter> {
    parse_caffemodel(binary::read_file(path, Wanted::Weights.name())?, path)
}

/// Parses the contents of a caffemodel; `name` stands for the file in errors.
pub fn parse_caffemodel(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<NetParameter> {
    let name = name.as_ref();
    recognise(Wanted::Weights, name, &bytes)?;
    let net = if is_hdf5(name, &bytes) {
        hdf5::parse(bytes)
    } else {
        binary::parse(bytes, NET_PARAMETER)
    };
    net.map_err(|error| error.file(name))
}

fn is_hdf5(path: &Path, bytes: &[u8]) -> bool {
    bytes.starts_with(hdf5::SIGNATURE) || path.extension().is_some_and(|e| e == "h5")
}

/// Writes a caffemodel.
pub fn write_caffemodel(net: &NetParameter, path: &Path) -> Result<()> {
    binary::write(path, net, NET_PARAMETER)
}

/// Writes the weights of a network in HDF5 (`.caffemodel.h5`), as HDF5 1.8 reads it.
pub fn write_caffemodel_hdf5(net: &NetParameter, path: &Path) -> Result<()> {
    hdf5::write_weights(net, path).map_err(|error| error.file(path))
}

/// Reads a solver's state (`.solverstate`, or `.solverstate.h5` in HDF5).
pub fn read_solverstate(path: &Path) -> Result<proto::SolverState> {
    let bytes = binary::read_file(path, Wanted::State.name())?;
    recognise(Wanted::State, path, &bytes)?;
    let state = if is_hdf5(path, &bytes) {
        hdf5::parse_state(bytes)
    } else {
        binary::parse(bytes, SOLVER_STATE)
    };
    state.map_err(|error| error.file(path))
}

/// Writes a solver's state in HDF5 (`.solverstate.h5`).
pub fn write_solverstate_hdf5(state: &proto::SolverState, path: &Path) -> Result<()> {
    hdf5::write_state(state, path).map_err(|error| error.file(path))
}

/// Writes a solver's state.
pub fn write_solverstate(state: &proto::SolverState, path: &Path) -> Result<()> {
    binary::write(path, state, SOLVER_STATE)
}

/// Reads a file of one array (`.binaryproto`), in the shape as stored.
pub fn read_binaryproto(path: &Path) -> Result<Tensor> {
    let bytes = binary::read_file(path, Wanted::Array.name())?;
    recognise(Wanted::Array, path, &bytes)?;
    let blob = binary::parse::<BlobProto>(bytes, BLOB_PROTO);
    let mut blob = blob.map_err(|error| error.file(path))?;
    blob::take_tensor(&mut blob).map_err(|error| error.file(path))
}

/// Writes a file of one array.
pub fn write_binaryproto(tensor: Tensor, path: &Path) -> Result<()> {
    binary::write(path, &blob::from_tensor(tensor), BLOB_PROTO)
}

/// Writes a mean image of 1 × channels × height × width, with its shape as Caffe's own tool stores it.
pub fn write_mean(mean: Tensor, path: &Path) -> Result<()> {
    let size = |axis: usize| i32::try_from(mean.shape().dim(axis)).ok();
    let (num, channels, height, width) = (size(0), size(1), size(2), size(3));
    let blob = BlobProto {
        num,
        channels,
        height,
        width,
        data: mean.into_data(),
        ..BlobProto::default()
    };
    binary::write(path, &blob, BLOB_PROTO)
}

/// Reads a mean image: 1 × channels × height × width.
pub fn read_mean(path: &Path) -> Result<Tensor> {
    let mean = read_binaryproto(path)?;
    let dims = match *mean.shape().dims() {
        [1, c, h, w] | [c, h, w] => [1, c, h, w],
        _ => {
            return Err(Error::new(format!("a shape of {}", mean.shape()))
                .file(path)
                .expected("one image: channels, height, width"));
        }
    };
    let shape = skimjit_models::Shape::new(dims).map_err(|error| error.file(path))?;
    Ok(Tensor::new(shape, mean.into_data()))
}
