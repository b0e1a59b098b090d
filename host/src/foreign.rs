//! Libraries of others that read files of others: where one panics, that is an error of the file, without a
//! word on the terminal.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The library gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Panicked;

/// Runs `work`, of which a panic is an error and prints nothing. All that it has begun is to be dropped then.
pub fn call<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    hush();
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|_| Panicked)
}

/// Makes the report of a panic depend on the thread, for the whole process and once.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        assert_eq!(call(|| 3), Ok(3));
        assert_eq!(call(|| -> u8 { panic!("on damaged data") }), Err(Panicked));
        assert!(!QUIET.get());
    }
}
