//! Hard cases that every variant of a family must get right.

use crate::function;
use crate::oracle::pooling;
use crate::spec::{BINARY_OPS, COORDINATES, DIVISORS, METHODS, OVER, Spec};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::stage::Staging;
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, CopyProblem, DeconvProblem, Divisor,
    EltwiseKind, EltwiseProblem, FcProblem, FunctionProblem, Fused, LrnProblem, Over, Planes,
    PoolProblem, Problem, ResampleProblem, SoftmaxProblem, StandardizeProblem, Variant, gap,
    registry,
};
use skimjit_models::ops::{
    Activation, Coordinates, PoolMethod, Resize, ResizeAxis, ResizeMethod, ResizeSize, Rounding,
    Window,
};
use skimjit_models::{Op, Shape};

/// How planes of a convolution lie.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Layout {
    /// As the planner lays out same-size convolutions.
    Gap,
    Compact,
    /// The gap of a consumer with more padding.
    Wide,
    /// A pitch that is no multiple of a vector.
    Odd,
}

impl Layout {
    pub const ALL: [Layout; 4] = [Layout::Gap, Layout::Compact, Layout::Wide, Layout::Odd];

    pub fn planes(self, c: u32, h: u32, w: u32, gap: u32) -> Planes {
        match self {
            Layout::Gap => Planes::with_gap(c, h, w, gap),
            Layout::Compact => Planes::compact(c, h, w),
            Layout::Wide => Planes::with_gap(c, h, w, gap + 3 * w + 3),
            Layout::Odd => Planes {
                c,
                h,
                w,
                pitch: h * w + gap + 3,
            },
        }
    }
}

/// Channels and size of a convolution's operands.
#[derive(Clone, Copy)]
pub struct Dims {
    pub ic: u32,
    pub oc: u32,
    pub h: u32,
    pub w: u32,
    pub groups: u32,
}

/// A convolution with the output size that the op infers.
pub fn conv(dims: Dims, window: Window, [src, dst]: [Layout; 2]) -> ConvProblem {
    let out = [(0, dims.h), (1, dims.w)]
        .map(|(axis, input)| window.output_size(axis, input).expect("the window fits"));
    ConvProblem {
        src: src.planes(dims.ic, dims.h, dims.w, gap(&window, dims.w) as u32),
        dst: dst.planes(dims.oc, out[0], out[1], gap(&window, out[1]) as u32),
        window,
        groups: dims.groups,
        post: None,
        residual: false,
    }
}

fn window(kernel: [u32; 2], stride: [u32; 2], pad: [u32; 2], dilation: [u32; 2]) -> Window {
    Window {
        kernel,
        stride,
        pad_begin: pad,
        pad_end: pad,
        dilation,
    }
}

const ONE: [u32; 2] = [1, 1];

/// Same-size and shrinking windows.
fn windows() -> Vec<Window> {
    vec![
        Window::square(1, 1, 0),
        Window::square(3, 1, 1),
        Window::square(5, 1, 2),
        Window::square(7, 1, 3),
        Window::square(9, 1, 4),
        Window::square(3, 1, 0),
        Window::square(1, 2, 0),
        Window::square(3, 2, 1),
        Window::square(2, 2, 0),
        // Padding as wide as the kernel, and wider.
        Window::square(1, 1, 1),
        Window::square(1, 1, 3),
        Window::square(3, 2, 4),
        Window::square(2, 3, 5),
        window([1, 3], ONE, [0, 1], ONE),
        window([3, 1], ONE, [1, 0], ONE),
        window([2, 3], [2, 1], [1, 0], ONE),
        window([3, 2], [2, 2], [1, 0], ONE),
        window([1, 7], ONE, [0, 3], ONE),
        window([3, 3], ONE, [2, 2], [2, 2]),
        window([3, 3], ONE, [4, 4], [4, 4]),
        window([3, 2], [2, 3], [1, 2], [2, 1]),
        window([5, 3], [1, 2], [2, 1], [1, 3]),
        // Columns that no output reads, behind a padded left edge.
        Window::square(3, 4, 1),
    ]
}

