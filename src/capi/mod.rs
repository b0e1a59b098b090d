//! The C interface: `libskimjit.so`, `libskimjit.a` and `include/skimjit.h`.
//!
//! The comments of what is exported are the header's; a test makes the header from them. Rules that
//! hold for all functions:
//! * Nothing unwinds into C: [`failure::guard`] turns errors and panics into a code and a message.
//! * What comes from C is of the types of [`memory`], which nobody else can make; all `unsafe` is there.
//! * Structs that may grow begin with their size.

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
