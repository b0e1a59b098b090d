//! Weights in HDF5 files: `/data/<layer>/<blob index>`, one float dataset each; and solver states.

mod end;
mod numbers;
mod state;
mod write;

pub use end::check_end;
pub use numbers::{Numbers, read_numbers};
use numbers::{check_numbers, check_size};
pub(super) use state::parse_state;
pub(super) use write::{write_state, write_weights};

use super::blob;
use super::limits::{BASE_MEMORY, HDF5_MEMORY, MAX_HDF5_BLOBS, MAX_HDF5_DEPTH, MAX_HDF5_GROUPS};
use super::proto::{BlobProto, LayerParameter, NetParameter};
use hdf5_pure::{Dataset, File, FormatError, Group};
use skimjit_host::{foreign, memory};
use skimjit_models::{Error, Result, Shape, Tensor};

/// Bytes that every HDF5 file begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads layer names and blobs from the contents of a file.
pub(super) fn parse(bytes: Vec<u8>) -> Result<NetParameter> {
    checked(|| parse_weights(bytes))
}

/// The result of `work`, or an error where the library panics.
fn checked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let gave_up = |_| Error::new("HDF5 that cannot be read").hint("the file is damaged");
    foreign::call(work).map_err(gave_up)?
}

fn parse_weights(bytes: Vec<u8>) -> Result<NetParameter> {
    let mut reader = Reader {
        memory: BASE_MEMORY + bytes.len() as u64 * HDF5_MEMORY,
        groups: MAX_HDF5_GROUPS,
        layers: Vec::new(),
    };
    memory::check(bytes.len() as u64)?;
    check_end(&bytes, bytes.len() as u64)?;
    let file = File::from_bytes(bytes).map_err(|error| unreadable(&error))?;
    let data = file.root().group("data").map_err(|error| match error {
        hdf5_pure::Error::Format(FormatError::PathNotFound(_)) | hdf5_pure::Error::NotAGroup(_) => {
            no_weights()
        }
        error => unreadable(&error),
    })?;
    reader.collect(&data, String::new(), 0)?;
    Ok(NetParameter {
        layer: reader.layers,
        ..NetParameter::default()
    })
}

fn no_weights() -> Error {
    Error::new("no group \"data\"")
        .expected("a .caffemodel.h5 file")
        .hint("HDF5 files of images (HDF5Data layers) and of solver states hold no network weights")
}

/// Collects layers, within limits: links can make a small file look endless.
struct Reader {
    /// Bytes of weights that may still be read.
    memory: u64,
    /// Groups that may still be entered.
    groups: usize,
    layers: Vec<LayerParameter>,
}

impl Reader {
    /// Adds the layer of a group, when it holds blobs, and those of the groups inside it: HDF5 takes
    /// a layer name with slashes for a path.
    fn collect(&mut self, group: &Group, name: String, depth: usize) -> Result<()> {
        self.groups = self
            .groups
            .checked_sub(1)
            .filter(|_| depth <= MAX_HDF5_DEPTH)
            .ok_or_else(|| {
                Error::new(format!("groups {depth} deep, and more than can be layers")).expected(
                    format!("at most {MAX_HDF5_GROUPS} groups, {MAX_HDF5_DEPTH} deep"),
                )
            })?;
        let in_layer = |error: Error| match name.as_str() {
            "" => error.field("/data"),
            name => error.layer(name),
        };
        let blobs = self.blobs(group).map_err(in_layer)?;
        if !blobs.is_empty() {
            let name = Some(name.clone());
            self.layers.push(LayerParameter {
                name,
                blobs,
                ..LayerParameter::default()
            });
        }
        let children = group.groups().map_err(|error| unreadable(&error));
        for child in children.map_err(in_layer)? {
            // What the library makes of bytes that are no UTF-8: two names may be one then.
            if child.contains(char::REPLACEMENT_CHARACTER) {
                return Err(Error::new(format!("a group called {child:?}"))
                    .expected("names in UTF-8")
                    .hint("write the weights as a .caffemodel, which may have any names"));
            }
            let inner = group.group(&child).map_err(|error| unreadable(&error));
            let inner = inner.map_err(|error| error.field(format!("/data/{name}/{child}")))?;
            let name = if name.is_empty() {
                child
            } else {
                format!("{name}/{child}")
            };
            self.collect(&inner, name, depth + 1)?;
        }
        Ok(())
    }

    /// The datasets "0", "1", … of a group. One that is missing between others (a shared parameter
    /// that another layer owns) becomes an empty blob.
    fn blobs(&mut self, group: &Group) -> Result<Vec<BlobProto>> {
        let mut blobs = Vec::new();
        for name in group.datasets().map_err(|error| unreadable(&error))? {
            let index = name
                .parse::<usize>()
                .ok()
                .filter(|&index| index < MAX_HDF5_BLOBS);
            let index = index.ok_or_else(|| {
                Error::new(format!("dataset {name:?}"))
                    .expected(format!("a blob index of 0 to {}", MAX_HDF5_BLOBS - 1))
            })?;
            let blob = self.blob(group, &name);
            let blob = blob.map_err(|error| error.field(format!("blobs[{index}]")))?;
            if blobs.len() <= index {
                blobs.resize(index + 1, BlobProto::default());
            }
            if let Some(slot) = blobs.get_mut(index) {
                *slot = blob;
            }
        }
        Ok(blobs)
    }

    fn blob(&mut self, group: &Group, name: &str) -> Result<BlobProto> {
        let dataset = group.dataset(name).map_err(|error| unreadable(&error))?;
        read_blob(&dataset, &mut self.memory)
    }
}

/// Reads a dataset of numbers, which takes its bytes from `memory`.
fn read_blob(dataset: &Dataset, memory: &mut u64) -> Result<BlobProto> {
    let Numbers { dims, values } = read_numbers(dataset, memory)?;
    Ok(blob::from_tensor(Tensor::new(Shape::new(dims)?, values)))
}

fn unreadable(error: &hdf5_pure::Error) -> Error {
    Error::new(format!("HDF5 that cannot be read ({error})"))
        .hint("the file is cut off, damaged, or uses a feature of HDF5 that Caffe does not")
}
