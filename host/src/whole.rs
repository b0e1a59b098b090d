//! Files and folders that appear whole or not at all.
//!
//! What is written has no name, or a hidden one of its own beside the target, in the same file system; when it
//! is complete and on the disk, it takes the target's name in one step. A reader, a second writer, a full disk
//! or a process that is killed never meets half a file, and an old good one stays until the new one is whole.
//!
//! A file is written without a name where the file system can do that (`O_TMPFILE`): a killed process then
//! leaves nothing. Otherwise, and for what a library opens by its name, it is called `.NAME.xxxxxx.part.ENDING`; such
//! files go when the writing fails and when the process is asked to end ([`crate::interrupt`]), but not when
//! it is killed.

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::Builder;

/// Whether two paths lead to one file, which need not exist.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let beside = || {
            let folder = path.parent()?;
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            Some(folder.canonicalize().ok()?.join(path.file_name()?))
        };
        path.canonicalize()
            .ok()
            .or_else(beside)
            .unwrap_or_else(|| path.to_owned())
    };
    resolved(a) == resolved(b)
}

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
    let target = Target::of(path);
    if target.is_special() {
        let mut out = BufWriter::new(File::options().write(true).open(&target.path)?);
        contents(&mut out)?;
        return Ok(out.flush()?);
    }
    target.check_writable()?;
    let fill = |file: &File| {
        let mut out = BufWriter::new(file.try_clone()?);
        contents(&mut out)?;
        Ok::<(), E>(out.flush()?)
    };
    match nameless(target.folder())? {
        Some(file) => {
            fill(&file)?;
            Ok(target.take_nameless(file)?)
        }
        None => {
            let part = Part::file(&target.path)?;
            fill(&File::options().write(true).open(&part.0)?)?;
            Ok(target.take(part)?)
        }
    }
}

/// Lets a function write a file that it opens by its name, as libraries and other programs do. It is given
/// the name of an empty file beside the target, which it may replace.
pub fn write_by_name<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let target = Target::of(path);
    if target.is_special() {
        return write(&target.path);
    }
    target.check_writable()?;
    let part = Part::file(&target.path)?;
    let rights = fs::metadata(&part.0)?.permissions();
    write(&part.0)?;
    // Whoever writes by name may put another file there, with rights of its own.
    fs::set_permissions(&part.0, rights)?;
    Ok(target.take(part)?)
}

/// Puts a symbolic link in the place of whatever file has the name now.
pub fn link(path: &Path, to: &Path) -> io::Result<()> {
    let make = |part: &Path| std::os::unix::fs::symlink(to, part);
    let part = Part::make(path, &make)?;
    part.rename_to(path)?;
    sync_folder(folder_of(path))
}

/// Waits for the right to change a file together with what is in it, against other processes that ask for it
/// too; given back when the result is dropped. The lock is a hidden file of its own, `.NAME.lock`, since the
/// file itself is replaced; it stays.
pub fn lock(path: &Path) -> io::Result<File> {
    let target = Target::of(path);
    let name = target.path.file_name().unwrap_or_default().as_bytes();
    let name = [b".", &name[..name.len().min(MOST_NAME_BYTES)], b".lock"].concat();
    let lock = target.folder().join(OsString::from_vec(name));
    let mut options = File::options();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)?;
    file.lock()?;
    Ok(file)
}

/// Names may have 255 bytes; some are needed for what is added.
const MOST_NAME_BYTES: usize = 180;

/// A file on the way to a target, for another program to read; removed when dropped.
pub struct Scratch(Part);

impl Scratch {
    /// An empty file beside the target.
    pub fn create(target: &Path) -> io::Result<Self> {
        Ok(Self(Part::file(target)?))
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// To write it.
    pub fn file(&self) -> io::Result<File> {
        File::options().write(true).open(self.path())
    }
}

/// A folder that is being filled; dropped before [`Folder::finish`], it is removed.
#[derive(Debug)]
pub struct Folder {
    part: Part,
    target: PathBuf,
}

impl Folder {
    /// A new folder beside the target, which must not exist, or be a folder with nothing in it.
    pub fn create(target: &Path) -> io::Result<Self> {
        let empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut all| all.next().is_none());
        if fs::symlink_metadata(target).is_ok_and(|found| !(found.is_dir() && empty(target))) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        let part = Part::make(target, &|part| fs::create_dir(part))?;
        let target = target.to_owned();
        Ok(Self { part, target })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.part.0
    }

