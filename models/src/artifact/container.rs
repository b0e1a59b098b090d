//! Sections with checksums.
//!
//! ```text
//! header, 64 bytes    magic[8] | format u32 | sections u32 | file_bytes u64 | table_bytes u32
//!                     | table_crc u32 | product version, UTF-8, zero-padded to 32 bytes
//! table               per section: kind u32 | name_bytes u32 | offset u64 | length u64 | crc u32
//!                     | reserved u32 = 0 | name, zero-padded to a multiple of 8
//! sections            each at a multiple of 64, in table order, zero-padded
//! ```
//! Little endian throughout. `table_crc` covers header and table with the field itself as zero, so
//! that together with the section checksums every meaningful byte is covered. The header keeps this
//! form in every future format, so that an old reader can always say which version wrote a file.

use super::limits::{MAX_NAME_BYTES, MAX_SECTIONS};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;

/// First bytes of a file. The line ends make a transfer in text mode visible.
pub const MAGIC: [u8; 8] = *b"\x89SKIM\r\n\x1a";
/// The format that is written. Raised when the meaning of any section changes.
pub const FORMAT: u32 = 4;
/// The oldest format that is read.
const OLDEST: u32 = 2;
/// Alignment of every section's offset, in bytes: a cache line and a 512-bit vector.
pub const ALIGNMENT: usize = 64;

const HEADER_BYTES: usize = 64;
const TABLE_CRC: Range<usize> = 28..32;
const PRODUCT: Range<usize> = 32..64;
const ENTRY_BYTES: usize = 32;
const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a section holds. Kinds unknown to a reader are kept and can be ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind(pub u32);

impl Kind {
    /// The graph, see [`super::graph`].
    pub const GRAPH: Self = Self(1);
    /// One weight tensor, see [`super::weights`].
    pub const WEIGHT: Self = Self(2);
    /// The runtime's plan.
    pub const PLAN: Self = Self(3);
    /// Text about the file: where it came from, how it was made.
    pub const META: Self = Self(4);
    /// How pictures become inputs, see [`super::pictures`].
    pub const PREPROCESS: Self = Self(5);
    /// Names of the classes, see [`super::pictures`].
    pub const LABELS: Self = Self(6);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::GRAPH => f.write_str("graph"),
            Self::WEIGHT => f.write_str("weight"),
            Self::PLAN => f.write_str("plan"),
            Self::META => f.write_str("meta"),
            Self::PREPROCESS => f.write_str("preprocess"),
            Self::LABELS => f.write_str("labels"),
            Self(other) => write!(f, "{other}"),
        }
    }
}

/// Collects sections and writes them; the same sections in the same order give the same bytes.
#[derive(Default)]
pub struct Writer<'a> {
    sections: Vec<(Kind, String, Cow<'a, [u8]>)>,
    places: HashMap<(Kind, String), usize>,
}

impl<'a> Writer<'a> {
    /// Without sections.
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends a section. Refuses a second one of the same kind and name.
    pub fn add(&mut self, kind: Kind, name: &str, bytes: impl Into<Cow<'a, [u8]>>) -> Result<()> {
        check_name(name.as_bytes())?;
        if self.sections.len() == MAX_SECTIONS {
            return Err(too_many(MAX_SECTIONS + 1));
        }
        if self
            .places
            .insert((kind, name.to_owned()), self.sections.len())
            .is_some()
        {
            return Err(duplicate(kind, name));
        }
        self.sections.push((kind, name.to_owned(), bytes.into()));
        Ok(())
    }
    /// Writes the file from its first byte to its last.
    pub fn write_to(&self, mut out: impl io::Write) -> io::Result<()> {
        let (head, offsets) = self.head();
        out.write_all(&head)?;
        let mut at = head.len();
        for ((_, _, bytes), &offset) in self.sections.iter().zip(&offsets) {
            out.write_all(&[0; ALIGNMENT][..offset - at])?;
            out.write_all(bytes)?;
            at = offset + bytes.len();
        }
        out.flush()
    }
    /// The file in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)
            .expect("writing to memory does not fail");
        bytes
    }
    /// Header with table, and the offset of each section.
    fn head(&self) -> (Vec<u8>, Vec<usize>) {
        let table_bytes: usize = self
            .sections
            .iter()
            .map(|(_, name, _)| entry_bytes(name))
            .sum();
        let mut at = HEADER_BYTES + table_bytes;
        let mut offsets = Vec::with_capacity(self.sections.len());
        for (_, _, bytes) in &self.sections {
            at = at.next_multiple_of(ALIGNMENT);
            offsets.push(at);
            at += bytes.len();
        }
        let mut head = Vec::with_capacity(HEADER_BYTES + table_bytes);
        head.extend(MAGIC);
        head.extend(FORMAT.to_le_bytes());
        head.extend((self.sections.len() as u32).to_le_bytes());
        head.extend((at as u64).to_le_bytes());
        head.extend((table_bytes as u32).to_le_bytes());
        head.extend([0; 4]);
        head.extend(PRODUCT_VERSION.bytes().take(PRODUCT.len()));
        head.resize(HEADER_BYTES, 0);
        for ((kind, name, bytes), &offset) in self.sections.iter().zip(&offsets) {
            head.extend(kind.0.to_le_bytes());
            head.extend((name.len() as u32).to_le_bytes());
            head.extend((offset as u64).to_le_bytes());
            head.extend((bytes.len() as u64).to_le_bytes());
            head.extend(crc32fast::hash(bytes).to_le_bytes());
            head.extend([0; 4]);
            head.extend(name.bytes());
            head.resize(head.len().next_multiple_of(8), 0);
        }
        let crc = crc32fast::hash(&head);
        head[TABLE_CRC].copy_from_slice(&crc.to_le_bytes());
        (head, offsets)
    }
}

