//! One name per option: over all commands of both programs, as their recorded help texts tell.

use crate::support::Workplace;
use std::collections::BTreeMap;
use std::path::Path;

/// An option as a command's help shows it.
#[derive(Debug)]
struct Shown {
    /// Program and command.
    command: String,
    short: Option<String>,
    name: String,
    /// Empty for a flag.
    value: String,
    /// Without defaults and conditions, which stand in brackets.
    help: String,
}

/// Several names of one thing: only the first is shown, the others are old names that still work.
const SYNONYMS: [&[&str]; 12] = [
    &["prototxt", "model", "definition"],
    &["weights", "caffemodel"],
    &["layers", "layer"],
    &["zero-below", "threshold"],
    &["mean-value", "mean"],
    &["iterations", "iters", "runs"],
    &["output", "out", "folder"],
    &["solver-out", "out-solver"],
    &["lmdb", "databases"],
    &["keep-aspect", "fit"],
    &["quiet", "silent"],
    &["phase", "test-phase"],
];

/// Options whose help says what the command does with it, and what all of them say: the one meaning.
const SAID_BY_COMMAND: [(&str, &str); 27] = [
    ("batch", "images"),
    ("batches", "batches"),
    ("format", "form of what is"),
    ("help", "print help"),
    ("ignore-unknown-fields", "unknown"),
    ("input", "input"),
    ("input-shape", "shape of the input"),
    ("isa", "instruction set"),
    ("iterations", "runs"),
    ("json", "json"),
    ("labels", "names of the classes"),
    ("layers", "only"),
    ("levels", "zeros"),
    ("mean-value", "mean of each channel"),
    ("output", "write"),
    ("phase", "phase"),
    ("problem", "problem"),
    ("prototxt", "definition"),
    ("prototxt-out", "write"),
    ("quiet", "print only"),
    ("scale", "factor of pixels"),
    ("seed", "seed"),
    ("sparsity", "zero"),
    ("test-batches", "batches of phase test"),
    ("threads", "threads"),
    ("verbose", "print"),
    ("weights", "weights"),
];

/// What is written is of many kinds: its value tells which.
const ANY_VALUE: [&str; 1] = ["output"];

/// All options of a recorded file of help texts.
fn shown(program: &str, recorded: &str) -> Vec<Shown> {
    let sections = recorded.split("\n==> ").skip(1);
    let of_section = |section: &str| {
        let (command, help) = section.split_once('\n').unwrap();
        let (_, options) = help.split_once("Options:\n").unwrap();
        let options = options.split("\nExample").next().unwrap();
        read(&format!("{program} {command}"), options)
    };
    sections.flat_map(of_section).collect()
}

/// The options of one help text. A line of an option begins with a dash; its help is behind it or below.
fn read(command: &str, options: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut values = false;
    for line in options.lines() {
        let text = line.trim_start();
        if text.starts_with('-') && line.len() - text.len() < 8 {
            values = false;
            found.push(option(command, text));
            continue;
        }
        values |= text.starts_with("Possible values:");
        if let Some(last) = found.last_mut().filter(|_| !values) {
            last.help = format!("{} {text}", last.help);
        }
    }
    for option in &mut found {
        let help = option.help.split('[').next().unwrap_or_default();
        option.help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    found
}

/// `-o, --output <FILE>  Where it goes`.
fn option(command: &str, line: &str) -> Shown {
    let (head, help) = line.split_once("  ").unwrap_or((line, ""));
    let (names, value) = head.split_once(" <").unwrap_or((head, ""));
    let (names, value) = names.split_once(" [<").unwrap_or((names, value));
    let (short, long) = match names.split_once(", --") {
        Some((short, long)) => (Some(short.to_owned()), long),
        None => (None, names.trim_start_matches("--")),
    };
    Shown {
        command: command.to_owned(),
        short,
        name: long.to_owned(),
        value: value.to_owned(),
        help: help.to_owned(),
    }
}

/// Options of both programs by name.
fn all() -> BTreeMap<String, Vec<Shown>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut by_name: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for (program, file) in [
        ("skimjit", "tests/cli/help.txt"),
        ("skimjit-train", "trainer/tests/help.txt"),
    ] {
        let recorded = std::fs::read_to_string(root.join(file)).unwrap();
        for option in shown(program, &recorded) {
            by_name.entry(option.name.clone()).or_default().push(option);
        }
    }
    by_name
}

