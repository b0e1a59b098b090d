//! The help texts, as one file that is reviewed like code.

use crate::support::Workplace;
use skimjit_testing::help::{self, commands};
use std::path::Path;

/// Rewrites the file with `SKIMJIT_BLESS=1`.
#[test]
fn help_is_as_recorded_and_every_command_has_an_example() {
    let place = Workplace::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help.txt");
    help::check("skimjit", &file, |arguments| place.ok(arguments));
    let commands = commands(&place.ok(&["--help"]));
    let compiles = commands.iter().any(|command| command == "compile");
    assert!(commands.len() > 9 && compiles, "{commands:?}");
}

#[test]
fn the_version_tells_the_commit() {
    let place = Workplace::new();
    let version = place.ok(&["--version"]);
    // Behind it the commit, where that is known.
    let expected = format!("skimjit {}", env!("CARGO_PKG_VERSION"));
    let rest = version.trim().strip_prefix(&expected);
    let rest = rest.unwrap_or_else(|| panic!("{version}"));
    let commit = rest.trim_start_matches(" (").trim_end_matches(')');
    let commit = commit.trim_end_matches('+');
    assert!(
        commit.chars().all(|c| c.is_ascii_hexdigit()) && [0, 12].contains(&commit.len()),
        "{version}"
    );
}

/// Text of a file of the repository.
fn document(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_documents_list_the_commands_and_variables_that_there_are() {
    let place = Workplace::new();
    let list = document("docs/COMMANDS.md");
    let overview = place.ok(&["--help"]);
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let mut listed: Vec<String> = cells
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    let mut there = commands(&overview);
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
    for knob in place.json(&["knobs"]).as_array().unwrap() {
        let name = knob["name"].as_str().unwrap();
        assert!(list.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_formats_of_pictures_are_those_that_are_read() {
    let place = Workplace::new();
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let formats = skimjit::picture::FORMATS;
    for text in [
        place.ok(&["run", "--help"]),
        place.ok(&["extract-features", "--help"]),
        document("docs/COMMANDS.md"),
    ] {
        let text = words(text);
        assert!(text.contains(formats), "{text}");
        // A list of some of them would be an old one.
        assert!(!text.replace(formats, "").contains("JPEG"), "{text}");
    }
}

/// The commands whose help has the option.
fn commands_with(place: &Workplace, option: &str) -> Vec<String> {
    let overview = place.ok(&["--help"]);
    let has = |command: &String| {
        let help = place.ok(&[command, "--help"]);
        help.lines()
            .any(|line| line.trim_start().starts_with(option))
    };
    commands(&overview).into_iter().filter(has).collect()
}

#[test]
fn the_guide_to_profilers_names_the_commands_that_take_code_info() {
    let place = Workplace::new();
    let guide = document("docs/PROFILING.md");
    let intro = guide
        .split("and nothing is told")
        .next()
        .unwrap_or_default();
    let mut named: Vec<&str> = quoted(intro).into_iter().skip(1).collect();
    let mut there = commands_with(&place, "--code-info");
    named.sort_unstable();
    there.sort();
    assert_eq!(named, there);
}

#[test]
fn every_command_that_takes_a_model_takes_its_shape() {
    let place = Workplace::new();
    let shaped = commands_with(&place, "--input-shape");
    for command in commands_with(&place, "[MODEL]")
        .into_iter()
        .chain(commands_with(&place, "<MODEL>"))
    {
        assert!(shaped.contains(&command), "{command}");
    }
}

#[test]
fn synth_names_every_network_of_the_zoo() {
    let place = Workplace::new();
    let help: String = place.ok(&["synth", "--help"]).split_whitespace().collect();
    for net in skimjit_caffe::zoo::all() {
        assert!(help.contains(net.name), "{}", net.name);
    }
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let place = Workplace::new();
    let run = |arguments: &[&str]| place.ok(arguments);
    help::check_pages("skimjit", &place.path(""), run);
}
