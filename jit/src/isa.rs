//! Which instruction set this machine has, and what reports say about the machine. The only place
//! that looks at the CPU.

use std::fmt;
use std::str::FromStr;

use raw_cpuid::{CacheType, CpuId};

/// Instruction set of generated code; later ones contain the earlier ones.
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

    /// Best instruction set of this machine, limited to `cap`. A cap above the machine is refused
    /// rather than lowered, so that a test or a bench never reports an ISA it did not run.
    pub fn detect(cap: Option<Isa>) -> Result<Isa, IsaError> {
        choose(Self::best(), cap, model_name)
    }

    /// Best instruction set that both the CPU and the operating system support.
    ///
    /// The standard library's check covers XCR0, that is, whether the system saves `ymm` and `zmm`.
    fn best() -> Option<Isa> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            (true, true) => Some(Isa::Avx512),
            (true, false) => Some(Isa::Avx2),
            (false, _) => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

fn choose(
    best: Option<Isa>,
    cap: Option<Isa>,
    cpu: impl FnOnce() -> String,
) -> Result<Isa, IsaError> {
    match (best, cap) {
        (None, _) => Err(IsaError::NoAvx2 { cpu: cpu() }),
        (Some(found), Some(asked)) if asked > found => Err(IsaError::AboveMachine {
            asked,
            found,
            cpu: cpu(),
        }),
        (Some(found), cap) => Ok(cap.unwrap_or(found)),
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
    fn a_lower_cap_lowers_and_a_higher_one_is_refused() {
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
