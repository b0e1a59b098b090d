//! What all commands that train share: the machine, the signals, the files to start from.

use super::console::{WARNINGS, complain};
use skimjit_caffe::{Weights, solver::SolverDefinition};
use skimjit_models::{Care, Error, Result, Warning};
use skimjit_trainer::engine::Engine;
use skimjit_trainer::executor::CpuEngine;
use skimjit_trainer::solver::report::Report;
use skimjit_trainer::solver::settings::Settings;
use skimjit_trainer::solver::snapshot::Resumed;
use skimjit_trainer::solver::{Request, Solver, Start};
use skimjit_trainer::weights::{compare, read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Where a run happens.
#[derive(clap::Args, Clone, Debug)]
pub struct MachineArguments {
    /// Threads; results do not depend on their number [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// What computes: cpu, cuda, or cuda:N for the Nth GPU from 0 on (built with `--features cuda`)
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = parse_device)]
    pub device: Device,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A GPU.
    Cuda(usize),
}

fn parse_device(text: &str) -> std::result::Result<Device, String> {
    let number = |text: &str| text.parse().ok().map(Device::Cuda);
    match (text, text.strip_prefix("cuda:")) {
        ("cpu", _) => Ok(Device::Cpu),
        ("cuda", _) => Ok(Device::Cuda(0)),
        (_, Some(rest)) => number(rest).ok_or_else(|| "expected a number behind cuda:".to_owned()),
        _ => Err("expected cpu, cuda or cuda:N".to_owned()),
    }
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Box<dyn Engine>> {
    let memory = skimjit_trainer::cuda::DeviceMemory::open(number)?;
    Ok(Box::new(skimjit_trainer::executor::Executor::on(memory)))
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Box<dyn Engine>> {
    Err(Error::new(format!("cuda:{number}"))
        .field("--device")
        .expected("cpu: this skimjit-train was built without CUDA")
        .hint("build it with `cargo build --release -p skimjit-trainer --features cuda`"))
}

impl MachineArguments {
    /// Sets the number of threads; to be called once.
    pub fn start(&self) -> Result<()> {
        let threads = self.threads.map_or(0, usize::from);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
        pool.map_err(|error| Error::new(format!("no threads: {error}")).field("--threads"))
    }
    /// An engine without networks.
    pub fn engine(&self) -> Result<Box<dyn Engine>> {
        match self.device {
            Device::Cpu => Ok(Box::new(CpuEngine::default())),
            Device::Cuda(number) => cuda(number),
        }
    }
}

/// How SkimCaffe's thresholds are applied.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ThresholdArguments {
    /// Thresholds reach biases, factors and BatchNorm's sums too, as in SkimCaffe
    #[arg(long)]
    pub threshold_all: bool,
    /// The adaptive threshold compares gradients, as SkimCaffe documents it, instead of updates, as
    /// its code does
    #[arg(long)]
    pub threshold_by_gradient: bool,
}

impl ThresholdArguments {
    /// Changes settings.
    pub fn apply(&self, settings: &mut Settings) {
        settings.threshold_all = self.threshold_all;
        settings.threshold_by_gradient = self.threshold_by_gradient;
    }
}

/// How unknown fields of a network's definition are taken.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct CareArguments {
    /// Read layers without the fields that are unknown, which may change what they compute; they are
    /// warnings then, not an error
    #[arg(long)]
    pub ignore_unknown_fields: bool,
}

impl CareArguments {
    /// The same for who reads a definition.
    pub fn care(self) -> Care {
        Care {
            ignore_unknown_fields: self.ignore_unknown_fields,
        }
    }
}

/// Reads weights.
pub fn read_weights(paths: &[PathBuf]) -> Result<Vec<Weights>> {
    paths.iter().map(|path| read(path)).collect()
}

/// What a run starts from.
pub struct Files<'a> {
    /// The solver definition.
    pub solver: &'a Path,
    /// Weights, later ones over earlier ones.
    pub weights: &'a [PathBuf],
    /// A solverstate to go on from.
    pub snapshot: Option<&'a Path>,
    /// How unknown fields are taken.
    pub care: Care,
}

