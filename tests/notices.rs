//! THIRD-PARTY.txt: whose work is in the programs and libraries, and on what terms.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HEAD: &str = "\
What skimjit, skimjit-train, the C library and the Python package are made of beside skimjit itself, whose terms are in LICENSE:
the crates below, and Rust's standard library (MIT or Apache-2.0, The Rust Project Developers).
Texts that several crates have in common stand once, at the end, by number.
This file is made by tests/notices.rs; SKIMJIT_BLESS=1 records.
";

/// What cargo knows of the packages and how they depend on each other.
fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Ids of all that ends in a program or library: no tools of the build or the tests.
fn shipped(metadata: &Value) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap();
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut open: Vec<String> = members.iter().map(text).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in node(&id)["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    seen
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Files of terms in a crate, also of what lies inside it.
fn terms(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    const NAMES: [&str; 7] = [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "COPYRIGHT",
        "NOTICE",
        "UNLICENSE",
        "OFL",
    ];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy().to_ascii_uppercase();
        let source = [".RS", ".TOML", ".HTML", ".JSON"];
        if path.is_dir() && depth > 0 {
            terms(&path, depth - 1, found);
        } else if path.is_file()
            && NAMES.iter().any(|known| name.contains(known))
            && !source.iter().any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
}

fn notices() -> String {
    let metadata = metadata();
    let shipped = shipped(&metadata);
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        // Our own have no source.
        if shipped.contains(&text(&package["id"])) && !package["source"].is_null() {
            let key = (text(&package["name"]), text(&package["version"]));
            crates.insert(key, package);
        }
    }
    let mut all = HEAD.to_owned();
    let mut texts: Vec<String> = Vec::new();
    for ((name, version), package) in crates {
        let license = text(&package["license"]);
        let authors: Vec<String> = package["authors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let mut files = Vec::new();
        terms(manifest.parent().unwrap(), 4, &mut files);
        files.sort();
        let mut numbers = BTreeSet::new();
        for file in files {
            let bytes = fs::read(file).unwrap();
            let terms = String::from_utf8_lossy(&bytes).replace('\r', "");
            let terms = terms.trim().to_owned();
            let known = texts.iter().position(|text| *text == terms);
            numbers.insert(known.unwrap_or(texts.len()) + 1);
            if known.is_none() {
                texts.push(terms);
            }
        }
        assert!(
            !license.is_empty() || !numbers.is_empty(),
            "{name} {version} has no terms"
        );
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let _ = writeln!(all, "\n{name} {version}: {license}");
        if !authors.is_empty() {
            let _ = writeln!(all, "  by {}", authors.join(", "));
        }
        let _ = writeln!(all, "  {}", text(&package["repository"]));
        if !numbers.is_empty() {
            let _ = writeln!(all, "  texts {}", numbers.join(", "));
        }
    }
    for (number, text) in (1..).zip(&texts) {
        let _ = writeln!(all, "\n==> text {number}\n{text}");
    }
    all
}

/// Rewrites the file with `SKIMJIT_BLESS=1`.
#[test]
fn the_notices_name_all_that_is_shipped() {
    let found = notices();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("THIRD-PARTY.txt");
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        fs::write(&file, &found).unwrap();
    }
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    let names = |text: &str| -> BTreeSet<String> {
        let head = text.split("\n==> ").next().unwrap_or_default();
        head.lines().map(str::to_owned).collect()
    };
    let (new, old) = (names(&found), names(&recorded));
    let differ: Vec<&String> = new.symmetric_difference(&old).collect();
    assert!(
        recorded == found,
        "THIRD-PARTY.txt is old; SKIMJIT_BLESS=1 records: {differ:#?}"
    );
}
