//! Packing, running, and the bare functions of kernels.

use super::args::{Args, Function};
use super::failure::{Failure, Outcome, Status, guard, guard_value, needed};
use super::kernel::Kernel;
use super::memory::{In, Out, function, growing, overlap, run};
use engine::kernel::{KernelIo, Layout};
use std::ops::Range;

/// Arrays of a call, all of them the caller's. Their lengths must be those of skimjit_kernel_info. Set
/// `size` to sizeof(skimjit_operands).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Operands {
    /// sizeof(skimjit_operands).
    pub size: usize,
    /// The packed source, from its start.
    pub src: In<f32>,
    /// Number of elements.
    pub src_elems: usize,
    /// The residual; null where the problem has none.
    pub residual: In<f32>,
    /// Number of elements.
    pub residual_elems: usize,
    /// The result.
    pub dst: Out<f32>,
    /// Number of elements.
    pub dst_elems: usize,
    /// Scratch memory of the calling thread, at a multiple of 64; null where the kernel needs none.
    pub scratch: Out<f32>,
    /// Number of elements.
    pub scratch_elems: usize,
}

growing!(Operands, "skimjit_operands", 72);

/// The function of task `task`, for callers that make the calls themselves: function(&args) computes what
/// `skimjit_kernel_run` does for that task. Null where there is no such task. Valid as long as the kernel.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_get_function(kernel: Option<&Kernel>, task: usize) -> Function {
    guard_value(None, || {
        let kernel = &needed("kernel", kernel)?.generated;
        check_task(task, kernel.tasks())?;
        Ok(function(kernel.function(task)))
    })
}

/// Fills in what the function of task `task` is called with for these operands. It may be called any
/// number of times, as long as the kernel and the arrays are there.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_get_args(
    kernel: Option<&Kernel>,
    task: usize,
    operands: In<Operands>,
    args: Out<Args>,
) -> Status {
    guard(|| {
        args.check("args")?;
        let kernel = &needed("kernel", kernel)?.generated;
        check_task(task, kernel.tasks())?;
        let operands = operands.read()?.check(&kernel.layout())?;
        let made = kernel.args(&operands.io(), task);
        args.set(Args {
            src: made.src.map(<*const u8>::cast),
            dst: made.dst.cast(),
            weights: made.wei.cast(),
            bias: made.bias.cast(),
            tables: made.aux.cast(),
            scratch: made.scratch.cast(),
            count: made.count,
        });
        Ok(())
    })
}

/// Runs tasks `first` to `first` + `count` - 1 on the calling thread. Different threads may run different
/// tasks on the same arrays at the same time, each with scratch memory of its own.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_run(
    kernel: Option<&Kernel>,
    operands: In<Operands>,
    first: usize,
    count: usize,
) -> Status {
    guard(|| {
        let kernel = &needed("kernel", kernel)?.generated;
        let tasks = kernel.tasks();
        let end = first.checked_add(count).filter(|&end| end <= tasks);
        let end = end.ok_or_else(|| {
            Failure::argument(format!(
                "tasks: found {count} from {first} on, expected none beyond {tasks}"
            ))
        })?;
        let operands = operands.read()?.check(&kernel.layout())?;
        run(kernel, &operands.io(), first..end);
        Ok(())
    })
}

/// Copies a source to where the code reads it, and sets to 0 what is no pixel. `src` has a plane of h * w
/// floats per channel, `pitch` floats apart (0: h * w, plain C, H, W).
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_pack_src(
    kernel: Option<&Kernel>,
    src: In<f32>,
    src_elems: usize,
    pitch: usize,
    packed: Out<f32>,
    packed_elems: usize,
) -> Status {
    guard(|| {
        let kernel = &needed("kernel", kernel)?.generated;
        check_apart("packed", &src.range(src_elems), &packed.range(packed_elems))?;
        let pitch = or_plane(pitch, kernel.layout().src.hw());
        let src = src.array("src", src_elems)?;
        Ok(kernel.pack_src(src, pitch, packed.array("packed", packed_elems)?)?)
    })
}

/// Copies a residual to how the result lies. As `skimjit_kernel_pack_src`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_pack_residual(
    kernel: Option<&Kernel>,
    residual: In<f32>,
    residual_elems: usize,
    pitch: usize,
    packed: Out<f32>,
    packed_elems: usize,
) -> Status {
    guard(|| {
        let kernel = &needed("kernel", kernel)?.generated;
        check_apart(
            "packed",
            &residual.range(residual_elems),
            &packed.range(packed_elems),
        )?;
        let pitch = or_plane(pitch, kernel.layout().dst.hw());
        let residual = residual.array("residual", residual_elems)?;
        Ok(kernel.pack_residual(residual, pitch, packed.array("packed", packed_elems)?)?)
    })
}

