//! Handles of single kernels.

use super::failure::{Status, c_text, guard, needed};
use super::memory::{Out, Text, growing};
use super::options::isa_number;
use engine::kernel::Kernel as Generated;
use std::ffi::{CString, c_char};

/// A generated kernel: machine code for one problem and one set of weights. It never changes, and any
/// number of threads may use it.
pub struct Kernel {
    pub(super) generated: Generated,
    variant: CString,
}

/// How a kernel is made. Set `size` to sizeof(skimjit_kernel_options) and leave 0 what should be as
/// usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelOptions {
    /// sizeof(skimjit_kernel_options).
    pub size: usize,
    /// Variant, such as "sparse_conv.baked"; null: the one with the best estimate.
    pub variant: Text,
    /// SKIMJIT_ISA_...: the instruction set.
    pub isa: u32,
    /// Always 0.
    pub reserved: u32,
}

growing!(KernelOptions, "skimjit_kernel_options", 24);

/// What a kernel is, and the memory of its operands, in floats. Set `size` to
/// sizeof(skimjit_kernel_info).
///
/// The packed source is what the generated code reads: the channel planes themselves, or, where the
/// kernel is `staged`, a padded copy of them in an order of its own. Its array has `src_elems` elements, of
/// which `src_before` come before the first pixel; what of it is no pixel must be 0, which
/// `skimjit_kernel_pack_src` sees to. Pixel (c, y, x) of planes is `src_before` + c * `src_pitch` + y *
/// `src_w` + x; in the result, c * `dst_pitch` + y * `dst_w` + x. The code writes pixels of the result only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelInfo {
    /// sizeof(skimjit_kernel_info).
    pub size: usize,
    /// Name of the variant. Belongs to the kernel.
    pub variant: *const c_char,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Bytes of packed weights and tables.
    pub packed_bytes: usize,
    /// Number of tasks: they may run in any order, on any threads, each once.
    pub tasks: usize,
    /// Elements of the packed source.
    pub src_elems: usize,
    /// How many of them come before the first pixel.
    pub src_before: usize,
    /// Elements of the residual, which lies as the result does; 0: the problem has none.
    pub residual_elems: usize,
    /// Elements of the result.
    pub dst_elems: usize,
    /// Elements of the scratch memory of each thread that runs tasks. It starts at a multiple of 64.
    pub scratch_elems: usize,
    /// Channels of the source (columns of the weights of a product).
    pub src_c: u32,
    /// Height of the source.
    pub src_h: u32,
    /// Width of the source.
    pub src_w: u32,
    /// Elements from one channel of the source to the next.
    pub src_pitch: u32,
    /// Channels of the result (rows of the weights of a product).
    pub dst_c: u32,
    /// Height of the result.
    pub dst_h: u32,
    /// Width of the result.
    pub dst_w: u32,
    /// Elements from one channel of the result to the next.
    pub dst_pitch: u32,
    /// 1: the packed source is a padded copy, which only `skimjit_kernel_pack_src` can make.
    pub staged: u32,
    /// SKIMJIT_ISA_...: instruction set of the code.
    pub isa: u32,
}

growing!(KernelInfo, "skimjit_kernel_info", 120);

impl Kernel {
    pub fn into_raw(generated: Generated) -> *mut Self {
        let variant = c_text(generated.variant());
        Box::into_raw(Box::new(Self { generated, variant }))
    }
}

/// Frees a handle; null is allowed. The code goes with the last handle of the same kernel, and no thread
/// may be running it then.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_free(kernel: Option<Box<Kernel>>) {
    guard(|| {
        drop(kernel);
        Ok(())
    });
}

/// Describes a kernel.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_get_info(
    kernel: Option<&Kernel>,
    info: Out<KernelInfo>,
) -> Status {
    guard(|| {
        let kernel = needed("kernel", kernel)?;
        let (generated, layout) = (&kernel.generated, kernel.generated.layout());
        info.fill(KernelInfo {
            size: 0,
            variant: kernel.variant.as_ptr(),
            code_bytes: generated.code().len(),
            packed_bytes: generated.packed_bytes(),
            tasks: generated.tasks(),
            src_elems: layout.src_before + layout.src_elems,
            src_before: layout.src_before,
            residual_elems: if layout.residual { layout.dst_elems } else { 0 },
            dst_elems: layout.dst_elems,
            scratch_elems: layout.scratch_bytes.div_ceil(4),
            src_c: layout.src.c,
            src_h: layout.src.h,
            src_w: layout.src.w,
            src_pitch: layout.src.pitch,
            dst_c: layout.dst.c,
            dst_h: layout.dst.h,
            dst_w: layout.dst.w,
            dst_pitch: layout.dst.pitch,
            staged: u32::from(layout.staged),
            isa: isa_number(generated.isa()),
        })
    })
}
