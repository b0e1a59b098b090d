//! `skimjit convert-dataset`.

use crate::support::backend::BackendArgument;
use crate::support::output::Output;
use skimjit_program::progress;
use clap::Subcommand;
use serde::Serialize;
use skimjit::Result;
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_data::data_base::Writer;
use skimjit_data::{cifar, idx};
use skimjit_models::Error as InputError;
use std::path::{Path, PathBuf};

/// Makes a data base of MNIST's or CIFAR-10's own files, as Caffe's examples do.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit convert-dataset mnist train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz mnist_train_lmdb
  skimjit convert-dataset cifar10 data_batch_1.bin data_batch_2.bin cifar10_train_lmdb
  skimjit convert-dataset cifar10 --labels labels.u8 sheet_0.png sheet_1.png cifar10_sheets_lmdb")]
pub struct Arguments {
    #[command(subcommand)]
    set: Set,
    /// Kind of the data base
    #[arg(long, value_enum, global = true, default_value_t = BackendArgument::Lmdb)]
    backend: BackendArgument,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Set {
    Mnist(MnistArguments),
    Cifar10(Cifar10Arguments),
}

/// MNIST: idx files, gzipped or not; keys are 00000000, 00000001, …
#[derive(clap::Args)]
struct MnistArguments {
    /// Pictures (…-images-idx3-ubyte)
    #[arg(value_name = "IMAGES")]
    images: PathBuf,
    /// Labels (…-labels-idx1-ubyte)
    #[arg(value_name = "LABELS")]
    labels: PathBuf,
    /// Folder of the data base to make
    #[arg(value_name = "DB")]
    database: PathBuf,
}

/// CIFAR-10: binary batches, gzipped or not, or PNG sheets with a picture in each row; keys are 00000,
/// 00001, … over all files
#[derive(clap::Args)]
struct Cifar10Arguments {
    /// Binary batches, or PNG sheets of 1024 pixels width
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Folder of the data base to make
    #[arg(value_name = "DB")]
    database: PathBuf,
    /// Labels of the rows of all sheets, one byte each
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

/// Pictures of a data set, with their labels.
struct Records {
    /// Channels, height, width.
    size: [u32; 3],
    /// Digits of a key.
    digits: usize,
    records: Vec<(Vec<u8>, u8)>,
}

#[derive(Serialize)]
struct Report<'a> {
    database: &'a Path,
    records: u64,
    channels: u32,
    height: u32,
    width: u32,
    /// Records of each class.
    labels: Vec<u64>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let (database, set) = match &arguments.set {
        Set::Mnist(files) => (&files.database, mnist(files)?),
        Set::Cifar10(files) => (&files.database, cifar10(files)?),
    };
    let writer = Writer::create(database, arguments.backend.into())?;
    let report = write(database, writer, set)?;
    if arguments.json {
        return out.json(&report);
    }
    out.line(format!(
        "{}: {} records of {}x{}x{}, {} classes",
        report.database.display(),
        report.records,
        report.channels,
        report.height,
        report.width,
        report.labels.iter().filter(|&&count| count > 0).count()
    ));
    Ok(())
}

fn mnist(arguments: &MnistArguments) -> Result<Records> {
    let images = progress::spin("reading", || idx::read_images(&arguments.images))?;
    let labels = idx::read_labels(&arguments.labels)?;
    if labels.len() != images.count as usize {
        let error = InputError::new(format!("{} labels", labels.len())).file(&arguments.labels);
        let expected = format!("{}, as there are pictures", images.count);
        let hint = format!(
            "take the labels that belong to {}",
            arguments.images.display()
        );
        return Err(error.expected(expected).hint(hint).into());
    }
    let records = images.iter().map(<[u8]>::to_vec).zip(labels);
    let records = records.collect();
    Ok(Records {
        size: [1, images.height, images.width],
        digits: 8,
        records,
    })
}

fn cifar10(arguments: &Cifar10Arguments) -> Result<Records> {
    let pictures = progress::spin("reading", || match &arguments.labels {
        Some(labels) => cifar::read_sheets(&arguments.files, labels),
        None => {
            let batches = arguments.files.iter().map(|file| batch(file));
            let batches = batches.collect::<skimjit_models::Result<Vec<_>>>()?;
            Ok(batches.into_iter().flatten().collect())
        }
    })?;
    let records = pictures
        .into_iter()
        .map(|picture| (picture.planes, picture.label));
    let records = records.collect();
    Ok(Records {
        size: [cifar::CHANNELS, cifar::SIDE, cifar::SIDE],
        digits: 5,
        records,
    })
}

fn batch(file: &Path) -> skimjit_models::Result<Vec<cifar::Picture>> {
    let sheet = file
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("png"));
    if sheet {
        return Err(InputError::new("a sheet of pictures without labels")
            .file(file)
            .expected("--labels with the file of its rows' labels"));
    }
    cifar::read_batch(file)
}

fn write(database: &Path, mut writer: Writer, set: Records) -> Result<Report<'_>> {
    let ([channels, height, width], digits) = (set.size, set.digits);
    let bar = progress::bar("records", set.records.len() as u64);
    let mut labels = vec![0; 256];
    for (index, (pixels, label)) in set.records.into_iter().enumerate() {
        let datum = Datum {
            channels,
            height,
            width,
            label: Some(label.into()),
            pixels: Pixels::U8(pixels),
        };
        writer.put(format!("{index:0digits$}").as_bytes(), datum.encode()?)?;
        labels[usize::from(label)] += 1;
        bar.inc(1);
    }
    let records = writer.finish()?;
    bar.finish_and_clear();
    let classes = labels.iter().rposition(|&count| count > 0);
    labels.truncate(classes.map_or(0, |last| last + 1));
    Ok(Report {
        database,
        records,
        channels,
        height,
        width,
        labels,
    })
}
