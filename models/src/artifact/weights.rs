//! Codec of one weight tensor: the smallest of six forms, every bit kept.
//!
//! ```text
//! header, 32 bytes  positions u8 (0 all, 1 gaps) | value bytes u8 (4, 2, 1) | Rice parameter u8
//!                   | 0 u8 | codebook entries u32 | elements u64 | stored u64 | position bytes u64
//! codebook          f32 each, ascending by bit pattern; only when a value takes 1 or 2 bytes
//! values            `stored` of them: f32, or indices into the codebook
//! positions         Rice-coded gaps between stored elements in row-major order (see `bits`)
//! ```
//! Little endian. The plain form (all positions, 4-byte values) has zeros up to byte 64, so that in
//! a mapped file the values themselves are 64-byte aligned. Elements that are not stored are +0.0;
//! −0.0 is stored like any other value.

use super::bits::{BitReader, BitWriter, best_parameter};
use super::limits::MAX_TENSOR_ELEMENTS;
use crate::ir::PlacesWriter;
use crate::{Elements, Error, Places, Result, Shape, Weight};
use skimjit_host::memory;
use std::collections::HashMap;

const HEADER_BYTES: usize = 32;
const PLAIN_OFFSET: usize = 64;
const MAX_CODEBOOK: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Positions {
    All,
    Gaps,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Values {
    F32,
    Index16,
    Index8,
}

impl Values {
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Index16 => 2,
            Self::Index8 => 1,
        }
    }
    /// Narrowest index for a codebook; none when it is absent.
    fn for_codebook(entries: Option<usize>) -> Self {
        match entries {
            Some(0..=256) => Self::Index8,
            Some(0..=MAX_CODEBOOK) => Self::Index16,
            _ => Self::F32,
        }
    }
}

/// Encodes an array; [`decode`] gives back the same bits.
pub fn encode(weights: &[f32]) -> Vec<u8> {
    let is_stored = |value: &f32| value.to_bits() != 0;
    let stored = weights
        .iter()
        .enumerate()
        .filter(|(_, value)| is_stored(value));
    Array::new(weights.len(), stored.map(|(at, &value)| (at, value))).encode()
}

/// Encodes a weight; [`decode_weight`] gives back the same bits.
pub fn encode_weight(weight: &Weight) -> Vec<u8> {
    match weight.elements() {
        None => encode(weight.data()),
        Some(elements) => {
            let values = elements.values.iter().copied();
            Array::new(weight.shape().count(), elements.places.iter().zip(values)).encode()
        }
    }
}

/// What is to be encoded: everything but +0.0 is stored.
struct Array {
    count: usize,
    stored: Vec<f32>,
    /// Zeros in front of each stored element since the one before.
    gaps: Vec<u32>,
}

