//! Which library this is.

use super::failure::{Failure, Status, guard};
use std::ffi::{CStr, c_char};

/// Version of the interface that a header describes. Within one, functions and fields at the end of
/// structs are added, and nothing is changed or taken away.
pub const ABI_VERSION: u32 = 1;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version holds no byte of 0"),
    };

/// Version of the library, for people: "0.1.0". Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_version() -> *const c_char {
    VERSION.as_ptr()
}

/// Version of the interface that the library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_abi_version() -> u32 {
    ABI_VERSION
}

/// Refuses a header that the library was not built with: call it first, with SKIMJIT_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_check_abi(header: u32) -> Status {
    guard(|| match header {
        ABI_VERSION => Ok(()),
        _ => Err(Failure::new(
            Status::Version,
            format!(
                "found a program built with version {header} of skimjit.h, expected {ABI_VERSION}; \
                 build it again with the header of this library"
            ),
        )),
    })
}
