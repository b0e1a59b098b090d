//! The computer underneath: [`clock`], files that appear whole or not at all ([`whole`]), and the memory that what
//! strangers' files ask for may take ([`memory`]). Knows nothing of networks.
#![forbid(unsafe_code)]

pub mod clock;
pub mod memory;
pub mod whole;
