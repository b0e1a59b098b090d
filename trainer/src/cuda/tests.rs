#![allow(unsafe_code)]
//! The engine of GPUs against that of the CPU, on a device that runs the same kernels as C++ on the CPU; and
//! on a GPU where there is one.

use super::DeviceMemory;
use super::device::{Args, Device, KERNELS, Product};
use super::driver;
use crate::engine::{Engine, NetId, loss};
use crate::executor::{CpuEngine, Executor};
use crate::net::Net;
use crate::update::{Decay, Rule, Threshold, Update};
use libloading::Library;
use skimjit_caffe::{Definition, Phase};
use skimjit_data::Blob;
use skimjit_models::{Error, Result, Shape, Tensor};
use skimjit_pruning::gemm::{Matrix, multiply};
use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The engine of a device.
pub type CudaEngine = Executor<DeviceMemory>;

type Kernel = unsafe extern "C" fn(Args);
type Run = unsafe extern "C" fn(Kernel, i64, *const Args);

/// The kernels, compiled as C++; `None` without a compiler.
fn kernels() -> Option<Arc<Library>> {
    static LIBRARY: OnceLock<Option<Arc<Library>>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (
            folder.path().join("kernels.cc"),
            folder.path().join("kernels.so"),
        );
        std::fs::write(&source, KERNELS).unwrap();
        let mut compiler = Command::new("c++");
        compiler.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC"]);
        let built = compiler.arg("-o").arg(&object).arg(&source).output().ok()?;
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        // SAFETY: the library has no start code of its own.
        Some(Arc::new(unsafe { Library::new(&object) }.unwrap()))
    });
    if library.is_none() {
        skimjit_testing::skip("no C++ compiler (c++) to run the kernels on the CPU");
    }
    library.clone()
}

/// A device that is the CPU: addresses are those of arrays, which are checked.
struct Host {
    library: Arc<Library>,
    arrays: HashMap<u64, Box<[f32]>>,
    /// Copies from it fail.
    broken: Arc<AtomicBool>,
    /// Arrays so far.
    allocated: Arc<AtomicUsize>,
}

impl Host {
    fn new() -> Option<Self> {
        Some(Self {
            library: kernels()?,
            arrays: HashMap::new(),
            broken: Arc::default(),
            allocated: Arc::default(),
        })
    }
    /// Elements from an address to the end of its array.
    fn array(&self, address: u64) -> &[f32] {
        let inside =
            |start: u64, count: usize| (start..start + 4 * count as u64).contains(&address);
        let mut arrays = self.arrays.iter();
        let found = arrays.find(|(start, array)| inside(**start, array.len()));
        let (start, array) = found.expect("an address of the device");
        &array[(address - start) as usize / 4..]
    }
    /// An operand of BLAS, transposed: its columns lie as the rows of a matrix do.
    fn matrix(&self, operand: (u64, bool, usize), rows: usize, columns: usize) -> Matrix<'_> {
        let (address, transposed, stride) = operand;
        let data = self.array(address);
        match transposed {
            false => Matrix::strided(data, columns, rows, stride),
            true => Matrix::strided(data, rows, columns, stride).t(),
        }
    }
    /// Writes to an array of the device.
    fn write(&mut self, address: u64, data: &[f32]) {
        let count = self.array(address).len();
        assert!(data.len() <= count, "{} elements for {count}", data.len());
        // SAFETY: the array has room, as checked, and nothing else has a reference to it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), address as *mut f32, data.len()) };
    }
}

