//! A test case as one line of text, so that a failure can be pasted back.

use crate::function;
use skimjit_kernels::stage::{Arrangement, Staging};
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, CopyProblem, DeconvProblem, Divisor,
    EltwiseKind, EltwiseProblem, FcProblem, FunctionProblem, Fused, LrnProblem, Over, Planes,
    PoolProblem, Problem, ResampleProblem, SoftmaxProblem, StandardizeProblem,
};
use skimjit_models::ElementType;
use skimjit_models::ops::{
    Activation, BinaryOp, Coordinates, NearestRounding, PoolMethod, Resize, ResizeAxis,
    ResizeMethod, ResizeSize, Window,
};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// A problem and how its data are made.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    pub problem: Problem,
    /// Share of the weights that are not zero, in percent.
    pub density: u32,
    /// Every third row of the weights is empty.
    pub holes: bool,
    pub bias: bool,
    /// Largest magnitude of the source's values.
    pub scale: f32,
    /// Some of the source's values are NaN or infinite.
    pub special: bool,
    /// All weights are bfloat16 numbers.
    pub bf16: bool,
    pub seed: u64,
}

impl Spec {
    pub fn new(problem: Problem) -> Self {
        Self {
            problem,
            density: 100,
            holes: false,
            bias: true,
            scale: 1.0,
            special: false,
            bf16: false,
            seed: 1,
        }
    }
    pub fn density(self, density: u32) -> Self {
        Self { density, ..self }
    }
    pub fn holes(self) -> Self {
        Self {
            holes: true,
            ..self
        }
    }
    pub fn no_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }
    pub fn scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }
    pub fn special(self) -> Self {
        Self {
            special: true,
            ..self
        }
    }
    pub fn bf16(self) -> Self {
        Self { bf16: true, ..self }
    }
    /// Type of the weights.
    pub fn element(&self) -> ElementType {
        match self.bf16 {
            true => ElementType::Bf16,
            false => ElementType::F32,
        }
    }
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

fn planes(p: &Planes) -> String {
    format!("{}x{}x{}x{}", p.c, p.h, p.w, p.pitch)
}

fn pair(name: &str, [h, w]: [u32; 2]) -> String {
    format!("{name}={h}x{w}")
}

fn window(w: &Window) -> String {
    let mut parts = vec![
        ("k", w.kernel),
        ("s", w.stride),
        ("p", w.pad_begin),
        ("d", w.dilation),
    ];
    if w.pad_end != w.pad_begin {
        parts.push(("e", w.pad_end));
    }
    let parts = parts.into_iter().map(|(name, value)| pair(name, value));
    parts.collect::<Vec<_>>().join(" ")
}

fn post(post: &Option<Fused>) -> String {
    match post.map(Fused::activation) {
        None => String::new(),
        Some(Activation::ReLU { slope }) => format!(" relu={slope}"),
        Some(Activation::Clip { min, max }) => format!(" clip={min},{max}"),
        Some(Activation::Swish { beta }) => format!(" swish={beta}"),
        Some(_) => " hardswish=1".to_owned(),
    }
}

fn flag(name: &str, set: bool) -> String {
    if set {
        format!(" {name}=1")
    } else {
        String::new()
    }
}

