//! What commands share that judge or change a trained network without training it.

use super::console::{WARNINGS, folder_for, warn};
use super::session::{CareArguments, MachineArguments, read_weights};
use skimjit_caffe::{Definition, Weights};
use skimjit_host::printable;
use skimjit_models::{Error, Percent, Result};
use skimjit_trainer::net::Net;
use skimjit_trainer::trial::{Judgement, Source};
use skimjit_trainer::weights::compare;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A trained network.
#[derive(clap::Args)]
pub struct TrialArguments {
    /// Definition with data layers (train_val)
    #[arg(long = "prototxt", alias = "model", value_name = "FILE")]
    pub model: PathBuf,
    /// Its weights; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        required = true
    )]
    pub weights: Vec<PathBuf>,
    /// Seed of what data layers draw (crops, mirrors, order)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub care: CareArguments,
    #[command(flatten)]
    pub machine: MachineArguments,
}

impl TrialArguments {
    /// Reads definition and weights.
    pub fn source(&self) -> Result<Source> {
        let definition = Definition::read(&self.model, self.care.care(), &mut |told| warn(told))?;
        WARNINGS.check()?;
        Ok(Source {
            definition,
            weights: read_weights(&self.weights)?,
            seed: self.seed,
        })
    }
    /// Refuses weights that could not be written with all that their file says, for commands that do.
    pub fn check_writable(&self, source: &Source) -> Result<()> {
        let (Some(last), Some(file)) = (source.weights.last(), self.weights.last()) else {
            return Ok(());
        };
        last.refuse_moved().map_err(|error| error.file(file))
    }
    /// Refuses weights of another network; tells what matches in part.
    pub fn compare(&self, source: &Source, net: &Net) -> Result<()> {
        let named = self.weights.iter().map(PathBuf::as_path);
        let named: Vec<_> = named.zip(&source.weights).collect();
        let told = compare(net, &named)?;
        told.iter().for_each(warn);
        WARNINGS.check()
    }
}

/// Warns of a percentage that may have been meant as a share.
pub fn warn_of_shares<'a>(option: &str, percents: impl IntoIterator<Item = &'a Percent>) {
    let told = percents
        .into_iter()
        .filter_map(|percent| percent.warning(option));
    told.for_each(warn);
}

/// Writes weights as a whole or not at all.
pub fn save(weights: &Weights, path: &Path) -> Result<()> {
    folder_for(path).map_err(|error| Error::unwritable(path, &error))?;
    weights.write(path)
}

/// Prints a JSON document.
pub fn print_json(text: serde_json::Result<String>) -> Result<()> {
    let text = text.map_err(|error| Error::new(error.to_string()))?;
    let result = writeln!(io::stdout(), "{}", printable::json(&text));
    result.map_err(|error| Error::new(format!("an error when writing the result: {error}")))
}

/// Prints a line on standard output.
pub fn print(text: &str) -> Result<()> {
    let result = writeln!(io::stdout(), "{}", printable::lines(text));
    result.map_err(|error| Error::new(format!("an error when writing the result: {error}")))
}

/// `accuracy 0.9857, loss 0.0421`.
pub fn describe(judgement: &Judgement) -> String {
    let outputs = judgement
        .outputs
        .iter()
        .filter(|output| output.loss_weight.is_none());
    let mut parts: Vec<String> = outputs
        .map(|output| format!("{} {:.4}", output.name, output.value))
        .collect();
    parts.push(format!("loss {:.4}", judgement.loss));
    parts.join(", ")
}

/// Prints what a network was before and after, where it was judged.
pub fn print_judgements(before: &Option<Judgement>, after: &Option<Judgement>) -> Result<()> {
    for (when, judgement) in [("before", before), ("after", after)] {
        if let Some(judgement) = judgement {
            print(&format!("{when}: {}", describe(judgement)))?;
        }
    }
    Ok(())
}
