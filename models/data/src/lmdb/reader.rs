//! Reads an LMDB file record by record, without the C library: that one maps the file and trusts its
//! pages, so that a damaged file ends the process.

use super::page::{HEADER_BYTES, Kind, META_BYTES, Meta, Page, ValueAt};
use super::{DATA_FILE, Record};
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads the records of a data base in the order of their keys.
///
/// It sees the data base as it was when it was opened, as long as no other process writes to it.
pub struct Reader {
    file: File,
    path: PathBuf,
    file_bytes: u64,
    meta: Meta,
    /// Pages from the root down to a leaf, each with the index of its next node. Empty before the
    /// first record.
    stack: Vec<(Page, usize)>,
    /// Records that were given out since the last rewind.
    read: u64,
    /// Key of the last of them.
    last_key: Vec<u8>,
    /// The error that ended the reading. Half a descent must not be gone on with.
    failed: Option<Box<Error>>,
}

impl Reader {
    /// Opens a folder with `data.mdb` in it, or that file itself.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() {
            path.join(DATA_FILE)
        } else {
            path.to_owned()
        };
        let unreadable = |error: std::io::Error| {
            let expected = format!(
                "a data base: for LMDB a folder with {DATA_FILE}, for LevelDB one with CURRENT"
            );
            Error::unreadable(&path, &error, expected)
        };
        let file = File::open(&path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let meta = newest_meta(&file).map_err(|error| error.file(&path))?;
        if meta.flags & 0x7f != 0 {
            let error = Error::new(format!("a data base with flags {:#x}", meta.flags));
            return Err(error
                .file(&path)
                .expected("plain keys with one value each, as Caffe writes them"));
        }
        Ok(Self {
            file,
            path,
            file_bytes,
            meta,
            stack: Vec::new(),
            read: 0,
            last_key: Vec::new(),
            failed: None,
        })
    }

    /// Records in the data base.
    pub fn len(&self) -> u64 {
        self.meta.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.meta.entries == 0
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes back to before the first record.
    pub fn rewind(&mut self) {
        self.stack.clear();
        self.read = 0;
        self.last_key.clear();
        self.failed = None;
    }

    /// The next record; `None` behind the last one. After an error, the same error again.
    #[allow(clippy::should_implement_trait)] // It is not an iterator: it can be rewound.
    pub fn next(&mut self) -> Result<Option<Record>> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let result = self.advance();
        self.failed = result.as_ref().err().cloned().map(Box::new);
        result
    }

    fn advance(&mut self) -> Result<Option<Record>> {
        if self.read == self.meta.entries {
            return self.check_end();
        }
        self.descend()?;
        let leaf = self.stack.len().saturating_sub(1);
        let Some((page, index)) = self.stack.get(leaf) else {
            return Err(self.too_few());
        };
        let number = self.read;
        let fault = |found: String| damaged(found).field(format!("record {number}"));
        let key = page.key(*index).map_err(fault).map_err(self.in_file())?;
        if number > 0 && key <= self.last_key.as_slice() {
            let found = format!("key {} behind {}", show(key), show(&self.last_key));
            return Err(self.in_file()(fault(found)));
        }
        let key = key.to_vec();
        let value = page.value(*index).map_err(&fault);
        let value = value.and_then(|at| match at {
            ValueAt::Page { start, end } => Ok(page.slice(start, end).to_vec()),
            ValueAt::Overflow { page, bytes } => self.overflow(page, bytes),
        });
        let value = value.map_err(|error| {
            let error = error.field(format!("record {}", show(&key)));
            self.in_file()(error)
        })?;
        if let Some((_, index)) = self.stack.get_mut(leaf) {
            *index += 1;
        }
        self.read += 1;
        self.last_key.clone_from(&key);
        Ok(Some(Record { key, value }))
    }

    /// Behind the last record that the meta page promises there must be no other.
    fn check_end(&self) -> Result<Option<Record>> {
        let unread = |(page, index): &(Page, usize)| page.nodes().is_ok_and(|n| *index < n);
        if self.stack.last().is_some_and(unread) {
            let found = format!("more than {} records", self.meta.entries);
            return Err(self.in_file()(damaged(found)));
        }
        Ok(None)
    }

    fn too_few(&self) -> Error {
        let (read, entries) = (self.read, self.meta.entries);
        self.in_file()(damaged(format!("{read} records")).expected(format!("{entries}")))
    }

    /// Makes the top of the stack a leaf with a node that was not read yet. The level of a page says
    /// of which kind it must be, so that a page above itself cannot make this endless.
    fn descend(&mut self) -> Result<()> {
        if self.stack.is_empty() {
            let root = self.page(self.meta.root, 0)?;
            self.stack.push((root, 0));
        }
        loop {
            let level = self.stack.len();
            let Some((page, index)) = self.stack.last_mut() else {
                return Err(self.too_few());
            };
            let nodes = page.nodes().unwrap_or(0);
            if *index >= nodes {
                self.stack.pop();
                if let Some((_, index)) = self.stack.last_mut() {
                    *index += 1;
                    continue;
                }
                return Err(self.too_few());
            }
            if level == usize::from(self.meta.depth) {
                return Ok(());
            }
            let child = page.child(*index).map_err(damaged);
            let child = child.map_err(self.in_file())?;
            let page = self.page(child, level)?;
            self.stack.push((page, 0));
        }
    }

    /// A branch page, or on the last level a leaf, with at least one node.
    fn page(&self, number: u64, level: usize) -> Result<Page> {
        let last = level + 1 == usize::from(self.meta.depth);
        let expected = if last { Kind::Leaf } else { Kind::Branch };
        // The record that cannot be reached without it.
        let place = format!("record {} (page {number})", self.read);
        let field = |error: Error| self.in_file()(error.field(place.clone()));
        let page = self.read_page(number).map_err(field)?;
        if page.kind() != Some(expected) {
            let found = damaged(format!("a page with flags {:#x}", page.flags()));
            return Err(field(found.expected(format!("a {expected:?} page"))));
        }
        page.nodes().map_err(damaged).map_err(field)?;
        Ok(page)
    }

    /// A page with the number that it should have.
    fn read_page(&self, number: u64) -> Result<Page> {
        let mut bytes = vec![0; self.meta.page_bytes];
        self.read_at(number, 0, &mut bytes)?;
        Page::new(bytes, number).map_err(damaged)
    }

    /// A value that has pages of its own.
    fn overflow(&self, number: u64, bytes: usize) -> Result<Vec<u8>> {
        let needed = (HEADER_BYTES + bytes).div_ceil(self.meta.page_bytes) as u64;
        let page = self.read_page(number)?;
        if page.kind() != Some(Kind::Overflow) || u64::from(page.run()) < needed {
            let (flags, run) = (page.flags(), page.run());
            return Err(damaged(format!(
                "{run} pages with flags {flags:#x} at page {number}"
            ))
            .expected(format!("{needed} overflow pages")));
        }
        // Before memory is taken for it.
        self.check_range(number, HEADER_BYTES + bytes)?;
        let mut value = memory::reserved(bytes)?;
        value.resize(bytes, 0);
        self.read_at(number, HEADER_BYTES, &mut value)?;
        Ok(value)
    }

    fn check_range(&self, number: u64, bytes: usize) -> Result<u64> {
        let start = number.checked_mul(self.meta.page_bytes as u64);
        let end = start.and_then(|start| start.checked_add(bytes as u64));
        match (start, end) {
            (Some(start), Some(end))
                if number > 1 && number <= self.meta.last_page && end <= self.file_bytes =>
            {
                Ok(start)
            }
            _ => {
                let (file, page) = (self.file_bytes, self.meta.page_bytes);
                Err(damaged(format!("page {number}")).expected(format!(
                    "pages up to {} that end within the file's {file} bytes, {page} each",
                    self.meta.last_page
                )))
            }
        }
    }

    /// Fills `bytes` from a position in a page, and those behind it.
    fn read_at(&self, number: u64, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let start = self.check_range(number, offset + bytes.len())?;
        self.file
            .read_exact_at(bytes, start + offset as u64)
            .map_err(|error| Error::new(error.to_string()))
    }

    fn in_file(&self) -> impl Fn(Error) -> Error + use<> {
        let path = self.path.clone();
        move |error| error.file(&path)
    }
}

