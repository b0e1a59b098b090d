//! What a run tells: on the terminal, and in the files of a log folder.

use jiff::Zoned;
use skimjit_host::{printable, whole};
use skimjit_models::{Error, Result};
use skimjit_program::progress::{ProgressBar, ProgressStyle};
pub use skimjit_program::{WARNINGS, complain, warn};
use skimjit_trainer::solver::report::{Metrics, Output, Progress, Report};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Log in SkimCaffe's form, which its plotting scripts read.
pub const LOG: &str = "train.info";
/// Metrics, one JSON document per line.
pub const METRICS: &str = "metrics.jsonl";

/// Writes a file whole or not at all; its folder is made.
pub fn write_file(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    folder_for(path)
        .and_then(|()| whole::write(path, contents))
        .map_err(|error| Error::unwritable(path, &error))
}

/// Makes the folder that a file is to lie in.
pub fn folder_for(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), fs::create_dir_all)
}

/// Prints a line on standard output.
pub fn say(text: &str) {
    // A reader that goes away ends the printing only.
    let _ = writeln!(io::stdout(), "{}", printable::lines(text));
}

/// How much of the log standard error gets; the log's file gets all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// The bar and warnings.
    Warnings,
    /// Tests and what is out of the ordinary: the bar tells the rest, in one line that is written anew.
    Notable,
    /// Everything.
    All,
}

impl Shown {
    fn of(options: &ConsoleOptions<'_>, terminal: bool) -> Self {
        match (options.quiet, options.verbose || !terminal) {
            (true, _) => Self::Warnings,
            (false, true) => Self::All,
            (false, false) => Self::Notable,
        }
    }
    /// The log's own lines are those that SkimCaffe's scripts read.
    fn shows(self, text: &str) -> bool {
        let of_log = [
            "Iteration ",
            " ",
            "Test loss",
            "Snapshotting",
            "prune_threshold",
        ];
        match self {
            Self::Warnings => text.starts_with("warning"),
            Self::Notable => !of_log.iter().any(|begin| text.starts_with(begin)),
            Self::All => true,
        }
    }
}

/// The last figures that a run told.
#[derive(Default)]
pub struct Tracked {
    /// Smoothed loss.
    pub loss: Option<f32>,
    /// Of each test network: iteration and results.
    pub tests: BTreeMap<usize, (u64, Vec<Output>)>,
    /// The caffemodel of the last snapshot.
    pub snapshot: Option<String>,
    /// Zeros of all parameters, in percent, when they were last displayed.
    zeros: Option<f64>,
}

/// Prints lines and a progress bar on standard error, and writes the files of a log folder.
pub struct Console {
    bar: ProgressBar,
    shown: Shown,
    tracked: Tracked,
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
    /// No lines on standard error.
    pub quiet: bool,
    /// All lines, on a terminal too.
    pub verbose: bool,
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
        let console = Self {
            bar,
            shown: Shown::of(options, io::stderr().is_terminal()),
            tracked: Tracked::default(),
            log: open(LOG)?,
            metrics: open(METRICS)?,
            json: options.json,
            failed: None,
        };
        if console.shown == Shown::Notable {
            console.print(&match options.folder {
                Some(folder) => format!("the whole log: {}", folder.join(LOG).display()),
                None => "the whole log: --log FOLDER keeps it, --verbose prints it".to_owned(),
            });
        }
        Ok(console)
    }

    /// The last figures.
    pub fn tracked(&self) -> &Tracked {
        &self.tracked
    }

    /// Prints a line above the bar, or plainly where there is no terminal.
    fn print(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{}", printable::lines(text));
        });
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
        if text.starts_with("warning: ") {
            WARNINGS.add();
        }
        if let Some(log) = &mut self.log {
            let line = format!("{}{}\n", prefix(), printable::lines(text));
            let result = log.write_all(line.as_bytes());
            self.note(result);
        }
        if self.shown.shows(text) {
            self.print(text);
        }
    }

    fn metrics(&mut self, metrics: &Metrics) {
        match metrics {
            Metrics::Train { total_sparsity, .. } => self.tracked.zeros = Some(*total_sparsity),
            Metrics::Test {
                iteration,
                net,
                outputs,
                ..
            } => {
                let told = (*iteration, outputs.clone());
                self.tracked.tests.insert(*net, told);
                if self.shown == Shown::Notable {
                    self.print(&format!("iteration {iteration}: {}", judged(outputs)));
                }
            }
            Metrics::Snapshot { file, .. } => self.tracked.snapshot = Some(file.clone()),
            Metrics::Event { .. } => {}
        }
        let Ok(text) = serde_json::to_string(metrics) else {
            return;
        };
        if let Some(file) = &mut self.metrics {
            let result = file.write_all(format!("{text}\n").as_bytes());
            self.note(result);
        }
        if self.json {
            let result = writeln!(io::stdout(), "{}", printable::json(&text));
            self.note(result);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.bar.set_length(progress.max_iter);
        self.bar.set_position(progress.iteration);
        self.tracked.loss = Some(progress.loss);
        let every = progress.iteration.is_multiple_of(10);
        if every {
            let zeros = self.tracked.zeros.filter(|zeros| *zeros > 0.0);
            let zeros = zeros.map_or(String::new(), |zeros| format!(" zeros {zeros:.1} %"));
            self.bar.set_message(format!(
                "loss {:.4} rate {:.2e}{zeros}",
                progress.loss, progress.rate
            ));
        }
    }
}

/// `accuracy 0.9857, loss 0.0421`.
pub fn judged(outputs: &[Output]) -> String {
    let each = outputs
        .iter()
        .map(|output| format!("{} {:.4}", output.name, output.value));
    let each: Vec<String> = each.collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_what_the_bar_does_not_tell() {
        let options = |quiet, verbose| ConsoleOptions {
            folder: None,
            quiet,
            verbose,
            json: false,
        };
        let shown = |quiet, verbose, terminal| Shown::of(&options(quiet, verbose), terminal);
        assert_eq!(shown(false, false, true), Shown::Notable);
        assert_eq!(shown(false, true, true), Shown::All);
        assert_eq!(shown(false, false, false), Shown::All);
        assert_eq!(shown(true, false, false), Shown::Warnings);
        for text in [
            "warning: x",
            "Finetuning from a",
            "Phase prune",
            "Optimization Done.",
        ] {
            assert!(Shown::Notable.shows(text), "{text}");
        }
        for text in [
            "Iteration 20, loss = 1",
            "    Train net output #0: loss = 1",
            "     Winograd Sparsity %: \n1\t",
            "Snapshotting to binary proto file a",
        ] {
            assert!(!Shown::Notable.shows(text), "{text}");
        }
    }
}
