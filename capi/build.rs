//! Names the shared library for the loader.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Programs that were linked with one ABI never load another one.
    let abi = env!("CARGO_PKG_VERSION_MAJOR");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libskimjit.so.{abi}");
}
