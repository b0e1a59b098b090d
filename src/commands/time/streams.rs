//! Several callers at the same time.

use super::{Arguments, USUAL_TIME, per_second};
use crate::support::output::Output;
use crate::support::table::milliseconds;
use crate::support::times::Times;
use crate::support::timing::{Repeat, Spread};
use crate::support::{args, noise};
use skimjit_program::progress;
use clap::builder::RangedI64ValueParser;
use serde::Serialize;
use skimjit::{CompileOptions, Engine, Error, Model, Result, Session};
use skimjit_models::Tensor;
use skimjit_runtime::{MOST_THREADS, ThreadPool};
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// As many as there may be threads.
pub fn count_parser() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=MOST_THREADS as i64)
}

/// What all callers together reach.
#[derive(Serialize)]
struct Report {
    isa: String,
    batch: usize,
    streams: usize,
    /// Of each stream.
    threads: usize,
    runs: usize,
    images_per_second: f64,
    /// Of one run.
    #[serde(flatten)]
    spread: Spread,
    /// 95 of 100 runs took no longer.
    percentile_95_ms: f64,
}

/// Compiles the network once and runs it in `count` sessions.
pub fn run(
    arguments: &Arguments,
    model: &Model,
    mut options: CompileOptions,
    count: u16,
    out: &mut Output,
) -> Result<()> {
    let count = usize::from(count);
    if options.threads == 0 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        options.threads = (cores / count).max(1);
    }
    let engine = args::compile(model, &options)?;
    let inputs = noise::inputs(model, engine.plan().batch as u32, 1)?;
    let (runs, seconds) = progress::spin("measuring", || {
        measure(&engine, &inputs, count, arguments.iterations)
    })?;
    let report = Report::new(&engine, count, &runs, seconds);
    report.spread.note("time");
    if arguments.json {
        return out.json(&report);
    }
    report.print(out);
    Ok(())
}

/// All runs of all callers, and how long that took.
fn measure(
    engine: &Engine,
    inputs: &[Tensor],
    count: usize,
    iterations: Option<u32>,
) -> Result<(Vec<Times>, f64)> {
    let session = |_| {
        let pool = ThreadPool::new(engine.threads()).map_err(Error::Usage)?;
        Ok(engine.session_on(&Arc::new(pool)))
    };
    let sessions: Vec<Session> = (0..count).map(session).collect::<Result<_>>()?;
    // All begin together, after a run that touches all memory.
    let ready = Barrier::new(count + 1);
    std::thread::scope(|scope| {
        let callers: Vec<_> = sessions
            .into_iter()
            .map(|session| scope.spawn(|| caller(engine, session, inputs, iterations, &ready)))
            .collect();
        ready.wait();
        let started = Instant::now();
        let mut all = Vec::new();
        for caller in callers {
            let runs = caller
                .join()
                .map_err(|_| Error::Check("a stream: found a panic, expected times".to_owned()))?;
            all.extend(runs?);
        }
        Ok((all, started.elapsed().as_secs_f64()))
    })
}

fn caller(
    engine: &Engine,
    mut session: Session,
    inputs: &[Tensor],
    iterations: Option<u32>,
    ready: &Barrier,
) -> Result<Vec<Times>> {
    let warm = engine.run(&mut session, inputs);
    // Whoever fails must not leave the others waiting.
    ready.wait();
    warm?;
    let mut runs = Vec::new();
    let repeat = match iterations {
        Some(times) => Repeat::Times(times),
        None => Repeat::Until(Instant::now() + USUAL_TIME),
    };
    repeat.run(|| {
        session.start_profile();
        engine.run(&mut session, inputs)?;
        runs.extend(session.profile().map(Times::of));
        Ok::<(), Error>(())
    })?;
    Ok(runs)
}

impl Report {
    fn new(engine: &Engine, streams: usize, runs: &[Times], seconds: f64) -> Self {
        let plan = engine.plan();
        let mut walls: Vec<u64> = runs.iter().map(|run| run.wall).collect();
        walls.sort_unstable();
        let late = (walls.len() * 95).div_ceil(100).saturating_sub(1);
        Self {
            isa: plan.isa.to_string(),
            batch: plan.batch,
            streams,
            threads: engine.threads(),
            runs: runs.len(),
            images_per_second: per_second((runs.len() * plan.batch) as f64, seconds * 1e3),
            spread: Spread::of(runs),
            percentile_95_ms: walls.get(late).map_or(0.0, |&ns| ns as f64 / 1e6),
        }
    }

    fn print(&self, out: &mut Output) {
        let Self {
            isa,
            batch,
            streams,
            threads,
            runs,
            ..
        } = self;
        let rate = self.images_per_second;
        out.line(format!(
            "{isa}, batch {batch}, {streams} streams of {threads} threads, {runs} runs: {rate:.1} images/s"
        ));
        out.sentence(format!(
            "a run takes {} ms (median), at least {} ms; 95 % take at most {} ms",
            milliseconds(self.spread.median_ms),
            milliseconds(self.spread.least_ms),
            milliseconds(self.percentile_95_ms)
        ));
    }
}
