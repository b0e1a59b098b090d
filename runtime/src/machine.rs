//! What this machine can do, measured.

use crate::jit::{CodeRegion, Isa};
use crate::{PlanError, ThreadPool};
use skimjit_kernels::{CompiledKernel, KernelIo, peak};
use std::sync::OnceLock;
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

/// Runs of a team of which the best counts: enough to find a moment when no other process has a core.
const TEAM_RUNS: usize = 60;
/// Runs of the arithmetic kernel by each member of a team, at a time.
const TEAM_REPEATS: u64 = 8;

/// Measures the peak of one core, best of several short runs.
pub fn measure(isa: Isa) -> Result<Peak, PlanError> {
    Ok(Peak {
        gflops: gflops(isa)?,
        read_gbps: read_gbps(READ_BYTES, 1),
        cache_gbps: read_gbps(CACHE_BYTES, CACHE_PASSES),
        clock_ghz: clock_ghz(),
    })
}

/// Measured limits of a team of threads.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct TeamPeak {
    /// Members.
    pub threads: usize,
    /// Single-precision multiply-adds of all members, GFLOP/s.
    pub gflops: f64,
    /// Reading from memory by all members, GB/s.
    pub read_gbps: f64,
}

/// Measures what all members reach at once, best of several short runs.
pub fn measure_team(isa: Isa, pool: &ThreadPool) -> Result<TeamPeak, PlanError> {
    Ok(TeamPeak {
        threads: pool.threads(),
        gflops: team_gflops(isa, pool)?,
        read_gbps: team_read_gbps(pool),
    })
}

/// Memory that this process can have without swapping, in bytes; `None` where the system does not tell.
pub fn free_memory() -> Option<u64> {
    skimjit_host::memory::free()
}

/// Memory of the machine, in bytes; `None` where the system does not tell.
pub fn total_memory() -> Option<u64> {
    memory("MemTotal:")
}

fn memory(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The kernel of nothing but multiply-adds, and its operations.
fn peak_kernel(isa: Isa) -> Result<(CompiledKernel, u64), PlanError> {
    let (built, flops) = peak::kernel(isa, 1 << 18);
    let region = CodeRegion::publish(&built.code).map_err(PlanError::memory)?;
    Ok((CompiledKernel::new(built, &region, 0), flops))
}

fn multiply_add(kernel: &CompiledKernel) {
    kernel.run_without_memory(&KernelIo {
        src: &[],
        dst: std::ptr::null_mut(),
        scratch: std::ptr::null_mut(),
    });
}

/// Shortest of `runs` times, in seconds.
fn shortest(runs: usize, work: impl Fn()) -> f64 {
    let times = (0..runs).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn gflops(isa: Isa) -> Result<f64, PlanError> {
    let (kernel, flops) = peak_kernel(isa)?;
    Ok(flops as f64 / shortest(20, || multiply_add(&kernel)) / 1e9)
}

fn team_gflops(isa: Isa, pool: &ThreadPool) -> Result<f64, PlanError> {
    let (kernel, flops) = peak_kernel(isa)?;
    // Several times per run, so that waking the members does not count.
    let job = |_| (0..TEAM_REPEATS).for_each(|_| multiply_add(&kernel));
    let best = shortest(TEAM_RUNS, || pool.run(&job));
    Ok((flops * TEAM_REPEATS * pool.threads() as u64) as f64 / best / 1e9)
}

fn team_read_gbps(pool: &ThreadPool) -> f64 {
    let share = READ_BYTES / 4 / pool.threads();
    // Each member makes what it reads, so that it lies in the memory next to it.
    let parts: Vec<OnceLock<Vec<f32>>> = (0..pool.threads()).map(|_| OnceLock::new()).collect();
    let part = |member: usize| parts[member].get_or_init(|| vec![1.0; share]);
    pool.run(&|member| {
        part(member);
    });
    let best = shortest(3, || pool.run(&|member| read(part(member))));
    (share * 4 * pool.threads()) as f64 / best / 1e9
}

/// Adds up all elements in independent partial sums, so that additions do not limit the reading.
fn read(data: &[f32]) {
    let mut sums = [0.0f32; 64];
    for line in std::hint::black_box(data).chunks_exact(64) {
        sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += x);
    }
    std::hint::black_box(&sums);
}

fn read_gbps(bytes: usize, passes: usize) -> f64 {
    let data = vec![1.0f32; bytes / 4];
    let best = shortest(3, || (0..passes).for_each(|_| read(&data)));
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
