//! Names the commit.

#[path = "build/commit.rs"]
mod commit;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    commit::set_version(env!("CARGO_MANIFEST_DIR").as_ref());
}
