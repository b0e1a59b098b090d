//! All tasks of a kernel: one generated routine that follows a table.
//!
//! A task is [`TASK_BYTES`]: the entry in the code; offsets of source, result, weights, bias and tables;
//! the trip count (64 bits each); then the code to read ahead: its start in bytes and its cache lines
//! (32 bits each).

use super::image::Emitter;
use skimjit_jit::MXCSR;
use skimjit_jit::asm::{Cond, Gp, Label, Mem, VectorAsm};
use skimjit_kernels::{CompiledKernel, KernelArgs};
use std::mem::offset_of;

pub(super) const TASK_BYTES: i32 = 64;
const LINE_BYTES: usize = 64;

/// The table of a kernel; `far`: its code is read before it runs.
pub(super) fn table(kernel: &CompiledKernel, far: bool) -> Vec<u8> {
    let entries = kernel.entry_offsets();
    let ahead = if far { kernel.read_ahead() } else { vec![] };
    let mut ahead = ahead.into_iter().peekable();
    let mut bytes = Vec::with_capacity(kernel.tasks().len() * TASK_BYTES as usize);
    for (index, task) in kernel.tasks().iter().enumerate() {
        let entry = entries[task.entry as usize] as u64;
        let words = [
            entry,
            task.src as u64,
            task.dst as u64,
            task.wei,
            task.bias,
            task.aux,
        ];
        for word in words.into_iter().chain([task.count]) {
            bytes.extend(word.to_le_bytes());
        }
        let read = ahead.next_if(|(first, _)| *first == index);
        let read = read.map_or(0..0, |(_, code)| code);
        for word in [read.start, read.len().div_ceil(LINE_BYTES)] {
            bytes.extend((word as u32).to_le_bytes());
        }
    }
    bytes
}

/// Arguments of the routine: an array of the sources' addresses, the result's, the scratch memory of
/// kernels, the table, the number of tasks, the code, the packed weights, and the number of sources.
pub(super) const ARGUMENTS: [Gp; 8] = [
    Gp::Rdi,
    Gp::Rsi,
    Gp::Rdx,
    Gp::Rcx,
    Gp::R8,
    Gp::R9,
    Gp::Rax,
    Gp::R10,
];

const SOURCES: Gp = Gp::R12;
const DST: Gp = Gp::R13;
const TASK: Gp = Gp::Rbx;
const COUNT: Gp = Gp::Rbp;
const CODE: Gp = Gp::R14;
const PACKED: Gp = Gp::R15;
const SAVED: [Gp; 6] = [TASK, COUNT, SOURCES, DST, CODE, PACKED];

/// On the stack: the kernel's arguments, then the number of sources, then MXCSR before and during the tasks. With the
/// six saved registers and the return address, the stack is 16-byte aligned for the kernel.
const SOURCE_COUNT: i32 = size_of::<KernelArgs>() as i32;
const MXCSR_BEFORE: i32 = SOURCE_COUNT + 8;
const MXCSR_DURING: i32 = MXCSR_BEFORE + 8;
const FRAME_BYTES: i32 = MXCSR_DURING + 8;
const _: () = assert!((FRAME_BYTES + 7 * 8) % 16 == 0);

fn argument(offset: usize) -> Mem {
    Mem::new(Gp::Rsp, offset as i32)
}

