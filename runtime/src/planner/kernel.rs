//! A kernel on its way into a plan: generated now, or one that another plan uses already.

use skimjit_kernels::jit::{Code, SpecHash};
use skimjit_kernels::{Built, CompiledKernel, Footprint, Task, stage::Staging};
use std::sync::Arc;

/// Where the code and the packed weights of a step come from.
pub(crate) enum Kernel {
    /// Generated for this plan; the key is for later plans.
    New(Box<Built>, Option<SpecHash>),
    /// Used by another plan as well.
    Shared(Arc<CompiledKernel>),
}

impl Kernel {
    /// Code that is not executable yet.
    pub fn new_code(&self) -> Option<&Code> {
        match self {
            Self::New(built, _) => Some(&built.code),
            Self::Shared(_) => None,
        }
    }
    /// Machine code.
    pub fn code(&self) -> &[u8] {
        match self {
            Self::New(built, _) => &built.code.bytes,
            Self::Shared(kernel) => kernel.code(),
        }
    }
    /// Bytes of packed weights and tables.
    pub fn packed_bytes(&self) -> usize {
        match self {
            Self::New(built, _) => built.packed.len(),
            Self::Shared(kernel) => kernel.packed_bytes(),
        }
    }
    /// Copy of the source to make before the tasks run.
    pub fn staging(&self) -> Option<&Staging> {
        match self {
            Self::New(built, _) => built.staging.as_ref(),
            Self::Shared(kernel) => kernel.staging(),
        }
    }
    /// Memory touched.
    pub fn footprint(&self) -> Footprint {
        match self {
            Self::New(built, _) => built.footprint,
            Self::Shared(kernel) => kernel.footprint(),
        }
    }
    /// Units of work.
    pub fn tasks(&self) -> &[Task] {
        match self {
            Self::New(built, _) => &built.tasks,
            Self::Shared(kernel) => kernel.tasks(),
        }
    }
}
