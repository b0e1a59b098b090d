//! Walks generated code: general-purpose registers, flags, the stack, control flow.

use crate::action::{Action, Address, Arithmetic, Operand, When};
use crate::extremes::Extremes;
use crate::fault::Wrong;
use crate::memory::{LANES, Lanes, Memory, Pointer, Region, Value};
use crate::program::Program;
use crate::value::Lane;
use std::collections::HashMap;

/// Where a call returns to when the kernel is done.
const DONE: u64 = u64::MAX;
/// Bytes of stack that a kernel may use.
const STACK_BYTES: i64 = 1024;
/// Offset of the return address of the kernel, the last thing on the stack that is known.
const RETURN: i64 = STACK_BYTES - 8;
/// Number of rsp.
const STACK_POINTER: usize = 4;
/// Number of rdi, the first argument.
const ARGUMENT: usize = 7;
/// Registers that a function keeps (System V ABI): rbx, rbp, r12 to r15.
const KEPT: [u8; 6] = [3, 5, 12, 13, 14, 15];
/// Registers whose upper halves slow down the caller's code for SSE.
const LEGACY_VECTORS: usize = 16;
/// Lanes that `vzeroupper` leaves.
const LOWER_LANES: usize = 4;

/// What was executed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Instructions.
    pub instructions: u64,
    /// Lanes of multiply-adds that were not masked off.
    pub multiply_adds: u64,
}

/// Flags, as far as conditional jumps read them; `None`: undefined, or of what is not modelled.
#[derive(Clone, Copy, Default)]
struct Flags {
    zero: Option<bool>,
    carry: Option<bool>,
    /// Sign differs from overflow.
    less: Option<bool>,
}

/// The processor during the call of one task.
pub struct Machine<'p, 'm, 'b> {
    program: &'p Program<'p>,
    pub memory: &'m mut Memory<'b>,
    pub extremes: &'m mut Extremes,
    pub executed: Executed,
    /// Raw bits that multiply-adds took as factors, by offset of the instruction, if they are wanted.
    pub factors: Option<HashMap<u64, u32>>,
    /// Instructions that may still run.
    budget: u64,
    general: [Value; 16],
    /// Words of 8 bytes.
    stack: [Value; STACK_BYTES as usize / 8],
    pub vectors: [Lanes; 32],
    /// `None`: undefined.
    pub masks: [Option<u16>; 8],
    flags: Flags,
    /// A vector register that SSE code knows has something in its upper part.
    upper_in_use: bool,
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

/// How an instruction ended.
pub type Done = Result<(), Wrong>;

impl<'p, 'm, 'b> Machine<'p, 'm, 'b> {
    /// A processor whose registers hold what the caller left in them: nothing that may be used.
    pub fn new(
        program: &'p Program<'p>,
        memory: &'m mut Memory<'b>,
        extremes: &'m mut Extremes,
        budget: u64,
    ) -> Self {
        Self {
            program,
            memory,
            extremes,
            executed: Executed::default(),
            factors: None,
            budget,
            general: std::array::from_fn(|number| Value::Caller(number as u8)),
            stack: [Value::Undefined; STACK_BYTES as usize / 8],
            vectors: [[Lane::POISON; LANES]; 32],
            masks: [None; 8],
            flags: Flags::default(),
            upper_in_use: false,
            factor: None,
            ip: 0,
        }
    }

    /// Runs the function at `entry` with a pointer to its arguments.
    pub fn call(&mut self, entry: u64) -> Result<(), Stop> {
        self.general[ARGUMENT] = Value::Pointer(Pointer::new(Region::Arguments, 0));
        self.general[STACK_POINTER] = Value::Pointer(Pointer::new(Region::Stack, STACK_BYTES));
        self.ip = entry;
        let run = self.push(Value::Return(DONE)).and_then(|()| self.run());
        run.map_err(|wrong| Stop { ip: self.ip, wrong })
    }

