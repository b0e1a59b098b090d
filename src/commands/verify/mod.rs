//! `skimjit verify`.

mod proof;

use crate::support::args::{EngineArguments, NamedFile, ReadingArguments, parse_tolerance};
use crate::support::output::{self, Output};
use crate::support::problem::Problem;
use crate::support::table::{Table, left, right};
use crate::support::{inputs, noise};
use skimjit_program::progress;
use serde::Serialize;
use skimjit::layer;
use skimjit::verify::{BlobCheck, check, compare, verify};
use skimjit::{CompileOptions, Error, Keep, Model, Result, array};
use skimjit_models::Percent;
use skimjit_models::{Error as InputError, Tensor, interpreter};
use std::path::{Path, PathBuf};

/// Compares the engine with the reference interpreter, layer by layer.
///
/// Names the first layer that differs; sums beyond the largest float are called an overflow. With --expect and --expect-blob, compares with given arrays
/// as well. With --kernels, proves from the generated code itself that the multiply-adds of every
/// kernel are those of its layer's weights, none lost and none doubled, that no load or store
/// leaves its buffers, and that it contains nothing but known instructions and keeps the calling
/// convention (softmax: bounds only). With --kernel, checks one kernel variant on one problem
/// instead of a network; problems are written like oneDNN's: g groups, mb images, ic ih iw input,
/// oc oh ow output, kh kw kernel, sh sw stride, ph pw pad, dh dw dilation less 1; without ih and kh
/// an inner product.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit verify net.caffemodel --input in.npy --expect prob.npy --expect-blob conv1=conv1.npy
  skimjit verify net.skim --kernels --isa avx2
  skimjit verify --kernel sparse_conv.baked --problem g2mb1ic96ih27oc256oh27kh5ph2 --density 15")]
pub struct Arguments {
    /// Network: a .skim, .onnx, .caffemodel or .caffemodel.h5 file
    #[arg(value_name = "MODEL", required_unless_present = "kernel")]
    model: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Input array; NAME=FILE where the network has several inputs [default: a random image]
    #[arg(long, short, value_name = "[NAME=]FILE", value_parser = NamedFile::parse)]
    input: Vec<NamedFile>,
    /// What the output has to be; NAME=FILE where the network has several outputs
    #[arg(long, value_name = "[NAME=]FILE", value_parser = NamedFile::parse, requires = "input")]
    expect: Vec<NamedFile>,
    /// What a blob has to be
    #[arg(long, value_name = "NAME=FILE", value_parser = NamedFile::parse_named)]
    #[arg(requires = "input")]
    expect_blob: Vec<NamedFile>,
    /// Largest difference allowed, as a share of the largest value
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "1e-4", value_parser = parse_tolerance)]
    tolerance: f64,
    /// Prove the generated code of every layer instead of running it
    #[arg(long, conflicts_with_all = ["input", "kernel"])]
    kernels: bool,
    /// Kernel variant to check
    #[arg(
        long,
        value_name = "VARIANT",
        requires = "problem",
        conflicts_with = "model"
    )]
    kernel: Option<String>,
    /// Problem for the kernel
    #[arg(long, value_name = "PROBLEM", requires = "kernel", value_parser = Problem::parse)]
    problem: Option<Problem>,
    /// Percentage of non-zero weights of the problem (15 and 15% are the same)
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, default_value = "100", value_parser = str::parse::<Percent>)]
    density: Percent,
    /// Seed of the problem's weights and input
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value_t = 1
    )]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    tolerance: f64,
    passed: bool,
    /// Every layer with all earlier ones before it, against the reference.
    layers: Vec<BlobCheck>,
    /// Outputs of the network as it is used, against the reference.
    outputs: Vec<BlobCheck>,
    /// Against the arrays given.
    expected: Vec<BlobCheck>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    if let (true, Some(model)) = (arguments.kernels, &arguments.model) {
        let options = arguments.engine.options()?;
        let model = arguments.reading.load(model)?;
        return proof::run(&model, options, arguments.json, out);
    }
    let report = match (&arguments.kernel, &arguments.problem, &arguments.model) {
        (Some(kernel), Some(problem), _) => check_kernel(arguments, kernel, problem)?,
        (_, _, Some(model)) => check_network(arguments, &arguments.reading.load(model)?)?,
        _ => {
            return Err(Error::Usage(
                "found no model and no kernel, expected one".to_owned(),
            ));
        }
    };
    if arguments.json {
        out.json(&report)?;
    } else {
        print(&report, out);
    }
    let checks = report
        .layers
        .iter()
        .chain(&report.outputs)
        .chain(&report.expected);
    let failed = checks.into_iter().find(|check| !check.passed);
    failed.map_or(Ok(()), |failed| Err(failure(failed, arguments.tolerance)))
}

fn check_network(arguments: &Arguments, model: &Model) -> Result<Report> {
    let mut options = arguments.engine.options()?;
    let inputs = if arguments.input.is_empty() {
        noise::usual_inputs(model, options.batch)?
    } else {
        inputs::arrays(model, &arguments.input, inputs::Sizes::Network)?
    };
    let images = inputs.first().map_or(1, |input| input.shape().dim(0));
    if options.batch.is_none() && !model.combines_images() {
        options.batch = Some(images.min(inputs::USUAL_BATCH));
    }
    let tolerance = arguments.tolerance;
    let found = progress::spin("verifying", || verify(model, &options, &inputs, tolerance))?;
    let expected = check_expected(arguments, model, &options, &inputs)?;
    let checks = || found.layers.iter().chain(&found.outputs).chain(&expected);
    let passed = checks().all(|check| check.passed);
    Ok(Report {
        tolerance,
        passed,
        layers: found.layers,
        outputs: found.outputs,
        expected,
    })
}

