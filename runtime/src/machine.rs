//! What this machine can do, measured.

use crate::jit::{CodeRegion, Isa};
use skimjit_kernels::{CompiledKernel, KernelIo, peak};
use std::time::Instant;

/// Measured limits of one core.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Peak {
    /// Single-precision multiply-adds, GFLOP/s (two operations each).
    pub gflops: f64,
    /// Reading from memory, GB/s.
    pub read_gbps: f64,
}

/// Bytes read for the bandwidth: several times any last-level cache share.
const READ_BYTES: usize = 192 << 20;

/// Measures the peak of one core, best of several short runs.
pub fn measure(isa: Isa) -> Option<Peak> {
    Some(Peak {
        gflops: gflops(isa)?,
        read_gbps: read_gbps(),
    })
}

fn gflops(isa: Isa) -> Option<f64> {
    let (built, flops) = peak::kernel(isa, 1 << 18);
    let region = CodeRegion::publish(&built.code).ok()?;
    let kernel = CompiledKernel::new(built, &region, 0);
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let started = Instant::now();
        let io = KernelIo {
            src: &[],
            dst: std::ptr::null_mut(),
            scratch: std::ptr::null_mut(),
        };
        kernel.run_without_memory(&io);
        best = best.min(started.elapsed().as_secs_f64());
    }
    Some(flops as f64 / best / 1e9)
}

fn read_gbps() -> f64 {
    let data = vec![1.0f32; READ_BYTES / 4];
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        // Independent partial sums, so that additions do not limit the reading.
        let mut sums = [0.0f32; 64];
        for line in data.chunks_exact(64) {
            sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += x);
        }
        std::hint::black_box(&sums);
        best = best.min(started.elapsed().as_secs_f64());
    }
    READ_BYTES as f64 / best / 1e9
}
