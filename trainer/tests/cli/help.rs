//! The help texts, as one file that is reviewed like code.

use crate::support::Workplace;
use std::path::Path;

/// The commands that the overview lists, but `help`.
fn commands(overview: &str) -> Vec<&str> {
    let list = overview.split("Commands:").nth(1).unwrap_or_default();
    let list = list.split("\n\n").next().unwrap_or_default();
    let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
    let named = lines.filter(|line| !line.starts_with(' '));
    let names = named.filter_map(|line| line.split_whitespace().next());
    names.filter(|&name| name != "help").collect()
}

/// Rewrites the file with `SKIMJIT_BLESS=1`.
#[test]
fn help_is_as_recorded() {
    let place = Workplace::new();
    let overview = place.ok(&["--help"]);
    let mut found = overview.clone();
    for command in commands(&overview) {
        found += &format!("\n==> {command}\n{}", place.ok(&[command, "--help"]));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        recorded == found,
        "help differs from {}; SKIMJIT_BLESS=1 records:\n{found}",
        file.display()
    );
}

#[test]
fn every_help_has_an_example_of_its_command() {
    let place = Workplace::new();
    let overview = place.ok(&["--help"]);
    let commands = commands(&overview);
    assert!(commands.contains(&"train"), "{commands:?}");
    for command in commands {
        let help = place.ok(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("  skimjit-train {command}")),
            "{help}"
        );
        assert_eq!(help, place.ok(&["help", command]));
    }
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
    let overview = place.ok(&["--help"]);
    let script = place.ok(&["completions", "bash"]);
    let pages = place.ok(&["man", "pages"]);
    for command in commands(&overview) {
        assert!(script.contains(command), "{command}");
        let page = format!("pages/skimjit-train-{command}.1");
        assert!(pages.contains(&page), "{page}: {pages}");
        let text = std::fs::read_to_string(place.path(&page)).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{text}");
    }
}
