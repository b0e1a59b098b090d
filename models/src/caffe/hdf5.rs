//! Weights in HDF5 files: `/data/<layer>/<blob index>`, one float dataset each.

use super::proto::{BlobProto, BlobShape, LayerParameter, NetParameter};
use crate::{Error, Result, Shape};
use hdf5_pure::{File, Group};

/// Blobs of one layer. Caffe's own layers have at most 5.
const MAX_BLOBS: usize = 64;
/// Groups inside each other, for layer names with slashes.
const MAX_DEPTH: usize = 16;

/// Bytes that every HDF5 file begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads layer names and blobs from the contents of a file.
pub(super) fn parse(bytes: Vec<u8>) -> Result<NetParameter> {
    let file = File::from_bytes(bytes).map_err(|error| unreadable(&error))?;
    let data = file.root().group("data").map_err(|_| {
        Error::new("no group \"data\"").expected("a .caffemodel.h5 file").hint(
            "HDF5 files of images (HDF5Data layers) and of solver states hold no network weights",
        )
    })?;
    let mut net = NetParameter::default();
    collect(&data, String::new(), 0, &mut net.layer)?;
    Ok(net)
}

/// Adds the layer of a group, when it holds blobs, and those of the groups inside it: HDF5 takes a
/// layer name with slashes for a path.
fn collect(
    group: &Group,
    name: String,
    depth: usize,
    layers: &mut Vec<LayerParameter>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(
            Error::new(format!("groups {depth} deep")).expected(format!("at most {MAX_DEPTH}"))
        );
    }
    let blobs = blobs(group).map_err(|error| error.layer(&name))?;
    if !blobs.is_empty() {
        layers.push(LayerParameter {
            name: Some(name.clone()),
            blobs,
            ..LayerParameter::default()
        });
    }
    for child in group.groups().map_err(|error| unreadable(&error))? {
        let inner = group.group(&child).map_err(|error| unreadable(&error))?;
        let name = if name.is_empty() {
            child
        } else {
            format!("{name}/{child}")
        };
        collect(&inner, name, depth + 1, layers)?;
    }
    Ok(())
}

/// The datasets "0", "1", … of a group. One that is missing between others (a shared parameter that
/// another layer owns) becomes an empty blob.
fn blobs(group: &Group) -> Result<Vec<BlobProto>> {
    let mut blobs = Vec::new();
    for name in group.datasets().map_err(|error| unreadable(&error))? {
        let index = name
            .parse::<usize>()
            .ok()
            .filter(|&index| index < MAX_BLOBS);
        let index = index.ok_or_else(|| {
            Error::new(format!("dataset {name:?}"))
                .expected(format!("a blob index of 0 to {}", MAX_BLOBS - 1))
        })?;
        let blob = blob(group, &name).map_err(|error| error.field(format!("blobs[{index}]")))?;
        if blobs.len() <= index {
            blobs.resize(index + 1, BlobProto::default());
        }
        if let Some(slot) = blobs.get_mut(index) {
            *slot = blob;
        }
    }
    Ok(blobs)
}

fn blob(group: &Group, name: &str) -> Result<BlobProto> {
    let dataset = group.dataset(name).map_err(|error| unreadable(&error))?;
    let dims = dataset.shape().map_err(|error| unreadable(&error))?;
    // Checked before anything is allocated.
    let small: Option<Vec<u32>> = dims.iter().map(|&dim| u32::try_from(dim).ok()).collect();
    let small =
        small.ok_or_else(|| Error::new(format!("dims {dims:?}")).expected("dims of 32 bits"))?;
    let shape = Shape::new(small)?;
    let data = dataset.read_f32().map_err(|error| unreadable(&error))?;
    if data.len() != shape.count() {
        return Err(Error::new(format!("{} values", data.len()))
            .expected(format!("{}, as its shape {shape} says", shape.count())));
    }
    let dim = shape.dims().iter().map(|&dim| dim.into()).collect();
    Ok(BlobProto {
        shape: Some(BlobShape { dim }),
        data,
        ..BlobProto::default()
    })
}

fn unreadable(error: &hdf5_pure::Error) -> Error {
    Error::new(format!("HDF5 that cannot be read ({error})"))
        .hint("the file is cut off, damaged, or uses a feature of HDF5 that Caffe does not")
}
