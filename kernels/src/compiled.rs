//! Built kernels that can be called, and the memory they own. One of the few files with `unsafe`.

use crate::{Built, Footprint, Task, stage::Staging};
use skimjit_jit::{Arithmetic, CodeRegion, EntryPoint};
use std::ops::Range;
use std::sync::Arc;

/// Most operands a kernel can read.
pub const MAX_OPERANDS: usize = 8;

/// Most code that is read ahead: it has to stay in the second-level cache until it runs.
const READ_AHEAD_BYTES: usize = 512 << 10;

/// The one argument of every generated function.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct KernelArgs {
    /// Operands; entry 0 is the source, entry 1 the residual of a convolution.
    pub src: [*const u8; MAX_OPERANDS],
    /// Result.
    pub dst: *mut u8,
    /// Packed weights of this task.
    pub wei: *const u8,
    /// Bias of this task.
    pub bias: *const u8,
    /// Tables of this task.
    pub aux: *const u8,
    /// Scratch memory of this thread.
    pub scratch: *mut u8,
    /// Loop trips of this task.
    pub count: u64,
}

/// Operands of one call: pointers to plane 0 of each.
#[derive(Clone, Copy)]
pub struct KernelIo<'a> {
    /// Sources.
    pub src: &'a [*const f32],
    /// Result.
    pub dst: *mut f32,
    /// At least [`Footprint::scratch_bytes`] bytes that no other thread uses, 64-byte aligned.
    pub scratch: *mut f32,
}

/// A kernel whose code is in executable memory.
pub struct CompiledKernel {
    entries: Vec<EntryPoint<KernelArgs>>,
    packed: Arc<AlignedBuf>,
    tasks: Vec<Task>,
    staging: Option<Staging>,
    footprint: Footprint,
    /// Keeps the code alive, and where in it this kernel lies.
    region: Arc<CodeRegion>,
    code: Range<usize>,
    /// Where each entry starts in `code`.
    starts: Vec<usize>,
}

impl CompiledKernel {
    /// Binds a built kernel to the region its code was published in, `base` bytes from its start.
    ///
    /// # Panics
    /// When an entry lies outside the region (our bug).
    pub fn new(built: Built, region: &Arc<CodeRegion>, base: usize) -> Self {
        let entries = built
            .entries
            .iter()
            .map(|&offset| EntryPoint::new(region, base + offset).expect("entry inside the region"))
            .collect();
        Self {
            entries,
            packed: built.packed,
            tasks: built.tasks,
            staging: built.staging,
            footprint: built.footprint,
            region: region.clone(),
            code: base..base + built.code.bytes.len(),
            starts: built.entries,
        }
    }
    /// [`CompiledKernel::run`] for code that is far away. It is read before it runs, all of it or one
    /// entry at a time: from memory, a core fetches instructions line by line as it comes to them,
    /// while the hardware runs ahead of reads.
    ///
    /// # Safety
    /// As for [`CompiledKernel::run`].
    pub unsafe fn run_far(&self, io: &KernelIo<'_>, tasks: Range<usize>) {
        let entries = self.tasks[tasks.clone()].iter().map(|task| task.entry);
        let all = entries.fold(None, |all: Option<[u32; 2]>, entry| {
            let [first, last] = all.unwrap_or([entry; 2]);
            Some([first.min(entry), last.max(entry)])
        });
        let Some([first, last]) = all else { return };
        let code = self.code_of(first, last);
        if code.len() <= READ_AHEAD_BYTES {
            read_lines(code);
            // SAFETY: the caller's promise.
            return unsafe { self.run(io, tasks) };
        }
        let arithmetic = Arithmetic::begin();
        let mut next = tasks.start;
        for group in self.tasks[tasks].chunk_by(|a, b| a.entry == b.entry) {
            read_lines(self.code_of(group[0].entry, group[0].entry));
            // SAFETY: the caller's promise, for a part of the tasks.
            unsafe { self.run_with(&arithmetic, io, next..next + group.len()) };
            next += group.len();
        }
    }
    /// Code from entry `first` to the end of entry `last`; entries are in the order of the code.
    fn code_of(&self, first: u32, last: u32) -> &[u8] {
        let code = self.code();
        let start = |entry: u32| self.starts.get(entry as usize).copied();
        let end = start(last + 1).unwrap_or(code.len());
        start(first)
            .and_then(|start| code.get(start..end))
            .unwrap_or_default()
    }
    /// Drops the code and the packed weights from the caches of all cores, for measurements: in a
    /// large network, other layers have done so when the kernel's turn comes.
    pub fn flush(&self) {
        let start = self.region.addresses().start;
        let code = (start + self.code.start) as *const u8;
        flush_lines(code, self.code.len());
        flush_lines(self.packed.as_ptr(), self.packed.len());
    }
    /// Machine code.
    pub fn code(&self) -> &[u8] {
        &self.region.bytes()[self.code.clone()]
    }
    /// Where each entry that tasks refer to starts in [`CompiledKernel::code`].
    pub fn entry_offsets(&self) -> &[usize] {
        &self.starts
    }
    /// Packed weights and tables.
    pub fn packed(&self) -> &[u8] {
        self.packed.bytes()
    }
    /// Parts of the code to read before a task runs, for code that is far away (see
    /// [`CompiledKernel::run_far`]): pairs of a task and what to read when its turn comes, for all
    /// tasks in order.
    pub fn read_ahead(&self) -> Vec<(usize, Range<usize>)> {
        let code = self.code();
        let range = |first: u32, last: u32| {
            let end = self.starts.get(last as usize + 1).copied();
            self.starts[first as usize]..end.unwrap_or(code.len())
        };
        let entries = || self.tasks.iter().map(|task| task.entry);
        let (Some(first), Some(last)) = (entries().min(), entries().max()) else {
            return vec![];
        };
        let all = range(first, last);
        if all.len() <= READ_AHEAD_BYTES {
            return vec![(0, all)];
        }
        let mut task = 0;
        let groups = self.tasks.chunk_by(|a, b| a.entry == b.entry);
        let group = |group: &[Task]| {
            let first = task;
            task += group.len();
            (first, range(group[0].entry, group[0].entry))
        };
        groups.map(group).collect()
    }
    /// Units of work.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }
    /// Copy of the source to make before the tasks run.
    pub fn staging(&self) -> Option<&Staging> {
        self.staging.as_ref()
    }
    /// Memory touched.
    pub fn footprint(&self) -> Footprint {
        self.footprint
    }
    /// Bytes of packed weights and tables.
    pub fn packed_bytes(&self) -> usize {
        self.packed.len()
    }