    /// What the caller relies on.
    fn check_return(&self) -> Done {
        let kept = |&number: &u8| self.general[usize::from(number)] == Value::Caller(number);
        if !KEPT.iter().all(kept) {
            return Err(Wrong::convention(
                "returns with a register changed that belongs to the caller",
            ));
        }
        if self.general[STACK_POINTER] != Value::Pointer(Pointer::new(Region::Stack, STACK_BYTES)) {
            return Err(Wrong::convention("returns with another stack pointer"));
        }
        if self.upper_in_use {
            return Err(Wrong::convention("returns without vzeroupper"));
        }
        Ok(())
    }

    fn run(&mut self) -> Done {
        let program = self.program;
        loop {
            let at = self.ip;
            let step = program
                .at(at)
                .ok_or_else(|| Wrong::refused("jumps to where no instruction starts"))?;
            if self.executed.instructions >= self.budget {
                return Err(Wrong::convention(format!(
                    "still runs after {} instructions",
                    self.budget
                )));
            }
            self.executed.instructions += 1;
            self.ip = step.next;
            let done = step
                .action
                .map_err(Wrong::refused)
                .and_then(|action| self.step(&action));
            let done = done.and_then(|()| match self.ip == DONE {
                true => self.check_return(),
                false => Ok(()),
            });
            if let Err(wrong) = done {
                self.ip = at;
                return Err(wrong);
            }
            if let Some(factors) = &mut self.factors
                && let Some(bits) = self.factor.take()
            {
                factors.insert(at, bits);
            }
            if self.ip == DONE {
                return Ok(());
            }
        }
    }

    fn step(&mut self, action: &Action) -> Done {
        match *action {
            Action::Nothing => Ok(()),
            Action::Jump { to, when } => self.jump(to, when),
            Action::Call(to) => {
                self.push(Value::Return(self.ip))?;
                self.ip = to;
                Ok(())
            }
            Action::Return => match self.pop()? {
                Value::Return(to) => {
                    self.ip = to;
                    Ok(())
                }
                _ => Err(Wrong::convention("returns to what is no return address")),
            },
            Action::Push(from) => self.push(self.register(from)),
            Action::Pop(to) => {
                let value = self.pop()?;
                self.set(to, value);
                Ok(())
            }
            Action::Set { to, from } => {
                let value = self.operand(from);
                self.set(to, value);
                Ok(())
            }
            Action::Load {
                to,
                from,
                bytes,
                signed,
            } => self.load(to, from, bytes, signed),
            Action::LowBits { to, from, bits } => {
                let mask = Value::Number((1 << bits) - 1);
                let value = and(self.register(from), mask);
                self.set(to, value);
                Ok(())
            }
            Action::Store { to, from } => {
                let slot = self.slot(self.pointer(&to)?)?;
                self.stack[slot] = self.register(from);
                Ok(())
            }
            Action::AddressOf { to, from } => {
                let value = self.sum(&from);
                self.set(to, value);
                Ok(())
            }
            Action::Constants { to, from } if from == self.program.end() => {
                self.set(to, Value::Pointer(Pointer::new(Region::Constants, 0)));
                Ok(())
            }
            Action::Constants { .. } => Err(Wrong::refused("takes an address inside the code")),
            Action::Arithmetic { what, to, a, b } => {
                self.arithmetic(what, to, a, b);
                Ok(())
            }
            Action::ZeroUpper => {
                for register in &mut self.vectors[..LEGACY_VECTORS] {
                    register[LOWER_LANES..].fill(Lane::ZERO);
                }
                self.upper_in_use = false;
                Ok(())
            }
            Action::Vector(ref vector) => self.vector(vector),
        }
    }

    /// A register of 256 or 512 bits is written.
    pub fn mark_upper(&mut self, register: u8) {
        self.upper_in_use |= usize::from(register) < LEGACY_VECTORS;
    }

