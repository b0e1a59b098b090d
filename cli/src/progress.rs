//! Progress on standard error; shown on a terminal only.

pub use indicatif::{ProgressBar, ProgressStyle};
use skimjit_host::foreign;
use std::time::Duration;

/// A bar of `steps`.
pub fn bar(what: &'static str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}

/// Shows that something of unknown length goes on while `work` runs.
pub fn spin<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = spinner(what);
    let result = work();
    spinner.finish_and_clear();
    result
}

/// Shows that something of unknown length goes on, until it is finished.
pub fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.set_message(what);
    // It turns on a thread of its own; where there can be none, it stands still.
    if !spinner.is_hidden() {
        let _ = foreign::call(|| spinner.enable_steady_tick(Duration::from_millis(120)));
    }
    spinner
}
