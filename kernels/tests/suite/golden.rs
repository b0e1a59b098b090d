//! Disassembly of each variant's example per ISA, so that a change of the generated code is
//! seen in review. `SKIMJIT_BLESS=1` rewrites the files.

use crate::data::Data;
use crate::spec::Spec;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Values, Variant, Weights, registry};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Lines that a reviewer can be asked to read.
const MOST_LINES: usize = 300;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn listing(variant: &dyn Variant, isa: Isa) -> Option<String> {
    let line = variant.example();
    let spec: Spec = line.parse().expect("a problem");
    variant.supports(&spec.problem, isa).ok()?;
    let data = Data::new(&spec);
    let weights = Weights {
        values: Values::All(&data.values),
        pattern: &data.pattern,
        bias: &data.bias,
        element: spec.element(),
    };
    let built = variant
        .build(&spec.problem, weights, isa)
        .expect("a small problem");
    let mut text = format!("; {line}\n");
    describe(&mut text, &built);
    disassemble(&mut text, &built, isa);
    Some(text)
}

fn describe(text: &mut String, built: &Built) {
    let footprint = built.footprint;
    let extents = [footprint.src, footprint.dst].map(|e| format!("-{}..{}", e.before, e.after));
    let (tasks, packed) = (built.tasks.len(), built.packed.len());
    let staged = built.staging.map_or(0, |staging| staging.elems());
    writeln!(
        text,
        "; {tasks} tasks, {packed} packed bytes, elements of src {} (staged {staged}) and dst {}, {} bytes of scratch",
        extents[0], extents[1], footprint.scratch_bytes
    )
    .expect("strings take everything");
}

fn disassemble(text: &mut String, built: &Built, isa: Isa) {
    let bytes = built.code.instructions();
    let decode = || Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).into_iter();
    let targets: Vec<u64> = decode()
        .filter(|i| i.is_jmp_short_or_near() || i.is_jcc_short_or_near() || i.is_call_near())
        .map(|i| i.near_branch_target())
        .collect();
    let mut formatter = NasmFormatter::new();
    for instruction in decode() {
        let (at, mut words) = (instruction.ip(), String::new());
        if built.entries.contains(&(at as usize)) {
            writeln!(text, "entry:").expect("strings take everything");
        }
        if targets.contains(&at) {
            writeln!(text, "{at:x}:").expect("strings take everything");
        }
        assert!(!instruction.is_invalid(), "no instruction at {at:#x}");
        formatter.format(&instruction, &mut words);
        writeln!(text, "    {}", shorten(&instruction, words)).expect("strings take everything");
    }
    constants(text, built.code.constants(), isa);
}

/// The first lane of each.
fn constants(text: &mut String, bytes: &[u8], isa: Isa) {
    for vector in bytes.chunks(4 * isa.lanes() as usize) {
        let bits = u32::from_le_bytes([vector[0], vector[1], vector[2], vector[3]]);
        let number = f32::from_bits(bits);
        writeln!(text, "; {bits:#010x} {number:e}").expect("strings take everything");
    }
}

/// Branch targets as the labels are written.
fn shorten(instruction: &Instruction, words: String) -> String {
    match instruction.near_branch_target() {
        _ if instruction.op_count() != 1 || !words.starts_with('j') => words,
        target => format!("{} {target:x}", words.split(' ').next().unwrap_or_default()),
    }
}

#[test]
fn disassembly_is_as_reviewed() {
    let bless = std::env::var_os("SKIMJIT_BLESS").is_some();
    let mut stale = Vec::new();
    for variant in registry::VARIANTS {
        let name = variant.name();
        for isa in Isa::ALL {
            let Some(found) = listing(*variant, isa) else {
                continue;
            };
            let lines = found.lines().count();
            if lines >= MOST_LINES {
                stale.push(format!(
                    "{name} on {isa}: {lines} lines, choose a smaller problem"
                ));
            }
            let path = directory().join(format!("{name}.{isa}.txt"));
            if bless {
                std::fs::create_dir_all(directory()).expect("a writable source directory");
                std::fs::write(&path, &found).expect("a writable source directory");
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            let different = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
            if found != expected {
                stale.push(format!("{}: {different:?}", path.display()));
            }
        }
    }
    let stale = stale.join("\n");
    assert!(
        stale.is_empty(),
        "code changed; review, then bless with SKIMJIT_BLESS=1:\n{stale}"
    );
}
