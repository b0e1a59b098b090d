//! skimjit runs pruned convolutional networks, of Caffe or ONNX, fast on x86 CPUs.
//!
//! When a model is compiled, the sparsity pattern of each pruned layer becomes AVX2 or AVX-512
//! machine code; a thin runtime schedules these kernels over a team of threads.
//!
//! Single kernels, for programs with networks of their own, are in [`kernel`]; the C interface is
//! described in `capi/include/skimjit.h`, and embedding in `docs/EMBEDDING.md`.
//!
//! ```no_run
//! use skimjit::{CompileOptions, LoadOptions, Model};
//! # fn main() -> skimjit::Result<()> {
//! let model = Model::load("net.caffemodel".as_ref(), &LoadOptions::default())?;
//! let engine = model.compile(&CompileOptions::default())?;
//! let mut session = engine.session();
//! let image = skimjit::array::read_npy("image.npy".as_ref())?;
//! let outputs = engine.run(&mut session, &[image])?;
//! # Ok(())
//! # }
//! ```

/// Code ahead of time: networks as objects and libraries that run without this crate.
pub mod ahead_of_time {
    pub use skimjit_aot::{AheadOfTime, Error, Interface, Program, identifier};
}
pub mod any_shape;
pub use skimjit_data::npy as array;
pub mod code_info;
pub mod engine;
pub mod error;
pub mod kernel;
pub mod labels;
pub mod layer;
pub mod model;
pub mod options;
pub mod tune;
pub mod verify;

pub use ahead_of_time::AheadOfTime;
pub use any_shape::{AnyShape, AnyShapeSession};
pub use engine::Engine;
pub use error::{Error, Result};
pub use model::Model;
pub use options::{CompileOptions, Keep, LoadOptions, Shared};
pub use skimjit_data::picture;
pub use skimjit_models::{Error as InputError, ErrorKind as InputErrorKind, Graph, Shape, Tensor};
pub use skimjit_runtime::jit::Isa;
pub use skimjit_runtime::{
    KernelStore, Plan, PlanError, PlanErrorKind, Port, Profile, RunError, Session, ThreadPool,
    usable_cores,
};
pub use tune::{TuneCache, Tuning};