fn entry_bytes(name: &str) -> usize {
    ENTRY_BYTES + name.len().next_multiple_of(8)
}

/// A section of a file.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Name, unique within the kind.
    pub name: &'a str,
    /// Offset in the file, in bytes; a multiple of [`ALIGNMENT`].
    pub offset: usize,
    /// Contents.
    pub bytes: &'a [u8],
}

/// Sections of a file whose structure and checksums have all been verified.
pub struct Reader<'a> {
    format: u32,
    product_version: &'a str,
    sections: Vec<Section<'a>>,
    places: HashMap<(Kind, &'a str), usize>,
}

impl<'a> Reader<'a> {
    /// Verifies everything. Allocates in proportion to the table, which lies in `file`.
    pub fn new(file: &'a [u8]) -> Result<Self> {
        let header = Header::read(file)?;
        let table_end = HEADER_BYTES + header.table_bytes;
        let table = file
            .get(HEADER_BYTES..table_end)
            .ok_or_else(|| truncated(file, table_end))?;
        header.check_crc(file, table)?;
        if file.len() as u64 != header.file_bytes {
            return Err(Error::new(format!("{} bytes", file.len()))
                .expected(format!("{} bytes, as the header says", header.file_bytes))
                .hint("the file is incomplete, or something was appended: copy it again"));
        }
        let mut reader = Self {
            format: header.format,
            product_version: header.product_version,
            sections: Vec::with_capacity(header.sections),
            places: HashMap::with_capacity(header.sections),
        };
        reader.read_table(file, table, header.sections)?;
        Ok(reader)
    }
    /// Format of the file.
    pub fn format(&self) -> u32 {
        self.format
    }
    /// Version of the product that wrote the file.
    pub fn product_version(&self) -> &'a str {
        self.product_version
    }
    /// All sections, in file order.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }
    /// Contents of a section.
    pub fn section(&self, kind: Kind, name: &str) -> Option<&'a [u8]> {
        self.places
            .get(&(kind, name))
            .map(|&index| self.sections[index].bytes)
    }
    fn read_table(&mut self, file: &'a [u8], mut table: &'a [u8], count: usize) -> Result<()> {
        let mut free_from = HEADER_BYTES + table.len();
        for index in 0..count {
            let (section, crc, rest) = read_entry(file, table, free_from)
                .map_err(|error| error.field(format!("section {index}")))?;
            if self
                .places
                .insert((section.kind, section.name), index)
                .is_some()
            {
                return Err(duplicate(section.kind, section.name));
            }
            if crc32fast::hash(section.bytes) != crc {
                return Err(Error::new("contents that do not match their checksum")
                    .field(format!("section {} ({})", section.name, section.kind))
                    .hint("the file is damaged: copy it again, or compile the network again"));
            }
            free_from = section.offset + section.bytes.len();
            table = rest;
            self.sections.push(section);
        }
        if !table.is_empty() || free_from != file.len() {
            return Err(Error::new("bytes that belong to no section").field("section table"));
        }
        Ok(())
    }
}

