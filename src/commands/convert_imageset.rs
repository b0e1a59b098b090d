//! `skimjit convert-imageset`.

use crate::support::backend::BackendArgument;
use crate::support::output::Output;
use skimjit_program::progress;
use clap::ValueEnum;
use serde::Serialize;
use skimjit::picture::{ChannelOrder, FileKind, MAX_SIDE, Picture};
use skimjit::{Error, Result};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_data::data_base::Writer;
use skimjit_data::image_list::{self, Entry};
use skimjit_models::Error as InputError;
use std::path::{Path, PathBuf};

/// Largest picture file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// Makes a data base of the pictures that a list names, as Caffe's convert_imageset does.
///
/// Records are in the order of the list; their keys are the number in it, with 8 digits, and the path.
/// Colours are stored as blue, green, red. Any fault ends the work and leaves no data base behind.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit convert-imageset --resize-width 256 --resize-height 256 --shuffle \\
      imagenet/train/ train.txt ilsvrc12_train_lmdb")]
pub struct Arguments {
    /// Folder that the paths of the list start from
    #[arg(value_name = "ROOT")]
    root: String,
    /// Text file with a path and, after the last space, a label per line
    #[arg(value_name = "LISTFILE")]
    list: PathBuf,
    /// Folder of the data base to make
    #[arg(value_name = "DB")]
    database: PathBuf,
    /// Kind of the data base
    #[arg(long, value_enum, default_value_t = BackendArgument::Lmdb)]
    backend: BackendArgument,
    /// Width that pictures are brought to
    #[arg(long, alias = "resize_width", value_name = "N", requires = "resize_height", value_parser = side_parser())]
    resize_width: Option<u32>,
    /// Height that pictures are brought to
    #[arg(long, alias = "resize_height", value_name = "N", requires = "resize_width", value_parser = side_parser())]
    resize_height: Option<u32>,
    /// Keep the aspect ratio: resize until the size is covered, then cut out the centre
    #[arg(long, alias = "crop", requires = "resize_width")]
    keep_aspect: bool,
    /// Store gray pictures
    #[arg(long)]
    gray: bool,
    /// Shuffle the list
    #[arg(long)]
    shuffle: bool,
    /// Seed of the shuffling
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Store picture files instead of pixels; those that need no change are stored as they are
    #[arg(long)]
    encoded: bool,
    /// Kind of the stored picture files [default: each as its file's name says]
    #[arg(
        long,
        alias = "encode_type",
        value_enum,
        value_name = "TYPE",
        requires = "encoded"
    )]
    encode_type: Option<EncodeType>,
    /// Refuse pictures whose size differs from the first one's
    #[arg(long, alias = "check_size")]
    check_size: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Kinds of picture files.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EncodeType {
    #[value(alias = "jpeg")]
    Jpg,
    Png,
}

