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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help.txt");
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
    assert!(
        commands.len() > 9 && commands.contains(&"compile"),
        "{commands:?}"
    );
    for command in commands {
        assert!(overview.contains(&format!("  {command}")), "{command}");
        let help = place.ok(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("  skimjit {command}")),
            "{help}"
        );
        assert_eq!(help, place.ok(&["help", command]));
    }
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
    let mut there: Vec<&str> = commands(&overview);
    listed.sort();
    there.sort_unstable();
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
    let has = |command: &&str| {
        let help = place.ok(&[command, "--help"]);
        help.lines()
            .any(|line| line.trim_start().starts_with(option))
    };
    let names = commands(&overview).into_iter().filter(has);
    names.map(str::to_owned).collect()
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
    let overview = place.ok(&["--help"]);
    for shell in ["bash", "zsh", "fish"] {
        let script = place.ok(&["completions", shell]);
        for command in commands(&overview) {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let pages = place.ok(&["man", "pages"]);
    for command in commands(&overview) {
        let page = format!("pages/skimjit-{command}.1");
        assert!(pages.contains(&page), "{page}: {pages}");
        let text = std::fs::read_to_string(place.path(&page)).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{text}");
    }
}
