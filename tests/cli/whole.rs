//! Files appear whole or not at all: no room, several writers, processes that end.

use crate::support::{Outcome, Workplace, outcome, ramp};
use skimjit::array::write_npy;
use std::collections::BTreeSet;
use std::process::Command;

const OLD: &str = "OLD CONTENTS";

/// A place with a network and all that the commands below read.
fn place() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write("tiny.prototxt", crate::support::PROTOTXT);
    place.write(
        "old.prototxt",
        "input: 'x' input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 \
         layers { name: 'a' type: RELU bottom: 'x' top: 'x' }",
    );
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    place.ok(&["compile", "tiny.caffemodel", "--no-tune", "-o", "tiny.skim"]);
    for library in ["libskimjit.so", "libskimjit.a"] {
        place.write(library, [0; 4096]);
    }
    place
}

/// A command for whose files there is room for `blocks` of 512 bytes each.
fn with_room(place: &Workplace, blocks: u32, arguments: &[&str]) -> Outcome {
    let program = place.command(&[]);
    let mut command = Command::new("sh");
    // Writing beyond the limit is an error instead of a signal.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program.get_program());
    command.args(arguments).current_dir(place.path("."));
    command.env("SKIMJIT_TUNE_CACHE", "tune.json");
    outcome(&mut command)
}

fn names(place: &Workplace) -> BTreeSet<String> {
    let entries = std::fs::read_dir(place.path(".")).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Every command that writes a file: what it writes first, and its arguments.
const WRITERS: [(&str, &str); 18] = [
    ("n.skim", "compile tiny.skim --no-tune -o n.skim"),
    (
        "n.so",
        "compile tiny.skim --no-tune --isa avx2 --emit so -o n.so",
    ),
    (
        "n.o",
        "compile tiny.skim --no-tune --isa avx2 --emit obj -o n.o",
    ),
    (
        "n.s",
        "compile tiny.skim --no-tune --isa avx2 --emit asm -o n.s",
    ),
    (
        "n.h",
        "compile tiny.skim --no-tune --isa avx2 --emit header -o n.h",
    ),
    (
        "o.npy",
        "run tiny.skim --input in.npy --dump-blob conv1=o.npy",
    ),
    (
        "r.html",
        "report tiny.skim --no-tune --iterations 1 -o r.html",
    ),
    ("d.svg", "draw tiny.skim -o d.svg"),
    ("d.dot", "draw tiny.skim -o d.dot"),
    ("e.caffemodel", "export tiny.skim e.caffemodel"),
    ("e.safetensors", "export tiny.skim e.safetensors"),
    ("e.npz", "export tiny.skim e.npz"),
    (
        "e.prototxt",
        "export tiny.caffemodel x.caffemodel --prototxt-out e.prototxt",
    ),
    ("s.caffemodel", "synth lenet --sparsity 90 -o s.caffemodel"),
    (
        "u.caffemodel",
        "upgrade tiny.caffemodel u.caffemodel --force",
    ),
    ("u.prototxt", "upgrade tiny.prototxt u.prototxt --force"),
    (
        "f.npy",
        "extract-features --prototxt tiny.prototxt --weights tiny.caffemodel --input in.npy -o f.npy conv1",
    ),
    (
        "f.h5",
        "extract-features --prototxt tiny.prototxt --weights tiny.caffemodel --input in.npy -o f.h5 conv1",
    ),
];

#[test]
fn without_room_the_old_file_stays_and_one_line_says_why() {
    let place = place();
    for (file, command) in WRITERS {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        // A graph of a few boxes fits into a block.
        let blocks: &[u32] = if file == "d.dot" { &[0] } else { &[0, 1] };
        for &blocks in blocks {
            for old in [false, true] {
                if old {
                    place.write(file, OLD);
                }
                let before = names(&place);
                let result = with_room(&place, blocks, &arguments);
                let said = &result.stderr;
                assert_eq!(result.code, Some(3), "{command}: {said}{}", result.stdout);
                // Measuring may tell of a busy machine before.
                let told = |line: &&str| !line.starts_with("note: busy machine");
                let told: Vec<&str> = said.lines().filter(told).collect();
                assert!(
                    told.len() == 1 && told[0].starts_with("error: "),
                    "{command}: {said}"
                );
                assert_eq!(names(&place), before, "{command}");
                if old {
                    let kept = std::fs::read_to_string(place.path(file)).unwrap();
                    assert_eq!(kept, OLD, "{command}");
                    std::fs::remove_file(place.path(file)).unwrap();
                }
            }
        }
    }
}

/// The only copy of a network, given as input and output.
#[test]
fn a_network_that_is_upgraded_in_place_survives_a_full_disk() {
    let place = place();
    let before = std::fs::read(place.path("old.prototxt")).unwrap();
    let upgrade = ["upgrade", "old.prototxt", "old.prototxt", "--force"];
    let result = with_room(&place, 0, &upgrade);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert_eq!(std::fs::read(place.path("old.prototxt")).unwrap(), before);
    let result = place.skimjit(&upgrade);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    assert_ne!(std::fs::read(place.path("old.prototxt")).unwrap(), before);
}

#[test]
fn folders_of_files_hold_no_half_ones() {
    let place = place();
    for command in [
        "dump tiny.skim --output f",
        "install-dev --prefix f --from .",
        "time tiny.skim --iterations 1 --code-info objects --code-folder f",
        "time tiny.skim --iterations 1 --code-info jitdump --code-folder f",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let result = with_room(&place, 1, &arguments);
        let said = &result.stderr;
        assert_eq!(result.code, Some(3), "{command}: {said}{}", result.stdout);
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{command}: {said}");
        let again = place.skimjit(&arguments);
        assert_eq!(again.code, Some(0), "{command}: {}", again.stderr);
        std::fs::remove_dir_all(place.path("f")).unwrap();
    }
}

#[test]
fn several_writers_of_one_artifact_each_write_a_whole_one() {
    let place = place();
    let compile = ["compile", "tiny.skim", "--no-tune", "-o", "race.skim"];
    let start = || {
        let mut command = place.command(&compile);
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut writers: Vec<_> = (0..6).map(|_| start()).collect();
    let mut read = 0;
    while writers
        .iter_mut()
        .any(|one| one.try_wait().unwrap().is_none())
    {
        if place.path("race.skim").exists() {
            place.ok(&["inspect", "race.skim"]);
            read += 1;
        }
    }
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    place.ok(&["inspect", "race.skim"]);
    println!("read {read} times meanwhile");
    let left = names(&place);
    assert!(!left.iter().any(|name| name.contains(".part")), "{left:?}");
}
