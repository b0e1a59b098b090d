//! What is skipped leaves a trace. The programs that skip here are this one in a folder of their own, so
//! that nothing is said to be skipped that is not.

use skimjit_testing::{data, has, runs, skip};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[test]
#[ignore = "run by other tests, elsewhere"]
fn skips() {
    for _ in 0..3 {
        skip("something, which\nis missing");
    }
    skip(format!("process {}", std::process::id()));
}

#[test]
#[ignore = "run by other tests, elsewhere"]
fn skips_too() {
    skip("something, which is missing");
}

#[test]
#[ignore = "run by other tests, elsewhere"]
fn looks_for_what_is_missing() {
    assert_eq!(data("file"), None);
    assert!(!has("no-such-program"));
    assert!(!runs(skimjit_jit::Isa::Avx512));
}

/// A target folder with this program in it: a link, as a copy is open for writing in the processes that other tests
/// start meanwhile, and cannot be run until they let go of it.
fn target() -> TempDir {
    let program = std::env::current_exe().unwrap();
    let target = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    std::fs::create_dir(target.path().join("deps")).unwrap();
    std::fs::hard_link(&program, target.path().join("deps/skip-0123abcd")).unwrap();
    target
}

fn command(target: &TempDir, filter: &str) -> Command {
    let mut command = Command::new(target.path().join("deps/skip-0123abcd"));
    command.args(["--ignored", "--nocapture", "--test-threads", "4", filter]);
    command
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let [said, error] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{said}{error}");
    said
}

fn lines(target: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(target.join("skipped.txt")).unwrap();
    assert!(text.ends_with('\n'));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn each_test_says_a_reason_once() {
    let target = target();
    let said = said(&mut command(&target, "skips"));
    assert_eq!(said.matches("skipped: something").count(), 2, "{said}");
    let lines = lines(target.path());
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("skip skips\tprocess "), "{lines:?}");
    assert_eq!(lines[1], "skip skips\tsomething, which is missing");
    assert_eq!(lines[2], "skip skips_too\tsomething, which is missing");
}

#[test]
fn programs_that_run_side_by_side_do_not_mix_their_lines() {
    let target = target();
    let start = |_| {
        let mut command = command(&target, "skips");
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let programs: Vec<_> = (0..20).map(start).collect();
    for mut program in programs {
        assert!(program.wait().unwrap().success());
    }
    let lines = lines(target.path());
    assert_eq!(lines.len(), 3 * 20);
    let whole = |line: &&String| {
        line.ends_with("\tsomething, which is missing") || line.contains("\tprocess ")
    };
    assert!(lines.iter().all(|line| whole(&line)), "{lines:?}");
}

#[test]
fn missing_data_programs_and_instruction_sets_are_skips() {
    let target = target();
    let mut command = command(&target, "looks");
    command.env("SKIMJIT_MAX_ISA", "avx2");
    said(command.env("SKIMJIT_DATA", "/no/such/folder"));
    let lines = lines(target.path());
    let test = "skip looks_for_what_is_missing\t";
    assert!(lines[0].starts_with(&format!("{test}code for avx512, which ")));
    assert_eq!(
        lines[1..],
        [
            format!("{test}no no-such-program on this system"),
            format!("{test}no test data at /no/such/folder (set SKIMJIT_DATA)"),
        ]
    );
}

#[test]
fn a_file_that_the_data_lack_is_a_skip() {
    let target = target();
    let mut command = command(&target, "looks");
    command.env("SKIMJIT_MAX_ISA", "avx2");
    said(command.env("SKIMJIT_DATA", target.path()));
    let lines = lines(target.path());
    let reason = "no file in the test data at ";
    assert!(lines.iter().any(|line| line.contains(reason)), "{lines:?}");
}

#[test]
fn a_cap_that_is_no_instruction_set_fails() {
    let target = target();
    let mut command = command(&target, "looks");
    let output = command.env("SKIMJIT_MAX_ISA", "avx1").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected avx2 or avx512"));
}
