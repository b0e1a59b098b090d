//! The C interface and the examples: built with the system's compilers and run.

mod header;
