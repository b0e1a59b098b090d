//! Runs the batches of a test.

use super::layers::Measured;
use super::tally::Tally;
use super::{Alone, Arguments, Batch, Report, print};
use crate::support::output::Output;
use skimjit_program::progress;
use crate::support::times::Times;
use skimjit::{Engine, Model, Result, Session};
use skimjit_data::Feed;
use skimjit_models::Tensor;
use skimjit_runtime::machine;

use std::time::{Duration, Instant};

/// A network that is being tested.
pub struct Test<'a> {
    model: &'a Model,
    engine: &'a Engine,
    session: Session,
    arguments: &'a Arguments,
    clock_hz: f64,
    tally: Tally,
    times: Times,
    waited: Duration,
    batches: Vec<Batch>,
}

impl<'a> Test<'a> {
    pub fn new(model: &'a Model, engine: &'a Engine, arguments: &'a Arguments) -> Self {
        Self {
            model,
            engine,
            session: engine.session(),
            arguments,
            clock_hz: machine::clock_ghz() * 1e9,
            tally: Tally::new(model, engine),
            times: Times::default(),
            waited: Duration::ZERO,
            batches: vec![],
        }
    }

    /// Runs all batches.
    pub fn run(mut self, mut data: Feed, out: &mut Output) -> Result<Report> {
        let bar = progress::bar("", self.arguments.iterations.into());
        let started = Instant::now();
        let mut last = Vec::new();
        for number in 0..self.arguments.iterations {
            last = self.step(number, &mut data, out)?;
            bar.set_message(self.tally.line());
            bar.inc(1);
        }
        let elapsed = started.elapsed();
        bar.finish_and_clear();
        // Reading ahead ends here.
        drop(data);
        let alone = match self.arguments.data_cost {
            true => Some(self.alone(&last, elapsed)?),
            false => None,
        };
        Ok(self.report(elapsed, alone))
    }

    /// Runs one batch; returns its data if they are used again.
    fn step(&mut self, number: u32, data: &mut Feed, out: &mut Output) -> Result<Vec<Tensor>> {
        let started = Instant::now();
        let inputs = data.next()?;
        let waited = started.elapsed();
        self.session.start_profile();
        let outputs = self.engine.run(&mut self.session, inputs)?;
        let times = self.session.profile().map(Times::of).unwrap_or_default();
        self.tally.add(&outputs);
        self.times.add(&times);
        self.waited += waited;
        let is_last = self.arguments.data_cost && number + 1 == self.arguments.iterations;
        let kept = if is_last { inputs.to_vec() } else { vec![] };
        if self.arguments.each_batch {
            let batch = self.batch(number, &times, &outputs, waited);
            match self.arguments.json {
                true => self.batches.push(batch),
                false => print::batch(&batch, out),
            }
        }
        Ok(kept)
    }

    fn measured<'s>(&'s self, times: &'s Times, batches: u32) -> Measured<'s> {
        Measured {
            model: self.model,
            engine: self.engine,
            times,
            batches,
            clock_hz: self.clock_hz,
        }
    }

    fn batch(&self, number: u32, times: &Times, outputs: &[Tensor], waited: Duration) -> Batch {
        let mut tally = Tally::new(self.model, self.engine);
        tally.add(outputs);
        let measured = self.measured(times, 1);
        Batch {
            batch: number,
            loss: tally.loss(),
            outputs: tally.means(),
            layers: measured.layers(),
            copies_ms: measured.copies_ms(),
            outside_ms: measured.outside_ms(),
            forward_ms: measured.total_ms(),
            waiting_ms: milliseconds(waited),
        }
    }

    /// The same batch again and again, while nothing is read.
    fn alone(&mut self, inputs: &[Tensor], elapsed: Duration) -> Result<Alone> {
        let started = Instant::now();
        progress::spin("without reading data", || {
            for _ in 0..self.arguments.iterations {
                self.engine.run(&mut self.session, inputs)?;
            }
            Ok::<(), skimjit::Error>(())
        })?;
        let alone = started.elapsed();
        Ok(Alone {
            ms_per_batch: milliseconds(alone) / f64::from(self.arguments.iterations),
            data_cost: elapsed.as_secs_f64() / alone.as_secs_f64() - 1.0,
        })
    }

    fn report(self, elapsed: Duration, alone: Option<Alone>) -> Report {
        let iterations = self.arguments.iterations;
        let measured = self.measured(&self.times, iterations);
        let plan = self.engine.plan();
        let images = plan.batch as u64 * u64::from(iterations);
        Report {
            isa: plan.isa.to_string(),
            threads: self.engine.threads(),
            batch: plan.batch,
            iterations,
            images,
            frequency_hz: self.clock_hz,
            loss: self.tally.loss(),
            outputs: self.tally.means(),
            layers: measured.layers(),
            total: measured.total_work(),
            copies_ms: measured.copies_ms(),
            outside_ms: measured.outside_ms(),
            forward_ms: measured.total_ms(),
            waiting_ms: milliseconds(self.waited),
            waiting_share: self.waited.as_secs_f64() / elapsed.as_secs_f64(),
            elapsed_ms: milliseconds(elapsed),
            images_per_second: images as f64 / elapsed.as_secs_f64(),
            alone,
            batches: self.batches,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
