//! `skimjit compute-image-mean`.

use crate::support::output::Output;
use skimjit_program::progress;
use crate::support::table::{Table, right};
use serde::Serialize;
use skimjit::Result;
use skimjit::picture::{ChannelOrder, Picture};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::write_mean;
use skimjit_data::data_base::Reader;
use skimjit_data::lmdb::{Record, show};
use skimjit_models::{Error as InputError, Shape, Tensor};
use std::path::PathBuf;

/// Records that are decoded together.
const TOGETHER: usize = 64;

/// Computes the mean image of a data base, and the mean of each channel.
///
/// The file can be a network's mean_file, and the numbers its mean_value.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit compute-image-mean ilsvrc12_train_lmdb imagenet_mean.binaryproto")]
pub struct Arguments {
    /// Folder of an LMDB or LevelDB, or a data.mdb
    #[arg(value_name = "DB")]
    database: PathBuf,
    /// Mean image to write (.binaryproto)
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    records: u64,
    channels: u32,
    height: u32,
    width: u32,
    /// Mean of each channel.
    mean_value: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let mut reader = Reader::open(&arguments.database)?;
    let sums = add_up(&mut reader)?;
    let records = sums.records;
    let [channels, height, width] = sums.dims;
    let mean: Vec<f64> = sums.values.iter().map(|sum| sum / records as f64).collect();
    let plane = (u64::from(height) * u64::from(width)) as usize;
    let average = |channel: &[f64]| channel.iter().sum::<f64>() / plane as f64;
    let mean_value = mean.chunks_exact(plane).map(average).collect();
    if let Some(file) = &arguments.output {
        let shape = Shape::new([1, channels, height, width])?;
        let mean = mean.iter().map(|&mean| mean as f32).collect();
        write_mean(Tensor::new(shape, mean), file)?;
    }
    let report = Report {
        records,
        channels,
        height,
        width,
        mean_value,
        output: arguments.output.clone(),
    };
    if arguments.json {
        return out.json(&report);
    }
    print(&report, out);
    Ok(())
}

fn print(report: &Report, out: &mut Output) {
    let Report {
        records,
        channels,
        height,
        width,
        ..
    } = report;
    out.line(format!("{records} records of {channels}x{height}x{width}"));
    let mut table = Table::new([right("channel"), right("mean_value")]);
    for (channel, mean) in report.mean_value.iter().enumerate() {
        table.row([channel.to_string(), format!("{mean:.6}")]);
    }
    out.table(&table);
    if let Some(file) = &report.output {
        out.line(format!("{}: mean image", file.display()));
    }
}

/// Sum of all records, value by value: exact for bytes.
struct Sums {
    dims: [u32; 3],
    values: Vec<f64>,
    records: u64,
    first: Vec<u8>,
}

fn add_up(reader: &mut Reader) -> Result<Sums> {
    let bar = match reader.records() {
        Some(records) => progress::bar("records", records),
        None => progress::spinner("records"),
    };
    let path = reader.path().to_owned();
    let mut sums: Option<Sums> = None;
    loop {
        let mut together = Vec::with_capacity(TOGETHER);
        while together.len() < TOGETHER {
            match reader.next()? {
                Some(record) => together.push(record),
                None => break,
            }
        }
        if together.is_empty() {
            break;
        }
        for (record, decoded) in together.iter().zip(skimjit_runtime::map(&together, decode)) {
            let added = decoded.and_then(|image| add(&mut sums, &record.key, &image));
            added.map_err(|error| {
                let field = match &error.field {
                    Some(field) => format!("record {}: {field}", show(&record.key)),
                    None => format!("record {}", show(&record.key)),
                };
                let mut error = error.file(&path);
                error.field = Some(field);
                error
            })?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    sums.ok_or_else(|| {
        let error = InputError::new("no records").file(&path);
        error.expected("a data base with pictures").into()
    })
}

/// Channels, height, width and values of a record.
struct Image {
    dims: [u32; 3],
    values: Pixels,
}

fn decode(record: &Record) -> skimjit_models::Result<Image> {
    let datum = Datum::decode(&record.value)?;
    let dims = [datum.channels, datum.height, datum.width];
    let Pixels::Encoded(file) = datum.pixels else {
        return Ok(Image {
            dims,
            values: datum.pixels,
        });
    };
    let picture = Picture::decode(&file, None, ChannelOrder::Bgr)?;
    Ok(Image {
        dims: [picture.channels(), picture.height(), picture.width()],
        values: Pixels::U8(picture.planes()),
    })
}

fn add(sums: &mut Option<Sums>, key: &[u8], image: &Image) -> skimjit_models::Result<()> {
    let count = image.dims.iter().map(|&dim| dim as usize).product();
    let sums = sums.get_or_insert_with(|| Sums {
        dims: image.dims,
        values: vec![0.0; count],
        records: 0,
        first: key.to_vec(),
    });
    if sums.dims != image.dims {
        let show_dims = |[c, h, w]: [u32; 3]| format!("{c}x{h}x{w}");
        let expected = format!("{}, as record {}", show_dims(sums.dims), show(&sums.first));
        return Err(InputError::new(show_dims(image.dims))
            .expected(expected)
            .hint("a mean image needs records of one size; convert with --resize-width and --resize-height"));
    }
    sums.records += 1;
    match &image.values {
        Pixels::U8(bytes) | Pixels::Encoded(bytes) => {
            let values = sums.values.iter_mut().zip(bytes);
            values.for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Pixels::F32(floats) => {
            let values = sums.values.iter_mut().zip(floats);
            values.for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
    Ok(())
}