const SIZES: [[u32; 2]; 12] = [
    [1, 1],
    [1, 2],
    [2, 2],
    [3, 3],
    [2, 9],
    [7, 7],
    [8, 8],
    [13, 13],
    [14, 14],
    [5, 31],
    [28, 28],
    [27, 27],
];

/// Every window on every size it fits, with layouts, densities and post-ops in rotation.
pub fn conv_windows() -> Vec<Spec> {
    let mut specs = Vec::new();
    let densities = [15, 0, 100, 3, 50];
    for window in windows() {
        for [h, w] in SIZES {
            let fits = [(0, h), (1, w)]
                .iter()
                .all(|&(a, n)| window.output_size(a, n).is_ok());
            if !fits {
                continue;
            }
            let i = specs.len();
            let (ic, oc) = ([3, 5, 8][i % 3], [4, 29, 13, 1][i % 4]);
            let layouts = [Layout::ALL[i % 4], Layout::ALL[i / 4 % 4]];
            let dims = Dims {
                ic,
                oc,
                h,
                w,
                groups: 1,
            };
            let mut problem = conv(dims, window, layouts);
            problem.post = posts(0.1)[i / 2 % 5];
            problem.residual = i % 5 == 3;
            let spec = Spec::new(Problem::Conv(problem)).density(densities[i % 5]);
            let spec = if i % 7 == 2 { spec.no_bias() } else { spec };
            specs.push(if i % 4 == 1 { spec.holes() } else { spec }.seed(i as u64));
        }
    }
    specs
}

/// Layers of real networks, with fewer channels.
pub fn conv_layers() -> Vec<Spec> {
    // ic, oc, h, w, groups, window.
    let layers = [
        (3, 17, 227, 227, 1, Window::square(11, 4, 0)),
        (3, 9, 224, 224, 1, Window::square(7, 2, 3)),
        (3, 5, 224, 224, 1, Window::square(11, 4, 2)),
        (12, 64, 27, 27, 2, Window::square(5, 1, 2)),
        (24, 60, 13, 13, 1, Window::square(3, 1, 1)),
        (16, 32, 13, 13, 4, Window::square(3, 1, 1)),
        (16, 33, 56, 56, 1, Window::square(3, 1, 1)),
        (32, 40, 55, 55, 1, Window::square(1, 1, 0)),
        (40, 60, 56, 56, 1, Window::square(1, 2, 0)),
        (64, 70, 28, 28, 1, Window::square(1, 1, 0)),
        (48, 90, 7, 7, 1, Window::square(3, 1, 1)),
        (96, 57, 14, 14, 1, Window::square(1, 1, 0)),
        // Depthwise, with and without a multiplier.
        (19, 19, 28, 28, 19, Window::square(3, 1, 1)),
        (10, 10, 29, 29, 10, Window::square(3, 2, 1)),
        (6, 12, 14, 14, 6, Window::square(5, 1, 2)),
        // A batch of inner products.
        (200, 50, 1, 16, 1, Window::square(1, 1, 0)),
        (70, 30, 1, 5, 1, Window::square(1, 1, 0)),
        (1000, 90, 1, 64, 1, Window::square(1, 1, 0)),
        (500, 70, 1, 40, 1, Window::square(1, 1, 0)),
        // An inner product as a convolution over the whole plane.
        (8, 30, 6, 6, 1, Window::square(6, 1, 0)),
        (5, 40, 15, 15, 1, Window::square(15, 1, 0)),
        (2, 3, 40, 40, 1, Window::square(11, 1, 0)),
        (2, 3, 31, 90, 1, window([1, 30], ONE, [0, 0], ONE)),
        // Code of many times the first-level cache.
        (100, 56, 13, 13, 1, Window::square(3, 1, 1)),
        (120, 30, 9, 15, 1, Window::square(3, 2, 1)),
        (600, 31, 12, 12, 1, Window::square(1, 1, 0)),
        // Several blocks of input channels, the last one shorter, weights worth prefetching.
        (1030, 130, 7, 7, 1, Window::square(1, 1, 0)),
        (260, 200, 14, 14, 2, Window::square(1, 1, 0)),
        (90, 64, 14, 9, 1, Window::square(3, 2, 1)),
        (37, 112, 13, 13, 1, Window::square(3, 1, 1)),
    ];
    let mut specs = Vec::new();
    for (i, &(ic, oc, h, w, groups, window)) in layers.iter().enumerate() {
        for (j, density) in [8, 35, 80].into_iter().enumerate() {
            let layouts = if j == 1 {
                [Layout::Compact; 2]
            } else {
                [Layout::Gap; 2]
            };
            let mut problem = conv(
                Dims {
                    ic,
                    oc,
                    h,
                    w,
                    groups,
                },
                window,
                layouts,
            );
            problem.post = (i % 3 != 0).then(|| Fused::relu(if i % 3 == 1 { 0.0 } else { 0.25 }));
            problem.residual = (i + j) % 4 == 0;
            specs.push(
                Spec::new(Problem::Conv(problem))
                    .density(density)
                    .seed(i as u64),
            );
        }
    }
    specs
}

