//! Which layers of a network the weights of files belong to: names decide, as in Caffe.

use crate::net::Net;
use skimjit_caffe::Weights;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Names that a message lists at most.
const MOST_NAMES: usize = 8;

/// Whether a file is an ONNX model, as its first bytes tell. What cannot be read is told by who reads all of it.
pub fn is_onnx(path: &Path) -> bool {
    const START: u64 = 1 << 16;
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let mut start = Vec::new();
    let read = is_file
        && File::open(path)
            .and_then(|file| file.take(START).read_to_end(&mut start))
            .is_ok();
    read && skimjit_onnx::is_model(&start)
}

/// Reads a caffemodel of any form.
pub fn read(path: &Path) -> Result<Weights> {
    if is_onnx(path) {
        return Err(Error::new("an ONNX model")
            .file(path)
            .expected("a caffemodel, of a Caffe network: an ONNX model has neither losses nor labels to train by")
            .hint("skimjit-train oneshot prunes it without training, by some pictures"));
    }
    Weights::read(path)
}

/// Compares the weights of files with the parameters of a network. A file of which no layer matches is an
/// error; what matches in part is told: layers that are left to their fillers, and layers of files that
/// nothing uses.
pub fn compare(net: &Net, files: &[(&Path, &Weights)]) -> Result<Vec<String>> {
    let owners = owners(net);
    let names: Vec<&str> = owners.iter().map(|users| users[0]).collect();
    let mut told = Vec::new();
    for (path, file) in files {
        let stored = stored(file);
        let used = |name: &&str| owners.iter().any(|users| users.contains(name));
        if !names.is_empty() && !stored.iter().any(used) {
            return Err(Error::new(match stored.as_slice() {
                [] => "no weights".to_owned(),
                stored => format!("weights of layers {}", list(stored)),
            })
            .file(path)
            .expected(format!("weights of the network's layers: {}", list(&names)))
            .hint("layers are matched by name: give the weights of this network, or rename its layers"));
        }
        // Layers of the other phase, and those that have no parameters here, are no surprise.
        let known = |name: &str| net.layers.layers().any(|(layer, _)| layer == name);
        let unused = stored.iter().copied().filter(|name| !known(name));
        let unused: Vec<&str> = unused.collect();
        if !unused.is_empty() {
            told.push(format!(
                "{}: layers that the network does not have: {}",
                path.display(),
                list(&unused)
            ));
        }
    }
    let has = |users: &&Vec<&str>| {
        let mut all = files.iter().flat_map(|(_, file)| stored(file));
        all.any(|name| users.contains(&name))
    };
    let without = owners.iter().filter(|users| !has(users));
    let without: Vec<&str> = without.map(|users| users[0]).collect();
    if !files.is_empty() && !without.is_empty() {
        told.push(format!(
            "layers of the network without weights in any file, which their fillers make: {}",
            list(&without)
        ));
    }
    Ok(told)
}

/// Layers with parameters: the owner, and those that share them.
fn owners(net: &Net) -> Vec<Vec<&str>> {
    let mut owners: Vec<Vec<&str>> = Vec::new();
    for parameter in &net.training.parameters {
        let places = parameter.places.iter();
        let users: Vec<&str> = places.map(|place| place.layer.as_str()).collect();
        match owners.iter_mut().find(|known| known[0] == users[0]) {
            Some(known) => known.extend(users),
            None => owners.push(users),
        }
    }
    owners
}

/// Layers of a file with blobs.
fn stored(file: &Weights) -> Vec<&str> {
    let with = file.layers().filter(|(_, arrays)| *arrays > 0);
    with.map(|(name, _)| name).collect()
}

/// `a, b, c and 5 more`.
fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(MOST_NAMES)].join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
