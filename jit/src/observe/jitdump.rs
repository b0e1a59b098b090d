//! The jitdump format, for `perf record -k mono` and `perf inject --jit`. One of the few files with
//! `unsafe`.
//!
//! Format: tools/perf/Documentation/jitdump-specification.txt of the Linux sources, version 1.

use super::{CodeObserver, PublishedCode};
use memmap2::{Mmap, MmapOptions};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// "JiTD", in the byte order of the machine.
const MAGIC: u32 = 0x4A69_5444;
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 40;
/// ELF's number of x86-64.
const MACHINE: u32 = 62;
const CODE_LOAD: u32 = 0;
const CODE_DEBUG_INFO: u32 = 2;
const PREFIX_BYTES: u32 = 16;

/// A `jit-<process id>.dump` file.
pub struct JitDump {
    state: Mutex<State>,
    path: PathBuf,
    /// perf finds the file by this mapping.
    _marker: Mmap,
}

struct State {
    file: File,
    /// Number of the next code.
    index: u64,
}

impl JitDump {
    /// Makes the file in `folder`.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("jit-{}.dump", std::process::id()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let mut header = Record::default();
        header
            .u32(MAGIC)
            .u32(VERSION)
            .u32(HEADER_BYTES)
            .u32(MACHINE)
            .u32(0);
        header.u32(std::process::id()).u64(now()).u64(0);
        file.write_all(&header.0)?;
        // SAFETY: the mapping is never read; perf sees the system call and takes the file's name from it.
        let marker = unsafe {
            MmapOptions::new()
                .len(HEADER_BYTES as usize)
                .map_exec(&file)?
        };
        let state = Mutex::new(State { file, index: 0 });
        Ok(Self {
            state,
            path,
            _marker: marker,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl CodeObserver for JitDump {
    fn register(&self, code: &PublishedCode<'_>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = debug_info(code).unwrap_or_default();
        records.extend(load(code, state.index));
        state.index += 1;
        state.file.write_all(&records)
    }
}

/// The clock of perf's `-k mono`.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.0.extend(text.iter().filter(|&&byte| byte != 0));
        self.0.push(0);
        self
    }
    /// With what every record starts with.
    fn framed(self, kind: u32) -> Vec<u8> {
        let mut framed = Record::default();
        framed
            .u32(kind)
            .u32(PREFIX_BYTES + self.0.len() as u32)
            .u64(now());
        framed.0.extend(self.0);
        framed.0
    }
}

fn load(code: &PublishedCode<'_>, index: u64) -> Vec<u8> {
    let (process, address) = (std::process::id(), code.addresses.start as u64);
    let mut record = Record::default();
    // There is no thread of its own to name: perf only shows the number.
    record.u32(process).u32(process).u64(address).u64(address);
    record
        .u64(code.bytes.len() as u64)
        .u64(index)
        .text(code.name.as_bytes());
    record.0.extend(code.bytes);
    record.framed(CODE_LOAD)
}

/// Must precede the code it is about.
fn debug_info(code: &PublishedCode<'_>) -> Option<Vec<u8>> {
    let source = code.source?;
    let mut record = Record::default();
    let start = code.addresses.start as u64;
    record.u64(start).u64(source.lines.len() as u64);
    for &(offset, line) in &source.lines {
        record.u64(start + u64::from(offset)).u32(line).u32(0);
        // In full: perf 6.1 takes the format's "same file as before", 0xff, for a file's name.
        record.text(source.file.as_os_str().as_bytes());
    }
    Some(record.framed(CODE_DEBUG_INFO))
}
