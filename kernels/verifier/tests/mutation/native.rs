//! Runs code that may do anything: in a child process without system calls and files, on operands
//! between unmapped pages.

use crate::data::Data;
use crate::guard::{Guarded, POISON, Placement};
use crate::spec::Spec;
use skimjit_kernels::jit::{Code, CodeRegion};
use skimjit_kernels::{Built, CompiledKernel, Extent, KernelIo, Planes};

/// Filler of the result: what is not written keeps these bits.
const SENTINEL: f32 = f32::from_bits(0x7fc0_5e17);
/// Seconds of processor time after which a child is ended.
const SECONDS: libc::rlim_t = 20;
/// `SECCOMP_MODE_STRICT`: read, write, exit and return from signals only.
const STRICT: libc::c_ulong = 1;

/// What became of a code.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// The result's elements.
    Ran(Vec<f32>),
    /// The child did not survive it: its wait status.
    Died(i32),
}

/// Memory that parent and child see alike: the code that runs, then the results of all codes.
struct Shared {
    words: *mut u32,
    bytes: usize,
}

impl Shared {
    fn new(words: usize) -> Self {
        let bytes = (4 * words).next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(map, libc::MAP_FAILED, "no memory for {bytes} bytes");
        Self {
            words: map.cast(),
            bytes,
        }
    }

    fn set(&self, at: usize, word: u32) {
        assert!(4 * at < self.bytes);
        // SAFETY: inside the mapping. Volatile, because the other process reads it.
        unsafe { self.words.add(at).write_volatile(word) };
    }

    fn get(&self, at: usize) -> u32 {
        assert!(4 * at < self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.words.add(at).read_volatile() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
    }
}

/// Operands for one kernel.
pub struct Bench {
    operands: Vec<Guarded>,
    dst: Guarded,
    scratch: Guarded,
    extent: Extent,
}

impl Bench {
    pub fn new(spec: &Spec, data: &Data, built: &Built) -> Self {
        let footprint = built.footprint;
        let residual = spec.problem.operands().residual;
        let operand = |(i, (planes, values)): (usize, &(Planes, Vec<f32>))| {
            let extent = match i == 1 && residual {
                true => footprint.dst,
                false => footprint.src,
            };
            let mut operand = Guarded::new(extent, Placement::Back);
            match &built.staging {
                Some(staging) if i == 0 => {
                    let mut copy = vec![POISON; staging.elems()];
                    let channels = values.chunks_exact(staging.src.hw() as usize);
                    for (src, dst) in channels.zip(copy.chunks_exact_mut(staging.channel as usize))
                    {
                        staging.copy_channel(src, dst);
                    }
                    let len = copy.len().min(extent.after);
                    operand.elems_mut()[extent.before..][..len].copy_from_slice(&copy[..len]);
                }
                _ => fill(operand.elems_mut(), extent, planes, values),
            }
            operand.read_only()
        };
        let scratch = footprint.scratch_bytes.div_ceil(4).next_multiple_of(16);
        Self {
            operands: data.src.iter().enumerate().map(operand).collect(),
            dst: Guarded::new(footprint.dst, Placement::Back),
            scratch: Guarded::new(
                Extent {
                    before: 0,
                    after: scratch,
                },
                Placement::Back,
            ),
            extent: footprint.dst,
        }
    }

    /// Runs each code in the place of the kernel's own.
    pub fn run(&mut self, built: &Built, codes: &[Vec<u8>]) -> Vec<Outcome> {
        let kernels = compiled(built, codes);
        let elems = self.extent.before + self.extent.after;
        let shared = Shared::new(1 + elems * codes.len());
        let mut died = vec![None; codes.len()];
        let mut next = 0;
        while next < codes.len() {
            let status = self.child(&kernels, next, &shared);
            let reached = shared.get(0) as usize;
            if reached == codes.len() {
                break;
            }
            died[reached] = Some(status);
            next = reached + 1;
        }
        let outcome = |(number, died): (usize, Option<i32>)| match died {
            Some(status) => Outcome::Died(status),
            None => Outcome::Ran(
                (0..elems)
                    .map(|at| f32::from_bits(shared.get(1 + number * elems + at)))
                    .collect(),
            ),
        };
        died.into_iter().enumerate().map(outcome).collect()
    }

