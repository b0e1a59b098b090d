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
    /// Reading from the last-level cache, GB/s.
    pub cache_gbps: f64,
    /// Clock while running, GHz.
    pub clock_ghz: f64,
}

/// Bytes read for the bandwidth: several times any last-level cache share.
const READ_BYTES: usize = 192 << 20;

/// Bytes read for the bandwidth of the last-level cache: more than second-level caches hold.
const CACHE_BYTES: usize = 4 << 20;
/// Passes over [`CACHE_BYTES`] in one run.
const CACHE_PASSES: usize = 8;

/// Measures the peak of one core, best of several short runs.
pub fn measure(isa: Isa) -> Option<Peak> {
    Some(Peak {
        gflops: gflops(isa)?,
        read_gbps: read_gbps(READ_BYTES, 1),
        cache_gbps: read_gbps(CACHE_BYTES, CACHE_PASSES),
        clock_ghz: clock_ghz(),
    })
}

/// Memory that can be had without swapping, in bytes; `None` where the system does not tell.
pub fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
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

fn read_gbps(bytes: usize, passes: usize) -> f64 {
    let data = vec![1.0f32; bytes / 4];
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..passes {
            // Independent partial sums, so that additions do not limit the reading.
            let mut sums = [0.0f32; 64];
            for line in std::hint::black_box(&data).chunks_exact(64) {
                sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += x);
            }
            std::hint::black_box(&sums);
        }
        best = best.min(started.elapsed().as_secs_f64());
    }
    (bytes * passes) as f64 / best / 1e9
}

/// Clock of a busy core, in GHz.
///
/// From a chain of multiplications and exclusive ors, which take 3 + 1 cycles on every CPU with AVX2.
pub fn clock_ghz() -> f64 {
    const LINKS: u32 = 1 << 20;
    let factor = std::hint::black_box(0x9e37_79b9_7f4a_7c15u64);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        let chain = (0..LINKS).fold(1u64, |x, _| x.wrapping_mul(factor) ^ factor);
        std::hint::black_box(chain);
        best = best.min(started.elapsed().as_secs_f64());
    }
    4.0 * f64::from(LINKS) / best / 1e9
}
