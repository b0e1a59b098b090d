//! Named tensors, and the files that hold them.

use safetensors::tensor::{Dtype, View};
use skimjit::array;
use skimjit::models::caffe::{blob, proto::NetParameter};
use skimjit::models::{Error, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Error>;

/// Blobs by layer and index; those that another layer owns are only there.
pub fn named(net: &NetParameter) -> Result<BTreeMap<String, Tensor>> {
    let mut all = BTreeMap::new();
    for layer in &net.layer {
        let blobs = layer.blobs.iter().enumerate();
        for (index, blob) in blobs.filter(|(_, blob)| !blob::is_absent(blob)) {
            let tensor = blob::take_tensor(&mut blob.clone()).map_err(|mut error| {
                let part = error.field.take().unwrap_or_default();
                let error = error.layer(layer.name());
                error.field(format!("blobs[{index}].{part}"))
            });
            all.insert(format!("{}.{index}", layer.name()), tensor?);
        }
    }
    Ok(all)
}

pub fn failed(path: &Path) -> impl Fn(String) -> Error {
    move |text: String| {
        Error::new(format!("an error when writing: {text}"))
            .file(path)
            .hint("check the path and the free space")
    }
}

/// Lets a file be written beside its place and puts it there when it is whole.
pub fn whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let renamed =
        |()| std::fs::rename(&part, path).map_err(|error| failed(path)(error.to_string()));
    write(&part).and_then(renamed).map_err(|mut error| {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_file(&part);
        error.file = error.file.map(|_| path.to_owned());
        error
    })
}

/// A tensor as the library takes it.
struct Named<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let data = self.tensor.data().iter();
        Cow::Owned(data.flat_map(|x| x.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        4 * self.tensor.data().len()
    }
}

pub fn write_safetensors(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| {
        let dims = tensor.shape().dims().iter();
        let shape = dims.map(|&dim| dim as usize).collect();
        (name.clone(), Named { tensor, shape })
    });
    let written = safetensors::serialize_to_file(views, None, path);
    written.map_err(|error| failed(path)(error.to_string()))
}

pub fn write_npz(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let failed = failed(path);
    let file = File::create(path).map_err(|error| failed(error.to_string()))?;
    let mut archive = zip::ZipWriter::new(BufWriter::new(file));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for (name, tensor) in tensors {
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(|error| failed(error.to_string()))?;
        let mut elements = BufWriter::new(&mut archive);
        let written = array::write_npy_to(&mut elements, tensor).and_then(|()| elements.flush());
        written.map_err(|error| failed(error.to_string()))?;
    }
    let sink = archive
        .finish()
        .map_err(|error| failed(error.to_string()))?;
    sink.into_inner()
        .map_err(|error| failed(error.to_string()))?;
    Ok(())
}
