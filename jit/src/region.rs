//! Executable memory. A region is written while it is not executable and executed while it is not
//! writable; it never is both. Code that is only to be looked at or written to a file is never executable.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::Code;

/// Largest region: keeps every offset well inside the ±2 GiB of relative jumps.
pub const MAX_REGION_BYTES: usize = 1 << 30;

/// Start of each code inside a region: one cache line.
const CODE_ALIGN: usize = 64;
/// From this size on, huge pages are asked for (fewer instruction TLB misses).
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// `int3`: a jump into the gap between two codes traps.
const PADDING: u8 = 0xCC;

/// Published machine code; unmapped with the last `Arc`.
pub struct CodeRegion {
    mapping: Mmap,
    /// Bytes of code; the mapping is padded to whole pages.
    len: usize,
    executable: bool,
}

/// Why code could not be made executable.
#[derive(Debug)]
pub enum RegionError {
    /// More code than [`MAX_REGION_BYTES`].
    TooLarge {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The system gave no memory.
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused to make the memory executable.
    Protect {
        /// Bytes of the region.
        bytes: usize,
        /// The system's error.
        source: io::Error,
    },
}

impl CodeRegion {
    /// Copies `code` into memory of its own and makes it executable. Offsets in the region are the
    /// code's own.
    pub fn publish(code: &Code) -> Result<Arc<Self>, RegionError> {
        Self::publish_all(&[code]).map(|(region, _)| region)
    }

    /// Publishes several codes side by side, each aligned to 64 bytes; returns the offset of each.
    pub fn publish_all(codes: &[&Code]) -> Result<(Arc<Self>, Vec<usize>), RegionError> {
        Self::finish(codes, MmapMut::make_exec, true)
    }

    /// As [`CodeRegion::publish_all`], for code that is not run: systems that forbid generated code allow
    /// it. Calling it panics.
    pub fn store_all(codes: &[&Code]) -> Result<(Arc<Self>, Vec<usize>), RegionError> {
        Self::finish(codes, MmapMut::make_read_only, false)
    }

    fn finish(
        codes: &[&Code],
        protect: fn(MmapMut) -> std::io::Result<Mmap>,
        executable: bool,
    ) -> Result<(Arc<Self>, Vec<usize>), RegionError> {
        let (writable, len, bases) = written(codes)?;
        let mapping =
            protect(writable).map_err(|source| RegionError::Protect { bytes: len, source })?;
        let region = Self {
            mapping,
            len,
            executable,
        };
        Ok((Arc::new(region), bases))
    }

    /// Bytes of code, gaps between codes included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The code as data, for disassembly and comparison.
    pub fn bytes(&self) -> &[u8] {
        &self.mapping[..self.len]
    }

    /// Addresses of the whole region.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.mapping.as_ptr() as usize;
        start..start + self.len
    }

    /// Pointer to the byte at `offset`, if it is code that can be run.
    #[inline]
    pub(crate) fn pointer(&self, offset: usize) -> Option<*const u8> {
        let code = self.bytes().get(offset).filter(|_| self.executable);
        code.map(std::ptr::from_ref)
    }
}

/// Code side by side in memory of its own: the memory, the bytes in use, and the offset of each.
fn written(codes: &[&Code]) -> Result<(MmapMut, usize, Vec<usize>), RegionError> {
    let (bases, len) = place(codes)?;
    // An empty mapping is an error to the system; empty code is not one to us.
    let mut writable =
        MmapMut::map_anon(len.max(1)).map_err(|source| RegionError::Map { bytes: len, source })?;
    if len >= HUGE_PAGE_BYTES {
        // A hint: without huge pages the code only runs a little slower.
        let _ = writable.advise(memmap2::Advice::HugePage);
    }
    let mut end = 0;
    for (code, &base) in codes.iter().zip(&bases) {
        writable[end..base].fill(PADDING);
        end = base + code.bytes.len();
        writable[base..end].copy_from_slice(&code.bytes);
    }
    Ok((writable, len, bases))
}

/// Offset of each code and the bytes of all.
fn place(codes: &[&Code]) -> Result<(Vec<usize>, usize), RegionError> {
    let mut bases = Vec::with_capacity(codes.len());
    let mut end = 0usize;
    for code in codes {
        let base = end.next_multiple_of(CODE_ALIGN);
        end = base.saturating_add(code.bytes.len());
        if end > MAX_REGION_BYTES {
            return Err(RegionError::TooLarge { bytes: end });
        }
        bases.push(base);
    }
    Ok((bases, end))
}

impl fmt::Debug for CodeRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeRegion({:#x?})", self.addresses())
    }
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::TooLarge { bytes } => write!(
                f,
                "{bytes} bytes of code in one region; at most {MAX_REGION_BYTES} are allowed: \
                 publish in several regions, or let table-driven kernels take over"
            ),
            RegionError::Map { bytes, source } => {
                write!(f, "no memory for {bytes} bytes of code: {source}")
            }
            RegionError::Protect { bytes, source } => write!(
                f,
                "the system refused to make {bytes} bytes executable: {source}; a security policy \
                 (SELinux's execmem, PR_SET_MDWE, systemd's MemoryDenyWriteExecute) forbids generated \
                 code for this process"
            ),
        }
    }
}

impl std::error::Error for RegionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RegionError::TooLarge { .. } => None,
            RegionError::Map { source, .. } | RegionError::Protect { source, .. } => Some(source),
        }
    }
}
