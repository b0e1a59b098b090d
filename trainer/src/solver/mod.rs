//! The solver: iterations, tests, snapshots.

mod display;
pub mod method;
pub mod report;
mod run;
pub mod settings;
pub mod snapshot;
pub mod source;
mod treatment;

use crate::engine::{self, Engine, NetId};
use crate::param::Role;
use crate::prune::recalibration::recalibrate;
use method::{Method, MethodStates};
use report::{Judgement, Metrics, Output, Progress, Report};
use run::Run;
use settings::Settings;
use skimjit_caffe::solver::Networks;
use skimjit_caffe::{Definition, Weights};
use skimjit_data::Feed;
use skimjit_models::{Error, Result, Tensor};
use source::{BuildOptions, Fed};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;
use treatment::Treatment;

/// What a run is asked to do between two iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a snapshot and go on.
    Snapshot,
    /// Write a snapshot, unless they are switched off, and stop.
    Stop,
}

/// A network with its batches.
struct Runner {
    id: NetId,
    feed: Feed,
    order: Vec<usize>,
}

/// Trains a network.
pub struct Solver {
    run: Run,
    train: Runner,
    tests: Vec<Runner>,
    /// Definition of the training network.
    definition: Definition,
    /// Batches that BatchNorm's statistics are gathered anew from before tests; 0: they stay.
    recalibration: u32,
    losses: VecDeque<f32>,
}

/// How a run begins.
#[derive(Default)]
pub struct Start<'a> {
    /// Weights, later ones over earlier ones.
    pub weights: &'a [Weights],
    /// A snapshot to go on from; its weights are among `weights` already.
    pub resume: Option<snapshot::Resumed>,
}

impl Solver {
    /// Builds all networks on an engine without any.
    pub fn new(
        settings: Settings,
        networks: &Networks,
        mut engine: Box<dyn Engine>,
        start: Start<'_>,
        report: &mut dyn Report,
    ) -> Result<Self> {
        let iteration = start.resume.as_ref().map_or(0, |resumed| resumed.iteration);
        let mut options = BuildOptions {
            weights: start.weights,
            seed: settings.seed,
            skip: iteration * u64::from(settings.iter_size),
        };
        let train = add(
            engine.as_mut(),
            source::build(&networks.train, &options)?,
            report,
        )?;
        let passes = tests_before(&settings, iteration);
        let mut tests = Vec::new();
        for (test, &batches) in networks.tests.iter().zip(&settings.test_iter) {
            // Tests go on in their data where the last one stopped; weights are those that are trained.
            options.skip = passes * u64::from(batches);
            options.weights = &[];
            tests.push(add(
                engine.as_mut(),
                source::build(test, &options)?,
                report,
            )?);
        }
        let treatments = engine
            .params()
            .iter()
            .map(|param| Treatment::of(param, &settings))
            .collect::<Result<_>>()
            .map_err(|error| match error.layer {
                Some(_) => error.file(networks.train.file()),
                None => error,
            })?;
        if engine.net(train.id).training.losses.is_empty() {
            return Err(Error::new("a network without loss")
                .file(networks.train.file())
                .expected("a loss layer, like SoftmaxWithLoss, in the TRAIN phase"));
        }
        let mut solver = Self {
            run: Run {
                settings,
                engine,
                net: train.id,
                treatments,
                methods: Vec::new(),
                kept: MethodStates::default(),
                iteration,
                current_step: 0,
                started: Instant::now(),
                snapshot_at: None,
            },
            train,
            tests,
            definition: networks.train.clone(),
            recalibration: 0,
            losses: VecDeque::new(),
        };
        solver.begin(start, report)?;
        Ok(solver)
    }

    /// Freezes what is to stay zero, and takes over the state of a snapshot.
    fn begin(&mut self, start: Start<'_>, report: &mut dyn Report) -> Result<()> {
        report.line(&format!(
            "prune_threshold = {} measure_threshold = {}\nmax_threshold_factor = {}\nwinograd_adjust_threshold = {}",
            self.run.settings.prune_threshold,
            self.run.settings.measure_threshold,
            self.run.settings.max_threshold_factor,
            i32::from(self.run.settings.winograd_adjust_threshold),
        ));
        if !start.weights.is_empty() {
            let threshold = self.run.settings.prune_threshold;
            for index in 0..self.run.treatments.len() {
                let mut said = None;
                self.run.engine.edit(index, &mut |param, state| {
                    said = crate::prune::connectivity::freeze(param, state, threshold);
                });
                said.iter().for_each(|text| report.line(text));
            }
        }
        for (index, treatment) in self.run.treatments.iter().enumerate() {
            if treatment.needs_shadow() {
                self.run.engine.edit(index, &mut |_, state| {
                    state.shadow = Some(state.data.clone())
                });
            }
        }
        match start.resume {
            Some(resumed) => {
                self.run.kept = resumed.methods()?;
                resumed.apply(&mut self.run)
            }
            None => Ok(()),
        }
    }

