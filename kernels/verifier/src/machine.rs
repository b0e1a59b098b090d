//! Walks generated code: registers, flags, control flow.

use crate::memory::{Memory, Region, Wrong};
use crate::value::Lane;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register,
};
use std::collections::HashMap;

/// Lanes of the widest register.
pub const LANES: usize = 16;
/// Where a call returns to when the kernel is done.
const DONE: u64 = u64::MAX;
/// Marks offsets at which no instruction starts.
const NOTHING: u32 = u32::MAX;

/// Decoded code.
pub struct Program {
    instructions: Vec<Instruction>,
    /// Index of the instruction that starts at an offset.
    starts: Vec<u32>,
}

impl Program {
    pub fn decode(code: &[u8]) -> Self {
        let mut starts = vec![NOTHING; code.len() + 1];
        let mut instructions = Vec::new();
        for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
            starts[instruction.ip() as usize] = instructions.len() as u32;
            instructions.push(instruction);
        }
        Self {
            instructions,
            starts,
        }
    }

    fn at(&self, offset: u64) -> Option<&Instruction> {
        let start = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.starts.get(offset))?;
        self.instructions.get(*start as usize)
    }

    /// All instructions: offset and text.
    pub fn listing(&self) -> impl Iterator<Item = (u64, String)> + '_ {
        let mut formatter = NasmFormatter::new();
        self.instructions.iter().map(move |instruction| {
            let mut text = String::new();
            formatter.format(instruction, &mut text);
            (instruction.ip(), text)
        })
    }

    /// The instruction at an offset, as text.
    pub fn text(&self, offset: u64) -> String {
        let mut text = String::new();
        match self.at(offset) {
            Some(instruction) => NasmFormatter::new().format(instruction, &mut text),
            None => text.push_str("no instruction"),
        }
        text
    }
}

/// What was executed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Instructions.
    pub instructions: u64,
    /// Lanes of multiply-adds that were not masked off.
    pub multiply_adds: u64,
}

/// Flags after an arithmetic instruction, as far as conditional jumps read them.
#[derive(Default)]
struct Flags {
    zero: bool,
    carry: bool,
    /// Sign differs from overflow.
    less: bool,
}

/// Registers.
pub struct Machine<'p, 'm, 'b> {
    program: &'p Program,
    pub memory: &'m mut Memory<'b>,
    pub executed: Executed,
    /// Raw bits that multiply-adds took as factors, by offset of the instruction, if they are wanted.
    pub factors: Option<HashMap<u64, u32>>,
    /// Instructions that may still run.
    budget: u64,
    general: [u64; 16],
    pub vectors: [[Lane; LANES]; 32],
    pub masks: [u32; 8],
    flags: Flags,
    /// Of the instruction that ran, if it was a multiply-add.
    pub factor: Option<u32>,
    /// Offset of the instruction that runs.
    ip: u64,
}

/// Why walking ended, and at which offset.
pub struct Stop {
    pub ip: u64,
    pub wrong: Wrong,
}

type Step = Result<(), Wrong>;

impl<'p, 'm, 'b> Machine<'p, 'm, 'b> {
    pub fn new(program: &'p Program, memory: &'m mut Memory<'b>, budget: u64) -> Self {
        Self {
            program,
            memory,
            executed: Executed::default(),
            factors: None,
            budget,
            general: [0; 16],
            vectors: [[Lane::POISON; LANES]; 32],
            masks: [0; 8],
            flags: Flags::default(),
            factor: None,
            ip: 0,
        }
    }

    /// Runs the function at `entry` with a pointer to its arguments.
    pub fn call(&mut self, entry: u64) -> Result<(), Stop> {
        self.vectors = [[Lane::POISON; LANES]; 32];
        self.general[Register::RDI.number()] = Region::Arguments.base();
        self.general[Register::RSP.number()] = Memory::stack_top();
        self.ip = entry;
        let saved = self.callee_saved();
        let run = self.push(DONE).and_then(|()| self.run());
        let run = run.and_then(|()| match self.callee_saved() == saved {
            true => Ok(()),
            false => Err(Wrong(
                "returns with a register changed that belongs to the caller".into(),
            )),
        });
        run.map_err(|wrong| Stop { ip: self.ip, wrong })
    }

    /// Registers that a function keeps (System V ABI): rbx, rsp, rbp, r12 to r15.
    fn callee_saved(&self) -> [u64; 7] {
        [3, 4, 5, 12, 13, 14, 15].map(|number: usize| self.general[number])
    }

    fn run(&mut self) -> Step {
        let program = self.program;
        while self.ip != DONE {
            let instruction = program
                .at(self.ip)
                .ok_or_else(|| Wrong("jumps to where no instruction starts".into()))?;
            if self.executed.instructions >= self.budget {
                return Err(Wrong(format!(
                    "still runs after {} instructions",
                    self.budget
                )));
            }
            self.executed.instructions += 1;
            let at = self.ip;
            self.ip = instruction.next_ip();
            if let Err(wrong) = self.step(instruction) {
                self.ip = at;
                return Err(wrong);
            }
            if let Some(factors) = &mut self.factors
                && let Some(bits) = self.factor.take()
            {
                factors.insert(at, bits);
            }
        }
        Ok(())
    }

