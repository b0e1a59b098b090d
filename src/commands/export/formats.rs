//! Named tensors, and the files that hold them.

use safetensors::tensor::{Dtype, View};
use skimjit::array;
use skimjit_caffe::{blob, proto::NetParameter};
use skimjit_host::whole;
use skimjit_models::{Error, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

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
    let written = whole::write_by_name(path, |part| {
        safetensors::serialize_to_file(views, None, part).map_err(io::Error::other)
    });
    written.map_err(|error| Error::unwritable(path, &error))
}

pub fn write_npz(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let written = whole::write_with(path, |out| {
        let mut sink = Latched::new(out);
        write_archive(tensors, &mut sink)?;
        sink.failed.map_or(Ok(()), Err)
    });
    written.map_err(|error: io::Error| Error::unwritable(path, &error))
}

fn write_archive(
    tensors: &BTreeMap<String, Tensor>,
    sink: &mut (impl Write + Seek),
) -> io::Result<()> {
    let mut archive = zip::ZipWriter::new(sink);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for (name, tensor) in tensors {
        archive.start_file(format!("{name}.npy"), options)?;
        let mut elements = BufWriter::new(&mut archive);
        array::write_npy_to(&mut elements, tensor)?;
        elements.flush()?;
    }
    archive.finish()?;
    Ok(())
}

/// Keeps the first error of a file to itself: the archive's library would print it, and try once more.
struct Latched<'a, W> {
    out: &'a mut W,
    at: u64,
    end: u64,
    failed: Option<io::Error>,
}

impl<'a, W> Latched<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self {
            out,
            at: 0,
            end: 0,
            failed: None,
        }
    }
}

impl<W: Write> Write for Latched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        Ok(())
    }
}

impl<W: Write + Seek> Seek for Latched<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let to = to.ok_or(io::ErrorKind::InvalidInput)?;
        if self.failed.is_none() {
            self.failed = self.out.seek(SeekFrom::Start(to)).err();
        }
        self.at = to;
        Ok(to)
    }
}
