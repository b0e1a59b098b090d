//! What a layer computes, as far as a kernel needs to know: dims, layouts, fused post-ops.

use crate::stage::Staging;
use crate::variant::Unsupported;
use crate::{Planes, limits};
use skimjit_jit::Isa;
use skimjit_models::ops::{Activation, BinaryOp, PoolMethod, Resize, Window};
use std::fmt;

/// An activation that follows a sum in its registers, and is 0 at 0: gaps stay zero. Floats are kept as bits so that
/// problems can be hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fused(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Relu(u32),
    Clip([u32; 2]),
    HardSwish,
    Swish(u32),
}

impl Fused {
    /// `max(y, 0) + slope·min(y, 0)`.
    pub fn relu(slope: f32) -> Self {
        Self(Kind::Relu(slope.to_bits()))
    }
    /// The activation, if it is one of these.
    pub fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::ReLU { slope } => Some(Self::relu(slope)),
            Activation::Clip { min, max } if min <= 0.0 && max >= 0.0 => {
                Some(Self(Kind::Clip([min, max].map(f32::to_bits))))
            }
            Activation::HardSwish => Some(Self(Kind::HardSwish)),
            Activation::Swish { beta } if beta.is_finite() => {
                Some(Self(Kind::Swish(beta.to_bits())))
            }
            _ => None,
        }
    }
    /// Whether it takes several registers for each vector, and time that vectors side by side shorten.
    pub(crate) fn wants_registers(self) -> bool {
        matches!(self.0, Kind::Swish(_))
    }
    /// Cycles of a vector, with so many registers free.
    pub(crate) fn cycles(self, free: u32) -> f64 {
        match (self.0, free / 3) {
            (Kind::Swish(_), ..2) => 20.0,
            (Kind::Swish(_), 2) => 12.0,
            (Kind::Swish(_), _) => 8.0,
            _ => 1.0,
        }
    }
    /// Which one it is.
    pub fn activation(self) -> Activation {
        match self.0 {
            Kind::Relu(slope) => Activation::ReLU {
                slope: f32::from_bits(slope),
            },
            Kind::Clip(bounds) => {
                let [min, max] = bounds.map(f32::from_bits);
                Activation::Clip { min, max }
            }
            Kind::HardSwish => Activation::HardSwish,
            Kind::Swish(beta) => Activation::Swish {
                beta: f32::from_bits(beta),
            },
        }
    }
}

/// Convolution of one image.
///
/// `dst[o][y][x] = post(bias[o] + Σ wei[o][c][i][j] · src[g·icg + c][y·sh + i·dh − ph][x·sw + j·dw − pw])`
/// with zero outside the plane. Weights are `oc × ic/groups × kh × kw`, row-major.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConvProblem {
    /// Input planes (`src.c` = ic).
    pub src: Planes,
    /// Output planes (`dst.c` = oc).
    pub dst: Planes,
    /// Kernel, stride, pad, dilation.
    pub window: Window,
    /// Groups.
    pub groups: u32,
    /// Fused activation.
    pub post: Option<Fused>,
    /// A second operand with the layout of `dst` is added before the activation.
    pub residual: bool,
}

