//! Arguments that several commands share.

use crate::knobs;
use crate::support::output;
use clap::ValueEnum;
use skimjit::code_info::{CodeInfo, Tools};
use skimjit::{CompileOptions, Engine, Error, Isa, LoadOptions, Model, Result, TuneCache, Tuning};
use skimjit_host::printable;
use skimjit_models::Care;
use skimjit_models::Shape;
use skimjit_program::{name_and_file, progress};
use skimjit_runtime::recipe::Recipe;
use skimjit_runtime::{Basis, MOST_THREADS, usable_cores};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest batch.
pub const MOST_IMAGES: i64 = 1 << 16;

/// The network.
#[derive(clap::Args)]
pub struct ModelArguments {
    /// Network: a .skim, .onnx, .caffemodel or .caffemodel.h5 file, or with --allow-missing-weights a prototxt
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    #[command(flatten)]
    pub reading: ReadingArguments,
}

/// How a network is read.
#[derive(Clone, clap::Args)]
pub struct ReadingArguments {
    /// Definition, when the one inside the caffemodel is not the one to run
    #[arg(long, value_name = "FILE")]
    pub prototxt: Option<PathBuf>,
    /// Shape of the input, instead of the network's or where that leaves it open; NAME=N,C,H,W where the
    /// network has several inputs
    #[arg(long, value_name = "[NAME=]N,C,H,W", value_parser = parse_named_shape)]
    pub input_shape: Vec<(Option<String>, Shape)>,
    /// Weights of this magnitude and below become zero
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = parse_magnitude)]
    pub zero_below: Option<f32>,
    /// Weights that no file has come from their layer's filler (zeros without one), not an error
    #[arg(long)]
    pub allow_missing_weights: bool,
    #[command(flatten)]
    pub care: CareArguments,
    /// In-place layers change every blob that Caffe keeps in the same memory, as there; without it each
    /// blob keeps its own value, and a warning tells where that makes a difference
    #[arg(long)]
    pub caffe_in_place: bool,
}

/// How unknown fields of a Caffe network are taken.
#[derive(Clone, Copy, clap::Args)]
pub struct CareArguments {
    /// Read layers without the fields that are unknown, which may change what they compute; they are
    /// warnings then, not an error
    #[arg(long)]
    pub ignore_unknown_fields: bool,
}

impl CareArguments {
    /// The same for who reads a definition.
    pub fn care(&self) -> Care {
        Care {
            ignore_unknown_fields: self.ignore_unknown_fields,
        }
    }
}

impl ModelArguments {
    /// Reads the network and prints its warnings.
    pub fn load(&self) -> Result<Model> {
        self.reading.load(&self.model)
    }
    /// Reads the network as if no threshold had been given, and prints its warnings.
    pub fn load_but_threshold(&self) -> Result<Model> {
        let reading = ReadingArguments {
            zero_below: None,
            ..self.reading.clone()
        };
        reading.load(&self.model)
    }
    /// Reads the network as if no threshold had been given, silently.
    pub fn load_unchanged(&self) -> Result<Model> {
        let options = LoadOptions {
            zero_below: None,
            ..self.reading.options()?
        };
        Model::load(&self.model, &options)
    }
    /// File name, as text.
    pub fn name(&self) -> String {
        self.model.display().to_string()
    }
}

impl ReadingArguments {
    fn options(&self) -> Result<LoadOptions> {
        for (index, (name, _)) in self.input_shape.iter().enumerate() {
            if self.input_shape[..index]
                .iter()
                .any(|(other, _)| other == name)
            {
                let of = name
                    .as_ref()
                    .map_or_else(String::new, |name| format!(" for {name:?}"));
                return Err(Error::Usage(format!(
                    "--input-shape: found two shapes{of}, expected one for each input"
                )));
            }
        }
        Ok(LoadOptions {
            prototxt: self.prototxt.clone(),
            input_shape: self
                .input_shape
                .iter()
                .find(|(name, _)| name.is_none())
                .map(|(_, shape)| shape.clone()),
            input_shapes: self
                .input_shape
                .iter()
                .filter_map(|(name, shape)| Some((name.clone()?, shape.clone())))
                .collect(),
            zero_below: self.zero_below,
            allow_missing_weights: self.allow_missing_weights,
            ignore_unknown_fields: self.care.ignore_unknown_fields,
            caffe_in_place: self.caffe_in_place,
            ..LoadOptions::default()
        })
    }
    /// Reads a definition with the weights of several files, or with made-up ones, and prints warnings.
    pub fn load_definition(&self, definition: &Path, weights: &[PathBuf]) -> Result<Model> {
        let options = LoadOptions {
            prototxt: Some(definition.to_owned()),
            allow_missing_weights: self.allow_missing_weights || weights.is_empty(),
            random_weights: weights.is_empty(),
            ..self.options()?
        };
        let model = progress::spin("reading", || Model::from_caffe(weights, &options))?;
        if weights.is_empty() {
            output::note(
                "no weights given: they come from the fillers, and are random where those give zeros",
            );
        }
        warned(model)
    }
    /// Reads the network and prints its warnings.
    pub fn load(&self, model: &Path) -> Result<Model> {
        let options = self.options()?;
        let model = progress::spin("reading", || Model::load(model, &options))?;
        warned(model)
    }
}

