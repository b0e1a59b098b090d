//! The commands: a file or a folder each, with `Arguments` and `run`. The doc comments of the arguments are
//! the manual.

use crate::support::output::Output;
use clap::Subcommand;
use skimjit::Result;

/// A row for each command, in the order of the help: its name, and its module.
macro_rules! commands {
    ($($name:ident: $module:ident,)*) => {
        $(mod $module;)*

        /// What the program is asked to do.
        #[derive(Subcommand)]
        pub enum Command {
            $($name($module::Arguments),)*
        }

        impl Command {
            /// Does it.
            pub fn run(&self, out: &mut Output) -> Result<()> {
                match self {
                    $(Self::$name(arguments) => $module::run(arguments, out),)*
                }
            }
        }
    };
}

commands! {
    Compile: compile,
    Run: run,
    Test: test,
    Inspect: inspect,
    Verify: verify,
    Time: time,
    Explain: explain,
    Report: report,
    Bench: bench,
    Disasm: disasm,
    Synth: synth,
    ConvertImageset: convert_imageset,
    ConvertDataset: convert_dataset,
    ComputeImageMean: compute_image_mean,
    ExtractFeatures: extract_features,
    Draw: draw,
    Upgrade: upgrade,
    Export: export,
    Dump: dump,
    DeviceQuery: device_query,
    InstallDev: install_dev,
    Knobs: knobs,
}