impl ConvProblem {
    /// Input channels of a group.
    pub fn icg(&self) -> u32 {
        self.src.c / self.groups
    }
    /// Output channels of a group.
    pub fn ocg(&self) -> u32 {
        self.dst.c / self.groups
    }
    /// kh·kw.
    pub fn taps(&self) -> u32 {
        self.window.kernel[0] * self.window.kernel[1]
    }
    /// Weights of one output channel.
    pub fn cols(&self) -> u32 {
        self.icg() * self.taps()
    }
    /// Refuses sizes that do not fit each other, and operands or padded copies beyond the limits.
    pub(crate) fn check(&self) -> Result<(), Unsupported> {
        check_planes(&self.src)?;
        check_planes(&self.dst)?;
        let channels = [self.src.c, self.dst.c];
        if self.groups == 0 || channels.iter().any(|c| !c.is_multiple_of(self.groups)) {
            return refuse(format!("{} groups of {channels:?} channels", self.groups));
        }
        let size = [(0, self.src.h), (1, self.src.w)]
            .map(|(axis, input)| self.window.output_size(axis, input).ok());
        let found = [self.dst.h, self.dst.w];
        if size != found.map(Some) {
            return refuse(format!("an output of {found:?}, expected {size:?}"));
        }
        let copy = [0, 1].map(|axis| {
            let (reach, stride) = (self.window.extent(axis) - 1, self.window.stride[axis]);
            (u64::from(found[axis]) + reach / u64::from(stride))
                .saturating_mul(u64::from(stride).min(reach + 1))
        });
        let copy = copy[0]
            .saturating_mul(copy[1])
            .saturating_mul(u64::from(self.src.c));
        check_elems(copy, "a padded copy")
    }
    /// Cycles of the activation of all results, with so many registers free.
    pub(crate) fn post_cycles(&self, isa: Isa, free: u32) -> f64 {
        let each = self.post.map_or(0.0, |post| post.cycles(free));
        f64::from(self.dst.c) * f64::from(self.dst.hw().div_ceil(isa.lanes())) * each
    }
    /// Multiply-adds of one image, padding included.
    pub fn macs(&self) -> u64 {
        u64::from(self.cols()) * u64::from(self.dst.c) * u64::from(self.dst.hw())
    }
}

/// Deconvolution of one image, each channel by itself.
///
/// `dst[c][y][x] = post(bias[c] + Σ wei[c][i][j] · src[c][(y + ph − i) / sh][(x + pw − j) / sw])`, the sum over the
/// taps where both quotients are whole and inside the plane. Weights are `c × kh × kw`, row-major.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DeconvProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes, as many.
    pub dst: Planes,
    /// Kernel, stride, pad.
    pub window: Window,
    /// Fused activation.
    pub post: Option<Fused>,
}

/// Inner product: `dst[n][o] = post(bias[o] + Σ wei[o][i] · src[n][i])`; rows of `src` and `dst` are
/// contiguous (`inputs` and `outputs` elements).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FcProblem {
    /// Row length of the weights.
    pub inputs: u32,
    /// Rows of the weights.
    pub outputs: u32,
    /// Fused activation.
    pub post: Option<Fused>,
}

/// Pooling of one image; the output size is in `dst`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PoolProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes.
    pub dst: Planes,
    /// Kernel, stride, pad.
    pub window: Window,
    /// Maximum or average.
    pub method: PoolMethod,
    /// The running maximum starts at 0 (maximum only).
    pub relu: bool,
}

/// LRN of one image: `dst = src · (k + alpha/elements · Σ src²)^−beta`, the sum over a window.
#[derive(Clone, PartialEq, Debug)]
pub struct LrnProblem {
    /// Both operands.
    pub planes: Planes,
    /// Channels of the window, or rows and columns, odd.
    pub size: u32,
    /// The window lies in a plane, not across channels.
    pub within_channel: bool,
    /// Alpha.
    pub alpha: f32,
    /// Beta.
    pub beta: f32,
    /// k.
    pub k: f32,
}

/// `t = src[c]·scale[c] + shift[c]; dst = max(t, 0) + slope[c]·min(t, 0)`; each part is optional and
/// its values are weights, one per channel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChannelwiseProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes, same c, h, w.
    pub dst: Planes,
    /// Multiply and add.
    pub affine: bool,
    /// Leaky ReLU with a slope per channel.
    pub leaky: bool,
}

/// `dst = f(src)`, element by element.
#[derive(Clone, PartialEq, Debug)]
pub struct FunctionProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes, same c, h, w.
    pub dst: Planes,
    /// f.
    pub function: Activation,
}

/// How [`EltwiseProblem`] combines.
#[derive(Clone, PartialEq, Debug)]
pub enum EltwiseKind {
    /// Σ coefficient·operand.
    Sum(Vec<f32>),
    /// Product.
    Product,
    /// Maximum.
    Max,
}

