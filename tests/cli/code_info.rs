//! What tools see of generated code.

use crate::support::{Workplace, outcome};
use skimjit_testing::{has, skip};
use std::process::Command;

const RUN: [&str; 5] = [
    "time",
    "tiny.caffemodel",
    "--iterations",
    "2",
    "--code-info",
];

#[test]
fn listings_name_channels_and_taps() {
    let place = Workplace::with_tiny_network();
    place.ok(&[&RUN[..], &["objects", "--code-folder", "code"]].concat());
    let listing = std::fs::read_to_string(place.path("code/skimjit_conv1.lst")).unwrap();
    assert!(listing.starts_with("; layer conv1, "), "{listing}");
    // Every weight of the convolution is named: none is zero.
    for oc in 0..4 {
        let note = format!("oc {oc}, ic 2, tap 1,2");
        let lanes_are_channels = listing.contains("oc 0, ic 2, tap 1,2")
            && listing.starts_with("; layer conv1, dense_conv.channels");
        assert!(
            listing.contains(&note) || lanes_are_channels,
            "{note}\n{listing}"
        );
    }
    let object = std::fs::read(place.path("code/skimjit_conv1.o")).unwrap();
    assert_eq!(&object[..4], b"\x7fELF");
}

#[test]
fn a_jitdump_has_code_and_lines_of_every_kernel() {
    let place = Workplace::with_tiny_network();
    place.ok(&[&RUN[..], &["jitdump", "--code-folder", "code"]].concat());
    let folder = std::fs::read_dir(place.path("code")).unwrap().flatten();
    let dump = folder
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "dump"));
    let bytes = std::fs::read(dump.unwrap()).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(4), word(12)), (0x4A69_5444, 1, 62));
    let (mut at, mut names, mut lines, mut last) = (word(8) as usize, Vec::new(), 0, long(24));
    while at < bytes.len() {
        let (kind, size, time) = (word(at), word(at + 4) as usize, long(at + 8));
        assert!(time >= last, "the clock runs forward");
        last = time;
        match kind {
            0 => {
                let name = bytes[at + 56..].split(|&byte| byte == 0).next().unwrap();
                let name = String::from_utf8(name.to_vec()).unwrap();
                assert_eq!(size, 56 + name.len() + 1 + long(at + 40) as usize);
                assert_eq!(long(at + 48), names.len() as u64);
                names.push(name);
            }
            2 => lines += long(at + 24),
            other => panic!("record {other}"),
        }
        at += size;
    }
    assert_eq!(at, bytes.len());
    assert!(
        names.contains(&"conv1".to_owned()) && lines > 20,
        "{names:?} {lines}"
    );
}

#[test]
fn gdb_breaks_in_a_kernel_and_shows_its_listing() {
    let place = Workplace::with_tiny_network();
    if !has("gdb") {
        return;
    }
    place.write(
        "script.gdb",
        "set breakpoint pending on\nset confirm off\nbreak skimjit_conv1\nrun\nbacktrace\ninfo line\nstepi 20\nbacktrace 2\nkill\n",
    );
    let program = env!("CARGO_BIN_EXE_skimjit");
    let arguments = ["-batch", "-nx", "-x", "script.gdb", "--args", program];
    let rest = ["gdb", "--threads", "1", "--code-folder", "code"];
    let mut command = Command::new("gdb");
    command
        .args(arguments)
        .args(RUN)
        .args(rest)
        .current_dir(place.path("."));
    let seen = outcome(&mut command);
    let text = format!("{}{}", seen.stdout, seen.stderr);
    if text.contains("ptrace") && text.contains("not permitted") {
        skip("this system forbids debugging");
        return;
    }
    assert!(seen.stdout.contains("skimjit_conv1.lst:"), "{text}");
    // The first line behind the title, from the listing itself, and the one 20 steps on.
    let listing = std::fs::read_to_string(place.path("code/skimjit_conv1.lst")).unwrap();
    let first = listing.lines().nth(1).unwrap();
    let shown = |line: &str| seen.stdout.lines().any(|seen| seen.ends_with(line));
    assert!(shown(&format!("2\t{first}")), "{first}\n{text}");
    assert!(
        listing
            .lines()
            .skip(2)
            .any(|line| shown(&format!("\t{line}"))),
        "{text}"
    );
    let frames = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert!(frames(&text) >= 5 && text.contains("main"), "{text}");
}

#[test]
fn vtune_is_told_or_the_feature_is_named() {
    let place = Workplace::with_tiny_network();
    let outcome = place.skimjit(&[&RUN[..], &["vtune", "--code-folder", "code"]].concat());
    if cfg!(feature = "vtune") {
        // VTune is not there, and nothing happens but the listings.
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(place.path("code/skimjit_conv1.lst").is_file());
    } else {
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        assert!(
            outcome.stderr.contains("--features vtune"),
            "{}",
            outcome.stderr
        );
    }
}
