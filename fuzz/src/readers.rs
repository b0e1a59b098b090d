//! The readers.

use crate::{Seeds, Target, file, folder};
use skimjit::picture::{ChannelOrder, Picture};
use skimjit::{LoadOptions, Model, TuneCache, array};
use skimjit_caffe as caffe;
use skimjit_caffe::datum::Datum;
use skimjit_caffe::text;
use skimjit_data::{Feed, cifar, idx, image_list, leveldb, lmdb};
use skimjit_models::artifact::{self, Kind, Reader, Writer};
use skimjit_runtime::recipe::Recipe as PlanRecipe;
use skimjit_trainer::recipe::Recipe;
use std::path::PathBuf;

pub static TARGETS: [Target; 23] = [
    Target {
        name: "prototxt",
        read: prototxt,
        seeds: Seeds::prototxt,
    },
    Target {
        name: "solver",
        read: solver,
        seeds: Seeds::solver,
    },
    Target {
        name: "caffemodel",
        read: model,
        seeds: Seeds::caffemodel,
    },
    Target {
        name: "caffemodel_hdf5",
        read: caffemodel_hdf5,
        seeds: Seeds::caffemodel_hdf5,
    },
    Target {
        name: "solverstate",
        read: solverstate,
        seeds: Seeds::solverstate,
    },
    Target {
        name: "solverstate_hdf5",
        read: solverstate_hdf5,
        seeds: Seeds::solverstate_hdf5,
    },
    Target {
        name: "mean",
        read: mean,
        seeds: Seeds::mean,
    },
    Target {
        name: "datum",
        read: datum,
        seeds: Seeds::datum,
    },
    Target {
        name: "onnx",
        read: model,
        seeds: Seeds::onnx,
    },
    Target {
        name: "artifact",
        read: model,
        seeds: Seeds::artifact,
    },
    Target {
        name: "artifact_graph",
        read: artifact_graph,
        seeds: Seeds::artifact_graph,
    },
    Target {
        name: "artifact_weights",
        read: artifact_weights,
        seeds: Seeds::artifact_weights,
    },
    Target {
        name: "artifact_plan",
        read: artifact_plan,
        seeds: Seeds::artifact_plan,
    },
    Target {
        name: "npy",
        read: npy,
        seeds: Seeds::npy,
    },
    Target {
        name: "picture",
        read: picture,
        seeds: Seeds::picture,
    },
    Target {
        name: "lmdb",
        read: lmdb,
        seeds: Seeds::lmdb,
    },
    Target {
        name: "leveldb",
        read: leveldb,
        seeds: Seeds::leveldb,
    },
    Target {
        name: "hdf5_data",
        read: hdf5_data,
        seeds: Seeds::hdf5_data,
    },
    Target {
        name: "image_list",
        read: image_list,
        seeds: Seeds::image_list,
    },
    Target {
        name: "idx",
        read: idx,
        seeds: Seeds::idx,
    },
    Target {
        name: "cifar",
        read: cifar,
        seeds: Seeds::cifar,
    },
    Target {
        name: "recipe",
        read: recipe,
        seeds: Seeds::recipe,
    },
    Target {
        name: "tune_cache",
        read: tune_cache,
        seeds: Seeds::tune_cache,
    },
];

/// A definition, as text and as a network without weights.
fn prototxt(data: &[u8]) {
    if let Ok((net, _)) = text::net(data) {
        let _ = text::net_text(&net);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let options = LoadOptions {
            allow_missing_weights: true,
            ..LoadOptions::default()
        };
        let _ = Model::from_bytes(&[], Some(text), &options);
    }
}

fn solver(data: &[u8]) {
    if let Ok((solver, _)) = text::solver(data) {
        let _ = text::solver_text(&solver);
    }
}

/// What `Model::load` takes, by its first bytes.
fn model(data: &[u8]) {
    let _ = Model::from_bytes(data, None, &LoadOptions::default());
}

