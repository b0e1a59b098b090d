//! Writing: what Caffe's own HDF5 snapshots look like.

use crate::blob::{is_absent, take_tensor};
use crate::limits::{MAX_HDF5_BLOBS, MAX_HDF5_DEPTH};
use crate::proto::{BlobProto, NetParameter, SolverState};
use hdf5_pure::{CharacterSet, Datatype, FileBuilder, GroupBuilder, LibVer, StringPadding};
use skimjit_host::{octets, whole};
use skimjit_models::{Error, Result, Shape};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `/data`, and `/diff` where blobs have gradients.
pub(crate) fn write_weights(net: &NetParameter, path: &Path) -> Result<()> {
    let mut data = Tree::default();
    let mut diff = Tree::default();
    for layer in net.layer.iter().filter(|layer| !layer.blobs.is_empty()) {
        let at = |error: Error| error.layer(layer.name());
        if layer.blobs.len() > MAX_HDF5_BLOBS {
            return Err(at(Error::new(format!("{} blobs", layer.blobs.len()))
                .expected(format!("at most {MAX_HDF5_BLOBS}"))));
        }
        if octets::any_in(layer.name()) {
            return Err(at(Error::new("a name that is not UTF-8")
                .expected("UTF-8, as HDF5 has names")
                .hint("write a .caffemodel, or rename the layer")));
        }
        data.add(layer.name(), &layer.blobs).map_err(at)?;
        if layer.blobs.iter().any(|blob| !blob.diff.is_empty()) {
            diff.add(layer.name(), &layer.blobs).map_err(at)?;
        }
    }
    let mut file = builder();
    let mut group = file.create_group("data");
    data.write(&mut group, values)?;
    file.add_group(group.finish());
    if !diff.children.is_empty() {
        let mut group = file.create_group("diff");
        diff.write(&mut group, gradients)?;
        file.add_group(group.finish());
    }
    write(file, path)
}

/// Writes the state of a solver.
pub(crate) fn write_state(state: &SolverState, path: &Path) -> Result<()> {
    let mut file = builder();
    file.create_dataset("iter").with_i32_data(&[state.iter()]);
    file.create_dataset("current_step")
        .with_i32_data(&[state.current_step()]);
    let mut text = octets::bytes(state.learned_net()).into_owned();
    text.push(0);
    let kind = Datatype::String {
        size: u32::try_from(text.len())
            .map_err(|_| Error::new("a path of 4 GiB").field("learned_net"))?,
        padding: StringPadding::NullTerminate,
        charset: CharacterSet::Ascii,
    };
    file.create_dataset("learned_net")
        .with_raw_data(kind, text, 1)
        .with_shape(&[]);
    let mut history = file.create_group("history");
    for (number, blob) in state.history.iter().enumerate() {
        let add = add_dataset(&mut history, number, values(blob));
        add.map_err(|error| error.field(format!("history[{number}]")))?;
    }
    file.add_group(history.finish());
    write(file, path)
}

fn write(file: FileBuilder, path: &Path) -> Result<()> {
    let bytes = file.finish().map_err(|error| unwritable(&error))?;
    whole::write(path, bytes).map_err(|error| Error::unwritable(path, &error))
}

/// As the library that Caffe was written for reads it.
fn builder() -> FileBuilder {
    let mut file = FileBuilder::new();
    file.with_libver_bounds(LibVer::Earliest, LibVer::V18);
    file
}

/// Groups by the parts of layer names: HDF5 takes a name with slashes for a path.
#[derive(Default)]
struct Tree<'a> {
    blobs: &'a [BlobProto],
    children: BTreeMap<&'a str, Tree<'a>>,
}

impl<'a> Tree<'a> {
    fn add(&mut self, name: &'a str, blobs: &'a [BlobProto]) -> Result<()> {
        let parts = name.split('/').filter(|part| !part.is_empty());
        let mut place = self;
        for (depth, part) in parts.enumerate() {
            if depth >= MAX_HDF5_DEPTH {
                return Err(Error::new("a name of too many parts")
                    .expected(format!("at most {MAX_HDF5_DEPTH} between slashes")));
            }
            place = place.children.entry(part).or_default();
        }
        place.blobs = blobs;
        Ok(())
    }

    fn write(&self, group: &mut GroupBuilder, of: fn(&BlobProto) -> Values) -> Result<()> {
        for (index, blob) in self.blobs.iter().enumerate() {
            if !is_absent(blob) {
                add_dataset(group, index, of(blob))
                    .map_err(|error| error.field(format!("blobs[{index}]")))?;
            }
        }
        for (name, child) in &self.children {
            let mut inner = group.create_group(name);
            child.write(&mut inner, of)?;
            group.add_group(inner.finish());
        }
        Ok(())
    }
}

type Values = Result<(Shape, Vec<f32>)>;

fn values(blob: &BlobProto) -> Values {
    let tensor = take_tensor(&mut blob.clone())?;
    Ok((tensor.shape().clone(), tensor.into_data()))
}

fn gradients(blob: &BlobProto) -> Values {
    let shape = crate::blob::shape(blob)?;
    let mut data = blob.diff.clone();
    // Of a blob without gradients, they are zero.
    data.resize(shape.count(), 0.0);
    Ok((shape, data))
}

fn add_dataset(group: &mut GroupBuilder, number: usize, values: Values) -> Result<()> {
    let (shape, data) = values?;
    let dims: Vec<u64> = shape.dims().iter().map(|&dim| dim.into()).collect();
    group
        .create_dataset(&number.to_string())
        .with_f32_data(&data)
        .with_shape(&dims);
    Ok(())
}

fn unwritable(error: &hdf5_pure::Error) -> Error {
    Error::new(format!("HDF5 that cannot be written ({error})"))
        .hint("check the folder and the free space")
}
