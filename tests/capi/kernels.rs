//! Single kernels through the Rust interface, against plain loops.

use skimjit::Result;
use skimjit::kernel::{self, Conv, Csr, Fc, Kernel, MatMul, Options};
use skimjit_testing::{Noise, isas};

/// Numbers from -1 to 1, about two thirds of them 0.
fn sparse(noise: &mut Noise, count: usize) -> Vec<f32> {
    let mut number = |_| match noise.value() < -0.4 {
        true => noise.value(),
        false => 0.0,
    };
    (0..count).map(&mut number).collect()
}

fn below(noise: &mut Noise, end: u32) -> u32 {
    noise.below(end.into()) as u32
}

/// A matrix without its zeros.
struct Owned {
    row_start: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Owned {
    fn new(dense: &[f32], columns: usize) -> Self {
        let mut owned = Self {
            row_start: vec![0],
            columns: vec![],
            values: vec![],
        };
        for row in dense.chunks(columns) {
            for (column, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                owned.columns.push(column as u32);
                owned.values.push(value);
            }
            owned.row_start.push(owned.columns.len() as u32);
        }
        owned
    }
    fn csr(&self) -> Csr<'_> {
        Csr {
            row_start: &self.row_start,
            columns: &self.columns,
            values: &self.values,
        }
    }
}

fn post(mut sum: f64, relu: Option<f32>) -> f64 {
    if let (true, Some(slope)) = (sum < 0.0, relu) {
        sum *= f64::from(slope);
    }
    sum
}

/// What a convolution computes.
fn convolve(p: &Conv, weights: &[f32], bias: &[f32], src: &[f32], residual: &[f32]) -> Vec<f64> {
    let ([h, w], [oh, ow]) = (p.input, p.output().unwrap());
    let (icg, ocg) = (p.ic / p.groups, p.oc / p.groups);
    let at = |o: u32, y: u32, x: u32| {
        let mut sum = bias.get(o as usize).map_or(0.0, |&bias| f64::from(bias));
        for (c, i, j) in (0..icg).flat_map(|c| {
            (0..p.kernel[0]).flat_map(move |i| (0..p.kernel[1]).map(move |j| (c, i, j)))
        }) {
            let sy = (y * p.stride[0] + i * p.dilation[0]).wrapping_sub(p.pad[0]);
            let sx = (x * p.stride[1] + j * p.dilation[1]).wrapping_sub(p.pad[1]);
            if sy < h && sx < w {
                let weight = ((o * icg + c) * p.kernel[0] + i) * p.kernel[1] + j;
                let pixel = ((o / ocg * icg + c) * h + sy) * w + sx;
                sum += f64::from(weights[weight as usize]) * f64::from(src[pixel as usize]);
            }
        }
        let index = ((o * oh + y) * ow + x) as usize;
        post(
            sum + residual.get(index).map_or(0.0, |&x| f64::from(x)),
            p.relu,
        )
    };
    let pixels = |o| (0..oh).flat_map(move |y| (0..ow).map(move |x| (o, y, x)));
    (0..p.oc)
        .flat_map(pixels)
        .map(|(o, y, x)| at(o, y, x))
        .collect()
}

fn compute(kernel: &Kernel, src: &[f32], residual: &[f32]) -> Vec<f32> {
    let dst = kernel.layout().dst;
    let mut result = vec![f32::NAN; (dst.c * dst.hw()) as usize];
    let mut memory = kernel.memory();
    memory.pack_src(src).unwrap();
    if !residual.is_empty() {
        memory.pack_residual(residual).unwrap();
    }
    // Twice, from the last task to the first: nothing may depend on what was there.
    for task in (0..kernel.tasks()).chain(0..kernel.tasks()).rev() {
        memory.run_tasks(task..task + 1);
    }
    memory.unpack_dst(&mut result).unwrap();
    result
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let close = (f64::from(found) - expected).abs() <= 1e-4 * expected.abs().max(1.0);
        assert!(
            close,
            "{what}: element {index}: found {found}, expected {expected}"
        );
    }
}

