//! Files and folders that appear whole or not at all.
//!
//! What is written goes to a new name beside the target, in the same file system; when it is complete and on
//! the disk, it takes the target's name in one step. A reader, a second writer, a full disk or a process that
//! is killed never meets half a file, and an old good one stays until the new one is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::{Builder, TempDir};

/// Writes a file.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> io::Result<()> {
    write_with(path, |out| out.write_all(contents.as_ref()))
}

/// Writes a file by a function. Its error leaves the target as it was, and is returned.
///
/// What is no ordinary file (`/dev/stdout`, a pipe) is written directly: it has no old contents to keep.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let target = followed(path);
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut out = BufWriter::new(File::create(&target)?);
        contents(&mut out)?;
        return Ok(out.flush()?);
    }
    // As `File::create` would: what the umask allows, or what the file had.
    let mode = old.map_or(0o666, |old| old.permissions().mode() & 0o7777);
    let part = Builder::new()
        .prefix(&part_prefix(&target))
        .suffix(".part")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder_of(&target))?;
    let mut out = BufWriter::new(part.as_file().try_clone()?);
    contents(&mut out)?;
    out.flush()?;
    part.as_file().sync_all()?;
    part.persist(&target).map_err(|error| error.error)?;
    Ok(sync_folder(&target)?)
}

/// A folder that is being filled; dropped before [`Folder::finish`], it is removed.
pub struct Folder {
    part: TempDir,
    target: PathBuf,
}

impl Folder {
    /// A new folder beside the target, which must not exist, or be a folder with nothing in it.
    pub fn create(target: &Path) -> io::Result<Self> {
        let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut all| all.next().is_none());
        if target.exists() && !empty(target) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let part = Builder::new()
            .prefix(&part_prefix(target))
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir_in(folder_of(target))?;
        let target = target.to_owned();
        Ok(Self { part, target })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.part.path()
    }

    /// Gives the folder its name. The files in it must have been closed.
    pub fn finish(self) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            File::open(entry?.path())?.sync_all()?;
        }
        fs::rename(self.path(), &self.target)?;
        // The name is gone: nothing is left to remove.
        let _ = self.part.keep();
        sync_folder(&self.target)
    }
}

/// Where links lead: the file is replaced, not the link to it.
fn followed(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn part_prefix(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name
}

/// So that the new name survives a loss of power.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "old").unwrap();
        let error = write_with(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "full");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn modes_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn what_is_no_file_is_written_directly() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_folder_is_there_when_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let part = Folder::create(&path).unwrap();
        fs::write(part.path().join("data"), "1").unwrap();
        assert!(!path.exists());
        part.finish().unwrap();
        assert_eq!(fs::read(path.join("data")).unwrap(), b"1");
        drop(Folder::create(&folder.path().join("other")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Folder::create(&path).is_err());
    }
}
