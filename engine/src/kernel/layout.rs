//! How the operands of a kernel lie in memory, and copies into and out of it.

use super::Kernel;
use crate::error::{Error, Result};
use skimjit_runtime::kernels::{CompiledKernel, Planes, Problem};

/// Memory of a kernel's operands, in elements of four bytes.
///
/// The *packed source* is what the generated code reads: the channel planes themselves, or, where the
/// kernel needs one (`staged`), a padded copy of them in an order of its own. Element 0 is where the
/// pointer of [`Kernel::args`] goes; the code may read `src_before` elements before it and `src_elems`
/// from it on. What of them is no pixel is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Planes of the source: pixel (c, y, x) is element `c·pitch + y·w + x`.
    pub src: Planes,
    /// Planes of the result, and of the residual.
    pub dst: Planes,
    /// The packed source is a padded copy, which only packing can make.
    pub staged: bool,
    /// There is a residual.
    pub residual: bool,
    /// Elements of the packed source before element 0.
    pub src_before: usize,
    /// Elements of the packed source from element 0 on.
    pub src_elems: usize,
    /// Elements of the result, and of the residual. The code leaves those between planes alone.
    pub dst_elems: usize,
    /// Scratch memory of each thread, in bytes.
    pub scratch_bytes: usize,
}

impl Layout {
    pub(super) fn of(problem: &Problem, compiled: &CompiledKernel) -> Self {
        let operands = problem.operands();
        let (src, dst, residual) = (operands.src[0], operands.dst, operands.residual);
        let footprint = compiled.footprint();
        let packed = compiled
            .staging()
            .map_or(src.elems(), |staging| staging.elems());
        Self {
            src,
            dst,
            staged: compiled.staging().is_some(),
            residual,
            src_before: footprint.src.before,
            src_elems: packed.max(footprint.src.after),
            dst_elems: dst.elems().max(footprint.dst.after),
            scratch_bytes: footprint.scratch_bytes,
        }
    }
}

impl Kernel {
    /// Copies the source's planes, `pitch` elements apart, to where the code reads them, and makes zero
    /// what is no pixel. `packed` is all of the packed source, `src_before` elements included.
    pub fn pack_src(&self, src: &[f32], pitch: usize, packed: &mut [f32]) -> Result<()> {
        let layout = self.layout();
        let (from, before) = (&layout.src, layout.src_before);
        check_planes("src", src.len(), from, pitch)?;
        check("packed source", packed.len(), before + layout.src_elems)?;
        let pixels = from.hw() as usize;
        let planes = src.chunks(pitch).map(|plane| &plane[..pixels]);
        packed[..before].fill(0.0);
        let packed = &mut packed[before..];
        let (width, used) = match self.staging() {
            Some(staging) => (staging.channel as usize, staging.elems()),
            None => (from.pitch as usize, from.elems()),
        };
        for (plane, channel) in planes
            .zip(packed.chunks_exact_mut(width))
            .take(from.c as usize)
        {
            match self.staging() {
                Some(staging) => staging.copy_channel(plane, channel),
                None => {
                    channel[..pixels].copy_from_slice(plane);
                    channel[pixels..].fill(0.0);
                }
            }
        }
        packed[used..].fill(0.0);
        Ok(())
    }

    /// Copies planes that lie `pitch` elements apart to how the result lies: a residual.
    pub fn pack_residual(&self, residual: &[f32], pitch: usize, packed: &mut [f32]) -> Result<()> {
        let layout = self.layout();
        check_planes("residual", residual.len(), &layout.dst, pitch)?;
        check("packed residual", packed.len(), layout.dst_elems)?;
        let pixels = layout.dst.hw() as usize;
        let targets = packed.chunks_mut(layout.dst.pitch as usize);
        for (plane, packed) in residual
            .chunks(pitch)
            .zip(targets)
            .take(layout.dst.c as usize)
        {
            packed[..pixels].copy_from_slice(&plane[..pixels]);
            packed[pixels..].fill(0.0);
        }
        Ok(())
    }

    /// Copies the result to planes that lie `pitch` elements apart.
    pub fn unpack_dst(&self, packed: &[f32], dst: &mut [f32], pitch: usize) -> Result<()> {
        let layout = self.layout();
        check("packed result", packed.len(), layout.dst_elems)?;
        check_planes("dst", dst.len(), &layout.dst, pitch)?;
        let pixels = layout.dst.hw() as usize;
        let planes = packed.chunks(layout.dst.pitch as usize);
        for (plane, target) in planes
            .zip(dst.chunks_mut(pitch))
            .take(layout.dst.c as usize)
        {
            target[..pixels].copy_from_slice(&plane[..pixels]);
        }
        Ok(())
    }
}

/// Refuses arrays that are not exactly as long as they should be.
pub(super) fn check(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{what}: found {found} elements, expected {expected}"
    )))
}

/// Refuses planes that overlap, and arrays that are too short for them; the last plane needs no gap.
fn check_planes(what: &str, found: usize, planes: &Planes, pitch: usize) -> Result<()> {
    let pixels = planes.hw() as usize;
    if pitch < pixels {
        return Err(Error::Usage(format!(
            "{what}: found a pitch of {pitch}, expected {pixels} or more, the pixels of a plane"
        )));
    }
    let needed = (planes.c as usize - 1)
        .saturating_mul(pitch)
        .saturating_add(pixels);
    if found < needed {
        return Err(Error::Usage(format!(
            "{what}: found {found} elements, expected {needed} or more"
        )));
    }
    Ok(())
}
