//! `skimjit compile`.

mod emit;

use crate::support::args::{
    self, CodeArguments, EngineArguments, IsaArgument, MOST_IMAGES, MachineArguments,
    ModelArguments, TuneArguments, parse_tolerance, threads_parser,
};
use emit::{Emit, EmitArguments};
use crate::support::inputs::{PictureArguments, Shown};
use crate::support::labels;
use crate::support::output::{self, Output};
use crate::support::rounding::Rounding;
use crate::support::table::{Table, kib, left, percent, right};
use crate::support::noise;
use skimjit_program::progress;
use crate::commands::verify;
use serde::Serialize;
use skimjit::picture::Mean;
use skimjit::verify::Verification;
use skimjit::{CompileOptions, Engine, Error, Model, Plan, Result};
use skimjit_models::{Error as InputError, Node, Op};
use skimjit_runtime::plan::{Loops, Work};
use skimjit_runtime::recipe::Recipe;
use skimjit_runtime::{Basis, Choice};
use std::path::PathBuf;

/// Generates and verifies the kernels of a network and writes a .skim artifact, or code that runs
/// without skimjit.
///
/// Where several kernels can compute a layer, those with good estimates are timed on this machine,
/// and the fastest is taken; the tune cache remembers the times, so that the same network is not
/// timed again.
///
/// The artifact holds the network, its weights and what was chosen for each layer, but no machine
/// code: it can be passed on. Loading it measures nothing. It also keeps how pictures become inputs (what
/// the network's data layer says, changed by --mean-value, --scale and the like) and the names of the classes:
/// run needs no options then.
///
/// With --emit so, obj or asm, the network becomes a shared library or an object to link with: kernels
/// and weights that need no library and no permission to generate code. One run is one thread. --emit
/// header writes the C declarations; docs/AHEAD-OF-TIME.md has the details.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit compile net.caffemodel --prototxt deploy.prototxt --batch 16 -o net.skim
  skimjit compile net.caffemodel --mean-value 104,117,123 --resize 256x256 --crop 227 --labels labels.txt
  skimjit compile net.skim --emit so,header --isa avx2,avx512 -o libnet.so")]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    pub pictures: PictureArguments,
    /// Names of the classes, as many as there are: one per line, number and name, CSV, JSON, or a label map
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Images computed together [default: the network's; 1 for code that runs without skimjit, unless
    /// layers combine images]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=MOST_IMAGES))]
    pub batch: Option<u32>,
    /// Instruction set; several for code that runs without skimjit, which takes the best of them that
    /// the CPU has
    #[arg(
        long,
        value_enum,
        value_name = "ISA,...",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub isa: Vec<IsaArgument>,
    /// Threads, the calling one included [default: SKIMJIT_THREADS, or one per core; 1 for code that
    /// runs without skimjit]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads_parser())]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub code: CodeArguments,
    #[command(flatten)]
    pub tune: TuneArguments,
    #[command(flatten)]
    pub emit: EmitArguments,
    /// Round the weights of inner products to bfloat16: at batch 1 their time is that of reading the
    /// weights. The artifact keeps the rounded weights; the error this makes is printed
    #[arg(long)]
    pub bf16_fc: bool,
    /// Do not compare the generated kernels with the reference
    #[arg(long)]
    pub no_verify: bool,
    /// Largest difference allowed, as a share of the largest value
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "1e-4", value_parser = parse_tolerance)]
    pub tolerance: f64,
    /// File to write [default: the model's name with the extension .skim, .so, .o, .h or .s]; when several
    /// are written, each gets its own extension
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also print the variants that were not chosen, and why [for an artifact]
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    fn engine(&self) -> Result<EngineArguments> {
        let [isa] = self.isa[..] else {
            return Err(Error::Usage(format!(
                "--isa: found {} instruction sets, expected one for an artifact; give several with \
                 --emit so, obj or asm",
                self.isa.len()
            )));
        };
        let threads = self.threads;
        Ok(EngineArguments {
            batch: self.batch,
            machine: MachineArguments { isa, threads },
            code: self.code.clone(),
        })
    }
}

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    artifact: PathBuf,
    isa: String,
    batch: usize,
    threads: usize,
    layers: &'a [Layer<'a>],
    code_bytes: usize,
    weight_bytes: usize,
    kilocycles_per_image: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Rounding>,
    verification: Option<&'a Verification>,
    /// How pictures become inputs, if it is known.
    preprocessing: Option<String>,
    /// Number of names of classes.
    labels: usize,
}