/// Emits the routine; returns its label.
pub(super) fn routine<A: VectorAsm>(emitter: &mut Emitter<A>, name: &str) -> Label {
    let asm = &mut emitter.asm;
    asm.entry(name, 64);
    let start = asm.new_label();
    asm.bind(start);
    SAVED.iter().for_each(|&reg| asm.push(reg));
    asm.sub_imm(Gp::Rsp, FRAME_BYTES);
    let [
        sources,
        dst,
        scratch,
        table,
        count,
        code,
        packed,
        source_count,
    ] = ARGUMENTS;
    let moves = [
        (SOURCES, sources),
        (DST, dst),
        (TASK, table),
        (COUNT, count),
        (CODE, code),
    ];
    moves.iter().for_each(|&(to, from)| asm.mov(to, from));
    asm.mov(PACKED, packed);
    asm.store64(argument(offset_of!(KernelArgs, scratch)), scratch);
    asm.store64(Mem::new(Gp::Rsp, SOURCE_COUNT), source_count);
    let [before, during] = [MXCSR_BEFORE, MXCSR_DURING].map(|at| Mem::new(Gp::Rsp, at));
    asm.store_mxcsr(before);
    asm.mov_imm(Gp::Rax, MXCSR.into());
    asm.store64(during, Gp::Rax);
    asm.load_mxcsr(during);
    asm.counted_loop(COUNT, |asm| {
        read_ahead(asm);
        pass_operands(asm);
        pass_packed(asm);
        asm.load64(Gp::Rcx, Mem::new(TASK, 0));
        asm.add(Gp::Rcx, CODE);
        asm.mov(Gp::Rdi, Gp::Rsp);
        asm.call_reg(Gp::Rcx);
        asm.add_imm(TASK, TASK_BYTES);
    });
    asm.load_mxcsr(before);
    asm.add_imm(Gp::Rsp, FRAME_BYTES);
    SAVED.iter().rev().for_each(|&reg| asm.pop(reg));
    asm.ret_near();
    start
}

/// A byte of every cache line: hardware runs ahead of reads, but not of instructions.
fn read_ahead<A: VectorAsm>(asm: &mut A) {
    let near = asm.new_label();
    asm.load32(Gp::Rdx, Mem::new(TASK, 60));
    asm.cmp_imm(Gp::Rdx, 0);
    asm.jcc(Cond::Equal, near);
    asm.load32(Gp::Rcx, Mem::new(TASK, 56));
    asm.add(Gp::Rcx, CODE);
    asm.counted_loop(Gp::Rdx, |asm| {
        asm.load8(Gp::Rax, Mem::new(Gp::Rcx, 0));
        asm.add_imm(Gp::Rcx, LINE_BYTES as i32);
    });
    asm.bind(near);
}

/// Source 1 moves with the result, the others with the source, as in [`CompiledKernel::run`].
fn pass_operands<A: VectorAsm>(asm: &mut A) {
    let (from_src, from_dst, address, left, at) = (Gp::Rax, Gp::Rdx, Gp::Rcx, Gp::R8, Gp::R9);
    let [done, top] = [(); 2].map(|()| asm.new_label());
    asm.load64(from_src, Mem::new(TASK, 8));
    asm.load64(from_dst, Mem::new(TASK, 16));
    asm.lea(address, Mem::indexed(DST, from_dst, 1, 0));
    asm.store64(argument(offset_of!(KernelArgs, dst)), address);
    asm.load64(address, Mem::new(SOURCES, 0));
    asm.add(address, from_src);
    asm.store64(argument(offset_of!(KernelArgs, src)), address);
    asm.load64(left, Mem::new(Gp::Rsp, SOURCE_COUNT));
    asm.sub_imm(left, 1);
    asm.jcc(Cond::Equal, done);
    asm.load64(address, Mem::new(SOURCES, 8));
    asm.add(address, from_dst);
    asm.store64(argument(offset_of!(KernelArgs, src) + 8), address);
    asm.mov_imm(at, 16);
    asm.bind(top);
    asm.dec(left);
    asm.jcc(Cond::Equal, done);
    asm.load64(address, Mem::indexed(SOURCES, at, 1, 0));
    asm.add(address, from_src);
    asm.store64(
        Mem::indexed(Gp::Rsp, at, 1, offset_of!(KernelArgs, src) as i32),
        address,
    );
    asm.add_imm(at, 8);
    asm.jmp(top);
    asm.bind(done);
}

fn pass_packed<A: VectorAsm>(asm: &mut A) {
    let parts = [
        (24, offset_of!(KernelArgs, wei)),
        (32, offset_of!(KernelArgs, bias)),
        (40, offset_of!(KernelArgs, aux)),
    ];
    for (from, to) in parts {
        asm.load64(Gp::Rcx, Mem::new(TASK, from));
        asm.add(Gp::Rcx, PACKED);
        asm.store64(argument(to), Gp::Rcx);
    }
    asm.load64(Gp::Rcx, Mem::new(TASK, 48));
    asm.store64(argument(offset_of!(KernelArgs, count)), Gp::Rcx);
}
