//! Environment variables. Nothing else reads the environment; the values travel down as options.

use skimjit::{Error, Result};
use skimjit_host::memory;
use skimjit_runtime::MOST_THREADS;
use skimjit_runtime::jit::Isa;
use std::path::PathBuf;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Name.
    pub name: &'static str,
    /// Values it takes.
    pub values: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// What it does.
    pub effect: &'static str,
}

const MAX_ISA: Knob = Knob {
    name: "SKIMJIT_MAX_ISA",
    values: "avx2, avx512",
    default: "the best of the machine",
    effect: "best instruction set that is used",
};
const THREADS: Knob = Knob {
    name: "SKIMJIT_THREADS",
    values: "1 to 256",
    default: "one per core; bench: 1",
    effect: "threads where no --threads is given",
};
const PERF_MAP: Knob = Knob {
    name: "SKIMJIT_PERF_MAP",
    values: "0, 1",
    default: "0",
    effect: "1 names generated code for perf in /tmp/perf-<process id>.map",
};

const MEMORY_LIMIT: Knob = Knob {
    name: "SKIMJIT_MEMORY_LIMIT",
    values: "a size, such as 4G",
    default: "what is free",
    effect: "memory that a file may ask for where no --memory-limit is given",
};
const TUNE_CACHE: Knob = Knob {
    name: "SKIMJIT_TUNE_CACHE",
    values: "a file",
    default: "skimjit/tune.json in the cache folder",
    effect: "keeps measured times where no --tune-cache is given",
};
const XDG_CACHE_HOME: Knob = Knob {
    name: "XDG_CACHE_HOME",
    values: "a folder",
    default: ".cache in HOME",
    effect: "the cache folder",
};
const HOME: Knob = Knob {
    name: "HOME",
    values: "a folder",
    default: "measured times are forgotten",
    effect: "holds the cache folder",
};

/// All of them.
pub const KNOBS: [Knob; 7] = [
    MAX_ISA,
    THREADS,
    PERF_MAP,
    MEMORY_LIMIT,
    TUNE_CACHE,
    XDG_CACHE_HOME,
    HOME,
];

impl Knob {
    /// Value in the environment; empty counts as not set.
    pub fn value(&self) -> Option<String> {
        let value = std::env::var_os(self.name)?;
        let value = value.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }
    /// Value as a path; empty counts as not set.
    fn path(&self) -> Option<PathBuf> {
        let value = std::env::var_os(self.name)?;
        (!value.is_empty()).then(|| value.into())
    }
    fn refuse(&self, found: &str) -> Error {
        Error::Usage(format!(
            "{}: found \"{found}\", expected {}",
            self.name, self.values
        ))
    }
}

/// Best instruction set to use.
pub fn max_isa() -> Result<Option<Isa>> {
    let parse = |text: String| text.parse().map_err(|_| MAX_ISA.refuse(&text));
    MAX_ISA.value().map(parse).transpose()
}

/// Threads where the command line names none.
pub fn threads() -> Result<Option<usize>> {
    let parse = |text: String| match text.parse() {
        Ok(threads) if (1..=MOST_THREADS).contains(&threads) => Ok(threads),
        _ => Err(THREADS.refuse(&text)),
    };
    THREADS.value().map(parse).transpose()
}

/// Memory that what one file asks for may take, where the command line names none.
pub fn memory_limit() -> Result<Option<u64>> {
    let parse = |text: String| memory::parse_size(&text).map_err(|_| MEMORY_LIMIT.refuse(&text));
    MEMORY_LIMIT.value().map(parse).transpose()
}

/// Whether generated code is named for perf.
pub fn perf_map() -> Result<bool> {
    match PERF_MAP.value().as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(found) => Err(PERF_MAP.refuse(found)),
    }
}

/// File of the tune cache, where the command line names none; `None`: there is no place for it.
pub fn tune_cache() -> Option<PathBuf> {
    let usual = || {
        // Relative paths are to be ignored, by the XDG base directory specification.
        let cache = XDG_CACHE_HOME.path().filter(|path| path.is_absolute());
        let cache = cache.or_else(|| Some(HOME.path()?.join(".cache")))?;
        Some(cache.join("skimjit").join("tune.json"))
    };
    TUNE_CACHE.path().or_else(usual)
}
