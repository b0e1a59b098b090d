//! Pages of an LMDB file of format version 1: 64-bit, little endian.
//!
//! Nothing here trusts a page: every position and length that a file gives is checked against the
//! page before it is used.

use skimjit_models::{Error, Result};

/// Bytes before the contents of every page.
pub const HEADER_BYTES: usize = 16;
/// Bytes that a node has before its key.
const NODE_BYTES: usize = 8;
/// Contents of a meta page.
pub const META_BYTES: usize = 136;
/// Page sizes that LMDB can have.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 256..=65_536;
/// Most levels of a tree, as in LMDB.
const MAX_DEPTH: u16 = 32;
/// Page number that stands for no page.
const NO_PAGE: u64 = u64::MAX;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

/// What a page is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Branch,
    Leaf,
    Overflow,
    Meta,
}

impl Kind {
    fn of(flags: u16) -> Option<Self> {
        // The other bits are a writer's notes about pages in memory.
        match flags & 0x6f {
            0x01 => Some(Self::Branch),
            0x02 => Some(Self::Leaf),
            0x04 => Some(Self::Overflow),
            0x08 => Some(Self::Meta),
            _ => None,
        }
    }
}

/// A little-endian number at a position, if it lies inside.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// What a meta page says; the newest valid one of two counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    pub page_bytes: usize,
    /// Levels of the tree; 0 when it is empty.
    pub depth: u16,
    pub entries: u64,
    /// [`NO_PAGE`] when the tree is empty.
    pub root: u64,
    pub last_page: u64,
    pub transaction: u64,
    /// Orders of keys and values other than the usual ones.
    pub flags: u16,
}

impl Meta {
    /// Reads the start of a meta page.
    pub fn parse(page: &[u8]) -> Result<Self> {
        let number = |at| u32_at(page, at);
        let damaged = |found: String| {
            Error::new(found)
                .expected("an LMDB data base")
                .hint("the file is cut off, damaged, or of another kind")
        };
        if number(HEADER_BYTES) != Some(MAGIC) {
            return Err(if number(HEADER_BYTES - 4) == Some(MAGIC) {
                Error::new("an LMDB data base of a 32-bit computer")
                    .expected("one of a 64-bit computer")
                    .hint("copy it with mdb_dump there and mdb_load here")
            } else if number(HEADER_BYTES) == Some(MAGIC.swap_bytes()) {
                Error::new("an LMDB data base of a big-endian computer")
                    .expected("one of a little-endian computer")
                    .hint("copy it with mdb_dump there and mdb_load here")
            } else {
                damaged("no LMDB meta page".to_owned())
            });
        }
        let version = number(HEADER_BYTES + 4).unwrap_or(0);
        if version != VERSION {
            return Err(Error::new(format!("LMDB format version {version}"))
                .expected(format!("version {VERSION}, that of LMDB 0.9")));
        }
        let meta = Self::fields(page).ok_or_else(|| damaged("half a meta page".to_owned()))?;
        meta.check().map_or(Ok(meta), |found| {
            Err(damaged(format!("a meta page {found}")))
        })
    }

    fn fields(page: &[u8]) -> Option<Self> {
        let free = HEADER_BYTES + 24;
        let main = free + 48;
        Some(Self {
            page_bytes: u32_at(page, free)? as usize,
            flags: u16_at(page, main + 4)?,
            depth: u16_at(page, main + 6)?,
            entries: u64_at(page, main + 32)?,
            root: u64_at(page, main + 40)?,
            last_page: u64_at(page, main + 48)?,
            transaction: u64_at(page, main + 56)?,
        })
    }

    /// What is impossible, if anything.
    fn check(&self) -> Option<String> {
        let empty = self.root == NO_PAGE;
        if !self.page_bytes.is_power_of_two() || !PAGE_BYTES.contains(&self.page_bytes) {
            Some(format!("with pages of {} bytes", self.page_bytes))
        } else if self.depth > MAX_DEPTH {
            Some(format!("with a tree of {} levels", self.depth))
        } else if empty != (self.depth == 0) || empty != (self.entries == 0) {
            let (depth, entries) = (self.depth, self.entries);
            Some(format!("with {entries} records in {depth} levels"))
        } else if !empty && self.root > self.last_page {
            let (root, last) = (self.root, self.last_page);
            Some(format!("with root page {root} of {last}"))
        } else {
            None
        }
    }
}