/// Prints a network's warnings; with `--strict` there must be none.
pub fn warned(model: Model) -> Result<Model> {
    model.warnings.iter().for_each(output::warn);
    output::WARNINGS.check()?;
    Ok(model)
}

/// Instruction set.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IsaArgument {
    /// The best of this machine, up to SKIMJIT_MAX_ISA
    Auto,
    /// AVX2 and FMA
    Avx2,
    /// AVX-512 F, BW, DQ and VL
    Avx512,
}

/// How the network is compiled.
#[derive(clap::Args)]
pub struct EngineArguments {
    /// Images computed together [default: the network's; run and verify: up to 16]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=MOST_IMAGES))]
    pub batch: Option<u32>,
    #[command(flatten)]
    pub machine: MachineArguments,
    #[command(flatten)]
    pub code: CodeArguments,
}

/// A tool that is told about generated code.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CodeTool {
    /// Names for perf report, in /tmp (as SKIMJIT_PERF_MAP=1 does)
    PerfMap,
    /// Code and lines for perf record -k mono and perf inject --jit
    Jitdump,
    /// Symbols, lines and unwind information for a GDB that runs this process
    Gdb,
    /// An ELF object for each kernel
    Objects,
    /// Code and lines for Intel VTune (skimjit built with `--features vtune`)
    #[value(name = "vtune")]
    VTune,
}

/// Who is told about generated code.
#[derive(Clone, clap::Args)]
pub struct CodeArguments {
    /// Tell tools which code belongs to which layer; all but perf-map write a listing of each kernel
    /// with output channel, input channel and tap of every multiply-add, which takes about as long as
    /// a few runs on a slow computer
    #[arg(long, value_enum, value_name = "TOOL,...", value_delimiter = ',')]
    code_info: Vec<CodeTool>,
    /// Where listings, the jitdump and objects go
    #[arg(long, value_name = "FOLDER", default_value = "skimjit-code")]
    code_folder: PathBuf,
}

impl CodeArguments {
    /// The tools, as an argument or the environment says.
    pub fn tools(&self) -> Result<Tools> {
        let asked = |tool| self.code_info.contains(&tool);
        Ok(Tools {
            perf_map: asked(CodeTool::PerfMap) || knobs::perf_map()?,
            jitdump: asked(CodeTool::Jitdump),
            gdb: asked(CodeTool::Gdb),
            objects: asked(CodeTool::Objects),
            vtune: asked(CodeTool::VTune),
        })
    }
}

/// What it is compiled for.
#[derive(Clone, Copy, clap::Args)]
pub struct MachineArguments {
    /// Instruction set
    #[arg(long, value_enum, default_value_t = IsaArgument::Auto)]
    pub isa: IsaArgument,
    /// Threads, the calling one included [default: SKIMJIT_THREADS, or one per core; bench and
    /// explain: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads_parser())]
    pub threads: Option<u16>,
}

impl MachineArguments {
    /// The instruction set, within the cap of the environment.
    pub fn isa(&self) -> Result<Isa> {
        let cap = knobs::max_isa()?;
        let asked = match self.isa {
            IsaArgument::Auto => {
                let best = Isa::detect(None)?;
                return Ok(cap.map_or(best, |cap| cap.min(best)));
            }
            IsaArgument::Avx2 => Isa::Avx2,
            IsaArgument::Avx512 => Isa::Avx512,
        };
        match cap {
            Some(cap) if asked > cap => Err(Error::Usage(format!(
                "--isa: found {asked}, expected at most {cap}, as SKIMJIT_MAX_ISA says"
            ))),
            _ => Ok(Isa::detect(Some(asked))?),
        }
    }
    /// Threads, or `None` for one per core; tells of more than that, which are not started.
    pub fn threads(&self) -> Result<Option<usize>> {
        let (threads, source) = match self.threads {
            Some(threads) => (Some(threads.into()), "--threads"),
            None => (knobs::threads()?, "SKIMJIT_THREADS"),
        };
        Ok(threads.map(|threads| on_usable_cores(source, threads)))
    }
    /// Options with these and the environment's values.
    pub fn options(&self) -> Result<CompileOptions> {
        Ok(CompileOptions {
            isa: Some(self.isa()?),
            threads: self.threads()?.unwrap_or(0),
            ..CompileOptions::default()
        })
    }
}

