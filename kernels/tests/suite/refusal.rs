//! Problems beyond the limits are refused with a reason, never with a panic.

use crate::table::{Dims, Layout, conv};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{
    BinaryProblem, ChannelwiseProblem, ConvProblem, DeconvProblem, Divisor, EltwiseKind,
    EltwiseProblem, FcProblem, FunctionProblem, LrnProblem, Over, Planes, PoolProblem, Problem,
    ResampleProblem, SoftmaxProblem, StandardizeProblem, limits, registry,
};
use skimjit_models::ops::{
    Activation, BinaryOp, Coordinates, PoolMethod, Resize, ResizeAxis, ResizeMethod, ResizeSize,
    Window,
};

const HUGE: Planes = Planes {
    c: 1 << 20,
    h: 1 << 10,
    w: 1 << 10,
    pitch: 1 << 20,
};
const OVERLAPPING: Planes = Planes {
    c: 4,
    h: 8,
    w: 8,
    pitch: 63,
};
const EMPTY: [Planes; 3] = [
    Planes {
        c: 0,
        h: 8,
        w: 8,
        pitch: 64,
    },
    Planes {
        c: 4,
        h: 0,
        w: 8,
        pitch: 64,
    },
    Planes {
        c: 4,
        h: u32::MAX,
        w: u32::MAX,
        pitch: u32::MAX,
    },
];

fn wrong_planes() -> Vec<Planes> {
    [&[HUGE, OVERLAPPING], &EMPTY[..]].concat()
}

fn convs() -> Vec<Problem> {
    let dims = Dims {
        ic: 4,
        oc: 4,
        h: 8,
        w: 8,
        groups: 1,
    };
    let good = conv(dims, Window::square(3, 1, 1), [Layout::Gap; 2]);
    let window = good.window;
    let with = |window: Window| ConvProblem {
        window,
        ..good.clone()
    };
    let mut wrong = vec![
        ConvProblem {
            groups: 0,
            ..good.clone()
        },
        ConvProblem {
            groups: 3,
            ..good.clone()
        },
        // Another output size than the window gives.
        with(Window {
            pad_begin: [0, 0],
            pad_end: [0, 0],
            ..window
        }),
        with(Window {
            kernel: [0, 3],
            ..window
        }),
        with(Window {
            stride: [1, 0],
            ..window
        }),
        with(Window {
            dilation: [u32::MAX; 2],
            ..window
        }),
        // A copy with this padding does not fit the limits.
        with(Window {
            kernel: [1 << 16; 2],
            pad_begin: [1 << 15; 2],
            pad_end: [1 << 15; 2],
            ..window
        }),
        with(Window {
            pad_begin: [u32::MAX; 2],
            pad_end: [u32::MAX; 2],
            ..window
        }),
    ];
    for planes in wrong_planes() {
        wrong.push(ConvProblem {
            src: planes,
            ..good.clone()
        });
        wrong.push(ConvProblem {
            dst: planes,
            ..good.clone()
        });
    }
    wrong.into_iter().map(Problem::Conv).collect()
}

fn pools() -> Vec<Problem> {
    let planes = Planes::compact(4, 8, 8);
    let window = Window::square(1, 1, 0);
    let method = PoolMethod::Max;
    let good = PoolProblem {
        src: planes,
        dst: planes,
        window,
        method,
        relu: false,
    };
    let with = |window: Window| PoolProblem {
        window,
        ..good.clone()
    };
    let mut wrong = vec![
        with(Window::square(300, 1, 0)),
        with(Window::square(3, 1, 3)),
        with(Window::square(2, 0, 0)),
        with(Window {
            dilation: [2, 2],
            ..window
        }),
        with(Window::square(1, 9, 0)),
        with(Window::square(1, 1 << 31, 0)),
        PoolProblem {
            dst: Planes::compact(3, 8, 8),
            ..good.clone()
        },
        PoolProblem {
            dst: Planes::compact(4, 8, 90),
            ..good.clone()
        },
        PoolProblem {
            src: Planes::compact(1, 1, limits::POOL_LINE + 1),
            dst: Planes::compact(1, 1, limits::POOL_LINE + 1),
            ..good.clone()
        },
    ];
    for planes in wrong_planes() {
        wrong.push(PoolProblem {
            src: planes,
            ..good.clone()
        });
        wrong.push(PoolProblem {
            dst: planes,
            ..good.clone()
        });
    }
    wrong.into_iter().map(Problem::Pool).collect()
}

