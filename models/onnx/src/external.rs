//! Elements that lie in files beside the model.

use crate::proto::StringStringEntryProto;
use prost::bytes::Bytes;
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder of a model, beside which nothing is read.
pub(crate) struct Folder(Option<PathBuf>);

impl Folder {
    /// The folder of a model's file.
    pub fn of(model: &Path) -> Self {
        let folder = model
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Self(Some(folder.unwrap_or(Path::new(".")).to_owned()))
    }

    /// A model in memory has no files beside it.
    pub fn none() -> Self {
        Self(None)
    }

    /// The `bytes` bytes that the entries of a tensor's `external_data` name.
    pub fn read(&self, entries: &[StringStringEntryProto], bytes: u64) -> Result<Bytes> {
        let in_field = |error: Error| error.field("external_data");
        let mut location = None;
        let (mut offset, mut length) = (0, bytes);
        for entry in entries {
            match entry.key() {
                "location" => location = Some(entry.value()),
                "offset" => offset = number(entry).map_err(in_field)?,
                "length" => length = number(entry).map_err(in_field)?,
                // Of the whole file, which others may share; the sizes are checked.
                "checksum" => {}
                other => {
                    return Err(in_field(
                        Error::new(format!("{other:?}"))
                            .expected("location, offset, length and checksum"),
                    ));
                }
            }
        }
        let location = location.filter(|name| !name.is_empty());
        let location = location.ok_or_else(|| {
            in_field(Error::new("no location").expected("the name of a file beside the model"))
        })?;
        if length != bytes {
            return Err(in_field(
                Error::new(format!("{length} bytes of {location:?}"))
                    .expected(format!("{bytes}, as dims and element type say")),
            ));
        }
        self.part(location, offset, bytes).map_err(in_field)
    }

    fn part(&self, location: &str, offset: u64, bytes: u64) -> Result<Bytes> {
        let path = self.path(location)?;
        let unreadable =
            |error| Error::unreadable(&path, &error, "the file with the model's weights");
        let mut file = File::open(&path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(Error::new(format!("a file of {size} bytes"))
                .file(&path)
                .expected(format!("at least {bytes} bytes from byte {offset} on"))
                .hint("the file is cut short, or belongs to another model"));
        }
        memory::check(bytes)?;
        let mut contents = vec![0; bytes as usize];
        file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        file.read_exact(&mut contents).map_err(unreadable)?;
        Ok(contents.into())
    }

    /// The file of that name, if it lies in the folder.
    fn path(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.0 else {
            return Err(Error::new(format!("elements in the file {location:?}"))
                .expected("a model that holds its weights itself, when it is read from memory")
                .hint("load the model by its path instead"));
        };
        let relative = Path::new(location);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let outside = || {
            Error::new(format!("{location:?}"))
                .expected("a file in the folder of the model")
                .hint("files elsewhere are not read; put the file beside the model")
        };
        if !inside {
            return Err(outside());
        }
        let path = folder.join(relative);
        if !path.exists() {
            return Err(Error::new("no such file")
                .file(&path)
                .expected("the weights of the model")
                .hint("the exporter wrote them beside the model: copy both files"));
        }
        let whole = |path: &Path| path.canonicalize();
        match (whole(&path), whole(folder)) {
            (Ok(file), Ok(folder)) if file.starts_with(&folder) && file.is_file() => Ok(file),
            _ => Err(outside()),
        }
    }
}

fn number(entry: &StringStringEntryProto) -> Result<u64> {
    entry.value().parse().map_err(|_| {
        Error::new(format!("{} {:?}", entry.key(), entry.value())).expected("a number of bytes")
    })
}
