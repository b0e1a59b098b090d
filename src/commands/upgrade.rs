//! `skimjit upgrade`.

use crate::support::output::{self, Output, write_file};
use clap::ValueEnum;
use serde::Serialize;
use skimjit::{Error, Result};
use skimjit_caffe as caffe;
use skimjit_caffe::proto::{NetParameter, SolverParameter};
use skimjit_caffe::{text, unknown, upgrade};
use skimjit_host::whole::same_file;
use skimjit_models::Error as InputError;
use skimjit_models::Warning;
use std::path::{Path, PathBuf};

/// Brings an old prototxt, caffemodel or solver definition to today's form, as Caffe's upgrade tools do.
///
/// The contents decide what the file is: a network or a solver definition as text, a caffemodel (V0, V1
/// or current), or weights in HDF5, which become a caffemodel of names and blobs. Comments of text files
/// are lost. A text with unknown fields is refused, as by Caffe; a caffemodel keeps them as they are.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit upgrade old.prototxt new.prototxt
  skimjit upgrade bvlc_v1.caffemodel new.caffemodel")]
pub struct Arguments {
    /// File of an old form
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the new form goes
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What IN is, when its contents do not tell
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    /// Leave out fields that are unknown and cannot be kept
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// OUT may be IN
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Kind of a file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArgument {
    /// Network definition
    Net,
    /// Solver definition
    Solver,
    /// Caffemodel, or weights in HDF5
    Weights,
}

#[derive(Serialize)]
struct Report {
    input: PathBuf,
    output: PathBuf,
    /// What the file is.
    kind: &'static str,
    /// What was old in it.
    upgrades: Vec<String>,
}

/// What a file holds.
enum Contents {
    Net(NetParameter),
    Solver(Box<SolverParameter>),
    Weights(NetParameter),
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    refuse_same(arguments)?;
    let (kind, upgrades) = convert(arguments)?;
    let report = Report {
        input: arguments.input.clone(),
        output: arguments.output.clone(),
        kind,
        upgrades,
    };
    if arguments.json {
        return out.json(&report);
    }
    let upgrades = match report.upgrades.as_slice() {
        [] => "was of today's form already".to_owned(),
        upgrades => upgrades.join(", "),
    };
    out.line(format!(
        "{}: {kind}: {upgrades}",
        arguments.output.display()
    ));
    Ok(())
}

fn refuse_same(arguments: &Arguments) -> Result<()> {
    if !arguments.force && same_file(&arguments.input, &arguments.output) {
        return Err(Error::Usage(
            "OUT: found the same file as IN, expected another; --force replaces IN".to_owned(),
        ));
    }
    Ok(())
}

fn convert(arguments: &Arguments) -> Result<(&'static str, Vec<String>)> {
    let (input, output) = (&*arguments.input, &*arguments.output);
    let in_file = |error: InputError| error.file(input);
    match read(input, arguments.kind)? {
        Contents::Solver(mut solver) => {
            if !arguments.ignore_unknown_fields
                && let Some(first) = unknown::of_solver(&solver).first()
            {
                return Err(first.error().hint(unknown::LEAVE_OUT).file(input).into());
            }
            let old = solver.solver_type.is_some();
            upgrade::upgrade_solver(&mut solver).map_err(in_file)?;
            write_file(output, text::solver_text(&solver))?;
            let upgrades = old.then(|| "solver_type became type".to_owned());
            Ok(("solver definition", upgrades.into_iter().collect()))
        }
        Contents::Net(net) => {
            if !arguments.ignore_unknown_fields {
                unknown::refuse_in_text(&net).map_err(in_file)?;
            }
            let upgrades = upgrades(&net);
            let net = upgrade::upgrade_net(net).map_err(in_file)?;
            write_file(output, text::net_text(&net))?;
            Ok(("network definition", upgrades))
        }
        Contents::Weights(net) => {
            let mut upgrades = upgrades(&net);
            if is_hdf5(input) {
                upgrades.push("HDF5 became a caffemodel".to_owned());
            }
            let mut net = upgrade::upgrade_net(net).map_err(in_file)?;
            match arguments.ignore_unknown_fields {
                true => unknown::forget_moved(&mut net),
                false => unknown::refuse_moved(&net).map_err(in_file)?,
            }
            caffe::write_caffemodel(&net, output)?;
            Ok(("caffemodel", upgrades))
        }
    }
}

fn read(path: &Path, kind: Option<KindArgument>) -> Result<Contents> {
    let bytes =
        std::fs::read(path).map_err(|error| InputError::new(error.to_string()).file(path))?;
    let kind = kind.unwrap_or_else(|| kind_of(&bytes));
    let tell = |warnings: Vec<Warning>| {
        let warnings = warnings.into_iter().map(|warning| warning.file(path));
        warnings.for_each(output::warn);
    };
    if kind == KindArgument::Weights {
        let net = caffe::read_caffemodel(path)?;
        tell(caffe::odd_names(&net).into_iter().collect());
        return Ok(Contents::Weights(net));
    }
    let in_file = |error: InputError| error.file(path);
    if kind == KindArgument::Solver {
        let (solver, warnings) = text::solver(&bytes).map_err(in_file)?;
        tell(warnings);
        return Ok(Contents::Solver(Box::new(solver)));
    }
    let (net, warnings) = text::net(&bytes).map_err(in_file)?;
    tell(warnings);
    Ok(Contents::Net(net))
}

/// What the contents say.
fn kind_of(bytes: &[u8]) -> KindArgument {
    match caffe::is_text(bytes) {
        false => KindArgument::Weights,
        true if text::is_solver(bytes) => KindArgument::Solver,
        true => KindArgument::Net,
    }
}

fn is_hdf5(path: &Path) -> bool {
    std::fs::File::open(path).is_ok_and(|mut file| {
        let mut start = [0; 4];
        std::io::Read::read_exact(&mut file, &mut start).is_ok() && start == *b"\x89HDF"
    })
}

/// What is old in a network.
fn upgrades(net: &NetParameter) -> Vec<String> {
    let mut found = Vec::new();
    let v0 = net
        .layers
        .iter()
        .filter(|layer| layer.layer.is_some())
        .count();
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    };
    note(v0, "V0 layers");
    note(net.layers.len() - v0, "V1 layers");
    let shaped = !net.input_shape.is_empty() || !net.input_dim.is_empty();
    match shaped {
        true => note(net.input.len(), "inputs became an Input layer"),
        false => note(net.input.len(), "inputs without shape dropped"),
    }
    let frozen = net.layer.iter().filter(|layer| {
        let learned = |spec: &skimjit_caffe::proto::ParamSpec| spec.lr_mult() != 0.0;
        layer.r#type() == "BatchNorm" && layer.param.len() == 3 && layer.param.iter().any(learned)
    });
    note(
        frozen.count(),
        "BatchNorm layers whose statistics were learned",
    );
    found
}
