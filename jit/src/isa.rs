//! Which instruction set this machine has, and what reports say about the machine. The only place
//! that looks at the CPU.

use crate::Features;
use std::fmt;
use std::str::FromStr;

use raw_cpuid::{CacheType, CpuId};

/// Instruction set of generated code. Their order is that of lists; what one contains of another,
/// [`Isa::contains`] says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Isa {
    /// AVX2 and FMA: 8 `f32` lanes, 16 registers.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: 16 `f32` lanes, 32 registers, opmasks.
    Avx512,
}

/// Why there is no instruction set to generate code for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IsaError {
    /// The CPU, or the operating system's register saving, does not reach AVX2 with FMA.
    NoAvx2 {
        /// Model name of the CPU.
        cpu: String,
    },
    /// More was asked for than the machine has.
    AboveMachine {
        /// What was asked for.
        asked: Isa,
        /// The best that this machine runs.
        found: Isa,
        /// Model name of the CPU.
        cpu: String,
    },
    /// Not a name of an instruction set.
    UnknownName {
        /// The text found.
        found: String,
    },
}

impl Isa {
    /// Every instruction set, smallest first.
    pub const ALL: [Isa; 2] = [Isa::Avx2, Isa::Avx512];

    /// What emitters have to know of it.
    pub const fn descriptor(self) -> &'static IsaDescriptor {
        match self {
            Isa::Avx2 => &AVX2,
            Isa::Avx512 => &AVX512,
        }
    }

    /// `f32` lanes of a vector.
    pub const fn lanes(self) -> u32 {
        self.descriptor().lanes
    }

    /// True when code for `other` runs wherever code for this one does.
    pub const fn contains(self, other: Isa) -> bool {
        self.descriptor()
            .features
            .contains(other.descriptor().features)
    }

    /// Best instruction set of this machine, or the one that is asked for. What the machine does not
    /// have is refused rather than replaced, so that a test or a bench never reports an ISA it did not
    /// run.
    pub fn detect(asked: Option<Isa>) -> Result<Isa, IsaError> {
        choose(Self::best(), asked, model_name)
    }

    fn best() -> Option<Isa> {
        let machine = Features::of_machine();
        let runs = |isa: &Isa| machine.contains(isa.descriptor().features);
        Self::ALL.into_iter().rev().find(runs)
    }

    fn name(self) -> &'static str {
        self.descriptor().name
    }
}

/// What emitters have to know of an instruction set.
#[derive(Debug)]
pub struct IsaDescriptor {
    name: &'static str,
    /// What code may use.
    pub features: Features,
    /// `f32` lanes of a vector.
    pub lanes: u32,
    /// Vector registers.
    pub vector_registers: u8,
    /// Registers for lane masks, besides one that stands for all lanes. Without any, masks are in
    /// vector registers.
    pub mask_registers: u8,
    /// Whether a masked store costs what a whole one does. AVX2's are microcoded on AMD.
    pub masked_stores_are_free: bool,
    /// Bytes on either side of a register that a one-byte displacement of an `f32` operand reaches
    /// (EVEX scales it by the operand's size).
    pub short_reach_bytes: i32,
}

const AVX2: IsaDescriptor = IsaDescriptor {
    name: "avx2",
    features: Features::AVX2.with(Features::FMA),
    lanes: 8,
    vector_registers: 16,
    mask_registers: 0,
    masked_stores_are_free: false,
    short_reach_bytes: 128,
};

const AVX512: IsaDescriptor = IsaDescriptor {
    name: "avx512",
    features: AVX2
        .features
        .with(Features::AVX512F)
        .with(Features::AVX512BW)
        .with(Features::AVX512DQ)
        .with(Features::AVX512VL),
    lanes: 16,
    vector_registers: 32,
    mask_registers: 7,
    masked_stores_are_free: true,
    short_reach_bytes: 512,
};

fn choose(
    best: Option<Isa>,
    asked: Option<Isa>,
    cpu: impl FnOnce() -> String,
) -> Result<Isa, IsaError> {
    match (best, asked) {
        (None, _) => Err(IsaError::NoAvx2 { cpu: cpu() }),
        (Some(found), Some(asked)) if !found.contains(asked) => Err(IsaError::AboveMachine {
            asked,
            found,
            cpu: cpu(),
        }),
        (Some(found), asked) => Ok(asked.unwrap_or(found)),
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(text: &str) -> Result<Self, IsaError> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| IsaError::UnknownName {
                found: text.to_owned(),
            })
    }
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IsaError::NoAvx2 { cpu } => write!(
                f,
                "AVX2 with FMA is needed, but this machine ({cpu}) or its operating system does \
                 not offer it; run on an x86-64 CPU with AVX2, and in a virtual machine pass the \
                 host's CPU features through"
            ),
            IsaError::AboveMachine { asked, found, cpu } => write!(
                f,
                "{asked} was asked for, but this machine ({cpu}) offers at most {found}; ask for \
                 {found}, or for nothing to get the best available"
            ),
            IsaError::UnknownName { found } => {
                write!(
                    f,
                    "unknown instruction set \"{found}\"; expected avx2 or avx512"
                )
            }
        }
    }
}