fn caffemodel_hdf5(data: &[u8]) {
    let _ = caffe::read_caffemodel(&file(".caffemodel.h5", data));
}

fn solverstate(data: &[u8]) {
    let _ = caffe::read_solverstate(&file(".solverstate", data));
}

fn solverstate_hdf5(data: &[u8]) {
    let _ = caffe::read_solverstate(&file(".solverstate.h5", data));
}

fn mean(data: &[u8]) {
    let _ = caffe::read_mean(&file(".binaryproto", data));
}

fn datum(data: &[u8]) {
    let _ = Datum::decode(data);
}

/// The graph's section, in a container with right checksums.
fn artifact_graph(data: &[u8]) {
    let mut writer = Writer::new();
    if writer
        .add(Kind::GRAPH, artifact::GRAPH_SECTION, data)
        .is_ok()
    {
        let bytes = writer.to_bytes();
        let _ = Reader::new(&bytes).and_then(|reader| artifact::read_graph(&reader));
    }
}

/// A section of weights: the first two bytes say how many there are.
fn artifact_weights(data: &[u8]) {
    if let Some((count, data)) = data.split_first_chunk() {
        let _ = artifact::weights::decode(data, usize::from(u16::from_le_bytes(*count)));
    }
}

fn artifact_plan(data: &[u8]) {
    let _ = PlanRecipe::decode(data);
}

fn npy(data: &[u8]) {
    let _ = array::parse_npy(data);
}

fn picture(data: &[u8]) {
    for channels in [None, Some(1), Some(3)] {
        let _ = Picture::decode(data, channels, ChannelOrder::Bgr);
    }
}

/// A folder of this thread with one file of a data base.
fn data_base(name: &str, data: &[u8]) -> PathBuf {
    let folder = crate::path(".folder");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder in the temporary folder");
    std::fs::write(folder.join(name), data).expect("room in the temporary folder");
    folder
}

fn lmdb(data: &[u8]) {
    let Ok(mut reader) = lmdb::Reader::open(&data_base("data.mdb", data)) else {
        return;
    };
    // A damaged tree may have circles: as many records as there are bytes are enough.
    for _ in 0..data.len() {
        match reader.next() {
            Ok(Some(record)) => drop(Datum::decode(&record.value)),
            _ => return,
        }
    }
}

/// A data base whose log of records is the data.
fn leveldb(data: &[u8]) {
    let Ok(mut reader) =
        leveldb::Reader::open(&Seeds::leveldb_with(data, &folder().join("leveldb")))
    else {
        return;
    };
    for _ in 0..data.len().min(64) {
        if reader.next().is_err() {
            return;
        }
    }
}

/// An HDF5Data layer that reads the file.
fn hdf5_data(data: &[u8]) {
    let list = file(".list", file(".h5", data).to_string_lossy().as_bytes());
    let net = format!(
        "layer {{ name: \"data\" type: \"HDF5Data\" top: \"data\" hdf5_data_param {{ source: {:?} batch_size: 2 }} }}",
        list.to_string_lossy()
    );
    if let Ok((net, _)) = text::net(net.as_bytes()) {
        let options = skimjit_data::FeedOptions::default();
        let _ = Feed::open(&net, &options).and_then(|mut feed| feed.next().map(<[_]>::len));
    }
}

fn image_list(data: &[u8]) {
    let _ = image_list::read(&file(".txt", data));
}

fn idx(data: &[u8]) {
    let path = file("-ubyte", data);
    let _ = idx::read_images(&path);
    let _ = idx::read_labels(&path);
}

fn cifar(data: &[u8]) {
    let _ = cifar::read_batch(&file(".bin", data));
}

fn recipe(data: &[u8]) {
    let _ = Recipe::read(&file(".toml", data));
}

fn tune_cache(data: &[u8]) {
    let _ = TuneCache::open(&file(".json", data));
}