/// The newer of the two meta pages that every file begins with. Both must be there, as for the C
/// library: going by the older one alone would hide the records of the last transaction.
fn newest_meta(file: &File) -> Result<Meta> {
    let read = |index: u64, page_bytes: usize| {
        let mut page = [0; HEADER_BYTES + META_BYTES];
        let meta = file
            .read_exact_at(&mut page, index * page_bytes as u64)
            .map_err(|_| Error::new("a shorter file").expected("an LMDB data base"))
            .and_then(|()| Meta::parse(&page));
        meta.map_err(|error| error.field(format!("page {index}")))
    };
    let first = read(0, 0)?;
    let second = read(1, first.page_bytes)?;
    let (a, b) = (first.transaction, second.transaction);
    // Transactions take the pages in turn, so that the last complete one is never overwritten.
    let in_turn = a.is_multiple_of(2) && (b % 2 == 1 || b == 0) && a.abs_diff(b) <= 1;
    if first.page_bytes != second.page_bytes || !in_turn {
        let found = format!("meta pages of transactions {a} and {b}");
        return Err(damaged(found).expected("two that follow each other"));
    }
    Ok(if b > a { second } else { first })
}

/// A key for messages: text where it is text.
pub fn show(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

fn damaged(found: String) -> Error {
    Error::new(found).hint("the data base is cut off or damaged; make it again")
}
