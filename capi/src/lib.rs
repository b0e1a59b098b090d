//! The C interface: `libskimjit.so`, `libskimjit.a` and `capi/include/skimjit.h`.
//!
//! The comments of what is exported are the header's; a test makes the header from them. Rules that
//! hold for all functions:
//! * Nothing unwinds into C: [`failure::guard`] turns errors and panics into a code and a message.
//! * What comes from C is of the types of [`memory`], which nobody else can make; all `unsafe` is there.
//! * Structs that may grow begin with their size.
//! * Large allocations are checked before they are made, and fail with SKIMJIT_STATUS_PLAN or
//!   SKIMJIT_STATUS_INPUT. Small ones (messages, lists of layers) end the process when they fail, as they do
//!   in Rust; with a limit of addresses (`ulimit -v`), models and sessions are refused before it is reached.

mod args;
mod failure;
mod kernel;
mod kernel_create;
mod kernel_run;
mod memory;
mod model;
mod options;
mod session;
mod team;
mod version;
