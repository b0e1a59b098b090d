//! Batches of the data layers, read and decoded ahead on threads of their own.
//!
//! Image lists only: the other data layers come with the data readers that the trainer shares, which take
//! this file's place.

use skimjit::models::caffe::proto::{ImageDataParameter, LayerParameter, NetParameter};
use skimjit::models::caffe::{limits, read_mean};
use skimjit::models::{Error, Shape, Tensor};
use skimjit::picture::{ChannelOrder, MAX_SIDE, Mean, Picture, Preprocess, Resize};
use skimjit::{Result, models};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Layer types that read files.
const READING: [&str; 5] = ["Data", "HDF5Data", "ImageData", "MemoryData", "WindowData"];
/// Most threads that read one layer's data.
const MOST_READERS: usize = 8;
/// Priority of readers: as `nice -n 19`.
const LOWEST_PRIORITY: i32 = 19;
/// Bytes of decoded pictures that are kept for the next time their turn comes.
const KEPT_BYTES: u64 = 256 << 20;
/// Largest number of images in a batch.
const MOST_IMAGES: u32 = 1 << 16;

/// The data layers of a network.
pub struct Data {
    blobs: Vec<(String, Shape)>,
    layers: Vec<Ahead>,
    waited: Duration,
}

impl Data {
    /// Opens what the data layers of `net`, the definition in the file `prototxt`, name, and starts reading.
    pub fn open(net: &NetParameter, prototxt: &Path) -> Result<Self> {
        let mut data = Self {
            blobs: vec![],
            layers: vec![],
            waited: Duration::ZERO,
        };
        let reading = |layer: &&LayerParameter| READING.contains(&layer.r#type());
        for layer in net.layer.iter().filter(reading) {
            let list = ImageList::open(layer, prototxt);
            let list = list.map_err(|error| error.layer(layer.name()).file(prototxt))?;
            data.blobs
                .extend(layer.top.iter().cloned().zip(list.shapes.iter().cloned()));
            data.layers.push(Ahead::start(list)?);
        }
        Ok(data)
    }
    /// Names and shapes of what a batch consists of.
    pub fn blobs(&self) -> &[(String, Shape)] {
        &self.blobs
    }
    /// The next batch, after the last image the first again.
    pub fn next(&mut self) -> Result<Vec<Tensor>> {
        let started = Instant::now();
        let mut batch = Vec::with_capacity(self.blobs.len());
        for layer in &mut self.layers {
            batch.extend(layer.next()?);
        }
        self.waited += started.elapsed();
        Ok(batch)
    }
    /// Time that [`Data::next`] took so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// A layer's batches in their order: reader k of n makes batches k, k + n and so on.
struct Ahead {
    readers: Vec<Reader>,
    next: usize,
}

struct Reader {
    batches: Receiver<models::Result<Vec<Tensor>>>,
    thread: JoinHandle<()>,
}

impl Ahead {
    fn start(list: ImageList) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = cores.min(MOST_READERS);
        let list = Arc::new(list);
        let start = |first: usize| {
            // One batch that waits, and one that is being made.
            let (sender, batches) = sync_channel(1);
            let list = Arc::clone(&list);
            let work = move || {
                // Where a machine has no core to spare, a team whose members wait for one that a reader
                // displaced loses more than the reader gains. Without the right to, it is as it was.
                let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
                let numbers = (first..).step_by(count);
                // Ends when nobody takes batches any more.
                let _ = numbers
                    .map(|number| sender.send(list.batch(number)))
                    .find(|sent| sent.is_err());
            };
            let name = format!("data-{first}");
            let thread = std::thread::Builder::new().name(name).spawn(work);
            let thread = thread.map_err(|error| {
                Error::new(format!("no thread to read data ({error})")).expected("a thread")
            })?;
            Ok::<_, Error>(Reader { batches, thread })
        };
        let readers = (0..count).map(start).collect::<models::Result<Vec<_>>>()?;
        Ok(Self { readers, next: 0 })
    }
    fn next(&mut self) -> models::Result<Vec<Tensor>> {
        let reader = &self.readers[self.next];
        self.next = (self.next + 1) % self.readers.len();
        let batch = reader.batches.recv();
        batch.unwrap_or_else(|_| Err(Error::new("a reader of data that stopped")))
    }
}

impl Drop for Ahead {
    /// Nothing is read any more when this is done.
    fn drop(&mut self) {
        let readers = self.readers.drain(..);
        // A reader ends when its channel does.
        let threads: Vec<_> = readers.map(|reader| reader.thread).collect();
        // One that panicked has nobody left to tell.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// A picture in a list.
struct Item {
    file: PathBuf,
    label: f32,
    /// Decoded and resized, if there is memory for it.
    kept: OnceLock<Picture>,
}

/// Pictures that a text file lists, with a label each.
struct ImageList {
    layer: String,
    items: Vec<Item>,
    /// Bytes of pictures that are kept.
    kept: AtomicU64,
    batch: u32,
    /// Channels, height and width of a network input.
    input: [u32; 3],
    /// Of the tops.
    shapes: Vec<Shape>,
    preprocess: Preprocess,
}

impl ImageList {
    fn open(layer: &LayerParameter, prototxt: &Path) -> models::Result<Self> {
        let Some(param) = layer.image_data_param.as_deref() else {
            return Err(Error::new(format!("a {} layer", layer.r#type()))
                .field("type")
                .expected("an ImageData layer")
                .hint("make a list of images with labels and read it with ImageData"));
        };
        refuse_random(layer, param)?;
        if !(1..=2).contains(&layer.top.len()) {
            return Err(Error::new(format!("{} tops", layer.top.len()))
                .field("top")
                .expected("images, or images and labels"));
        }
        let batch = param.batch_size();
        if !(1..=MOST_IMAGES).contains(&batch) {
            return Err(Error::new(batch.to_string())
                .field("image_data_param.batch_size")
                .expected(format!("1 to {MOST_IMAGES}")));
        }
        let mut list = Self {
            layer: layer.name().to_owned(),
            items: items(param, prototxt)?,
            kept: AtomicU64::new(0),
            batch,
            input: [if param.is_color() { 3 } else { 1 }, 0, 0],
            shapes: vec![],
            preprocess: preprocess(layer, param, prototxt)?,
        };
        list.measure(layer.top.len())?;
        Ok(list)
    }

    /// The size of the first picture, resized and cropped, is that of all.
    fn measure(&mut self, tops: usize) -> models::Result<()> {
        let [width, height] = match (self.preprocess.crop, self.preprocess.resize) {
            (Some(side), _) => [side, side],
            (None, Some(Resize::Exact(width, height))) => [width, height],
            _ => {
                let first = self.decoded(&self.items[0])?;
                [first.width(), first.height()]
            }
        };
        let channels = self.input[0];
        self.input = [channels, height, width];
        let dims: [&[u32]; 2] = [&[self.batch, channels, height, width], &[self.batch]];
        self.shapes = dims
            .into_iter()
            .take(tops)
            .map(Shape::new)
            .collect::<models::Result<_>>()?;
        Ok(())
    }

    fn decoded(&self, item: &Item) -> models::Result<Picture> {
        let picture = Picture::open(&item.file, self.input[0], ChannelOrder::Bgr)?;
        match self.preprocess.resize {
            Some(Resize::Exact(width, height)) => picture.resized(width, height),
            _ => Ok(picture),
        }
    }

    /// Puts the network's input for a picture behind `pixels`.
    fn append(&self, item: &Item, pixels: &mut Vec<f32>) -> models::Result<()> {
        if let Some(picture) = item.kept.get() {
            return self.preprocess.append(picture, self.input, pixels);
        }
        let picture = self.decoded(item)?;
        self.preprocess.append(&picture, self.input, pixels)?;
        let bytes = picture.data().len() as u64;
        if self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT_BYTES {
            // Another reader may have been first, with the same pixels.
            let _ = item.kept.set(picture);
        }
        Ok(())
    }

    fn batch(&self, number: usize) -> models::Result<Vec<Tensor>> {
        let mut pixels = Vec::with_capacity(self.shapes[0].count());
        let mut labels = vec![];
        for image in 0..self.batch as usize {
            let item = &self.items[(number * self.batch as usize + image) % self.items.len()];
            let at_item = |error: Error| error.file(&item.file).layer(&*self.layer);
            self.append(item, &mut pixels).map_err(at_item)?;
            labels.push(item.label);
        }
        let data = [pixels, labels].into_iter();
        let tensors = self.shapes.iter().cloned().zip(data);
        Ok(tensors
            .map(|(shape, data)| Tensor::new(shape, data))
            .collect())
    }
}

/// What would make two tests of one network differ.
fn refuse_random(layer: &LayerParameter, param: &ImageDataParameter) -> models::Result<()> {
    let mirror = layer.transform_param.as_deref().is_some_and(|t| t.mirror());
    let given = [
        (param.shuffle(), "image_data_param.shuffle"),
        (param.rand_skip() > 0, "image_data_param.rand_skip"),
        (mirror, "transform_param.mirror"),
    ];
    match given.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, field)) => Err(Error::new("chance").field(*field).expected(
            "nothing random, so that a test of a network gives the same result every time",
        )),
    }
}

fn preprocess(
    layer: &LayerParameter,
    param: &ImageDataParameter,
    prototxt: &Path,
) -> models::Result<Preprocess> {
    let transform = layer
        .transform_param
        .as_deref()
        .cloned()
        .unwrap_or_default();
    let mean = match (&transform.mean_file, transform.mean_value.as_slice()) {
        (None, []) => Mean::None,
        (None, values) => Mean::Values(values.to_vec()),
        (Some(file), []) => Mean::Image(read_mean(&found(file, prototxt))?),
        (Some(_), _) => {
            return Err(Error::new("mean_file and mean_value")
                .field("transform_param.mean_file")
                .expected("one of them"));
        }
    };
    let sides = [param.new_width(), param.new_height()];
    let resize = match sides {
        [0, 0] => None,
        [width, height] if sides.iter().all(|side| (1..=MAX_SIDE).contains(side)) => {
            Some(Resize::Exact(width, height))
        }
        [width, height] => {
            return Err(Error::new(format!("{width}x{height}"))
                .field("image_data_param.new_width")
                .expected(format!("width and height of 1 to {MAX_SIDE}, or neither")));
        }
    };
    Ok(Preprocess {
        channel_order: ChannelOrder::Bgr,
        resize,
        crop: Some(transform.crop_size()).filter(|&side| side > 0),
        mean,
        scale: transform.scale(),
    })
}

/// A file as it is named, or beside the definition.
fn found(file: &str, prototxt: &Path) -> PathBuf {
    let beside = prototxt.parent().map(|folder| folder.join(file));
    match (Path::new(file).exists(), beside) {
        (false, Some(beside)) if beside.exists() => beside,
        _ => PathBuf::from(file),
    }
}

/// Lines of a path and, after the last space, a label.
fn items(param: &ImageDataParameter, prototxt: &Path) -> models::Result<Vec<Item>> {
    let source = found(param.source(), prototxt);
    let unreadable = |text: String| {
        let error = Error::new(text)
            .file(&source)
            .field("image_data_param.source");
        error.expected("a text file with a path and a label per line")
    };
    let size = std::fs::metadata(&source).map_or(0, |file| file.len());
    if size > limits::MAX_TEXT_BYTES as u64 {
        return Err(unreadable(format!("{size} bytes")));
    }
    let text = std::fs::read_to_string(&source).map_err(|error| unreadable(error.to_string()))?;
    let mut items = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let item = line.trim_end().rsplit_once(' ');
        let item = item.and_then(|(path, label)| Some((path, label.parse::<i32>().ok()?)));
        let Some((path, label)) = item else {
            return Err(unreadable(format!("line {}: {line:?}", number + 1)));
        };
        let file = format!("{}{path}", param.root_folder());
        items.push(Item {
            file: found(&file, prototxt),
            label: label as f32,
            kept: OnceLock::new(),
        });
    }
    match items.is_empty() {
        true => Err(unreadable("no lines".to_owned())),
        false => Ok(items),
    }
}
