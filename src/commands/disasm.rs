//! `skimjit disasm`.

use crate::support::args::{EngineArguments, ModelArguments};
use crate::support::output::Output;
use skimjit_program::progress;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
use serde::Serialize;
use skimjit::{CompileOptions, Error, Plan, Result};
use skimjit_runtime::plan::Listing;

/// Prints the generated code of a layer.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit disasm net.skim --layers conv2 --limit 50")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Only this layer
    #[arg(long = "layers", alias = "layer", value_name = "LAYER")]
    layer: String,
    /// Most instructions to print
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    layer: String,
    variant: String,
    isa: String,
    code_bytes: usize,
    instructions: Vec<Line>,
    /// More instructions than the limit.
    truncated: bool,
}

#[derive(Serialize)]
struct Line {
    offset: usize,
    bytes: String,
    text: String,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let options = CompileOptions {
        keep_code: true,
        ..arguments.engine.options()?
    };
    let model = arguments.model.load()?;
    let isa = arguments.engine.machine.isa()?;
    // Looked at, not run.
    let plan = progress::spin("generating", || model.plan(&options, isa))?;
    let listing = find(&plan, &arguments.layer)?;
    let report = decode(
        listing,
        plan.isa.to_string(),
        arguments.limit.unwrap_or(usize::MAX),
    );
    if arguments.json {
        return out.json(&report);
    }
    let Report {
        layer,
        variant,
        isa,
        code_bytes,
        instructions,
        truncated,
    } = report;
    out.line(format!(
        "; layer {layer}, {variant}, {isa}, {code_bytes} bytes"
    ));
    for line in &instructions {
        out.line(format!(
            "{:6x}  {:<22}  {}",
            line.offset, line.bytes, line.text
        ));
    }
    if truncated {
        out.line("; more behind --limit");
    }
    Ok(())
}

fn find<'p>(plan: &'p Plan, layer: &str) -> Result<&'p Listing> {
    let listings = &plan.listings;
    // The kernel is behind the copy that it reads.
    let found = listings.iter().rfind(|listing| listing.layer == layer);
    found.ok_or_else(|| {
        let mut names: Vec<&str> = listings.iter().map(|l| l.layer.as_str()).collect();
        names.dedup();
        let list = names.join(", ");
        Error::Usage(format!(
            "--layers: found \"{layer}\", expected a layer with generated code: {list}"
        ))
    })
}

fn decode(listing: &Listing, isa: String, limit: usize) -> Report {
    let mut decoder = Decoder::with_ip(64, &listing.bytes, 0, DecoderOptions::NONE);
    let mut formatter = NasmFormatter::new();
    let mut instruction = Instruction::default();
    let mut instructions = Vec::new();
    while decoder.can_decode() && instructions.len() < limit {
        let offset = decoder.position();
        decoder.decode_out(&mut instruction);
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        let bytes = listing
            .bytes
            .get(offset..decoder.position())
            .unwrap_or_default();
        let bytes = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        instructions.push(Line {
            offset,
            bytes,
            text,
        });
    }
    Report {
        layer: listing.layer.clone(),
        variant: listing.variant.to_owned(),
        isa,
        code_bytes: listing.bytes.len(),
        truncated: decoder.can_decode(),
        instructions,
    }
}
