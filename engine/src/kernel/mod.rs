//! Single kernels: one convolution or matrix product, for programs that bring their own network.
//!
//! A kernel is machine code for one problem and one set of weights. Its *tasks* write disjoint parts
//! of the result and may run in any order on any threads. [`Kernel::memory`] gets the memory that one
//! caller needs, with checks; [`Kernel::function`] and [`Kernel::args`] give the bare function to
//! programs that manage theirs.
//!
//! Code is generated when a kernel is first created and shared by all who create the same one, by
//! problem, weights and options, for as long as anyone holds it. Everything here can be used from
//! several threads.
//!
//! ```
//! use skimjit::kernel::{self, Conv, Csr, Options};
//! # fn main() -> skimjit::Result<()> {
//! // Two 3x3 filters over one channel: one that shifts down, and one that is empty.
//! let filters = Csr { row_start: &[0, 1, 1], columns: &[1], values: &[2.0] };
//! let problem = Conv { pad: [1, 1], ..Conv::new(1, 2, [4, 4], [3, 3]) };
//! let kernel = kernel::sparse_conv(&problem, filters, &[0.0, 0.5], &Options::default())?;
//!
//! let picture: Vec<f32> = (0..16).map(|i| i as f32).collect();
//! let mut memory = kernel.memory();
//! memory.pack_src(&picture)?;
//! memory.run();
//! let mut result = [0.0; 32];
//! memory.unpack_dst(&mut result)?;
//! assert_eq!(result[4..16], picture[..12].iter().map(|x| 2.0 * x).collect::<Vec<f32>>());
//! assert_eq!(result[16..], [0.5; 16]);
//! # Ok(())
//! # }
//! ```

pub mod call;
mod create;
mod csr;
mod layout;
mod memory;
mod problem;

pub use create::{Options, dense_conv, dense_fc, gemm, sparse_conv, sparse_fc, spmm};
pub use csr::Csr;
pub use layout::Layout;
pub use memory::Memory;
pub use problem::{Conv, Fc, MatMul};
pub use skimjit_runtime::kernels::{KernelArgs, KernelIo, Planes, Problem};

use skimjit_runtime::jit::{Isa, SpecHash};
use skimjit_runtime::kernels::{CompiledKernel, stage::Staging};
use std::sync::Arc;

/// A kernel; clones are the same one, and the code lives until the last of them is gone.
#[derive(Clone)]
pub struct Kernel(Arc<Made>);

/// What is shared by all who created the same kernel.
struct Made {
    problem: Problem,
    variant: &'static str,
    isa: Isa,
    compiled: CompiledKernel,
    /// Of everything it was made from.
    key: SpecHash,
}

impl Drop for Made {
    fn drop(&mut self) {
        create::forget(self.key);
    }
}

impl Kernel {
    /// What it computes, and how the operands lie in memory.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
    /// `family.variant`.
    pub fn variant(&self) -> &'static str {
        self.0.variant
    }
    /// Instruction set.
    pub fn isa(&self) -> Isa {
        self.0.isa
    }
    /// Machine code.
    pub fn code(&self) -> &[u8] {
        self.0.compiled.code()
    }
    /// Bytes of packed weights and tables.
    pub fn packed_bytes(&self) -> usize {
        self.0.compiled.packed_bytes()
    }
    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.0.compiled.tasks().len()
    }
    /// Relative cost of a task, to share work evenly.
    ///
    /// # Panics
    /// When there is no such task.
    pub fn task_cost(&self, task: usize) -> f32 {
        self.0.compiled.tasks()[task].cost
    }
    /// How the operands lie in memory, and how much of it is needed.
    pub fn layout(&self) -> Layout {
        Layout::of(&self.0.problem, &self.0.compiled)
    }
    /// Whether two handles are of the same kernel.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
    /// Memory for one image (or matrix), all zero: one per caller at a time.
    pub fn memory(&self) -> Memory {
        Memory::new(self)
    }

    /// Address of the function of a task, of the System V convention: its only argument is the address
    /// of [`Kernel::args`], and it returns nothing. Valid as long as the kernel lives.
    ///
    /// # Panics
    /// When there is no such task.
    pub fn function(&self, task: usize) -> *const u8 {
        self.0.compiled.function(task)
    }

    /// What the function of a task is called with, for operands as [`Kernel::layout`] asks for them:
    /// pointers to element 0 of the packed source, of the residual where the problem has one, of the
    /// result, and to scratch memory that no other thread uses, 64-byte aligned.
    ///
    /// # Panics
    /// When there is no such task.
    pub fn args(&self, io: &KernelIo<'_>, task: usize) -> KernelArgs {
        self.0.compiled.args(io, task)
    }

    fn staging(&self) -> Option<&Staging> {
        self.0.compiled.staging()
    }
}