/// Elementwise combination of `operands` arrays of `elems` contiguous elements (gaps included: the
/// combination of zeros is zero).
#[derive(Clone, PartialEq, Debug)]
pub struct EltwiseProblem {
    /// Elements of each operand.
    pub elems: u32,
    /// Number of operands.
    pub operands: u32,
    /// Combination.
    pub kind: EltwiseKind,
    /// Fused activation.
    pub post: Option<Fused>,
}

/// `dst = post(f(whole, part))`: a function of two operands, of which the second is repeated along the channels
/// or the pixels where it has one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BinaryProblem {
    /// The operand that may be repeated; operand 0.
    pub part: Planes,
    /// The other operand and the result.
    pub dst: Planes,
    /// f.
    pub op: BinaryOp,
    /// f(part, whole).
    pub part_first: bool,
    /// Fused activation.
    pub post: Option<Fused>,
}

/// Which elements of planes make a group, of which one mean, sum or maximum is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// The channels of each pixel.
    Channels,
    /// The rows of each column of a channel.
    Rows,
    /// The columns of each row of a channel.
    Columns,
    /// The pixels of each channel.
    Plane,
    /// All elements.
    Image,
}

/// eˣ / Σ eˣ over groups, or its logarithm.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SoftmaxProblem {
    /// Both operands.
    pub planes: Planes,
    /// Groups.
    pub over: Over,
    /// The logarithm of that.
    pub log: bool,
}

/// What a [`StandardizeProblem`] makes of x.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Divisor {
    /// x − mean.
    One,
    /// (x − mean) / √(variance + eps).
    Deviation,
    /// (x − mean) / (√variance + eps).
    DeviationAndEps,
    /// x / √(Σx² + eps), times a factor for each channel.
    Norm,
}

/// Elements by how far they are from the mean of their group, or by its norm.
#[derive(Clone, PartialEq, Debug)]
pub struct StandardizeProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes.
    pub dst: Planes,
    /// Groups.
    pub over: Over,
    /// Formula.
    pub divisor: Divisor,
    /// Part of the divisor.
    pub eps: f32,
}

/// The copy of its source that a kernel reads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CopyProblem {
    /// Layout of the copy, and what is copied.
    pub staging: Staging,
}

impl StandardizeProblem {
    /// There is a factor for each channel, as weights, and no mean is subtracted.
    pub fn is_scaled(&self) -> bool {
        self.divisor == Divisor::Norm
    }
}

/// Resizing of planes of one image, along height and width.
#[derive(Clone, PartialEq, Debug)]
pub struct ResampleProblem {
    /// Input planes.
    pub src: Planes,
    /// Output planes, as many.
    pub dst: Planes,
    /// How axes 2 and 3 change.
    pub op: Resize,
}

/// A problem of one family.
pub trait FamilyProblem: Sized {
    /// The problem, if it is of this family.
    fn of(problem: &Problem) -> Result<&Self, Unsupported>;
}

macro_rules! families {
    ($($family:ident($problem:ident) = $layers:literal;)*) => {
        /// One layer.
        #[derive(Clone, PartialEq, Debug)]
        #[allow(missing_docs, reason = "each variant is its problem")]
        pub enum Problem {
            $($family($problem)),*
        }

        /// The kind of a layer, shown as what its layers are called.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs, reason = "each variant is that of a problem")]
        pub enum Family {
            $($family),*
        }

        impl fmt::Display for Family {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$family => $layers),*
                })
            }
        }

        $(impl FamilyProblem for $problem {
            fn of(problem: &Problem) -> Result<&Self, Unsupported> {
                match problem {
                    Problem::$family(problem) => Ok(problem),
                    _ => Err(Unsupported::Family(Family::$family)),
                }
            }
        })*
    };
}

families! {
    Conv(ConvProblem) = "convolutions";
    Deconv(DeconvProblem) = "deconvolutions";
    Fc(FcProblem) = "inner products";
    Pool(PoolProblem) = "pooling";
    Lrn(LrnProblem) = "LRN";
    Channelwise(ChannelwiseProblem) = "channelwise functions";
    Function(FunctionProblem) = "elementwise functions";
    Eltwise(EltwiseProblem) = "elementwise combinations";
    Binary(BinaryProblem) = "functions of two operands";
    Softmax(SoftmaxProblem) = "softmax";
    Standardize(StandardizeProblem) = "standardization";
    Resample(ResampleProblem) = "resizing";
    Copy(CopyProblem) = "padded copies";
}

