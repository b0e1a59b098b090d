//! Writes the seeds of every target below a folder: `cargo run -p skimjit-fuzz --bin seeds -- fuzz/corpus`.
#![forbid(unsafe_code)]

use skimjit_fuzz::Seeds;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    Seeds::new().write_all(&folder)
}
