//! What plans need to know of the machine that runs them.

use crate::jit::CpuInfo;

/// Caches of the machine that a plan is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Caches {
    /// Second level, as seen by one core.
    pub l2_bytes: u64,
    /// Last level.
    pub l3_bytes: u64,
}

/// Usual ones, for plans that are to be the same on any computer.
impl Default for Caches {
    fn default() -> Self {
        Self {
            l2_bytes: 1 << 20,
            l3_bytes: 16 << 20,
        }
    }
}

impl Caches {
    /// This machine's, as far as its CPU tells.
    pub fn of_machine() -> Self {
        let (cpu, usual) = (CpuInfo::query(), Self::default());
        Self {
            l2_bytes: cpu.l2_bytes.unwrap_or(usual.l2_bytes),
            l3_bytes: cpu.l3_bytes.unwrap_or(usual.l3_bytes),
        }
    }
    /// Where code and weights of a network with that many bytes of them are.
    pub(crate) fn distance(self, bytes: u64) -> Distance {
        // Activations need room as well, and the last level is shared with other cores.
        match bytes {
            _ if bytes <= self.l2_bytes / 2 => Distance::Inner,
            _ if bytes <= self.l3_bytes / 4 => Distance::Outer,
            _ => Distance::Memory,
        }
    }
}

/// Where code and weights of a layer are when its turn comes: other layers run in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Distance {
    /// In the second-level cache: the whole network fits there.
    Inner,
    /// In the last-level cache.
    Outer,
    /// In memory.
    Memory,
}