    /// Runs all tasks of a kernel whose footprint is empty (the peak measurement).
    ///
    /// # Panics
    /// When the footprint is not empty.
    pub fn run_without_memory(&self, io: &KernelIo<'_>) {
        assert_eq!(
            self.footprint,
            Footprint::default(),
            "the kernel touches memory"
        );
        // SAFETY: an empty footprint touches no operand.
        unsafe { self.run(io, 0..self.tasks.len()) };
    }

    /// Address of the function that computes a task, of the System V convention, with the address of
    /// [`CompiledKernel::args`] as its only argument. Valid as long as the kernel lives.
    ///
    /// # Panics
    /// When there is no such task.
    pub fn function(&self, task: usize) -> *const u8 {
        let entry = &self.entries[self.tasks[task].entry as usize];
        &raw const entry.region().bytes()[entry.offset()]
    }

    /// What the function of a task is called with. Valid as long as the kernel and the operands live.
    ///
    /// # Panics
    /// When there is no such task.
    pub fn args(&self, io: &KernelIo<'_>, task: usize) -> KernelArgs {
        self.args_of(io, &self.tasks[task])
    }

    fn args_of(&self, io: &KernelIo<'_>, task: &Task) -> KernelArgs {
        let packed = self.packed.as_ptr();
        let mut src = [std::ptr::null(); MAX_OPERANDS];
        for (slot, &operand) in src.iter_mut().zip(io.src) {
            *slot = operand.cast::<u8>().wrapping_offset(task.src as isize);
        }
        // Operand 1 lies as `dst` does: a convolution's residual, or an eltwise operand (whose
        // tasks move `src` and `dst` alike).
        if let Some(operand) = io.src.get(1) {
            src[1] = operand.cast::<u8>().wrapping_offset(task.dst as isize);
        }
        KernelArgs {
            src,
            dst: io.dst.cast::<u8>().wrapping_offset(task.dst as isize),
            wei: packed.wrapping_add(task.wei as usize),
            bias: packed.wrapping_add(task.bias as usize),
            aux: packed.wrapping_add(task.aux as usize),
            scratch: io.scratch.cast(),
            count: task.count,
        }
    }

    /// Runs some of the tasks.
    ///
    /// # Safety
    /// * `io` has as many sources as the problem and each may be read over `footprint().src`, `dst`
    ///   written over `footprint().dst`, and `scratch` is as documented there;
    /// * no other thread writes the sources or touches the parts of `dst` that these tasks write.
    pub unsafe fn run(&self, io: &KernelIo<'_>, tasks: Range<usize>) {
        // SAFETY: the caller's promise.
        unsafe { self.run_with(&Arithmetic::begin(), io, tasks) };
    }

    /// # Safety
    /// As for [`CompiledKernel::run`].
    unsafe fn run_with(&self, arithmetic: &Arithmetic, io: &KernelIo<'_>, tasks: Range<usize>) {
        for task in &self.tasks[tasks] {
            let args = self.args_of(io, task);
            // SAFETY: the caller vouches for `io`; `Built::tasks` come from the emitter of this
            // very code and keep every access inside the footprint; `packed` lives in `self`.
            unsafe { self.entries[task.entry as usize].call(arithmetic, &args) };
        }
    }
}

/// Brings bytes near.
fn read_lines(bytes: &[u8]) {
    std::hint::black_box(bytes.chunks(64).fold(0, |sum, line| sum ^ line[0]));
}

