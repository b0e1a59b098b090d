//! `skimjit-train net`.

use super::console::{complain, write_file};
use super::trial::print;
use skimjit_caffe::Definition;
use skimjit_caffe::solver::SolverDefinition;
use skimjit_caffe::zoo::{self, Net, TrainVal};
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// Writes the definition of a well-known network, ready to be trained: data layers, losses, fillers.
///
/// Without data bases it gets random data, the same in every batch: for trying out and timing. `--solver-out`
/// writes a solver definition for it too, with usual values to start from.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit-train net --list
  skimjit-train net resnet-50 --lmdb train_lmdb,val_lmdb --classes 20 --mean-value 104,117,123 \\
    -o net.prototxt --solver-out solver.prototxt")]
pub struct Arguments {
    /// Name of the network
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Print the names
    #[arg(long, conflicts_with_all = ["name", "output", "solver_out"])]
    list: bool,
    /// LMDBs for training and for testing
    #[arg(long, alias = "data", value_name = "TRAIN,TEST", value_delimiter = ',')]
    lmdb: Vec<String>,
    /// Images of a training batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
    /// Images of a test batch
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=65536))]
    test_batch: u32,
    /// Classes [default: those of the published network]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    classes: Option<u32>,
    /// Mean of each channel, in the data base's channel order (Caffe: blue, green, red), or one for all
    #[arg(
        long,
        alias = "mean",
        value_name = "B,G,R",
        value_delimiter = ',',
        value_parser = finite,
        requires = "lmdb"
    )]
    mean_value: Vec<f32>,
    /// Factor of pixels, after the mean is subtracted [default: 1/64, for digits 1/256]; published weights of
    /// photographs' networks go with 1
    #[arg(long, value_name = "S", requires = "lmdb", value_parser = finite)]
    scale: Option<f32>,
    /// Mirrors training pictures at random
    #[arg(long, requires = "lmdb")]
    mirror: bool,
    /// Definition to write [default: standard output]
    #[arg(short, long, value_name = "PROTOTXT")]
    output: Option<PathBuf>,
    /// Solver definition to write
    #[arg(long, alias = "solver", value_name = "PROTOTXT", requires = "output")]
    solver_out: Option<PathBuf>,
}

fn finite(text: &str) -> std::result::Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|x| x.is_finite());
    number.ok_or_else(|| "expected a finite number".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let trainable = |net: &&Net| zoo::train_val(net, &TrainVal::default()).is_ok();
    if arguments.list {
        return zoo::all()
            .iter()
            .filter(trainable)
            .try_for_each(|net| print(net.name));
    }
    let net = find(arguments.name.as_deref().unwrap_or_default())?;
    let definition = zoo::train_val(net, &arguments.options(net)?)?;
    let Some(output) = &arguments.output else {
        return print(definition.text().trim_end());
    };
    write_file(output, definition.text())?;
    if let Some(solver) = &arguments.solver_out {
        write_file(solver, solver_for(output, &definition)?)?;
        let command = format!("skimjit-train train --solver {}", solver.display());
        complain("written", format!("{command} trains it"));
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Net> {
    zoo::find(name).ok_or_else(|| {
        let names: Vec<&str> = zoo::all().iter().map(|net| net.name).collect();
        Error::new(format!("a network {name:?}"))
            .field("NAME")
            .expected(format!("one of {}", names.join(", ")))
    })
}

impl Arguments {
    fn options(&self, net: &Net) -> Result<TrainVal> {
        let data = match self.lmdb.as_slice() {
            [] => None,
            [train, test] => Some([train.clone(), test.clone()]),
            other => {
                return Err(Error::new(format!("{} data bases", other.len()))
                    .field("--lmdb")
                    .expected("two: for training and for testing"));
            }
        };
        let channels = net.input_shape[1] as usize;
        if ![0, 1, channels].contains(&self.mean_value.len()) {
            return Err(Error::new(format!("{} values", self.mean_value.len()))
                .field("--mean-value")
                .expected(format!("one, or {channels}: one of each channel")));
        }
        Ok(TrainVal {
            data,
            batch: [self.batch, self.test_batch],
            classes: self.classes,
            mean: self.mean_value.clone(),
            scale: self.scale.unwrap_or_else(|| zoo::usual_scale(net)),
            mirror: self.mirror,
        })
    }
}

/// Momentum and a rate that networks with He's fillers take, falling to zero.
fn solver_for(net: &Path, definition: &Definition) -> Result<String> {
    // Batch normalisation bears greater steps.
    let rate = match definition.has("BatchNorm") {
        true => 0.02,
        false => 0.002,
    };
    let fields = format!(
        "test_iter: 20 test_interval: 1000 test_initialization: false
         base_lr: {rate} lr_policy: 'poly' power: 1 momentum: 0.9 weight_decay: 0.0005
         display: 20 average_loss: 20 max_iter: 10000 snapshot: 1000 random_seed: 1"
    );
    let (mut solver, _) = SolverDefinition::parse(&fields)?;
    solver.set_net(net);
    solver.set_snapshot_prefix(&net.with_extension(""));
    Ok(solver.text())
}