    fn step(&mut self, i: &Instruction) -> Step {
        use Mnemonic as M;
        match i.mnemonic() {
            M::Nop
            | M::Vzeroupper
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
            | M::Prefetchw
            | M::Prefetchnta => Ok(()),
            M::Jmp | M::Je | M::Jne | M::Jb | M::Jae | M::Jl | M::Jge => self.jump(i),
            M::Call => {
                self.push(self.ip)?;
                self.ip = i.near_branch64();
                Ok(())
            }
            M::Ret => {
                self.ip = self.pop()?;
                Ok(())
            }
            M::Push => self.push(self.register(i.op0_register())),
            M::Pop => {
                let value = self.pop()?;
                self.set(i.op0_register(), value);
                Ok(())
            }
            M::Mov | M::Movzx | M::Movsxd | M::Lea => self.movement(i),
            M::Add | M::Sub | M::Cmp | M::And | M::Dec | M::Imul | M::Shl | M::Shr => {
                self.arithmetic(i)
            }
            _ => self.vector(i),
        }
    }

    fn jump(&mut self, i: &Instruction) -> Step {
        use Mnemonic as M;
        let flags = &self.flags;
        let taken = match i.mnemonic() {
            M::Je => flags.zero,
            M::Jne => !flags.zero,
            M::Jb => flags.carry,
            M::Jae => !flags.carry,
            M::Jl => flags.less,
            M::Jge => !flags.less,
            _ => true,
        };
        if taken {
            self.ip = i.near_branch64();
        }
        Ok(())
    }

    fn push(&mut self, value: u64) -> Step {
        let top = self.general[Register::RSP.number()] - 8;
        self.general[Register::RSP.number()] = top;
        self.memory.store_u64(top, value)
    }

    fn pop(&mut self) -> Result<u64, Wrong> {
        let top = self.general[Register::RSP.number()];
        self.general[Register::RSP.number()] = top + 8;
        self.memory.load_bytes(top, 8)
    }

    /// A general-purpose register; of the 32-bit ones, the low half.
    pub fn register(&self, register: Register) -> u64 {
        let value = self.general[register.number()];
        match register.size() {
            8 => value,
            size => value & ((1 << (8 * size)) - 1),
        }
    }

    fn set(&mut self, register: Register, value: u64) {
        // Writing 32 bits clears the upper half.
        let value = if register.size() == 4 {
            value & 0xFFFF_FFFF
        } else {
            value
        };
        self.general[register.number()] = value;
    }

    /// Address of the memory operand; a vector index is left to the caller.
    pub fn address(&self, i: &Instruction) -> u64 {
        let mut address = i.memory_displacement64();
        if i.memory_base() != Register::None {
            address = address.wrapping_add(self.register(i.memory_base()));
        }
        let index = i.memory_index();
        if index != Register::None && !index.is_vector_register() {
            let index = self.register(index);
            address = address.wrapping_add(index.wrapping_mul(u64::from(i.memory_index_scale())));
        }
        address
    }

    /// A general-purpose operand.
    fn operand(&self, i: &Instruction, index: u32, bytes: usize) -> Result<u64, Wrong> {
        match i.op_kind(index) {
            OpKind::Register => Ok(self.register(i.op_register(index))),
            OpKind::Memory => self.memory.load_bytes(self.address(i), bytes),
            _ => Ok(i.immediate(index)),
        }
    }

    fn movement(&mut self, i: &Instruction) -> Step {
        if i.op0_kind() == OpKind::Memory {
            let value = self.operand(i, 1, 8)?;
            return match i.memory_size().size() {
                8 => self.memory.store_u64(self.address(i), value),
                size => Err(Wrong(format!(
                    "writes {size} bytes of a general-purpose register"
                ))),
            };
        }
        let value = match i.mnemonic() {
            Mnemonic::Lea => self.address(i),
            Mnemonic::Movsxd => self.operand(i, 1, 4)? as u32 as i32 as i64 as u64,
            _ => self.operand(i, 1, i.memory_size().size().max(1))?,
        };
        self.set(i.op0_register(), value);
        Ok(())
    }

    fn arithmetic(&mut self, i: &Instruction) -> Step {
        use Mnemonic as M;
        let target = i.op0_register();
        if i.op0_kind() != OpKind::Register || target.size() < 4 {
            return Err(Wrong("arithmetic of an unknown form".into()));
        }
        let wide = target.size() == 8;
        let narrow = |value: u64| if wide { value } else { value & 0xFFFF_FFFF };
        let a = self.register(target);
        let b = match (i.mnemonic(), i.op_count()) {
            (M::Dec, _) => 1,
            (_, 3) => self.operand(i, 2, 8)?,
            _ => self.operand(i, 1, 8)?,
        };
        let b = narrow(b);
        let result = match i.mnemonic() {
            M::Add => a.wrapping_add(b),
            M::Sub | M::Cmp | M::Dec => a.wrapping_sub(b),
            M::And => a & b,
            M::Imul if i.op_count() == 3 => self.operand(i, 1, 8)?.wrapping_mul(b),
            M::Imul => a.wrapping_mul(b),
            M::Shl => a << (b & if wide { 63 } else { 31 }),
            _ => a >> (b & if wide { 63 } else { 31 }),
        };
        let result = narrow(result);
        self.flags.zero = result == 0;
        let signed = |value: u64| {
            if wide {
                value as i64
            } else {
                i64::from(value as u32 as i32)
            }
        };
        match i.mnemonic() {
            M::Sub | M::Cmp => (self.flags.carry, self.flags.less) = (a < b, signed(a) < signed(b)),
            // Keeps the carry.
            M::Dec => self.flags.less = signed(a) < 1,
            M::And => (self.flags.carry, self.flags.less) = (false, signed(result) < 0),
            M::Add => {
                self.flags.carry = result < a;
                let sum = i128::from(signed(a)) + i128::from(signed(b));
                self.flags.less = sum < 0;
            }
            _ => {}
        }
        if i.mnemonic() != M::Cmp {
            self.set(target, result);
        }
        Ok(())
    }
}