    /// Runs kernels from number `first` on in a child; the first shared word says how far it came.
    fn child(&mut self, kernels: &[CompiledKernel], first: usize, shared: &Shared) -> i32 {
        // SAFETY: the child calls nothing that takes a lock or memory, and never returns.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "no child process");
        if pid == 0 {
            self.confined(kernels, first, shared);
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        let ended = unsafe { libc::waitpid(pid, &mut status, 0) };
        assert_eq!(ended, pid);
        status
    }

    fn confined(&mut self, kernels: &[CompiledKernel], first: usize, shared: &Shared) -> ! {
        // SAFETY: this is a process of its own, which gives up its files, its handlers and, as its
        // last act, system calls.
        unsafe {
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
                libc::signal(signal, libc::SIG_DFL);
            }
            for (what, most) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_CPU, SECONDS)] {
                let limit = libc::rlimit {
                    rlim_cur: most,
                    rlim_max: most,
                };
                libc::setrlimit(what, &limit);
            }
            for file in 0..64 {
                libc::close(file);
            }
            libc::prctl(libc::PR_SET_SECCOMP, STRICT);
        }
        let mut src = [std::ptr::null(); 8];
        for (slot, operand) in src.iter_mut().zip(&self.operands) {
            *slot = operand.base().cast_const();
        }
        let count = self.operands.len();
        for (number, kernel) in kernels.iter().enumerate().skip(first) {
            shared.set(0, number as u32);
            self.dst.elems_mut().fill(SENTINEL);
            self.scratch.elems_mut().fill(POISON);
            let io = KernelIo {
                src: &src[..count],
                dst: self.dst.base(),
                scratch: self.scratch.base(),
            };
            // SAFETY: none is claimed: the code may do anything to this process.
            unsafe { kernel.run(&io, 0..kernel.tasks().len()) };
            let result = self.dst.elems();
            for (at, value) in result.iter().enumerate() {
                shared.set(1 + number * result.len() + at, value.to_bits());
            }
        }
        shared.set(0, kernels.len() as u32);
        // SAFETY: ends the process; `exit` alone is allowed.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("the process has ended")
    }
}

fn compiled(built: &Built, codes: &[Vec<u8>]) -> Vec<CompiledKernel> {
    let codes: Vec<Code> = codes.iter().map(|bytes| code(bytes)).collect();
    let (region, bases) = CodeRegion::publish_all(&codes.iter().collect::<Vec<_>>()).unwrap();
    let kernel = |(code, base): (Code, usize)| {
        let built = with_code(built, code);
        CompiledKernel::new(built, &region, base)
    };
    codes.into_iter().zip(bases).map(kernel).collect()
}

fn code(bytes: &[u8]) -> Code {
    Code {
        bytes: bytes.to_vec(),
        ..Code::default()
    }
}

fn with_code(built: &Built, code: Code) -> Built {
    Built {
        code,
        entries: built.entries.clone(),
        packed: built.packed.clone(),
        tasks: built.tasks.clone(),
        staging: built.staging,
        footprint: built.footprint,
    }
}

/// The kernel with other code.
pub fn mutant(built: &Built, bytes: &[u8]) -> Built {
    with_code(built, code(bytes))
}

/// Pixels, zero gaps behind each plane and as much in front of the first; all else stays poisoned.
fn fill(elems: &mut [f32], extent: Extent, planes: &Planes, values: &[f32]) {
    for (i, elem) in elems.iter_mut().enumerate() {
        let element = i as i64 - extent.before as i64;
        let (c, pixel) = (
            element.div_euclid(i64::from(planes.pitch)),
            element.rem_euclid(i64::from(planes.pitch)),
        );
        let pixels = i64::from(planes.hw());
        let inside = (0..i64::from(planes.c)).contains(&c) && pixel < pixels;
        if inside {
            *elem = values[(c * pixels + pixel) as usize];
        } else if (-i64::from(planes.gap())..planes.elems() as i64).contains(&element) {
            *elem = 0.0;
        }
    }
}
