//! A model as its file has it.

use crate::external::Folder;
use crate::proto::{FunctionProto, GraphProto, ModelProto};
use crate::wire;
use prost::Message;
use prost::bytes::Bytes;
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// Versions of operators that are read.
pub(crate) const OPSETS: std::ops::RangeInclusive<i64> = 6..=28;
/// Versions of the format that are read.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// A model, decoded.
pub struct Model {
    graph: GraphProto,
    proto: ModelProto,
    pub(crate) path: PathBuf,
    pub(crate) folder: Folder,
}

impl Model {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = memory::read_file(path, u64::MAX)
            .map_err(|error| Error::unreadable(path, &error, "an ONNX model"))?;
        Self::decode(bytes.into(), path, Folder::of(path)).map_err(|error| error.file(path))
    }

    /// Reads what such a file contains; elements cannot be in other files.
    pub fn from_bytes(bytes: Vec<u8>, name: &Path) -> Result<Self> {
        Self::decode(bytes.into(), name, Folder::none()).map_err(|error| error.file(name))
    }

    fn decode(bytes: Bytes, path: &Path, folder: Folder) -> Result<Self> {
        wire::check(&bytes).map_err(|error| match crate::is_model(&bytes) {
            true => error,
            false => Error::new("contents of another kind").expected("an ONNX model"),
        })?;
        let mut proto = ModelProto::decode(bytes).map_err(|error| {
            Error::new(format!("damaged data ({error})")).expected("an ONNX model")
        })?;
        let ir = proto.ir_version();
        if !IR_VERSIONS.contains(&ir) {
            return Err(Error::new(ir.to_string())
                .field("ir_version")
                .expected("3 to 14")
                .hint("save it again with another version of the package onnx"));
        }
        let graph = proto.graph.take();
        let graph = graph.ok_or_else(|| Error::new("no graph").expected("a model with a graph"))?;
        if graph.output.is_empty() {
            return Err(Error::new("a graph without outputs").expected("at least one"));
        }
        Ok(Self {
            graph,
            proto,
            path: path.to_owned(),
            folder,
        })
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// Its name, or that of its file.
    pub(crate) fn name(&self) -> String {
        match self.graph.name() {
            "" => self
                .path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            name => name.to_owned(),
        }
    }

    /// Version of ONNX's own operators.
    pub(crate) fn opset(&self) -> Result<i64> {
        let own = |domain: &str| matches!(domain, "" | "ai.onnx");
        let mut versions = self
            .proto
            .opset_import
            .iter()
            .filter(|one| own(one.domain()));
        let version = versions.next().map_or(0, |one| one.version());
        match OPSETS.contains(&version) {
            true => Ok(version),
            false => Err(Error::new(format!("version {version}"))
                .field("opset_import")
                .expected(format!("{} to {}", OPSETS.start(), OPSETS.end()))
                .hint("onnx.version_converter.convert_version makes another one of it")),
        }
    }

    pub(crate) fn functions(&self) -> impl Iterator<Item = &FunctionProto> {
        self.proto.functions.iter()
    }
}