impl Array {
    /// From the stored elements and their places, ascending.
    fn new(count: usize, elements: impl Iterator<Item = (usize, f32)>) -> Self {
        let (mut next, mut gaps) = (0, Vec::new());
        let value = |(at, value): (usize, f32)| {
            gaps.push((at - next) as u32);
            next = at + 1;
            value
        };
        let stored = elements.map(value).collect();
        Self {
            count,
            stored,
            gaps,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let Some(codebook) = Codebook::collect(&self.stored) else {
            return self.encode_as(None);
        };
        let (with, without) = (
            self.encoded_bytes(Some(&codebook)),
            self.encoded_bytes(None),
        );
        self.encode_as((with.1 < without.1).then_some(&codebook))
    }

    /// The better choice of positions for that codebook, and the size it gives.
    fn encoded_bytes(&self, codebook: Option<&Codebook>) -> (Positions, usize) {
        let (_, position_bits) = best_parameter(self.gaps.iter().copied());
        let zero = usize::from(self.stored.len() < self.count);
        let values = |entries: usize, count: usize| match codebook {
            None => 4 * count,
            Some(book) => {
                let entries = book.len() + entries;
                4 * entries + Values::for_codebook(Some(entries)).bytes() * count
            }
        };
        let plain_pad = if codebook.is_none() {
            PLAIN_OFFSET - HEADER_BYTES
        } else {
            0
        };
        let all = HEADER_BYTES + plain_pad + values(zero, self.count);
        let gaps = HEADER_BYTES + values(0, self.stored.len()) + position_bits.div_ceil(8) as usize;
        if all <= gaps {
            (Positions::All, all)
        } else {
            (Positions::Gaps, gaps)
        }
    }

    fn encode_as(&self, codebook: Option<&Codebook>) -> Vec<u8> {
        let (positions, bytes) = self.encoded_bytes(codebook);
        let stores_zero = positions == Positions::All && self.stored.len() < self.count;
        let codebook = codebook.map(|book| book.entries(stores_zero));
        let values = Values::for_codebook(codebook.as_ref().map(Vec::len));
        let (parameter, position_bits) = match positions {
            Positions::All => (0, 0),
            Positions::Gaps => best_parameter(self.gaps.iter().copied()),
        };
        let stored = match positions {
            Positions::All => self.count,
            Positions::Gaps => self.stored.len(),
        };
        let header = Header {
            positions,
            values,
            parameter,
            codebook: codebook.as_ref().map_or(0, Vec::len),
            elements: self.count as u64,
            stored: stored as u64,
            position_bytes: position_bits.div_ceil(8),
        };
        let mut out = Vec::with_capacity(bytes);
        header.write(&mut out);
        let codebook = codebook.unwrap_or_default();
        match positions {
            Positions::All => write_values(&mut out, self.all(), values, &codebook),
            Positions::Gaps => {
                let stored = self.stored.iter().copied();
                write_values(&mut out, stored, values, &codebook);
                let mut writer = BitWriter::new(&mut out);
                self.gaps
                    .iter()
                    .for_each(|&gap| writer.rice(gap, parameter));
                writer.finish();
            }
        }
        debug_assert_eq!(out.len(), bytes);
        out
    }

    /// All elements, zeros included.
    fn all(&self) -> impl Iterator<Item = f32> + '_ {
        let zeros = |count: usize| std::iter::repeat_n(0.0, count);
        let both = self.gaps.iter().zip(&self.stored);
        let behind = self.count - self.stored.len();
        let behind = behind - self.gaps.iter().map(|&gap| gap as usize).sum::<usize>();
        let stored =
            both.flat_map(move |(&gap, &value)| zeros(gap as usize).chain(std::iter::once(value)));
        stored.chain(zeros(behind))
    }
}

fn write_values(
    out: &mut Vec<u8>,
    stored: impl Iterator<Item = f32>,
    values: Values,
    codebook: &[u32],
) {
    out.extend(codebook.iter().flat_map(|bits| bits.to_le_bytes()));
    let index_of: HashMap<u32, u16> = codebook.iter().copied().zip(0..=u16::MAX).collect();
    for value in stored {
        match values {
            Values::F32 => out.extend(value.to_le_bytes()),
            Values::Index16 => out.extend(index_of[&value.to_bits()].to_le_bytes()),
            Values::Index8 => out.push(index_of[&value.to_bits()] as u8),
        }
    }
}

/// Distinct bit patterns of the stored elements, ascending.
struct Codebook(Vec<u32>);

