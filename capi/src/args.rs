//! What generated code is called with.

use std::ffi::c_void;

/// The function of a task. The CPU must have the kernel's instruction set; the pointers that
/// `skimjit_kernel_get_args` was given must be valid, and no other thread may write the sources or use the
/// scratch memory.
pub type Function = Option<unsafe extern "C" fn(args: *const Args)>;

/// What the function of a task is called with; made by `skimjit_kernel_get_args`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Args {
    /// Source, residual.
    pub src: [*const c_void; 8],
    /// Result.
    pub dst: *mut c_void,
    /// Packed weights. They belong to the kernel, as do bias and tables.
    pub weights: *const c_void,
    /// Packed bias.
    pub bias: *const c_void,
    /// Tables.
    pub tables: *const c_void,
    /// Scratch memory.
    pub scratch: *mut c_void,
    /// Loop trips.
    pub count: u64,
}