fn floats(values: &[f32]) -> String {
    values
        .iter()
        .map(f32::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Conv(p) => {
                let (src, dst, window) = (planes(&p.src), planes(&p.dst), window(&p.window));
                write!(f, "conv src={src} dst={dst} {window} g={}", p.groups)?;
                write!(f, "{}{}", post(&p.post), flag("res", p.residual))
            }
            Problem::Deconv(p) => {
                let (src, dst, window) = (planes(&p.src), planes(&p.dst), window(&p.window));
                write!(f, "deconv src={src} dst={dst} {window}{}", post(&p.post))
            }
            Problem::Fc(p) => write!(f, "fc in={} out={}{}", p.inputs, p.outputs, post(&p.post)),
            Problem::Pool(p) => {
                let (src, dst, window) = (planes(&p.src), planes(&p.dst), window(&p.window));
                let [average, inside] =
                    [PoolMethod::Average, PoolMethod::AverageInside].map(|m| m == p.method);
                write!(f, "pool src={src} dst={dst} {window}")?;
                let (average, inside) = (flag("ave", average), flag("inside", inside));
                write!(f, "{average}{inside}{}", flag("start0", p.relu))
            }
            Problem::Lrn(p) => {
                let within = flag("within", p.within_channel);
                write!(f, "lrn src={} size={}{within} ", planes(&p.planes), p.size)?;
                write!(f, "alpha={} beta={} k0={}", p.alpha, p.beta, p.k)
            }
            Problem::Channelwise(p) => {
                write!(
                    f,
                    "channelwise src={} dst={}",
                    planes(&p.src),
                    planes(&p.dst)
                )?;
                write!(f, "{}{}", flag("affine", p.affine), flag("leaky", p.leaky))
            }
            Problem::Function(p) => {
                let (src, dst) = (planes(&p.src), planes(&p.dst));
                write!(
                    f,
                    "function src={src} dst={dst} {}",
                    function::text(p.function)
                )
            }
            Problem::Eltwise(p) => {
                let kind = match &p.kind {
                    EltwiseKind::Sum(coefficients) => format!("sum={}", floats(coefficients)),
                    EltwiseKind::Product => "product=1".into(),
                    EltwiseKind::Max => "max=1".into(),
                };
                write!(
                    f,
                    "eltwise n={} of={} {kind}{}",
                    p.elems,
                    p.operands,
                    post(&p.post)
                )
            }
            Problem::Binary(p) => {
                let (src, dst) = (planes(&p.part), planes(&p.dst));
                write!(f, "binary src={src} dst={dst} op={:?}", p.op)?;
                write!(f, "{}{}", flag("swap", p.part_first), post(&p.post))
            }
            Problem::Standardize(p) => {
                let (src, dst) = (planes(&p.src), planes(&p.dst));
                write!(f, "standardize src={src} dst={dst} over={:?}", p.over)?;
                write!(f, " by={:?} eps={}", p.divisor, p.eps)
            }
            Problem::Softmax(p) => {
                write!(f, "softmax src={} over={:?}", planes(&p.planes), p.over)?;
                f.write_str(&flag("log", p.log))
            }
            Problem::Copy(p) => {
                let (src, [oh, ow]) = (planes(&p.staging.src), p.staging.outputs);
                write!(
                    f,
                    "copy src={src} out={oh}x{ow} {}",
                    window(&p.staging.window)
                )?;
                match p.staging.arrangement {
                    Arrangement::Plain => Ok(()),
                    Arrangement::Aligned([unit, lanes]) => write!(f, " aligned={unit}x{lanes}"),
                    Arrangement::Shifted([unit, lanes]) => write!(f, " shifted={unit}x{lanes}"),
                }
            }
            Problem::Resample(p) => {
                write!(f, "resample src={} dst={}", planes(&p.src), planes(&p.dst))?;
                write!(f, " {}", resizing(&p.op))
            }
        }?;
        write!(f, " density={}", self.density)?;
        write!(
            f,
            "{}{}",
            flag("holes", self.holes),
            flag("bias", self.bias)
        )?;
        write!(
            f,
            "{}{}",
            flag("special", self.special),
            flag("bf16", self.bf16)
        )?;
        write!(f, " scale={} seed={}", self.scale, self.seed)
    }
}

fn resizing(op: &Resize) -> String {
    let method = match op.method {
        ResizeMethod::Nearest(rounding) => format!("{rounding:?}"),
        ResizeMethod::Linear => "linear".to_owned(),
        ResizeMethod::Cubic { a } => format!("{a}"),
    };
    let axes = op.axes.iter().map(|resized| {
        let name = [" y", " x"][resized.axis as usize - 2];
        match resized.size {
            ResizeSize::Scale(scale) => format!("{name}={scale}"),
            ResizeSize::Size(size) => format!("{name}n={size}"),
        }
    });
    let axes: String = axes.collect();
    let flags = flag("antialias", op.antialias) + &flag("inside", op.exclude_outside);
    format!("m={method} at={:?}{axes}{flags}", op.coordinates)
}

/// How coordinates are mapped in problems that there is a kernel for.
pub const COORDINATES: [Coordinates; 5] = [
    Coordinates::HalfPixel,
    Coordinates::HalfPixelSymmetric,
    Coordinates::PytorchHalfPixel,
    Coordinates::AlignCorners,
    Coordinates::Asymmetric,
];

/// Methods of resizing.
pub const METHODS: [ResizeMethod; 7] = [
    ResizeMethod::Linear,
    ResizeMethod::Nearest(NearestRounding::RoundPreferFloor),
    ResizeMethod::Nearest(NearestRounding::RoundPreferCeil),
    ResizeMethod::Nearest(NearestRounding::Floor),
    ResizeMethod::Nearest(NearestRounding::Ceil),
    ResizeMethod::Cubic { a: -0.75 },
    ResizeMethod::Cubic { a: -0.5 },
];