/// A problem that a kernel may refuse, but must not compute wrongly.
fn random_conv(noise: &mut Noise) -> Conv {
    let groups = [1, 1, 1, 2][below(noise, 4) as usize];
    let mut pair = |from: u32, count: u32| [0, 1].map(|_| from + below(noise, count));
    let (kernel, input) = (pair(1, 4), pair(5, 13));
    let (stride, pad, dilation) = (pair(1, 2), pair(0, 3), pair(1, 2));
    let mut problem = Conv {
        stride,
        pad,
        dilation,
        groups,
        ..Conv::new(
            groups * (1 + below(noise, 6)),
            groups * (1 + below(noise, 9)),
            input,
            kernel,
        )
    };
    problem.relu = [None, Some(0.0), Some(0.25)][below(noise, 3) as usize];
    problem.residual = below(noise, 3) == 0;
    if below(noise, 2) == 0 {
        // Plain arrays, or nearly.
        problem.src_pitch = Some(input[0] * input[1] + below(noise, 2) * 3);
        let output = problem.output().map_or(1, |[h, w]| h * w);
        problem.dst_pitch = Some(output + below(noise, 2) * 5);
    }
    problem
}

#[test]
fn convolutions_are_right() {
    let mut noise = Noise::new(1);
    for isa in isas() {
        let options = Options {
            isa: Some(isa),
            variant: None,
        };
        let mut computed = 0;
        while computed < 150 {
            let problem = random_conv(&mut noise);
            let Ok([oh, ow]) = problem.output() else {
                continue;
            };
            let columns =
                (problem.ic / problem.groups * problem.kernel[0] * problem.kernel[1]) as usize;
            let weights = sparse(&mut noise, problem.oc as usize * columns);
            let biases = [0, problem.oc as usize][below(&mut noise, 2) as usize];
            let bias = noise.values(biases);
            let src = noise.values((problem.ic * problem.input[0] * problem.input[1]) as usize);
            let elems = (problem.oc * oh * ow) as usize;
            let residual = noise.values(if problem.residual { elems } else { 0 });
            let expected = convolve(&problem, &weights, &bias, &src, &residual);
            let sparse = Owned::new(&weights, columns);
            let kernels = [
                kernel::sparse_conv(&problem, sparse.csr(), &bias, &options),
                kernel::dense_conv(&problem, &weights, &bias, &options),
            ];
            for kernel in kernels.into_iter().map(Result::unwrap) {
                let what = format!("{} {isa} {problem:?}", kernel.variant());
                assert_close(&what, &compute(&kernel, &src, &residual), &expected);
                computed += 1;
            }
        }
    }
}

#[test]
fn products_are_right() {
    let mut noise = Noise::new(2);
    for isa in isas() {
        let options = Options {
            isa: Some(isa),
            variant: None,
        };
        for [rows, inner, columns] in [[5, 7, 1], [33, 40, 17], [64, 100, 3], [10, 300, 50]] {
            let mut problem = MatMul::new(rows, inner, columns);
            problem.residual = columns == 17;
            problem.relu = (rows == 64).then_some(0.0);
            problem.src_pitch = (columns == 3).then_some(columns);
            let weights = sparse(&mut noise, (rows * inner) as usize);
            let bias = noise.values(rows as usize);
            let src = noise.values((inner * columns) as usize);
            let residual = noise.values(if problem.residual {
                (rows * columns) as usize
            } else {
                0
            });
            let equal = Conv {
                relu: problem.relu,
                residual: problem.residual,
                ..Conv::new(inner, rows, [1, columns], [1, 1])
            };
            let expected = convolve(&equal, &weights, &bias, &src, &residual);
            let sparse = Owned::new(&weights, inner as usize);
            let mut kernels = vec![
                kernel::spmm(&problem, sparse.csr(), &bias, &options),
                kernel::gemm(&problem, &weights, &bias, &options),
            ];
            if columns == 1 {
                let fc = Fc {
                    inputs: inner,
                    outputs: rows,
                    relu: None,
                };
                kernels.push(kernel::sparse_fc(&fc, sparse.csr(), &bias, &options));
                kernels.push(kernel::dense_fc(&fc, &weights, &bias, &options));
            }
            for kernel in kernels.into_iter().map(Result::unwrap) {
                let what = format!("{} {isa} {problem:?}", kernel.variant());
                assert_close(&what, &compute(&kernel, &src, &residual), &expected);
            }
        }
    }
}

