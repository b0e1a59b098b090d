//! `skimjit compile --emit`: code that runs without skimjit.

use crate::support::args::{self, IsaArgument, MachineArguments};
use crate::commands::compile::{self, Arguments};
use crate::support::output::Output;
use crate::support::rounding::Rounding;
use crate::support::table::{Table, kib, left};
use crate::commands::verify;
use clap::ValueEnum;
use serde::Serialize;
use skimjit::ahead_of_time::{self, AheadOfTime};
use skimjit::code_info::Tools;
use skimjit::verify::Verification;
use skimjit::{CompileOptions, Error, Isa, Model, Plan, Result};
use skimjit_runtime::recipe::Recipe;
use std::path::{Path, PathBuf};

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// An artifact for skimjit, without machine code
    Skim,
    /// A shared library, made with the system's linker
    So,
    /// A relocatable ELF object
    Obj,
    /// The C declarations for it
    Header,
    /// A listing that the GNU assembler makes the object of
    Asm,
}

impl Emit {
    /// Extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Skim => "skim",
            Self::So => "so",
            Self::Obj => "o",
            Self::Header => "h",
            Self::Asm => "s",
        }
    }
}

/// What is written, and of what.
#[derive(clap::Args)]
pub struct EmitArguments {
    /// What to write
    #[arg(
        long,
        value_enum,
        value_name = "KIND,...",
        value_delimiter = ',',
        default_value = "skim"
    )]
    pub emit: Vec<Emit>,
    /// Only these layers, each a function, instead of the whole network [with --emit so, obj, header
    /// or asm]
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',')]
    layers: Vec<String>,
    /// Start of the functions' names [with --emit so, obj, header or asm; default: the name of the file
    /// that is written]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl EmitArguments {
    /// True for an artifact, which is written alone; false for code.
    pub fn is_artifact(&self) -> Result<bool> {
        if !self.emit.contains(&Emit::Skim) {
            return Ok(false);
        }
        let given = [
            (self.emit.len() > 1, "--emit: found skim and another kind"),
            (
                !self.layers.is_empty(),
                "--layers: found it for an artifact",
            ),
            (self.name.is_some(), "--name: found it for an artifact"),
        ];
        match given.iter().find(|(given, _)| *given) {
            None => Ok(true),
            Some((_, found)) => Err(Error::Usage(format!(
                "{found}, expected --emit so, obj, header or asm; an artifact is a command of its own"
            ))),
        }
    }
    fn layers(&self) -> Option<&[String]> {
        (!self.layers.is_empty()).then_some(&self.layers[..])
    }
    /// Prefix of the functions' names, for a file.
    fn name(&self, path: &Path) -> Result<String> {
        match &self.name {
            Some(name) if ahead_of_time::identifier(name) == *name && !name.is_empty() => {
                Ok(name.clone())
            }
            Some(name) => Err(Error::Usage(format!(
                "--name: found \"{name}\", expected letters, digits and underscores, not beginning \
                 with a digit"
            ))),
            None => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok(ahead_of_time::identifier(&stem))
            }
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    name: &'a str,
    isas: Vec<String>,
    batch: usize,
    scratch_bytes: usize,
    code_bytes: usize,
    data_bytes: usize,
    layers: Vec<Layer<'a>>,
    files: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Rounding>,
    verifications: Vec<Verification>,
}

#[derive(Serialize)]
struct Layer<'a> {
    layer: &'a str,
    function: &'a str,
    variants: &'a [&'static str],
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let files = files(arguments)?;
    let name = arguments.emit.name(&files[0].1)?;
    let isas = isas(&arguments.isa)?;
    refuse_tools(arguments)?;
    let mut model = arguments.model.load()?;
    compile::refuse_without_input(&model)?;
    let options = options(arguments, &model)?;
    let rounding = match arguments.bf16_fc {
        true => Some(Rounding::inner_products(&mut model, &options)?),
        false => None,
    };
    let mut plans = Vec::new();
    let mut verifications = Vec::new();
    let best = best()?;
    for isa in isas {
        let mut options = options.clone();
        // What cannot run here is neither timed nor compared.
        options.tuning = options.tuning.filter(|_| best.contains(isa));
        let plan = args::measured(&options, |options| model.plan(options, isa))?;
        if best.contains(isa) && !arguments.no_verify {
            let tolerance = arguments.tolerance;
            verifications.push(verified(&model, &options, &plan, tolerance)?);
        }
        plans.push(plan);
    }
    let plans: Vec<&Plan> = plans.iter().collect();
    let ahead = AheadOfTime::new(&name, &plans, arguments.emit.layers())?;
    let failure = verifications
        .iter()
        .find_map(Verification::first_failure)
        .map(|failed| verify::failure(failed, arguments.tolerance));
    if let Some(failure) = failure {
        return Err(failure);
    }
    for (emit, path) in &files {
        write(&ahead, *emit, path)?;
    }
    let files = files.into_iter().map(|(_, path)| path).collect();
    let report = report(arguments, &ahead, files, rounding, verifications);
    match arguments.json {
        true => out.json(&report),
        false => {
            print(&report, out);
            Ok(())
        }
    }
}