/// Functions of two operands that there are kernels for.
pub const BINARY_OPS: [BinaryOp; 4] = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div];

/// All kinds of groups.
pub const OVER: [Over; 5] = [
    Over::Channels,
    Over::Rows,
    Over::Columns,
    Over::Plane,
    Over::Image,
];

/// All divisors.
pub const DIVISORS: [Divisor; 4] = [
    Divisor::One,
    Divisor::Deviation,
    Divisor::DeviationAndEps,
    Divisor::Norm,
];

fn list(text: &str) -> Result<Vec<f32>, String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(str::parse).collect();
    numbers.map_err(|_| format!("{text} is no list"))
}

/// `key=value` words.
struct Words<'a>(HashMap<&'a str, &'a str>);

impl Words<'_> {
    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
    fn get<T: FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.0.get(key).ok_or_else(|| format!("no {key}="))?;
        text.parse()
            .map_err(|_| format!("{key}={text} is no number"))
    }
    /// The one that is written like this.
    fn named<T: Copy + fmt::Debug>(&self, key: &str, all: &[T]) -> Result<T, String> {
        let name: String = self.get(key)?;
        let found = all.iter().find(|one| format!("{one:?}") == name);
        found
            .copied()
            .ok_or_else(|| format!("unknown {key}={name}"))
    }
    fn dims<const N: usize>(&self, key: &str) -> Result<[u32; N], String> {
        let text = self.0.get(key).ok_or_else(|| format!("no {key}="))?;
        let dims: Result<Vec<u32>, _> = text.split('x').map(str::parse).collect();
        let dims = dims.map_err(|_| format!("{key}={text} is no list of sizes"))?;
        dims.try_into()
            .map_err(|_| format!("{key}={text}: expected {N} sizes"))
    }
    fn planes(&self, key: &str) -> Result<Planes, String> {
        let [c, h, w, pitch] = self.dims(key)?;
        Ok(Planes { c, h, w, pitch })
    }
    fn window(&self) -> Result<Window, String> {
        let (kernel, stride) = (self.dims("k")?, self.dims("s")?);
        let pad_begin = self.dims("p")?;
        // Of most windows the same.
        let pad_end = match self.has("e") {
            true => self.dims("e")?,
            false => pad_begin,
        };
        Ok(Window {
            kernel,
            stride,
            pad_begin,
            pad_end,
            dilation: self.dims("d")?,
        })
    }
    fn post(&self) -> Result<Option<Fused>, String> {
        if self.has("hardswish") {
            return Ok(Fused::of(Activation::HardSwish));
        }
        if self.has("swish") {
            let beta = self.get("swish")?;
            return Ok(Fused::of(Activation::Swish { beta }));
        }
        if let Some(text) = self.0.get("clip") {
            let bounds = list(text)?;
            let [min, max] = bounds[..] else {
                return Err(format!("clip={text}: expected 2 numbers"));
            };
            return Ok(Fused::of(Activation::Clip { min, max }));
        }
        self.has("relu")
            .then(|| self.get("relu").map(Fused::relu))
            .transpose()
    }
    fn kind(&self) -> Result<EltwiseKind, String> {
        let Some(text) = self.0.get("sum") else {
            return Ok(if self.has("max") {
                EltwiseKind::Max
            } else {
                EltwiseKind::Product
            });
        };
        list(text).map(EltwiseKind::Sum)
    }

    fn resizing(&self) -> Result<Resize, String> {
        let (method, coordinates): (String, String) = (self.get("m")?, self.get("at")?);
        let named = |one: &ResizeMethod| match one {
            ResizeMethod::Nearest(rounding) => format!("{rounding:?}") == method,
            ResizeMethod::Linear => method == "linear",
            ResizeMethod::Cubic { a } => method == format!("{a}"),
        };
        let coordinate = |one: &Coordinates| format!("{one:?}") == coordinates;
        let mut axes = Vec::new();
        for (axis, scale, size) in [(2, "y", "yn"), (3, "x", "xn")] {
            let size = match (self.has(scale), self.has(size)) {
                (true, _) => ResizeSize::Scale(self.get(scale)?),
                (false, true) => ResizeSize::Size(self.get(size)?),
                (false, false) => continue,
            };
            axes.push(ResizeAxis {
                axis,
                size,
                roi: [0.0, 1.0],
            });
        }
        let unknown = |text: &str| format!("{text} is unknown");
        Ok(Resize {
            axes,
            method: METHODS.into_iter().find(named).ok_or(unknown(&method))?,
            coordinates: COORDINATES
                .into_iter()
                .find(coordinate)
                .ok_or(unknown(&coordinates))?,
            antialias: self.has("antialias"),
            exclude_outside: self.has("inside"),
            extrapolation: 0.0,
        })
    }

    fn problem(&self, family: &str) -> Result<Problem, String> {
        let (src, dst) = (|| self.planes("src"), || self.planes("dst"));
        Ok(match family {
            "conv" => Problem::Conv(ConvProblem {
                src: src()?,
                dst: dst()?,
                window: self.window()?,
                groups: self.get("g")?,
                post: self.post()?,
                residual: self.has("res"),
            }),
            "deconv" => Problem::Deconv(DeconvProblem {
                src: src()?,
                dst: dst()?,
                window: self.window()?,
                post: self.post()?,
            }),
            "fc" => {
                let (inputs, outputs) = (self.get("in")?, self.get("out")?);
                Problem::Fc(FcProblem {
                    inputs,
                    outputs,
                    post: self.post()?,
                })
            }
            "pool" => {
                let method = match (self.has("ave"), self.has("inside")) {
                    (true, _) => PoolMethod::Average,
                    (false, true) => PoolMethod::AverageInside,
                    (false, false) => PoolMethod::Max,
                };
                let (src, dst, window) = (src()?, dst()?, self.window()?);
                Problem::Pool(PoolProblem {
                    src,
                    dst,
                    window,
                    method,
                    relu: self.has("start0"),
                })
            }
            "lrn" => Problem::Lrn(LrnProblem {
                planes: src()?,
                size: self.get("size")?,
                within_channel: self.has("within"),
                alpha: self.get("alpha")?,
                beta: self.get("beta")?,
                k: self.get("k0")?,
            }),
            "channelwise" => {
                let (affine, leaky) = (self.has("affine"), self.has("leaky"));
                Problem::Channelwise(ChannelwiseProblem {
                    src: src()?,
                    dst: dst()?,
                    affine,
                    leaky,
                })
            }
            "function" => {
                let numbers = match self.0.get("n") {
                    Some(text) => list(text)?,
                    None => vec![],
                };
                Problem::Function(FunctionProblem {
                    src: src()?,
                    dst: dst()?,
                    function: function::parse(self.0.get("f").unwrap_or(&""), &numbers)?,
                })
            }
            "eltwise" => {
                let (elems, operands) = (self.get("n")?, self.get("of")?);
                let (kind, post) = (self.kind()?, self.post()?);
                Problem::Eltwise(EltwiseProblem {
                    elems,
                    operands,
                    kind,
                    post,
                })
            }
            "binary" => Problem::Binary(BinaryProblem {
                part: src()?,
                dst: dst()?,
                op: self.named("op", &BINARY_OPS)?,
                part_first: self.has("swap"),
                post: self.post()?,
            }),
            "standardize" => Problem::Standardize(StandardizeProblem {
                src: src()?,
                dst: dst()?,
                over: self.named("over", &OVER)?,
                divisor: self.named("by", &DIVISORS)?,
                eps: self.get("eps")?,
            }),
            "copy" => {
                let (src, window) = (src()?, self.window()?);
                let [oh, ow] = self.dims("out")?;
                let plain = Staging::new(src, &window, oh, ow);
                let staging = match (self.has("aligned"), self.has("shifted")) {
                    (true, _) => {
                        let [unit, lanes] = self.dims("aligned")?;
                        plain.aligned(unit, lanes)
                    }
                    (_, true) => {
                        let [unit, lanes] = self.dims("shifted")?;
                        Staging::shifted(src, &window, [oh, ow], unit, lanes)
                    }
                    _ => plain,
                };
                Problem::Copy(CopyProblem { staging })
            }
            "softmax" => Problem::Softmax(SoftmaxProblem {
                planes: src()?,
                over: self.named("over", &OVER)?,
                log: self.has("log"),
            }),
            "resample" => Problem::Resample(ResampleProblem {
                src: src()?,
                dst: dst()?,
                op: self.resizing()?,
            }),
            other => return Err(format!("unknown family {other}")),
        })
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (family, rest) = line.trim().split_once(' ').ok_or("no problem")?;
        let words = rest.split_whitespace().map(|word| {
            word.split_once('=')
                .ok_or_else(|| format!("{word} is not key=value"))
        });
        let words = Words(words.collect::<Result<_, _>>()?);
        Ok(Self {
            problem: words.problem(family)?,
            density: words.get("density")?,
            holes: words.has("holes"),
            bias: words.has("bias"),
            scale: words.get("scale")?,
            special: words.has("special"),
            bf16: words.has("bf16"),
            seed: words.get("seed")?,
        })
    }
}
