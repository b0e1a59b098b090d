//! Every step of a few runs, in the trace event format of Chrome, which Perfetto reads too.

use serde::Serialize;
use skimjit::{Engine, Error, Result, Tensor};
use skimjit_models::Error as InputError;
use skimjit_runtime::{Event, Profile, StepTime};
use std::path::Path;

/// Runs in a trace: the first shows what a warm one does not.
const RUNS: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace<'a> {
    trace_events: Vec<Entry<'a>>,
    display_time_unit: &'static str,
}

/// A complete event ("X"), or the name of a thread ("M").
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    ph: &'static str,
    pid: u32,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    args: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
}

/// Runs the network a few times and writes what each thread did.
pub fn write(engine: &Engine, inputs: &[Tensor], path: &Path) -> Result<()> {
    let mut session = engine.session();
    session.start_trace();
    for _ in 0..RUNS {
        engine.run(&mut session, inputs)?;
    }
    let steps = session.profile().map(Profile::steps).unwrap_or_default();
    let events = session.profile().map(Profile::events).unwrap_or_default();
    let failed = |error: String| Error::from(InputError::new(error).file(path));
    let text = serde_json::to_vec(&trace(&steps, &events));
    let text = text.map_err(|error| failed(error.to_string()))?;
    skimjit_host::whole::write(path, text).map_err(|error| failed(error.to_string()))
}

fn trace<'a>(steps: &'a [StepTime], events: &[Vec<Event>]) -> Trace<'a> {
    let mut entries = Vec::new();
    for (member, events) in events.iter().enumerate() {
        entries.push(Entry {
            name: "thread_name",
            ph: "M",
            pid: 1,
            tid: member,
            ts: None,
            dur: None,
            args: Details {
                name: Some(format!("thread {member}")),
                kernel: None,
            },
        });
        entries.extend(events.iter().map(|event| {
            let step = &steps[event.step];
            let name = if step.layer.is_empty() {
                step.label
            } else {
                &step.layer
            };
            Entry {
                name,
                ph: "X",
                pid: 1,
                tid: member,
                ts: Some(event.begin.as_secs_f64() * 1e6),
                dur: Some(event.time.as_secs_f64() * 1e6),
                args: Details {
                    name: None,
                    kernel: Some(step.label),
                },
            }
        }));
    }
    Trace {
        trace_events: entries,
        display_time_unit: "ms",
    }
}
