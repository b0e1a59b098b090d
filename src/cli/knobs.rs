//! `skimjit knobs`.

use super::output::Output;
use super::table::{Table, left};
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
    let columns = [
        left("variable"),
        left("now"),
        left("values"),
        left("default"),
        left("effect"),
    ];
    let mut table = Table::new(columns);
    for line in lines {
        let value = line.value.unwrap_or_else(|| "-".to_owned());
        let texts = [line.values, line.default, line.effect].map(str::to_owned);
        table.row([vec![line.name.to_owned(), value], texts.into()].concat());
    }
    out.table(&table);
    Ok(())
}