    /// Adds a method; it starts now, with what a snapshot kept of it under its name. Further ones of a name count.
    pub fn add_method(
        &mut self,
        name: &str,
        method: Box<dyn Method>,
        report: &mut dyn Report,
    ) -> Result<()> {
        self.run.add_method(name, method, report)
    }
    /// Writes a snapshot of the state after the last iteration; the path of the solverstate.
    pub fn snapshot(&mut self, report: &mut dyn Report) -> Result<PathBuf> {
        self.run.snapshot(report)
    }
    /// The network as it is, with its weights.
    pub fn trained(&mut self) -> Weights {
        self.run.trained()
    }
    /// True when updates zero small weights of some parameter.
    pub fn has_thresholds(&self) -> bool {
        self.run.has_thresholds()
    }
    /// True when a method has reached what the run was for.
    pub fn is_done(&self) -> bool {
        self.run.is_done()
    }
    /// The engine with all networks.
    pub fn engine(&mut self) -> &mut dyn Engine {
        self.run.engine.as_mut()
    }
    /// The training network.
    pub fn net(&self) -> NetId {
        self.train.id
    }
    /// Iterations done.
    pub fn iteration(&self) -> u64 {
        self.run.iteration
    }
    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.run.settings
    }

    /// Runs to the last iteration, or until it is asked to stop.
    pub fn solve(
        &mut self,
        report: &mut dyn Report,
        asked: &mut dyn FnMut() -> Option<Request>,
    ) -> Result<()> {
        let mut stopped = false;
        while self.run.iteration < self.run.settings.max_iter && !stopped {
            self.iterate(report)?;
            let request = asked();
            let due = self.run.settings.snapshot > 0
                && self
                    .run
                    .iteration
                    .is_multiple_of(self.run.settings.snapshot);
            stopped = request == Some(Request::Stop);
            if due || request.is_some() {
                self.run.snapshot(report)?;
            }
            stopped |= self.run.is_done();
        }
        if self.run.settings.snapshot_after_train
            && self.run.snapshot_at != Some(self.run.iteration)
        {
            self.run.snapshot(report)?;
        }
        if stopped {
            report.line("Optimization stopped early.");
            return Ok(());
        }
        self.finish(report)
    }

    /// What follows the last iteration.
    fn finish(&mut self, report: &mut dyn Report) -> Result<()> {
        let every =
            |interval: u64, iteration: u64| interval > 0 && iteration.is_multiple_of(interval);
        if every(self.run.settings.display, self.run.iteration) {
            let loss = self.forward(0, report)?;
            report.line(&format!("Iteration {}, loss = {loss}", self.run.iteration));
        }
        if every(self.run.settings.test_interval, self.run.iteration) {
            self.test(report)?;
        }
        report.line("Optimization Done.");
        Ok(())
    }

    /// One iteration.
    pub fn iterate(&mut self, report: &mut dyn Report) -> Result<()> {
        self.run.engine.clear_gradients();
        let interval = self.run.settings.test_interval;
        let first = self.run.iteration == 0;
        if interval > 0
            && self.run.iteration.is_multiple_of(interval)
            && (!first || self.run.settings.test_initialization)
        {
            self.test(report)?;
        }
        let mut loss = 0.0;
        for part in 0..self.run.settings.iter_size {
            loss += self.forward(part, report)?;
            self.run.engine.backward(self.train.id);
        }
        let loss = self.smooth(loss / self.run.settings.iter_size as f32);
        let rate = self
            .run
            .settings
            .policy
            .rate(self.run.iteration, &mut self.run.current_step);
        let display = self.run.settings.display > 0
            && self.run.iteration.is_multiple_of(self.run.settings.display);
        if display {
            self.run.display(loss, rate, report);
        }
        self.run.update(rate)?;
        self.run.iteration += 1;
        self.run
            .run_methods(report, |method, context| method.after_update(context))?;
        report.progress(&Progress {
            iteration: self.run.iteration,
            max_iter: self.run.settings.max_iter,
            loss,
            rate,
        });
        Ok(())
    }

    /// Runs the next batch forward; its loss.
    fn forward(&mut self, part: u32, report: &mut dyn Report) -> Result<f32> {
        let batch = self.train.feed.next()?.to_vec();
        let inputs: Vec<&Tensor> = self
            .train
            .order
            .iter()
            .map(|&index| &batch[index])
            .collect();
        let turn = self.run.iteration * u64::from(self.run.settings.iter_size) + u64::from(part);
        let turn = turn ^ self.run.settings.seed.rotate_left(40);
        self.run.engine.forward(self.train.id, &inputs, turn)?;
        let loss = engine::loss(self.run.engine.as_ref(), self.train.id);
        self.run.engine.check()?;
        if !loss.is_finite() {
            return Err(self.diverged(loss));
        }
        self.run.run_methods(report, |method, context| {
            method.after_forward(context, &inputs)
        })?;
        Ok(loss)
    }

    /// Where the first number that is none is.
    fn diverged(&mut self, loss: f32) -> Error {
        let net = self.run.engine.net(self.train.id);
        let bad = |id: skimjit_models::ValueId| {
            self.run
                .engine
                .value(self.train.id, id)
                .iter()
                .any(|x| !x.is_finite())
        };
        let inputs = net.graph.inputs.iter().find(|&&id| bad(id));
        let node = net.graph.nodes.iter().find(|node| bad(node.output));
        let error = Error::new(format!(
            "a loss of {loss} in iteration {}",
            self.run.iteration
        ))
        .expected("a finite loss");
        match (inputs, node) {
            (Some(&id), _) => error.hint(format!(
                "input {:?} has numbers that are none: correct the data",
                net.graph.value(id).name
            )),
            (None, Some(node)) => error.layer(node.name.clone()).hint(
                "this layer is the first with such numbers: lower base_lr, or set clip_gradients",
            ),
            (None, None) => error.hint("lower base_lr, or set clip_gradients"),
        }
    }

    fn smooth(&mut self, loss: f32) -> f32 {
        if self.losses.len() == self.run.settings.average_loss {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
        self.losses.iter().sum::<f32>() / self.losses.len() as f32
    }

    /// Before every test, and in a run without tests at the call of [`Solver::test`], the statistics of all
    /// BatchNorm layers are gathered anew from the first batches of the training data; 0: they stay.
    pub fn recalibrate_before_tests(&mut self, batches: u32) {
        self.recalibration = batches;
    }

    /// The data is opened anew, so that the batches of the training stay what they are.
    fn recalibrate(&mut self, report: &mut dyn Report) -> Result<()> {
        let mut params = self.run.engine.params().iter();
        if self.recalibration == 0 || !params.any(|param| param.role == Role::Statistic) {
            return Ok(());
        }
        let mut feed = source::feed(&self.definition, self.run.settings.seed, 0)?;
        let engine = self.run.engine.as_mut();
        let layers = recalibrate(engine, self.train.id, &mut feed, self.recalibration)?;
        if layers > 0 {
            report.line(&format!(
                "Iteration {}, statistics of {layers} BatchNorm layers from {} batches",
                self.run.iteration, self.recalibration
            ));
        }
        Ok(())
    }

    /// File of the training network's definition.
    pub fn file(&self) -> &Path {
        self.definition.file()
    }

    /// Channels, height and width of an image as the data layers bring it, in tests if there are any; `None`
    /// where there are several inputs beside labels, or none of images.
    pub fn image(&mut self) -> Option<Vec<u32>> {
        let id = self.tests.first().map_or(self.train.id, |test| test.id);
        let graph = &self.run.engine.net(id).graph;
        let shapes = graph.inputs.iter().map(|&id| graph.shape(id));
        let images: Vec<_> = shapes.filter(|shape| shape.rank() == 4).collect();
        match images.as_slice() {
            [image] => Some(image.dims()[1..].to_vec()),
            _ => None,
        }
    }

    /// Runs all tests.
    pub fn test(&mut self, report: &mut dyn Report) -> Result<Vec<Vec<Output>>> {
        self.recalibrate(report)?;
        let mut all = Vec::new();
        for number in 0..self.tests.len() {
            report.line(&format!(
                "Iteration {}, Testing net (#{number})",
                self.run.iteration
            ));
            let (outputs, loss) = self.run_test(number)?;
            if let Some(loss) = loss {
                report.line(&format!("Test loss: {loss}"));
            }
            for (index, output) in outputs.iter().enumerate() {
                report.line(&format!(
                    "    Test net output #{index}: {}",
                    display::output(output)
                ));
            }
            report.metrics(&Metrics::Test {
                iteration: self.run.iteration,
                net: number,
                outputs: outputs.clone(),
                loss,
            });
            all.push(outputs);
        }
        Ok(all)
    }

    fn run_test(&mut self, number: usize) -> Result<(Vec<Output>, Option<f64>)> {
        let batches = self.run.settings.test_iter[number];
        let runner = &mut self.tests[number];
        let mut sums = Judgement::default();
        for _ in 0..batches {
            let batch = runner.feed.next()?;
            let inputs: Vec<&Tensor> = runner.order.iter().map(|&index| &batch[index]).collect();
            self.run.engine.forward(runner.id, &inputs, 0)?;
            sums.add(self.run.engine.as_ref(), runner.id);
            self.run.engine.check()?;
        }
        sums.divide(f64::from(batches));
        let loss = self.run.settings.test_compute_loss.then_some(sums.loss);
        Ok((sums.outputs, loss))
    }
}

/// Tests that ran before iteration `iteration` began.
fn tests_before(settings: &Settings, iteration: u64) -> u64 {
    match settings.test_interval {
        0 => 0,
        interval => {
            iteration.div_ceil(interval) - u64::from(iteration > 0 && !settings.test_initialization)
        }
    }
}

fn add(engine: &mut dyn Engine, fed: Fed, report: &mut dyn Report) -> Result<Runner> {
    fed.net
        .warnings
        .iter()
        .for_each(|warning| report.line(&format!("warning: {warning}")));
    Ok(Runner {
        id: engine.add(fed.net)?,
        feed: fed.feed,
        order: fed.order,
    })
}
