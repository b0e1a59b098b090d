//! The buffers of one call. Every access is checked against their footprint.

use crate::value::Lane;
use skimjit_kernels::Extent;
use std::fmt;

/// Distance of buffers in the made-up address space: no displacement leads from one to another.
const SPACING: u64 = 1 << 40;

/// Which buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// An operand; 0 is the source.
    Source(usize),
    Result,
    Scratch,
    /// Packed weights and tables.
    Packed,
    Arguments,
    Stack,
}

impl Region {
    const ALL: [Self; 13] = [
        Self::Result,
        Self::Scratch,
        Self::Packed,
        Self::Arguments,
        Self::Stack,
        Self::Source(0),
        Self::Source(1),
        Self::Source(2),
        Self::Source(3),
        Self::Source(4),
        Self::Source(5),
        Self::Source(6),
        Self::Source(7),
    ];

    fn index(self) -> usize {
        Self::ALL
            .iter()
            .position(|&region| region == self)
            .unwrap_or(0)
    }

    /// Address of the buffer's base.
    pub fn base(self) -> u64 {
        (self.index() as u64 + 1) * SPACING
    }

    /// Buffer and offset of an address.
    fn of(address: u64) -> Option<(Self, i64)> {
        let number = (address.wrapping_add(SPACING / 2) / SPACING) as usize;
        let region = *Self::ALL.get(number.wrapping_sub(1))?;
        Some((region, address.wrapping_sub(region.base()) as i64))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(0) => f.write_str("the source"),
            Self::Source(index) => write!(f, "operand {index}"),
            Self::Result => f.write_str("the result"),
            Self::Scratch => f.write_str("the scratch memory"),
            Self::Packed => f.write_str("the packed weights"),
            Self::Arguments => f.write_str("the arguments"),
            Self::Stack => f.write_str("the stack"),
        }
    }
}

/// Lanes from `extent.before` elements before the base on.
#[derive(Default)]
pub struct Cells {
    pub extent: Extent,
    pub lanes: Vec<Lane>,
}

impl Cells {
    /// All poison.
    pub fn new(extent: Extent) -> Self {
        let lanes = vec![Lane::POISON; extent.before + extent.after];
        Self { extent, lanes }
    }
    fn at(&self, offset: i64) -> Option<usize> {
        let element = offset / 4 + self.extent.before as i64;
        let inside = offset % 4 == 0 && (0..self.lanes.len() as i64).contains(&element);
        inside.then_some(element as usize)
    }
}

/// Bytes of stack that a kernel may use.
const STACK_BYTES: usize = 1024;
/// Which task wrote an element: none.
const NOBODY: u32 = u32::MAX;

/// All buffers.
pub struct Memory<'a> {
    pub sources: Vec<Cells>,
    pub result: Cells,
    pub scratch: Cells,
    pub packed: &'a [u8],
    pub arguments: Vec<u8>,
    stack: Vec<u8>,
    /// Which task wrote each element of the result.
    writers: Vec<u32>,
    /// The task that runs.
    pub task: u32,
}

/// What an access did wrong.
pub struct Wrong(pub String);

type Checked<T> = Result<T, Wrong>;

impl<'a> Memory<'a> {
    pub fn new(
        sources: Vec<Cells>,
        result: Extent,
        scratch_bytes: usize,
        packed: &'a [u8],
    ) -> Self {
        let after = scratch_bytes.div_ceil(4);
        let result = Cells::new(result);
        Self {
            sources,
            writers: vec![NOBODY; result.lanes.len()],
            result,
            scratch: Cells::new(Extent { before: 0, after }),
            packed,
            arguments: Vec::new(),
            stack: vec![0; STACK_BYTES],
            task: 0,
        }
    }

    /// Where the stack starts; it grows down.
    pub fn stack_top() -> u64 {
        Region::Stack.base() + STACK_BYTES as u64
    }

    fn find(address: u64, what: &str) -> Checked<(Region, i64)> {
        Region::of(address)
            .ok_or_else(|| Wrong(format!("{what} at {address:#x}, which is no buffer")))
    }

    fn bytes_of(&self, region: Region) -> Option<&[u8]> {
        match region {
            Region::Packed => Some(self.packed),
            Region::Arguments => Some(&self.arguments),
            Region::Stack => Some(&self.stack),
            _ => None,
        }
    }