impl Device for Host {
    fn allocate(&mut self, count: usize) -> Result<u64> {
        let array = vec![0.0f32; count.max(1)].into_boxed_slice();
        let address = array.as_ptr() as u64;
        self.arrays.insert(address, array);
        self.allocated.fetch_add(1, Ordering::Relaxed);
        Ok(address)
    }
    fn upload(&mut self, address: u64, data: &[f32]) -> Result<()> {
        self.write(address, data);
        Ok(())
    }
    fn download(&self, address: u64, data: &mut [f32]) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new("a device that is broken"));
        }
        let from = self.array(address);
        data.copy_from_slice(&from[..data.len()]);
        Ok(())
    }
    fn zero(&mut self, address: u64, count: usize) -> Result<()> {
        self.write(address, &vec![0.0; count]);
        Ok(())
    }
    fn launch(&mut self, kernel: &'static str, args: &Args) -> Result<()> {
        for &address in args.p.iter().filter(|address| **address != 0) {
            self.array(address);
        }
        // SAFETY: the symbols have these types in kernels.cu; addresses are those of arrays of this device.
        unsafe {
            let run = self.library.get::<Run>(b"run_on_host").unwrap();
            let kernel = self.library.get::<Kernel>(kernel.as_bytes());
            let kernel = kernel.map_err(|error| Error::new(error.to_string()))?;
            // Threads beyond the first number are to do nothing.
            run(*kernel, args.n[0] + 3, args);
        }
        Ok(())
    }
    /// What BLAS does with the call that cuBLAS gets.
    fn multiply(&mut self, product: &Product) -> Result<()> {
        let call = product.sgemm();
        let [m, n, k] = call.size;
        assert_eq!(call.ldc, m, "results without gaps");
        let mut result = self.array(call.c)[..m * n].to_vec();
        let (a, b) = (self.matrix(call.a, m, k), self.matrix(call.b, k, n));
        multiply(b, a, &mut result, product.accumulate);
        self.write(call.c, &result);
        Ok(())
    }
    fn fresh(&self) -> Result<Box<dyn Device>> {
        Ok(Box::new(Self {
            library: Arc::clone(&self.library),
            arrays: HashMap::new(),
            broken: Arc::clone(&self.broken),
            allocated: Arc::clone(&self.allocated),
        }))
    }
}

/// The GPU of this machine; `None`, plainly, where there is none.
fn gpu() -> Option<CudaEngine> {
    match DeviceMemory::open(0) {
        Ok(memory) => Some(CudaEngine::on(memory)),
        Err(error) => {
            skimjit_testing::skip(format!("no GPU: {error}"));
            None
        }
    }
}

/// Both kinds of device, as far as they are there.
pub fn engines() -> Vec<CudaEngine> {
    let host = Host::new().map(|host| CudaEngine::on(DeviceMemory::on(Box::new(host))));
    host.into_iter().chain(gpu()).collect()
}

const MANY: &str = r#"
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "b1" type: "BatchNorm" bottom: "c1" top: "b1" }
layer { name: "s1" type: "Scale" bottom: "b1" top: "b1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "b1" top: "b1" relu_param { negative_slope: 0.1 } }
layer { name: "n1" type: "LRN" bottom: "b1" top: "n1" lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 } }
layer { name: "p1" type: "Pooling" bottom: "n1" top: "p1" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 4 kernel_size: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "c3" type: "Convolution" bottom: "p1" top: "c3" convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 pad: 1 dilation: 2 group: 2 weight_filler { type: "msra" } } }
layer { name: "p3" type: "Pooling" bottom: "c3" top: "p3" pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "p2" type: "Pooling" bottom: "c2" top: "p2" pooling_param { pool: AVE global_pooling: true } }
layer { name: "t3" type: "TanH" bottom: "p3" top: "t3" }
layer { name: "cut" type: "Slice" bottom: "c2" top: "h1" top: "h2" slice_param { axis: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "h1" bottom: "h2" top: "sum" eltwise_param { coeff: 0.5 coeff: -2 } }
layer { name: "max" type: "Eltwise" bottom: "h1" bottom: "h2" top: "max" eltwise_param { operation: MAX } }
layer { name: "join" type: "Concat" bottom: "sum" bottom: "max" bottom: "c2" top: "join" }
layer { name: "f1" type: "Flatten" bottom: "join" top: "f1" }
layer { name: "i1" type: "InnerProduct" bottom: "f1" top: "i1" inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "d1" type: "Dropout" bottom: "i1" top: "i1" dropout_param { dropout_ratio: 0.3 } }
layer { name: "i2" type: "InnerProduct" bottom: "p2" top: "i2" inner_product_param { num_output: 7 transpose: true weight_filler { type: "xavier" } } }
layer { name: "i3" type: "InnerProduct" bottom: "t3" top: "i3" inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "pr" type: "PReLU" bottom: "i3" top: "i3" }
layer { name: "all" type: "Eltwise" bottom: "i1" bottom: "i2" bottom: "i3" top: "all" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "all" bottom: "label" top: "loss" }
layer { name: "l2" type: "EuclideanLoss" bottom: "i2" bottom: "i3" top: "l2" loss_weight: 0.3 }
"#;

/// Without normalisation, behind which biases have no gradient but noise.
const PLAIN: &str = r#"
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "i1" type: "InnerProduct" bottom: "c1" top: "i1" inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "i1" bottom: "label" top: "loss" }
"#;

