//! `skimjit-train plot`.

mod chart;
mod page;
mod series;

use super::console::write_file;
use skimjit_host::whole;
use skimjit_models::{Error, Result};
use skimjit_trainer::history::History;
use std::path::PathBuf;

/// Draws what a run or a recipe has done: accuracy, loss, learning rate and the zeros of every layer over
/// iterations.
///
/// Writes plot.svg, plot.png, and plot.html, a page that loads nothing from elsewhere. SkimCaffe's own logs
/// (train.info) can be drawn too.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit-train plot run")]
pub struct Arguments {
    /// The --log folder of a run, or the output folder of a recipe
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Pictures to write: a name without extension [default: plot in FOLDER]
    #[arg(short, long, value_name = "NAME")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let history = History::read(&arguments.folder)?;
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| arguments.folder.join("plot"));
    let file = |extension: &str| {
        let mut name = output.clone().into_os_string();
        name.push(format!(".{extension}"));
        PathBuf::from(name)
    };
    let svg = chart::svg(&history).map_err(|text| Error::new(text).file(file("svg")))?;
    let title = arguments.folder.display().to_string();
    write_file(&file("svg"), &svg)?;
    write_file(&file("html"), page::html(&title, &history, &svg))?;
    let png = file("png");
    let drawn = whole::write_by_name(&png, |part| {
        chart::png(&history, part).map_err(std::io::Error::other)
    });
    drawn.map_err(|error| Error::unwritable(&png, &error))?;
    for extension in ["svg", "png", "html"] {
        super::console::say(&file(extension).display().to_string());
    }
    Ok(())
}
