//! Files that arguments name: themselves, by folders, by patterns, by lists.

use crate::support::args::NamedFile;
use crate::support::output;
use skimjit::picture::FORMATS;
use skimjit::{Error, Result};
use skimjit_models::Error as InputError;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, Lines, StdinLock};
use std::path::{Path, PathBuf};

/// What stands for a list on standard input.
pub const STDIN: &str = "-";
/// Endings of the files that are taken from folders.
const ENDINGS: [&str; 14] = [
    "bmp", "gif", "jpeg", "jpg", "npy", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp",
    "pam",
];
/// Depth of folders in folders.
const MAX_DEPTH: usize = 64;

/// Pictures and arrays.
#[derive(clap::Args)]
pub struct InputArguments {
    #[arg(value_name = "INPUT", value_parser = NamedFile::parse, help = what())]
    inputs: Vec<NamedFile>,
    /// The same as INPUT
    #[arg(long = "input", short = 'i', value_name = "[NAME=]FILE", num_args = 1.., value_parser = NamedFile::parse)]
    more: Vec<NamedFile>,
    /// File with the name of one picture or array per line (- for standard input), from the working folder or
    /// else from the list's; a number behind a name, as ImageData's lists have, is left out
    #[arg(long, value_name = "FILE")]
    input_list: Option<PathBuf>,
}

/// The help of INPUT.
fn what() -> String {
    format!(
        "Pictures ({FORMATS}), .npy arrays (N,C,H,W, any N), folders of them, patterns like 'photos/*.jpg', or - \
         for a list of files on standard input; NAME=FILE where the network has several inputs"
    )
}

impl InputArguments {
    /// The arguments as they were given, for networks that need an array for each of several inputs.
    pub fn named(&self) -> Result<Vec<NamedFile>> {
        if self.input_list.is_some() {
            return Err(Error::Usage(
                "--input-list: found a network of several inputs, expected one; give NAME=FILE for each".into(),
            ));
        }
        let named: Vec<NamedFile> = self.inputs.iter().chain(&self.more).cloned().collect();
        match named.is_empty() {
            true => Err(nothing()),
            false => Ok(named),
        }
    }

    /// All files, for a network of one input.
    pub fn entries(&self, input: &str) -> Result<Entries> {
        if self.inputs.is_empty() && self.more.is_empty() && self.input_list.is_none() {
            return Err(nothing());
        }
        let mut entries = Entries::default();
        for named in self.inputs.iter().chain(&self.more) {
            entries.add(&file_for(named, input)?)?;
        }
        match &self.input_list {
            Some(list) if list.as_os_str() == STDIN => entries.read_stdin(),
            Some(list) => entries.add_list(list)?,
            None => {}
        }
        Ok(entries)
    }
}

fn nothing() -> Error {
    Error::Usage(
        "--input: found nothing, expected pictures, arrays, folders, or - for a list on standard input".into(),
    )
}

/// The file of an argument; a path with "=" in it is no name of an input.
fn file_for(named: &NamedFile, input: &str) -> Result<PathBuf> {
    if let Some(name) = named.name.as_ref().filter(|&name| name != input) {
        let whole = PathBuf::from(format!("{name}={}", named.file.display()));
        if whole.exists() {
            return Ok(whole);
        }
    }
    named.port("--input", &[input])?;
    Ok(named.file.clone())
}

/// Files one after the other; those that standard input lists are read when they are needed.
#[derive(Default)]
pub struct Entries {
    known: VecDeque<PathBuf>,
    stdin: Option<Lines<StdinLock<'static>>>,
    /// One came from standard input.
    listed: bool,
}

impl Entries {
    /// Files, as far as they are known: the others are still to be read.
    pub fn known(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.known.iter().map(PathBuf::as_path)
    }
    /// No more than the known ones will come.
    pub fn are_known(&self) -> bool {
        self.stdin.is_none()
    }

    fn read_stdin(&mut self) {
        self.stdin.get_or_insert_with(|| io::stdin().lock().lines());
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str() == STDIN {
            self.read_stdin();
            return Ok(());
        }
        let found = if path.is_dir() {
            let (mut found, mut others) = (Vec::new(), 0);
            walk(path, MAX_DEPTH, &mut found, &mut others)?;
            if others > 0 {
                output::note(format!(
                    "{}: {others} files of other kinds left out; those taken end in {}",
                    path.display(),
                    ENDINGS.join(", ")
                ));
            }
            found.sort();
            found
        } else if !path.exists() && has_wildcard(path) {
            expand(path)?
        } else {
            vec![path.to_owned()]
        };
        if found.is_empty() {
            let error = InputError::new("no picture and no array").file(path);
            return Err(error
                .expected(format!("a name that ends in {}", ENDINGS.join(", ")))
                .into());
        }
        self.known.extend(found);
        Ok(())
    }

    fn add_list(&mut self, list: &Path) -> Result<()> {
        let unreadable = |error: io::Error| InputError::new(error.to_string()).file(list);
        let lines = io::BufReader::new(fs::File::open(list).map_err(unreadable)?).lines();
        let before = self.known.len();
        for line in lines {
            let line = line.map_err(unreadable)?;
            self.known.extend(listed(&line, list.parent()));
        }
        if self.known.len() == before {
            let error = InputError::new("an empty list").file(list);
            return Err(error.expected("the name of a file on each line").into());
        }
        Ok(())
    }