    fn jump(&mut self, to: u64, when: When) -> Done {
        let flags = &self.flags;
        let taken = match when {
            When::Always => Some(true),
            When::Equal => flags.zero,
            When::NotEqual => flags.zero.map(|zero| !zero),
            When::Below => flags.carry,
            When::AboveEqual => flags.carry.map(|carry| !carry),
            When::Less => flags.less,
            When::GreaterEqual => flags.less.map(|less| !less),
        };
        let taken = taken.ok_or_else(|| {
            Wrong::refused("depends on flags that no instruction before it has defined")
        })?;
        if taken {
            self.ip = to;
        }
        Ok(())
    }

    /// Offset of the stack pointer.
    fn top(&self) -> Result<i64, Wrong> {
        match self.general[STACK_POINTER] {
            Value::Pointer(Pointer {
                region: Region::Stack,
                offset,
            }) => Ok(offset),
            _ => Err(Wrong::convention("the stack pointer is lost")),
        }
    }

    fn set_top(&mut self, offset: i64) {
        self.general[STACK_POINTER] = Value::Pointer(Pointer::new(Region::Stack, offset));
    }

    fn push(&mut self, value: Value) -> Done {
        let top = self.top()? - 8;
        let slot = usize::try_from(top / 8).ok().filter(|_| top >= 0);
        let slot = slot.and_then(|slot| self.stack.get_mut(slot));
        *slot.ok_or_else(|| {
            Wrong::convention(format!("more than {STACK_BYTES} bytes of stack are used"))
        })? = value;
        self.set_top(top);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, Wrong> {
        let top = self.top()?;
        let slot = usize::try_from(top / 8).ok();
        let value = slot.and_then(|slot| self.stack.get(slot)).copied();
        let value = value.ok_or_else(|| Wrong::convention("the caller's stack is popped"))?;
        self.set_top(top + 8);
        Ok(value)
    }

    /// A word that was pushed and not popped. The return address is none of them.
    fn slot(&self, at: Pointer) -> Result<usize, Wrong> {
        if at.region != Region::Stack {
            return Err(Wrong::access(format!(
                "a general-purpose register is written to {}",
                at.region
            )));
        }
        let pushed = (self.top()?..RETURN).contains(&at.offset) && at.offset % 8 == 0;
        let slot = usize::try_from(at.offset / 8).ok();
        slot.filter(|&slot| pushed && slot < self.stack.len())
            .ok_or_else(|| Wrong::access(format!("{at} is no word that was pushed")))
    }

    /// A general-purpose register.
    pub fn register(&self, number: u8) -> Value {
        self.general[usize::from(number & 15)]
    }

    fn set(&mut self, number: u8, value: Value) {
        self.general[usize::from(number & 15)] = value;
    }

    fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Register(number) => self.register(number),
            Operand::Number(number) => Value::Number(number),
        }
    }

    /// Base, index and displacement.
    fn sum(&self, address: &Address) -> Value {
        let displacement = Value::Number(address.displacement as u64);
        let base = add(self.register(address.base), displacement);
        match address.index {
            None => base,
            Some((index, 1)) => add(base, self.register(index)),
            Some((index, scale)) => match self.register(index) {
                Value::Number(index) => {
                    add(base, Value::Number(index.wrapping_mul(u64::from(scale))))
                }
                _ => Value::Undefined,
            },
        }
    }

    /// Where a memory operand is; a vector index is left to the caller.
    pub fn pointer(&self, address: &Address) -> Result<Pointer, Wrong> {
        match self.sum(address) {
            Value::Pointer(pointer) => Ok(pointer),
            Value::Number(number) => Err(Wrong::access(format!(
                "an access at {number:#x}, which is no buffer"
            ))),
            _ => Err(Wrong::refused("an address that is not defined")),
        }
    }

    fn load(&mut self, to: u8, from: Address, bytes: u8, signed: bool) -> Done {
        let from = self.pointer(&from)?;
        let value = match from.region {
            Region::Stack if bytes == 8 => self.stack[self.slot(from)?],
            _ => self.memory.load_word(from, bytes)?,
        };
        let value = match (value, signed) {
            (Value::Number(number), true) => Value::Number(number as u32 as i32 as i64 as u64),
            _ => value,
        };
        self.set(to, value);
        Ok(())
    }

    fn arithmetic(&mut self, what: Arithmetic, to: u8, a: u8, b: Operand) {
        let (a, b) = (self.register(a), self.operand(b));
        let result = match what {
            Arithmetic::Add => add(a, b),
            Arithmetic::Sub | Arithmetic::Compare => subtract(a, b),
            Arithmetic::And => and(a, b),
            Arithmetic::Multiply => numbers(a, b, u64::wrapping_mul),
            Arithmetic::ShiftLeft => numbers(a, b, |a, b| a << (b & 63)),
            Arithmetic::ShiftRight => numbers(a, b, |a, b| a >> (b & 63)),
        };
        match (what, b) {
            // A shift by nothing leaves the flags.
            (Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Value::Number(by)) if by & 63 == 0 => {
            }
            _ => self.flags = flags(what, a, b, result),
        }
        if what != Arithmetic::Compare {
            self.set(to, result);
        }
    }
}