impl EngineArguments {
    /// Options with these and the environment's values.
    pub fn options(&self) -> Result<CompileOptions> {
        let mut options = CompileOptions {
            batch: self.batch,
            ..self.machine.options()?
        };
        let tools = self.code.tools()?;
        if tools != Tools::default() {
            let info = Arc::new(CodeInfo::new(
                self.machine.isa()?,
                tools,
                &self.code.code_folder,
            )?);
            options.observer = Some(info.clone());
            options.inspector = Some(info);
        }
        Ok(options)
    }
}

/// How kernels are chosen, for commands that measure unless told otherwise.
#[derive(clap::Args)]
pub struct TuneArguments {
    /// Choose kernels by estimates, without timing them
    #[arg(long, conflicts_with_all = ["frozen", "tune_cache"])]
    no_tune: bool,
    #[command(flatten)]
    cache: CacheArguments,
}

/// How kernels are chosen, for commands that go by estimates unless told otherwise.
#[derive(clap::Args)]
pub struct AskedTuneArguments {
    /// Choose kernels by timing them; an artifact's choices are kept [default: by estimates, unless
    /// --tune-cache or --frozen is given]
    #[arg(long)]
    tune: bool,
    #[command(flatten)]
    cache: CacheArguments,
}

/// Where measured times are kept.
#[derive(clap::Args)]
struct CacheArguments {
    /// Where measured times are kept [default: SKIMJIT_TUNE_CACHE, or skimjit/tune.json in the cache
    /// folder of the user]
    #[arg(long, value_name = "FILE")]
    tune_cache: Option<PathBuf>,
    /// Fail if a time is not in the tune cache, instead of measuring it
    #[arg(long)]
    frozen: bool,
}

impl TuneArguments {
    /// Opens the tune cache; prints its warnings.
    pub fn tuning(&self) -> Result<Option<Tuning>> {
        (!self.no_tune).then(|| self.cache.tuning()).transpose()
    }
}

impl AskedTuneArguments {
    /// Opens the tune cache if it is asked for; prints its warnings.
    pub fn tuning(&self) -> Result<Option<Tuning>> {
        let asked = self.tune || self.cache.frozen || self.cache.tune_cache.is_some();
        asked.then(|| self.cache.tuning()).transpose()
    }
}

impl CacheArguments {
    fn tuning(&self) -> Result<Tuning> {
        let path = self.tune_cache.clone().or_else(knobs::tune_cache);
        let (cache, warning) = match path {
            Some(path) => TuneCache::open(&path)?,
            None => (TuneCache::in_memory(), None),
        };
        if let Some(warning) = warning {
            output::warn(warning);
        }
        Ok(Tuning {
            frozen: self.frozen,
            ..Tuning::with(cache)
        })
    }
}

/// Compiles with a progress bar, and keeps what was measured.
pub fn compile(model: &Model, options: &CompileOptions) -> Result<Engine> {
    let engine = measured(options, |options| model.compile(options))?;
    let choices = engine.plan().choices.iter();
    let disturbed = choices
        .filter(|choice| choice.basis == Basis::Disturbed)
        .count();
    if disturbed > 0 {
        output::note(format!(
            "busy machine: something else ran while kernels of {disturbed} layers were timed; these \
             times are not kept in the tune cache: compile again when nothing else runs"
        ));
    }
    Ok(engine)
}

/// Does something that may time kernels with a progress bar, and keeps what was measured.
pub fn measured<T>(
    options: &CompileOptions,
    work: impl FnOnce(&CompileOptions) -> Result<T>,
) -> Result<T> {
    let spinner = progress::spinner("generating");
    let mut options = options.clone();
    if let Some(tuning) = &mut options.tuning {
        let spinner = spinner.clone();
        tuning.on_trial = Some(Arc::new(move |layer, number, count| {
            let layer = printable::cell(layer);
            spinner.set_message(format!("measuring layer {number} of {count}: {layer}"));
        }));
    }
    let result = work(&options);
    spinner.finish_and_clear();
    options.tuning.iter().for_each(keep);
    result
}

/// Writes the tune cache; one that cannot be written is no reason to fail.
pub fn keep(tuning: &Tuning) {
    if let Err(error) = tuning.cache.save() {
        output::warn(error);
    }
}

