//! `skimjit-train plot`.

mod chart;
mod page;
mod series;

use skimjit_models::{Error, Result};
use skimjit_trainer::history::History;
use std::path::{Path, PathBuf};

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
    /// Where the pictures go: a name without extension [default: plot in FOLDER]
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
    write(&file("svg"), svg.as_bytes())?;
    write(&file("html"), page::html(&title, &history, &svg).as_bytes())?;
    let png = file("png");
    chart::png(&history, &png).map_err(|text| {
        Error::new(text)
            .file(&png)
            .hint("check the folder and the free space")
    })?;
    for extension in ["svg", "png", "html"] {
        super::console::say(&file(extension).display().to_string());
    }
    Ok(())
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    std::fs::write(path, contents).map_err(|error| {
        Error::new(format!("an error when writing: {error}"))
            .file(path)
            .hint("check the folder and the free space")
    })
}
