//! Tells tools (perf, GDB, VTune, what reads ELF) about generated code, by layer.
//!
//! A [`CodeInfo`] is both the inspector of a compilation, which sees what each kernel computes, and its
//! observer, which hears where its code lies. It writes a listing of every kernel, and shows its lines as
//! the source of the code.

mod elf;
mod unwind;

use crate::{Error, Result};
use skimjit_host::whole;
use skimjit_runtime::KernelInspector;
use skimjit_runtime::jit::Isa;
use skimjit_runtime::jit::observe::gdb::Registration;
use skimjit_runtime::jit::observe::{CodeObserver, JitDump, PerfMap, PublishedCode, Source};
use skimjit_runtime::kernels::{Built, Problem, Weights, registry};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Which tools are told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tools {
    /// A map of names in /tmp for `perf report`.
    pub perf_map: bool,
    /// A jitdump file for `perf inject --jit`, with lines and code.
    pub jitdump: bool,
    /// GDB's JIT interface, with symbols, lines and unwind information.
    pub gdb: bool,
    /// An ELF object for each kernel.
    pub objects: bool,
    /// VTune's JIT profiling API; needs the feature `vtune`.
    pub vtune: bool,
}

impl Tools {
    /// True when listings are of use: for all but the perf map.
    fn want_lines(self) -> bool {
        self.jitdump || self.gdb || self.objects || self.vtune
    }
}

/// See the module.
pub struct CodeInfo {
    isa: Isa,
    folder: PathBuf,
    tools: Tools,
    perf_map: Option<PerfMap>,
    jitdump: Option<JitDump>,
    vtune: Option<Arc<dyn CodeObserver>>,
    /// Listings of kernels that are not published yet, by layer.
    sources: Mutex<HashMap<String, io::Result<Source>>>,
    registrations: Mutex<Vec<Registration>>,
}

impl CodeInfo {
    /// Listings, the jitdump and objects go into `folder`, which is made.
    pub fn new(isa: Isa, tools: Tools, folder: &Path) -> Result<Self> {
        let failed = |path: &Path, error: &io::Error| {
            Error::from(skimjit_models::Error::unwritable(path, error))
        };
        if tools.want_lines() {
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        let map = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
        let perf_map = tools.perf_map.then(|| PerfMap::append_to(&map));
        let jitdump = tools.jitdump.then(|| JitDump::create_in(folder));
        // GDB resolves a relative name from its own folder.
        let folder = std::path::absolute(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self {
            isa,
            tools,
            perf_map: perf_map.transpose().map_err(|error| failed(&map, &error))?,
            jitdump: jitdump
                .transpose()
                .map_err(|error| failed(&folder, &error))?,
            vtune: if tools.vtune { Some(vtune()?) } else { None },
            folder,
            sources: Mutex::default(),
            registrations: Mutex::default(),
        })
    }

    /// The jitdump file.
    pub fn jitdump(&self) -> Option<&Path> {
        self.jitdump.as_ref().map(JitDump::path)
    }

    fn file(&self, layer: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", symbol(layer)))
    }
}

#[cfg(feature = "vtune")]
fn vtune() -> Result<Arc<dyn CodeObserver>> {
    Ok(Arc::new(skimjit_runtime::jit::observe::VTune::default()))
}

#[cfg(not(feature = "vtune"))]
fn vtune() -> Result<Arc<dyn CodeObserver>> {
    Err(Error::Usage(
        "--code-info: found vtune, expected a skimjit that was built with it: cargo build --release \
         --features vtune"
            .to_owned(),
    ))
}

/// A layer's name as a symbol that debuggers can parse.
pub fn symbol(layer: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("skimjit_{}", layer.chars().map(safe).collect::<String>())
}

/// The error with the file's name.
fn at(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

impl KernelInspector for CodeInfo {
    fn inspect(
        &self,
        layer: &str,
        variant: &str,
        problem: &Problem,
        weights: Weights<'_>,
        built: &Built,
    ) {
        let Some(variant) = registry::find(variant).filter(|_| self.tools.want_lines()) else {
            return;
        };
        let lines = skimjit_verifier::annotate(variant, self.isa, problem, weights, built);
        let mut text = format!("; layer {layer}, {}, {}\n", variant.name(), self.isa);
        let mut rows = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            // Lines are counted from 1, and one is the title.
            rows.push((line.offset, number as u32 + 2));
            let note = if line.note.is_empty() { "" } else { "  ; " };
            text += &format!("{:06x}  {}{note}{}\n", line.offset, line.text, line.note);
        }
        let file = self.file(layer, "lst");
        // What failed is told when the code is registered: here nobody listens.
        let written = whole::write(&file, text).map_err(|error| at(&file, &error));
        let source = written.map(|()| Source { file, lines: rows });
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.insert(layer.to_owned(), source);
    }
}

impl CodeObserver for CodeInfo {
    fn register(&self, code: &PublishedCode<'_>) -> io::Result<()> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let source = sources.remove(code.name).transpose()?;
        drop(sources);
        let code = PublishedCode {
            name: code.name,
            addresses: code.addresses.clone(),
            bytes: code.bytes,
            entries: code.entries,
            source: source.as_ref(),
        };
        if let Some(map) = &self.perf_map {
            map.register(&code)?;
        }
        if let Some(dump) = &self.jitdump {
            dump.register(&code)
                .map_err(|error| at(dump.path(), &error))?;
        }
        if let Some(vtune) = &self.vtune {
            vtune.register(&code)?;
        }
        if self.tools.objects {
            let object = elf::object(&symbol(code.name), &code, elf::Placement::Relocatable)?;
            let file = self.file(code.name, "o");
            whole::write(&file, object).map_err(|error| at(&file, &error))?;
        }
        if self.tools.gdb {
            let object = elf::object(&symbol(code.name), &code, elf::Placement::Loaded)?;
            let mut known = self
                .registrations
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.push(Registration::new(object));
        }
        Ok(())
    }
}
