//! Errors as codes, and a message per thread.

use engine::error::Error;
use skimjit_host::printable;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Result of a call. Values are never changed or reused; later versions may add some.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// An argument cannot be used: a null pointer, an index or an option out of range, a text that is
    /// not UTF-8, an unaligned array.
    Argument = 1,
    /// A struct's size, or the ABI version, is one that this library does not know.
    Version = 2,
    /// A file, or its contents.
    Input = 3,
    /// The network or kernel cannot be generated: no variant for it, or no memory.
    Plan = 4,
    /// The arrays given to a run do not fit the network.
    Arrays = 5,
    /// The instruction set asked for is not there, or the CPU lacks AVX2 with FMA.
    Isa = 6,
    /// Another thread is using the session.
    Busy = 7,
    /// A defect of this library. What took part in the call can only be freed.
    Internal = 8,
}

/// Why a call does not return [`Status::Ok`].
#[derive(Debug)]
pub struct Failure {
    status: Status,
    message: String,
}

/// Result of the Rust side of a call.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(Status::Argument, message)
    }
    /// Adds what was noticed before it, one line each.
    pub fn after(mut self, warnings: &[impl Display]) -> Self {
        for warning in warnings {
            self.message += "\nwarning: ";
            self.message += &printable::line(&warning.to_string());
        }
        self
    }
    /// For an index beyond `count` things.
    pub fn index(what: &str, found: usize, count: usize) -> Self {
        Self::argument(format!(
            "{what}: found index {found}, expected less than {count}"
        ))
    }
    fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no message");
        Self::new(Status::Internal, format!("a defect of skimjit: {text}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Input(_) => Status::Input,
            Error::Plan(_) => Status::Plan,
            Error::Run(_) => Status::Arrays,
            Error::Isa(_) => Status::Isa,
            Error::Usage(_) => Status::Argument,
            Error::Check(_) => Status::Internal,
        };
        Self::new(status, error.to_string()).after(error.warnings())
    }
}

/// What a null pointer fails with.
pub fn needed<T>(what: &str, value: Option<T>) -> Outcome<T> {
    value.ok_or_else(|| Failure::argument(format!("{what}: found a null pointer, expected one")))
}

thread_local! {
    static MESSAGE: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs the body of an exported function.
pub fn guard(body: impl FnOnce() -> Outcome) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let failure = match outcome {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let failure = Failure::panic(&*payload);
            // Dropping what someone panicked with could panic again.
            std::mem::forget(payload);
            failure
        }
    };
    remember(&failure.message);
    failure.status
}

/// The same for functions that return a value; `otherwise` stands for none.
pub fn guard_value<T: Copy>(otherwise: T, body: impl FnOnce() -> Outcome<T>) -> T {
    let mut value = otherwise;
    guard(|| {
        value = body()?;
        Ok(())
    });
    value
}

fn remember(message: &str) {
    let text = c_text(message);
    // A thread that is ending has no place for messages any more.
    let _ = MESSAGE.try_with(|last| *last.borrow_mut() = Some(text));
}

/// Text for C; bytes of 0, which end a text there, are left out.
pub fn c_text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// Says in words what the last call of this thread that failed did not like: which file, layer or
/// field, what was found, and what was expected. An empty text when none failed.
///
/// What was noticed before it when a network was read (see `skimjit_model_get_warning`) follows, one line
/// that begins with "warning: " each.
///
/// The text is UTF-8 and valid until the next call of this thread that fails. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_error_message() -> *const c_char {
    let text = |message: &RefCell<Option<CString>>| Some(message.borrow().as_ref()?.as_ptr());
    let message = MESSAGE.try_with(text).ok().flatten();
    message.unwrap_or(c"".as_ptr())
}

/// The name of a result, for logs. Never null; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_status_name(status: i32) -> *const c_char {
    const NAMES: [&CStr; 9] = [
        c"ok",
        c"argument",
        c"version",
        c"input",
        c"plan",
        c"arrays",
        c"isa",
        c"busy",
        c"internal",
    ];
    let name = usize::try_from(status)
        .ok()
        .and_then(|index| NAMES.get(index));
    name.unwrap_or(&c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        MESSAGE.with_borrow(|message| match message {
            Some(message) => message.to_str().unwrap().to_owned(),
            None => String::new(),
        })
    }

    #[test]
    fn panics_and_errors_become_codes_with_messages() {
        assert_eq!(guard(|| Ok(())), Status::Ok);
        assert_eq!(guard(|| panic!("planned {}", 1)), Status::Internal);
        assert_eq!(message(), "a defect of skimjit: planned 1");
        assert_eq!(guard(|| panic!("planned")), Status::Internal);
        let odd = || std::panic::panic_any(5);
        assert_eq!(guard(odd), Status::Internal);
        assert!(message().ends_with("no message"));
        assert_eq!(guard(|| Err(Failure::argument("a\0b"))), Status::Argument);
        assert_eq!(message(), "ab");
        assert_eq!(guard_value(7, || panic!("planned")), 7);
        assert_eq!(guard(|| Ok(())), Status::Ok);
        std::thread::spawn(|| assert_eq!(message(), ""))
            .join()
            .unwrap();
    }
}