    /// Gives the folder its name. The files in it must have been closed.
    pub fn finish(self) -> io::Result<()> {
        sync_all(self.path())?;
        self.part.rename_to(&self.target)?;
        sync_folder(folder_of(&self.target))
    }
}

/// Removes everything that is not whole yet. No more is begun or finished until the process has ended, which
/// must be next.
pub fn abandon() {
    let parts = parts();
    for part in parts.iter() {
        remove(part);
    }
    std::mem::forget(parts);
}

/// Names of all that is being written.
static PARTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn parts() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file, link or folder under a name for the time being; removed when dropped.
#[derive(Debug)]
struct Part(PathBuf);

impl Part {
    /// An empty file.
    fn file(target: &Path) -> io::Result<Self> {
        Self::make(target, &|part| File::create_new(part).map(|_| ()))
    }

    /// Made by a function that fails where there is something already.
    fn make(target: &Path, make: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<Self> {
        // Held meanwhile, so that nothing is made after all has been removed.
        let mut parts = parts();
        let made = Builder::new()
            .prefix(&part_prefix(target))
            .suffix(&part_suffix(target))
            .make_in(folder_of(target), |part| make(part));
        let path = made.map_err(without_path)?.into_temp_path();
        let path = path.keep().map_err(|error| error.error)?;
        parts.insert(path.clone());
        Ok(Self(path))
    }

    fn rename_to(self, target: &Path) -> io::Result<()> {
        let mut parts = parts();
        fs::rename(&self.0, target)?;
        parts.remove(&self.0);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if parts().remove(&self.0) {
            remove(&self.0);
        }
    }
}

/// As far as that goes: there is nobody to tell.
fn remove(part: &Path) {
    let _ = match fs::symlink_metadata(part) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(part),
        _ => fs::remove_file(part),
    };
}

/// What is to be replaced.
struct Target {
    path: PathBuf,
    old: Option<fs::Metadata>,
}

impl Target {
    fn of(path: &Path) -> Self {
        let path = followed(path);
        let old = fs::metadata(&path).ok();
        Self { path, old }
    }

    fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    fn is_special(&self) -> bool {
        self.old.as_ref().is_some_and(|old| !old.is_file())
    }

    /// A file that is protected against writing is protected against being replaced.
    fn check_writable(&self) -> io::Result<()> {
        match self.old {
            None => Ok(()),
            Some(_) => Ok(rustix::fs::access(&self.path, Access::WRITE_OK)?),
        }
    }

    /// Gives a complete file the name.
    fn take(&self, part: Part) -> io::Result<()> {
        let file = File::open(&part.0)?;
        self.settle(&file)?;
        part.rename_to(&self.path)?;
        sync_folder(self.folder())
    }

    fn take_nameless(&self, mut file: File) -> io::Result<()> {
        self.settle(&file)?;
        let named = match self.old {
            None => link_nameless(&file, &self.path),
            // Only what has a name can replace another.
            Some(_) => Err(io::Error::from(ErrorKind::AlreadyExists)),
        };
        if named.is_ok() {
            return sync_folder(self.folder());
        }
        match Part::make(&self.path, &|part| link_nameless(&file, part)) {
            Ok(part) => {
                part.rename_to(&self.path)?;
                sync_folder(self.folder())
            }
            // A file system that makes such files but gives them no names.
            Err(_) => {
                let part = Part::file(&self.path)?;
                file.rewind()?;
                io::copy(&mut file, &mut File::options().write(true).open(&part.0)?)?;
                self.take(part)
            }
        }
    }

    /// Brings a file to the disk, with the rights of the one that it replaces.
    fn settle(&self, file: &File) -> io::Result<()> {
        if let Some(old) = &self.old {
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                // Only the superuser may, for whom it matters.
                let _ = fchown(file, Some(old.uid()), Some(old.gid()));
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        }
        file.sync_all()
    }
}

/// A file that nobody else can find; none where the file system has no such files.
fn nameless(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666));
    let Ok(file) = opened.map(File::from) else {
        // The reason, if it is another one, is found again where there is a name to go with it.
        return Ok(None);
    };
    // Without /proc it could not be given a name.
    Ok(fs::metadata(descriptor(&file)).is_ok().then_some(file))
}

fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn link_nameless(file: &File, path: &Path) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_FOLLOW;
    Ok(rustix::fs::linkat(CWD, descriptor(file), CWD, path, flags)?)
}

