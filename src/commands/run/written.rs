//! Arrays that `--output` and `--dump-blob` ask for.

use crate::support::args::{NamedFile, is_npy};
use crate::support::entries::STDIN;
use crate::support::output::Output;
use serde::Serialize;
use skimjit::{Error, Result, array};
use skimjit_models::{Shape, Tensor};
use skimjit_runtime::Port;
use std::path::PathBuf;

/// An array that was written.
#[derive(Serialize)]
pub struct Written {
    pub blob: String,
    pub shape: String,
    pub file: PathBuf,
}

impl Written {
    pub fn print(&self, out: &mut Output) {
        let (file, blob, shape) = (self.file.display(), &self.blob, &self.shape);
        out.line(format!("{file}: {blob} {shape}"));
    }
}

/// Refuses what would be written in another form than its name says.
pub fn check_names<'a>(option: &str, files: impl Iterator<Item = &'a NamedFile>) -> Result<()> {
    let mut others = files.filter(|named| !is_stdout(named) && !is_npy(&named.file));
    match others.next() {
        None => Ok(()),
        Some(named) => Err(Error::Usage(format!(
            "{option}: found {}, expected a name that ends in .npy, or - for standard output; for results in \
             other forms there are --format csv and --format jsonl",
            named.file.display()
        ))),
    }
}

/// An array goes to standard output.
pub fn is_stdout(named: &NamedFile) -> bool {
    named.file.as_os_str() == STDIN
}

/// Writes one array.
pub fn write(named: &NamedFile, array: &Tensor, out: &mut Output) -> Result<()> {
    if !is_stdout(named) {
        return Ok(array::write_npy(&named.file, array)?);
    }
    let mut bytes = Vec::with_capacity(4 * array.data().len() + 128);
    array::write_npy_to(&mut bytes, array)
        .map_err(|error| Error::Usage(format!("standard output: {error}")))?;
    out.bytes(&bytes);
    Ok(())
}

/// Rows of an output that will be written.
struct Rows<'a> {
    named: &'a NamedFile,
    port: usize,
    shape: Option<Shape>,
    rows: u32,
    values: Vec<f32>,
}

/// What is kept of all runs, to be written when they are complete.
pub struct Kept<'a>(Vec<Rows<'a>>);

impl<'a> Kept<'a> {
    /// The first `own` ports are the network's outputs.
    pub fn new(
        output: &'a [NamedFile],
        dump_blob: &'a [NamedFile],
        ports: &[Port],
        own: usize,
    ) -> Result<Self> {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let asked = output
            .iter()
            .map(|named| (named, named.port("--output", &names[..own])));
        let dumped = dump_blob
            .iter()
            .map(|named| (named, named.port("--dump-blob", &names)));
        let rows = asked.chain(dumped).map(|(named, port)| {
            let port = port?;
            Ok(Rows {
                named,
                port,
                shape: None,
                rows: 0,
                values: Vec::new(),
            })
        });
        Ok(Self(rows.collect::<Result<_>>()?))
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Every image has its own row in what is kept.
    pub fn are_per_image(&self, ports: &[Port]) -> bool {
        self.0.iter().all(|rows| ports[rows.port].per_image)
    }
    /// Adds the outputs of a run along the first axis.
    pub fn add(&mut self, outputs: &[Tensor]) {
        for rows in &mut self.0 {
            let output = &outputs[rows.port];
            rows.rows += output.shape().dim(0);
            rows.values.extend_from_slice(output.data());
            rows.shape.get_or_insert_with(|| output.shape().clone());
        }
    }
    /// Writes all of it.
    pub fn write(self, ports: &[Port], out: &mut Output) -> Result<Vec<Written>> {
        let mut written = Vec::new();
        for Rows {
            named,
            port,
            shape,
            rows,
            values,
        } in self.0
        {
            let Some(shape) = shape else { continue };
            let shape = if shape.rank() == 0 {
                shape
            } else {
                Shape::new(shape.with_batch(rows).dims())?
            };
            let array = Tensor::new(shape, values);
            write(named, &array, out)?;
            written.push(Written {
                blob: ports[port].name.clone(),
                shape: array.shape().to_string(),
                file: named.file.clone(),
            });
        }
        Ok(written)
    }
}