fn lrns() -> Vec<Problem> {
    let planes = Planes::compact(4, 8, 8);
    let good = LrnProblem {
        planes,
        size: 5,
        within_channel: false,
        alpha: 1.0,
        beta: 0.75,
        k: 1.0,
    };
    let mut wrong = vec![
        LrnProblem {
            size: 0,
            ..good.clone()
        },
        LrnProblem {
            size: 4,
            ..good.clone()
        },
        LrnProblem {
            size: limits::LRN_SIZE + 2,
            ..good.clone()
        },
        LrnProblem {
            beta: 0.6,
            ..good.clone()
        },
        LrnProblem {
            beta: f32::NAN,
            ..good.clone()
        },
        LrnProblem {
            planes: Planes::compact(5000, 1, 1),
            ..good.clone()
        },
        LrnProblem {
            size: 999,
            within_channel: true,
            ..good.clone()
        },
    ];
    wrong.extend(wrong_planes().into_iter().map(|planes| LrnProblem {
        planes,
        ..good.clone()
    }));
    wrong.into_iter().map(Problem::Lrn).collect()
}

fn standardize(src: Planes, dst: Planes, eps: f32) -> Problem {
    Problem::Standardize(StandardizeProblem {
        src,
        dst,
        over: Over::Channels,
        divisor: Divisor::Deviation,
        eps,
    })
}

