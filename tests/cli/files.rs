//! Commands never write a file that they read, nor one file twice.

use crate::support::{PROTOTXT, Workplace, outcome, ramp};
use skimjit::array::write_npy;

/// A network, an artifact, an array and names, of which all commands here read some.
fn place() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write("net.prototxt", PROTOTXT);
    place.ok(&["compile", "tiny.caffemodel", "--no-tune", "-o", "net.skim"]);
    write_npy(&place.path("in.npy"), &ramp([1, 3, 8, 8], 1.0)).unwrap();
    place.write("labels.txt", "a\nb\nc\nd\ne\n");
    place
}

/// The complaint of a command that is refused.
fn refused(place: &Workplace, code: i32, arguments: &[&str]) -> String {
    let outcome = place.skimjit(arguments);
    assert_eq!(
        outcome.code,
        Some(code),
        "{arguments:?}: {}{}",
        outcome.stdout,
        outcome.stderr
    );
    outcome.stderr
}

#[test]
fn what_is_read_is_never_written() {
    let place = place();
    for (file, arguments) in [
        ("net.skim", &["report", "net.skim", "-o", "net.skim"][..]),
        ("net.skim", &["time", "net.skim", "--trace", "net.skim"]),
        (
            "net.skim",
            &["explain", "net.skim", "--tune-cache", "net.skim"],
        ),
        (
            "net.prototxt",
            &[
                "compile",
                "tiny.caffemodel",
                "--prototxt",
                "net.prototxt",
                "-o",
                "net.prototxt",
            ],
        ),
        (
            "labels.txt",
            &[
                "compile",
                "tiny.caffemodel",
                "--labels",
                "labels.txt",
                "-o",
                "./labels.txt",
            ],
        ),
        ("in.npy", &["run", "net.skim", "in.npy", "-o", "in.npy"]),
        (
            "in.npy",
            &["run", "net.skim", "in.npy", "--dump-blob", "conv1=in.npy"],
        ),
        (
            "tiny.caffemodel",
            &["export", "tiny.caffemodel", "tiny.caffemodel"],
        ),
        ("net.skim", &["draw", "net.skim", "-o", "net.skim"]),
    ] {
        let before = std::fs::read(place.path(file)).unwrap();
        let outcome = refused(&place, 2, arguments);
        assert!(
            outcome.contains("another file of this command"),
            "{arguments:?}: {outcome}"
        );
        assert_eq!(
            std::fs::read(place.path(file)).unwrap(),
            before,
            "{arguments:?}"
        );
    }
}

#[test]
fn two_results_have_two_names() {
    let place = place();
    for arguments in [
        &[
            "run",
            "net.skim",
            "in.npy",
            "-o",
            "same.npy",
            "--dump-blob",
            "conv1=same.npy",
        ][..],
        &[
            "synth",
            "lenet",
            "--sparsity",
            "50",
            "-o",
            "y",
            "--prototxt-out",
            "./y",
        ],
    ] {
        let outcome = refused(&place, 2, arguments);
        assert!(
            outcome.contains("another file of this command"),
            "{arguments:?}: {outcome}"
        );
    }
    assert!(!place.path("same.npy").exists() && !place.path("y").exists());
}

#[test]
fn a_data_base_is_not_written_into() {
    let place = place();
    std::fs::create_dir(place.path("db")).unwrap();
    place.write("db/data.mdb", [0; 8]);
    let outcome = refused(&place, 2, &["compute-image-mean", "db", "db/data.mdb"]);
    assert!(
        outcome.contains("another file of this command"),
        "{outcome}"
    );
}

#[test]
fn a_tune_cache_replaces_only_a_tune_cache() {
    let place = place();
    place.write("notes.txt", "to do");
    let outcome = refused(
        &place,
        3,
        &[
            "compile",
            "tiny.caffemodel",
            "-o",
            "x.skim",
            "--tune-cache",
            "notes.txt",
        ],
    );
    assert!(
        outcome.contains("notes.txt") && outcome.contains("a file of another kind"),
        "{outcome}"
    );
    assert_eq!(
        std::fs::read_to_string(place.path("notes.txt")).unwrap(),
        "to do"
    );
}

