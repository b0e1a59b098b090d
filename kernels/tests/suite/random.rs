//! Random problems; failures shrink to a small one.

use crate::function;
use crate::harness::check;
use crate::spec::{BINARY_OPS, COORDINATES, METHODS, OVER, Spec};
use crate::table::{Dims, Layout, POOLINGS, conv, deconv, pool, resample, standardizing};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use skimjit_kernels::stage::Staging;
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, CopyProblem, EltwiseKind, EltwiseProblem, FcProblem,
    FunctionProblem, Fused, LrnProblem, Problem, SoftmaxProblem, StandardizeProblem,
};
use skimjit_models::ops::{Activation, PoolMethod, ResizeSize, Rounding, Window};

fn config(cases: u32) -> Config {
    // Failures are repeated from their line, not from files.
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

fn verdict(spec: &Spec) -> Result<(), TestCaseError> {
    match check(spec) {
        Ok(true) => Ok(()),
        // Too many of these fail the test.
        Ok(false) => Err(TestCaseError::reject("no variant supports it")),
        Err(fault) => Err(TestCaseError::fail(fault)),
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(&Layout::ALL[..])
}

fn post() -> impl Strategy<Value = Option<Fused>> {
    let clip = |min, max| Fused::of(Activation::Clip { min, max });
    let all = vec![
        None,
        Some(Fused::relu(0.0)),
        Some(Fused::relu(0.1)),
        Some(Fused::relu(-0.5)),
        Some(Fused::relu(2.0)),
        clip(0.0, 6.0),
        clip(-0.5, 0.25),
        Fused::of(Activation::HardSwish),
        Fused::of(Activation::Swish { beta: 1.0 }),
        Fused::of(Activation::Swish { beta: -0.5 }),
    ];
    prop::sample::select(all)
}

fn pair(range: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = [u32; 2]> {
    [range.clone(), range]
}

/// Density, empty rows, bias, seed.
fn data() -> impl Strategy<Value = (u32, bool, bool, u64)> {
    let density = prop_oneof![Just(0), Just(100), 1..=99u32, 1..=20u32];
    (density, any::<bool>(), any::<bool>(), 0..1_000_000u64)
}

fn spec(problem: Problem, (density, holes, bias, seed): (u32, bool, bool, u64)) -> Spec {
    Spec {
        density,
        holes,
        bias,
        seed,
        ..Spec::new(problem)
    }
}

/// Windows with Caffe's freedom: any pad, any stride.
fn any_window() -> impl Strategy<Value = Window> {
    let pads = (
        pair(0..=4),
        prop_oneof![Just(None), pair(0..=4).prop_map(Some)],
    );
    (pair(1..=6), pair(1..=4), pads, pair(1..=3)).prop_map(
        |(kernel, stride, (pad_begin, pad_end), dilation)| Window {
            kernel,
            stride,
            pad_begin,
            pad_end: pad_end.unwrap_or(pad_begin),
            dilation,
        },
    )
}

/// Windows that keep the size.
fn same_window() -> impl Strategy<Value = Window> {
    let pads = prop_oneof![Just(None), (pair(0..=3)).prop_map(Some)];
    (pair(0..=3), pads, pair(1..=2)).prop_map(|(begin, end, dilation)| {
        let end = end.unwrap_or(begin);
        let times = |taps: [u32; 2]| [taps[0] * dilation[0], taps[1] * dilation[1]];
        Window {
            kernel: [begin[0] + end[0] + 1, begin[1] + end[1] + 1],
            stride: [1, 1],
            pad_begin: times(begin),
            pad_end: times(end),
            dilation,
        }
    })
}

/// Input size that the window fits, `more` beyond the least.
fn input(window: &Window, more: [u32; 2]) -> [u32; 2] {
    [0, 1].map(|axis| {
        let least = window.extent(axis) as u32;
        least.saturating_sub(window.pads(axis) as u32).max(1) + more[axis]
    })
}

/// How an axis is resized.
fn resizing() -> impl Strategy<Value = Option<ResizeSize>> {
    prop_oneof![
        Just(None),
        (1..=60u32).prop_map(|size| Some(ResizeSize::Size(size))),
        (0.1..5.0f32).prop_map(|scale| Some(ResizeSize::Scale(scale))),
        (1..=4u32).prop_map(|scale| Some(ResizeSize::Scale(scale as f32))),
    ]
}

fn conv_case(
    window: Window,
    more: [u32; 2],
    (groups, icg, ocg): (u32, u32, u32),
    layouts: [Layout; 2],
    (post, residual): (Option<Fused>, bool),
    data: (u32, bool, bool, u64),
) -> Spec {
    let [h, w] = input(&window, more);
    let dims = Dims {
        ic: icg * groups,
        oc: ocg * groups,
        h,
        w,
        groups,
    };
    let problem = conv(dims, window, layouts);
    spec(
        Problem::Conv(skimjit_kernels::ConvProblem {
            post,
            residual,
            ..problem
        }),
        data,
    )
}

fn channels() -> impl Strategy<Value = (u32, u32, u32)> {
    prop_oneof![
        (Just(1u32), 1..=20u32, 1..=60u32),
        (2..=4u32, 1..=6u32, 1..=12u32),
        (1..=20u32, Just(1), 1..=2u32),
    ]
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn any_convolution(
        window in any_window(), more in pair(0..=20), channels in channels(),
        layouts in [layout(), layout()], post in (post(), any::<bool>()), data in data(),
    ) {
        verdict(&conv_case(window, more, channels, layouts, post, data))?;
    }

    #[test]
    fn same_size_convolution(
        window in same_window(), more in pair(0..=20), channels in channels(),
        layouts in [layout(), layout()], post in (post(), any::<bool>()), data in data(),
    ) {
        verdict(&conv_case(window, more, channels, layouts, post, data))?;
    }

    #[test]
    fn any_depthwise_convolution(
        window in prop_oneof![any_window(), same_window()], more in pair(0..=40), channels in 1..=20u32,
        layouts in [layout(), layout()], post in (post(), any::<bool>()), data in data(),
    ) {
        verdict(&conv_case(window, more, (channels, 1, 1), layouts, post, data))?;
    }

    #[test]
    fn any_deconvolution(
        size in (1..=9u32, pair(1..=12)), kernel in pair(1..=12), stride in pair(1..=12), pads in [pair(0..=6), pair(0..=6)],
        layouts in [layout(), layout()], post in post(), special in any::<bool>(), data in data(),
    ) {
        let (c, [h, w]) = size;
        let [pad_begin, pad_end] = pads;
        let window = Window { kernel, stride, pad_begin, pad_end, dilation: [1, 1] };
        // What a function makes of infinities is not the sum's.
        let post = if special { None } else { post };
        if let Some(problem) = deconv([c, h, w], window, layouts, post) {
            let spec = spec(Problem::Deconv(problem), data);
            verdict(&if special { spec.special() } else { spec })?;
        }
    }

    #[test]
    fn any_resizing(
        size in (1..=20u32, pair(1..=40)), sizes in [resizing(), resizing()],
        method in prop::sample::select(&METHODS[..]), coordinates in prop::sample::select(&COORDINATES[..]),
        flags in [any::<bool>(), any::<bool>()], layouts in [layout(), layout()], seed in 0..1_000_000u64,
    ) {
        let (c, [h, w]) = size;
        if let Some(problem) = resample([c, h, w], sizes, (method, coordinates), flags, layouts) {
            verdict(&Spec::new(Problem::Resample(problem)).seed(seed))?;
        }
    }

    #[test]
    fn any_inner_product(
        inputs in prop_oneof![1..=70u32, 1..=3000u32], outputs in 1..=80u32, post in post(),
        data in data(),
    ) {
        verdict(&spec(Problem::Fc(FcProblem { inputs, outputs, post }), data))?;
    }

    #[test]
    fn any_pooling(
        window in (pair(1..=9), pair(1..=6), [pair(0..=8), pair(0..=8)]), even in any::<bool>(), more in pair(0..=40), c in 1..=20u32,
        method in prop::sample::select(&POOLINGS[..]), start0 in any::<bool>(), round_down in any::<bool>(),
        layouts in [layout(), layout()], seed in 0..1_000_000u64,
    ) {
        let (kernel, stride, pads) = window;
        let [begin, end] = pads.map(|pad| [0, 1].map(|axis| pad[axis].min(kernel[axis] - 1)));
        let pad_end = if even { begin } else { end };
        let window = Window { kernel, stride, pad_begin: begin, pad_end, dilation: [1, 1] };
        let [h, w] = input(&window, more);
        let rounding = if round_down { Rounding::Down } else { Rounding::Up };
        if let Some(mut problem) = pool([c, h, w], window, method, rounding, layouts) {
            problem.relu = start0 && method == PoolMethod::Max;
            verdict(&Spec::new(Problem::Pool(problem)).seed(seed))?;
        }
    }

    #[test]
    fn any_lrn(
        size in prop::sample::select(&[1u32, 3, 5, 7, 9][..]),
        beta in prop::sample::select(&[0.5f32, 0.75, 1.0][..]), c in 1..=30u32, hw in pair(1..=12),
        alpha in 0.0..4.0f32, k in 0.5..3.0f32, layout in layout(), within_channel in any::<bool>(),
        seed in 0..1_000_000u64,
    ) {
        let planes = layout.planes(c, hw[0], hw[1] * if within_channel { 4 } else { 1 }, hw[1] + 1);
        let k = if within_channel { 1.0 } else { k };
        let problem = Problem::Lrn(LrnProblem { planes, size, within_channel, alpha, beta, k });
        verdict(&Spec::new(problem).scale(10.0).seed(seed))?;
    }

    #[test]
    fn any_channelwise(
        c in 1..=40u32, hw in pair(1..=12), layouts in [layout(), layout()],
        affine in any::<bool>(), leaky in any::<bool>(), data in data(),
    ) {
        let [src, dst] = layouts.map(|layout| layout.planes(c, hw[0], hw[1], hw[1] + 1));
        let problem = Problem::Channelwise(ChannelwiseProblem { src, dst, affine, leaky });
        verdict(&spec(problem, data))?;
    }

    #[test]
    fn any_function(
        c in 1..=40u32, hw in pair(1..=12), layouts in [layout(), layout()],
        numbers in [-2.0..2.0f32, -2.0..2.0f32, -2.0..2.0f32], which in any::<prop::sample::Index>(),
        magnitude in -4..4i32, seed in 0..1_000_000u64,
    ) {
        let [src, dst] = layouts.map(|layout| layout.planes(c, hw[0], hw[1], hw[1] + 1));
        let all = function::all(numbers);
        let function = match all[which.index(all.len())] {
            // A rounded argument may be on the other side of 0.
            Activation::Power { power, .. } => Activation::Power { power, scale: 1.0, shift: 0.0 },
            Activation::Log { base, .. } => Activation::Log { base, scale: 1.0, shift: 0.0 },
            function => function,
        };
        let problem = Problem::Function(FunctionProblem { src, dst, function });
        verdict(&Spec::new(problem).scale(10f32.powi(magnitude)).seed(seed))?;
    }

    #[test]
    fn any_eltwise(
        coefficients in prop::collection::vec(-2.0..2.0f32, 1..=4), kind in 0..3u8,
        elems in 1..=700u32, post in post(), seed in 0..1_000_000u64,
    ) {
        let operands = coefficients.len() as u32;
        let kind = match kind {
            0 => EltwiseKind::Product,
            1 => EltwiseKind::Max,
            _ => EltwiseKind::Sum(coefficients),
        };
        let problem = Problem::Eltwise(EltwiseProblem { elems, operands, kind, post });
        verdict(&Spec::new(problem).seed(seed))?;
    }

    #[test]
    fn any_function_of_two_operands(
        c in 1..=40u32, hw in pair(1..=12), layouts in [layout(), layout()],
        channels in any::<bool>(), pixels in any::<bool>(), part_first in any::<bool>(),
        op in prop::sample::select(&BINARY_OPS[..]), post in post(), seed in 0..1_000_000u64,
    ) {
        let [h, w] = if pixels { hw } else { [1, 1] };
        let problem = BinaryProblem {
            part: layouts[0].planes(if channels { c } else { 1 }, h, w, hw[1] + 1),
            dst: layouts[1].planes(c, hw[0], hw[1], hw[1] + 1),
            op,
            part_first,
            post,
        };
        verdict(&Spec::new(Problem::Binary(problem)).seed(seed))?;
    }

    #[test]
    fn any_standardization(
        c in 1..=70u32, [h, w] in pair(1..=12), wider in 1..=9u32, layouts in [layout(), layout()],
        (over, divisor) in prop::sample::select(standardizing()), magnitude in -3..4i32, seed in 0..1_000_000u64,
    ) {
        let w = w * wider;
        let [src, dst] = layouts.map(|layout| layout.planes(c, h, w, w + 1));
        let problem = StandardizeProblem { src, dst, over, divisor, eps: 1e-5 };
        let spec = Spec::new(Problem::Standardize(problem)).seed(seed);
        verdict(&spec.scale(10f32.powi(magnitude)))?;
    }

    #[test]
    fn any_padded_copy(
        window in prop_oneof![any_window(), same_window()], more in pair(0..=40), c in 1..=40u32,
        layout in layout(), arrangement in 0..3u8, lanes in prop_oneof![Just(8u32), Just(16)], seed in 0..1_000_000u64,
    ) {
        let [h, w] = input(&window, more);
        let src = layout.planes(c, h, w, w + 1);
        let outputs = [0, 1].map(|axis| window.output_size(axis, [h, w][axis]).expect("the window fits"));
        let plain = Staging::new(src, &window, outputs[0], outputs[1]);
        let unit = |width: u32| if width <= 8 { 8 } else { lanes };
        let staging = match arrangement {
            0 => plain,
            1 => plain.aligned(unit(plain.row_pitch), lanes),
            _ if window.kernel == [1, 1] => Staging::shifted(src, &window, outputs, 1, lanes),
            _ => Staging::shifted(src, &window, outputs, unit(outputs[1]), lanes),
        };
        verdict(&Spec::new(Problem::Copy(CopyProblem { staging })).seed(seed))?;
    }

    #[test]
    fn any_softmax(
        c in 1..=70u32, hw in pair(1..=7), layout in layout(), row in any::<bool>(),
        over in prop::sample::select(&OVER[..]), log in any::<bool>(), wider in 1..=30u32,
        magnitude in -3..30i32, seed in 0..1_000_000u64,
    ) {
        let [h, w] = if row { [1, 1] } else { [hw[0], hw[1] * wider] };
        let layout = if row { Layout::Compact } else { layout };
        let problem = SoftmaxProblem { planes: layout.planes(c, h, w, w + 1), over, log };
        let spec = Spec::new(Problem::Softmax(problem)).seed(seed);
        verdict(&spec.scale(10f32.powi(magnitude)))?;
    }
}