fn others() -> Vec<Problem> {
    let fc = |inputs, outputs| {
        Problem::Fc(FcProblem {
            inputs,
            outputs,
            post: None,
        })
    };
    let deconv = |src, dst, stride| {
        Problem::Deconv(DeconvProblem {
            src,
            dst,
            window: Window::square(4, stride, 1),
            post: None,
        })
    };
    let eltwise = |elems, operands, kind| {
        Problem::Eltwise(EltwiseProblem {
            elems,
            operands,
            kind,
            post: None,
        })
    };
    let channelwise = |src, dst| {
        Problem::Channelwise(ChannelwiseProblem {
            src,
            dst,
            affine: true,
            leaky: false,
        })
    };
    let function = |src, dst, function| Problem::Function(FunctionProblem { src, dst, function });
    let power = |power| Activation::Power {
        power,
        scale: 1.0,
        shift: 0.0,
    };
    let log = |base| Activation::Log {
        base,
        scale: 1.0,
        shift: 0.0,
    };
    let binary = |part, dst, op| {
        Problem::Binary(BinaryProblem {
            part,
            dst,
            op,
            part_first: false,
            post: None,
        })
    };
    let resample = |src, dst: Planes, axis, coordinates| {
        let axis = ResizeAxis {
            axis,
            size: ResizeSize::Size(dst.h),
            roi: [0.0, 1.0],
        };
        Problem::Resample(ResampleProblem {
            src,
            dst,
            op: Resize {
                axes: vec![axis],
                method: ResizeMethod::Linear,
                coordinates,
                antialias: false,
                exclude_outside: false,
                extrapolation: 0.0,
            },
        })
    };
    let good = Planes::compact(4, 8, 8);
    let long = Planes::compact(1, limits::RESAMPLED + 1, 1);
    let mut wrong = vec![
        resample(good, good, 1, Coordinates::HalfPixel),
        resample(good, good, 2, Coordinates::TfCropAndResize),
        resample(good, Planes::compact(4, 8, 9), 2, Coordinates::HalfPixel),
        resample(long, long, 2, Coordinates::HalfPixel),
        deconv(good, Planes::compact(4, 17, 16), 2),
        deconv(Planes::compact(2, 8, 8), Planes::compact(4, 16, 16), 2),
        deconv(good, good, 0),
        deconv(good, Planes::compact(4, 562, 562), 80),
        fc(0, 4),
        fc(4, 0),
        fc(u32::MAX, 4),
        fc(4, u32::MAX),
        eltwise(0, 2, EltwiseKind::Max),
        eltwise(8, 0, EltwiseKind::Max),
        eltwise(8, 5, EltwiseKind::Product),
        eltwise(8, 2, EltwiseKind::Sum(vec![1.0])),
        channelwise(good, Planes::compact(4, 8, 9)),
        channelwise(good, Planes::compact(5, 8, 8)),
        function(good, Planes::compact(5, 8, 8), Activation::HardSwish),
        function(good, good, Activation::Sin),
        standardize(good, Planes::compact(4, 8, 9), 1e-5),
        standardize(good, good, 0.0),
        standardize(good, good, f32::NAN),
        binary(good, good, BinaryOp::Pow),
        binary(Planes::compact(2, 8, 8), good, BinaryOp::Add),
        binary(Planes::compact(4, 8, 1), good, BinaryOp::Add),
        binary(good, Planes::compact(1, 1, 1), BinaryOp::Add),
        function(good, good, power(55.0)),
        function(good, good, power(f32::NAN)),
        function(good, good, log(1.0)),
        function(good, good, log(-2.0)),
        function(good, good, Activation::Elu { alpha: f32::NAN }),
        function(good, good, Activation::Celu { alpha: -1.0 }),
    ];
    for planes in wrong_planes() {
        wrong.push(deconv(planes, good, 1));
        wrong.push(deconv(good, planes, 1));
        wrong.push(channelwise(planes, good));
        wrong.push(channelwise(good, planes));
        wrong.push(function(good, planes, Activation::Sigmoid));
        wrong.push(binary(planes, good, BinaryOp::Mul));
        wrong.push(binary(good, planes, BinaryOp::Mul));
        wrong.push(function(planes, good, Activation::Sigmoid));
        wrong.push(standardize(planes, good, 1e-5));
        wrong.push(standardize(good, planes, 1e-5));
        wrong.push(Problem::Softmax(SoftmaxProblem {
            planes,
            over: Over::Columns,
            log: false,
        }));
        wrong.push(resample(planes, good, 2, Coordinates::HalfPixel));
        wrong.push(resample(good, planes, 2, Coordinates::HalfPixel));
    }
    wrong
}

#[test]
fn problems_beyond_the_limits_are_refused_with_a_reason() {
    for problem in [convs(), pools(), lrns(), others()].concat() {
        for isa in Isa::ALL {
            for variant in registry::VARIANTS {
                let name = variant.name();
                match variant.supports(&problem, isa) {
                    Ok(()) => panic!("{name} on {isa} accepts {problem:?}"),
                    Err(reason) => assert_ne!(reason.to_string(), "", "{name} gives no reason"),
                }
            }
        }
    }
}

#[test]
fn what_only_some_variants_refuse() {
    let refuses = |name: &str, problem: &Problem| {
        let variant = registry::find(name).expect("a variant's name");
        variant.supports(problem, Isa::Avx512).is_err()
    };
    let wide = Problem::Fc(FcProblem {
        inputs: 65_537,
        outputs: 2,
        post: None,
    });
    assert!(refuses("sparse_fc.sell", &wide) && !refuses("dense_fc.gemv", &wide));
    let dims = Dims {
        ic: 1,
        oc: 1,
        h: 40,
        w: 40,
        groups: 1,
    };
    let taps = Problem::Conv(conv(dims, Window::square(17, 1, 0), [Layout::Compact; 2]));
    assert!(refuses("dense_conv.rolled", &taps) && !refuses("sparse_conv.streamed", &taps));
}
