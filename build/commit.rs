//! The version with the commit that is built, for both programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Sets `SKIMJIT_VERSION`: `0.1.0 (1234567890ab)`, with a `+` behind a commit that was changed since. Without
/// git, outside a repository of our own, and in incremental builds, which are not handed on and would be made
/// again with every commit, it is the version alone.
pub fn set_version(root: &Path) {
    println!("cargo:rerun-if-env-changed=CARGO_INCREMENTAL");
    println!("cargo:rerun-if-changed={}", root.join("build").display());
    let version = env!("CARGO_PKG_VERSION");
    let incremental = std::env::var_os("CARGO_INCREMENTAL").is_some_and(|value| value == "1");
    let commit = if incremental { None } else { commit(root) };
    match commit {
        Some(commit) => println!("cargo:rustc-env=SKIMJIT_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=SKIMJIT_VERSION={version}"),
    }
}

fn commit(root: &Path) -> Option<String> {
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    // Copied into another project, its commit would be none of ours.
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    for file in ["HEAD", "logs/HEAD", "packed-refs"] {
        let file = root.join(git(root, &["rev-parse", "--git-path", file])?);
        if file.exists() {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    for folder in [
        "Cargo.lock",
        "src",
        "engine",
        "capi",
        "host",
        "jit",
        "kernels",
        "models",
        "runtime",
        "trainer/src",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(folder).display());
    }
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changes.is_empty() { "" } else { "+" };
    Some(format!("{commit}{mark}"))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
