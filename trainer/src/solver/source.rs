//! Networks with their data.

use crate::net::Net;
use skimjit_caffe::{Definition, Weights};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error, Result};

/// A network with its data.
pub struct Fed {
    /// The network.
    pub net: Net,
    /// Its batches.
    pub feed: Feed,
    /// For each input of the network, the number of its blob in the feed.
    pub order: Vec<usize>,
}

/// How a network is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions<'a> {
    /// Weights, later ones over earlier ones.
    pub weights: &'a [Weights],
    /// Seed of fillers and of data.
    pub seed: u64,
    /// Batches that are left out.
    pub skip: u64,
}

/// Opens the data of a definition and builds its network.
pub fn build(definition: &Definition, options: &BuildOptions<'_>) -> Result<Fed> {
    let build = || {
        let feed = feed(definition, options.seed, options.skip)?;
        let net = Net::new(definition, options.weights, feed.blobs(), options.seed)?;
        let order = order(&net, &feed)?;
        Ok(Fed { net, feed, order })
    };
    build().map_err(|error: Error| error.file(definition.file()))
}

/// Opens the data of a definition, less so many batches.
pub fn feed(definition: &Definition, seed: u64, skip: u64) -> Result<Feed> {
    let options = FeedOptions {
        seed,
        ahead: 2,
        skip,
        ..FeedOptions::default()
    };
    Feed::of(definition, options).map_err(|error| error.file(definition.file()))
}

/// For each input of the network, the number of its blob in the feed.
pub fn order(net: &Net, feed: &Feed) -> Result<Vec<usize>> {
    let place = |&id: &skimjit_models::ValueId| {
        let name = &net.graph.value(id).name;
        let found = feed.blobs().iter().position(|blob| blob.name == *name);
        found.ok_or_else(|| {
            Error::new(format!("input {name:?} without data"))
                .expected("a Data, ImageData, HDF5Data or DummyData layer of that phase")
                .hint("give the train_val prototxt, not the deploy prototxt")
        })
    };
    net.graph.inputs.iter().map(place).collect()
}
