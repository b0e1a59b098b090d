//! The computer underneath: files that appear whole or not at all ([`whole`]), even when the process is asked
//! to end ([`interrupt`]), the memory that what strangers' files ask for may take ([`memory`]), how their text
//! is shown ([`printable`]) and kept where it is no UTF-8 ([`octets`]), libraries that panic on them
//! ([`foreign`]), and [`clock`]s. Knows nothing of networks.
#![forbid(unsafe_code)]

pub mod clock;
pub mod foreign;
pub mod interrupt;
pub mod memory;
pub mod octets;
pub mod printable;
pub mod whole;
