//! Disassembly of one small problem per variant and ISA, so that a change of the generated code is
//! seen in review. `SKIMJIT_BLESS=1` rewrites the files.

use crate::data::Data;
use crate::spec::Spec;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Variant, Weights, registry};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Variant and the problem that is shown.
const CASES: [(&str, &str); 15] = [
    (
        "dense_conv.channels",
        "conv src=2x4x4x16 dst=3x2x2x16 k=1x1 s=2x2 p=0x0 d=1x1 g=1 relu=0 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "dense_conv.rolled",
        "conv src=9x4x4x48 dst=2x4x4x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_conv.baked",
        "conv src=2x7x7x80 dst=3x7x7x80 k=3x3 s=1x1 p=1x1 d=1x1 g=1 relu=0 density=20 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_conv.streamed",
        "conv src=2x9x9x112 dst=2x5x5x48 k=3x3 s=2x2 p=1x1 d=1x1 g=1 density=30 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_conv.spmm",
        "conv src=20x1x10x16 dst=9x1x10x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_conv.phase",
        "conv src=2x5x9x64 dst=2x5x9x64 k=1x3 s=1x1 p=0x1 d=1x1 g=1 relu=0 density=40 bias=1 scale=1 seed=1",
    ),
    (
        "dense_fc.gemv",
        "fc in=100 out=9 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_fc.ell",
        "fc in=128 out=20 relu=0 density=3 bias=1 scale=1 seed=1",
    ),
    (
        "sparse_fc.sell",
        "fc in=100 out=20 relu=0 density=20 bias=1 scale=1 seed=1",
    ),
    (
        "pool.lines",
        "pool src=3x7x7x64 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "pool.registers",
        "pool src=3x7x7x64 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "lrn.across",
        "lrn src=3x5x5x48 size=3 alpha=0.5 beta=0.75 k0=1 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "channelwise",
        "channelwise src=3x5x5x48 dst=3x5x5x48 affine=1 leaky=1 density=100 scale=1 seed=1",
    ),
    (
        "eltwise",
        "eltwise n=100 of=3 sum=1,-1,2 relu=0 density=100 bias=1 scale=1 seed=1",
    ),
    (
        "softmax",
        "softmax src=5x3x3x16 density=100 bias=1 scale=1 seed=1",
    ),
];
/// Lines that a reviewer can be asked to read.
const MOST_LINES: usize = 300;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn listing(variant: &dyn Variant, isa: Isa, line: &str) -> Option<String> {
    let spec: Spec = line.parse().expect("a problem");
    variant.supports(&spec.problem, isa).ok()?;
    let data = Data::new(&spec);
    let weights = Weights {
        values: &data.values,
        pattern: &data.pattern,
        bias: &data.bias,
    };
    let built = variant
        .build(&spec.problem, weights, isa)
        .expect("a small problem");
    let mut text = format!("; {line}\n");
    describe(&mut text, &built);
    disassemble(&mut text, &built);
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

fn disassemble(text: &mut String, built: &Built) {
    let bytes = &built.code.bytes;
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
        let line = CASES
            .iter()
            .find(|(case, _)| *case == name)
            .map(|(_, line)| line);
        let line = line.unwrap_or_else(|| panic!("{name} has no line in CASES"));
        for isa in Isa::ALL {
            let Some(found) = listing(*variant, isa, line) else {
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
