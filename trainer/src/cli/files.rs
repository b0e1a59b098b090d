//! What a command writes is never a file that it reads, nor the same file twice.

use skimjit_host::whole::same_file;
use skimjit_models::{Error, Result};
use std::path::Path;

/// Refuses files to write, with the names of their options, that are among those to read or the same.
pub fn check<'a>(
    read: impl IntoIterator<Item = &'a Path>,
    written: &[(&str, Option<&'a Path>)],
) -> Result<()> {
    let mut taken: Vec<&Path> = read.into_iter().collect();
    for (option, path) in written {
        let Some(path) = path.filter(|path| !path.exists() || path.is_file()) else {
            continue;
        };
        if taken.iter().any(|other| same_file(path, other)) {
            return Err(Error::new("another file of this command")
                .file(path)
                .field(*option)
                .expected("a file of its own"));
        }
        taken.push(path);
    }
    Ok(())
}
