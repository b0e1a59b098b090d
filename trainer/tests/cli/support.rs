//! A folder to work in, with a tiny network, its data and its solver.

use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_caffe::{Weights, solver::SolverDefinition};
use skimjit_data::lmdb::Writer;
use skimjit_models::Care;
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::solver::report::Silent;
use skimjit_trainer::solver::snapshot::Resumed;
use skimjit_trainer::solver::{Solver, Start};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Digits of a kind: 1 × 8 × 8 images of 10 classes.
pub const NET: &str = r#"name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label"
  include { phase: TRAIN }
  transform_param { scale: 0.0078125 crop_size: 7 mirror: true }
  data_param { source: "train_lmdb" batch_size: 8 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label"
  include { phase: TEST }
  transform_param { scale: 0.0078125 crop_size: 7 }
  data_param { source: "train_lmdb" batch_size: 10 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "drop1" type: "Dropout" bottom: "conv1" top: "conv1"
  dropout_param { dropout_ratio: 0.2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip1" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"#;

/// Its solver.
pub const SOLVER: &str = r#"net: "net.prototxt"
test_iter: 2 test_interval: 50
base_lr: 0.02 momentum: 0.9 weight_decay: 0.0005
lr_policy: "fixed" display: 20 max_iter: 100 snapshot: 25
snapshot_prefix: "snap/tiny" random_seed: 7
"#;

/// A temporary folder that commands run in.
pub struct Workplace(TempDir);

/// What a command left.
pub struct Outcome {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A record: class `label` is a bright row or column of a noisy image.
pub fn record(number: u32, label: i32) -> Vec<u8> {
    let noise = |place: u32| (number.wrapping_mul(2_654_435_761) ^ place.wrapping_mul(40_503)) >> 7;
    let bright = |y: u32, x: u32| {
        let class = label.unsigned_abs() % 10;
        if class < 5 {
            y == class + 1
        } else {
            x == class - 4
        }
    };
    let pixel = |place: u32| {
        let base = if bright(place / 8, place % 8) {
            180
        } else {
            10
        };
        base + (noise(place) % 40) as u8
    };
    let datum = Datum {
        channels: 1,
        height: 8,
        width: 8,
        label: Some(label),
        pixels: Pixels::U8((0..64).map(pixel).collect()),
    };
    datum.encode().unwrap()
}

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    /// With net.prototxt, solver.prototxt and train_lmdb.
    pub fn with_tiny_network() -> Self {
        let place = Self::new();
        place.write("net.prototxt", NET);
        place.write("solver.prototxt", SOLVER);
        let records: Vec<Vec<u8>> = (0..60).map(|n| record(n, (n % 10) as i32)).collect();
        place.data_base("train_lmdb", &records);
        place
    }
    pub fn data_base(&self, name: &str, records: &[Vec<u8>]) {
        let mut writer = Writer::create(&self.path(name)).unwrap();
        for (number, record) in records.iter().enumerate() {
            writer
                .put(format!("{number:08}").as_bytes(), record.clone())
                .unwrap();
        }
        writer.finish().unwrap();
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
    /// Writes a changed solver definition; later values of a field are to replace earlier ones.
    pub fn solver(&self, changes: &str) {
        let field = |word: &str| word.ends_with(':').then(|| word.to_owned());
        let changed: Vec<String> = changes.split_whitespace().filter_map(field).collect();
        let words: Vec<&str> = SOLVER.split_whitespace().collect();
        let kept = words
            .chunks(2)
            .filter(|pair| !changed.iter().any(|name| name == pair[0]));
        let text: String = kept
            .map(|pair| format!("{} {}\n", pair[0], pair[1]))
            .collect();
        self.write("solver.prototxt", &(text + changes + "\n"));
    }
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skimjit-train"));
        command.args(arguments).current_dir(self.0.path());
        command.env("COLUMNS", "100");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(self.command(arguments).output().unwrap())
    }
    /// Runs a command that must succeed; its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    }
    /// Names of the files of a folder.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
    /// A solver in this process.
    pub fn open(&self, start: &From<'_>) -> Solver {
        let file = self.path("solver.prototxt");
        let definition = SolverDefinition::read(&file, Care::default(), &mut |_| ()).unwrap();
        let mut settings = definition.settings().unwrap();
        let prefix = self.path(&settings.snapshot_prefix);
        settings.snapshot_prefix = prefix.display().to_string();
        let networks = definition.networks(Care::default(), &mut |_| ()).unwrap();
        let files = start.weights.iter();
        let mut weights: Vec<Weights> = files.map(|path| Weights::read(path).unwrap()).collect();
        let resume = start.snapshot.map(|path| Resumed::read(path).unwrap());
        weights.extend(resume.iter().map(|resumed| resumed.weights.clone()));
        let start = Start {
            weights: &weights,
            resume,
        };
        Solver::new(
            settings,
            &networks,
            Box::new(CpuEngine::default()),
            start,
            &mut Silent,
        )
        .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// What a solver starts from.
#[derive(Default)]
pub struct From<'a> {
    pub weights: &'a [PathBuf],
    pub snapshot: Option<&'a Path>,
}

pub fn outcome(output: std::process::Output) -> Outcome {
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Values of all parameters by name.
pub fn weights(solver: &mut Solver) -> Vec<(String, Vec<f32>)> {
    let engine = solver.engine();
    let mut all = Vec::new();
    for index in 0..engine.params().len() {
        engine.edit(index, &mut |param, state| {
            all.push((param.name(), state.data.clone()))
        });
    }
    all
}