/// Inner products.
pub fn fc() -> Vec<Spec> {
    let sizes = [
        (1, 1),
        (1, 40),
        (7, 3),
        (8, 8),
        (16, 16),
        (17, 1),
        (33, 17),
        (100, 10),
        (255, 9),
        (1000, 31),
        (2048, 100),
        (9216, 33),
        (65_535, 3),
        (65_536, 2),
        (65_536, 20),
    ];
    let mut specs = Vec::new();
    for (inputs, outputs) in sizes {
        for density in [0, 10, 100] {
            let i = specs.len();
            let post = posts(-0.5)[i / 2 % 5];
            let problem = Problem::Fc(FcProblem {
                inputs,
                outputs,
                post,
            });
            let spec = Spec::new(problem).density(density).seed(i as u64);
            let spec = if i % 5 == 1 { spec.holes() } else { spec };
            let spec = if i % 4 == 3 { spec.no_bias() } else { spec };
            specs.push(spec.clone().bf16());
            specs.push(spec);
        }
    }
    specs
}

/// What can be fused, a ReLU of some slope among them.
fn posts(slope: f32) -> [Option<Fused>; 6] {
    let clip = Activation::Clip { min: 0.0, max: 0.5 };
    [
        None,
        Some(Fused::relu(0.0)),
        Some(Fused::relu(slope)),
        Fused::of(clip),
        Fused::of(Activation::HardSwish),
        Fused::of(Activation::Swish { beta: 1.0 }),
    ]
}

/// What kernels make of windows.
pub const POOLINGS: [PoolMethod; 3] = [
    PoolMethod::Max,
    PoolMethod::Average,
    PoolMethod::AverageInside,
];

/// A pooling problem, `None` when the window does not fit.
pub fn pool(
    [c, h, w]: [u32; 3],
    window: Window,
    method: PoolMethod,
    rounding: Rounding,
    [src, dst]: [Layout; 2],
) -> Option<PoolProblem> {
    let size = Planes::compact(c, h, w);
    let problem = PoolProblem {
        src: size,
        dst: size,
        window,
        method,
        relu: false,
    };
    let op = skimjit_models::ops::Pooling {
        rounding,
        ..pooling(&problem)
    };
    let [oh, ow] = [op.output_size(0, h).ok()?, op.output_size(1, w).ok()?];
    let (src, dst) = (src.planes(c, h, w, w + 1), dst.planes(c, oh, ow, 0));
    Some(PoolProblem {
        src,
        dst,
        ..problem
    })
}

