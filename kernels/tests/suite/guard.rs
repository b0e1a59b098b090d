//! Operands between unmapped pages: an access outside the documented footprint faults.

use skimjit_kernels::Extent;
use std::cell::Cell;

/// Where the operand lies between the unmapped pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// The footprint ends at the page behind.
    Back,
    /// The footprint begins at the page in front.
    Front,
    /// The base is on a cache line, as near to the page behind as that allows.
    Aligned,
}

impl Placement {
    pub const ALL: [Placement; 3] = [Placement::Back, Placement::Front, Placement::Aligned];
}

/// Filler of memory that no result may depend on.
pub const POISON: f32 = f32::from_bits(0x7fc0_0bad);

/// Elements `-before .. after` around a base pointer.
pub struct Guarded {
    map: *mut libc::c_void,
    map_bytes: usize,
    base: *mut f32,
    extent: Extent,
}

impl Guarded {
    /// Filled with [`POISON`].
    pub fn new(extent: Extent, placement: Placement) -> Self {
        let page = 4096;
        let (before, after) = (extent.before * 4, extent.after * 4);
        let inner = (before + after + 64).next_multiple_of(page);
        let map_bytes = inner + 2 * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            )
        };
        assert_ne!(map, libc::MAP_FAILED, "no memory for {map_bytes} bytes");
        let first = map.cast::<u8>().wrapping_add(page);
        // SAFETY: the pages between the first and the last of the mapping above.
        let done =
            unsafe { libc::mprotect(first.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(done, 0, "mprotect");
        let offset = match placement {
            Placement::Back => inner - after,
            Placement::Front => before,
            Placement::Aligned => (inner - after) / 64 * 64,
        };
        let base = first.wrapping_add(offset).cast::<f32>();
        let mut buffer = Self {
            map,
            map_bytes,
            base,
            extent,
        };
        buffer.elems_mut().fill(POISON);
        buffer
    }
    /// Element 0.
    pub fn base(&self) -> *mut f32 {
        self.base
    }
    /// Elements `-before .. after`.
    pub fn elems(&self) -> &[f32] {
        let len = self.extent.before + self.extent.after;
        // SAFETY: `new` placed the extent inside the readable pages and initialised it.
        unsafe { std::slice::from_raw_parts(self.base.sub(self.extent.before), len) }
    }
    /// As [`Guarded::elems`].
    pub fn elems_mut(&mut self) -> &mut [f32] {
        let len = self.extent.before + self.extent.after;
        // SAFETY: as in `elems`; pages fresh from the system are zero, a valid `f32`.
        unsafe { std::slice::from_raw_parts_mut(self.base.sub(self.extent.before), len) }
    }
    /// Makes every write fault from here on.
    pub fn read_only(self) -> Self {
        let (page, inner) = (4096, self.map_bytes - 2 * 4096);
        let first = self.map.cast::<u8>().wrapping_add(page);
        // SAFETY: the inner pages of our own mapping; no reference to them is alive.
        let done = unsafe { libc::mprotect(first.cast(), inner, libc::PROT_READ) };
        assert_eq!(done, 0, "mprotect");
        self
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once.
        unsafe { libc::munmap(self.map, self.map_bytes) };
    }
}

thread_local! {
    /// The line to print when generated code faults on this thread.
    static RUNNING: Cell<(*const u8, usize)> = const { Cell::new((std::ptr::null(), 0)) };
}

/// Runs `body`; a fault in it prints `line` before the process dies.
pub fn naming_faults<T>(line: &str, body: impl FnOnce() -> T) -> T {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
            // SAFETY: the handler only writes to stderr and returns; SA_RESETHAND lets the repeated
            // fault kill the process.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let handler: extern "C" fn(libc::c_int) = on_fault;
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    });
    RUNNING.set((line.as_ptr(), line.len()));
    let result = body();
    RUNNING.set((std::ptr::null(), 0));
    result
}

extern "C" fn on_fault(_signal: libc::c_int) {
    let (text, len) = RUNNING.get();
    if !text.is_null() {
        let start = b"\nmemory fault in generated code, repeat with:\n";
        // SAFETY: `text` is a live string of `len` bytes for as long as it is set.
        unsafe {
            libc::write(2, start.as_ptr().cast(), start.len());
            libc::write(2, text.cast(), len);
            libc::write(2, b"\n".as_ptr().cast(), 1);
        }
    }
}