fn files(arguments: &Arguments) -> Result<Vec<(Emit, PathBuf)>> {
    let mut files = Vec::new();
    for &emit in &arguments.emit.emit {
        if !files.iter().any(|(other, _)| *other == emit) {
            files.push((emit, compile::path_for(arguments, emit)?));
        }
    }
    Ok(files)
}

/// Any instruction set can be written, whatever this machine has.
fn isas(arguments: &[IsaArgument]) -> Result<Vec<Isa>> {
    let mut isas = Vec::new();
    for &isa in arguments {
        isas.push(match isa {
            IsaArgument::Avx2 => Isa::Avx2,
            IsaArgument::Avx512 => Isa::Avx512,
            IsaArgument::Auto => best()?,
        });
    }
    isas.sort_unstable();
    isas.dedup();
    Ok(isas)
}

/// The best instruction set that may run here.
fn best() -> Result<Isa> {
    let isa = IsaArgument::Auto;
    MachineArguments { isa, threads: None }.isa()
}

/// Code that is written to a file has symbols of its own, and is not executed here.
fn refuse_tools(arguments: &Arguments) -> Result<()> {
    let unwanted = Tools {
        perf_map: false,
        ..arguments.code.tools()?
    };
    if unwanted == Tools::default() {
        return Ok(());
    }
    Err(Error::Usage(
        "--code-info: found it for code that is written to a file, expected --emit skim; the symbols of \
         what is written name the layers"
            .to_owned(),
    ))
}

/// What is chosen for one thread: there is no team.
fn options(arguments: &Arguments, model: &Model) -> Result<CompileOptions> {
    let batch = match arguments.batch {
        None if !model.combines_images() => Some(1),
        batch => batch,
    };
    Ok(CompileOptions {
        batch,
        threads: arguments.threads.unwrap_or(1).into(),
        tuning: arguments.tune.tuning()?,
        ..CompileOptions::default()
    })
}

/// The kernels of a plan against the reference.
fn verified(
    model: &Model,
    options: &CompileOptions,
    plan: &Plan,
    tolerance: f64,
) -> Result<Verification> {
    let options = CompileOptions {
        isa: Some(plan.isa),
        tuning: None,
        variants: Recipe::of(plan).variants_for(plan.isa),
        ..options.clone()
    };
    compile::check(model, &options, tolerance)
}

fn write(ahead: &AheadOfTime, emit: Emit, path: &Path) -> Result<()> {
    let written = match emit {
        Emit::So => ahead.write_shared_library(path),
        Emit::Header => ahead.write_header(path),
        Emit::Asm => ahead.write_assembly(path),
        Emit::Obj | Emit::Skim => ahead.write_object(path),
    };
    Ok(written?)
}

fn report<'a>(
    arguments: &Arguments,
    ahead: &'a AheadOfTime,
    files: Vec<PathBuf>,
    rounding: Option<Rounding>,
    verifications: Vec<Verification>,
) -> Report<'a> {
    let (program, interface) = (ahead.program(), ahead.interface());
    let layers = interface.layers.iter().map(|layer| Layer {
        layer: &layer.layer,
        function: &layer.function,
        variants: &layer.variants,
    });
    Report {
        model: arguments.model.name(),
        name: &interface.name,
        isas: interface.isas.iter().map(ToString::to_string).collect(),
        batch: interface.batch,
        scratch_bytes: interface.scratch_bytes,
        code_bytes: program.text.len(),
        data_bytes: program.data.len(),
        layers: layers.collect(),
        files,
        rounding,
        verifications,
    }
}

fn print(report: &Report<'_>, out: &mut Output) {
    let columns = ["layer", "function"].map(left);
    let variants = report.isas.iter().map(left);
    let mut table = Table::new(columns.into_iter().chain(variants).collect::<Vec<_>>());
    for layer in &report.layers {
        let cells = [layer.layer, layer.function].into_iter();
        let cells = cells.chain(layer.variants.iter().copied());
        table.row(cells.map(str::to_owned).collect::<Vec<_>>());
    }
    out.table(&table);
    out.sentence(format!(
        "{}, batch {}; code {} KiB, weights and tables {} KiB; scratch memory {} KiB",
        report.isas.join(" and "),
        report.batch,
        kib(report.code_bytes),
        kib(report.data_bytes),
        kib(report.scratch_bytes)
    ));
    if let Some(rounding) = &report.rounding {
        rounding.print(out);
    }
    let checks = report
        .verifications
        .iter()
        .flat_map(|v| v.layers.iter().chain(&v.outputs));
    let worst = checks.fold(0f64, |most, check| most.max(check.relative));
    if let Some(verification) = report.verifications.first() {
        out.sentence(format!(
            "verified: the kernels agree with the reference, largest difference {worst:.1e} (allowed \
             {:.0e})",
            verification.tolerance
        ));
    }
    for file in &report.files {
        out.line(format!("wrote {}", file.display()));
    }
}
