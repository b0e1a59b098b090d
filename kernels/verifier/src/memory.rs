//! The buffers of one call. Every access is checked against their footprint.
//!
//! Buffers have no addresses: a pointer is a buffer and an offset, so no arithmetic leads from one
//! buffer to another, and nothing can depend on where a buffer happens to lie.

use crate::fault::{Kind, Wrong};
use crate::value::Lane;
use skimjit_kernels::Extent;
use std::fmt;

/// Lanes of the widest register.
pub const LANES: usize = 16;
/// The lanes of a register.
pub type Lanes = [Lane; LANES];

/// Which buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// An operand; 0 is the source.
    Source(u8),
    Result,
    Scratch,
    /// Packed weights and tables.
    Packed,
    /// What lies behind the instructions.
    Constants,
    Arguments,
    Stack,
}

impl Region {
    /// What the address of the buffer is known to be a multiple of. Operands are promised nothing but
    /// that of their elements.
    pub fn alignment(self) -> i64 {
        match self {
            Self::Source(_) | Self::Result => 4,
            Self::Scratch | Self::Packed | Self::Constants => 64,
            Self::Arguments => 8,
            Self::Stack => 16,
        }
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
            Self::Constants => f.write_str("the constants"),
            Self::Arguments => f.write_str("the arguments"),
            Self::Stack => f.write_str("the stack"),
        }
    }
}

/// A place in memory: a buffer and a distance in bytes from its base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer {
    pub region: Region,
    pub offset: i64,
}

impl Pointer {
    pub fn new(region: Region, offset: i64) -> Self {
        Self { region, offset }
    }

    pub fn moved(self, by: i64) -> Self {
        Self::new(self.region, self.offset.wrapping_add(by))
    }

    /// Whether the address is a multiple of `bytes`, wherever the buffer lies.
    pub fn aligned(self, bytes: i64) -> bool {
        self.region.alignment() >= bytes && self.offset % bytes == 0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} of {}", self.offset, self.region)
    }
}

/// What a general-purpose register or a slot of the stack holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    Number(u64),
    Pointer(Pointer),
    /// What register number … held when the kernel was called.
    Caller(u8),
    /// Where a call goes on.
    Return(u64),
    /// Nothing that the code may depend on.
    Undefined,
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

    /// Index of the element at a byte offset; `None` outside and between elements.
    fn at(&self, offset: i64) -> Option<usize> {
        let element = (offset / 4).checked_add(self.extent.before as i64)?;
        let inside = offset % 4 == 0 && (0..self.lanes.len() as i64).contains(&element);
        inside.then_some(element as usize)
    }

    /// Copies lanes 0 to `count` − 1.
    fn copy(&self, offset: i64, count: usize, to: &mut Lanes) -> Option<()> {
        let start = self.at(offset)?;
        let from = self.lanes.get(start..start + count)?;
        to[..count].copy_from_slice(from);
        Some(())
    }
}

/// Which task wrote an element: none.
const NOBODY: u32 = u32::MAX;

/// All buffers but the stack, which is the machine's.
pub struct Memory<'a> {
    sources: &'a [Cells],
    pub result: Cells,
    scratch: Cells,
    packed: &'a [u8],
    constants: &'a [u8],
    /// In words of 8 bytes.
    arguments: Vec<Value>,
    /// Which task wrote each element of the result.
    writers: Vec<u32>,
    /// The task that runs.
    task: u32,
}

type Checked<T> = Result<T, Wrong>;