/// Compares outputs and blobs with the arrays given.
fn check_expected(
    arguments: &Arguments,
    model: &Model,
    options: &CompileOptions,
    inputs: &[Tensor],
) -> Result<Vec<BlobCheck>> {
    if arguments.expect.is_empty() && arguments.expect_blob.is_empty() {
        return Ok(Vec::new());
    }
    let names = arguments
        .expect_blob
        .iter()
        .filter_map(|named| named.name.clone())
        .collect();
    let keep = CompileOptions {
        keep: Keep::Named(names),
        ..options.clone()
    };
    let engine = model.compile(&keep)?;
    let found = engine.run(&mut engine.session(), inputs)?;
    let ports = &engine.plan().outputs;
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let outputs = names.get(..model.graph().outputs.len()).unwrap_or(&names);
    let expected = arguments.expect.iter();
    let expected = expected.map(|named| (named, named.port("--expect", outputs)));
    let blobs = arguments.expect_blob.iter();
    let blobs = blobs.map(|named| (named, named.port("--expect-blob", &names)));
    let checks = expected.chain(blobs).map(|(named, port)| {
        let port = port?;
        let (wanted, blob) = (array::read_npy(&named.file)?, names[port]);
        check_shape(&named.file, &wanted, &found[port], blob)?;
        let (layer, file) = (layer_of(model, blob), named.file.display().to_string());
        let (found, wanted) = (found[port].data(), wanted.data());
        let tolerance = arguments.tolerance;
        Ok(check(
            layer,
            blob.to_owned(),
            file,
            found,
            wanted,
            tolerance,
        ))
    });
    checks.collect()
}

fn check_shape(file: &Path, wanted: &Tensor, found: &Tensor, blob: &str) -> Result<()> {
    let (wanted, found) = (wanted.shape(), found.shape());
    if same_array(wanted.dims(), found.dims()) {
        return Ok(());
    }
    let error = InputError::new(format!("shape {wanted}")).file(file);
    Err(error
        .expected(format!("{found}, the shape of blob \"{blob}\""))
        .into())
}

/// Equal but for dims of 1 at the end: other engines write N×C×1×1 as N×C or the reverse.
fn same_array(a: &[u32], b: &[u32]) -> bool {
    let trim = |dims: &[u32]| {
        let used = dims
            .iter()
            .rposition(|&dim| dim != 1)
            .map_or(0, |last| last + 1);
        dims[..used].to_vec()
    };
    trim(a) == trim(b)
}

/// The layer that computes the last value of a blob.
fn layer_of(model: &Model, blob: &str) -> String {
    let graph = model.graph();
    let made = graph
        .nodes
        .iter()
        .rev()
        .find(|node| graph.value(node.output).name == blob);
    made.map_or_else(|| blob.to_owned(), |node| node.name.clone())
}

fn check_kernel(arguments: &Arguments, kernel: &str, problem: &Problem) -> Result<Report> {
    if let Some(warning) = arguments.density.warning("--density") {
        output::warn(warning);
    }
    let model = problem.model(arguments.density.share(), arguments.seed)?;
    let options = CompileOptions {
        keep_weights: true,
        ..arguments.engine.machine.options()?
    };
    let engine = layer::force(&model, &options, kernel)?;
    let images = model.batch();
    let input = noise::Noise::new(!arguments.seed).tensor(problem.input_shape(images)?, 1.0);
    let expected = interpreter::run_outputs(engine.graph(), std::slice::from_ref(&input))?;
    let outputs = compare(&engine, &[input], &expected, arguments.tolerance)?;
    let passed = outputs.iter().all(|check| check.passed);
    let tolerance = arguments.tolerance;
    Ok(Report {
        tolerance,
        passed,
        layers: Vec::new(),
        outputs,
        expected: Vec::new(),
    })
}

/// The error for a check that failed.
pub fn failure(failed: &BlobCheck, tolerance: f64) -> Error {
    let place = format!(
        "layer \"{}\", blob \"{}\" ({})",
        failed.layer, failed.blob, failed.variant
    );
    if failed.overflow {
        return Error::Check(format!(
            "{place}: found an overflow: sums beyond 3.4e38, the largest float, in which the engine adds; \
             the reference adds in double, and its largest value is {:.3e}; expected smaller numbers: scale \
             the input, or the weights of the layers before",
            failed.magnitude
        ));
    }
    Error::Check(format!(
        "{place}: found a difference of {:.3e} of the largest value, expected at most {tolerance:.0e}",
        failed.relative
    ))
}

/// How a check ended, in a word.
fn result(check: &BlobCheck) -> &'static str {
    match (check.passed, check.overflow) {
        (true, false) => "ok",
        (true, true) => "ok, overflows",
        (false, false) => "DIFFERS",
        (false, true) => "OVERFLOWS",
    }
}

fn print(report: &Report, out: &mut Output) {
    let mut table = Table::new([
        left("layer"),
        left("blob"),
        left("variant"),
        right("largest value"),
        right("difference").extra(),
        right("relative"),
        left("result"),
    ]);
    let sections = [
        ("", &report.layers),
        ("output ", &report.outputs),
        ("given ", &report.expected),
    ];
    for (what, checks) in sections {
        for check in checks {
            table.row([
                format!("{what}{}", check.layer),
                check.blob.clone(),
                check.variant.clone(),
                format!("{:.4e}", check.magnitude),
                format!("{:.1e}", check.difference),
                format!("{:.1e}", check.relative),
                result(check).to_owned(),
            ]);
        }
    }
    out.table(&table);
    let verdict = if report.passed { "passed" } else { "FAILED" };
    out.line(format!(
        "{verdict}: largest difference allowed is {:.0e}",
        report.tolerance
    ));
}
