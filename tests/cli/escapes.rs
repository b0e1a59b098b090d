//! Names from a model, wherever they end: on a terminal, in sources, in pictures.

use crate::support::Workplace;
use serde_json::Value;

/// An artifact whose layers are called after commands to a terminal.
const EVIL: &[u8] = include_bytes!("evil.skim");

/// Characters that a terminal obeys.
fn obeyed(text: &str) -> Vec<char> {
    let plain = |c: &char| matches!(c, '\n' | '\t');
    text.chars()
        .filter(|c| c.is_control() && !plain(c) || ('\u{202a}'..='\u{202e}').contains(c))
        .collect()
}

#[test]
fn no_name_is_a_command_to_a_terminal() {
    let place = Workplace::new();
    place.write("evil.skim", EVIL);
    for command in [
        "inspect evil.skim",
        "inspect evil.skim --json",
        "compile evil.skim --no-tune -o out.skim",
        "verify evil.skim",
        "time evil.skim --iterations 1",
        "explain evil.skim --no-tune --iterations 1",
        "report evil.skim --no-tune --iterations 1",
        "disasm evil.skim --layers c",
        "dump evil.skim --output dump",
        "draw evil.skim -o out.svg",
        "draw evil.skim -o out.dot",
        "export evil.skim out.caffemodel",
        "compile evil.skim --no-tune --isa avx2 --emit header,asm,obj -o out.o",
        "run evil.skim --input missing.png",
        "run evil.skim --output missing=out.npy",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let result = place.skimjit(&arguments);
        assert!(result.code.is_some(), "{command}");
        for text in [&result.stdout, &result.stderr] {
            assert_eq!(obeyed(text), Vec::<char>::new(), "{command}: {text:?}");
        }
    }
    for file in ["out.svg", "out.dot", "report.html", "out.h", "out.s"] {
        // What cannot be compiled is not written.
        if let Ok(text) = std::fs::read_to_string(place.path(file)) {
            assert_eq!(obeyed(&text), Vec::<char>::new(), "{file}");
            // Nor a line of C, a tag, or the end of a quoted text.
            let injected = |line: &str| line.trim_start().starts_with("#error");
            assert!(!text.lines().any(injected), "{file}");
            if file.ends_with(".svg") || file.ends_with(".html") {
                assert!(!text.contains("<script>alert"), "{file}");
            }
            if file == "out.dot" {
                assert!(!text.contains("</script>\" ]; x"), "{file}");
            }
        }
    }
}

#[test]
fn json_keeps_names_as_they_are() {
    let place = Workplace::new();
    place.write("evil.skim", EVIL);
    let report = place.skimjit(&["inspect", "evil.skim", "--json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let layers = report["layers"].as_array().unwrap().iter();
    let mut names = layers.map(|layer| layer["name"].as_str().unwrap());
    assert!(names.any(|name| name.contains('\u{1b}')), "{report}");
}
