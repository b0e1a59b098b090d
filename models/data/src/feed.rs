//! All data layers of a network, read and decoded ahead.

use crate::random::Random;
use crate::source::{DataBase, Decoding, Hdf5List, ImageList, Item, Raw, Source};
use crate::transform::{Transform, find};
use skimjit_caffe::proto::{LayerParameter, NetParameter};
use skimjit_caffe::{Definition, Phase};
use skimjit_host::memory;
use skimjit_models::{Error, Result, Shape, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Layer types that read files.
const READING: [&str; 4] = ["Data", "HDF5Data", "ImageData", "WindowData"];
/// Most threads that decode one layer's data.
const MOST_READERS: usize = 8;
/// Priority of readers: as `nice -n 19`.
const LOWEST_PRIORITY: i32 = 19;
/// Bytes of decoded images that are kept for the next time their turn comes.
const KEPT_BYTES: u64 = 256 << 20;
/// Largest number of images in a batch.
const MOST_IMAGES: u32 = 1 << 16;

/// How data are read.
#[derive(Clone, Debug)]
pub struct FeedOptions {
    /// Windows are cut out at random places in training, from the middle in tests.
    pub phase: Phase,
    /// Seed of all that is random.
    pub seed: u64,
    /// Folder of the definition: files are looked for from the working folder, then from here.
    pub folder: Option<PathBuf>,
    /// Batches that wait, decoded, per thread.
    pub ahead: usize,
    /// Threads that decode each layer's data; 0: one per core.
    pub readers: usize,
    /// Batches that are left out at the start, for training that goes on.
    pub skip: u64,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self {
            phase: Phase::Test,
            seed: 0,
            folder: None,
            ahead: 1,
            readers: 0,
            skip: 0,
        }
    }
}

/// A top of a data layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Name.
    pub name: String,
    /// Shape of a batch.
    pub shape: Shape,
}

/// Batches of all data layers of a network. Dropping it ends its threads.
pub struct Feed {
    blobs: Vec<Blob>,
    layers: Vec<Ahead>,
    batch: Vec<Tensor>,
    waited: Duration,
}

impl Feed {
    /// Opens what the data layers of a definition, in its state, name. Its phase and folder go before those of the
    /// options.
    pub fn of(definition: &Definition, options: FeedOptions) -> Result<Self> {
        let options = FeedOptions {
            phase: definition.phase(),
            folder: Some(definition.folder().to_owned()),
            ..options
        };
        Self::open(&definition.layers()?, &options)
    }

    /// Opens what the data layers of `net`, already filtered by phase, name, and starts reading.
    pub fn open(net: &NetParameter, options: &FeedOptions) -> Result<Self> {
        let mut feed = Self {
            blobs: vec![],
            layers: vec![],
            batch: vec![],
            waited: Duration::ZERO,
        };
        let reading = net
            .layer
            .iter()
            .filter(|layer| READING.contains(&layer.r#type()));
        for (number, layer) in reading.enumerate() {
            let opened = Layer::open(layer, number as u64, options);
            let opened = opened.map_err(|error| error.layer(layer.name()))?;
            feed.blobs.extend(opened.blobs.iter().cloned());
            feed.layers.push(Ahead::start(opened, options)?);
        }
        Ok(feed)
    }

    /// Names and shapes of what a batch consists of, in the order of the layers.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The next batch, one tensor per blob; after the last item of a source comes the first again. After
    /// an error there are no further batches.
    #[allow(
        clippy::should_implement_trait,
        reason = "it lends, or it fails: no iterator"
    )]
    pub fn next(&mut self) -> Result<&[Tensor]> {
        let started = Instant::now();
        let mut used = std::mem::take(&mut self.batch).into_iter();
        for layer in &mut self.layers {
            let count = layer.layer.blobs.len();
            layer.layer.recycle(used.by_ref().take(count));
            self.batch.extend(layer.next()?);
        }
        self.waited += started.elapsed();
        Ok(&self.batch)
    }

    /// Time that [`Feed::next`] took so far: what reading costs the network.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// A data layer.
struct Layer {
    name: String,
    blobs: Vec<Blob>,
    batch: u32,
    number: u64,
    seed: u64,
    kind: Kind,
    /// File or folder, for errors.
    path: PathBuf,
    /// Only the order of items is decided under the lock.
    queue: Mutex<Queue>,
    /// Memory of batches that were used: pages that are new cost as much as the pixels in them.
    spare: Mutex<Vec<Vec<f32>>>,
}

struct Queue {
    source: Box<dyn Source>,
    /// The first item, which was looked at to see how large it is.
    first: Option<Raw>,
    /// Number of the next batch.
    next: u64,
}

impl Queue {
    fn item(&mut self) -> Result<Raw> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => self.source.next(),
        }
    }
    fn skip(&mut self, batches: u64, batch: u32) -> Result<()> {
        self.next = batches;
        let mut items = batches.saturating_mul(batch.into());
        if items > 0 && self.first.take().is_some() {
            items -= 1;
        }
        self.source.skip(items)
    }
}

