//! The help texts, as one file that is reviewed like code.

use crate::support::Workplace;
use std::path::Path;

const COMMANDS: [&str; 10] = [
    "compile", "run", "inspect", "verify", "time", "explain", "bench", "disasm", "synth", "knobs",
];

/// Rewrites the file with `SKIMJIT_BLESS=1`.
#[test]
fn help_is_as_recorded() {
    let place = Workplace::new();
    let mut found = place.ok(&["--help"]);
    for command in COMMANDS {
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
    for command in COMMANDS {
        assert!(overview.contains(&format!("  {command}")), "{command}");
        let help = place.ok(&[command, "--help"]);
        assert!(
            help.contains("Example") && help.contains(&format!("  skimjit {command}")),
            "{help}"
        );
        assert_eq!(help, place.ok(&["help", command]));
    }
    let version = place.ok(&["--version"]);
    assert_eq!(
        version.trim(),
        format!("skimjit {}", env!("CARGO_PKG_VERSION"))
    );
}