/// What was chosen for a layer.
#[derive(Serialize)]
struct Layer<'a> {
    #[serde(flatten)]
    choice: &'a Choice,
    /// Estimate for one image on one core.
    kilocycles_per_image: f64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    if !arguments.emit.is_artifact()? {
        refuse_for_code(arguments)?;
        return emit::run(arguments, out);
    }
    let artifact = path_for(arguments, Emit::Skim)?;
    let mut options = arguments.engine()?.options()?;
    let mut model = arguments.model.load()?;
    refuse_without_input(&model)?;
    describe_inputs(arguments, &mut model)?;
    let rounding = match arguments.bf16_fc {
        true => Some(Rounding::inner_products(&mut model, &options)?),
        false => None,
    };
    options.tuning = arguments.tune.tuning()?;
    let engine = args::compile(&model, &options)?;
    // What is verified is what was chosen.
    options.tuning = None;
    options.variants = Recipe::of(engine.plan()).variants_for(engine.plan().isa);
    let verification = match arguments.no_verify {
        true => None,
        false => Some(check(&model, &options, arguments.tolerance)?),
    };
    let failed = verification.as_ref().and_then(Verification::first_failure);
    if failed.is_none() {
        model.write_artifact(&engine, &artifact)?;
    }
    let layers = layers(engine.plan());
    let report = Report {
        model: arguments.model.name(),
        isa: engine.plan().isa.to_string(),
        batch: engine.plan().batch,
        threads: engine.threads(),
        code_bytes: engine.plan().code_bytes,
        weight_bytes: layers.iter().map(|layer| layer.choice.weight_bytes).sum(),
        kilocycles_per_image: layers.iter().map(|layer| layer.kilocycles_per_image).sum(),
        layers: &layers,
        rounding,
        verification: verification.as_ref(),
        preprocessing: model.preprocess().map(|own| Shown(own, &model).to_string()),
        labels: model.labels().len(),
        artifact,
    };
    if arguments.json {
        out.json(&report)?;
    } else {
        print(&report, &engine, arguments.verbose, failed.is_none(), out);
    }
    failed.map_or(Ok(()), |failed| {
        Err(verify::failure(failed, arguments.tolerance))
    })
}

/// Code without skimjit takes arrays: nothing would read what is said about pictures.
fn refuse_for_code(arguments: &Arguments) -> Result<()> {
    let labels = arguments.labels.as_ref().map(|_| "--labels");
    match arguments.pictures.given().or(labels) {
        None => Ok(()),
        Some(name) => Err(Error::Usage(format!(
            "{name}: found --emit for code that takes arrays, expected an artifact, which keeps it"
        ))),
    }
}

/// Nobody could give what is made of a network of constants anything to compute with.
pub fn refuse_without_input(model: &Model) -> Result<()> {
    let graph = model.graph();
    if !graph.inputs.is_empty() {
        return Ok(());
    }
    let is_constant = |node: &&Node| matches!(node.op, Op::Constant(_));
    let constant = graph.nodes.iter().find(is_constant);
    let error = InputError::new("a network without inputs, whose data are constants")
        .expected("at least one input")
        .hint(
            "replace the DummyData layer by an Input layer of the same top and shape, or by the data layer \
             that it stands for; `skimjit time` measures the network as it is",
        );
    let error = match constant {
        Some(node) => error.layer(&node.name),
        None => error,
    };
    Err(error.into())
}

/// Gives the network what the arguments say about pictures and classes.
fn describe_inputs(arguments: &Arguments, model: &mut Model) -> Result<()> {
    if arguments.pictures.given().is_some() {
        let [input] = model.graph().inputs[..] else {
            return Err(Error::Usage(
                "--mean-value and the like: found a network of several inputs, expected one, a picture".into(),
            ));
        };
        if model.graph().shape(input).rank() != 4 {
            let shape = model.graph().shape(input);
            return Err(Error::Usage(format!(
                "--mean-value and the like: found an input of {shape}, expected pictures: N,C,H,W"
            )));
        }
        let preprocess = arguments.pictures.over(model.preprocess())?;
        let graph = model.graph();
        if let &[input, ..] = &graph.inputs[..] {
            preprocess.check_against(graph.shape(input))?;
        }
        model.set_preprocess(Some(preprocess))?;
    }
    labels::set(model, arguments.labels.as_deref())?;
    if let Some(Mean::Missing(file)) = model.preprocess().map(|own| &own.mean) {
        output::warn(format!(
            "the network subtracts the mean image {file:?}, which is not there: give it with --mean-file, or \
             values with --mean-value; without, run takes no pictures"
        ));
    }
    Ok(output::WARNINGS.check()?)
}

