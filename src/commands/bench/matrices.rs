//! Weights in MatrixMarket files.

use super::measure::Measure;
use super::network;
use super::report::{Case, Layer};
use crate::support::matrix_market;
use crate::support::problem::Problem;
use skimjit_program::progress;
use skimjit::{Error, Model, Result};
use skimjit_caffe::zoo::{self, LayerShape, Net, Sparsity};
use skimjit_models::{Error as InputError, Op, Shape, Tensor, Weight};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files of a folder.
const MOST_FILES: usize = 1000;

/// The layers whose weights are in a file, or in the files of a folder. The batches are the problem's
/// or 1 when there are none.
pub fn cases(
    measure: &Measure,
    path: &Path,
    problem: Option<&Problem>,
    batches: &[u32],
) -> Result<Vec<Case>> {
    let files = files(path)?;
    let mut zoo = Zoo::default();
    let layers: Vec<(String, Model)> = files
        .iter()
        .map(|file| {
            let model = match problem {
                Some(problem) => with_problem(file, problem)?,
                None => zoo.model(file)?,
            };
            let name = file.strip_prefix(path).ok().filter(|_| path.is_dir());
            Ok((name.unwrap_or(file).display().to_string(), model))
        })
        .collect::<Result<_>>()?;
    let usual = [problem.map_or(1, |problem| problem.batch)];
    let batches = if batches.is_empty() { &usual } else { batches };
    batches
        .iter()
        .map(|&batch| case(measure, path, &layers, batch))
        .collect()
}

fn case(measure: &Measure, path: &Path, layers: &[(String, Model)], batch: u32) -> Result<Case> {
    let mut case = Case {
        network: path.display().to_string(),
        batch,
        verified_difference: 0.0,
        layers: Vec::new(),
        sweeps: Vec::new(),
        whole: None,
    };
    let bar = progress::bar("files", layers.len() as u64);
    for (name, model) in layers {
        let difference = measure.verified(model, batch)?;
        case.verified_difference = case.verified_difference.max(difference);
        let measured = measure.layer(model, batch)?;
        case.layers.push(Layer {
            layer: name.clone(),
            ..measured
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(case)
}

/// The file, or all `.mtx` files of the folder and those below, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |path: &Path, error: std::io::Error| InputError::new(error.to_string()).file(path);
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))? {
            let entry = entry.map_err(|error| unreadable(&folder, error))?;
            let (kind, path) = (entry.file_type(), entry.path());
            if kind.map_err(|error| unreadable(&path, error))?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "mtx") {
                found.push(path);
            }
        }
        if found.len() > MOST_FILES || folders.len() > MOST_FILES {
            let error = InputError::new("more files").file(path);
            return Err(error.expected(format!("at most {MOST_FILES}")).into());
        }
    }
    if found.is_empty() {
        let error = InputError::new("a folder without .mtx files").file(path);
        return Err(error.expected("at least one").into());
    }
    found.sort();
    Ok(found)
}

fn with_problem(file: &Path, problem: &Problem) -> Result<Model> {
    let weights = matrix_market::read(file, problem.rows_and_columns())?;
    problem.model_with(weights, Tensor::zeros(Shape::new([problem.oc])?))
}

/// Networks that files were found to belong to: layers by network and name.
#[derive(Default)]
struct Zoo(HashMap<&'static str, HashMap<String, Model>>);

impl Zoo {
    /// The layer that a file is named after, with the file's weights.
    fn model(&mut self, file: &Path) -> Result<Model> {
        let size = matrix_market::size(file)?;
        let Some((net, layer)) = owner(file, size)? else {
            let [rows, columns] = size;
            return Err(Error::Usage(format!(
                "--problem: found none, expected one: no layer of a known network that {} could be \
                 named after has {rows} x {columns} weights",
                file.display()
            )));
        };
        let weights = matrix_market::read(file, size)?;
        let layers = match self.0.entry(net.name) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(single_layers(net)?),
        };
        let Some(model) = layers.get(&layer) else {
            let error = InputError::new("a layer that is not computed alone").layer(&layer);
            return Err(error.file(file).into());
        };
        with_weights(model, weights)
    }
}

fn single_layers(net: &Net) -> Result<HashMap<String, Model>> {
    let graph = network::graph(net, Sparsity::Percent(0.0), 1)?;
    let singles = network::singles(&graph, &[])?.into_iter();
    Ok(singles
        .map(|single| (single.graph().name.clone(), single))
        .collect())
}

/// The network and the layer whose name a file's name ends with and that has weights of that size;
/// a network whose name is in the path goes first.
fn owner(file: &Path, size: [u32; 2]) -> Result<Option<(&'static Net, String)>> {
    let path = file.to_string_lossy().to_ascii_lowercase();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut nets: Vec<&'static Net> = zoo::all().iter().collect();
    nets.sort_by_key(|net| !path.contains(net.name));
    for net in nets {
        let fits = |layer: &LayerShape| {
            let dims = layer.blobs.first().filter(|_| layer.has_weights());
            dims.is_some_and(|dims| [dims[0], dims[1..].iter().product()] == size)
                && stem.ends_with(&matrix_market::file_stem(&layer.name))
        };
        if let Some(layer) = zoo::layers(net)?.into_iter().find(fits) {
            return Ok(Some((net, layer.name)));
        }
    }
    Ok(None)
}

fn with_weights(model: &Model, values: Vec<f32>) -> Result<Model> {
    let mut graph = model.graph().clone();
    for node in &graph.nodes {
        let id = match &node.op {
            Op::Convolution(op) => op.weights,
            Op::InnerProduct(op) => op.weights,
            _ => continue,
        };
        let shape = graph.weight(id).shape().clone();
        graph.weights[id.0 as usize] = Arc::new(Weight::dense(shape, values));
        break;
    }
    Model::from_graph(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_layers() {
        let found = |file: &str, size| {
            let found = owner(Path::new(file), size).unwrap();
            found.map(|(net, layer)| (net.name, layer))
        };
        let conv2 = Some(("alexnet", "conv2".to_owned()));
        assert_eq!(found("alexnet_0.5/coo_conv2.mtx", [256, 1200]), conv2);
        let conv1 = Some(("lenet", "conv1".to_owned()));
        assert_eq!(found("some/coo_conv1.mtx", [20, 25]), conv1);
        let squeeze = Some(("googlenet", "inception_3a/3x3_reduce".to_owned()));
        let file = "googlenet/inception_3a_3x3_reduce.mtx";
        assert_eq!(found(file, [96, 192]), squeeze, "as dump names it");
        assert_eq!(found("alexnet_0.5/coo_conv2.mtx", [256, 1201]), None);
        assert_eq!(found("alexnet_0.5/weights.mtx", [256, 1200]), None);
    }
}
