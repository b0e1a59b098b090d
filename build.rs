//! Names the shared library for the loader, and the commit.

#[path = "build/commit.rs"]
mod commit;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Programs that were linked with one ABI never load another one.
    let abi = env!("CARGO_PKG_VERSION_MAJOR");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libskimjit.so.{abi}");
    commit::set_version(env!("CARGO_MANIFEST_DIR").as_ref());
}
