//! Typed calls into published code: the one place where data becomes a function.

use std::arch::asm;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::CodeRegion;

/// Control and status of floating-point arithmetic while generated code runs: to nearest, no exceptions, and results
/// that are smaller than the least normal number become 0: each of them would take a hundred times as long.
pub const MXCSR: u32 = 0x9F80;

/// As long as it lives, the thread's arithmetic is that of generated code ([`MXCSR`]).
pub struct Arithmetic {
    before: u32,
    /// The register is the thread's.
    of_thread: PhantomData<*const ()>,
}

impl Arithmetic {
    /// From now on.
    pub fn begin() -> Self {
        let mut before = 0_u32;
        // SAFETY: stores the register to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut before, options(nostack)) };
        set_mxcsr(MXCSR);
        Self {
            before,
            of_thread: PhantomData,
        }
    }
}

impl Drop for Arithmetic {
    fn drop(&mut self) {
        set_mxcsr(self.before);
    }
}

fn set_mxcsr(value: u32) {
    // SAFETY: loads a value that the register had, or one without reserved bits that leaves all exceptions masked;
    // the compiler's own arithmetic between the two is exact but for denormal numbers.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, readonly)) };
}

/// A place in a region that can be called with a pointer to `A`. Keeps the region alive.
///
/// Making one is safe, since nothing runs; [`EntryPoint::call`] is where the caller vouches for the
/// code.
pub struct EntryPoint<A> {
    region: Arc<CodeRegion>,
    offset: usize,
    args: PhantomData<fn(*const A)>,
}

impl<A> EntryPoint<A> {
    /// The entry at byte `offset` of `region`; `None` outside its code.
    pub fn new(region: &Arc<CodeRegion>, offset: usize) -> Option<Self> {
        region.bytes().get(offset)?;
        Some(Self {
            region: Arc::clone(region),
            offset,
            args: PhantomData,
        })
    }

    /// Byte offset in the region.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The region that holds the code.
    pub fn region(&self) -> &Arc<CodeRegion> {
        &self.region
    }

    /// Runs the code with `rdi` = address of `args`.
    ///
    /// # Safety
    /// * A function of the System V convention, taking a pointer to `A` and keeping the callee-saved
    ///   registers, must start at this entry.
    /// * The CPU must have the instruction set that the code was generated for.
    /// * What `args` points at must be valid for every access that the code is documented to make.
    pub unsafe fn call(&self, _: &Arithmetic, args: &A) {
        let Some(start) = self.region.pointer(self.offset) else {
            panic!("{self:?} is of code that was stored to be looked at, not to be run")
        };
        // SAFETY: `start` points into the executable mapping that `self.region` keeps alive, and the
        // caller vouches that a function of this type starts there. What it may overwrite is declared.
        unsafe {
            asm!(
                "call {start}",
                start = in(reg) start,
                in("rdi") args,
                clobber_abi("sysv64"),
            );
        }
    }
}

impl<A> Clone for EntryPoint<A> {
    fn clone(&self) -> Self {
        Self {
            region: Arc::clone(&self.region),
            offset: self.offset,
            args: PhantomData,
        }
    }
}

impl<A> fmt::Debug for EntryPoint<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPoint({:?} + {:#x})", self.region, self.offset)
    }
}
