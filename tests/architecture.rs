//! Who may use what. Reads the manifests and the sources; see ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names in the `[dependencies]` table of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).expect(manifest);
    let table = text
        .split("\n[")
        .find(|table| table.starts_with("dependencies]"));
    let lines = table.unwrap_or_default().lines().skip(1);
    let name = |line: &str| line.split(['.', '=', ' ']).next().map(str::to_owned);
    lines
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .filter_map(name)
        .collect()
}

/// Source code without what is compiled for unit tests only; lines keep their numbers.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    // What ends the item that is left out: a line that begins so.
    let mut end: Option<String> = None;
    let mut next_is_test = false;
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(last) = &end {
            if line.starts_with(last.as_str()) {
                end = None;
            }
        } else if next_is_test {
            next_is_test = line.trim_start().starts_with("#[");
            if !next_is_test && !line.trim_end().ends_with([';', '}']) {
                end = Some(format!("{indent}}}"));
            }
        } else if line.trim_start() == "#[cfg(test)]" {
            next_is_test = true;
        } else {
            code += line;
        }
        code.push('\n');
    }
    code
}

#[test]
fn code_behind_a_test_module_counts() {
    let text = "a\n#[cfg(test)]\nmod x;\nb\n    #[cfg(test)]\n    #[allow(x)]\n    fn t() {\n        }\n    }\nc\n";
    assert_eq!(without_tests(text), "a\n\n\nb\n\n\n\n\n\nc\n");
}

/// Rust sources below a folder, with their text without the unit tests.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable source");
        let code = without_tests(&text);
        (
            path.strip_prefix(root())
                .expect("below the root")
                .to_owned(),
            code,
        )
    };
    paths.into_iter().map(read).collect()
}

const CODE: [&str; 17] = [
    "host/src",
    "jit/src",
    "models/src",
    "models/caffe/src",
    "models/onnx/src",
    "models/data/src",
    "kernels/src",
    "kernels/verifier/src",
    "runtime/src",
    "aot/src",
    "engine/src",
    "pruning/src",
    "capi/src",
    "python/src",
    "cli/src",
    "src",
    "trainer/src",
];

