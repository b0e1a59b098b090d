//! Calls of generated code on memory whose size was checked. One of the few files with `unsafe`.

use super::{Kernel, KernelIo};
use std::ops::Range;

/// Operands of one call, as [`super::Layout`] describes them.
pub(super) struct Operands<'a> {
    /// The packed source, elements before element 0 included.
    pub src: &'a [f32],
    /// Empty where the problem has none.
    pub residual: &'a [f32],
    /// As the layout says.
    pub dst: &'a mut [f32],
    /// 64-byte aligned.
    pub scratch: &'a mut [f32],
}

/// Runs some of the tasks on this thread.
///
/// # Panics
/// When an operand is shorter than the layout says, the scratch memory is not aligned, or there are no
/// such tasks.
pub(super) fn run(kernel: &Kernel, operands: Operands<'_>, tasks: Range<usize>) {
    let layout = kernel.layout();
    let residual = if layout.residual { layout.dst_elems } else { 0 };
    assert!(
        operands.src.len() >= layout.src_before + layout.src_elems,
        "source"
    );
    assert!(operands.residual.len() >= residual, "residual");
    assert!(operands.dst.len() >= layout.dst_elems, "result");
    assert!(
        operands.scratch.len() * 4 >= layout.scratch_bytes,
        "scratch"
    );
    assert!(
        operands.scratch.as_ptr().addr().is_multiple_of(64),
        "alignment"
    );
    let src = [
        operands.src.as_ptr().wrapping_add(layout.src_before),
        operands.residual.as_ptr(),
    ];
    let io = KernelIo {
        src: &src[..1 + usize::from(layout.residual)],
        dst: operands.dst.as_mut_ptr(),
        scratch: operands.scratch.as_mut_ptr(),
    };
    // SAFETY: the layout covers the kernel's footprint, and the slices, checked above, cover the
    // layout; the mutable ones are this call's alone.
    unsafe { run_at(kernel, &io, tasks) };
}

/// The same for operands that lie anywhere.
///
/// # Safety
/// The operands have the lengths and the alignment that the kernel's layout asks for; nobody else
/// writes the sources, uses the scratch memory or runs these tasks on them.
pub unsafe fn run_at(kernel: &Kernel, io: &KernelIo<'_>, tasks: Range<usize>) {
    // SAFETY: the layout covers the kernel's footprint; the caller vouches for the rest. The kernel was
    // generated for an instruction set of this machine: `create` asked for it.
    unsafe { kernel.0.compiled.run(io, tasks) };
}