/// Where a file goes; never over the model.
pub fn path_for(arguments: &Arguments, emit: Emit) -> Result<PathBuf> {
    let (model, extension) = (&arguments.model.model, emit.extension());
    let several = arguments.emit.emit.len() > 1;
    let path = match (&arguments.output, model.extension()) {
        (Some(path), _) if several => path.with_extension(extension),
        (Some(path), _) => path.clone(),
        // net.caffemodel.h5 becomes net.skim as net.caffemodel does.
        (None, Some(h5)) if h5 == "h5" => model.with_extension("").with_extension(extension),
        (None, _) => model.with_extension(extension),
    };
    if path == *model {
        return Err(Error::Usage(format!(
            "--output: found {}, expected another file than the model",
            path.display()
        )));
    }
    Ok(path)
}

/// Engine against reference on a random image (a whole batch where images are combined).
pub fn check(model: &Model, options: &CompileOptions, tolerance: f64) -> Result<Verification> {
    let inputs = noise::usual_inputs(model, options.batch)?;
    progress::spin("verifying", || {
        skimjit::verify::verify(model, options, &inputs, tolerance)
    })
}

fn layers(plan: &Plan) -> Vec<Layer<'_>> {
    let steps: Vec<_> = plan
        .segments
        .iter()
        .flat_map(|segment| &segment.steps)
        .collect();
    let for_batch = |layer: &str| {
        steps.iter().any(|step| {
            step.layer == layer
                && step.loops == Loops::Once
                && matches!(step.work, Work::Kernel(_))
        })
    };
    let choices = plan.choices.iter();
    choices
        .map(|choice| {
            let images = if for_batch(&choice.layer) {
                plan.batch
            } else {
                1
            };
            Layer {
                choice,
                kilocycles_per_image: choice.cycles / images as f64 / 1e3,
            }
        })
        .collect()
}

fn print(report: &Report<'_>, engine: &Engine, verbose: bool, written: bool, out: &mut Output) {
    out.table(&table(report, verbose));
    let plan = engine.plan();
    let memory = plan.image_elems * engine.threads().min(plan.batch) + plan.batch_elems;
    out.sentence(format!(
        "{}, batch {}, {} threads; activations {} KiB; kcycles: estimate for one image, one core",
        report.isa,
        report.batch,
        report.threads,
        kib(memory * 4)
    ));
    if let Some(rounding) = &report.rounding {
        rounding.print(out);
    }
    if let Some(verification) = report.verification {
        let worst = verification.layers.iter().chain(&verification.outputs);
        let worst = worst.fold(0f64, |most, check| most.max(check.relative));
        let verdict = if written { "agree with" } else { "DIFFER from" };
        let count = verification.layers.len();
        out.sentence(format!(
            "verified: {count} layers {verdict} the reference, largest difference {worst:.1e} \
             (allowed {:.0e})",
            verification.tolerance
        ));
    }
    if let Some(preprocessing) = &report.preprocessing {
        out.line(format!("pictures: {preprocessing}"));
    }
    if report.labels > 0 {
        out.line(format!("labels: {}", report.labels));
    }
    if written {
        out.line(format!("wrote {}", report.artifact.display()));
    }
}

fn table(report: &Report<'_>, verbose: bool) -> Table {
    let mut table = Table::new([
        left("layer"),
        left("type").extra(),
        left("shape"),
        right("density"),
        left("variant"),
        left("by"),
        right("code KiB").extra(),
        right("weights KiB"),
        right("est. kcycles").extra(),
    ]);
    for layer in report.layers {
        let choice = layer.choice;
        table.row([
            choice.layer.clone(),
            choice.kind.to_owned(),
            choice.shape.clone(),
            choice.density.map(percent).unwrap_or_default(),
            choice.variant.clone(),
            by(choice.basis).to_owned(),
            kib(choice.code_bytes),
            kib(choice.weight_bytes),
            kilocycles(layer.kilocycles_per_image),
        ]);
        let rejected = choice.rejected.iter().filter(|_| verbose);
        rejected.for_each(|(variant, why)| table.note(format!("  not {variant}: {why}")));
    }
    let mut total = vec![String::new(); 6];
    total[0] = "total".to_owned();
    total.extend([kib(report.code_bytes), kib(report.weight_bytes)]);
    total.push(kilocycles(report.kilocycles_per_image));
    table.row(total);
    table
}

/// Why a variant runs a layer; empty where there was no choice.
pub fn by(basis: Basis) -> &'static str {
    match basis {
        Basis::Only => "",
        Basis::Named => "name",
        Basis::Estimated => "estimate",
        Basis::Measured => "trial",
        Basis::Disturbed => "busy trial",
        Basis::Remembered => "tune cache",
    }
}

/// Empty for layers without an estimate.
fn kilocycles(value: f64) -> String {
    if value > 0.0 {
        format!("{value:.1}")
    } else {
        String::new()
    }
}
