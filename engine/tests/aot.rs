//! Objects and shared libraries made ahead of time: linked with the system's C compiler, run, and compared
//! with the engine bit for bit.

use skimjit::{AheadOfTime, CompileOptions, Isa, LoadOptions, Model, array};
use skimjit_caffe::{import, zoo};
use skimjit_models::Tensor;
use skimjit_testing::{Noise, data, has, isas, skip};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const EXAMPLE: &str = "../examples/c/ahead_of_time.c";

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn options(batch: u32) -> CompileOptions {
    CompileOptions {
        batch: Some(batch),
        threads: 1,
        ..Default::default()
    }
}

fn ahead(model: &Model, batch: u32, isas: &[Isa], layers: Option<&[String]>) -> AheadOfTime {
    let plans: Vec<_> = isas
        .iter()
        .map(|&isa| model.plan(&options(batch), isa).unwrap())
        .collect();
    AheadOfTime::new("net", &plans.iter().collect::<Vec<_>>(), layers).unwrap()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Reproducible pixels of −128 to 127.
fn pixels(count: usize) -> Vec<f32> {
    Noise::new(1).pixels(count)
}

/// A folder with an object and its header, and programs linked with it.
struct Workplace(TempDir);

impl Workplace {
    fn new(ahead: &AheadOfTime) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        ahead.write_object(&place.path("net.o")).unwrap();
        ahead.write_header(&place.path("net.h")).unwrap();
        place
    }
    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }
    /// Compiles a C program and links it with the object, or with `with`.
    fn link(&self, source: &str, with: &[&str]) {
        let mut command = Command::new("cc");
        command.args([
            "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-I.",
        ]);
        command.arg(root(source)).args(with).args(["-o", "program"]);
        // Says nothing, not even about executable stacks.
        succeed(
            command
                .arg("-Wl,--fatal-warnings")
                .current_dir(self.0.path()),
        );
    }
    /// Runs the program on an input; what it prints, and its output.
    fn run(&self, input: &[f32], arguments: &[&str]) -> (String, Vec<f32>) {
        std::fs::write(self.path("in.f32"), bytes(input)).unwrap();
        let mut command = Command::new(self.path("program"));
        command.args(["in.f32", "out.f32"]).args(arguments);
        let said = succeed(command.current_dir(self.0.path()));
        let output = std::fs::read(self.path("out.f32")).unwrap();
        let (values, _) = output.as_chunks::<4>();
        (
            said,
            values
                .iter()
                .map(|&value| f32::from_le_bytes(value))
                .collect(),
        )
    }
}

/// Standard output of a command that succeeds without complaint.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(
        status.success() && error.is_empty(),
        "{command:?}: {status}\n{error}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn number(isa: Isa) -> &'static str {
    match isa {
        Isa::Avx2 => "1",
        Isa::Avx512 => "2",
    }
}

/// What the engine computes for a batch.
fn engine(model: &Model, batch: u32, isa: Isa, input: &[f32]) -> Vec<f32> {
    let options = CompileOptions {
        isa: Some(isa),
        ..options(batch)
    };
    let engine = model.compile(&options).unwrap();
    let shape = engine.plan().inputs[0].shape.clone();
    let outputs = engine.run(&mut engine.session(), &[Tensor::new(shape, input.to_vec())]);
    outputs.unwrap().swap_remove(0).into_data()
}

/// An object with every instruction set computes what the engine does, bit for bit.
fn check(model: &Model, batch: u32) {
    if !has("cc") {
        return;
    }
    let isas = isas();
    let ahead = ahead(model, batch, &isas, None);
    let place = Workplace::new(&ahead);
    place.link(EXAMPLE, &["net.o"]);
    let [inputs, outputs] = ahead.interface().network.as_ref().unwrap();
    let input = pixels(inputs[0].shape.count());
    for &isa in &isas {
        // Twice: the scratch memory serves for many runs.
        let (said, found) = place.run(&input, &["2", number(isa)]);
        assert!(said.contains(&format!("instruction set: {isa}")), "{said}");
        assert_eq!(found.len(), outputs[0].shape.count());
        assert!(found.iter().any(|&value| value != 0.0));
        let expected = engine(model, batch, isa, &input);
        assert_eq!(bits(&found), bits(&expected), "{isa}, batch {batch}");
    }
}