/// Where links lead, even to nothing: the file is replaced, not the link to it.
fn followed(path: &Path) -> PathBuf {
    /// As many as the kernel follows.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            // `/dev/stdout` leads to `pipe:[…]`, which is no path.
            Ok(to)
                if to.is_absolute()
                    || fs::metadata(&path).is_err()
                    || folder_of(&path).join(&to).exists() =>
            {
                path = folder_of(&path).join(to);
            }
            _ => break,
        }
    }
    path
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn part_prefix(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut prefix = vec![b'.'];
    prefix.extend(&name[..name.len().min(MOST_NAME_BYTES)]);
    prefix.push(b'.');
    OsString::from_vec(prefix)
}

/// Ends as the target does: there are libraries that go by it.
fn part_suffix(path: &Path) -> OsString {
    /// Longer ones are no ending.
    const MOST_BYTES: usize = 30;
    let mut suffix = OsString::from(".part");
    if let Some(end) = path.extension().filter(|end| end.len() <= MOST_BYTES) {
        suffix.push(".");
        suffix.push(end);
    }
    suffix
}

/// The error without the name for the time being, which means nothing to anybody.
fn without_path(error: io::Error) -> io::Error {
    let code = error.get_ref().and_then(|inner| inner.source());
    let code = code.and_then(|source| source.downcast_ref::<io::Error>());
    match code.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}

/// Brings all that lies in a folder to the disk.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync_all(&entry.path())?,
            kind if kind.is_file() => File::open(entry.path())?.sync_all()?,
            _ => {}
        }
    }
    sync_folder(folder)
}

/// So that new names survive a loss of power.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => match folder.sync_all() {
            // Some file systems cannot; the files are there all the same.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        },
        // A folder may be written and not read.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_put_there_has_the_rights_of_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let [plain, path] = ["plain", "file"].map(|name| folder.path().join(name));
        fs::write(&plain, "").unwrap();
        let other = |part: &Path| -> io::Result<()> {
            let hidden = folder.path().join("hidden");
            fs::write(&hidden, "new")?;
            fs::set_permissions(&hidden, Permissions::from_mode(0o600))?;
            fs::rename(&hidden, part)
        };
        write_by_name(&path, other).unwrap();
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

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
        let error = write_by_name(&path, |part| {
            fs::write(part, "new")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "full");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(count(folder.path()), 1);
        write(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let replaced = |part: &Path| {
            fs::remove_file(part)?;
            fs::write(part, "newer")
        };
        write_by_name(&path, replaced).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(count(folder.path()), 1);
    }

    #[test]
    fn half_a_file_is_never_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_with(&path, |out| {
            out.write_all(b"half")?;
            out.flush()?;
            assert!(!path.exists());
            // Another writer meanwhile.
            write(&path, "other")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        assert_eq!(count(folder.path()), 1);
    }

    #[test]
    fn modes_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o646);
        // A link to what is not there yet.
        fs::remove_file(&path).unwrap();
        write(&link, "newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn links_replace_links_and_names_may_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(255));
        link(&path, Path::new("one")).unwrap();
        link(&path, Path::new("two")).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("two"));
        fs::remove_file(&path).unwrap();
        write(&path, "a").unwrap();
        write(&path, "b").unwrap();
        write_by_name(&path, |part| fs::write(part, "c")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"c");
    }

    #[test]
    fn what_is_no_file_is_written_directly() {
        write(Path::new("/dev/null"), "gone").unwrap();
        write_by_name(Path::new("/dev/null"), |path| fs::write(path, "gone")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn errors_do_not_name_what_nobody_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/a");
        let error = write(&path, "new").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!error.to_string().contains("part"), "{error}");
        assert!(write(folder.path(), "new").is_err());
    }

    #[test]
    fn a_folder_is_there_when_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let part = Folder::create(&path).unwrap();
        fs::create_dir(part.path().join("deep")).unwrap();
        fs::write(part.path().join("deep/data"), "1").unwrap();
        assert!(!path.exists());
        part.finish().unwrap();
        assert_eq!(fs::read(path.join("deep/data")).unwrap(), b"1");
        drop(Folder::create(&folder.path().join("other")).unwrap());
        assert_eq!(count(folder.path()), 1);
        assert!(Folder::create(&path).is_err());
        let late = Folder::create(&folder.path().join("late")).unwrap();
        fs::create_dir_all(folder.path().join("late/taken")).unwrap();
        assert!(late.finish().is_err());
        assert_eq!(count(folder.path()), 2);
    }
}
