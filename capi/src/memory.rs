//! What comes from C: pointers, and the promises that the header asks callers for. All `unsafe` of the
//! C interface is here.
//!
//! Values of these types cannot be made in Rust, so each is an argument or a field that C filled in.
//! Null pointers, wrong alignment and impossible lengths are refused; that a pointer that is not null
//! leads to that many elements is the header's condition for a call.

use super::args::{Args, Function};
use super::failure::{Failure, Outcome, Status, needed};
use engine::kernel::{Kernel, KernelIo, call};
use std::ffi::{CStr, OsStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A text that ends with a byte of 0, or null. Valid while the call lasts.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

/// Something to read, or null. Valid while the call lasts, in which nobody writes it.
#[repr(transparent)]
pub struct In<T>(*const T);

/// Something to write, or null. Valid while the call lasts, in which nobody else touches it.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}
impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl Text {
    /// The text; `None` for null.
    pub fn get<'a>(&'a self, what: &str) -> Outcome<Option<&'a str>> {
        let text = self.bytes().map(CStr::to_str).transpose();
        text.map_err(|error| Failure::argument(format!("{what}: {error}")))
    }
    /// A file's path, which need not be UTF-8.
    pub fn path(&self) -> Option<&Path> {
        self.bytes()
            .map(|bytes| Path::new(OsStr::from_bytes(bytes.to_bytes())))
    }
    fn bytes(&self) -> Option<&CStr> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: C made this value, of a text that ends with 0 and outlives the call (or the struct
        // that holds it).
        Some(unsafe { CStr::from_ptr(self.0) })
    }
}

impl<T> In<T> {
    /// The thing itself; for handles, which only this library makes.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: C made this value; handles come from this library, and the header forbids to use
        // them once they are freed.
        unsafe { self.0.as_ref() }
    }
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
    pub fn address(self) -> *const T {
        self.0
    }
    /// Addresses of an array.
    pub fn range(self, len: usize) -> Range<usize> {
        range(self.0, len)
    }
}

fn range<T>(start: *const T, len: usize) -> Range<usize> {
    let bytes = len.saturating_mul(size_of::<T>());
    start.addr()..start.addr().saturating_add(bytes)
}

/// Elements of arrays: every pattern of bits is a value.
pub trait Element: Copy {}
impl Element for u8 {}
impl Element for u32 {}
impl Element for f32 {}
impl Element for Text {}

impl<T: Element> In<T> {
    /// An array; null stands for none when it is empty.
    pub fn array<'a>(&'a self, what: &str, len: usize) -> Outcome<&'a [T]> {
        if len == 0 {
            return Ok(&[]);
        }
        check_array(what, self.0, len)?;
        // SAFETY: not null, aligned and of a possible length; C made this value, and promises `len`
        // elements that nobody writes while the call lasts.
        Ok(unsafe { std::slice::from_raw_parts(self.0, len) })
    }
}

impl<T: Element> Out<T> {
    /// An array to write, none when it is empty.
    pub fn array<'a>(&self, what: &str, len: usize) -> Outcome<&'a mut [T]> {
        if len == 0 {
            return Ok(&mut []);
        }
        check_array(what, self.0, len)?;
        // SAFETY: not null, aligned and of a possible length; C made this value, and promises `len`
        // elements that nobody else touches while the call lasts. Every pattern of bits is a value.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0, len) })
    }
    pub fn address(self) -> *mut T {
        self.0
    }
    /// Addresses of an array.
    pub fn range(self, len: usize) -> Range<usize> {
        range(self.0.cast_const(), len)
    }
}

impl<T> Out<T> {
    /// The thing itself; for handles, which only this library makes.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: as for `In::get`; what a handle holds is changed behind locks.
        unsafe { self.0.as_ref() }
    }
    /// Refuses what can be no array, without touching it: other threads may.
    pub fn check_array(self, what: &str, len: usize) -> Outcome {
        match len {
            0 => Ok(()),
            _ => check_array(what, self.0, len),
        }
    }
}

impl<T: Copy> Out<T> {
    /// Refuses a null pointer: before the work, not after it.
    pub fn check(self, what: &str) -> Outcome {
        needed(what, (!self.0.is_null()).then_some(()))?;
        check_aligned(what, self.0.cast_const())
    }
    /// Writes a value; `check` has found room for it.
    pub fn set(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: C made this value, and promises room for a `T`; `check` refuses unaligned ones.
            unsafe { self.0.write(value) };
        }
    }
}