fn build(layers: &str, phase: Phase) -> Net {
    let inputs = r#"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 2 dim: 13 dim: 11 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 3 } } }"#;
    let definition = Definition::parse(&format!("{inputs}{layers}"), "net.prototxt").unwrap();
    let blob = |name: &str, dims: &[u32]| Blob {
        name: name.to_owned(),
        shape: Shape::new(dims).unwrap(),
    };
    let blobs = [blob("data", &[3, 2, 13, 11]), blob("label", &[3])];
    Net::new(&definition.in_phase(phase), &[], &blobs, 5).unwrap()
}

fn batch(turn: u64) -> [Tensor; 2] {
    let wave = |i: usize| ((i as f32 * 0.7 + turn as f32).sin() + (i as f32 * 0.031).cos()) * 0.9;
    let pixels = (0..3 * 2 * 13 * 11).map(wave).collect();
    let labels = vec![1.0, 4.0, (turn % 7) as f32];
    [
        Tensor::new(Shape::new([3, 2, 13, 11]).unwrap(), pixels),
        Tensor::new(Shape::new([3]).unwrap(), labels),
    ]
}

pub fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let most = theirs.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= 2e-4 * most,
            "{what}[{index}]: {a}, expected {b}"
        );
    }
}

fn step(engine: &mut dyn Engine, id: NetId, turn: u64) -> f32 {
    let [data, label] = batch(turn);
    engine.clear_gradients();
    engine.forward(id, &[&data, &label], turn).unwrap();
    engine.backward(id);
    loss(engine, id)
}

/// Values, gradient and history of a parameter.
fn arrays(engine: &mut dyn Engine, param: usize) -> Vec<Vec<f32>> {
    let mut arrays = Vec::new();
    engine.edit(param, &mut |_, state| {
        arrays = vec![state.data.clone(), state.gradient.clone()];
        arrays.extend(state.history.iter().cloned());
        arrays.extend(state.shadow.clone());
    });
    arrays
}

/// Values, gradients and parameters of two engines after the same runs.
pub fn compare(a: &mut dyn Engine, b: &mut dyn Engine, id: NetId) {
    let nodes: Vec<_> = a
        .net(id)
        .graph
        .nodes
        .iter()
        .map(|n| (n.name.clone(), n.output))
        .collect();
    for (name, value) in nodes {
        close(&name, &a.value(id, value), &b.value(id, value));
        let gradients = [a.value_gradient(id, value), b.value_gradient(id, value)];
        if let [Some(a), Some(b)] = &gradients {
            close(&format!("gradient of {name}"), a, b);
        } else {
            assert_eq!(gradients[0], gradients[1], "{name}");
        }
    }
    for index in 0..a.params().len() {
        let states = [arrays(a, index), arrays(b, index)];
        let name = a.params()[index].name();
        let arrays = ["data", "gradient", "history", "second history"];
        for (what, (a, b)) in arrays.iter().zip(states[0].iter().zip(&states[1])) {
            close(&format!("{what} of {name}"), a, b);
        }
    }
}