/// How the operands of a problem lie in memory.
pub struct Operands {
    /// Sources. Where there is a residual, it is the second.
    pub src: Vec<Planes>,
    /// Result.
    pub dst: Planes,
    /// The second source lies as the result does, and is read as far.
    pub residual: bool,
}

impl Problem {
    /// Layouts of sources and result; rows without planes are channels of one pixel.
    pub fn operands(&self) -> Operands {
        let row = |elems: u32| Planes::compact(elems, 1, 1);
        let (src, dst) = match self {
            Self::Conv(p) if p.residual => (vec![p.src, p.dst], p.dst),
            Self::Conv(p) => (vec![p.src], p.dst),
            Self::Deconv(p) => (vec![p.src], p.dst),
            Self::Fc(p) => (vec![row(p.inputs)], row(p.outputs)),
            Self::Pool(p) => (vec![p.src], p.dst),
            Self::Lrn(p) => (vec![p.planes], p.planes),
            Self::Channelwise(p) => (vec![p.src], p.dst),
            Self::Function(p) => (vec![p.src], p.dst),
            Self::Eltwise(p) => (vec![row(p.elems); p.operands as usize], row(p.elems)),
            Self::Binary(p) => (vec![p.part, p.dst], p.dst),
            Self::Softmax(p) => (vec![p.planes], p.planes),
            Self::Standardize(p) => (vec![p.src], p.dst),
            Self::Resample(p) => (vec![p.src], p.dst),
            Self::Copy(p) => {
                let copy = Planes::compact(p.staging.src.c, 1, p.staging.channel);
                (vec![p.staging.src], copy)
            }
        };
        let residual = match self {
            Self::Conv(p) => p.residual,
            Self::Binary(_) => true,
            _ => false,
        };
        Operands { src, dst, residual }
    }

    /// Rows and columns of the weights, for problems of any size; none without weights.
    pub fn matrix(&self) -> [u64; 2] {
        match self {
            Self::Conv(p) => {
                let [kh, kw] = p.window.kernel.map(u64::from);
                let icg = u64::from(p.src.c) / u64::from(p.groups.max(1));
                [p.dst.c.into(), icg.saturating_mul(kh * kw)]
            }
            Self::Deconv(p) => {
                let [kh, kw] = p.window.kernel.map(u64::from);
                [p.dst.c.into(), kh * kw]
            }
            Self::Fc(p) => [p.outputs.into(), p.inputs.into()],
            Self::Channelwise(p) => [p.dst.c.into(), 3],
            Self::Standardize(p) if p.is_scaled() => [p.dst.c.into(), 1],
            _ => [0, 0],
        }
    }

    /// True for sums of products with a matrix of weights, whose zeros may be left out.
    pub fn is_weighted_sum(&self) -> bool {
        matches!(self, Self::Conv(_) | Self::Deconv(_) | Self::Fc(_))
    }
}

pub(crate) fn refuse<T>(reason: String) -> Result<T, Unsupported> {
    Err(Unsupported::Problem(reason))
}

pub(crate) fn check_elems(elems: u64, what: &str) -> Result<(), Unsupported> {
    match elems {
        1..=limits::OPERAND_ELEMS => Ok(()),
        _ => {
            let most = limits::OPERAND_ELEMS;
            refuse(format!("{what} of {elems} elements, expected 1 to {most}"))
        }
    }
}

/// Refuses planes that are empty, overlap, or exceed the limits.
pub(crate) fn check_planes(planes: &Planes) -> Result<(), Unsupported> {
    let hw = u64::from(planes.h) * u64::from(planes.w);
    if hw > u64::from(planes.pitch) {
        return refuse(format!("planes of {hw} elements every {}", planes.pitch));
    }
    check_elems(hw, "a plane")?;
    check_elems(u64::from(planes.c) * u64::from(planes.pitch), "an operand")
}
