//! The help texts, as one file that is reviewed like code.

use crate::support::Workplace;
use skimjit_testing::help::{self, commands};
use std::path::Path;

/// Rewrites the file with `SKIMJIT_BLESS=1`.
#[test]
fn help_is_as_recorded_and_every_command_has_an_example() {
    let place = Workplace::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    help::check("skimjit-train", &file, |arguments| place.ok(arguments));
    let commands = commands(&place.ok(&["--help"]));
    assert!(commands.iter().any(|command| command == "train"));
    let version = place.ok(&["--version"]);
    let expected = format!("skimjit-train {}", env!("CARGO_PKG_VERSION"));
    // Behind it the commit, where that is known.
    assert!(version.trim().starts_with(&expected), "{version}");
}

/// They are not shown, but who has written them down need not change it. That each name shown has one meaning
/// is tested with the options of `skimjit`, in tests/cli/options.rs.
#[test]
fn old_names_still_work() {
    let place = Workplace::new();
    for (old, arguments) in [
        ("--model", "oneshot --model a"),
        ("--model", "recalibrate --model a"),
        ("--model", "sensitivity --model a"),
        ("--model", "cost --model a"),
        ("--model", "time --model a"),
        ("--data", "oneshot --data train"),
        ("--data", "net lenet --data a,b"),
        ("--mean", "net lenet --data a,b --mean 1"),
        ("--solver", "net lenet -o a --solver b"),
        ("--threshold", "prune a --threshold 1"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--help"]).collect();
        let help = place.ok(&arguments);
        let begin = format!("{old} ");
        let shown = help.lines().any(|line| line.trim().starts_with(&begin));
        assert!(!shown, "{arguments:?}: {help}");
    }
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let place = Workplace::new();
    let run = |arguments: &[&str]| place.ok(arguments);
    help::check_pages("skimjit-train", &place.path(""), run);
}