/// A page as read.
pub struct Page {
    bytes: Vec<u8>,
}

/// Where the value of a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueAt {
    /// In the page of its key.
    Page { start: usize, end: usize },
    /// On pages of its own.
    Overflow { page: u64, bytes: usize },
}

impl Page {
    /// Checks the header of page `number`.
    pub fn new(bytes: Vec<u8>, number: u64) -> std::result::Result<Self, String> {
        let stored = u64_at(&bytes, 0).unwrap_or(NO_PAGE);
        if stored != number {
            return Err(format!("the number of page {stored}"));
        }
        Ok(Self { bytes })
    }

    pub fn kind(&self) -> Option<Kind> {
        u16_at(&self.bytes, 10).and_then(Kind::of)
    }

    /// Flags as stored, for messages.
    pub fn flags(&self) -> u16 {
        u16_at(&self.bytes, 10).unwrap_or(0)
    }

    /// Pages of an overflow run, this one included.
    pub fn run(&self) -> u32 {
        u32_at(&self.bytes, 12).unwrap_or(0)
    }

    /// Nodes of a branch or leaf page; at least 1.
    pub fn nodes(&self) -> std::result::Result<usize, String> {
        let lower = usize::from(u16_at(&self.bytes, 12).unwrap_or(0));
        // A page of 65,536 bytes without free space has an upper bound that does not fit.
        let upper = match u16_at(&self.bytes, 14) {
            Some(0) => self.bytes.len(),
            upper => usize::from(upper.unwrap_or(0)),
        };
        let fits = lower > HEADER_BYTES && lower.is_multiple_of(2);
        if !fits || lower > upper || upper > self.bytes.len() {
            return Err(format!("free space from {lower} to {upper}"));
        }
        Ok((lower - HEADER_BYTES) / 2)
    }

    /// Start of a node, checked so that its head lies in the page.
    fn node(&self, index: usize) -> std::result::Result<usize, String> {
        let at = u16_at(&self.bytes, HEADER_BYTES + 2 * index).map(usize::from);
        at.filter(|&at| at >= HEADER_BYTES && at + NODE_BYTES <= self.bytes.len())
            .ok_or_else(|| format!("node {index} at {at:?}"))
    }

    /// Key of a node.
    pub fn key(&self, index: usize) -> std::result::Result<&[u8], String> {
        let at = self.node(index)?;
        let length = usize::from(u16_at(&self.bytes, at + 6).unwrap_or(0));
        self.bytes
            .get(at + NODE_BYTES..at + NODE_BYTES + length)
            .ok_or_else(|| format!("node {index} with a key of {length} bytes"))
    }

    /// Page below a node of a branch page.
    pub fn child(&self, index: usize) -> std::result::Result<u64, String> {
        let at = self.node(index)?;
        let part = |offset| u64::from(u16_at(&self.bytes, at + offset).unwrap_or(0));
        Ok(part(0) | part(2) << 16 | part(4) << 32)
    }

    /// Value of a node of a leaf page.
    pub fn value(&self, index: usize) -> std::result::Result<ValueAt, String> {
        let start = self.node(index)? + NODE_BYTES + self.key(index)?.len();
        let at = self.node(index)?;
        let bytes = u32_at(&self.bytes, at).unwrap_or(0) as usize;
        match u16_at(&self.bytes, at + 4).unwrap_or(0) {
            0 if start + bytes <= self.bytes.len() => {
                let end = start + bytes;
                Ok(ValueAt::Page { start, end })
            }
            0 => Err(format!("node {index} with {bytes} bytes of value")),
            1 => {
                let page = u64_at(&self.bytes, start);
                let page = page.ok_or_else(|| format!("node {index} beyond its end"))?;
                Ok(ValueAt::Overflow { page, bytes })
            }
            2 => Err(format!("node {index} with a named data base in it")),
            flags => Err(format!("node {index} with flags {flags:#x}")),
        }
    }

    /// Bytes of the page; the range comes from [`Page::value`].
    pub fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }
}
