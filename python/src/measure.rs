//! Times of runs.

use crate::arrays::{Slices, slices};
use crate::errors::detached;
use crate::network::Network;
use crate::team::Team;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::{Duration, Instant};

/// Times of runs, and rows of steps.
pub type Measured<'py> = (Vec<u64>, Bound<'py, PyList>);

/// Most runs that are measured.
const MOST: usize = 1_000_000;

/// Runs on a session of its own for so long, at least so often, then half as long with each step timed.
pub fn measure<'py>(
    network: &Network,
    team: &Team,
    feed: &Bound<'py, PyAny>,
    seconds: f64,
    least: usize,
) -> PyResult<Measured<'py>> {
    let py = feed.py();
    let arrays = network.arrays(feed, None)?;
    let mut memory = slices(&arrays.inputs, &arrays.outputs)?;
    let mut session = team.take(py)?;
    // What is cold is not what is asked for.
    run(py, &mut session, &mut memory)?;
    let times = repeated(py, &mut session, &mut memory, seconds, least)?;
    session.start_profile();
    repeated(py, &mut session, &mut memory, seconds / 2.0, least)?;
    let rows = PyList::empty(py);
    if let Some(profile) = session.profile() {
        let runs = profile.runs().max(1) as f64;
        for step in profile.steps() {
            let row = PyDict::new(py);
            row.set_item("layer", step.layer)?;
            row.set_item("kernel", step.label)?;
            row.set_item("time_us", step.longest_ns as f64 / runs / 1e3)?;
            rows.append(row)?;
        }
    }
    Ok((times, rows))
}

fn repeated(
    py: Python<'_>,
    session: &mut skimjit::Session,
    memory: &mut Slices<'_>,
    seconds: f64,
    least: usize,
) -> PyResult<Vec<u64>> {
    let (mut times, started) = (Vec::new(), Instant::now());
    let enough = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    while times.len() < MOST && (times.len() < least || started.elapsed() < enough) {
        times.push(run(py, session, memory)?);
        py.check_signals()?;
    }
    Ok(times)
}

/// Nanoseconds of one run.
fn run(py: Python<'_>, session: &mut skimjit::Session, memory: &mut Slices<'_>) -> PyResult<u64> {
    let (sources, targets) = (&memory.sources[..], &mut memory.targets[..]);
    detached(py, move || {
        let started = Instant::now();
        session.run(sources, targets)?;
        Ok(started.elapsed().as_nanos() as u64)
    })
}
