//! The computer underneath: [`clock`], files that appear whole or not at all ([`whole`]), the memory that what
//! strangers' files ask for may take ([`memory`]), and libraries that panic on them ([`foreign`]). Knows nothing
//! of networks.
#![forbid(unsafe_code)]

pub mod clock;
pub mod foreign;
pub mod memory;
pub mod whole;
