//! Several vectors side by side.

use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};

/// One of the registers that every member has, by its place in the list.
#[derive(Clone, Copy)]
pub struct R(pub usize);

/// Emits each instruction for all members in turn: one that waits for the one before it leaves the processor
/// something to do, which a chain of instructions does not find behind itself.
pub struct Lockstep<'a, A> {
    asm: &'a mut A,
    /// Holds the address of the constants.
    base: Gp,
    /// Registers of each member.
    members: &'a [Vec<V>],
}

macro_rules! for_each_member {
    ($($name:ident($($arg:ident),*);)*) => {
        $(pub fn $name(&mut self, $($arg: R),*) {
            for member in self.members {
                self.asm.$name($(member[$arg.0]),*);
            }
        })*
    };
}

macro_rules! with_memory {
    ($($name:ident($($arg:ident),*);)*) => {
        $(pub fn $name(&mut self, $($arg: R),*, from: Mem) {
            for member in self.members {
                self.asm.$name($(member[$arg.0]),*, from);
            }
        })*
    };
}

impl<'a, A: VectorAsm> Lockstep<'a, A> {
    /// `base` holds the address of the constants.
    pub fn new(asm: &'a mut A, base: Gp, members: &'a [Vec<V>]) -> Self {
        Self { asm, base, members }
    }

    /// A constant in all lanes.
    pub fn bits(&mut self, bits: u32) -> Mem {
        self.asm.constant(self.base, bits)
    }

    /// A constant in all lanes.
    pub fn number(&mut self, value: f64) -> Mem {
        self.bits((value as f32).to_bits())
    }

    /// `to` = a constant.
    pub fn set(&mut self, to: R, value: f64) {
        let at = self.number(value);
        self.load(to, at);
    }

    pub fn shl_i32(&mut self, to: R, a: R, bits: u8) {
        for member in self.members {
            self.asm.shl_i32(member[to.0], member[a.0], bits);
        }
    }

    pub fn shr_i32(&mut self, to: R, a: R, bits: u8) {
        for member in self.members {
            self.asm.shr_i32(member[to.0], member[a.0], bits);
        }
    }

    for_each_member! {
        vmov(to, a);
        vsqrt(to, a);
        vround(to, a);
        vadd(to, a, b);
        vsub(to, a, b);
        vmul(to, a, b);
        vdiv(to, a, b);
        vmax(to, a, b);
        vmin(to, a, b);
        add_i32(to, a, b);
        sub_i32(to, a, b);
        fma(sum, a, b);
    }

    with_memory! {
        load(to);
        vadd_mem(to, a);
        vmul_mem(to, a);
        fma_mem(sum, a);
        fma_then_mem(x, a);
    }
}