/// A product whose weights nobody else uses.
fn product(seed: u64, options: &Options) -> Result<Kernel> {
    let weights = Owned::new(&sparse(&mut Noise::new(seed), 20 * 30), 30);
    kernel::spmm(&MatMul::new(20, 30, 40), weights.csr(), &[], options)
}

#[test]
fn the_same_kernel_is_made_once() {
    let options = Options::default();
    let first = product(10, &options).unwrap();
    assert!(first.is(&product(10, &options).unwrap()));
    assert!(!first.is(&product(11, &options).unwrap()));
    let named = Options {
        variant: Some("sparse_conv.spmm".to_owned()),
        ..options.clone()
    };
    assert_eq!(product(10, &named).unwrap().variant(), "sparse_conv.spmm");
    for isa in isas() {
        let options = Options {
            isa: Some(isa),
            variant: None,
        };
        assert_eq!(product(10, &options).unwrap().isa(), isa);
    }
    // From several threads at once, where nobody holds it yet.
    for seed in 100..120 {
        let make = || product(seed, &Options::default()).unwrap();
        let kernels: Vec<Kernel> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(kernels.iter().all(|kernel| kernel.is(&kernels[0])));
        assert_eq!(kernels[0].function(0), kernels[3].function(0));
    }
}

#[test]
fn what_cannot_be_made_is_named() {
    let refused = |result: Result<Kernel>, part: &str| {
        let error = result.err().expect("an error").to_string();
        assert!(error.contains(part), "{error}");
    };
    let options = Options::default();
    let wrong = Options {
        variant: Some("nobody".to_owned()),
        isa: None,
    };
    refused(product(1, &wrong), "expected one of: dense_conv");
    let other = Options {
        variant: Some("sparse_fc.sell".to_owned()),
        isa: None,
    };
    refused(product(1, &other), "sparse_fc.sell: only for");
    let conv = Conv::new(1, 1, [4, 4], [5, 5]);
    refused(
        kernel::dense_conv(&conv, &[0.0; 25], &[], &options),
        "kernel_h",
    );
    for (stride, pad, field) in [
        (
            [1, i32::MAX as u32],
            [0; 2],
            "stride_w: found 2147483647, expected 1 to 32768",
        ),
        (
            [1; 2],
            [1, u32::MAX],
            "pad_w: found 4294967295, expected 0 to 32768",
        ),
    ] {
        let conv = Conv {
            stride,
            pad,
            ..conv
        };
        refused(kernel::dense_conv(&conv, &[0.0; 25], &[], &options), field);
    }
    let conv = Conv {
        pad: [2, 2],
        ..conv
    };
    refused(
        kernel::dense_conv(&conv, &[0.0; 24], &[], &options),
        "expected 1 x 25",
    );
    refused(
        kernel::dense_conv(&conv, &[0.0; 25], &[0.0; 2], &options),
        "bias",
    );
    let kernel = kernel::dense_conv(&conv, &[1.0; 25], &[], &options).unwrap();
    let mut memory = kernel.memory();
    assert!(memory.pack_src(&[0.0; 15]).is_err());
    assert!(memory.pack_residual(&[0.0; 16]).is_err());
    assert!(memory.unpack_dst(&mut [0.0; 17]).is_err());
    assert!(kernel.pack_src(&[0.0; 16], 15, &mut [0.0; 16]).is_err());
}
