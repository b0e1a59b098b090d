//! Inputs that are read well, made by the project's own writers.

use crate::folder;
use skimjit::picture::{ChannelOrder, FileKind, Picture};
use skimjit::{CompileOptions, LoadOptions, Model, array};
use skimjit_caffe as caffe;
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::proto::{NetParameter, SolverState};
use skimjit_caffe::zoo;
use skimjit_caffe::{blob, text};
use skimjit_data::lmdb;
use skimjit_data::{arrays, leveldb};
use skimjit_models::artifact::{self, Writer};
use skimjit_models::{Shape, Tensor};
use skimjit_runtime::recipe::Recipe as PlanRecipe;
use std::fs;
use std::path::{Path, PathBuf};

const DEFINITION: &str = r#"name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 group: 1 dilation: 1 } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { local_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "flat" type: "Reshape" bottom: "pool" top: "flat" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"#;

const DETECTOR: &str = r#"input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "p" type: "PriorBox" bottom: "c" bottom: "data" top: "p" prior_box_param { min_size: 2.0 aspect_ratio: 2.0 } }
layer { name: "s" type: "Slice" bottom: "c" top: "s1" top: "s2" slice_param { axis: 1 slice_point: 2 } }
layer { name: "e" type: "Eltwise" bottom: "s1" bottom: "s2" top: "e" eltwise_param { operation: SUM coeff: 1 coeff: -1 } }
layer { name: "l" type: "Permute" bottom: "e" top: "l" permute_param { order: 0 order: 2 order: 3 order: 1 } }
"#;

const SOLVER: &str = r#"net: "train_val.prototxt" base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 1000
max_iter: 100 momentum: 0.9 weight_decay: 0.0005 regularization_type: "L1" snapshot: 50 snapshot_prefix: "s"
solver_mode: CPU test_iter: 10 test_interval: 20
"#;

/// Makes the seeds of each target.
pub struct Seeds {
    net: NetParameter,
}

fn tensor(dims: &[u32]) -> Tensor {
    let shape = Shape::new(dims).expect("a small shape");
    let value = |index: usize| match index % 3 {
        0 => 0.0,
        _ => (index % 17) as f32 / 8.0 - 1.0,
    };
    let data = (0..shape.count()).map(value).collect();
    Tensor::new(shape, data)
}

/// What a function writes into a file.
fn written(ending: &str, write: impl FnOnce(&Path)) -> Vec<u8> {
    let path = folder().join(format!("seed{ending}"));
    let _ = fs::remove_file(&path);
    write(&path);
    fs::read(&path).expect("the file that was just written")
}

impl Default for Seeds {
    fn default() -> Self {
        Self::new()
    }
}

impl Seeds {
    /// A small network with weights, from which most seeds are made.
    pub fn new() -> Self {
        let mut net = text::parse_net(DEFINITION).expect("a definition");
        for layer in &mut net.layer {
            let blobs: &[&[u32]] = match layer.name() {
                "conv" => &[&[3, 2, 3, 3], &[3]],
                "ip" => &[&[4, 27], &[4]],
                _ => &[],
            };
            layer.blobs = blobs
                .iter()
                .map(|dims| blob::from_tensor(tensor(dims)))
                .collect();
        }
        Self { net }
    }

    pub(crate) fn prototxt(&self) -> Vec<Vec<u8>> {
        let zoo = ["lenet", "cifar10-quick", "squeezenet"];
        let zoo = zoo
            .iter()
            .filter_map(|name| zoo::find(name))
            .map(|net| net.prototxt);
        let texts = [DEFINITION, DETECTOR].into_iter().chain(zoo);
        texts.map(|text| text.as_bytes().to_vec()).collect()
    }

    pub(crate) fn solver(&self) -> Vec<Vec<u8>> {
        vec![SOLVER.as_bytes().to_vec()]
    }

    pub(crate) fn caffemodel(&self) -> Vec<Vec<u8>> {
        let own = written(".caffemodel", |path| {
            caffe::write_caffemodel(&self.net, path).expect("a caffemodel");
        });
        vec![own]
    }

    pub(crate) fn caffemodel_hdf5(&self) -> Vec<Vec<u8>> {
        vec![written(".caffemodel.h5", |path| {
            caffe::write_caffemodel_hdf5(&self.net, path).expect("weights in HDF5");
        })]
    }