    /// The next file; `None` after the last.
    pub fn next(&mut self) -> Result<Option<PathBuf>> {
        if let Some(path) = self.known.pop_front() {
            return Ok(Some(path));
        }
        for line in self.stdin.iter_mut().flatten() {
            let line =
                line.map_err(|error| InputError::new(error.to_string()).file("standard input"))?;
            if let Some(path) = listed(&line, None) {
                self.listed = true;
                return Ok(Some(path));
            }
        }
        if self.stdin.is_some() && !self.listed {
            let error = InputError::new("an empty list").file("standard input");
            return Err(error.expected("the name of a file on each line").into());
        }
        Ok(None)
    }
}

/// The file that a line of a list names.
fn listed(line: &str, folder: Option<&Path>) -> Option<PathBuf> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return None;
    }
    let find = |name: &str| found(name, folder);
    let without_label = || {
        let (name, label) = line.trim_end().rsplit_once([' ', '\t'])?;
        label.parse::<i64>().ok()?;
        find(name.trim_end())
    };
    Some(
        find(line)
            .or_else(without_label)
            .unwrap_or_else(|| line.into()),
    )
}

/// A picture or array, and its class.
pub struct Listed {
    pub path: PathBuf,
    pub class: usize,
}

impl Listed {
    /// A list of file names with a number behind each, as ImageData's lists have; files are looked for in the
    /// working folder, or else in the list's.
    pub fn read(list: &Path) -> Result<Vec<Self>> {
        let unreadable = |error: io::Error| InputError::new(error.to_string()).file(list);
        let text = fs::read_to_string(list).map_err(unreadable)?;
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let listed: Vec<Self> = lines
            .map(|(number, line)| {
                let parts = line.trim_end().rsplit_once([' ', '\t']);
                let (name, class) = parts
                    .and_then(|(name, class)| Some((name.trim_end(), class.parse().ok()?)))
                    .ok_or_else(|| {
                        InputError::new(format!("line {}: {line}", number + 1))
                            .file(list)
                            .expected("the name of a file and the number of its class")
                    })?;
                let path = found(name, list.parent()).unwrap_or_else(|| name.into());
                Ok(Self { path, class })
            })
            .collect::<Result<_>>()?;
        match listed.is_empty() {
            true => Err(InputError::new("an empty list")
                .file(list)
                .expected("the name of a file and the number of its class on each line")
                .into()),
            false => Ok(listed),
        }
    }
}

/// A file of this name, in the working folder or else in another one.
fn found(name: &str, folder: Option<&Path>) -> Option<PathBuf> {
    let beside = folder.map(|folder| folder.join(name));
    let mut places = std::iter::once(PathBuf::from(name)).chain(beside);
    places.find(|path| path.exists())
}

/// Pictures and arrays in a folder and the folders in it, and the number of files of other kinds; hidden ones are
/// left out.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, others: &mut usize) -> Result<()> {
    let unreadable = |error: io::Error| InputError::new(error.to_string()).file(folder);
    if depth == 0 {
        let error = InputError::new(format!("folders more than {MAX_DEPTH} deep")).file(folder);
        return Err(error.expected("fewer").into());
    }
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        // A link to a folder could lead back here.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            walk(&path, depth - 1, found, others)?;
        } else if has_known_ending(&path) {
            // A link that leads nowhere is told when it is its turn.
            found.push(path);
        } else {
            *others += 1;
        }
    }
    Ok(())
}

fn has_known_ending(path: &Path) -> bool {
    let end = path
        .extension()
        .map(|end| end.to_string_lossy().to_ascii_lowercase());
    end.is_some_and(|end| ENDINGS.contains(&end.as_str()))
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?'])
}

/// Files that a pattern of `*` and `?` matches, sorted; as a shell does, for patterns in quotes.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in pattern {
        let text = part.to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let matching: Vec<PathBuf> = found
            .iter()
            .flat_map(|folder| {
                let place = if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    folder
                };
                let names = fs::read_dir(place).into_iter().flatten().flatten();
                let names = names.map(|entry| entry.file_name());
                let hidden = text.starts_with('.');
                let fits = |name: &std::ffi::OsString| {
                    let name = name.to_string_lossy();
                    (hidden || !name.starts_with('.')) && matches(text.as_bytes(), name.as_bytes())
                };
                names
                    .filter(fits)
                    .map(|name| folder.join(name))
                    .collect::<Vec<_>>()
            })
            .collect();
        found = matching;
    }
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() {
        let error = InputError::new("no file that fits this pattern").file(pattern);
        return Err(error.expected("one or more").into());
    }
    Ok(found)
}

/// Whether a name fits a pattern of `*` (any bytes) and `?` (one byte).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when the last star has to take one more byte.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_take_any_bytes() {
        for (pattern, name, fits) in [
            ("*.jpg", "a.jpg", true),
            ("*.jpg", "a.jpeg", false),
            ("a*b*c", "a_b_b_c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("*a", "aab", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn lists_name_files_with_spaces_and_labels() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a b.png"), "").unwrap();
        let found = |line: &str| listed(line, Some(folder.path()));
        let there = Some(folder.path().join("a b.png"));
        assert_eq!(found("a b.png"), there);
        assert_eq!(found("a b.png 3\r"), there);
        assert_eq!(found("absent 3"), Some("absent 3".into()));
        assert_eq!(found("  "), None);
    }
}