fn from_zoo(name: &str) -> Model {
    let net = zoo::find(name).expect("a network of the zoo");
    // Some layers run sparse and others dense at about 80 %.
    let sparsity = match name {
        "caffenet" | "googlenet" => zoo::Sparsity::Published,
        _ => zoo::Sparsity::Percent(80.0),
    };
    let weights = zoo::synthesize(net, sparsity, 7).unwrap();
    let imported = import::import(weights, vec![], &import::ImportOptions::default());
    Model::from_graph(imported.unwrap().graph).unwrap()
}

#[test]
fn lenet() {
    let model = from_zoo("lenet");
    // Two images: inner products image by image; five: as columns.
    [1, 2, 5].into_iter().for_each(|batch| check(&model, batch));
}

#[test]
fn cifar10_quick() {
    check(&from_zoo("cifar10-quick"), 1);
}

#[test]
fn caffenet() {
    check(&from_zoo("caffenet"), 1);
}

#[test]
fn squeezenet() {
    let model = from_zoo("squeezenet-v1.0");
    [1, 3].into_iter().for_each(|batch| check(&model, batch));
}

#[test]
fn googlenet() {
    check(&from_zoo("googlenet"), 1);
}

/// Padded copies of every stride, and more than one input and output row.
#[test]
fn strides() {
    for stride in 1..=5 {
        let prototxt = STRIDED.replace("STRIDE", &stride.to_string());
        [1, 2]
            .into_iter()
            .for_each(|batch| check(&imported(&prototxt), batch));
    }
}

const STRIDED: &str = r#"name: "strided"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 41 dim: 67 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 4 kernel_size: 5 pad: 2 stride: STRIDE weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "both" type: "Concat" bottom: "pool" bottom: "pool" top: "both" }
"#;

/// Constants lie behind the code of a Swish.
#[test]
fn swish() {
    let prototxt = STRIDED.replace("STRIDE", "1").replace(
        r#"layer { name: "pool""#,
        r#"layer { name: "swish" type: "Swish" bottom: "conv" top: "conv" }
layer { name: "pool""#,
    );
    let model = imported(&prototxt);
    check(&model, 2);
    check_listing(&model, 3 * 41 * 67);
}

/// Products of 1e-20, 1e-20 and some channels are no normal numbers: they become 0, everywhere alike.
#[test]
fn results_below_normal_numbers_are_zero() {
    let layer = |name: &str, bottom: &str| {
        format!(
            r#"layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
  num_output: 4 kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "constant" value: 1e-20 }} }} }}
"#
        )
    };
    let input = r#"name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
"#;
    let model = imported(&[input, &layer("a", "data"), &layer("b", "a")].concat());
    check(&model, 1);
    for isa in isas() {
        let result = engine(&model, 1, isa, &[0.5; 3 * 9 * 9]);
        assert_eq!(bits(&result), [0; 4 * 9 * 9], "{isa}");
        // Of this thread nothing has changed.
        let tiny = std::hint::black_box(1e-20_f32) * std::hint::black_box(1e-20_f32);
        assert!(tiny.is_subnormal());
    }
}

/// Sums behind convolutions; layers that move data.
#[test]
fn residual_and_upscaling_networks() {
    let Some(data) = data("") else { return };
    for name in ["resnet20_cifar10", "wechat_sr"] {
        check(&shared(&data, name), 1);
    }
}

fn shared(data: &Path, name: &str) -> Model {
    let folder = data.join("models").join(name);
    let load = LoadOptions {
        prototxt: Some(folder.join("deploy.prototxt")),
        ..Default::default()
    };
    Model::load(&folder.join("model.caffemodel"), &load).unwrap()
}

