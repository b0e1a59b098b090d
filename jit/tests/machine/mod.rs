//! Runs small generated programs on this machine.

use skimjit_jit::asm::{Gp, Mem, VectorAsm};
use skimjit_jit::{CodeRegion, EntryPoint};
use skimjit_testing::runs;

/// `f32` slots in each part of [`Io`].
pub const LANE_SLOTS: usize = 64;

/// What a program reads and writes.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Io {
    pub a: [f32; LANE_SLOTS],
    pub b: [f32; LANE_SLOTS],
    pub c: [f32; LANE_SLOTS],
    pub out: [f32; LANE_SLOTS],
    pub words: [u64; 16],
}

impl Io {
    /// Puts raw bytes at the start of `words`.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_bytes_at(0, bytes);
    }

    pub fn put_bytes_at(&mut self, offset: usize, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate().map(|(i, byte)| (offset + i, byte)) {
            let shift = i % 8 * 8;
            let word = &mut self.words[i / 8];
            *word = *word & !(0xFF << shift) | u64::from(byte) << shift;
        }
    }

    pub fn put_words(&mut self, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put_bytes(&bytes);
    }
}

/// Numbers of both signs, ties, and different magnitudes; `b` is positive and has no zeros.
pub fn sample() -> Io {
    let value = |i: usize| (i as f32 * 0.75 - 5.5) * if i.is_multiple_of(3) { -1.0 } else { 1.0 };
    Io {
        a: std::array::from_fn(value),
        b: std::array::from_fn(|i| 0.5 + (i * 7 % 11) as f32),
        c: std::array::from_fn(|i| 100.0 - value(i * 13 % 17)),
        out: [0.0; LANE_SLOTS],
        words: [0; 16],
    }
}

#[repr(C)]
struct Args {
    io: *mut Io,
}

/// Runs a program with `rsi` pointing at `io`; says so and returns false where the CPU cannot.
pub fn run<A: VectorAsm>(io: &mut Io, emit: impl FnOnce(&mut A)) -> bool {
    if !runs(A::ISA) {
        return false;
    }
    let mut asm = A::new();
    asm.entry("program", 64);
    asm.push(Gp::R12);
    asm.push(Gp::R13);
    asm.load64(Gp::Rsi, Mem::new(Gp::Rdi, 0));
    emit(&mut asm);
    asm.pop(Gp::R13);
    asm.pop(Gp::R12);
    asm.ret();
    let code = asm.finish();
    let region = CodeRegion::publish(&code).expect("executable memory");
    let offset = code.entry_offset("program").expect("recorded");
    let entry = EntryPoint::<Args>::new(&region, offset).expect("inside the region");
    // SAFETY: the program keeps r12 and r13 (the only callee-saved registers the tests use), the CPU
    // has its instruction set, and the programs stay inside `io`.
    unsafe { entry.call(&skimjit_jit::Arithmetic::begin(), &Args { io }) };
    true
}
