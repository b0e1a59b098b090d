//! The help of a program, as one file that is reviewed like code.

use std::path::Path;

/// The commands that an overview lists, but `help`.
pub fn commands(overview: &str) -> Vec<String> {
    let list = overview.split("Commands:").nth(1).unwrap_or_default();
    let list = list.split("\n\n").next().unwrap_or_default();
    let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
    let named = lines.filter(|line| !line.starts_with(' '));
    let names = named.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|&name| name != "help")
        .map(str::to_owned)
        .collect()
}

/// Compares the help of all commands with a file, and that each has an example. `SKIMJIT_BLESS=1` rewrites the file.
pub fn check(program: &str, file: &Path, run: impl Fn(&[&str]) -> String) {
    let overview = run(&["--help"]);
    let mut found = overview.clone();
    for command in commands(&overview) {
        let help = run(&[&command, "--help"]);
        let example = format!("  {program} {command}");
        assert!(
            help.contains("Example") && help.contains(&example),
            "{help}"
        );
        assert_eq!(help, run(&["help", &command]));
        found += &format!("\n==> {command}\n{help}");
    }
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::write(file, &found).unwrap();
    }
    let recorded = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        recorded == found,
        "help differs from {}; SKIMJIT_BLESS=1 records:\n{found}",
        file.display()
    );
}

/// Completions and man pages, which are written below `folder`, where `run` runs, know every command.
pub fn check_pages(program: &str, folder: &Path, run: impl Fn(&[&str]) -> String) {
    let commands = commands(&run(&["--help"]));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let pages = run(&["man", "pages"]);
    for command in &commands {
        let page = format!("pages/{program}-{command}.1");
        assert!(pages.contains(&page), "{page}: {pages}");
        let text = std::fs::read_to_string(folder.join(&page)).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{text}");
    }
}