/// The pruned SqueezeNet in a shared library, in a process that may not make memory executable, against
/// another engine's outputs.
#[test]
fn a_shared_library_runs_where_code_may_not_be_generated() {
    let (Some(data), true) = (data(""), has("cc")) else {
        return;
    };
    let model = shared(&data, "squeezenet_v1.0_dc");
    let refs = data.join("refs/squeezenet_v1.0_dc");
    let ahead = ahead(&model, 1, &isas(), None);
    let place = Workplace::new(&ahead);
    ahead
        .write_shared_library(&place.path("libnet.so"))
        .unwrap();
    place.link(EXAMPLE, &["-L.", "-lnet", "-Wl,-rpath,$ORIGIN"]);
    let input = array::read_npy(&refs.join("input.npy")).unwrap();
    let port = &ahead.interface().network.as_ref().unwrap()[1][0];
    let expected = array::read_npy(&refs.join(format!("output__{}.npy", port.name))).unwrap();
    let images = input.shape().dim(0) as usize;
    for isa in isas() {
        let inputs = input.data().chunks(input.data().len() / images);
        let outputs = expected.data().chunks(expected.data().len() / images);
        for (input, expected) in inputs.zip(outputs) {
            let (said, found) = place.run(input, &["1", number(isa)]);
            if said.contains("not restricted") {
                skip("the restriction, which this kernel cannot make");
            }
            let scale = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (a, b) in found.iter().zip(expected) {
                assert!(
                    (a - b).abs() <= 1e-4 * scale,
                    "{isa}: found {a}, expected {b}"
                );
            }
            assert_eq!(bits(&found), bits(&engine(&model, 1, isa, input)), "{isa}");
        }
    }
}

/// Shortest times in milliseconds of the engine and of the library, by turns. For a quiet machine:
/// `cargo test --release -p skimjit --test aot -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let (Some(data), true) = (data(""), has("cc")) else {
        return;
    };
    let model = shared(&data, "squeezenet_v1.0_dc");
    let ahead = ahead(&model, 1, &isas(), None);
    let place = Workplace::new(&ahead);
    ahead
        .write_shared_library(&place.path("libnet.so"))
        .unwrap();
    place.link(EXAMPLE, &["-L.", "-lnet", "-Wl,-rpath,$ORIGIN"]);
    let input = pixels(3 * 227 * 227);
    for isa in isas() {
        let options = CompileOptions {
            isa: Some(isa),
            ..options(1)
        };
        let engine = model.compile(&options).unwrap();
        let mut session = engine.session();
        let mut output = vec![0.0; engine.plan().outputs[0].shape.count()];
        let mut ratios = Vec::new();
        for _ in 0..15 {
            let times = (0..200).map(|_| {
                let started = std::time::Instant::now();
                session.run(&[&input], &mut [&mut output]).unwrap();
                started.elapsed().as_secs_f64() * 1e3
            });
            let jit = times.fold(f64::INFINITY, f64::min);
            let (said, _) = place.run(&input, &["200", number(isa)]);
            let time = said
                .split("runs: ")
                .nth(1)
                .and_then(|said| said.split(' ').next());
            let ahead: f64 = time.unwrap().parse().unwrap();
            ratios.push(ahead / jit);
            println!("{isa}: just in time {jit:.4}, ahead of time {ahead:.4}");
        }
        ratios.sort_by(f64::total_cmp);
        let [least, median, most] = [0, 7, 14].map(|index| ratios[index]);
        println!("{isa}: ahead over just in time {median:.4} ({least:.4} to {most:.4})");
    }
}

/// Without the code of this machine's instruction set, and with wrong arguments, nothing runs; nothing is
/// touched behind the memory of the caller; threads do not disturb each other.
fn check_manners(model: &Model) {
    let isas = isas();
    if !has("cc") {
        return;
    }
    let mut cases = vec![(vec![Isa::Avx2], "1")];
    if isas.contains(&Isa::Avx512) {
        cases.push((isas.clone(), "1"));
        cases.push((vec![Isa::Avx512], "0"));
    }
    for (isas, has_avx2) in cases {
        let place = Workplace::new(&ahead(model, 1, &isas, None));
        place.link("tests/aot/checks.c", &["net.o"]);
        let best = number(*isas.last().unwrap());
        succeed(Command::new(place.path("program")).args([best, has_avx2]));
    }
}