fn check_array<T>(what: &str, start: *const T, len: usize) -> Outcome {
    needed(what, (!start.is_null()).then_some(()))?;
    check_aligned(what, start)?;
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(format!(
            "{what}: found {len} elements, more than memory can hold"
        )));
    }
    Ok(())
}

fn check_aligned<T>(what: &str, start: *const T) -> Outcome {
    match start.is_aligned() {
        true => Ok(()),
        false => Err(Failure::argument(format!(
            "{what}: found address {start:p}, expected a multiple of {}",
            align_of::<T>()
        ))),
    }
}

/// A struct whose first field is a `usize`, its size, and which may grow at its end.
///
/// # Safety
/// `repr(C)`, without bytes between its fields; every pattern of bits is a value, and 0 stands for
/// nothing in fields that are added.
pub unsafe trait Growing: Copy {
    /// Name in C.
    const NAME: &str;
    /// Size in the first version that had the struct.
    const FIRST_BYTES: usize;
}

/// A struct that may grow: `repr(C)` Rust type, C name, bytes in the first version.
macro_rules! growing {
    ($type:ty, $name:literal, $bytes:literal) => {
        // SAFETY: the type is `repr(C)`, begins with `size: usize`, and holds numbers and pointers
        // in an order that leaves no gaps (the assertion below sees gaps).
        unsafe impl crate::memory::Growing for $type {
            const NAME: &str = $name;
            const FIRST_BYTES: usize = $bytes;
        }
        const _: () = {
            assert!(size_of::<$type>() >= $bytes && size_of::<$type>() % 8 == 0);
            assert!(std::mem::offset_of!($type, size) == 0);
        };
    };
}

pub(crate) use growing;

impl<T: Growing> In<T> {
    /// The struct, as far as the caller's version has it and 0 beyond; null stands for all 0. What only
    /// a later version knows must be 0.
    pub fn read(&self) -> Outcome<T> {
        let mut value = MaybeUninit::<T>::zeroed();
        if !self.0.is_null() {
            check_aligned(T::NAME, self.0)?;
            // SAFETY: not null and aligned; every version of the struct begins with its size.
            let size = check_size::<T>(unsafe { self.0.cast::<usize>().read() })?;
            // SAFETY: C made this value, and promises `size` bytes.
            let bytes = unsafe { std::slice::from_raw_parts(self.0.cast::<u8>(), size) };
            let known = size.min(size_of::<T>());
            if bytes[known..].iter().any(|&byte| byte != 0) {
                return Err(Failure::new(
                    Status::Version,
                    format!(
                        "{}: found a field that this library does not know, expected 0",
                        T::NAME
                    ),
                ));
            }
            // SAFETY: `known` bytes at most as long as either side.
            unsafe {
                value
                    .as_mut_ptr()
                    .cast::<u8>()
                    .copy_from(bytes.as_ptr(), known)
            };
        }
        // SAFETY: every pattern of bits is a value of `T`.
        Ok(unsafe { value.assume_init() })
    }
}

impl<T: Growing> Out<T> {
    /// Writes the struct, as far as the caller's version has it; the size stays as it is, and what only
    /// a later version has becomes 0.
    pub fn fill(self, value: T) -> Outcome {
        needed(T::NAME, (!self.0.is_null()).then_some(()))?;
        check_aligned(T::NAME, self.0.cast_const())?;
        // SAFETY: not null and aligned; every version of the struct begins with its size.
        let size = check_size::<T>(unsafe { self.0.cast::<usize>().read() })?;
        let (head, known) = (size_of::<usize>(), size.min(size_of::<T>()));
        let target = self.0.cast::<u8>();
        let source = (&raw const value).cast::<u8>();
        // SAFETY: C promises `size` bytes at `target`; `known` bytes are in both structs.
        unsafe {
            target.add(head).copy_from(source.add(head), known - head);
            target.add(known).write_bytes(0, size - known);
        }
        Ok(())
    }
}

/// Structs larger than this are no later version but a mistake.
const MOST_BYTES: usize = 4096;

