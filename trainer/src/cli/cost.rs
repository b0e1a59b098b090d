//! `skimjit-train cost`.

use super::console::{WARNINGS, complain, say, warn, write_file};
use super::session::CareArguments;
use super::trial::warn_of_shares;
use serde::Deserialize;
use skimjit_caffe::{Definition, Phase, Weights};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error, Percent, Result};
use skimjit_pruning::allocation::smallest;
use skimjit_pruning::cost::{CostTable, LayerCost};
use skimjit_trainer::weights::read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Measures what zeros are worth on this machine, layer by layer: the table that guided pruning goes by.
///
/// The network is pruned by magnitude to several shares of zeros, and `skimjit explain` measures each of them.
/// Run it on the machine that is to serve the network, while nothing else runs.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train cost --prototxt train_val.prototxt --weights net.caffemodel -o cost.json")]
pub struct Arguments {
    /// Definition with data layers, which tell the size of an image
    #[arg(long = "prototxt", alias = "model", value_name = "FILE")]
    model: PathBuf,
    /// Trained weights
    #[arg(long, value_name = "CAFFEMODEL")]
    weights: PathBuf,
    /// Zeros that are measured, in percent: 90 or 90%
    #[arg(
        long,
        value_name = "PERCENT,...",
        value_delimiter = ',',
        default_value = "0,10,20,30,40,50,60,70,80,90,95,98"
    )]
    levels: Vec<Percent>,
    /// Images computed together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
    /// Threads that the network will be served with
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    #[command(flatten)]
    care: CareArguments,
    /// The skimjit program [default: beside this one, or in PATH]
    #[arg(long, value_name = "FILE")]
    skimjit: Option<PathBuf>,
    /// Table to write
    #[arg(short, long, value_name = "FILE", default_value = "cost.json")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let levels = levels(&arguments.levels)?;
    let (mut net, shape) = network(arguments)?;
    let folder = scratch()?;
    let mut table: Option<CostTable> = None;
    for &level in &levels {
        net.change(&["Convolution", "InnerProduct"], |weights| {
            prune(weights, level)
        })?;
        let file = folder.join("net.caffemodel");
        net.write(&file)?;
        complain("measuring", format!("{:.0} % zeros", 100.0 * level));
        let report = arguments.explain(&file, &shape)?;
        add(&mut table, level, report, arguments)?;
    }
    // What is left of the folder is of no use.
    let _ = std::fs::remove_dir_all(&folder);
    let table = table.ok_or_else(|| Error::new("no levels").field("--levels"))?;
    let text =
        serde_json::to_string_pretty(&table).map_err(|error| Error::new(error.to_string()))?;
    write_file(&arguments.output, text)?;
    print(&table, &arguments.output);
    Ok(())
}

fn levels(asked: &[Percent]) -> Result<Vec<f64>> {
    warn_of_shares("--levels", asked);
    if let Some(wrong) = asked.iter().find(|level| level.value() >= 100.0) {
        return Err(Error::new(wrong.to_string())
            .field("--levels")
            .expected("less than 100%"));
    }
    let mut levels: Vec<f64> = asked.iter().map(|level| level.share()).collect();
    levels.push(0.0);
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    Ok(levels)
}

/// The definition with the weights, and the shape of its input.
fn network(arguments: &Arguments) -> Result<(Weights, String)> {
    let definition = Definition::read(&arguments.model, arguments.care.care(), &mut |told| {
        warn(told)
    })?;
    WARNINGS.check()?;
    // The networks that are measured would lack them.
    definition.refuse_unknown()?;
    let weights = read(&arguments.weights)?;
    let net = definition.clone().with_weights(weights).ok_or_else(|| {
        Error::new("weights of which no layer is in the network")
            .file(&arguments.weights)
            .expected(format!("weights of {}", arguments.model.display()))
            .hint("layers are matched by name")
    });
    Ok((net?, arguments.input_shape(definition)?))
}

/// Zeroes the smallest weights.
fn prune(weights: &mut [f32], level: f64) {
    let limit = smallest(weights, level);
    let pruned = weights.iter_mut().filter(|w| w.abs() <= limit);
    pruned.for_each(|w| *w = 0.0);
}

fn scratch() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("skimjit-train-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Error::new(error.to_string()).file(&folder))?;
    Ok(folder)
}