impl std::error::Error for IsaError {}

/// What a report says about the machine. Fields the CPU does not tell are `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuInfo {
    /// Model name, or the vendor where the CPU gives no name.
    pub model_name: String,
    /// Family, model and stepping, which tell CPUs of one name apart.
    pub family: Option<[u8; 3]>,
    /// Extensions, of those that [`Features`] knows.
    pub features: Features,
    /// Best instruction set, `None` below AVX2.
    pub best_isa: Option<Isa>,
    /// Level-1 data cache of one core.
    pub l1d_bytes: Option<u64>,
    /// Level-2 cache, as seen by one core.
    pub l2_bytes: Option<u64>,
    /// Level-3 cache, one instance.
    pub l3_bytes: Option<u64>,
    /// Logical cores this process may use.
    pub logical_cores: usize,
}

impl CpuInfo {
    /// Asks the CPU.
    pub fn query() -> Self {
        Self {
            model_name: model_name(),
            family: family(),
            features: Features::of_machine(),
            best_isa: Isa::best(),
            l1d_bytes: cache_bytes(1),
            l2_bytes: cache_bytes(2),
            l3_bytes: cache_bytes(3),
            logical_cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn model_name() -> String {
    let cpuid = CpuId::new();
    if let Some(brand) = cpuid.get_processor_brand_string() {
        let name = brand.as_str().trim();
        if !name.is_empty() {
            return name.to_owned();
        }
    }
    cpuid
        .get_vendor_info()
        .map_or_else(|| "unknown CPU".to_owned(), |v| v.as_str().to_owned())
}

fn family() -> Option<[u8; 3]> {
    let info = CpuId::new().get_feature_info()?;
    Some([info.family_id(), info.model_id(), info.stepping_id()])
}

/// Size of the data or unified cache of `level`.
fn cache_bytes(level: u8) -> Option<u64> {
    let caches = CpuId::new().get_cache_parameters()?;
    caches
        .filter(|cache| cache.level() == level)
        .find(|cache| matches!(cache.cache_type(), CacheType::Data | CacheType::Unified))
        .map(|cache| {
            [
                cache.associativity(),
                cache.physical_line_partitions(),
                cache.coherency_line_size(),
                cache.sets(),
            ]
            .into_iter()
            .map(|factor| factor as u64)
            .product()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> String {
        "test CPU".to_owned()
    }

    #[test]
    fn what_is_contained_is_given_and_what_is_not_is_refused() {
        use Isa::{Avx2, Avx512};
        assert_eq!(choose(Some(Avx512), None, cpu), Ok(Avx512));
        assert_eq!(choose(Some(Avx512), Some(Avx2), cpu), Ok(Avx2));
        assert_eq!(choose(Some(Avx2), Some(Avx2), cpu), Ok(Avx2));
        assert_eq!(
            choose(Some(Avx2), Some(Avx512), cpu),
            Err(IsaError::AboveMachine {
                asked: Avx512,
                found: Avx2,
                cpu: cpu()
            })
        );
        assert_eq!(
            choose(None, None, cpu),
            Err(IsaError::NoAvx2 { cpu: cpu() })
        );
    }

    #[test]
    fn an_instruction_set_is_what_it_contains() {
        assert!(Isa::Avx512.contains(Isa::Avx2) && !Isa::Avx2.contains(Isa::Avx512));
        for isa in Isa::ALL {
            let IsaDescriptor { features, .. } = *isa.descriptor();
            assert!(isa.contains(isa) && !features.contains(Features::AVX512_BF16));
            assert!(features.with(Features::AVX512_BF16).contains(features));
        }
        assert_eq!(Isa::Avx2.descriptor().features.to_string(), "avx2, fma");
        assert!(Features::NONE.to_string().is_empty());
    }

    #[test]
    fn names_round_trip_and_unknown_ones_list_the_known() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!("AVX512".parse(), Ok(Isa::Avx512));
        let message = "sse2".parse::<Isa>().unwrap_err().to_string();
        assert!(
            message.contains("sse2") && message.contains("avx2 or avx512"),
            "{message}"
        );
    }

    #[test]
    fn the_machine_describes_itself() {
        let info = CpuInfo::query();
        assert!(!info.model_name.is_empty());
        assert!(info.logical_cores >= 1);
        assert!(
            info.l1d_bytes.is_none_or(|bytes| bytes >= 8 << 10),
            "{info:?}"
        );
        assert_eq!(Isa::detect(None).ok(), info.best_isa);
    }
}