/// Checklist 57.
#[test]
fn every_layer_agrees_with_the_cpu() {
    for mut gpu in engines() {
        let mut cpu = CpuEngine::default();
        let id = cpu.add(build(MANY, Phase::Train)).unwrap();
        assert_eq!(gpu.add(build(MANY, Phase::Train)).unwrap(), id);
        // Two losses.
        assert_eq!(gpu.on_host(id), 2);
        for turn in 0..2 {
            let [a, b] = [step(&mut gpu, id, turn), step(&mut cpu, id, turn)];
            assert!((a - b).abs() < 1e-4 * b.abs(), "{a} {b}");
            compare(&mut gpu, &mut cpu, id);
        }
        // A test network shares the parameters, and normalises with the sums gathered so far.
        let test = cpu.add(build(MANY, Phase::Test)).unwrap();
        gpu.add(build(MANY, Phase::Test)).unwrap();
        let [data, label] = batch(9);
        for engine in [&mut gpu as &mut dyn Engine, &mut cpu] {
            engine.forward(test, &[&data, &label], 0).unwrap();
        }
        compare(&mut gpu, &mut cpu, test);
    }
}

#[test]
fn every_update_agrees_with_the_cpu() {
    let rules = [
        Rule::Sgd { momentum: 0.9 },
        Rule::Nesterov { momentum: 0.8 },
        Rule::AdaGrad { delta: 1e-4 },
        Rule::RmsProp {
            delta: 1e-4,
            decay: 0.9,
        },
        Rule::AdaDelta {
            momentum: 0.9,
            delta: 1e-3,
        },
        Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            delta: 1e-8,
        },
    ];
    let decays = [Decay::None, Decay::L1(0.01), Decay::L2(0.02)];
    let adaptive = |by_gradient| Threshold::Adaptive {
        least: 0.01,
        factor: 10.0,
        by_gradient,
    };
    let thresholds = [
        Threshold::None,
        Threshold::Fixed(0.05),
        adaptive(false),
        adaptive(true),
        Threshold::Soft(0.003),
    ];
    for mut gpu in engines() {
        let mut cpu = CpuEngine::default();
        let id = cpu.add(build(PLAIN, Phase::Train)).unwrap();
        gpu.add(build(PLAIN, Phase::Train)).unwrap();
        let mut turn = 0;
        for rule in rules {
            // No rule can do with the history of another one.
            for engine in [&mut gpu as &mut dyn Engine, &mut cpu] {
                for index in 0..engine.params().len() {
                    engine.edit(index, &mut |_, state| state.history.clear());
                }
            }
            for (decay, threshold) in decays
                .iter()
                .flat_map(|d| thresholds.iter().map(move |t| (*d, t)))
            {
                turn += 1;
                for engine in [&mut gpu as &mut dyn Engine, &mut cpu] {
                    step(engine, id, turn);
                    for index in 0..engine.params().len() {
                        if turn == 4 {
                            engine.edit(index, &mut |_, state| {
                                let mask =
                                    (0..state.data.len()).map(|i| f32::from(u8::from(i % 3 > 0)));
                                state.mask = Some(mask.collect());
                            });
                        }
                        if turn == 40 {
                            engine.edit(index, &mut |_, state| {
                                state.mask = None;
                                state.shadow = Some(state.data.clone());
                            });
                        }
                        let update = Update {
                            rule,
                            rate: 0.01,
                            iteration: turn,
                            scale: 0.5,
                            decay,
                            threshold: threshold.clone(),
                            factors: turn.is_multiple_of(2).then_some((&[0.5, 1.0, 2.5][..], 5)),
                        };
                        engine.update(index, &update);
                    }
                }
                // Weights beside a threshold may fall to either side; both go on from one.
                for index in 0..cpu.params().len() {
                    let mut state = None;
                    cpu.edit(index, &mut |_, values| state = Some(values.clone()));
                    let state = state.unwrap();
                    gpu.edit(index, &mut |param, values| {
                        let same = values.data.iter().zip(&state.data);
                        let apart = same.filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
                        assert!(
                            apart * 100 <= state.data.len(),
                            "{} {rule:?} {decay:?} {threshold:?}",
                            param.name()
                        );
                        let both = values.history.iter().zip(&state.history);
                        both.for_each(|(a, b)| close(&format!("history of {rule:?}"), a, b));
                        if let (Some(a), Some(b)) = (&values.shadow, &state.shadow) {
                            close("shadow", a, b);
                        }
                        *values = state.clone();
                    });
                }
            }
        }
    }
}

