//! One layer on one machine.
//!
//! A [`Problem`] says what a layer computes and how its operands lie in memory; the [`registry`]
//! lists the [`Variant`]s that can compute it, best first; building one yields position-independent
//! code, packed weights and a list of [`Task`]s that may run in any order on any thread.

pub mod binary;
pub mod channelwise;
mod compiled;
pub mod deconv;
pub mod dense_conv;
pub mod eltwise;
mod emit;
mod epilogue;
mod exponential;
pub mod fc;
mod flat;
pub mod function;
mod groups;
mod layout;
pub mod limits;
mod lockstep;
mod logarithm;
pub mod lrn;
pub mod padded_copy;
pub mod peak;
mod planes;
pub mod pool;
mod problem;
pub mod registry;
pub mod resample;
pub mod softmax;
pub mod sparse_conv;
pub mod stage;
pub mod standardize;
mod variant;

pub use compiled::{AlignedBuf, CompiledKernel, KernelArgs, KernelIo, MAX_OPERANDS};
pub use layout::{Planes, gap};
pub use problem::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, CopyProblem, DeconvProblem, Divisor,
    EltwiseKind, EltwiseProblem, Family, FamilyProblem, FcProblem, FunctionProblem, Fused,
    LrnProblem, Operands, Over, PoolProblem, Problem, ResampleProblem, SoftmaxProblem,
    StandardizeProblem,
};
pub use skimjit_jit as jit;
pub use variant::{
    Built, Cost, Extent, Footprint, KernelError, Task, TypedVariant, Unsupported, Values, Variant,
    Weighting, Weights,
};