/// Opens everything that a solver definition names.
pub fn open(
    files: &Files<'_>,
    machine: &MachineArguments,
    change: impl FnOnce(&mut Settings),
    report: &mut dyn Report,
) -> Result<Solver> {
    let mut tell = |warning: &Warning| report.line(&format!("warning: {warning}"));
    let definition = SolverDefinition::read(files.solver, files.care, &mut tell)?;
    tell_mode(&definition, machine, report);
    let in_file = |error: Error| error.file(files.solver);
    let ambiguities = definition.ambiguities();
    ambiguities
        .iter()
        .for_each(|told| report.line(&format!("warning: {told}")));
    let mut settings = definition.settings().map_err(in_file)?;
    change(&mut settings);
    let mut tell = |warning: &Warning| report.line(&format!("warning: {warning}"));
    let networks = definition
        .networks(files.care, &mut tell)
        .map_err(in_file)?;
    let mut given = files.weights.to_vec();
    if given.is_empty() && files.snapshot.is_none() {
        given = definition.weights();
    }
    given
        .iter()
        .for_each(|path| report.line(&format!("Finetuning from {}", path.display())));
    let mut weights = read_weights(&given)?;
    let resume = files.snapshot.map(Resumed::read).transpose()?;
    if let (Some(resumed), Some(path)) = (&resume, files.snapshot) {
        report.line(&format!("Resuming from {}", path.display()));
        weights.push(resumed.weights.clone());
    }
    let start = Start {
        weights: &weights,
        resume,
    };
    let engine = machine.engine()?;
    let mut solver = Solver::new(settings, &networks, engine, start, report).map_err(in_file)?;
    if files.snapshot.is_none() {
        let net = solver.net();
        let named: Vec<_> = given.iter().map(PathBuf::as_path).zip(&weights).collect();
        let told = compare(solver.engine().net(net), &named)?;
        told.iter()
            .for_each(|told| report.line(&format!("warning: {told}")));
    }
    WARNINGS.check()?;
    Ok(solver)
}

/// Says, once, that a definition asks for a GPU and the CPU trains.
fn tell_mode(solver: &SolverDefinition, machine: &MachineArguments, report: &mut dyn Report) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if solver.asks_for_gpu() && machine.device == Device::Cpu && !TOLD.swap(true, Ordering::Relaxed)
    {
        let how = match cfg!(feature = "cuda") {
            true => "--device cuda trains on a GPU",
            false => "this skimjit-train was built without CUDA, see --device",
        };
        report.line(&format!(
            "note: the definition says solver_mode: GPU, and the CPU trains: {how}"
        ));
    }
}

/// The signal that asked the run to stop; 0: none has.
static ASKED: AtomicU8 = AtomicU8::new(0);
/// Whether a run was stopped before its end.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Keeps in mind that a run was stopped before its end.
pub fn note_stop() {
    STOPPED.store(true, Ordering::Relaxed);
}

/// The exit code of a run that was stopped: the shell's for the signal, so that what was to come after the
/// run does not.
pub fn stop_code() -> Option<u8> {
    let stopped = STOPPED.load(Ordering::Relaxed);
    stopped.then(|| ASKED.load(Ordering::Relaxed).saturating_add(128))
}

/// Says so when a run was stopped before its end.
pub fn tell_end(solver: &Solver) {
    let (done, all) = (solver.iteration(), solver.settings().max_iter);
    if done < all && !solver.is_done() {
        note_stop();
        let text = format!(
            "after {done} of {all} iterations; --snapshot {}_iter_{done}.solverstate{} goes on",
            solver.settings().snapshot_prefix,
            if solver.settings().snapshot_hdf5 {
                ".h5"
            } else {
                ""
            }
        );
        complain("stopped", text);
    }
}

/// SIGINT stops, SIGHUP snapshots; both take effect between two iterations. A second SIGINT ends the
/// process at once.
pub fn requests() -> Result<impl FnMut() -> Option<Request>> {
    let failed = |error: std::io::Error| Error::new(format!("signals cannot be caught: {error}"));
    let (stop, snapshot) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), number).map_err(failed)?;
    }
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&snapshot))
        .map_err(failed)?;
    skimjit_host::interrupt::be_patient();
    Ok(move || {
        let signal = stop.load(Ordering::Relaxed);
        if signal > 0 {
            ASKED.store(u8::try_from(signal).unwrap_or_default(), Ordering::Relaxed);
            return Some(Request::Stop);
        }
        snapshot
            .swap(false, Ordering::Relaxed)
            .then_some(Request::Snapshot)
    })
}