    fn state() -> SolverState {
        SolverState {
            iter: Some(7),
            learned_net: Some("net.caffemodel".to_owned()),
            history: vec![
                blob::from_tensor(tensor(&[4, 5])),
                blob::from_tensor(tensor(&[4])),
            ],
            current_step: Some(1),
            ..SolverState::default()
        }
    }

    pub(crate) fn solverstate(&self) -> Vec<Vec<u8>> {
        vec![written(".solverstate", |path| {
            caffe::write_solverstate(&Self::state(), path).expect("a state");
        })]
    }

    pub(crate) fn solverstate_hdf5(&self) -> Vec<Vec<u8>> {
        vec![written(".solverstate.h5", |path| {
            caffe::write_solverstate_hdf5(&Self::state(), path).expect("a state in HDF5");
        })]
    }

    pub(crate) fn mean(&self) -> Vec<Vec<u8>> {
        vec![written(".binaryproto", |path| {
            caffe::write_mean(tensor(&[1, 3, 4, 5]), path).expect("a mean");
        })]
    }

    pub(crate) fn datum(&self) -> Vec<Vec<u8>> {
        let datum = |pixels| Datum {
            channels: 3,
            height: 2,
            width: 4,
            label: Some(5),
            pixels,
        };
        let encoded = self.picture().swap_remove(0);
        [
            datum(Pixels::U8(vec![9; 24])),
            datum(Pixels::F32(vec![0.5; 24])),
            datum(Pixels::Encoded(encoded)),
        ]
        .iter()
        .filter_map(|datum| datum.encode().ok())
        .collect()
    }

    fn model(&self) -> Model {
        let bytes = self.caffemodel().swap_remove(0);
        Model::from_bytes(&bytes, None, &LoadOptions::default()).expect("the small network")
    }

    /// The small network, its weights dense and by their non-zeros.
    pub(crate) fn onnx(&self) -> Vec<Vec<u8>> {
        let graph = self.model().graph().clone();
        let model = |sparse| {
            written(".onnx", |path| {
                let options = skimjit_onnx::ExportOptions { sparse };
                skimjit_onnx::write(&graph, options, path).expect("a model");
            })
        };
        vec![model(false), model(true)]
    }

    pub(crate) fn artifact(&self) -> Vec<Vec<u8>> {
        let model = self.model();
        let engine = model.compile(&CompileOptions::default());
        vec![written(".skim", |path| match &engine {
            Ok(engine) => model.write_artifact(engine, path).expect("an artifact"),
            // A CPU without AVX2: without the planner's choices.
            Err(_) => {
                let mut writer = Writer::new();
                artifact::write_graph(&mut writer, model.graph()).expect("a graph");
                fs::write(path, writer.to_bytes()).expect("room for a seed");
            }
        })]
    }

    pub(crate) fn artifact_graph(&self) -> Vec<Vec<u8>> {
        let encoded = artifact::graph::encode(self.model().graph());
        encoded.into_iter().collect()
    }

    pub(crate) fn artifact_weights(&self) -> Vec<Vec<u8>> {
        let section = |values: Vec<f32>| {
            let count = (values.len() as u16).to_le_bytes();
            [&count[..], &artifact::weights::encode(&values)].concat()
        };
        vec![
            section(tensor(&[300]).into_data()),
            section(
                (0..200)
                    .map(|i| if i % 9 == 0 { 0.5 } else { 0.0 })
                    .collect(),
            ),
            section((0..64).map(|i| i as f32 * 1.37).collect()),
        ]
    }

    pub(crate) fn artifact_plan(&self) -> Vec<Vec<u8>> {
        let engine = self.model().compile(&CompileOptions::default());
        let recipe = engine.map(|engine| PlanRecipe::of(engine.plan()).encode());
        vec![recipe.unwrap_or_default()]
    }

    pub(crate) fn npy(&self) -> Vec<Vec<u8>> {
        let mut file = Vec::new();
        array::write_npy_to(&mut file, &tensor(&[1, 2, 3, 4])).expect("memory");
        vec![file]
    }

    pub(crate) fn picture(&self) -> Vec<Vec<u8>> {
        let pixels = |channels: u32| {
            let count = 20 * 12 * channels;
            let data = (0..count).map(|i| (i * 7 % 256) as u8).collect();
            Picture::from_pixels(20, 12, channels, data).expect("a small picture")
        };
        let mut files = Vec::new();
        for kind in [FileKind::Jpeg, FileKind::Png] {
            files.extend(pixels(3).encode(kind, ChannelOrder::Bgr));
            files.extend(pixels(1).encode(kind, ChannelOrder::Bgr));
        }
        files
    }

