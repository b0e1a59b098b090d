//! `skimjit knobs`.

use crate::support::output::Output;
use crate::knobs::KNOBS;
use serde::Serialize;
use skimjit::Result;

/// Lists the environment variables that are read, and their values.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  skimjit knobs")]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    value: Option<String>,
    values: &'static str,
    default: &'static str,
    effect: &'static str,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let lines: Vec<Line> = KNOBS
        .iter()
        .map(|knob| {
            let (name, values) = (knob.name, knob.values);
            let (default, effect) = (knob.default, knob.effect);
            Line {
                name,
                value: knob.value(),
                values,
                default,
                effect,
            }
        })
        .collect();
    if arguments.json {
        return out.json(&lines);
    }
    for line in lines {
        let value = line.value.as_deref().unwrap_or("(not set)");
        out.line(format!("{}: {value}", line.name));
        out.line(format!("  {}", line.effect));
        out.line(format!(
            "  values: {}; default: {}",
            line.values, line.default
        ));
    }
    Ok(())
}