enum Kind {
    Images(Box<Images>),
    Rows,
}

struct Images {
    transform: Transform,
    decoding: Decoding,
    /// Channels, height, width of an input.
    input: [u32; 3],
    /// Decoded images by their place in the data set, as far as there is memory for them.
    kept: Vec<OnceLock<Item>>,
    kept_bytes: AtomicU64,
}

fn fault(field: &str, found: String) -> Error {
    Error::new(found).field(field)
}

impl Layer {
    fn open(layer: &LayerParameter, number: u64, options: &FeedOptions) -> Result<Self> {
        let random = Random::new(options.seed, number, u64::MAX);
        let folder = options.folder.as_deref();
        match layer.r#type() {
            "Data" => Self::data(layer, number, options),
            "ImageData" => {
                let param = layer
                    .image_data_param
                    .as_deref()
                    .cloned()
                    .unwrap_or_default();
                let source = ImageList::open(&param, folder, random)?;
                let sides = [param.new_width(), param.new_height()];
                if sides.contains(&0) && sides != [0, 0] {
                    let found = format!("{}x{}", sides[0], sides[1]);
                    return Err(fault("image_data_param.new_width", found)
                        .expected("a width and a height, or neither"));
                }
                let decoding = Decoding {
                    channels: Some(if param.is_color() { 3 } else { 1 }),
                    resize: (sides != [0, 0]).then_some(sides),
                };
                let field = "image_data_param.batch_size";
                let batch = checked_batch(param.batch_size(), field)?;
                Self::images(layer, number, options, Box::new(source), decoding, batch)
            }
            "HDF5Data" => Self::rows(layer, number, options, random),
            kind => Err(fault("type", format!("a {kind} layer"))
                .expected("a Data, ImageData or HDF5Data layer")
                .hint("cut the windows out and list them as pictures")),
        }
    }

    fn data(layer: &LayerParameter, number: u64, options: &FeedOptions) -> Result<Self> {
        let param = layer.data_param.as_deref().cloned().unwrap_or_default();
        let batch = checked_batch(param.batch_size(), "data_param.batch_size")?;
        let path = find(param.source(), options.folder.as_deref());
        let source = DataBase::open(&path, param.backend())?;
        let force = param.force_encoded_color().then_some(3);
        let decoding = Decoding {
            channels: force,
            resize: None,
        };
        Self::images(layer, number, options, Box::new(source), decoding, batch)
    }

    fn images(
        layer: &LayerParameter,
        number: u64,
        options: &FeedOptions,
        mut source: Box<dyn Source>,
        mut decoding: Decoding,
        batch: u32,
    ) -> Result<Self> {
        if !(1..=2).contains(&layer.top.len()) {
            return Err(fault("top", format!("{} tops", layer.top.len()))
                .expected("images, or images and labels"));
        }
        let param = layer
            .transform_param
            .as_deref()
            .cloned()
            .unwrap_or_default();
        let folder = options.folder.as_deref();
        let transform = Transform::new(&param, options.phase, |name| find(name, folder))?;
        decoding.channels = transform.channels().or(decoding.channels);
        let path = source.path().to_owned();
        // The first image says how large all are.
        let raw = source.next()?;
        let first = decoding.decode(raw.clone(), &path)?;
        let input = transform.output(first.image.dims());
        let shapes = [
            Shape::new([batch, input[0], input[1], input[2]])?,
            Shape::new([batch])?,
        ];
        let kept = if first.decoded {
            source.len().unwrap_or(0)
        } else {
            0
        };
        let kind = Kind::Images(Box::new(Images {
            transform,
            decoding,
            input,
            kept: (0..kept.min(1 << 20)).map(|_| OnceLock::new()).collect(),
            kept_bytes: AtomicU64::new(0),
        }));
        let queue = Queue {
            source,
            first: Some(raw),
            next: 0,
        };
        Self::new(layer, number, options, queue, kind, batch, &shapes)
    }

    fn rows(
        layer: &LayerParameter,
        number: u64,
        options: &FeedOptions,
        random: Random,
    ) -> Result<Self> {
        if layer.transform_param.is_some() {
            return Err(fault("transform_param", "a transformation".into())
                .expected("none: HDF5Data layers give the values as they are"));
        }
        let param = layer
            .hdf5_data_param
            .as_deref()
            .cloned()
            .unwrap_or_default();
        let batch = checked_batch(param.batch_size(), "hdf5_data_param.batch_size")?;
        let source = Hdf5List::open(&param, &layer.top, options.folder.as_deref(), random)?;
        let shape = |row: &Vec<u32>| {
            let dims: Vec<u32> = std::iter::once(batch).chain(row.iter().copied()).collect();
            Shape::new(dims)
        };
        let shapes = source
            .rows()
            .iter()
            .map(shape)
            .collect::<Result<Vec<Shape>>>()?;
        let queue = Queue {
            source: Box::new(source),
            first: None,
            next: 0,
        };
        Self::new(layer, number, options, queue, Kind::Rows, batch, &shapes)
    }

    fn new(
        layer: &LayerParameter,
        number: u64,
        options: &FeedOptions,
        mut queue: Queue,
        kind: Kind,
        batch: u32,
        shapes: &[Shape],
    ) -> Result<Self> {
        let blob = |(name, shape): (&String, &Shape)| Blob {
            name: name.clone(),
            shape: shape.clone(),
        };
        // The batch that is used and those that are read ahead.
        let batches = options.ahead.max(1) as u64 + 1;
        let counts = shapes.iter().map(|shape| shape.count() as u64);
        let bytes = size_of::<f32>() as u64 * counts.sum::<u64>();
        memory::check(bytes.saturating_mul(batches)).map_err(|error| {
            let error = Error::from(error).field("batch_size");
            error.hint("a smaller batch needs less; --memory-limit allows more")
        })?;
        queue.skip(options.skip, batch)?;
        Ok(Self {
            name: layer.name().to_owned(),
            blobs: layer.top.iter().zip(shapes).map(blob).collect(),
            batch,
            number,
            seed: options.seed,
            kind,
            path: queue.source.path().to_owned(),
            queue: Mutex::new(queue),
            spare: Mutex::default(),
        })
    }

    /// The next batch and its number.
    fn make(&self) -> (u64, Result<Vec<Tensor>>) {
        let (number, items) = self.take();
        let made = items.and_then(|items| match &self.kind {
            Kind::Images(images) => self.images_of(images, number, items),
            Kind::Rows => self.rows_of(items),
        });
        (number, made.map_err(|error| error.layer(&*self.name)))
    }

    /// Takes back the memory of a batch: of its first blob, which is the large one.
    fn recycle(&self, batch: impl Iterator<Item = Tensor>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let first = batch.into_iter().next();
        spare.extend(first.map(Tensor::into_data));
    }

    /// An empty vector for so many elements.
    fn vector(&self, count: usize) -> Vec<f32> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vector = spare.pop().unwrap_or_default();
        vector.clear();
        vector.reserve_exact(count);
        vector
    }

    fn take(&self) -> (u64, Result<Vec<Raw>>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let number = queue.next;
        queue.next += 1;
        let items = (0..self.batch).map(|_| queue.item());
        (number, items.collect())
    }

    fn images_of(&self, images: &Images, number: u64, items: Vec<Raw>) -> Result<Vec<Tensor>> {
        let count: usize = self.blobs[0].shape.count();
        let (mut pixels, mut labels) = (self.vector(count), vec![]);
        let wants_labels = self.blobs.len() > 1;
        for (place, raw) in items.into_iter().enumerate() {
            let index = number * u64::from(self.batch) + place as u64;
            let name = record(&raw);
            let mut random = Random::new(self.seed, self.number, index);
            let label = images.append(raw, index, &self.path, &mut random, &mut pixels);
            let label = label.map_err(|error| named(error, &name, &self.path))?;
            match label {
                Some(label) => labels.push(label),
                None if wants_labels => {
                    let error = Error::new("no label").expected("one, for the second top");
                    return Err(named(error, &name, &self.path));
                }
                None => {}
            }
        }
        let tensors = self.blobs.iter().zip([pixels, labels]);
        Ok(tensors
            .map(|(blob, data)| Tensor::new(blob.shape.clone(), data))
            .collect())
    }

    fn rows_of(&self, items: Vec<Raw>) -> Result<Vec<Tensor>> {
        let mut data: Vec<Vec<f32>> = self
            .blobs
            .iter()
            .map(|blob| Vec::with_capacity(blob.shape.count()))
            .collect();
        for item in items {
            if let Raw::Rows(rows) = item {
                data.iter_mut()
                    .zip(rows)
                    .for_each(|(data, row)| data.extend(row));
            }
        }
        let tensors = self.blobs.iter().zip(data);
        Ok(tensors
            .map(|(blob, data)| Tensor::new(blob.shape.clone(), data))
            .collect())
    }
}