/// Poolings: overlapping, overhanging, padded, global, strided beyond the kernel.
pub fn pools() -> Vec<Spec> {
    let windows = [
        Window::square(2, 2, 0),
        Window::square(3, 2, 0),
        Window::square(3, 2, 1),
        Window::square(3, 1, 1),
        Window::square(5, 3, 0),
        Window::square(7, 7, 0),
        Window::square(7, 1, 0),
        Window::square(1, 2, 0),
        Window::square(2, 5, 1),
        Window::square(1, 1, 0),
        Window::square(5, 1, 4),
        window([3, 2], [2, 1], [0, 1], ONE),
        window([1, 4], [3, 4], [0, 2], ONE),
        window([2, 3], [2, 20], [1, 0], ONE),
        window([3, 9], [1, 1], [2, 8], ONE),
    ];
    let sizes = [
        [3, 1, 1],
        [2, 2, 3],
        [4, 5, 5],
        [17, 7, 7],
        [33, 13, 13],
        [2, 6, 14],
        [3, 8, 16],
        [2, 27, 27],
        [1, 28, 28],
        [3, 55, 55],
        [1, 3, 130],
    ];
    let mut specs = Vec::new();
    for (size, window) in sizes
        .iter()
        .flat_map(|size| windows.iter().map(move |w| (*size, *w)))
    {
        for method in POOLINGS {
            let i = specs.len();
            let layouts = [Layout::ALL[i % 4], Layout::ALL[i / 3 % 4]];
            let rounding = if i % 5 == 0 {
                Rounding::Down
            } else {
                Rounding::Up
            };
            let Some(mut problem) = pool(size, window, method, rounding, layouts) else {
                continue;
            };
            problem.relu = method == PoolMethod::Max && i % 3 == 0;
            let spec = Spec::new(Problem::Pool(problem)).seed(i as u64);
            specs.push(if i % 6 > 3 { spec.special() } else { spec });
        }
    }
    for [c, h, w] in [[5, 7, 7], [3, 8, 8], [2, 14, 13], [2, 1, 1], [1, 3, 200]] {
        let global = Window {
            kernel: [h, w],
            ..Window::square(1, 1, 0)
        };
        for method in POOLINGS {
            let problem = pool(
                [c, h, w],
                global,
                method,
                Rounding::Up,
                [Layout::Gap, Layout::Compact],
            );
            specs.extend(problem.map(|problem| Spec::new(Problem::Pool(problem))));
        }
    }
    specs
}

/// A deconvolution of each channel by itself, with the output size that the op infers; none where that is empty.
pub fn deconv(
    [c, h, w]: [u32; 3],
    window: Window,
    [src, dst]: [Layout; 2],
    post: Option<Fused>,
) -> Option<DeconvProblem> {
    let size = |axis, input| window.transposed_output_size(axis, input).ok();
    let (to_h, to_w) = (size(0, h)?, size(1, w)?);
    Some(DeconvProblem {
        src: src.planes(c, h, w, w + 1),
        dst: dst.planes(c, to_h, to_w, to_w + 1),
        window,
        post,
    })
}

/// Strides that divide vectors and kernels and do not, larger than both, and padding of more than a stride.
pub fn deconvs() -> Vec<Spec> {
    let windows = [
        Window::square(4, 2, 1),
        Window::square(16, 8, 4),
        Window::square(3, 2, 1),
        Window::square(3, 3, 0),
        Window::square(9, 3, 4),
        Window::square(5, 4, 2),
        Window::square(3, 1, 1),
        Window::square(2, 5, 0),
        Window::square(20, 16, 9),
        Window::square(40, 20, 3),
        Window::square(64, 32, 16),
        Window::square(7, 2, 5),
        window([2, 5], [1, 3], [0, 2], ONE),
        window([6, 1], [4, 1], [3, 0], ONE),
    ];
    let mut specs = Vec::new();
    for (window, size) in windows
        .iter()
        .flat_map(|window| [[2, 1, 1], [3, 4, 5], [1, 7, 13], [17, 3, 3]].map(|s| (*window, s)))
    {
        let i = specs.len();
        let layouts = [i % 4, i / 3 % 4].map(|i| Layout::ALL[i]);
        let Some(problem) = deconv(size, window, layouts, posts(0.1)[i % 5]) else {
            continue;
        };
        let spec = Spec::new(Problem::Deconv(problem))
            .density(80)
            .seed(i as u64);
        specs.push(if i % 4 == 3 { spec.special() } else { spec });
    }
    specs
}