/// Lines of code (comments left out) that contain one of the words, outside the allowed files.
fn offenders(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in CODE.iter().flat_map(|folder| sources(folder)) {
        let name = path.to_string_lossy().replace('\\', "/");
        if allowed.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn assert_none(words: &[&str], allowed: &[&str]) {
    let found = offenders(words, allowed);
    assert!(
        found.is_empty(),
        "{words:?} outside {allowed:?}:\n{}",
        found.join("\n")
    );
}

#[test]
fn dependencies_point_downwards() {
    let ours = |manifest: &str| -> BTreeSet<String> {
        let all = dependencies(manifest);
        all.into_iter()
            .filter(|name| name.starts_with("skimjit"))
            .collect()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(ours("host/Cargo.toml"), set(&[]));
    assert_eq!(ours("jit/Cargo.toml"), set(&[]));
    assert_eq!(ours("models/Cargo.toml"), set(&["skimjit-host"]));
    assert_eq!(
        ours("kernels/Cargo.toml"),
        set(&["skimjit-jit", "skimjit-models"])
    );
    assert_eq!(
        ours("kernels/verifier/Cargo.toml"),
        set(&["skimjit-kernels", "skimjit-models"])
    );
    let runtime = set(&[
        "skimjit-host",
        "skimjit-jit",
        "skimjit-kernels",
        "skimjit-models",
    ]);
    assert!(ours("runtime/Cargo.toml").is_subset(&runtime));
    let aot = [
        "skimjit-host",
        "skimjit-jit",
        "skimjit-kernels",
        "skimjit-models",
        "skimjit-runtime",
    ];
    assert_eq!(ours("aot/Cargo.toml"), set(&aot));
    let format = set(&["skimjit-host", "skimjit-models"]);
    assert_eq!(ours("models/caffe/Cargo.toml"), format);
    assert_eq!(ours("models/onnx/Cargo.toml"), format);
    let data = set(&["skimjit-caffe", "skimjit-host", "skimjit-models"]);
    assert_eq!(ours("models/data/Cargo.toml"), data);
    let mut engine = set(&[
        "skimjit-aot",
        "skimjit-caffe",
        "skimjit-data",
        "skimjit-host",
        "skimjit-models",
        "skimjit-onnx",
        "skimjit-runtime",
        "skimjit-verifier",
    ]);
    assert_eq!(ours("engine/Cargo.toml"), engine);
    let capi = set(&["skimjit-host", "skimjit-models", "skimjit-runtime"]);
    assert_eq!(ours("capi/Cargo.toml"), capi);
    assert_eq!(ours("pruning/Cargo.toml"), set(&["skimjit-models"]));
    let python = set(&["skimjit", "skimjit-pruning"]);
    assert_eq!(ours("python/Cargo.toml"), python);
    let cli = set(&["skimjit-host", "skimjit-models"]);
    assert_eq!(ours("cli/Cargo.toml"), cli);
    engine.extend(["skimjit", "skimjit-program"].map(str::to_owned));
    assert!(ours("Cargo.toml").is_subset(&engine));
    let trainer = set(&[
        "skimjit-caffe",
        "skimjit-data",
        "skimjit-host",
        "skimjit-models",
        "skimjit-onnx",
        "skimjit-program",
        "skimjit-pruning",
    ]);
    assert_eq!(ours("trainer/Cargo.toml"), trainer);
    assert_eq!(ours("testing/Cargo.toml"), set(&["skimjit-jit"]));
}

/// Manifests of all crates.
fn manifests() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let (_, members) = text.split_once("members = [").expect("members");
    let (members, _) = members.split_once(']').expect("the end of the members");
    let members = members.split(',').map(|name| name.trim().trim_matches('"'));
    let members = members.filter(|name| !name.is_empty());
    let mut found: Vec<String> = members.map(|name| format!("{name}/Cargo.toml")).collect();
    found.push("Cargo.toml".to_owned());
    found
}

#[test]
fn what_tests_share_is_for_tests_only() {
    let manifests = manifests();
    assert!(manifests.len() > 10, "{manifests:?}");
    for manifest in manifests {
        let text = fs::read_to_string(root().join(&manifest)).expect(&manifest);
        for table in text.split("\n[") {
            let header = table.lines().next().unwrap_or_default();
            let may = header == "workspace.dependencies]" || header.contains("dev-dependencies");
            let has = |line: &str| line.starts_with("skimjit-testing");
            let found = header.contains("dependencies") && table.lines().any(has);
            assert!(may || !found, "skimjit-testing in [{header} of {manifest}");
        }
    }
}

/// Of what testing/ has there is no other: a test that skips something in its own way leaves no trace.
#[test]
fn tests_share_one_way_to_skip_and_to_find_data_and_instruction_sets() {
    let words = [
        concat!("println!(\"", "skipped"),
        concat!("var_os(\"", "SKIMJIT_DATA"),
        concat!("var(\"", "SKIMJIT_DATA"),
        concat!("fn ", "isas("),
    ];
    let folders = manifests().into_iter().flat_map(|manifest| {
        let folder = manifest.trim_end_matches("Cargo.toml").to_owned();
        ["tests", "benches"].map(|kind| folder.clone() + kind)
    });
    let found: Vec<String> = folders
        .flat_map(|folder| sources(&folder))
        .filter(|(_, text)| words.iter().any(|word| text.contains(word)))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(found, [""; 0], "have one of {words:?}");
}

#[test]
fn each_outside_crate_has_its_home() {
    for (name, homes) in [
        ("dynasmrt", &["jit/Cargo.toml"][..]),
        ("raw-cpuid", &["jit/Cargo.toml"]),
        (
            "prost",
            &["models/caffe/Cargo.toml", "models/onnx/Cargo.toml"],
        ),
        (
            "rayon",
            &[
                "pruning/Cargo.toml",
                "runtime/Cargo.toml",
                "trainer/Cargo.toml",
            ],
        ),
        ("gemm", &["pruning/Cargo.toml"]),
        // Its attributes are the arguments of commands.
        (
            "clap",
            &["cli/Cargo.toml", "trainer/Cargo.toml", "Cargo.toml"],
        ),
        ("clap_complete", &["cli/Cargo.toml"]),
        ("clap_mangen", &["cli/Cargo.toml"]),
        ("indicatif", &["cli/Cargo.toml"]),
        ("pyo3", &["python/Cargo.toml"]),
        ("numpy", &["python/Cargo.toml"]),
        ("heed", &["models/data/Cargo.toml"]),
        ("rusty-leveldb", &["models/data/Cargo.toml"]),
    ] {
        let manifests = [
            "jit/Cargo.toml",
            "models/Cargo.toml",
            "models/caffe/Cargo.toml",
            "models/data/Cargo.toml",
            "kernels/Cargo.toml",
            "runtime/Cargo.toml",
            "aot/Cargo.toml",
            "engine/Cargo.toml",
            "pruning/Cargo.toml",
            "capi/Cargo.toml",
            "python/Cargo.toml",
            "cli/Cargo.toml",
            "trainer/Cargo.toml",
            "Cargo.toml",
        ];
        let others = manifests.into_iter();
        for manifest in others.filter(|manifest| !homes.contains(manifest)) {
            assert!(
                !dependencies(manifest).contains(name),
                "{name} in {manifest}"
            );
        }
    }
    assert_none(&["prost::"], &["models/caffe/src/", "models/onnx/src/"]);
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let words = [
        "println!",
        "eprintln!",
        "print!(",
        "process::exit",
        "clap::",
    ];
    assert_none(
        &words,
        &[
            "cli/src/",
            "src/program.rs",
            "src/commands/",
            "src/support/",
            "trainer/src/main.rs",
            "trainer/src/cli/",
        ],
    );
}

/// So that there is never half a file under a name that somebody asked for.
#[test]
fn only_the_host_writes_files() {
    let words = [
        "fs::write",
        "File::create",
        "fs::rename",
        "fs::copy",
        "fs::hard_link",
        "fs::symlink",
        ".create(true)",
        ".create_new(true)",
        ".truncate(true)",
        "serialize_to_file",
    ];
    let allowed = [
        "host/src/whole.rs",
        // Lines are appended while a run goes on, or a profiler reads.
        "jit/src/observe/jitdump.rs",
        "jit/src/observe/perfmap.rs",
        "trainer/src/cli/console.rs",
        // Under names for the time being.
        "models/data/src/",
        "src/commands/export/formats.rs",
        "trainer/src/cuda/tests.rs",
    ];
    assert_none(&words, &allowed);
}

#[test]
fn only_the_pool_starts_threads() {
    assert_none(
        &["thread::spawn", "thread::Builder", "rayon::"],
        &[
            // One that waits for signals.
            "host/src/interrupt.rs",
            "models/data/src/",
            "pruning/src/",
            "runtime/src/pool.rs",
            "trainer/src/",
        ],
    );
}

#[test]
fn only_isa_asks_the_cpu_and_only_knobs_reads_the_environment() {
    assert_none(
        &["is_x86_feature_detected", "CpuId"],
        &["jit/src/features.rs", "jit/src/isa.rs"],
    );
    assert_none(&["env::var", "env::vars"], &["src/knobs.rs"]);
}

/// A mapped file that someone cuts kills the process that reads it. LMDB maps its own; a profiler's dump has
/// its mark mapped, and is ours.
#[test]
fn files_of_users_are_read_and_not_mapped() {
    let words = ["Mmap::map(", "MmapMut::map_mut(", "MmapOptions", "map_copy"];
    assert_none(&words, &["jit/src/observe/jitdump.rs"]);
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let allowed = [
        "jit/src/region.rs",
        "jit/src/entry.rs",
        "jit/src/observe/gdb.rs",
        "jit/src/observe/jitdump.rs",
        "jit/src/observe/vtune.rs",
        "kernels/src/compiled.rs",
        "models/data/src/lmdb/writer.rs",
        "runtime/src/arena.rs",
        "runtime/src/pool.rs",
        "runtime/src/session.rs",
        "pruning/src/gemm.rs",
        // CUDA's libraries, and the same kernels as C++.
        "trainer/src/cuda/driver.rs",
        "trainer/src/cuda/tests.rs",
        // What C passes: pointers, and structs of other versions.
        "capi/src/memory.rs",
        // Memory of numpy's arrays.
        "python/src/arrays.rs",
        // Generated code on the arrays of a caller.
        "engine/src/kernel/call.rs",
    ];
    let words = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe trait"];
    assert_none(&words, &allowed);
}

#[test]
fn names_no_machine() {
    let mut found = offenders(&[concat!("/wo", "rk/"), "/tmp/target"], &[]);
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        ".ci/run",
    ] {
        let text = fs::read_to_string(root().join(file)).expect(file);
        found.extend(
            text.lines()
                .filter(|line| line.contains(concat!("/wo", "rk/")))
                .map(str::to_owned),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a file of a crate names of it: paths from `crate::` or `super::` on, those in braces one by one.
fn names(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split("//").next())
        .collect();
    let code = code.join("\n");
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = |text: &str| text.chars().take_while(|&c| in_path(c)).collect::<String>();
    let mut found = Vec::new();
    let starts = ["crate::", "super::"].map(|start| code.match_indices(start));
    for (at, _) in starts.into_iter().flatten() {
        let base = path(&code[at..]);
        let rest = code[at + base.len()..].strip_prefix('{');
        let mut depth = 0;
        let inside = rest.unwrap_or_default().split_inclusive([',', '{', '}']);
        for item in inside {
            if depth < 0 {
                break;
            }
            if depth == 0 {
                found.push(base.clone() + &path(item.trim_start()));
            }
            depth += match item.chars().last() {
                Some('{') => 1,
                Some('}') => -1,
                _ => 0,
            };
        }
        found.push(base);
    }
    found
}

/// The files of a crate and which of them each uses: a module those below it, all what they name.
fn arrows(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let module = |path: &Path| {
        let path = path.strip_prefix(folder).expect("a file of the crate");
        let name = path.with_extension("").to_string_lossy().replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name);
        format!("crate::{name}")
    };
    let files: BTreeMap<String, String> = sources(folder)
        .into_iter()
        .filter(|(path, _)| !path.to_string_lossy().ends_with("tests.rs"))
        .map(|(path, text)| (module(&path), text))
        .collect();
    let parent = |name: &str| name.rsplit_once("::").map(|(parent, _)| parent.to_owned());
    // The file that a path leads to: the longest part of it that is one.
    let file = |from: &str, path: &str| {
        let above = parent(from).unwrap_or_default();
        let mut path = path.replacen("super", &above, 1);
        while !files.contains_key(&path) {
            path = parent(&path)?;
        }
        Some(path)
    };
    let uses = |(name, text): (&String, &String)| {
        let below = files
            .keys()
            .filter(|other| parent(other).as_ref() == Some(name));
        let named = names(text).into_iter().filter_map(|path| file(name, &path));
        let uses = below.cloned().chain(named).filter(|other| other != name);
        (name.clone(), uses.collect())
    };
    files.iter().map(uses).collect()
}

/// What is left of a crate's files when those that use none of the others go, and those that none uses, again and
/// again: circles. A folder's file may hold what the folder's others share (`with_folders`: not even that).
fn circles(folder: &str, with_folders: bool) -> BTreeMap<String, BTreeSet<String>> {
    let mut left = arrows(folder);
    for [one, other] in DEFENDED {
        left.entry(other.to_owned()).and_modify(|uses| {
            uses.remove(one);
        });
    }
    if !with_folders {
        for (name, uses) in &mut left {
            uses.retain(|other| !name.starts_with(&format!("{other}::")));
        }
    }
    loop {
        let ends: Vec<String> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|other| left.contains_key(other)))
            .map(|(name, _)| name.clone())
            .collect();
        if ends.is_empty() {
            break;
        }
        left.retain(|name, _| !ends.contains(name));
    }
    // What only leads to circles goes too.
    loop {
        let used: BTreeSet<String> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|name, _| used.contains(name));
        if left.len() == before {
            break;
        }
    }
    let rest: BTreeSet<String> = left.keys().cloned().collect();
    left.values_mut()
        .for_each(|uses| uses.retain(|name| rest.contains(name)));
    left
}