/// The options with what tuning chooses by name, so that nothing is timed any more.
pub fn settle(model: &Model, options: &CompileOptions) -> Result<CompileOptions> {
    if options.tuning.is_none() {
        return Ok(options.clone());
    }
    let engine = compile(model, options)?;
    Ok(CompileOptions {
        tuning: None,
        variants: Recipe::of(engine.plan()).variants_for(engine.plan().isa),
        ..options.clone()
    })
}

/// As many threads as there are cores to run them, at most; says, once, when that is fewer than asked for.
fn on_usable_cores(source: &str, threads: usize) -> usize {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let cores = usable_cores();
    if threads > cores {
        ONCE.call_once(|| {
            let some = if cores == 1 { "1 core" } else { &format!("{cores} cores") };
            output::note(format!(
                "{source}: found {threads} threads for {some} that this process may use (its CPU \
                 affinity and its control group's quota count); {cores} of them run, more would only \
                 wait for each other"
            ));
        });
    }
    threads.min(cores)
}

/// Numbers of threads.
pub fn threads_parser() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=MOST_THREADS as i64)
}

/// Numbers of repetitions.
pub fn iterations_parser() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1_000_000)
}

pub fn parse_shape(text: &str) -> std::result::Result<Shape, String> {
    let expected = "expected dims of 1 or more with commas between, like 1,3,227,227";
    let dims: std::result::Result<Vec<u32>, _> = text
        .split([',', 'x'])
        .map(|dim| dim.trim().parse())
        .collect();
    let dims = dims.map_err(|_| expected.to_owned())?;
    Shape::new(dims).map_err(|error| error.to_string())
}

/// A shape, with the name of an input in front where there is one.
pub fn parse_named_shape(text: &str) -> std::result::Result<(Option<String>, Shape), String> {
    match text.rsplit_once('=') {
        Some(("", _)) => Err("expected the name of an input before =".to_owned()),
        Some((name, shape)) => Ok((Some(name.to_owned()), parse_shape(shape)?)),
        None => Ok((None, parse_shape(text)?)),
    }
}

/// A threshold: 0 or more.
pub fn parse_magnitude(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of 0 or more".to_owned()),
    }
}

/// A tolerance: 0 or more.
pub fn parse_tolerance(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of 0 or more".to_owned()),
    }
}

/// A blob and a file.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// Blob; `None` where the argument is only a file.
    pub name: Option<String>,
    pub file: PathBuf,
}

impl NamedFile {
    /// `NAME=FILE`; the name may not be missing.
    pub fn parse_named(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(Self {
                name: Some(name.to_owned()),
                file: PathBuf::from(file),
            }),
            _ => Err("expected NAME=FILE".to_owned()),
        }
    }
    /// `NAME=FILE` or `FILE`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (name, file) = name_and_file(text);
        let name = name.map(str::to_owned);
        if file.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err("expected FILE or NAME=FILE".to_owned());
        }
        Ok(Self {
            name,
            file: PathBuf::from(file),
        })
    }
    /// The named port of `names`, or the only one.
    pub fn port(&self, what: &str, names: &[&str]) -> Result<usize> {
        let list = names.join(", ");
        match (&self.name, names) {
            (Some(name), _) => names.iter().position(|known| known == name).ok_or_else(|| {
                Error::Usage(format!("{what}: found \"{name}\", expected one of: {list}"))
            }),
            (None, [_]) => Ok(0),
            (None, _) => Err(Error::Usage(format!(
                "{what}: found {} without a name, expected NAME=FILE with one of: {list}",
                self.file.display()
            ))),
        }
    }
}

/// True for `.npy` files.
pub fn is_npy(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read() {
        assert_eq!(parse_shape("1,3, 5,7").unwrap().dims(), [1, 3, 5, 7]);
        assert_eq!(parse_shape("1x3").unwrap().dims(), [1, 3]);
        for bad in [
            "",
            "1,,3",
            "1,-3",
            "0,3",
            "a",
            "9,9,9,9,9,9,9,9,9",
            "99999999999",
        ] {
            assert!(parse_shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_have_optional_names() {
        let named = NamedFile::parse("conv1/7x7=a=b.npy").unwrap();
        assert_eq!(named.name.as_deref(), Some("conv1/7x7"));
        assert_eq!(named.file, Path::new("a=b.npy"));
        assert_eq!(NamedFile::parse("./a=b.npy").unwrap().name, None);
        assert!(NamedFile::parse_named("a.npy").is_err());
        assert!(NamedFile::parse("=a.npy").is_err());
        let file = NamedFile::parse("a.npy").unwrap();
        assert_eq!(file.port("--output", &["prob"]).unwrap(), 0);
        assert!(file.port("--output", &["a", "b"]).is_err());
    }
}