impl Arguments {
    /// Size of an image as the data layers of the test phase bring it, or of the training phase.
    fn input_shape(&self, mut definition: Definition) -> Result<String> {
        for phase in [Phase::Test, Phase::Train] {
            definition = definition.in_phase(phase);
            let feed = Feed::of(&definition, FeedOptions::default());
            let feed = feed.map_err(|error| error.file(&self.model))?;
            if let Some(blob) = feed.blobs().iter().find(|blob| blob.shape.rank() == 4) {
                let dims: Vec<String> = blob.shape.dims()[1..].iter().map(u32::to_string).collect();
                return Ok(format!("{},{}", self.batch, dims.join(",")));
            }
        }
        Err(Error::new("no data layer with images")
            .file(&self.model)
            .expected("a layer that reads data"))
    }

    fn program(&self) -> PathBuf {
        let beside = std::env::current_exe()
            .ok()
            .map(|path| path.with_file_name("skimjit"));
        let found = beside.filter(|path| path.is_file());
        self.skimjit
            .clone()
            .or(found)
            .unwrap_or_else(|| PathBuf::from("skimjit"))
    }

    fn explain(&self, file: &Path, shape: &str) -> Result<Report> {
        let program = self.program();
        let mut command = Command::new(&program);
        command
            .arg("explain")
            .arg(file)
            .args(["--json", "--input-shape", shape]);
        command.arg("--threads").arg(self.threads.to_string());
        let output = command.output().map_err(|error| {
            Error::new(error.to_string())
                .file(&program)
                .hint("name the skimjit program with --skimjit")
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            return Err(Error::new(said).field("skimjit explain"));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::new(error.to_string()).field(EXPLAIN).hint(HINT))
    }
}

/// Of what `skimjit explain --json` tells, what a table is made from.
#[derive(Deserialize)]
struct Report {
    cpu: String,
    isa: String,
    layers: Vec<Layer>,
    network: Network,
}

#[derive(Deserialize)]
struct Layer {
    layer: String,
    kind: String,
    time_ms: f64,
}

#[derive(Deserialize)]
struct Network {
    total_ms: f64,
}

const EXPLAIN: &str = "skimjit explain --json";
const HINT: &str = "use skimjit and skimjit-train of one version";

/// Adds what was measured at one level.
fn add(
    table: &mut Option<CostTable>,
    level: f64,
    report: Report,
    arguments: &Arguments,
) -> Result<()> {
    let prunable = |layer: &Layer| ["Convolution", "InnerProduct"].contains(&layer.kind.as_str());
    let layers = report.layers.into_iter().filter(prunable);
    let Some(table) = table else {
        let layers: Vec<LayerCost> = layers
            .map(|layer| LayerCost {
                layer: layer.layer,
                points: vec![[level, layer.time_ms]],
            })
            .collect();
        let sum: f64 = layers.iter().map(LayerCost::dense_ms).sum();
        *table = Some(CostTable {
            machine: format!("{}, {}", report.cpu, report.isa),
            batch: arguments.batch,
            threads: arguments.threads,
            layers,
            rest_ms: (report.network.total_ms - sum).max(0.0),
        });
        return Ok(());
    };
    for layer in layers {
        let mut known = table.layers.iter_mut();
        let same = known.find(|known| known.layer == layer.layer);
        let same = same.ok_or_else(|| {
            Error::new(format!("layer {:?} at {level} only", layer.layer)).field(EXPLAIN)
        })?;
        same.points.push([level, layer.time_ms]);
    }
    Ok(())
}

fn print(table: &CostTable, path: &Path) {
    for layer in &table.layers {
        let gain = match layer.crossover() {
            None => "is never faster than dense".to_owned(),
            Some(crossover) => format!(
                "gains from {:.1} % zeros on, up to {:.1} %: {:.2} times as fast",
                100.0 * crossover,
                100.0 * layer.bound(),
                layer.dense_ms() / layer.ms(layer.bound()).max(f64::MIN_POSITIVE)
            ),
        };
        say(&format!(
            "{:<24} {:>9.4} ms dense; {gain}",
            layer.layer,
            layer.dense_ms()
        ));
    }
    say(&format!(
        "{}: {:.4} ms dense on {}",
        path.display(),
        table.dense_ms(),
        table.machine
    ));
}