/// Reads the first entry of `table`; returns it with its checksum and the rest of the table.
fn read_entry<'a>(
    file: &'a [u8],
    table: &'a [u8],
    free_from: usize,
) -> Result<(Section<'a>, u32, &'a [u8])> {
    let short = || Error::new("a table that ends inside an entry");
    let (entry, rest) = table.split_at_checked(ENTRY_BYTES).ok_or_else(short)?;
    let name_bytes = u32_at(entry, 4) as usize;
    if name_bytes > MAX_NAME_BYTES {
        return Err(Error::new(format!("a name of {name_bytes} bytes"))
            .expected(format!("1 to {MAX_NAME_BYTES}")));
    }
    let (name, rest) = rest
        .split_at_checked(name_bytes.next_multiple_of(8))
        .ok_or_else(short)?;
    let name = check_name(&name[..name_bytes])?;
    let (offset, length) = (u64_at(entry, 8), u64_at(entry, 16));
    let range = usize::try_from(offset)
        .ok()
        .zip(usize::try_from(length).ok());
    let range = range.and_then(|(offset, length)| Some(offset..offset.checked_add(length)?));
    let bytes = range.clone().and_then(|range| file.get(range));
    let (Some(Range { start, .. }), Some(bytes)) = (range, bytes) else {
        return Err(Error::new(format!(
            "section {name} of {length} bytes at offset {offset}"
        ))
        .expected(format!("a place within the file of {} bytes", file.len())));
    };
    if !start.is_multiple_of(ALIGNMENT) || start < free_from || start - free_from >= ALIGNMENT {
        return Err(Error::new(format!("section {name} at offset {start}")).expected(format!(
            "the next multiple of {ALIGNMENT} behind what comes before it, which ends at {free_from}"
        )));
    }
    let section = Section {
        kind: Kind(u32_at(entry, 0)),
        name,
        offset: start,
        bytes,
    };
    Ok((section, u32_at(entry, 24), rest))
}

struct Header<'a> {
    format: u32,
    sections: usize,
    file_bytes: u64,
    table_bytes: usize,
    table_crc: u32,
    product_version: &'a str,
}

impl<'a> Header<'a> {
    fn read(file: &'a [u8]) -> Result<Self> {
        if !file.starts_with(&MAGIC) {
            return Err(Error::new("a file that does not start like a .skim file")
                .hint("compile a prototxt and a caffemodel to get one"));
        }
        let header = file
            .get(..HEADER_BYTES)
            .ok_or_else(|| truncated(file, HEADER_BYTES))?;
        let product = &header[PRODUCT];
        let product = product.split(|&byte| byte == 0).next().unwrap_or(product);
        let product_version = std::str::from_utf8(product).unwrap_or("unknown");
        let format = u32_at(header, 8);
        check_format(format, product_version)?;
        let sections = u32_at(header, 12) as usize;
        let table_bytes = u32_at(header, 24) as usize;
        if sections > MAX_SECTIONS {
            return Err(too_many(sections));
        }
        if sections * ENTRY_BYTES > table_bytes {
            return Err(
                Error::new(format!("{sections} sections in {table_bytes} bytes"))
                    .field("section table"),
            );
        }
        Ok(Self {
            format,
            sections,
            file_bytes: u64_at(header, 16),
            table_bytes,
            table_crc: u32_at(header, TABLE_CRC.start),
            product_version,
        })
    }
    fn check_crc(&self, file: &[u8], table: &[u8]) -> Result<()> {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&file[..TABLE_CRC.start]);
        hasher.update(&[0; TABLE_CRC.end - TABLE_CRC.start]);
        hasher.update(&file[TABLE_CRC.end..HEADER_BYTES]);
        hasher.update(table);
        if hasher.finalize() == self.table_crc {
            return Ok(());
        }
        Err(Error::new("contents that do not match their checksum")
            .field("section table")
            .hint("the file is damaged: copy it again, or compile the network again"))
    }
}

fn check_format(format: u32, product_version: &str) -> Result<()> {
    let hint = match format {
        OLDEST..=FORMAT => return Ok(()),
        newer if newer > FORMAT => {
            format!("it was written by version {product_version}: update this program")
        }
        _ => format!("it was written by version {product_version}: compile the network again"),
    };
    Err(Error::new(format!("format {format}"))
        .field("format")
        .expected(format!(
            "format {OLDEST} to {FORMAT} (this is version {PRODUCT_VERSION})"
        ))
        .hint(hint))
}

/// Names are shown to users and compared bytewise: printable ASCII only.
fn check_name(name: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(name).ok();
    text.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| {
            Error::new(format!("section name {:?}", String::from_utf8_lossy(name)))
                .expected(format!("1 to {MAX_NAME_BYTES} printable ASCII characters"))
        })
}

fn duplicate(kind: Kind, name: &str) -> Error {
    Error::new(format!("two sections {name} of kind {kind}")).expected("one")
}

fn too_many(sections: usize) -> Error {
    Error::new(format!("{sections} sections")).expected(format!("at most {MAX_SECTIONS}"))
}

fn truncated(file: &[u8], needed: usize) -> Error {
    Error::new(format!("{} bytes", file.len()))
        .expected(format!("at least {needed} bytes"))
        .hint("the file is incomplete: copy it again")
}

/// `bytes` is one of the fixed-size parts above; the offset is a constant within it.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