#[test]
fn seeds_and_failures_reach_the_caller() {
    for mut gpu in engines() {
        let mut cpu = CpuEngine::default();
        let id = cpu.add(build(MANY, Phase::Train)).unwrap();
        gpu.add(build(MANY, Phase::Train)).unwrap();
        let all = cpu
            .net(id)
            .graph
            .nodes
            .iter()
            .find(|node| node.name == "all")
            .unwrap()
            .output;
        let seed: Vec<f32> = (0..21).map(|i| i as f32 * 0.01 - 0.1).collect();
        for engine in [&mut gpu as &mut dyn Engine, &mut cpu] {
            engine.seed_gradient(id, all, seed.clone());
            step(engine, id, 3);
        }
        compare(&mut gpu, &mut cpu, id);
        let [data, _] = batch(0);
        let wrong = Tensor::new(Shape::new([3]).unwrap(), vec![0.0, 7.0, 1.0]);
        let error = gpu
            .forward(id, &[&data, &wrong], 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("label 7"), "{error}");
    }
}

/// A device that fails between two forward runs is noticed, and stays failed.
#[test]
fn failures_are_kept() {
    let Some(host) = Host::new() else { return };
    let broken = Arc::clone(&host.broken);
    let mut gpu = CudaEngine::on(DeviceMemory::on(Box::new(host)));
    let id = gpu.add(build(PLAIN, Phase::Train)).unwrap();
    step(&mut gpu, id, 0);
    gpu.check().unwrap();
    broken.store(true, Ordering::Relaxed);
    let mut seen = 0;
    gpu.edit(0, &mut |param, state| {
        assert_eq!(state.data.len(), param.shape.count());
        seen += 1;
    });
    assert_eq!(seen, 1, "whoever edits finds something of the right size");
    assert!(gpu.check().is_err());
    broken.store(false, Ordering::Relaxed);
    let [data, label] = batch(1);
    let error = gpu.forward(id, &[&data, &label], 1).unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
}

/// Memory is asked for in the first iteration only.
#[test]
fn iterations_allocate_nothing() {
    let layers = r#"
layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "i" type: "InnerProduct" bottom: "r" top: "i" inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "e" type: "Eltwise" bottom: "i" bottom: "i" bottom: "i" top: "e" }
layer { name: "e2" type: "Eltwise" bottom: "e" bottom: "i" bottom: "i" top: "e2" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "e2" bottom: "label" top: "loss" }
"#;
    let Some(host) = Host::new() else { return };
    let allocated = Arc::clone(&host.allocated);
    let mut gpu = CudaEngine::on(DeviceMemory::on(Box::new(host)));
    let mut cpu = CpuEngine::default();
    let id = gpu.add(build(layers, Phase::Train)).unwrap();
    cpu.add(build(layers, Phase::Train)).unwrap();
    step(&mut gpu, id, 0);
    let first = allocated.load(Ordering::Relaxed);
    for turn in 1..4 {
        step(&mut gpu, id, turn);
        step(&mut cpu, id, turn);
        compare(&mut gpu, &mut cpu, id);
    }
    assert_eq!(allocated.load(Ordering::Relaxed), first);
}

#[test]
fn nvrtc_takes_the_kernels() {
    // SAFETY: it tries to load a library.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        skimjit_testing::skip("no libnvrtc in the library path");
        return;
    }
    let text = driver::compile().unwrap().to_src();
    assert!(
        !text.contains('\0'),
        "it becomes a string that ends with a zero"
    );
    let kernels = KERNELS.split("\nKERNEL(").skip(1);
    for kernel in kernels.filter_map(|text| text.split_once(')')) {
        let entry = format!(".entry {}(", kernel.0);
        assert!(text.contains(&entry), "{entry}");
    }
}