impl Codebook {
    /// `None` when there are more than an index can tell apart.
    fn collect(stored: &[f32]) -> Option<Self> {
        let mut seen = std::collections::HashSet::new();
        for value in stored {
            if seen.insert(value.to_bits()) && seen.len() > MAX_CODEBOOK {
                return None;
            }
        }
        let mut entries: Vec<u32> = seen.into_iter().collect();
        entries.sort_unstable();
        Some(Self(entries))
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    /// With +0.0 in front when the zeros themselves are stored.
    fn entries(&self, with_zero: bool) -> Vec<u32> {
        with_zero
            .then_some(0)
            .into_iter()
            .chain(self.0.iter().copied())
            .collect()
    }
}

/// Decodes a tensor of `count` elements. Never reads or writes out of range, whatever the bytes.
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<f32>> {
    let parts = Parts::new(bytes, count)?;
    if let (Positions::All, Values::F32) = (parts.positions, parts.values) {
        return Ok(parts.stored.chunks_exact(4).map(f32_of).collect());
    }
    memory::check(size_of::<f32>() as u64 * count as u64)?;
    // Zeroed pages cost nothing until they are written.
    let mut weights = vec![0.0; count];
    // `for_each` yields positions below `count` only.
    parts.for_each(count, |at, value| weights[at] = value)?;
    Ok(weights)
}

/// Decodes a weight of that shape. One that is stored by gaps, and takes less memory that way, is never
/// made dense.
pub fn decode_weight(bytes: &[u8], shape: &Shape) -> Result<Weight> {
    let (rows, cols) = shape.matrix();
    let parts = Parts::new(bytes, shape.count())?;
    let stored = parts.stored.len() / parts.values.bytes();
    let count = shape.count();
    let sparse_bytes = Places::most_bytes(stored, count) + 4 * stored;
    if parts.positions == Positions::All || sparse_bytes >= 4 * count {
        return Ok(Weight::dense(shape.clone(), decode(bytes, count)?));
    }
    memory::check(sparse_bytes as u64)?;
    let mut places = PlacesWriter::with_room(stored, count);
    let mut values = Vec::with_capacity(stored);
    parts.for_each(count, |at, value| {
        places.push(at);
        values.push(value);
    })?;
    let places = places.finish(rows, cols);
    Ok(Weight::sparse(shape.clone(), Elements { places, values }))
}

fn f32_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

#[derive(Debug)]
struct Header {
    positions: Positions,
    values: Values,
    parameter: u32,
    codebook: usize,
    elements: u64,
    stored: u64,
    position_bytes: u64,
}

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
        let positions = u8::from(self.positions == Positions::Gaps);
        out.extend([
            positions,
            self.values.bytes() as u8,
            self.parameter as u8,
            0,
        ]);
        out.extend((self.codebook as u32).to_le_bytes());
        out.extend(self.elements.to_le_bytes());
        out.extend(self.stored.to_le_bytes());
        out.extend(self.position_bytes.to_le_bytes());
        out.resize(self.data_offset(), 0);
    }
    fn read(bytes: &[u8]) -> Result<Self> {
        let (&header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| {
            Error::new(format!("{} bytes of weights", bytes.len()))
                .expected(format!("at least {HEADER_BYTES}"))
        })?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let (positions, values) = match header[..4] {
            [0, 4, 0, 0] => (Positions::All, Values::F32),
            [0, 2, 0, 0] => (Positions::All, Values::Index16),
            [0, 1, 0, 0] => (Positions::All, Values::Index8),
            [1, 4, 0..=31, 0] => (Positions::Gaps, Values::F32),
            [1, 2, 0..=31, 0] => (Positions::Gaps, Values::Index16),
            [1, 1, 0..=31, 0] => (Positions::Gaps, Values::Index8),
            _ => {
                return Err(Error::new(format!("weight encoding {:?}", &header[..4]))
                    .hint("compile the network again"));
            }
        };
        Ok(Self {
            positions,
            values,
            parameter: u32::from(header[2]),
            codebook: (word(0) >> 32) as usize,
            elements: word(8),
            stored: word(16),
            position_bytes: word(24),
        })
    }
    fn data_offset(&self) -> usize {
        match (self.positions, self.values) {
            (Positions::All, Values::F32) => PLAIN_OFFSET,
            _ => HEADER_BYTES,
        }
    }
    /// Checks all counts against each other and against the caller's.
    fn check(&self, count: usize) -> Result<()> {
        if self.elements != count as u64 {
            return Err(
                Error::new(format!("{} weights", self.elements)).expected(count.to_string())
            );
        }
        let stored_fits = match self.positions {
            Positions::All => self.stored == self.elements && self.position_bytes == 0,
            Positions::Gaps => self.stored <= self.elements,
        };
        let codebook_fits = match self.values {
            Values::F32 => self.codebook == 0,
            Values::Index16 => self.codebook <= MAX_CODEBOOK,
            Values::Index8 => self.codebook <= 256,
        };
        if stored_fits && codebook_fits {
            return Ok(());
        }
        Err(Error::new(format!("counts that do not agree: {self:?}")))
    }
    /// Bytes of the whole encoding; `None` beyond u64.
    fn total_bytes(&self) -> Option<u64> {
        let fixed = self.data_offset() as u64 + 4 * self.codebook as u64;
        let values = self.stored.checked_mul(self.values.bytes() as u64)?;
        fixed.checked_add(values)?.checked_add(self.position_bytes)
    }
}

