//! The skimjit command line.
fn main() {}