    pub(crate) fn lmdb(&self) -> Vec<Vec<u8>> {
        let path = folder().join("seed-lmdb");
        let _ = fs::remove_dir_all(&path);
        let mut base = lmdb::Writer::create(&path).expect("a new data base");
        for (number, value) in (0..9u32).zip(self.datum().iter().cycle()) {
            base.put(format!("{number:08}").as_bytes(), value.clone())
                .expect("a record");
        }
        base.finish().expect("a data base");
        let file = fs::read(path.join("data.mdb")).expect("the data base's file");
        // The file is mapped with room to grow.
        let used = file
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        vec![file[..used.next_multiple_of(4096).min(file.len())].to_vec()]
    }

    /// A data base, and the name of the file that holds its records.
    fn leveldb_template(&self) -> (PathBuf, String) {
        let path = folder().join("seed-leveldb");
        if !path.exists() {
            let mut base = leveldb::Writer::create(&path).expect("a new data base");
            for (number, value) in (0..9u32).zip(self.datum().iter().cycle()) {
                base.put(format!("{number:08}").as_bytes(), value)
                    .expect("a record");
            }
            base.finish().expect("a data base");
        }
        let files = fs::read_dir(&path).expect("the data base").flatten();
        let size = |entry: &fs::DirEntry| entry.metadata().map_or(0, |data| data.len());
        let largest = files.max_by_key(size).expect("a file");
        (path, largest.file_name().to_string_lossy().into_owned())
    }

    pub(crate) fn leveldb(&self) -> Vec<Vec<u8>> {
        let (path, name) = self.leveldb_template();
        fs::read(path.join(name)).into_iter().collect()
    }

    /// The data base with other records, in the folder.
    pub(crate) fn leveldb_with(data: &[u8], folder: &Path) -> PathBuf {
        let (template, name) = Self::new().leveldb_template();
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).expect("a folder in the temporary folder");
        for entry in fs::read_dir(template).expect("the data base").flatten() {
            let _ = fs::copy(entry.path(), folder.join(entry.file_name()));
        }
        fs::write(folder.join(name), data).expect("room in the temporary folder");
        folder.to_owned()
    }

    pub(crate) fn hdf5_data(&self) -> Vec<Vec<u8>> {
        vec![written(".h5", |path| {
            arrays::write_hdf5(path, &[("data", &tensor(&[4, 2, 3]))]).expect("arrays");
        })]
    }

    pub(crate) fn image_list(&self) -> Vec<Vec<u8>> {
        vec![b"a.jpg 1\nfolder/b c.png 22\n".to_vec()]
    }

    pub(crate) fn idx(&self) -> Vec<Vec<u8>> {
        let images = [
            &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4][..],
            &[7; 24],
        ]
        .concat();
        let labels = vec![0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3];
        vec![images, labels]
    }

    pub(crate) fn cifar(&self) -> Vec<Vec<u8>> {
        vec![[&[3u8][..], &[9; 3072]].concat().repeat(2)]
    }

    pub(crate) fn recipe(&self) -> Vec<Vec<u8>> {
        let recipes = [
            include_bytes!("../../trainer/recipes/lenet-gradual.toml").to_vec(),
            include_bytes!("../../trainer/recipes/cifar10-guided.toml").to_vec(),
            include_bytes!("../../trainer/recipes/lenet-distilled.toml").to_vec(),
        ];
        recipes.to_vec()
    }

    pub(crate) fn tune_cache(&self) -> Vec<Vec<u8>> {
        let text = r#"{"format": 1, "trials": {"0123456789abcdef": {"machine": "a CPU, avx512, 1 thread",
            "problem": "a convolution", "times_ns": {"dense_conv.rolled": 120.5, "sparse_conv.baked": null}, "age": 3}}}"#;
        vec![text.as_bytes().to_vec()]
    }

    /// All seeds of all targets, as files below a folder: corpora for fuzzers.
    pub fn write_all(&self, corpus: &Path) -> std::io::Result<()> {
        for target in crate::targets() {
            let folder = corpus.join(target.name);
            fs::create_dir_all(&folder)?;
            for (number, seed) in (target.seeds)(self).iter().enumerate() {
                fs::write(folder.join(format!("seed-{number}")), seed)?;
            }
        }
        Ok(())
    }
}
