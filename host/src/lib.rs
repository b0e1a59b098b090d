//! The computer underneath: files that appear whole or not at all ([`whole`]), even when the process is
//! asked to end ([`interrupt`]), and the memory that what strangers' files ask for may take ([`memory`]),
//! and how their text is shown ([`printable`]). Knows nothing of networks.
#![forbid(unsafe_code)]

pub mod interrupt;
pub mod memory;
pub mod printable;
pub mod whole;
