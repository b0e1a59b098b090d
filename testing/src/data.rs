//! Data sets and models, which lie outside the project.

use crate::skip;
use std::path::{Path, PathBuf};

/// A file or folder of the test data, `""` for all of it; where it is missing this says so, and gives nothing.
///
/// `SKIMJIT_DATA` names the folder, from the workspace's root if it is relative; without it or where it is empty,
/// `../shared/data`.
pub fn data(file: &str) -> Option<PathBuf> {
    let named = std::env::var_os("SKIMJIT_DATA").filter(|name| !name.is_empty());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().expect("the workspace");
    let folder = root.join(named.unwrap_or_else(|| "../shared/data".into()));
    // For commands that run in other folders, and for messages.
    let Ok(folder) = folder.canonicalize() else {
        skip(format!(
            "no test data at {} (set SKIMJIT_DATA)",
            folder.display()
        ));
        return None;
    };
    if file.is_empty() {
        return Some(folder);
    }
    let path = folder.join(file);
    if !path.exists() {
        skip(format!(
            "no {file} in the test data at {}",
            folder.display()
        ));
        return None;
    }
    Some(path)
}
