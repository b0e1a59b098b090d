//! What commands share that judge or change a trained network without training it.

use super::console::{WARNINGS, folder_for, warn};
use super::inputs::InputArguments;
use super::session::{CareArguments, MachineArguments, read_weights};
use serde::Serialize;
use skimjit_caffe::Definition;
use skimjit_host::printable;
use skimjit_models::{Error, Percent, Result};
use skimjit_trainer::engine::{Engine, NetId};
use skimjit_trainer::net::Net;
use skimjit_trainer::onnx::{OnnxNetwork, Purpose};
use skimjit_trainer::prune::change::{Change, OutputChange, Outputs};
use skimjit_trainer::trial::{Batches, Judgement, Source, Stream};
use skimjit_trainer::weights::{compare, is_onnx};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A trained network.
#[derive(clap::Args)]
pub struct TrialArguments {
    /// Definition with data layers (train_val), of a Caffe network
    #[arg(long = "prototxt", alias = "model", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Its weights; of several files, later ones win. Or an ONNX file, which is the whole network
    #[arg(
        long,
        value_name = "CAFFEMODEL|ONNX,...",
        value_delimiter = ',',
        required = true
    )]
    pub weights: Vec<PathBuf>,
    /// Seed of what data layers draw (crops, mirrors, order) [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub care: CareArguments,
    #[command(flatten)]
    pub machine: MachineArguments,
    #[command(flatten)]
    pub inputs: InputArguments,
}

/// What a command works on.
pub enum Files {
    /// Definition and weights.
    Caffe(Source),
    /// An ONNX file, and what it is tried with.
    Onnx(Onnx),
}

/// An ONNX network with its inputs.
pub struct Onnx {
    pub network: OnnxNetwork,
    /// Images of a batch.
    batch: u32,
    batches: Batches,
}

impl Onnx {
    /// Adds the network to an engine.
    pub fn stream(&self, engine: &mut dyn Engine, purpose: Purpose) -> Result<Stream> {
        let net = self.network.net(self.batch, purpose)?;
        let file = |error: Error| match &self.network.graph().file {
            Some(file) => error.file(file),
            None => error,
        };
        Stream::new(engine, net, Arc::clone(&self.batches)).map_err(file)
    }
}

