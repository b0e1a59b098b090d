//! Systems that let no memory become executable (PR_SET_MDWE, SELinux's execmem).

use crate::support::{Outcome, Workplace, outcome, ramp};
use skimjit::array::write_npy;
use skimjit_testing::skip;
use std::os::unix::process::CommandExt;

/// `PR_SET_MDWE` and `PR_MDWE_REFUSE_EXEC_GAIN` of linux/prctl.h (Linux 6.3).
const SET: libc::c_int = 65;
const REFUSE_EXEC_GAIN: libc::c_ulong = 1;

/// Runs a command that may not make memory executable; none where the kernel cannot forbid it.
fn forbidden(place: &Workplace, arguments: &str) -> Option<Outcome> {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = place.command(&arguments);
    // SAFETY: between fork and exec only a system call is made, on numbers.
    unsafe {
        command.pre_exec(|| match libc::prctl(SET, REFUSE_EXEC_GAIN, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::Unsupported)),
        });
    }
    match command.output() {
        Ok(_) => Some(outcome(&mut command)),
        Err(error) => {
            skip(format!("this kernel has no PR_SET_MDWE ({error})"));
            None
        }
    }
}

#[test]
fn every_command_that_runs_code_says_why_it_cannot() {
    let place = Workplace::with_tiny_network();
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    for command in [
        "run tiny.caffemodel --input in.npy",
        "compile tiny.caffemodel --no-tune -o t.skim",
        "compile tiny.caffemodel -o t.skim",
        "verify tiny.caffemodel",
        "time tiny.caffemodel --iterations 1",
        "explain tiny.caffemodel --no-tune --iterations 1",
        "report tiny.caffemodel --no-tune --iterations 1",
        "bench --net lenet --iterations 1",
        "device-query",
        "compile tiny.caffemodel --no-tune --emit so -o t.so",
    ] {
        let Some(result) = forbidden(&place, command) else {
            return;
        };
        let said = &result.stderr;
        assert_eq!(result.code, Some(3), "{command}: {said}{}", result.stdout);
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{command}: {said}");
        assert!(
            said.contains("executable") && said.contains("PR_SET_MDWE"),
            "{command}: {said}"
        );
    }
}

#[test]
fn what_runs_no_code_works_without_executable_memory() {
    let place = Workplace::with_tiny_network();
    place.ok(&[
        "compile",
        "tiny.caffemodel",
        "--no-tune",
        "--no-verify",
        "--isa",
        "avx2",
        "--emit",
        "obj",
        "-o",
        "allowed.o",
    ]);
    for command in [
        "compile tiny.caffemodel --no-tune --no-verify --isa avx2 --emit obj,header,asm -o t.o",
        "inspect tiny.caffemodel",
        "disasm tiny.caffemodel --layers conv1",
        "device-query --no-measure",
        "draw tiny.caffemodel -o t.svg",
    ] {
        let Some(result) = forbidden(&place, command) else {
            return;
        };
        assert_eq!(result.code, Some(0), "{command}: {}", result.stderr);
    }
    let read = |file: &str| std::fs::read(place.path(file)).unwrap();
    // Names of functions come from the files'; the code is the same.
    assert_eq!(read("t.o").len() > 1000, read("allowed.o").len() > 1000);
}
