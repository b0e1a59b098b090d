//! What a run tells: on the terminal, and in the files of a log folder.

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Zoned;
use skimjit_models::{Error, Result};
use skimjit_trainer::solver::report::{Metrics, Progress, Report};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Log in SkimCaffe's form, which its plotting scripts read.
pub const LOG: &str = "train.info";
/// Metrics, one JSON document per line.
pub const METRICS: &str = "metrics.jsonl";

/// Prints `<what>: <text>` on standard error, as one line whatever names the text contains.
pub fn complain(what: &str, text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr(), "{what}: {text}");
}

/// Prints a line on standard output.
pub fn say(text: &str) {
    // A reader that goes away ends the printing only.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints lines and a progress bar on standard error, and writes the files of a log folder.
pub struct Console {
    bar: ProgressBar,
    quiet: bool,
    log: Option<File>,
    metrics: Option<File>,
    /// Metrics go to standard output.
    json: bool,
    /// The first error of writing, reported at the end.
    failed: Option<io::Error>,
}

/// How a run tells.
pub struct ConsoleOptions<'a> {
    /// Folder of log and metrics, which are appended to.
    pub folder: Option<&'a Path>,
    /// No lines on the terminal.
    pub quiet: bool,
    /// Metrics on standard output.
    pub json: bool,
}

impl Console {
    /// Opens the files.
    pub fn new(options: &ConsoleOptions<'_>) -> Result<Self> {
        let open = |name: &str| match options.folder {
            None => Ok(None),
            Some(folder) => {
                let path = folder.join(name);
                let file = fs::create_dir_all(folder).and_then(|()| append(&path));
                file.map(Some).map_err(|error| {
                    Error::new(format!("an error when opening: {error}")).file(&path)
                })
            }
        };
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Self {
            bar,
            quiet: options.quiet,
            log: open(LOG)?,
            metrics: open(METRICS)?,
            json: options.json,
            failed: None,
        })
    }

    /// Ends the progress bar; tells whether everything could be written.
    pub fn finish(mut self) -> Result<()> {
        self.bar.finish_and_clear();
        match self.failed.take() {
            None => Ok(()),
            Some(error) => Err(
                Error::new(format!("an error when writing the log: {error}"))
                    .hint("check the free space of the --log folder"),
            ),
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

/// Opens a file of lines. A last line that a killed run did not finish is ended.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.create(true).read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// As glog begins its lines.
fn prefix() -> String {
    let now = Zoned::now().strftime("%m%d %H:%M:%S%.6f").to_string();
    format!("I{now} {} solver.cpp:0] ", std::process::id())
}

impl Report for Console {
    fn line(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            let result = log.write_all(format!("{}{text}\n", prefix()).as_bytes());
            self.note(result);
        }
        if !self.quiet {
            // Above the bar, or plainly where there is no terminal.
            self.bar.suspend(|| {
                let _ = writeln!(io::stderr(), "{text}");
            });
        }
    }

    fn metrics(&mut self, metrics: &Metrics) {
        let Ok(text) = serde_json::to_string(metrics) else {
            return;
        };
        if let Some(file) = &mut self.metrics {
            let result = file.write_all(format!("{text}\n").as_bytes());
            self.note(result);
        }
        if self.json {
            let result = writeln!(io::stdout(), "{text}");
            self.note(result);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.bar.set_length(progress.max_iter);
        self.bar.set_position(progress.iteration);
        let every = progress.iteration.is_multiple_of(10);
        if every {
            self.bar.set_message(format!(
                "loss {:.4} rate {:.2e}",
                progress.loss, progress.rate
            ));
        }
    }
}
