//! Nothing that is read on a terminal is wider than 100 characters, unless --wide asks for it.

use crate::support::Workplace;

const WIDTH: usize = 100;

fn widest(text: &str) -> (usize, &str) {
    let lines = text.lines().map(|line| (line.chars().count(), line));
    lines.max().unwrap_or_default()
}

/// A network with long names, and what every command says of it.
#[test]
fn tables_fit_and_wide_tables_have_all_columns() {
    let place = Workplace::with_tiny_network();
    place.ok(&[
        "synth",
        "googlenet",
        "--sparsity",
        "90",
        "-o",
        "net.caffemodel",
    ]);
    place.ok(&["compile", "net.caffemodel", "--no-tune", "-o", "net.skim"]);
    let few = ["--iterations", "1"];
    let layer = ["--layers", "inception_4b/3x3_reduce"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["inspect", "net.skim"],
        vec![
            "compile",
            "net.skim",
            "--no-tune",
            "--no-verify",
            "-o",
            "other.skim",
        ],
        [&["time", "net.skim"][..], &few].concat(),
        [&["explain", "net.skim", "--no-tune"][..], &few].concat(),
        [&["bench", "--net", "googlenet"][..], &few, &layer].concat(),
        vec!["dump", "net.skim"],
        vec!["knobs"],
        vec!["device-query"],
    ];
    for command in commands {
        let text = place.ok(&command);
        let (width, line) = widest(&text);
        assert!(width <= WIDTH, "{command:?}: {width}: {line}");
        let wide = place.ok(&[&command[..], &["--wide"]].concat());
        assert!(!wide.contains('…'), "{command:?}: {wide}");
    }
    let wide = place.ok(&["inspect", "net.skim", "--wide"]);
    assert!(wide.contains("duplicate rows"), "{wide}");
}

#[test]
fn examples_are_never_broken_and_help_fits() {
    let place = Workplace::new();
    for command in skimjit_testing::help::commands(&place.ok(&["--help"])) {
        let mut help = place.command(&[&command, "--help"]);
        let text = crate::support::outcome(help.env("COLUMNS", "60")).stdout;
        let (body, examples) = text.rsplit_once("\nExample").unwrap_or((&text, ""));
        // clap keeps the line of the usage whole.
        let lines = body.lines().filter(|line| !line.starts_with("Usage:"));
        let wide = lines.map(|line| line.chars().count()).max();
        assert!(wide <= Some(WIDTH), "{command}: {text}");
        let broken = examples.lines().skip(1).find(|line| {
            let ends = line.is_empty() || line.starts_with("  ");
            !ends
        });
        assert_eq!(broken, None, "{command}: {text}");
    }
}
