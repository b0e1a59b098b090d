//! Memory that one caller runs a kernel in.

use super::layout::{Layout, check};
use super::{Kernel, call};
use crate::error::{Error, Result};
use std::ops::Range;

/// Packed source, residual, result and scratch memory of a kernel.
pub struct Memory {
    kernel: Kernel,
    layout: Layout,
    src: Aligned,
    residual: Aligned,
    dst: Aligned,
    scratch: Aligned,
}

impl Memory {
    pub(super) fn new(kernel: &Kernel) -> Self {
        let layout = kernel.layout();
        let residual = if layout.residual { layout.dst_elems } else { 0 };
        Self {
            kernel: kernel.clone(),
            layout,
            src: Aligned::new(layout.src_before + layout.src_elems),
            residual: Aligned::new(residual),
            dst: Aligned::new(layout.dst_elems),
            scratch: Aligned::new(layout.scratch_bytes.div_ceil(4)),
        }
    }

    /// Sets the source, from plain C, H, W.
    pub fn pack_src(&mut self, src: &[f32]) -> Result<()> {
        let planes = self.layout.src;
        check("src", src.len(), planes.c as usize * planes.hw() as usize)?;
        let packed = self.src.elems_mut();
        self.kernel.pack_src(src, planes.hw() as usize, packed)
    }

    /// Sets the residual, from plain C, H, W.
    pub fn pack_residual(&mut self, residual: &[f32]) -> Result<()> {
        let planes = self.layout.dst;
        let pixels = planes.hw() as usize;
        if !self.layout.residual {
            return Err(Error::Usage(
                "residual: found an array, expected none; state it in the problem".to_owned(),
            ));
        }
        check("residual", residual.len(), planes.c as usize * pixels)?;
        let packed = self.residual.elems_mut();
        self.kernel.pack_residual(residual, pixels, packed)
    }

    /// Computes the result.
    pub fn run(&mut self) {
        self.run_tasks(0..self.kernel.tasks());
    }

    /// Computes what some of the tasks write.
    ///
    /// # Panics
    /// When there are no such tasks.
    pub fn run_tasks(&mut self, tasks: Range<usize>) {
        let operands = call::Operands {
            src: self.src.elems(),
            residual: self.residual.elems(),
            dst: self.dst.elems_mut(),
            scratch: self.scratch.elems_mut(),
        };
        call::run(&self.kernel, operands, tasks);
    }

    /// Gets the result, as plain C, H, W.
    pub fn unpack_dst(&self, dst: &mut [f32]) -> Result<()> {
        let planes = self.layout.dst;
        let pixels = planes.hw() as usize;
        check("dst", dst.len(), planes.c as usize * pixels)?;
        self.kernel.unpack_dst(self.dst.elems(), dst, pixels)
    }
}

/// Zeros that start on a cache line.
struct Aligned {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

/// Elements of a cache line.
const LINE: usize = 16;

impl Aligned {
    fn new(len: usize) -> Self {
        let values = vec![0.0f32; len + LINE];
        let start = values.as_ptr().align_offset(4 * LINE).min(LINE);
        Self { values, start, len }
    }
    fn elems(&self) -> &[f32] {
        &self.values[self.start..self.start + self.len]
    }
    fn elems_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.len]
    }
}