impl TrialArguments {
    /// Reads the network. `of_data` are the arguments, where they are given, that say how a definition's data is
    /// used: an ONNX file has none.
    pub fn files(&self, of_data: &[(bool, &str)]) -> Result<Files> {
        let onnx = self.weights.iter().find(|path| is_onnx(path));
        let Some(path) = onnx else {
            return self.source().map(Files::Caffe);
        };
        let own = [
            (self.weights.len() > 1, "--weights"),
            (self.model.is_some(), "--prototxt"),
            (self.seed.is_some(), "--seed"),
            (self.care.ignore_unknown_fields, "--ignore-unknown-fields"),
        ];
        let mut given = own.iter().chain(of_data).filter(|(given, _)| *given);
        if let Some((_, name)) = given.next() {
            return Err(Error::new(
                "an option for a Caffe network's files and data layers beside an ONNX file",
            )
            .file(path)
            .field(*name)
            .expected(
                "an ONNX file alone: it is the whole network, and has neither data nor labels",
            )
            .hint("leave the option out; --input says what the network is tried with"));
        }
        let network = self.inputs.network(path)?;
        WARNINGS.check()?;
        let (batch, batches) = self
            .inputs
            .read(&network)
            .map_err(|error| error.file(path))?;
        WARNINGS.check()?;
        Ok(Files::Onnx(Onnx {
            network,
            batch,
            batches,
        }))
    }
    /// Reads definition and weights.
    fn source(&self) -> Result<Source> {
        let Some(model) = &self.model else {
            return Err(Error::new("nothing")
                .field("--prototxt")
                .expected("the definition (train_val) of a Caffe network, whose data layers name its data")
                .hint("an ONNX file goes alone, as --weights"));
        };
        if let Some(name) = self.inputs.given() {
            return Err(Error::new(
                "an option for the inputs of an ONNX file beside a Caffe network",
            )
            .field(name)
            .expected("none: the data layers of the definition say what its inputs are"));
        }
        let definition = Definition::read(model, self.care.care(), &mut |told| warn(told))?;
        WARNINGS.check()?;
        Ok(Source {
            definition,
            weights: read_weights(&self.weights)?,
            seed: self.seed.unwrap_or(1),
        })
    }
    /// Refuses, before anything is computed, a result that could not be written under a name.
    pub fn check_output(&self, files: &Files, output: &Path) -> Result<()> {
        let is_onnx = output
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("onnx"));
        match files {
            Files::Caffe(_) if is_onnx => Err(Error::new("a name for an ONNX file")
                .file(output)
                .field("--output")
                .expected("a .caffemodel: that is what the weights are read from")
                .hint("skimjit export makes an .onnx file of it")),
            Files::Caffe(source) => self.check_writable(source),
            Files::Onnx(onnx) if is_onnx => {
                let file = |error: Error| error.file(&self.weights[0]);
                onnx.network.check_writable().map_err(file)
            }
            Files::Onnx(_) => Err(Error::new("a name for another format")
                .file(output)
                .field("--output")
                .expected("a name that ends in .onnx, as the network is read from an ONNX file")),
        }
    }
    /// Refuses weights that could not be written with all that their file says.
    fn check_writable(&self, source: &Source) -> Result<()> {
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

/// Writes the network as it was read, with the parameters that an engine has, as a whole or not at all.
pub fn save(files: &Files, engine: &mut dyn Engine, id: NetId, path: &Path) -> Result<()> {
    folder_for(path).map_err(|error| Error::unwritable(path, &error))?;
    match files {
        Files::Caffe(source) => source.saved(engine, id).write(path),
        Files::Onnx(onnx) => onnx.network.write(engine, path),
    }
}

/// What a network is judged by, before and after it is changed.
pub enum Judge {
    /// Losses and accuracies on the batches of phase TEST, if any were asked for: what they were before.
    Labels(Option<(Stream, Judgement)>),
    /// Without labels, the change of the outputs: what these were before.
    Outputs(Stream, Outputs),
}

/// What a network was and what it is.
#[derive(Serialize)]
pub struct Verdict {
    before: Option<Judgement>,
    after: Option<Judgement>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    /// That the change is of.
    #[serde(skip)]
    inputs: usize,
}

impl Judge {
    /// Judges a Caffe network as it is, by so many batches.
    pub fn labels(source: &Source, engine: &mut dyn Engine, batches: u32) -> Result<Self> {
        let stream = source.add_test(engine, batches)?;
        let judged = stream.map(|stream| stream.judge(engine).map(|before| (stream, before)));
        judged.transpose().map(Self::Labels)
    }
    /// Keeps the outputs of a network as it is.
    pub fn outputs(engine: &mut dyn Engine, stream: Stream) -> Result<Self> {
        let outputs = Outputs::of(engine, &stream)?;
        Ok(Self::Outputs(stream, outputs))
    }
    /// Judges it again.
    pub fn after(self, engine: &mut dyn Engine) -> Result<Verdict> {
        let mut verdict = Verdict {
            before: None,
            after: None,
            change: None,
            inputs: 0,
        };
        match self {
            Self::Labels(None) => {}
            Self::Labels(Some((stream, before))) => {
                verdict.after = Some(stream.judge(engine)?);
                verdict.before = Some(before);
            }
            Self::Outputs(stream, outputs) => {
                verdict.change = Some(outputs.change(engine, &stream)?);
                verdict.inputs = stream.images(engine) as usize * stream.batches().len();
            }
        }
        Ok(verdict)
    }
}

impl Verdict {
    /// Prints it.
    pub fn print(&self) -> Result<()> {
        for (when, judgement) in [("before", &self.before), ("after", &self.after)] {
            if let Some(judgement) = judgement {
                print(&format!("{when}: {}", describe(judgement)))?;
            }
        }
        let changes = self.change.iter().flat_map(|change| &change.changes);
        for change in changes {
            print(&format!(
                "output {}: {}",
                printable::cell(&change.output),
                self.describe(change)
            ))?;
        }
        Ok(())
    }
    /// `changed by 1.20 % in the mean, 3.40 % at most; best class the same for 15 of 16 inputs`.
    fn describe(&self, change: &OutputChange) -> String {
        let classes = change.same_class.map(|share| {
            let same = (share * self.inputs as f64).round();
            format!("; best class the same for {same} of {} inputs", self.inputs)
        });
        format!(
            "changed by {:.2} % in the mean, {:.2} % at most{}",
            100.0 * change.mean,
            100.0 * change.largest,
            classes.unwrap_or_default()
        )
    }
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