impl<'a> Memory<'a> {
    pub fn new(
        sources: &'a [Cells],
        result: Extent,
        scratch_bytes: usize,
        [packed, constants]: [&'a [u8]; 2],
    ) -> Self {
        let after = scratch_bytes.div_ceil(4);
        let result = Cells::new(result);
        Self {
            sources,
            writers: vec![NOBODY; result.lanes.len()],
            result,
            scratch: Cells::new(Extent { before: 0, after }),
            packed,
            constants,
            arguments: Vec::new(),
            task: NOBODY,
        }
    }

    /// A task starts: nothing is left in scratch memory that it may use.
    pub fn begin(&mut self, task: u32, arguments: Vec<Value>) {
        self.task = task;
        self.scratch.lanes.fill(Lane::POISON);
        self.arguments = arguments;
    }

    /// A word or less into a general-purpose register.
    pub fn load_word(&self, from: Pointer, bytes: u8) -> Checked<Value> {
        match from.region {
            Region::Packed => self.table_bytes(from, bytes).map(Value::Number),
            Region::Arguments => self.argument(from, bytes),
            region => Err(Wrong::access(format!(
                "{region} is read into a general-purpose register"
            ))),
        }
    }

    fn argument(&self, from: Pointer, bytes: u8) -> Checked<Value> {
        let slot = usize::try_from(from.offset / 8).ok();
        let whole = bytes == 8 && from.offset % 8 == 0 && from.offset >= 0;
        let value = slot
            .filter(|_| whole)
            .and_then(|slot| self.arguments.get(slot));
        value.copied().ok_or_else(|| outside("reads", bytes, from))
    }

    /// Bytes of tables, the lowest first.
    fn table_bytes(&self, from: Pointer, count: u8) -> Checked<u64> {
        let table = match from.region {
            Region::Constants => self.constants,
            _ => self.packed,
        };
        let start = usize::try_from(from.offset).ok();
        let bytes =
            start.and_then(|start| table.get(start..start.checked_add(usize::from(count))?));
        let bytes = bytes.ok_or_else(|| outside("reads", count, from))?;
        let joined = bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        Ok(joined)
    }

    fn cells(&self, region: Region) -> Option<&Cells> {
        match region {
            Region::Source(index) => self.sources.get(usize::from(index)),
            Region::Result => Some(&self.result),
            Region::Scratch => Some(&self.scratch),
            _ => None,
        }
    }

    /// Bytes of a table as a number: indices and masks.
    pub fn load_bytes(&self, from: Pointer, bytes: u8) -> Checked<u64> {
        match from.region {
            Region::Packed => self.table_bytes(from, bytes),
            region => Err(Wrong::access(format!("{region} is read as a table"))),
        }
    }

    /// 4 bytes.
    pub fn load(&self, from: Pointer) -> Checked<Lane> {
        if matches!(from.region, Region::Packed | Region::Constants) {
            return Ok(Lane::bits(self.table_bytes(from, 4)? as u32));
        }
        let wrong = || outside("reads", 4, from);
        let cells = self.cells(from.region).ok_or_else(wrong)?;
        let at = cells.at(from.offset).ok_or_else(wrong)?;
        if from.region == Region::Result {
            self.check_reader(at)?;
        }
        Ok(cells.lanes[at])
    }

    /// Results of other tasks may be there or not.
    fn check_reader(&self, at: usize) -> Checked<()> {
        let writer = self.writers[at];
        if writer != self.task && writer != NOBODY {
            return Err(Wrong::access(format!(
                "a result of task {writer} is read by task {}",
                self.task
            )));
        }
        Ok(())
    }

    /// Lanes that are set in `active`, 4 bytes each; zero elsewhere.
    pub fn load_lanes(&self, from: Pointer, active: u16) -> Checked<Lanes> {
        let mut lanes = [Lane::ZERO; LANES];
        let count = active.trailing_ones();
        let whole = u32::from(active) == (1 << count) - 1;
        let plain = matches!(from.region, Region::Source(_) | Region::Scratch);
        if whole
            && plain
            && let Some(cells) = self.cells(from.region)
            && cells
                .copy(from.offset, count as usize, &mut lanes)
                .is_some()
        {
            return Ok(lanes);
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            if active >> number & 1 == 1 {
                *lane = self.load(from.moved(4 * number as i64))?;
            }
        }
        Ok(lanes)
    }

    /// 4 bytes.
    fn store(&mut self, to: Pointer, lane: Lane) -> Checked<()> {
        let wrong = || outside("writes", 4, to);
        let (cells, result) = match to.region {
            Region::Result => (&mut self.result, true),
            Region::Scratch => (&mut self.scratch, false),
            region => return Err(Wrong::access(format!("a write to {region}"))),
        };
        let at = cells.at(to.offset).ok_or_else(wrong)?;
        cells.lanes[at] = lane;
        if result {
            let writer = std::mem::replace(&mut self.writers[at], self.task);
            if writer != NOBODY && writer != self.task {
                return Err(Wrong::access(format!(
                    "element {} of the result is written by task {writer} and by task {}",
                    to.offset / 4,
                    self.task
                )));
            }
        }
        Ok(())
    }

    /// Lanes that are set in `active`, 4 bytes each.
    pub fn store_lanes(&mut self, to: Pointer, lanes: &Lanes, active: u16) -> Checked<()> {
        for (number, &lane) in lanes.iter().enumerate() {
            if active >> number & 1 == 1 {
                self.store(to.moved(4 * number as i64), lane)?;
            }
        }
        Ok(())
    }

    /// Whether anything wrote an element of the result.
    pub fn written(&self, index: usize) -> bool {
        self.writers[index] != NOBODY
    }
}

fn outside(what: &str, count: u8, at: Pointer) -> Wrong {
    Wrong::new(
        Kind::Access,
        format!("{what} {count} bytes at {at}, outside its footprint"),
    )
}
