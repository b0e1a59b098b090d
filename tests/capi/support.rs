//! Compilers, sanitizers, and the libraries that were built with the tests.

use crate::network::libraries;
use skimjit_testing::{has, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How a program is linked.
#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    Shared,
    Static,
}

/// Compiles an example; `None`, with a line that says so, where the compiler or the sanitizer is missing.
pub fn compile(source: &str, out: &Path, link: Link, sanitize: bool) -> Option<PathBuf> {
    let (compiler, standard) = match source.ends_with(".cpp") {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c11"),
    };
    if !has(compiler) {
        return None;
    }
    let libraries = libraries();
    let program = out.join(Path::new(source).file_stem().unwrap());
    let mut command = Command::new(compiler);
    command.args([
        standard,
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
    ]);
    if sanitize {
        if !can_sanitize(compiler, out) {
            skip(format!("{compiler} has no AddressSanitizer"));
            return None;
        }
        command.args(["-fsanitize=address", "-fno-omit-frame-pointer"]);
    }
    command
        .arg("-I")
        .arg(root().join("capi/include"))
        .arg(root().join(source));
    command.arg("-o").arg(&program);
    match link {
        // The loader asks for the name inside the library, which has a version.
        Link::Shared => {
            let versioned = out.join("libskimjit.so.0");
            let _ = std::os::unix::fs::symlink(libraries.join("libskimjit.so"), versioned);
            command.arg(libraries.join("libskimjit.so"));
            command.arg(format!("-Wl,-rpath,{}", out.display()));
        }
        Link::Static => {
            command.arg(libraries.join("libskimjit.a"));
        }
    }
    // What skimjit.pc lists for static linking is enough.
    command.args(["-lgcc_s", "-lpthread", "-lm", "-ldl", "-lc"]);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        text(&output.stderr)
    );
    Some(program)
}

fn can_sanitize(compiler: &str, out: &Path) -> bool {
    let source = out.join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut command = Command::new(compiler);
    command.args(["-x", "c", "-fsanitize=address"]).arg(&source);
    let built = command.arg("-o").arg(out.join("empty")).output();
    let built = built.is_ok_and(|output| output.status.success());
    built
        && Command::new(out.join("empty"))
            .status()
            .is_ok_and(|status| status.success())
}

/// Standard output of a program that must succeed.
pub fn ok(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(
        status.success(),
        "{command:?}: {status}\n{stdout}\n{stderr}"
    );
    stdout
}

/// The program under valgrind, which fails it for every error and every leak; memory of threads that
/// are just ending is none.
pub fn valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args([
            "-q",
            "--error-exitcode=9",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
        ])
        .arg(program);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