#[test]
fn wrong_arguments_are_refused() {
    check_manners(&from_zoo("lenet"));
    check_manners(&from_zoo("cifar10-quick"));
    for stride in 1..=5 {
        check_manners(&imported(&STRIDED.replace("STRIDE", &stride.to_string())));
    }
}

/// Any instruction set can be written on any machine.
#[test]
fn objects_for_other_machines_are_made_and_the_same_every_time() {
    let model = from_zoo("lenet");
    let object = || {
        ahead(&model, 1, &[Isa::Avx512, Isa::Avx2], None)
            .object()
            .unwrap()
    };
    assert!(object() == object());
}

/// The listing is the object in another form.
#[test]
fn listings_assemble_to_the_same_program() {
    check_listing(&from_zoo("lenet"), 28 * 28);
}

fn check_listing(model: &Model, inputs: usize) {
    if !has("cc") {
        return;
    }
    let ahead = ahead(model, 1, &isas(), None);
    let place = Workplace::new(&ahead);
    ahead.write_assembly(&place.path("net.s")).unwrap();
    place.link(EXAMPLE, &["net.s"]);
    let input = pixels(inputs);
    let (_, found) = place.run(&input, &[]);
    let best = *isas().last().unwrap();
    assert_eq!(bits(&found), bits(&engine(model, 1, best, &input)));
}

#[test]
fn headers_compile_as_c_and_as_cpp() {
    let place = Workplace::new(&ahead(&from_zoo("lenet"), 1, &[Isa::Avx2], None));
    for (name, language, standard) in [("cc", "c", "-std=c99"), ("c++", "c++", "-std=c++98")] {
        if !has(name) {
            continue;
        }
        let mut command = Command::new(name);
        command.args([
            "-x",
            language,
            standard,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
        ]);
        succeed(command.arg("net.h").current_dir(place.0.path()));
    }
}

/// Two convolutions of 3 × 3, the second with a sum: its operands are what the first one makes.
const LAYERS: &str = r#"name: "layers"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 7 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }
"#;

fn imported(prototxt: &str) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.prototxt");
    std::fs::write(&path, prototxt).unwrap();
    let options = LoadOptions {
        prototxt: Some(path),
        allow_missing_weights: true,
        ..Default::default()
    };
    Model::from_caffe(&[], &options).unwrap()
}

#[test]
fn single_layers_are_functions() {
    if !has("cc") {
        return;
    }
    let model = imported(LAYERS);
    let layers = ["conv1", "conv2"].map(str::to_owned);
    let input = pixels(5 * 9 * 7);
    for isa in isas() {
        let ahead = ahead(&model, 1, &[isa], Some(&layers));
        assert!(ahead.interface().network.is_none());
        assert!(!ahead.header().contains("net_run"));
        let place = Workplace::new(&ahead);
        place.link("tests/aot/layer.c", &["net.o"]);
        let (_, found) = place.run(&input, &[]);
        assert_eq!(bits(&found), bits(&engine(&model, 1, isa, &input)), "{isa}");
    }
}

/// Two inputs, and two outputs that one kernel and a copy make.
const PORTS: &str = r#"name: "ports"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 7 } } }
layer { name: "more" type: "Input" top: "more" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 7 } } }
layer { name: "product" type: "Eltwise" bottom: "data" bottom: "more" bottom: "data" top: "product"
  eltwise_param { operation: PROD } }
layer { name: "conv" type: "Convolution" bottom: "product" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "LRN" bottom: "more" top: "norm" }
"#;