/// LRN across channels and within them.
pub fn lrns() -> Vec<Spec> {
    let mut specs = Vec::new();
    for (size, within_channel) in [1, 3, 5, 7, 9]
        .into_iter()
        .flat_map(|size| [(size, false), (size, true)])
    {
        for beta in [0.5, 0.75, 1.0] {
            for (c, h, w) in [
                (1, 1, 1),
                (3, 2, 2),
                (4, 4, 4),
                (10, 7, 7),
                (12, 13, 13),
                (20, 1, 33),
            ] {
                let i = specs.len();
                let planes = Layout::ALL[i % 4].planes(c, h, w, w + 1);
                let (alpha, k) = ([1e-4, 0.5, 3.0][i % 3], [1.0, 2.0][i % 2]);
                let k = if within_channel { 1.0 } else { k };
                let problem = Problem::Lrn(LrnProblem {
                    planes,
                    size,
                    within_channel,
                    alpha,
                    beta,
                    k,
                });
                let scale = [1.0, 200.0][i / 2 % 2];
                specs.push(Spec::new(problem).scale(scale).seed(i as u64));
            }
        }
    }
    specs
}

/// Scale, Bias, ReLU and PReLU.
pub fn channelwises() -> Vec<Spec> {
    let mut specs = Vec::new();
    for (c, h, w) in [
        (1, 1, 1),
        (40, 1, 1),
        (3, 1, 7),
        (5, 2, 4),
        (6, 4, 4),
        (20, 13, 13),
        (3, 28, 28),
    ] {
        for (affine, leaky) in [(true, false), (false, true), (true, true), (false, false)] {
            let i = specs.len();
            let [src, dst] = [i % 4, i / 3 % 4].map(|i| Layout::ALL[i].planes(c, h, w, w + 1));
            let problem = ChannelwiseProblem {
                src,
                dst,
                affine,
                leaky,
            };
            let spec = Spec::new(Problem::Channelwise(problem)).no_bias();
            let spec = spec.density(90).seed(i as u64);
            specs.push(spec.clone());
            specs.push(spec.special());
        }
    }
    specs
}

/// Functions with all kinds of numbers.
fn all_functions() -> Vec<Activation> {
    let mut all = function::all([-0.5, 0.75, 0.25]);
    all.extend(function::all([2.0, 1.5, -0.25]));
    let power = |power, scale, shift| Activation::Power {
        power,
        scale,
        shift,
    };
    all.extend([3.0, 0.5, -0.5, -1.0].map(|exponent| power(exponent, 0.5, 1e3)));
    all.extend(
        [0.75, -1.5, 1.0 / 3.0, 0.0, 5.0, -4.0, 22.0].map(|exponent| power(exponent, 1.0, 0.0)),
    );
    all.push(power(0.75, 1.0, 9.0));
    let log = |base, scale, shift| Activation::Log { base, scale, shift };
    all.extend([log(-1.0, 1.0, 0.0), log(10.0, 0.5, 9.0), log(2.0, 1.0, 0.0)]);
    let exp = |base, scale, shift| Activation::Exp { base, scale, shift };
    all.extend([
        exp(-1.0, 1.0, 0.0),
        exp(10.0, -0.5, 0.5),
        exp(0.5, 1.0, 1.0),
    ]);
    all.extend([
        Activation::Swish { beta: 1.0 },
        Activation::Gelu { tanh: false },
    ]);
    let problem = |function| {
        let planes = Planes::compact(1, 1, 1);
        Problem::Function(FunctionProblem {
            src: planes,
            dst: planes,
            function,
        })
    };
    let supported = |function: &Activation| {
        let problem = problem(*function);
        kernel("function").supports(&problem, Isa::Avx2).is_ok()
    };
    all.retain(supported);
    all
}

