//! What a solver definition says, checked.

pub use skimjit_caffe::solver::Settings;
