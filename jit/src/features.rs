//! Extensions of x86-64 as a set.

use std::fmt;

/// Extensions of x86-64. A set, because CPUs offer them in many combinations: what one has more than
/// another in one place, it may lack in another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Features(u32);

macro_rules! features {
    ($($bit:literal $constant:ident = $name:tt: $doc:literal;)*) => {
        impl Features {
            $(#[doc = $doc] pub const $constant: Self = Self(1 << $bit);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$constant, $name)),*];

            /// What both the CPU and the operating system support: the standard library's checks cover
            /// XCR0, that is, whether the system saves `ymm` and `zmm`.
            pub(crate) fn of_machine() -> Self {
                let mut found = Self::NONE;
                $(if is_x86_feature_detected!($name) {
                    found = found.with(Self::$constant);
                })*
                found
            }
        }
    };
}

features! {
    0 AVX2 = "avx2": "256-bit vectors.";
    1 FMA = "fma": "Multiply-adds.";
    2 AVX512F = "avx512f": "512-bit vectors and opmasks.";
    3 AVX512BW = "avx512bw": "8- and 16-bit lanes.";
    4 AVX512DQ = "avx512dq": "More on 32- and 64-bit lanes.";
    5 AVX512VL = "avx512vl": "AVX-512's instructions on shorter vectors.";
    6 AVX512_VNNI = "avx512vnni": "Dot products of 8- and 16-bit integers.";
    7 AVX512_BF16 = "avx512bf16": "Dot products of bfloat16 numbers.";
}

impl Features {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Union.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when nothing of `other` is missing.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(one, _)| self.contains(*one));
        let names: Vec<&str> = names.map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}