/// What an item is called in errors.
fn record(raw: &Raw) -> String {
    match raw {
        Raw::Datum { key, .. } => format!("record {key}"),
        Raw::Picture { file, .. } => file.display().to_string(),
        Raw::Rows(_) => String::new(),
    }
}

fn named(error: Error, record: &str, path: &Path) -> Error {
    let field = match &error.field {
        Some(field) if field.starts_with("record ") => field.clone(),
        Some(field) => format!("{record}: {field}"),
        None => record.to_owned(),
    };
    Error {
        field: Some(field),
        ..error
    }
    .file(path)
}

fn checked_batch(batch: u32, field: &str) -> Result<u32> {
    match batch {
        1..=MOST_IMAGES => Ok(batch),
        _ => Err(fault(field, batch.to_string()).expected(format!("1 to {MOST_IMAGES}"))),
    }
}

impl Images {
    /// Puts the input for an item behind `pixels`; returns its label.
    fn append(
        &self,
        raw: Raw,
        index: u64,
        path: &Path,
        random: &mut Random,
        pixels: &mut Vec<f32>,
    ) -> Result<Option<f32>> {
        let place = match self.kept.len() {
            0 => None,
            len => self.kept.get((index % len as u64) as usize),
        };
        if let Some(item) = place.and_then(OnceLock::get) {
            self.append_item(item, random, pixels)?;
            return Ok(item.label);
        }
        let item = self.decoding.decode(raw, path)?;
        self.append_item(&item, random, pixels)?;
        let label = item.label;
        if let Some(place) = place {
            let bytes = item.image.bytes();
            if self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT_BYTES {
                // Another reader may have been first, with the same pixels.
                let _ = place.set(item);
            }
        }
        Ok(label)
    }

