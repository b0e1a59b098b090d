//! What a network takes of the computer's memory.

use serde::{Deserialize, Serialize};
use skimjit_host::memory;

/// Memory of this process, what it maps of files included.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Resident {
    /// With the engine and a session, the network as it was read gone.
    pub resident_bytes: u64,
    /// At most while the network was read and compiled; trials count, too.
    pub loading_bytes: u64,
}

impl Resident {
    /// What it took at most until now; `None` where the system does not say.
    pub fn peak() -> Option<u64> {
        memory::resident().map(|resident| resident.peak)
    }
    /// Now, behind that peak.
    pub fn now(peak: Option<u64>) -> Option<Self> {
        Some(Self {
            resident_bytes: memory::resident()?.now,
            loading_bytes: peak?,
        })
    }
    /// In words.
    pub fn text(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "memory: {:.1} MB resident with the engine loaded, {:.1} MB at most while it was loaded",
            megabytes(self.resident_bytes),
            megabytes(self.loading_bytes)
        )
    }
}