fn numbers(a: Value, b: Value, f: impl FnOnce(u64, u64) -> u64) -> Value {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Value::Number(f(a, b)),
        _ => Value::Undefined,
    }
}

fn add(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Pointer(pointer), Value::Number(by))
        | (Value::Number(by), Value::Pointer(pointer)) => Value::Pointer(pointer.moved(by as i64)),
        _ => numbers(a, b, u64::wrapping_add),
    }
}

fn subtract(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Pointer(pointer), Value::Number(by)) => {
            Value::Pointer(pointer.moved((by as i64).wrapping_neg()))
        }
        (Value::Pointer(a), Value::Pointer(b)) if a.region == b.region => {
            Value::Number(a.offset.wrapping_sub(b.offset) as u64)
        }
        _ => numbers(a, b, u64::wrapping_sub),
    }
}

/// Pointers can be rounded down as far as their buffer is aligned.
fn and(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Pointer(pointer), Value::Number(mask)) => {
            let unit = (mask as i64).wrapping_neg();
            let rounds = unit > 0
                && unit.count_ones() == 1
                && unit <= pointer.region.alignment()
                // The stack pointer's base is an entry of the convention, not of the buffer.
                && pointer.region != Region::Stack;
            match rounds {
                true => Value::Pointer(Pointer::new(pointer.region, pointer.offset & mask as i64)),
                false => Value::Undefined,
            }
        }
        _ => numbers(a, b, |a, b| a & b),
    }
}

/// Flags after an instruction, those that are defined for what it worked on.
fn flags(what: Arithmetic, a: Value, b: Value, result: Value) -> Flags {
    if let (Value::Pointer(a), Value::Pointer(b)) = (a, b)
        && matches!(what, Arithmetic::Sub | Arithmetic::Compare)
        && a.region == b.region
    {
        // Buffers do not wrap around, and addresses are no negative numbers.
        let less = Some(a.offset < b.offset);
        return Flags {
            zero: Some(a.offset == b.offset),
            carry: less,
            less,
        };
    }
    let (Value::Number(a), Value::Number(b), Value::Number(result)) = (a, b, result) else {
        return Flags::default();
    };
    let zero = Some(result == 0);
    match what {
        Arithmetic::Sub | Arithmetic::Compare => Flags {
            zero,
            carry: Some(a < b),
            less: Some((a as i64) < b as i64),
        },
        Arithmetic::Add => Flags {
            zero,
            carry: Some(result < a),
            less: Some(i128::from(a as i64) + i128::from(b as i64) < 0),
        },
        Arithmetic::And => Flags {
            zero,
            carry: Some(false),
            less: Some((result as i64) < 0),
        },
        Arithmetic::ShiftLeft | Arithmetic::ShiftRight => Flags {
            zero,
            ..Flags::default()
        },
        Arithmetic::Multiply => Flags::default(),
    }
}
