//! skimjit.