/// Copies the pixels of a result to planes that lie `pitch` floats apart (0: h * w, plain C, H, W).
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_unpack_dst(
    kernel: Option<&Kernel>,
    packed: In<f32>,
    packed_elems: usize,
    dst: Out<f32>,
    dst_elems: usize,
    pitch: usize,
) -> Status {
    guard(|| {
        let kernel = &needed("kernel", kernel)?.generated;
        check_apart("dst", &packed.range(packed_elems), &dst.range(dst_elems))?;
        let pitch = or_plane(pitch, kernel.layout().dst.hw());
        let packed = packed.array("packed", packed_elems)?;
        Ok(kernel.unpack_dst(packed, dst.array("dst", dst_elems)?, pitch)?)
    })
}

/// Computes one image from and to plain C, H, W, the easy way, which allocates and copies. `residual` is
/// null where the problem has none.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_kernel_compute(
    kernel: Option<&Kernel>,
    src: In<f32>,
    src_elems: usize,
    residual: In<f32>,
    residual_elems: usize,
    dst: Out<f32>,
    dst_elems: usize,
) -> Status {
    guard(|| {
        let kernel = &needed("kernel", kernel)?.generated;
        let written = dst.range(dst_elems);
        check_apart("dst", &src.range(src_elems), &written)?;
        check_apart("dst", &residual.range(residual_elems), &written)?;
        let mut memory = kernel.memory();
        memory.pack_src(src.array("src", src_elems)?)?;
        if kernel.layout().residual || !residual.is_null() {
            memory.pack_residual(residual.array("residual", residual_elems)?)?;
        }
        memory.run();
        Ok(memory.unpack_dst(dst.array("dst", dst_elems)?)?)
    })
}

fn check_task(task: usize, tasks: usize) -> Outcome {
    match task < tasks {
        true => Ok(()),
        false => Err(Failure::index("task", task, tasks)),
    }
}

fn check_apart(what: &str, a: &Range<usize>, b: &Range<usize>) -> Outcome {
    match overlap(a, b) {
        true => Err(Failure::argument(format!(
            "{what}: found it in the memory of another array, expected it apart"
        ))),
        false => Ok(()),
    }
}

fn or_plane(pitch: usize, pixels: u32) -> usize {
    match pitch {
        0 => pixels as usize,
        pitch => pitch,
    }
}

/// Bytes that scratch memory is aligned to.
const SCRATCH_ALIGN: usize = 64;

/// Operands that were checked against a layout.
pub struct Checked {
    sources: [*const f32; 2],
    residual: bool,
    dst: *mut f32,
    scratch: *mut f32,
}

impl Checked {
    pub fn io(&self) -> KernelIo<'_> {
        KernelIo {
            src: &self.sources[..1 + usize::from(self.residual)],
            dst: self.dst,
            scratch: self.scratch,
        }
    }
}

impl Operands {
    /// Refuses arrays of another length, in wrong places, or in each other.
    fn check(&self, layout: &Layout) -> Outcome<Checked> {
        let [src, residual, dst, scratch] = self.check_lengths(layout)?;
        self.src.array("operands.src", src)?;
        self.residual.array("operands.residual", residual)?;
        self.dst.check_array("operands.dst", dst)?;
        self.scratch.check_array("operands.scratch", scratch)?;
        if scratch > 0 && !self.scratch.address().addr().is_multiple_of(SCRATCH_ALIGN) {
            return Err(Failure::argument(format!(
                "operands.scratch: found address {:p}, expected a multiple of {SCRATCH_ALIGN}",
                self.scratch.address()
            )));
        }
        let arrays = [self.src.range(src), self.residual.range(residual)];
        let (dst, scratch) = (self.dst.range(dst), self.scratch.range(scratch));
        check_apart("operands.dst", &dst, &scratch)?;
        for array in &arrays {
            check_apart("operands.dst", array, &dst)?;
            check_apart("operands.scratch", array, &scratch)?;
        }
        let first = self.src.address().wrapping_add(layout.src_before);
        Ok(Checked {
            sources: [first, self.residual.address()],
            residual: layout.residual,
            dst: self.dst.address(),
            scratch: self.scratch.address(),
        })
    }

    fn check_lengths(&self, layout: &Layout) -> Outcome<[usize; 4]> {
        let fields = [
            ("src", self.src_elems, layout.src_before + layout.src_elems),
            (
                "residual",
                self.residual_elems,
                if layout.residual { layout.dst_elems } else { 0 },
            ),
            ("dst", self.dst_elems, layout.dst_elems),
            (
                "scratch",
                self.scratch_elems,
                layout.scratch_bytes.div_ceil(4),
            ),
        ];
        for (field, found, expected) in fields {
            if found != expected {
                return Err(Failure::argument(format!(
                    "operands.{field}_elems: found {found}, expected {expected}"
                )));
            }
        }
        Ok(fields.map(|(_, _, expected)| expected))
    }
}
