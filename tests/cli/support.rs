//! A folder to work in, the binary, and a tiny network.

use serde_json::Value;
use skimjit_caffe::proto::{BlobProto, BlobShape, NetParameter};
use skimjit_caffe::{parse_prototxt, write_caffemodel};
use skimjit_models::{Shape, Tensor};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A network of 3 × 8 × 8 inputs and 5 classes.
pub const PROTOTXT: &str = r#"name: "tiny"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "ip1" top: "prob" }
"#;

/// The network with weights.
pub fn tiny() -> NetParameter {
    let (mut net, _) = parse_prototxt(PROTOTXT, "tiny.prototxt").unwrap();
    for layer in &mut net.layer {
        layer.blobs = match layer.name() {
            "conv1" => vec![blob(&[4, 3, 3, 3], 0.5), blob(&[4], 0.1)],
            "ip1" => vec![blob(&[5, 64], 0.3), blob(&[5], 0.1)],
            _ => vec![],
        };
    }
    net
}

fn blob(dims: &[i64], size: f32) -> BlobProto {
    let dims_u32: Vec<u32> = dims.iter().map(|&dim| dim as u32).collect();
    let data = tensor(&dims_u32, size).into_data();
    BlobProto {
        shape: Some(BlobShape {
            dim: dims.to_vec(),
            ..BlobShape::default()
        }),
        data,
        ..BlobProto::default()
    }
}

/// Spread values from −`size` to `size`, never 0.
pub fn ramp(dims: [u32; 4], size: f32) -> Tensor {
    tensor(&dims, size)
}

fn tensor(dims: &[u32], size: f32) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let value = |index: usize| ((index * 37 + 11) % 101) as f32 / 50.5 - 0.995;
    let data = (0..shape.count())
        .map(|index| value(index) * size)
        .collect();
    Tensor::new(shape, data)
}

/// What a command left.
pub struct Outcome {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A temporary folder that commands run in.
pub struct Workplace(TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    /// With `tiny.caffemodel`.
    pub fn with_tiny_network() -> Self {
        let place = Self::new();
        write_caffemodel(&tiny(), &place.path("tiny.caffemodel")).unwrap();
        place
    }
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }
    pub fn write(&self, file: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), contents).unwrap();
    }
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skimjit"));
        command.args(arguments).current_dir(self.0.path());
        // Not the user's.
        command.env("SKIMJIT_TUNE_CACHE", "tune.json");
        command
    }
    pub fn skimjit(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }
    /// Standard output of a command that succeeds without a word on standard error, but that there are
    /// more threads than cores here, or other files in a folder.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let result = self.skimjit(arguments);
        // Tests run side by side, so that measurements are disturbed.
        let others = |line: &&str| {
            let busy = line.starts_with("note: busy machine: ");
            let left_out = line.contains("files of other kinds left out");
            !busy && !left_out && !line.contains("that this process may use (its CPU affinity")
        };
        let errors: Vec<&str> = result.stderr.lines().filter(others).collect();
        let expected = (Some(0), vec![]);
        assert_eq!(
            (result.code, errors),
            expected,
            "{arguments:?}\n{}",
            result.stdout
        );
        result.stdout
    }
    /// What a command prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Outcome {
        code: output.status.code(),
        stdout,
        stderr,
    }
}

/// Folder of the libraries. Cargo makes them for no test, as no Rust program can use them: they are built
/// here, as a user builds them, unless they are up to date.
pub fn libraries() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let program = Path::new(env!("CARGO_BIN_EXE_skimjit"));
        let folder = program.parent().unwrap().to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--package", "skimjit-capi", "--target-dir"]);
        cargo.arg(folder.parent().unwrap());
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = outcome(&mut cargo);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        folder
    };
    BUILT.get_or_init(build).clone()
}
