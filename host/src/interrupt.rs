//! The end of the process by a signal: what is not whole goes first.

use crate::whole;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The program answers requests itself.
static PATIENT: AtomicBool = AtomicBool::new(false);

/// Removes files and folders that are not whole ([`whole::abandon`]) when the process is asked to end (SIGINT,
/// SIGTERM, SIGHUP); it then ends by the signal. Signals that the process was started to ignore, as `nohup`
/// does, stay ignored. Costs a thread that sleeps; call it once, first of all. From then on writing beyond the
/// largest file that is allowed (`ulimit -f`) is an error of the write, not a signal that ends the process.
pub fn clean_up_on_signals() -> io::Result<()> {
    // Whatever catches the signal; nobody looks at the flag.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let ignored = ignored();
    let listened = [SIGINT, SIGTERM, SIGHUP];
    let listened = listened
        .iter()
        .filter(|&&signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(listened)?;
    let listen = move || {
        let mut asked = false;
        for signal in signals.forever() {
            let first = signal == SIGHUP || !std::mem::replace(&mut asked, true);
            if first && PATIENT.load(Ordering::Relaxed) {
                continue;
            }
            whole::abandon();
            let _ = emulate_default_handler(signal);
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map(|_| ())
}

/// From now on, SIGHUP and the first of the others are answered by the program; the next one ends it.
pub fn be_patient() {
    PATIENT.store(true, Ordering::Relaxed);
}

/// Signals that the process ignores, one bit each from signal 1 on.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