/// What a value is: `[NAME=]FILE`, `FILE,...` and `FILE` are files.
fn kind(value: &str) -> &str {
    let value = value.strip_prefix("[NAME=]").unwrap_or(value);
    let end = value.find([',', '|', '[', '>', '.']).unwrap_or(value.len());
    &value[..end]
}

/// How two options of one name differ, if they do.
fn difference(a: &Shown, b: &Shown) -> Option<&'static str> {
    let word = SAID_BY_COMMAND.iter().find(|(name, _)| *name == a.name);
    let says = |option: &Shown, word: &str| option.help.to_lowercase().contains(word);
    let same_help = match word {
        Some((_, word)) => says(a, word) && says(b, word),
        None => a.help == b.help,
    };
    let any_value = ANY_VALUE.contains(&&a.name[..]);
    match () {
        () if a.short != b.short => Some("one has a short name"),
        () if !any_value && kind(&a.value) != kind(&b.value) => Some("other kinds of value"),
        () if !same_help => Some("other meanings"),
        () => None,
    }
}

#[test]
fn one_name_per_option() {
    let all = all();
    assert!(all.len() > 80 && all["output"].len() > 10, "{}", all.len());
    let mut faults = Vec::new();
    for options in all.values() {
        let first = &options[0];
        for other in &options[1..] {
            if let Some(difference) = difference(first, other) {
                faults.push(format!("{difference}:\n  {first:?}\n  {other:?}"));
            }
        }
    }
    for names in SYNONYMS {
        for name in &names[1..] {
            for option in all.get(*name).into_iter().flatten() {
                faults.push(format!("{}: --{name} is --{}", option.command, names[0]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn differences_are_found() {
    let read = |line: &str| read("a b", line).remove(0);
    let weights = read("      --weights <CAFFEMODEL,...>\n          Weights [default: none]\n");
    assert_eq!(
        (&weights.name[..], &weights.help[..]),
        ("weights", "Weights")
    );
    let same =
        read("      --weights <CAFFEMODEL>  Trained weights, later\n                 ones win");
    assert_eq!(same.help, "Trained weights, later ones win");
    assert_eq!(difference(&weights, &same), None);
    for other in [
        "  -w, --weights <CAFFEMODEL>  Weights",
        "      --weights <FOLDER>  Weights",
        "      --weights <CAFFEMODEL>  Masses",
        "      --weights  Weights",
    ] {
        assert!(difference(&weights, &read(other)).is_some(), "{other}");
    }
    let list = read(
        "      --emit <KIND>\n          Kinds\n\n          Possible values:\n          - so: A library",
    );
    assert_eq!(list.help, "Kinds");
    assert_eq!(read("      --histogram [<N>]  Zeros").value, "N>]");
}

/// They are not shown, but who has written them down need not change it.
#[test]
fn old_names_still_work() {
    let place = Workplace::new();
    for old in [
        "test --model a",
        "time --model a",
        "extract-features --model a",
        "bench --layer a",
        "disasm --layer a",
        "dump --threshold 1",
        "dump --folder a",
        "convert-imageset --crop",
        "convert-imageset --resize_width 8",
    ] {
        let arguments: Vec<&str> = old.split(' ').chain(["--help"]).collect();
        let help = place.ok(&arguments);
        let name = arguments[1];
        let shown = help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(!shown, "{old}: {help}");
    }
}
