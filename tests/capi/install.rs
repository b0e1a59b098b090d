//! What `skimjit install-dev` puts in place, as other projects find it.

use crate::network::{Workplace, libraries};
use crate::support::{ok, root};
use skimjit_testing::has;
use std::process::Command;

#[test]
fn an_installed_library_is_found_by_pkg_config() {
    let place = Workplace::new();
    let from = libraries();
    let install = [
        "install-dev",
        "--prefix",
        "prefix",
        "--from",
        from.to_str().unwrap(),
    ];
    place.ok(&install);
    // Again, over what is there.
    let listed = place.ok(&install);
    for file in listed.lines() {
        assert!(place.path(file).exists(), "{file}");
    }
    assert_eq!(listed.lines().count(), 8);
    let header = std::fs::read_to_string(place.path("prefix/include/skimjit.h")).unwrap();
    let own = std::fs::read_to_string(root().join("capi/include/skimjit.h")).unwrap();
    // The program may have been built before the header was renewed.
    assert!(
        header == own,
        "another header than capi/include/skimjit.h: build again"
    );
    // As makers of packages want it.
    let package = [
        &install[..2],
        &["/usr", "--destdir", "package"],
        &install[3..],
    ]
    .concat();
    let listed = place.ok(&package);
    assert!(
        listed.lines().all(|file| file.starts_with("package/usr/")),
        "{listed}"
    );
    assert!(
        place
            .path("package/usr/share/doc/skimjit/THIRD-PARTY.txt")
            .exists()
    );
    if !has("pkg-config") || !has("cc") {
        return;
    }
    // The folder can be moved.
    std::fs::rename(place.path("prefix"), place.path("moved")).unwrap();
    let configured = |arguments: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", place.path("moved/lib/pkgconfig"));
        ok(command.args(arguments).arg("skimjit"))
    };
    assert_eq!(
        configured(&["--modversion"]).trim(),
        env!("CARGO_PKG_VERSION")
    );
    let mut command = Command::new("cc");
    command
        .arg(root().join("examples/c/kernel.c"))
        .arg("-o")
        .arg(place.path("kernel"));
    command.args(configured(&["--cflags", "--libs"]).split_whitespace());
    ok(command.arg("-lm"));
    let mut command = Command::new(place.path("kernel"));
    ok(command
        .arg("avx2")
        .env("LD_LIBRARY_PATH", place.path("moved/lib")));
}

#[test]
fn missing_libraries_are_named() {
    let place = Workplace::new();
    let result = place.skimjit(&["install-dev", "--prefix", "prefix", "--from", "nowhere"]);
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    assert!(
        result.stderr.contains("nowhere/libskimjit.so"),
        "{}",
        result.stderr
    );
    assert!(!place.path("prefix").exists());
}
