//! Activation memory: one zeroed block, sliced by the plan; and memory that goes back to the system. One of the few
//! files with `unsafe`.

/// Gives memory that was freed back to the system where the allocator keeps it: planning takes much of it in many
/// pieces, between which are some that stay.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: glibc's, of that signature; it may be called at any time, on any thread.
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

/// A cache line of elements.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Zero-initialised, 64-byte aligned memory that several threads write in disjoint parts.
pub struct Arena {
    lines: Vec<Line>,
}

// The plan decides who writes what; the arena only hands out addresses.
impl Arena {
    /// All zero; `None` when there is no memory for it.
    pub fn new(elems: usize) -> Option<Self> {
        let count = elems.div_ceil(16);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).ok()?;
        lines.resize(count, Line([0.0; 16]));
        Some(Self { lines })
    }
    /// Elements.
    pub fn elems(&self) -> usize {
        self.lines.len() * 16
    }
    /// Address of element 0.
    pub fn base(&mut self) -> ArenaPtr {
        ArenaPtr {
            base: self.lines.as_mut_ptr().cast(),
            elems: self.elems(),
        }
    }
}

/// Address of an arena while a region runs; copied to every thread.
#[derive(Clone, Copy)]
pub struct ArenaPtr {
    base: *mut f32,
    elems: usize,
}

// SAFETY: an address alone allows nothing; every access goes through the unsafe methods below, whose
// callers state that no other thread writes the range.
unsafe impl Send for ArenaPtr {}
// SAFETY: as above.
unsafe impl Sync for ArenaPtr {}

impl ArenaPtr {
    /// Address of an element.
    ///
    /// # Panics
    /// When `offset` lies outside the arena.
    pub fn at(self, offset: usize) -> *mut f32 {
        assert!(offset <= self.elems, "offset {offset} of {}", self.elems);
        self.base.wrapping_add(offset)
    }
}