/// An encoding cut into its parts, whose lengths agree with each other.
struct Parts<'a> {
    positions: Positions,
    values: Values,
    parameter: u32,
    codebook: Vec<f32>,
    stored: &'a [u8],
    gaps: &'a [u8],
}

impl<'a> Parts<'a> {
    fn new(bytes: &'a [u8], count: usize) -> Result<Self> {
        if count > MAX_TENSOR_ELEMENTS {
            return Err(too_large(count as u64));
        }
        let header = Header::read(bytes)?;
        header.check(count)?;
        if header.total_bytes() != Some(bytes.len() as u64) {
            return Err(Error::new(format!("{} bytes of weights", bytes.len()))
                .expected(format!("what {header:?} takes")));
        }
        // All lengths are parts of `bytes.len()` from here on.
        let (codebook, rest) = bytes[header.data_offset()..].split_at(4 * header.codebook);
        let (stored, gaps) = rest.split_at(header.stored as usize * header.values.bytes());
        Ok(Self {
            positions: header.positions,
            values: header.values,
            parameter: header.parameter,
            codebook: codebook.chunks_exact(4).map(f32_of).collect(),
            stored,
            gaps,
        })
    }
    /// Calls `put` with every stored element, positions ascending and below `count`.
    fn for_each(&self, count: usize, put: impl FnMut(usize, f32)) -> Result<()> {
        let book = |index: usize| self.codebook.get(index).copied();
        match self.values {
            Values::F32 => self.place(
                count,
                self.stored.chunks_exact(4).map(|v| Some(f32_of(v))),
                put,
            ),
            Values::Index16 => {
                let indices = self.stored.chunks_exact(2);
                let index = |v: &[u8]| usize::from(u16::from_le_bytes([v[0], v[1]]));
                self.place(count, indices.map(|v| book(index(v))), put)
            }
            Values::Index8 => self.place(
                count,
                self.stored.iter().map(|&v| book(usize::from(v))),
                put,
            ),
        }
    }
    fn place(
        &self,
        count: usize,
        values: impl Iterator<Item = Option<f32>>,
        mut put: impl FnMut(usize, f32),
    ) -> Result<()> {
        let no_entry = || {
            Error::new("an index beyond the codebook")
                .expected(format!("indices below {}", self.codebook.len()))
        };
        if self.positions == Positions::All {
            for (at, value) in values.take(count).enumerate() {
                put(at, value.ok_or_else(no_entry)?);
            }
            return Ok(());
        }
        let mut gaps = BitReader::new(self.gaps);
        let mut next = 0u64;
        for value in values {
            let gap = gaps
                .rice(self.parameter)
                .ok_or_else(|| short_positions(next))?;
            let at = next.saturating_add(gap);
            if at >= count as u64 {
                return Err(Error::new("a weight's position beyond the tensor")
                    .expected(format!("positions below {count}")));
            }
            put(at as usize, value.ok_or_else(no_entry)?);
            next = at + 1;
        }
        if gaps.is_finished() {
            Ok(())
        } else {
            Err(Error::new("more positions than weights"))
        }
    }
}

fn short_positions(next: u64) -> Error {
    Error::new(format!("positions that end before element {next}"))
        .expected("one position per stored weight")
}

fn too_large(count: u64) -> Error {
    Error::new(format!("{count} weights")).expected(format!("at most {MAX_TENSOR_ELEMENTS}"))
}