/// Drops the cache lines of `len` bytes that the caller holds.
fn flush_lines(start: *const u8, len: usize) {
    for offset in (0..len).step_by(64) {
        // SAFETY: the address lies in memory that is mapped, because the caller holds it; flushing a
        // line changes no contents.
        unsafe { std::arch::x86_64::_mm_clflush(start.wrapping_add(offset)) };
    }
    // SAFETY: a fence touches no memory.
    unsafe { std::arch::x86_64::_mm_mfence() };
}

/// A quarter of a cache line: the alignment that allocators give without being asked. A buffer that asks for more is
/// copied whenever it grows, and both copies are there at once.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Quarter([u8; 16]);

const QUARTERS: usize = 4;

/// Bytes that start on a cache line: packed weights and tables.
#[derive(Default)]
pub struct AlignedBuf {
    /// Up to the end of a cache line; zeros where nothing was written.
    quarters: Vec<Quarter>,
    /// Those in front of byte 0.
    skipped: usize,
    len: usize,
}

impl AlignedBuf {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }
    /// Empty, with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            quarters: Vec::with_capacity(quarters_for(bytes)),
            ..Self::default()
        }
    }
    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }
    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Address of byte 0, 64-byte aligned.
    pub fn as_ptr(&self) -> *const u8 {
        self.quarters[self.skipped..].as_ptr().cast()
    }
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `make_room` has initialised `len` bytes behind the skipped quarters.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.quarters[self.skipped..].as_mut_ptr();
        // SAFETY: as above, and nobody else has the buffer.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), self.len) }
    }
    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let (start, end) = (self.len, self.len + bytes.len());
        self.make_room(end);
        self.len = end;
        self.bytes_mut()[start..].copy_from_slice(bytes);
    }
    /// Zeros up to the end of the cache line in which byte `end` begins.
    fn make_room(&mut self, end: usize) {
        let needed = quarters_for(end);
        if needed <= self.quarters.len() {
            return;
        }
        self.quarters.resize(needed, Quarter([0; 16]));
        self.realign();
    }
    /// Gives up room for more.
    pub fn shrink_to_fit(&mut self) {
        self.quarters.shrink_to_fit();
        if !self.is_empty() {
            self.realign();
        }
    }
    /// Moves byte 0 to a cache line where the memory has moved.
    fn realign(&mut self) {
        let skipped = self.quarters.as_ptr().align_offset(QUARTERS * 16);
        if skipped != self.skipped {
            let used = self.skipped..self.skipped + self.len.div_ceil(16);
            self.quarters.copy_within(used.clone(), skipped);
            self.quarters[skipped + used.len()..].fill(Quarter([0; 16]));
            self.skipped = skipped;
        }
    }
    /// Appends numbers, a cache line at a time.
    pub fn extend_f32(&mut self, values: impl IntoIterator<Item = f32>) {
        let mut line = [0; 64];
        let mut filled = 0;
        for value in values {
            line[filled..filled + 4].copy_from_slice(&value.to_ne_bytes());
            filled += 4;
            if filled == 64 {
                self.extend(&line);
                filled = 0;
            }
        }
        self.extend(&line[..filled]);
    }
    /// Pads with zeros to a multiple of `to` (a power of two) and returns the length.
    pub fn align(&mut self, to: usize) -> u64 {
        while !self.len.is_multiple_of(to) {
            self.extend(&[0]);
        }
        self.len as u64
    }
}

/// Quarters that hold `bytes` wherever the first of them lies.
fn quarters_for(bytes: usize) -> usize {
    QUARTERS - 1 + bytes.div_ceil(QUARTERS * 16) * QUARTERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_on_aligned_lines() {
        let mut buf = AlignedBuf::with_capacity(10);
        let mut expected: Vec<u8> = Vec::new();
        assert!(buf.is_empty());
        for len in [0, 1, 63, 64, 65, 200, 3] {
            let bytes: Vec<u8> = (0..len).map(|i| (i + len) as u8).collect();
            buf.extend(&bytes);
            expected.extend(&bytes);
            assert_eq!(buf.bytes(), expected);
        }
        assert_eq!(buf.align(64), expected.len().next_multiple_of(64) as u64);
        expected.resize(expected.len().next_multiple_of(64), 0);
        assert_eq!(buf.align(64), buf.len() as u64);
        buf.extend_f32([1.5, -0.0]);
        expected.extend([1.5f32, -0.0].iter().flat_map(|x| x.to_ne_bytes()));
        buf.shrink_to_fit();
        assert_eq!(buf.bytes(), expected);
        assert_eq!(buf.as_ptr() as usize % 64, 0);
        for size in 1..2000u32 {
            buf.extend(&size.to_le_bytes());
            expected.extend(size.to_le_bytes());
            assert_eq!(buf.as_ptr() as usize % 64, 0, "{size}");
        }
        assert_eq!(buf.bytes(), expected);
        let mut none = AlignedBuf::with_capacity(100);
        none.shrink_to_fit();
        assert!(none.bytes().is_empty());
    }
}
