//! GDB's JIT interface. One of the few files with `unsafe`.
//!
//! GDB sets a breakpoint on `__jit_debug_register_code` and, when it is hit, reads ELF objects from the
//! list that starts in `__jit_debug_descriptor` (GDB manual, "JIT Compilation Interface").

use std::ptr;
use std::sync::{Mutex, PoisonError};

/// What GDB is told to do.
#[repr(u32)]
enum Action {
    Nothing = 0,
    Register = 1,
    Unregister = 2,
}

/// An element of GDB's list.
#[repr(C)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    object: *const u8,
    bytes: u64,
}

/// Head of GDB's list.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut Entry,
    first: *mut Entry,
}

/// Changed only while [`LIST`] is held; GDB reads it while the process stands still.
#[unsafe(no_mangle)]
static mut __jit_debug_descriptor: Descriptor = Descriptor {
    version: 1,
    action: Action::Nothing as u32,
    relevant: ptr::null_mut(),
    first: ptr::null_mut(),
};

/// GDB stops here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn __jit_debug_register_code() {
    // Not empty, so that the call is not left out.
    std::hint::black_box(());
}

static LIST: Mutex<()> = Mutex::new(());

/// An object that GDB knows while this exists.
pub struct Registration {
    entry: *mut Entry,
    /// What `entry` points to.
    _object: Box<[u8]>,
}

// SAFETY: the entry is only touched while `LIST` is held.
unsafe impl Send for Registration {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Registration {}

impl Registration {
    /// Shows GDB an ELF object of which the sections' addresses are those of the code.
    pub fn new(object: Vec<u8>) -> Self {
        let object = object.into_boxed_slice();
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: `LIST` is held, so nobody else touches the descriptor or the entries; all entries in
        // the list are alive, because dropping a registration takes its entry out.
        let entry = unsafe {
            let first = (*descriptor).first;
            let entry = Box::into_raw(Box::new(Entry {
                next: first,
                previous: ptr::null_mut(),
                object: object.as_ptr(),
                bytes: object.len() as u64,
            }));
            if let Some(first) = first.as_mut() {
                first.previous = entry;
            }
            (*descriptor).first = entry;
            (*descriptor).relevant = entry;
            (*descriptor).action = Action::Register as u32;
            entry
        };
        __jit_debug_register_code();
        Self {
            entry,
            _object: object,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: as in `new`; `entry` came from a box there and is in the list until now.
        unsafe {
            let (next, previous) = ((*self.entry).next, (*self.entry).previous);
            if let Some(next) = next.as_mut() {
                next.previous = previous;
            }
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => (*descriptor).first = next,
            }
            (*descriptor).relevant = self.entry;
            (*descriptor).action = Action::Unregister as u32;
        }
        __jit_debug_register_code();
        // SAFETY: it is out of the list, and was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(self.entry) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Vec<Vec<u8>> {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        // SAFETY: `LIST` is held, and every entry in the list is alive with its object.
        unsafe {
            let descriptor = &raw const __jit_debug_descriptor;
            let mut entry = (*descriptor).first;
            while let Some(known) = entry.as_ref() {
                found.push(std::slice::from_raw_parts(known.object, known.bytes as usize).to_vec());
                entry = known.next;
            }
        }
        found
    }

    #[test]
    fn objects_are_listed_while_they_are_registered() {
        let [a, b, c] = [vec![1], vec![2, 2], vec![3; 3]].map(Registration::new);
        assert_eq!(objects(), [vec![3; 3], vec![2, 2], vec![1]]);
        drop(b);
        assert_eq!(objects(), [vec![3; 3], vec![1]]);
        drop(c);
        drop(a);
        assert!(objects().is_empty());
    }
}