    fn append_item(&self, item: &Item, random: &mut Random, pixels: &mut Vec<f32>) -> Result<()> {
        let found = self.transform.output(item.image.dims());
        if found != self.input {
            let dims = |[c, h, w]: [u32; 3]| format!("{c}x{h}x{w}");
            return Err(Error::new(format!(
                "an image of {} (channels, height, width)",
                dims(item.image.dims())
            ))
            .expected(format!("{}, like the first one", dims(self.input)))
            .hint("bring all images to one size, or cut them with crop_size"));
        }
        self.transform.append(&item.image, random, pixels)
    }
}

type Batch = (u64, Result<Vec<Tensor>>);

/// Threads that make a layer's batches.
struct Ahead {
    layer: Arc<Layer>,
    batches: Option<Receiver<Batch>>,
    /// Batches that were ready before their turn.
    early: BTreeMap<u64, Result<Vec<Tensor>>>,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

impl Ahead {
    fn start(layer: Layer, options: &FeedOptions) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = match options.readers {
            0 => cores.min(MOST_READERS),
            readers => readers.min(MOST_READERS),
        };
        let layer = Arc::new(layer);
        let (sender, batches) = sync_channel(options.ahead.max(1));
        let start = |number: usize| {
            let (layer, sender) = (Arc::clone(&layer), sender.clone());
            let thread = std::thread::Builder::new().name(format!("data-{number}"));
            thread
                .spawn(move || work(&layer, &sender))
                .map_err(|error| {
                    Error::new(format!("no thread to read data ({error})")).expected("a thread")
                })
        };
        let threads = (0..readers).map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            layer,
            batches: Some(batches),
            early: BTreeMap::new(),
            next: options.skip,
            threads,
        })
    }

    fn next(&mut self) -> Result<Vec<Tensor>> {
        while !self.early.contains_key(&self.next) {
            let received = self
                .batches
                .as_ref()
                .and_then(|batches| batches.recv().ok());
            let Some((number, batch)) = received else {
                return Err(Error::new("a reader of data that stopped"));
            };
            self.early.insert(number, batch);
        }
        let batch = self.early.remove(&self.next);
        self.next += 1;
        let batch = batch.unwrap_or_else(|| Err(Error::new("a batch that is missing")));
        if batch.is_err() {
            // What comes behind an error has no defined place.
            self.batches = None;
            self.early.clear();
        }
        batch
    }
}

/// Makes batches until nobody takes them any more, or one fails.
fn work(layer: &Layer, sender: &SyncSender<Batch>) {
    // Where a machine has no core to spare, a team whose members wait for one that a reader displaced
    // loses more than the reader gains. Without the right to, it is as it was.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    loop {
        let batch = layer.make();
        let failed = batch.1.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

impl Drop for Ahead {
    /// Nothing is read any more when this is done.
    fn drop(&mut self) {
        self.batches = None;
        for thread in self.threads.drain(..) {
            // One that panicked has nobody left to tell.
            let _ = thread.join();
        }
    }
}