fn kernel(name: &str) -> &'static dyn Variant {
    registry::find(name).expect("a variant's name")
}

/// Elementwise functions, over small and large numbers.
pub fn functions() -> Vec<Spec> {
    let sizes = [
        (1, 1, 1),
        (40, 1, 1),
        (3, 1, 7),
        (5, 2, 4),
        (20, 13, 13),
        (2, 28, 28),
    ];
    let mut specs = Vec::new();
    for function in all_functions() {
        for (c, h, w) in sizes {
            let i = specs.len();
            let [src, dst] = [i % 4, i / 3 % 4].map(|i| Layout::ALL[i].planes(c, h, w, w + 1));
            let problem = Problem::Function(FunctionProblem { src, dst, function });
            let scale = [1.0, 1e-3, 10.0, 100.0, 0.1, 1e20][i / 6 % 6];
            specs.push(Spec::new(problem).scale(scale).seed(i as u64));
            let problem = Problem::Function(FunctionProblem {
                src: Planes::compact(c, h, w),
                dst: Planes::compact(c, h, w),
                function,
            });
            specs.push(Spec::new(problem).scale(4.0).seed(i as u64));
        }
    }
    specs
}

/// Convolutions and inner products of operands with infinities and NaN.
pub fn special_sums() -> Vec<Spec> {
    let mut specs: Vec<Spec> = conv_windows().into_iter().step_by(3).collect();
    specs.extend(fc());
    specs.into_iter().map(Spec::special).collect()
}

/// Sums, products and maxima.
pub fn eltwises() -> Vec<Spec> {
    let mut specs = Vec::new();
    for operands in 1..=4u32 {
        for elems in [1, 7, 8, 9, 16, 17, 63, 64, 1000, 4099] {
            let i = specs.len() / 2;
            let coefficients = [1.0, -1.0, 0.5, 2.25];
            let kind = match i % 4 {
                0 => EltwiseKind::Product,
                1 => EltwiseKind::Max,
                2 => EltwiseKind::Sum(vec![1.0; operands as usize]),
                _ => EltwiseKind::Sum(coefficients[..operands as usize].to_vec()),
            };
            let post = posts(0.1)[i % 5];
            let problem = EltwiseProblem {
                elems,
                operands,
                kind,
                post,
            };
            let spec = Spec::new(Problem::Eltwise(problem)).seed(i as u64);
            specs.push(spec.clone());
            specs.push(spec.special());
        }
    }
    specs
}

/// Functions of two operands, of which one is repeated along nothing, channels, pixels or both.
pub fn binaries() -> Vec<Spec> {
    let mut specs = Vec::new();
    let sizes = [
        (1, 1, 1),
        (40, 1, 1),
        (3, 1, 7),
        (5, 4, 4),
        (20, 13, 13),
        (3, 28, 28),
    ];
    for ((c, h, w), op) in sizes
        .into_iter()
        .flat_map(|size| BINARY_OPS.map(|op| (size, op)))
    {
        for (channels, pixels) in [(true, true), (true, false), (false, true), (false, false)] {
            let i = specs.len();
            let part_c = if channels { c } else { 1 };
            let [part_h, part_w] = if pixels { [h, w] } else { [1, 1] };
            let [part, dst] = [i % 4, i / 3 % 4].map(|i| Layout::ALL[i]);
            let problem = BinaryProblem {
                part: part.planes(part_c, part_h, part_w, w + 1),
                dst: dst.planes(c, h, w, w + 1),
                op,
                part_first: i.is_multiple_of(3),
                post: posts(0.1)[i % 5],
            };
            let spec = Spec::new(Problem::Binary(problem)).seed(i as u64);
            specs.push(if i % 7 == 0 { spec.special() } else { spec });
        }
    }
    specs
}

