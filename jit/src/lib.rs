//! The machine: instruction sets, a vector macro-assembler, executable memory.
//!
//! Nothing here knows what a network or a convolution is. Kernels write emitters against
//! [`asm::VectorAsm`], get a relocation-free [`Code`], publish it into a [`CodeRegion`] (never
//! writable and executable at once) and call it through a typed [`EntryPoint`].

#[cfg(not(target_arch = "x86_64"))]
compile_error!("skimjit generates x86-64 machine code and runs on x86-64 only");

pub mod asm;
mod code;
mod entry;
mod features;
mod isa;
pub mod observe;
mod region;
mod spec;

pub use code::Code;
pub use entry::{Arithmetic, EntryPoint, MXCSR};
pub use features::Features;
pub use isa::{CpuInfo, Isa, IsaDescriptor, IsaError};
pub use region::{CodeRegion, MAX_REGION_BYTES, RegionError};
pub use spec::{SpecHash, SpecHasher};