/// An array that a run would refuse is one bad input; the others are done.
#[test]
fn an_array_that_is_not_finite_is_named() {
    let place = place();
    let mut bad = ramp([2, 3, 8, 8], 1.0);
    bad.data_mut()[192 + 7] = f32::NAN;
    write_npy(&place.path("bad.npy"), &bad).unwrap();
    let outcome = place.skimjit(&[
        "run", "net.skim", "in.npy", "bad.npy", "in.npy", "--format", "csv", "--top", "1",
    ]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("bad.npy: found NaN at element 7 of image 1"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        outcome.stdout.matches("in.npy").count(),
        2,
        "{}",
        outcome.stdout
    );
}

#[test]
fn results_that_are_not_finite_are_told() {
    let place = place();
    write_npy(&place.path("huge.npy"), &ramp([1, 3, 8, 8], 3e38)).unwrap();
    let outcome = place.skimjit(&["run", "net.skim", "huge.npy"]);
    assert!(
        outcome.stderr.contains("is not finite"),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    let quiet = place.skimjit(&["run", "net.skim", "in.npy"]);
    assert!(!quiet.stderr.contains("is not finite"), "{}", quiet.stderr);
}

#[test]
fn an_empty_list_on_standard_input_is_an_error() {
    let place = place();
    let mut command = place.command(&["run", "net.skim", "-"]);
    command.stdin(std::process::Stdio::null());
    let outcome = outcome(&mut command);
    assert_eq!(outcome.code, Some(3));
    assert!(
        outcome
            .stderr
            .contains("standard input: found an empty list"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn files_that_a_folder_leaves_out_are_counted() {
    let place = place();
    std::fs::create_dir(place.path("mixed")).unwrap();
    for file in ["a.avif", "b.txt"] {
        place.write(&format!("mixed/{file}"), "x");
    }
    std::fs::copy(place.path("in.npy"), place.path("mixed/in.npy")).unwrap();
    let outcome = place.skimjit(&["run", "net.skim", "mixed"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("note: mixed: 2 files of other kinds left out"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn pictures_that_cannot_fit_are_refused_at_once() {
    let place = place();
    for (arguments, expected) in [
        (
            &["--resize", "8x8", "--crop", "6"][..],
            "8x8, the size of the network's input",
        ),
        (&["--crop", "100"], "8x8, the size of the network's input"),
        (&["--mean-value", "1,2"], "1, or 3"),
        (&["--resize", "10x10"], "8x8"),
    ] {
        let all = [
            &["compile", "tiny.caffemodel", "--no-tune", "-o", "x.skim"],
            arguments,
        ]
        .concat();
        let complaint = refused(&place, 3, &all);
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
    place.ok(&[
        "compile",
        "tiny.caffemodel",
        "--no-tune",
        "-o",
        "x.skim",
        "--resize",
        "9x9",
        "--crop",
        "8",
    ]);
}

#[test]
fn another_network_is_no_measurement_before() {
    let place = place();
    place.ok(&[
        "synth",
        "lenet",
        "--sparsity",
        "50",
        "-o",
        "lenet.caffemodel",
    ]);
    place.write(
        "before.json",
        place.ok(&["time", "net.skim", "--json", "--iterations", "2"]),
    );
    let outcome = place.skimjit(&[
        "time",
        "lenet.caffemodel",
        "--iterations",
        "2",
        "--compare",
        "before.json",
    ]);
    assert!(
        outcome.stderr.contains("another network?"),
        "{}",
        outcome.stderr
    );
}

/// Writing beyond `ulimit -f` is an error, not a signal.
#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let place = place();
    let program = place.command(&[]);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(program.get_program());
    command.args(["run", "net.skim", "in.npy", "--dump-blob", "conv1=big.npy"]);
    let outcome = outcome(command.current_dir(place.path(".")));
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("big.npy"), "{}", outcome.stderr);
    assert!(!place.path("big.npy").exists());
}
