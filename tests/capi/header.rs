//! `capi/include/skimjit.h`: made from the sources of the C interface, and checked in.

use cbindgen::{Builder, Config, DocumentationStyle, Language, RenameRule, Style};
use std::fs;
use std::path::Path;

const INTRODUCTION: &str = "\
/* skimjit: runs pruned Caffe networks fast on x86 CPUs. The C interface, for C99 and C++.
 *
 * Made from capi/src/ (SKIMJIT_BLESS=1 cargo test --release --test capi header); do not edit.
 * A guide with examples is docs/EMBEDDING.md.
 *
 * Results. Functions that can fail return a skimjit_status, and skimjit_error_message() says in words
 * what was wrong. A call that fails changes nothing and writes to no result but, for runs, the outputs.
 *
 * Ownership. skimjit_..._create, _load_... and _reshape give a handle that the caller frees with the
 * _free function of its type; null is allowed there. Handles keep what they need of each other alive, so
 * they may be freed in any order. Arrays and texts that are passed in belong to the caller and are not
 * needed after the call. Texts that are returned belong to the handle they came from.
 *
 * Threads. Models, kernels and teams never change: any number of threads may use them. A session is for
 * one thread at a time, which is checked. A handle is freed when no call uses it any more, which is not.
 *
 * Alignment. Arrays of floats need the alignment of a float; scratch memory of kernels starts at a
 * multiple of 64.
 *
 * Structs that may grow start with their size: set all of the struct to 0, then size to its sizeof.
 * Fields that an older library does not know must be 0; a newer one takes smaller structs.
 */";

/// Sources, in the order of the header.
const FILES: [&str; 11] = [
    "version.rs",
    "failure.rs",
    "memory.rs",
    "team.rs",
    "options.rs",
    "model.rs",
    "session.rs",
    "kernel.rs",
    "kernel_create.rs",
    "args.rs",
    "kernel_run.rs",
];

/// Rust names and C names.
const NAMES: [(&str, &str); 31] = [
    ("MAX_RANK", "SKIMJIT_MAX_RANK"),
    ("Status", "skimjit_status"),
    ("Team", "skimjit_team"),
    ("Options", "skimjit_options"),
    ("Model", "skimjit_model"),
    ("ModelInfo", "skimjit_model_info"),
    ("Port", "skimjit_port"),
    ("Preprocess", "skimjit_preprocess"),
    ("Shape", "skimjit_shape"),
    ("Session", "skimjit_session"),
    ("Input", "skimjit_input"),
    ("Output", "skimjit_output"),
    ("Profile", "skimjit_profile"),
    ("Step", "skimjit_step"),
    ("Kernel", "skimjit_kernel"),
    ("KernelOptions", "skimjit_kernel_options"),
    ("KernelInfo", "skimjit_kernel_info"),
    ("Conv", "skimjit_conv"),
    ("Fc", "skimjit_fc"),
    ("MatMul", "skimjit_matmul"),
    ("Csr", "skimjit_csr"),
    ("Operands", "skimjit_operands"),
    ("Args", "skimjit_kernel_args"),
    ("Function", "skimjit_kernel_function"),
    ("ABI_VERSION", "SKIMJIT_ABI_VERSION"),
    ("ISA_BEST", "SKIMJIT_ISA_BEST"),
    ("ISA_AVX2", "SKIMJIT_ISA_AVX2"),
    ("ISA_AVX512", "SKIMJIT_ISA_AVX512"),
    ("TUNING_NONE", "SKIMJIT_TUNING_NONE"),
    ("TUNING_MEASURE", "SKIMJIT_TUNING_MEASURE"),
    ("TUNING_FROZEN", "SKIMJIT_TUNING_FROZEN"),
];

fn config() -> Config {
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        style: Style::Type,
        documentation_style: DocumentationStyle::C99,
        header: Some(INTRODUCTION.to_owned()),
        include_guard: Some("SKIMJIT_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        usize_is_size_t: true,
        line_length: 100,
        ..Config::default()
    };
    config.enumeration.prefix_with_name = true;
    config.enumeration.rename_variants = RenameRule::ScreamingSnakeCase;
    let names = NAMES.map(|(rust, c)| (rust.to_owned(), c.to_owned()));
    config.export.rename = names.into();
    config
}

fn generate(root: &Path) -> String {
    let files = FILES.iter().map(|file| root.join("capi/src").join(file));
    let sources = files.fold(Builder::new(), Builder::with_src);
    let mut header = Vec::new();
    let bindings = sources.with_config(config()).generate().unwrap();
    bindings.write(&mut header);
    plain_pointers(&String::from_utf8(header).unwrap())
}

/// The types of arguments are wrapped pointers in Rust; in C they are the pointers themselves.
fn plain_pointers(header: &str) -> String {
    let is_wrapped = |name: &str| {
        name == "Text"
            || ["In_", "Out_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    let mut pointers = Vec::new();
    let mut kept: Vec<&str> = Vec::new();
    for part in header.split("\n\n") {
        let typedef = part.rsplit_once("typedef ").map(|(_, typedef)| typedef);
        let typedef = typedef.and_then(|typedef| typedef.strip_suffix(';')?.rsplit_once('*'));
        match typedef {
            Some((target, name)) if is_wrapped(name) && !target.contains(['{', '(']) => {
                pointers.push((name.to_owned(), format!("{target}*")));
            }
            _ => kept.push(part),
        }
    }
    // Longest name first: one may begin another.
    pointers.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut text = kept.join("\n\n");
    for (name, pointer) in pointers {
        let pointer = pointer.replace("const Text *", "const char *const *");
        text = text.replace(&format!("{name} "), &pointer);
    }
    text
}

#[test]
fn every_source_of_the_interface_is_in_the_header() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("capi/src");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "lib.rs" || FILES.contains(&&name[..]), "{name}");
    }
}

#[test]
fn header_is_the_one_that_the_sources_give() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (file, made) = (root.join("capi/include/skimjit.h"), generate(root));
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        fs::write(&file, &made).unwrap();
        return;
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let line = found.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        found == made,
        "capi/include/skimjit.h is not what capi/src gives, from line {} on; renew it with \
         SKIMJIT_BLESS=1 cargo test --release --test capi header",
        line.map_or(found.lines().count().min(made.lines().count()), |line| line) + 1
    );
}