/// What is computed over which groups.
pub fn standardizing() -> Vec<(Over, Divisor)> {
    let all = OVER
        .into_iter()
        .flat_map(|over| DIVISORS.map(|divisor| (over, divisor)));
    let supported = |&(over, divisor): &(Over, Divisor)| {
        let planes = Planes::compact(1, 1, 1);
        let problem = Problem::Standardize(StandardizeProblem {
            src: planes,
            dst: planes,
            over,
            divisor,
            eps: 1.0,
        });
        kernel("standardize").supports(&problem, Isa::Avx2).is_ok()
    };
    all.filter(supported).collect()
}

/// Few and many channels and pixels, at different distances from 0.
pub fn standardizations() -> Vec<Spec> {
    let sizes = [
        (1, 1, 1),
        (96, 1, 1),
        (7, 3, 11),
        (40, 13, 13),
        (3, 28, 28),
        (2, 5, 150),
    ];
    let mut specs = Vec::new();
    for ((over, divisor), (c, h, w)) in standardizing()
        .into_iter()
        .flat_map(|kind| sizes.map(|size| (kind, size)))
    {
        for (src, scale) in [(0, 0.01), (1, 1.0), (2, 30.0), (3, 1e6)] {
            let i = specs.len();
            let [src, dst] = [src, i / 3 % 4].map(|i| Layout::ALL[i].planes(c, h, w, w + 1));
            let problem = Problem::Standardize(StandardizeProblem {
                src,
                dst,
                over,
                divisor,
                eps: [1e-5, 0.5][i % 2],
            });
            specs.push(Spec::new(problem).scale(scale).seed(i as u64));
        }
    }
    specs
}

/// Copies of each arrangement for windows of each stride that kernels stage.
pub fn copies() -> Vec<Spec> {
    let windows = [
        (1, 1, 0),
        (1, 2, 0),
        (3, 1, 1),
        (3, 2, 1),
        (7, 2, 3),
        (11, 4, 0),
        (5, 4, 2),
    ];
    let mut specs = Vec::new();
    for (kernel, stride, pad) in windows {
        let window = Window::square(kernel, stride, pad);
        for (c, size) in [(1, 11), (33, 14), (3, 7), (5, 57)] {
            let size = size.max(kernel);
            let i = specs.len();
            let src = Layout::ALL[i % 4].planes(c, size, size, size + 1);
            let out = [0, 1].map(|axis| window.output_size(axis, size).expect("it fits"));
            let plain = Staging::new(src, &window, out[0], out[1]);
            let unit = |width: u32| if width <= 8 { 8 } else { 16 };
            let shifted = if kernel == 1 { 1 } else { unit(out[1]) };
            let stagings = [
                plain,
                plain.aligned(unit(plain.row_pitch), 16),
                Staging::shifted(src, &window, out, shifted, 16),
            ];
            let problems = stagings.map(|staging| Problem::Copy(CopyProblem { staging }));
            specs.extend(problems.map(|problem| Spec::new(problem).seed(i as u64)));
        }
    }
    specs
}