fn check_size<T: Growing>(size: usize) -> Outcome<usize> {
    if (T::FIRST_BYTES..=MOST_BYTES).contains(&size) {
        return Ok(size);
    }
    Err(Failure::new(
        Status::Version,
        format!(
            "{}.size: found {size}, expected sizeof({}), which is {} here",
            T::NAME,
            T::NAME,
            size_of::<T>()
        ),
    ))
}

/// The code at an address, as C calls it.
pub fn function(address: *const u8) -> Function {
    // SAFETY: a function pointer is an address that is not null, and code regions have none at 0; who
    // calls it keeps the conditions that the header states.
    unsafe { std::mem::transmute::<*const u8, Function>(address) }
}

/// Runs some of a kernel's tasks on this thread.
///
/// # Panics
/// When there are no such tasks.
pub fn run(kernel: &Kernel, io: &KernelIo, tasks: Range<usize>) {
    // SAFETY: C made the addresses; lengths and alignment were checked against the kernel's layout, and
    // the header demands that threads run different tasks with scratch memory of their own.
    unsafe { call::run_at(kernel, io, tasks) };
}

/// Whether two arrays have bytes in common.
pub fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

// `Args` is what generated code reads.
const _: () = assert!(size_of::<Args>() == size_of::<engine::kernel::KernelArgs>());

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Sample<const FIELDS: usize> {
        size: usize,
        fields: [u64; FIELDS],
    }
    // SAFETY: `repr(C)`, numbers only, no gaps.
    unsafe impl Growing for Sample<2> {
        const NAME: &str = "growing";
        const FIRST_BYTES: usize = 16;
    }

    fn given<const FIELDS: usize>(fields: [u64; FIELDS]) -> Sample<FIELDS> {
        let size = size_of::<Sample<FIELDS>>();
        Sample { size, fields }
    }

    #[test]
    fn structs_of_other_versions_are_read_as_far_as_they_are_known() {
        let read = |from: *const Sample<2>| In(from).read();
        assert_eq!(read(std::ptr::null()).unwrap().fields, [0, 0]);
        let same = given([1, 2]);
        assert_eq!(read(&raw const same).unwrap().fields, [1, 2]);
        let (older, later, unknown) = (given([1]), given([1, 2, 0]), given([1, 2, 3]));
        assert_eq!(read((&raw const older).cast()).unwrap().fields, [1, 0]);
        assert_eq!(read((&raw const later).cast()).unwrap().fields, [1, 2]);
        assert!(read((&raw const unknown).cast()).is_err());
        for size in [0, 8, 4097, usize::MAX] {
            let wrong = Sample {
                size,
                fields: [1, 2],
            };
            let failure = read(&raw const wrong).unwrap_err();
            assert!(format!("{failure:?}").contains("Version"), "{failure:?}");
        }
    }

    #[test]
    fn structs_of_other_versions_are_filled_as_far_as_they_reach() {
        let (mut older, mut later) = (given([9]), given([9, 9, 9]));
        let value = given([1, 2]);
        Out((&raw mut older).cast::<Sample<2>>())
            .fill(value)
            .unwrap();
        Out((&raw mut later).cast::<Sample<2>>())
            .fill(value)
            .unwrap();
        assert_eq!((older.size, older.fields), (16, [1]));
        assert_eq!((later.size, later.fields), (32, [1, 2, 0]));
        assert!(Out(std::ptr::null_mut::<Sample<2>>()).fill(value).is_err());
    }

    #[test]
    fn arrays_that_cannot_be_are_refused() {
        let values = [1.0f32, 2.0];
        let at = |address: *const f32, len| In(address).array("x", len).map(<[f32]>::len);
        assert_eq!(at(values.as_ptr(), 2).unwrap(), 2);
        assert_eq!(at(std::ptr::null(), 0).unwrap(), 0);
        assert!(at(std::ptr::null(), 1).is_err());
        assert!(at(values.as_ptr().wrapping_byte_add(1), 1).is_err());
        assert!(at(values.as_ptr(), usize::MAX / 2).is_err());
        let range = |from: usize, len| In(&raw const values[from]).range(len);
        assert!(overlap(&range(0, 2), &range(1, 1)));
        assert!(!overlap(&range(0, 1), &range(1, 1)));
    }
}