#[test]
fn several_inputs_and_outputs_are_arrays() {
    if !has("cc") {
        return;
    }
    let model = imported(PORTS);
    for isa in isas() {
        let batch = 3;
        let ahead = ahead(&model, batch, &[isa], None);
        assert!(!ahead.header().contains("net_run("));
        let place = Workplace::new(&ahead);
        place.link("tests/aot/ports.c", &["net.o"]);
        let values = pixels(2 * 3 * 5 * 9 * 7);
        let (_, found) = place.run(&values, &[]);
        let options = CompileOptions {
            isa: Some(isa),
            ..options(batch)
        };
        let engine = model.compile(&options).unwrap();
        let inputs = engine
            .plan()
            .inputs
            .iter()
            .zip(values.chunks(values.len() / 2));
        let inputs = inputs.map(|(port, half)| Tensor::new(port.shape.clone(), half.to_vec()));
        let inputs: Vec<Tensor> = inputs.collect();
        let expected = engine.run(&mut engine.session(), &inputs).unwrap();
        assert_eq!(expected.len(), 2);
        let expected = expected.iter().flat_map(|output| output.data().to_vec());
        assert_eq!(bits(&found), bits(&expected.collect::<Vec<_>>()), "{isa}");
    }
}

/// A layer without a kernel.
const WITHOUT_KERNEL: &str = r#"name: "searched"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "best" type: "ArgMax" bottom: "conv" top: "best" argmax_param { axis: 1 } }
"#;

/// Layers that mean, sum or compare groups of elements, and FCN's enlargement.
const GROUPS: &str = r#"name: "groups"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 21 } } }
layer { name: "lrn" type: "LRN" bottom: "data" top: "lrn"
  lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.1 } }
layer { name: "mvn" type: "MVN" bottom: "lrn" top: "mvn" }
layer { name: "norm" type: "Normalize" bottom: "mvn" top: "norm"
  norm_param { across_spatial: false scale_filler { type: "constant" value: 20 } } }
layer { name: "up" type: "Deconvolution" bottom: "norm" top: "up" convolution_param {
  num_output: 5 group: 5 kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" } } }
layer { name: "log" type: "Log" bottom: "up" top: "log" log_param { shift: 99 } }
layer { name: "power" type: "Power" bottom: "log" top: "power" power_param { power: 0.75 } }
layer { name: "prob" type: "Softmax" bottom: "power" top: "prob" softmax_param { axis: 3 } }
"#;

#[test]
fn layers_of_groups() {
    let model = imported(GROUPS);
    [1, 3].into_iter().for_each(|batch| check(&model, batch));
}

/// Layers that only move data, on one image and on several.
const MOVED: &str = r#"name: "moved"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "perm" type: "Permute" bottom: "conv" top: "perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "left" type: "Slice" bottom: "perm" top: "left" top: "right"
  slice_param { axis: 3 slice_point: 3 } }
layer { name: "joined" type: "Concat" bottom: "right" bottom: "left" bottom: "right" top: "joined"
  concat_param { axis: 2 } }
layer { name: "cropped" type: "Crop" bottom: "joined" bottom: "left" top: "cropped"
  crop_param { axis: 2 offset: 3 offset: 0 } }
"#;

#[test]
fn layers_that_move_data_become_tables() {
    let model = imported(MOVED);
    [1, 3].into_iter().for_each(|batch| check(&model, batch));
}

#[test]
fn layers_without_generated_code_are_refused_by_name() {
    let model = imported(WITHOUT_KERNEL);
    let plan = model.plan(&options(1), Isa::Avx2).unwrap();
    let refusal = |layers: Option<&[String]>| match AheadOfTime::new("net", &[&plan], layers) {
        Ok(_) => panic!("{layers:?} became a program"),
        Err(error) => error.to_string(),
    };
    let network = refusal(None);
    assert!(
        network.contains("\"best\" (ArgMax)") && network.contains("--layers"),
        "{network}"
    );
    let layer = refusal(Some(&["best".to_owned()]));
    assert!(
        layer.contains("\"best\"") && layer.contains("one of: conv"),
        "{layer}"
    );
    let unknown = refusal(Some(&["conv9".to_owned()]));
    assert!(
        unknown.contains("\"conv9\"") && unknown.contains("one of: conv"),
        "{unknown}"
    );
    assert!(AheadOfTime::new("net", &[&plan], Some(&["conv".to_owned()])).is_ok());
    assert!(AheadOfTime::new("1net", &[&plan], None).is_err());
    assert!(AheadOfTime::new("net", &[], None).is_err());
    assert!(AheadOfTime::new("net", &[&plan, &plan], None).is_err());
}
