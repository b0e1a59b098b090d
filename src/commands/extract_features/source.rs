//! Where the images come from: files, or the network's own data layers.

use crate::support::args::CareArguments;
use crate::support::inputs::{self, Item, PictureArguments, Preparation, Sizes};
use skimjit::{Model, Result};
use skimjit_caffe::{Definition, Phase, unknown};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error as InputError, Shape, Tensor};
use skimjit_runtime::Port;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Images, batch by batch.
pub enum Source {
    Files(Files),
    Layers(Layers),
}

/// Pictures and arrays.
pub struct Files {
    items: VecDeque<Item>,
    images: u32,
    /// Known when the network is.
    preparation: Option<Preparation>,
    /// Elements of images that no batch has yet.
    waiting: Vec<f32>,
}

/// Data layers of the test phase.
pub struct Layers {
    feed: Feed,
    batches: u32,
    left: u32,
}

impl Source {
    /// Opens files.
    pub fn files(files: &[PathBuf], pictures: &PictureArguments) -> Result<Self> {
        let items = files.iter().map(|file| Item::open(file));
        let items = items.collect::<Result<VecDeque<Item>>>()?;
        if !items.iter().any(Item::is_picture) {
            pictures.refuse_without_pictures()?;
        }
        Ok(Self::Files(Files {
            images: items.iter().map(Item::images).sum(),
            preparation: None,
            items,
            waiting: Vec::new(),
        }))
    }

    /// Prepares pictures as the network says and the arguments change.
    pub fn prepare(&mut self, model: &Model, pictures: &PictureArguments) -> Result<()> {
        if let Self::Files(files) = self {
            let mut preparation = pictures.prepare(model, Sizes::Network)?;
            if files.items.iter().any(Item::is_picture) {
                preparation.announce();
            }
            files.preparation = Some(preparation);
        }
        Ok(())
    }

    /// Opens what the data layers of a definition name. What is odd about it is printed when the
    /// network is read.
    pub fn layers(prototxt: &Path, care: CareArguments, batches: u32) -> Result<Self> {
        let net = Definition::read(prototxt, care.care(), &mut |_| ())?;
        let net = net.in_phase(Phase::Test);
        let feed = net.layers().and_then(|layers| {
            unknown::refuse_in_layers(&layers)?;
            Feed::of(&net, FeedOptions::default())
        });
        let feed = feed.map_err(|error| error.file(prototxt))?;
        if feed.blobs().is_empty() {
            let error = InputError::new("no data layer in the test phase").file(prototxt);
            let error = error.expected("a layer that reads data, like Data or ImageData");
            return Err(error.hint("or give pictures or arrays with --input").into());
        }
        let left = batches;
        Ok(Self::Layers(Layers {
            feed,
            batches,
            left,
        }))
    }

    /// Names and shapes of the data layers' blobs.
    pub fn shapes(&self) -> Vec<(String, Shape)> {
        match self {
            Self::Files(_) => vec![],
            Self::Layers(layers) => {
                let blobs = layers.feed.blobs().iter();
                blobs
                    .map(|blob| (blob.name.clone(), blob.shape.clone()))
                    .collect()
            }
        }
    }

    /// Images computed together, where nothing else says it.
    pub fn usual_batch(&self, model: &Model) -> Option<u32> {
        match self {
            Self::Files(files) if !model.combines_images() => {
                Some(files.images.clamp(1, inputs::USUAL_BATCH))
            }
            _ => None,
        }
    }

    /// Images in all.
    pub fn images(&self, batch: usize) -> u64 {
        match self {
            Self::Files(files) => files.images.into(),
            Self::Layers(layers) => u64::from(layers.batches) * batch as u64,
        }
    }

    /// Refuses networks whose inputs would not all be filled.
    pub fn check(&self, model: &Model, prototxt: &Path) -> Result<()> {
        let graph = model.graph();
        let mut names = graph.inputs.iter().map(|&id| &graph.value(id).name);
        let error = |found: String| InputError::new(found).file(prototxt);
        match self {
            Self::Files(_) if names.len() == 1 => Ok(()),
            Self::Files(_) => Err(error(format!("{} inputs", names.len()))
                .expected("a network of one input")
                .hint("run has --input NAME=FILE and --dump-blob NAME=FILE for such networks")
                .into()),
            Self::Layers(layers) => {
                let blobs = layers.feed.blobs();
                let fed = |name: &&String| blobs.iter().any(|blob| blob.name == **name);
                match names.find(|name| !fed(name)) {
                    None => Ok(()),
                    Some(name) => Err(error(format!("input {name:?}, which no data layer fills"))
                        .expected("data layers for all inputs")
                        .into()),
                }
            }
        }
    }

    /// The inputs of the next batch, in the order of `ports`; `None` after the last.
    pub fn next(&mut self, ports: &[Port], batch: usize) -> Result<Option<Vec<Tensor>>> {
        match self {
            Self::Files(files) => files.next(&ports[0].shape, batch),
            Self::Layers(layers) => layers.next(ports),
        }
    }
}

impl Files {
    fn next(&mut self, port: &Shape, batch: usize) -> Result<Option<Vec<Tensor>>> {
        let row = port.count() / batch;
        let preprocess = self
            .preparation
            .as_ref()
            .map(|preparation| &preparation.preprocess);
        let preprocess = preprocess.cloned().unwrap_or_default();
        while self.waiting.len() < batch * row
            && let Some(item) = self.items.pop_front()
        {
            let elements = item.elements(port, &preprocess)?;
            self.waiting.extend(elements);
        }
        let count = (self.waiting.len() / row).min(batch);
        if count == 0 {
            return Ok(None);
        }
        let rest = self.waiting.split_off(count * row);
        let rows = std::mem::replace(&mut self.waiting, rest);
        let shape = Shape::new(port.with_batch(count as u32).dims())?;
        Ok(Some(vec![Tensor::new(shape, rows)]))
    }
}

impl Layers {
    fn next(&mut self, ports: &[Port]) -> Result<Option<Vec<Tensor>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let place = |port: &Port| {
            let mut blobs = self.feed.blobs().iter();
            blobs.position(|blob| blob.name == port.name)
        };
        let places: Vec<usize> = ports.iter().filter_map(place).collect();
        let batch = self.feed.next()?;
        Ok(Some(
            places.iter().map(|&place| batch[place].clone()).collect(),
        ))
    }
}