/// Rows and pixels, from flat to beyond what an exponential can hold.
pub fn softmaxes() -> Vec<Spec> {
    let planes = [
        Planes::compact(1, 1, 1),
        Planes::compact(2, 1, 1),
        Planes::compact(8, 1, 1),
        Planes::compact(10, 1, 1),
        Planes::compact(16, 1, 1),
        Planes::compact(1000, 1, 1),
        Planes::compact(1001, 1, 1),
        Planes {
            c: 5,
            h: 1,
            w: 1,
            pitch: 16,
        },
        Planes::compact(3, 2, 2),
        Planes::compact(1, 3, 5),
        Planes::compact(21, 4, 4),
        Planes::with_gap(21, 13, 13, 14),
        Planes {
            c: 7,
            h: 3,
            w: 11,
            pitch: 36,
        },
    ];
    let mut specs = Vec::new();
    for (planes, over) in planes.into_iter().flat_map(|p| OVER.map(|over| (p, over))) {
        for scale in [0.01, 5.0, 80.0, 1e4, 1e30] {
            let i = specs.len();
            let log = i % 3 == 2;
            let problem = Problem::Softmax(SoftmaxProblem { planes, over, log });
            specs.push(Spec::new(problem).scale(scale).seed(i as u64));
        }
        for log in [false, true] {
            let problem = Problem::Softmax(SoftmaxProblem { planes, over, log });
            specs.push(Spec::new(problem).special());
        }
    }
    specs
}

/// Resizing with the output size that the op infers; none where that is 0.
pub fn resample(
    [c, h, w]: [u32; 3],
    sizes: [Option<ResizeSize>; 2],
    (method, coordinates): (ResizeMethod, Coordinates),
    [antialias, exclude_outside]: [bool; 2],
    [src, dst]: [Layout; 2],
) -> Option<ResampleProblem> {
    let axis = |(axis, size): (u32, Option<ResizeSize>)| {
        size.map(|size| ResizeAxis {
            axis,
            size,
            roi: [0.0, 1.0],
        })
    };
    let nearest = matches!(method, ResizeMethod::Nearest(_));
    let op = Resize {
        axes: [2, 3].into_iter().zip(sizes).filter_map(axis).collect(),
        method,
        coordinates,
        antialias: antialias && !nearest,
        // There may be nothing else.
        exclude_outside: exclude_outside && !nearest,
        extrapolation: 0.0,
    };
    let shape = Shape::new([1, c, h, w]).expect("a valid shape");
    let to = Op::Resize(op.clone()).infer_shape(&[&shape], &[]).ok()?;
    let (to_h, to_w) = (to.dims()[2], to.dims()[3]);
    Some(ResampleProblem {
        src: src.planes(c, h, w, w + 1),
        dst: dst.planes(c, to_h, to_w, to_w + 1),
        op,
    })
}

/// Resizing, up, down and to the same size.
pub fn resamples() -> Vec<Spec> {
    use ResizeSize::{Scale, Size};
    let sizes = [
        [Some(Scale(2.0)), Some(Scale(2.0))],
        [Some(Scale(1.5)), Some(Scale(0.6))],
        [Some(Size(40)), Some(Size(37))],
        [Some(Size(3)), Some(Size(2))],
        [None, Some(Scale(4.0))],
        [Some(Scale(0.3)), None],
        [Some(Size(1)), Some(Size(1))],
        [None, None],
    ];
    let planes = [[3, 4, 4], [20, 7, 5], [1, 13, 33], [2, 16, 16], [1, 1, 1]];
    let mut specs = Vec::new();
    for (sizes, planes) in sizes.iter().flat_map(|s| planes.map(|p| (*s, p))) {
        for method in METHODS {
            let i = specs.len();
            let coordinates = COORDINATES[i % 5];
            let flags = [i % 3 == 0, i % 4 == 0];
            let layouts = [i % 4, i / 3 % 4].map(|i| Layout::ALL[i]);
            let problem = resample(planes, sizes, (method, coordinates), flags, layouts);
            let spec = problem.map(|p| Spec::new(Problem::Resample(p)).seed(i as u64));
            specs.extend(spec.map(|spec| if i % 5 == 4 { spec.special() } else { spec }));
        }
    }
    specs
}

/// Everything above.
pub fn all() -> Vec<Spec> {
    [
        conv_windows(),
        conv_layers(),
        deconvs(),
        fc(),
        pools(),
        lrns(),
        channelwises(),
        functions(),
        binaries(),
        eltwises(),
        softmaxes(),
        standardizations(),
        copies(),
        resamples(),
    ]
    .concat()
}