/// Uses that circles are defended for: generated tables are of the types that look things up in them.
const DEFENDED: [[&str; 2]; 1] = [["crate::schema", "crate::schema_table"]];

#[test]
fn no_circle_of_files() {
    let all = arrows("trainer/src");
    assert!(
        all["crate::update"].is_empty(),
        "{:?}",
        all["crate::update"]
    );
    assert!(all["crate::executor"].contains("crate::gradients"));
    let circles = |folder| (folder, circles(folder, folder == "trainer/src"));
    let found = CODE.into_iter().map(circles);
    let found: Vec<_> = found.filter(|(_, circles)| !circles.is_empty()).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// What trains takes the network from the graph; those that open networks, and read and write files, take Caffe's
/// as values. Messages are for nobody there.
#[test]
fn what_trains_knows_no_format() {
    let files = [
        "net",
        "prune/distillation",
        "recipe",
        "solver/mod",
        "solver/settings",
        "solver/snapshot",
        "solver/source",
        "trial",
        // The rule that a solver definition names.
        "update",
        "weights",
        "cli/",
        "cuda/tests",
        "cuda/layer_tests",
    ];
    let files = files.map(|file| format!("trainer/src/{file}"));
    let mut allowed: Vec<&str> = files.iter().map(String::as_str).collect();
    let others = ["capi/", "engine/", "models/", "src/"];
    allowed.extend(others);
    assert_none(&["skimjit_caffe"], &allowed);
    let messages = ["proto::", "proto;", "NetParameter", "BlobProto", "prost"];
    assert_none(
        &messages,
        &["models/caffe/", "models/data/", "models/onnx/", "src/"],
    );
    let word = ["caffe::", "prototxt", "Parameter {"];
    let graph = sources("models/src").into_iter();
    let graph = graph.filter(|(path, _)| path.to_string_lossy().contains("/ops/"));
    for (path, text) in graph {
        let code = text.lines().filter_map(|line| line.split("//").next());
        let found: Vec<&str> = code
            .filter(|code| word.iter().any(|word| code.contains(word)))
            .collect();
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

/// Back ends are memories and layers: they know neither each other nor who runs them; update rules know nothing.
#[test]
fn the_trainers_back_ends_know_no_engine() {
    let memory = ["columns", "layer", "memory", "param", "plan", "update"];
    for (part, may) in [
        ("update", &[][..]),
        ("columns", &[]),
        ("net", &[]),
        ("param", &["net"]),
        ("layer", &["net"]),
        ("plan", &["layer", "net", "param"]),
        ("memory", &["layer", "param", "plan", "update"]),
        ("gradients", &["memory"]),
        ("cpu", &memory),
        ("cuda", &memory),
        ("engine", &["net", "param", "update"]),
    ] {
        let part = format!("crate::{part}");
        let inside = |name: &str| name == part || name.starts_with(&format!("{part}::"));
        let arrows = arrows("trainer/src")
            .into_iter()
            .filter(|(name, _)| inside(name));
        for (name, uses) in arrows {
            let may = |other: &str| may.iter().any(|may| other == format!("crate::{may}"));
            let wrong: Vec<_> = uses
                .iter()
                .filter(|other| !inside(other) && !may(other))
                .collect();
            assert!(wrong.is_empty(), "{name} uses {wrong:?}");
        }
    }
}