    fn cells_of(&self, region: Region) -> Option<&Cells> {
        match region {
            Region::Source(index) => self.sources.get(index),
            Region::Result => Some(&self.result),
            Region::Scratch => Some(&self.scratch),
            _ => None,
        }
    }

    /// Bytes of tables, arguments, stack or scratch memory.
    pub fn load_bytes(&self, address: u64, count: usize) -> Checked<u64> {
        let (region, offset) = Self::find(address, "a read")?;
        let value = match self.bytes_of(region) {
            Some(bytes) => usize::try_from(offset)
                .ok()
                .and_then(|start| bytes.get(start..start.checked_add(count)?))
                .map(|bytes| {
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |value, &byte| value << 8 | u64::from(byte))
                }),
            None if region == Region::Scratch => self.scratch_bits(offset, count)?,
            None => {
                return Err(Wrong(format!(
                    "{region} is read into a general-purpose register"
                )));
            }
        };
        value.ok_or_else(|| outside("reads", count, region, offset))
    }

    fn scratch_bits(&self, offset: i64, count: usize) -> Checked<Option<u64>> {
        let mut value = 0;
        for part in [4, 0].into_iter().filter(|&part| part < count as i64) {
            let Some(at) = self.scratch.at(offset + part) else {
                return Ok(None);
            };
            let bits = self.scratch.lanes[at].as_bits();
            let bits = bits.ok_or_else(|| {
                Wrong("a number is read from scratch memory into a general-purpose register".into())
            })?;
            value = value << 32 | u64::from(bits);
        }
        Ok(Some(value))
    }

    /// 8 bytes to the stack or to scratch memory.
    pub fn store_u64(&mut self, address: u64, value: u64) -> Checked<()> {
        let (region, offset) = Self::find(address, "a write")?;
        let wrong = || outside("writes", 8, region, offset);
        match region {
            Region::Stack => {
                let start = usize::try_from(offset).map_err(|_| wrong())?;
                let bytes = self.stack.get_mut(start..start + 8).ok_or_else(wrong)?;
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            Region::Scratch => {
                for (part, bits) in [(0, value as u32), (4, (value >> 32) as u32)] {
                    let at = self.scratch.at(offset + part).ok_or_else(wrong)?;
                    self.scratch.lanes[at] = Lane::bits(bits);
                }
            }
            _ => return Err(Wrong(format!("an address is written to {region}"))),
        }
        Ok(())
    }

    /// 4 bytes.
    #[inline]
    pub fn load(&self, address: u64) -> Checked<Lane> {
        let (region, offset) = Self::find(address, "a read")?;
        match self.cells_of(region) {
            Some(cells) => cells
                .at(offset)
                .map(|at| cells.lanes[at])
                .ok_or_else(|| outside("reads", 4, region, offset)),
            None => Ok(Lane::bits(self.load_bytes(address, 4)? as u32)),
        }
    }

    /// 4 bytes.
    #[inline]
    pub fn store(&mut self, address: u64, lane: Lane) -> Checked<()> {
        let (region, offset) = Self::find(address, "a write")?;
        let cells = match region {
            Region::Result => &mut self.result,
            Region::Scratch => &mut self.scratch,
            _ => return Err(Wrong(format!("a write to {region}"))),
        };
        let at = cells
            .at(offset)
            .ok_or_else(|| outside("writes", 4, region, offset))?;
        cells.lanes[at] = lane;
        if region == Region::Result {
            let writer = std::mem::replace(&mut self.writers[at], self.task);
            if writer != NOBODY && writer != self.task {
                let element = offset / 4;
                return Err(Wrong(format!(
                    "element {element} of the result is written by task {writer} and by task {}",
                    self.task
                )));
            }
        }
        Ok(())
    }

    /// Whether anything wrote an element of the result.
    pub fn written(&self, index: usize) -> bool {
        self.writers[index] != NOBODY
    }
}

fn outside(what: &str, count: usize, region: Region, offset: i64) -> Wrong {
    Wrong(format!(
        "{what} {count} bytes at offset {offset} of {region}, outside its footprint"
    ))
}