impl EncodeType {
    fn kind(self) -> FileKind {
        match self {
            Self::Jpg => FileKind::Jpeg,
            Self::Png => FileKind::Png,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    database: &'a Path,
    records: u64,
    /// Channels, height, width of all pictures; null where they differ.
    size: Option<[u32; 3]>,
    encoded: bool,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let mut entries = image_list::read(&arguments.list)?;
    if arguments.shuffle {
        image_list::shuffle(&mut entries, arguments.seed);
    }
    let mut writer = Writer::create(&arguments.database, arguments.backend.into())?;
    let size = convert(arguments, &entries, &mut writer)?;
    let report = Report {
        database: &arguments.database,
        records: writer.finish()?,
        size,
        encoded: arguments.encoded,
    };
    if arguments.json {
        return out.json(&report);
    }
    let size = size.map_or("several sizes".to_owned(), |[c, h, w]| {
        format!("{c}x{h}x{w}")
    });
    out.line(format!(
        "{}: {} records of {size}",
        report.database.display(),
        report.records
    ));
    Ok(())
}

/// Puts the pictures of all entries in their order; returns the size that all have.
fn convert(
    arguments: &Arguments,
    entries: &[Entry],
    writer: &mut Writer,
) -> Result<Option<[u32; 3]>> {
    let bar = progress::bar("pictures", entries.len() as u64);
    let together = 4 * std::thread::available_parallelism().map_or(1, usize::from);
    let mut first: Option<(&Entry, [u32; 3])> = None;
    let mut same = true;
    let mut index = 0;
    for chunk in entries.chunks(together) {
        let made = skimjit_runtime::map(chunk, |entry| arguments.record(entry));
        for (entry, made) in chunk.iter().zip(made) {
            let at_line = |error: InputError| {
                let line = format!("{} (line {} of the list)", entry.path, entry.line);
                Error::from(error.file(line))
            };
            let (datum, size) = made.map_err(at_line)?;
            let (other, expected) = *first.get_or_insert((entry, size));
            same &= size == expected;
            if arguments.check_size && size != expected {
                return Err(at_line(other_size(size, expected, other)));
            }
            let key = format!("{index:08}_{}", entry.path);
            let value = datum.encode().map_err(at_line)?;
            writer.put(key.as_bytes(), value)?;
            index += 1;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(first.map(|(_, size)| size).filter(|_| same))
}

fn other_size([c, h, w]: [u32; 3], expected: [u32; 3], other: &Entry) -> InputError {
    let [ec, eh, ew] = expected;
    InputError::new(format!(
        "a picture of {c}x{h}x{w} (channels, height, width)"
    ))
    .expected(format!("{ec}x{eh}x{ew}, as {} has", other.path))
    .hint("bring all to one size with --resize-width and --resize-height")
}

impl Arguments {
    /// Record of a picture, and its channels, height and width.
    fn record(&self, entry: &Entry) -> skimjit_models::Result<(Datum, [u32; 3])> {
        let path = self.file(entry);
        let file = read_file(&path)?;
        let picture = Picture::decode(&file, None, ChannelOrder::Bgr)?;
        let (wanted, native) = (if self.gray { 1 } else { 3 }, picture.channels());
        let picture = if native == wanted {
            picture
        } else {
            Picture::decode(&file, Some(wanted), ChannelOrder::Bgr)?
        };
        let picture = match (self.resize_width, self.resize_height) {
            (Some(width), Some(height)) if self.keep_aspect => picture.covering(width, height)?,
            (Some(width), Some(height)) => picture.resized(width, height)?,
            _ => picture,
        };
        let size = [wanted, picture.height(), picture.width()];
        let label = Some(entry.label);
        if self.encoded {
            let own = FileKind::of(&path);
            let kind = self
                .encode_type
                .map(EncodeType::kind)
                .or(own)
                .ok_or_else(|| {
                    InputError::new("a file name without a known ending")
                        .expected(".jpg, .jpeg or .png")
                        .hint("say with --encode-type what to store")
                })?;
            let unchanged = native == wanted && self.resize_width.is_none() && own == Some(kind);
            let file = if unchanged {
                file
            } else {
                picture.encode(kind, ChannelOrder::Bgr)?
            };
            let (channels, height, width) = (0, 0, 0);
            let pixels = Pixels::Encoded(file);
            return Ok((
                Datum {
                    channels,
                    height,
                    width,
                    label,
                    pixels,
                },
                size,
            ));
        }
        let [channels, height, width] = size;
        let pixels = Pixels::U8(picture.planes());
        Ok((
            Datum {
                channels,
                height,
                width,
                label,
                pixels,
            },
            size,
        ))
    }

    /// Caffe puts both parts together as they are; here a slash is never missing.
    fn file(&self, entry: &Entry) -> PathBuf {
        let slash = self.root.is_empty() || self.root.ends_with('/') || entry.path.starts_with('/');
        let between = if slash { "" } else { "/" };
        PathBuf::from(format!("{}{between}{}", self.root, entry.path))
    }
}

fn read_file(path: &Path) -> skimjit_models::Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| {
        let error = InputError::new(error.to_string());
        error.expected(format!("a picture at {}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        let error = InputError::new(format!("a file of {size} bytes"));
        return Err(error.expected(format!("at most {MAX_FILE_BYTES}")));
    }
    std::fs::read(path).map_err(unreadable)
}

fn side_parser() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE))
}
