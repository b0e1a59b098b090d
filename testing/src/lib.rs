//! What tests of several crates share: where test data lies, which instruction sets run here, arbitrary numbers,
//! and the one way to say that something was skipped. Only ever a dev-dependency.

mod data;
pub mod help;
mod isas;
mod noise;
mod programs;
mod skip;

pub use data::data;
pub use isas::{isas, runs};
pub use noise::Noise;
pub use programs::has;
pub use skip::skip;
