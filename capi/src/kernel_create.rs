//! Problems and weights from C, and the kernels made of them.

use super::failure::{Outcome, Status, guard};
use super::kernel::{Kernel, KernelOptions};
use super::memory::{In, Out, growing};
use super::options::isa;
use engine::kernel;

/// A convolution of one image, with zero outside the picture. Weights are oc x ic/groups x kh x kw. Set
/// `size` to sizeof(skimjit_conv) and leave 0 what should be as usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Conv {
    /// sizeof(skimjit_conv).
    pub size: usize,
    /// Input channels.
    pub ic: u32,
    /// Output channels.
    pub oc: u32,
    /// Height of the source.
    pub ih: u32,
    /// Width of the source.
    pub iw: u32,
    /// Height of the filters.
    pub kh: u32,
    /// Width of the filters.
    pub kw: u32,
    /// Vertical stride; 0 is 1.
    pub stride_h: u32,
    /// Horizontal stride; 0 is 1.
    pub stride_w: u32,
    /// Rows of zeros above, and as many below.
    pub pad_h: u32,
    /// Columns of zeros on the left, and as many on the right.
    pub pad_w: u32,
    /// Vertical dilation; 0 is 1: neighbouring pixels.
    pub dilation_h: u32,
    /// Horizontal dilation; 0 is 1.
    pub dilation_w: u32,
    /// Groups; 0 is 1.
    pub groups: u32,
    /// 1: a ReLU follows.
    pub relu: u32,
    /// Its slope below zero.
    pub relu_slope: f32,
    /// 1: an array that lies as the result does is added before the ReLU.
    pub residual: u32,
    /// Elements from one channel of the source to the next; 0: whatever makes the kernel fast. ih * iw is
    /// plain C, H, W.
    pub src_pitch: u32,
    /// The same for the result.
    pub dst_pitch: u32,
}

growing!(Conv, "skimjit_conv", 80);

/// An inner product of one row. Weights are outputs x inputs. Set `size` to sizeof(skimjit_fc).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fc {
    /// sizeof(skimjit_fc).
    pub size: usize,
    /// Elements of the source.
    pub inputs: u32,
    /// Elements of the result.
    pub outputs: u32,
    /// 1: a ReLU follows.
    pub relu: u32,
    /// Its slope below zero.
    pub relu_slope: f32,
}

growing!(Fc, "skimjit_fc", 24);

/// A matrix product: weights (rows x inner) times source (inner x columns). Set `size` to
/// sizeof(skimjit_matmul) and leave 0 what should be as usual.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MatMul {
    /// sizeof(skimjit_matmul).
    pub size: usize,
    /// Rows of the weights and of the result.
    pub rows: u32,
    /// Columns of the weights, rows of the source.
    pub inner: u32,
    /// Columns of source and result.
    pub columns: u32,
    /// 1: a ReLU follows.
    pub relu: u32,
    /// Its slope below zero.
    pub relu_slope: f32,
    /// 1: a matrix that lies as the result does is added before the ReLU.
    pub residual: u32,
    /// Elements from one row of the source to the next; 0: whatever makes the kernel fast.
    pub src_pitch: u32,
    /// The same for the result.
    pub dst_pitch: u32,
}

growing!(MatMul, "skimjit_matmul", 40);

/// A sparse matrix, row by row. For convolutions, a row is an output channel, and a column is
/// (c * kh + y) * kw + x with c the input channel in its group. Set `size` to sizeof(skimjit_csr).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Csr {
    /// sizeof(skimjit_csr).
    pub size: usize,
    /// Where each row starts in `columns` and `values`, and where the last one ends: rows + 1 entries.
    pub row_start: In<u32>,
    /// Rows.
    pub rows: usize,
    /// Column of each value; ascending within a row.
    pub columns: In<u32>,
    /// Values.
    pub values: In<f32>,
    /// Number of values.
    pub nnz: usize,
}

growing!(Csr, "skimjit_csr", 48);

/// Makes a convolution that leaves zero weights out. `bias` has `bias_count` values, one per output
/// channel or none; `options` may be null. Nothing of the arguments is needed after the call.
///
/// The caller owns `*kernel`, and frees it with `skimjit_kernel_free`. While any handle of the same kernel
/// (problem, weights, options) is alive, another one costs no more than comparing the weights' hash.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_sparse_conv_create(
    problem: In<Conv>,
    weights: In<Csr>,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let (problem, weights) = (problem.read()?.problem(), weights.read()?);
        Ok(kernel::sparse_conv(
            &problem,
            weights.matrix()?,
            bias,
            options,
        )?)
    })
}

/// Makes a convolution with all weights. As `skimjit_sparse_conv_create`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_dense_conv_create(
    problem: In<Conv>,
    weights: In<f32>,
    weight_count: usize,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let weights = weights.array("weights", weight_count)?;
        let problem = problem.read()?.problem();
        Ok(kernel::dense_conv(&problem, weights, bias, options)?)
    })
}

/// Makes an inner product of one row that leaves zero weights out. As `skimjit_sparse_conv_create`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_sparse_fc_create(
    problem: In<Fc>,
    weights: In<Csr>,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let (problem, weights) = (problem.read()?.problem(), weights.read()?);
        Ok(kernel::sparse_fc(
            &problem,
            weights.matrix()?,
            bias,
            options,
        )?)
    })
}

/// Makes an inner product of one row with all weights, row by row. As `skimjit_sparse_conv_create`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_dense_fc_create(
    problem: In<Fc>,
    weights: In<f32>,
    weight_count: usize,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let weights = weights.array("weights", weight_count)?;
        let problem = problem.read()?.problem();
        Ok(kernel::dense_fc(&problem, weights, bias, options)?)
    })
}

/// Makes a product of a sparse matrix with dense ones. As `skimjit_sparse_conv_create`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_spmm_create(
    problem: In<MatMul>,
    weights: In<Csr>,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let (problem, weights) = (problem.read()?.problem(), weights.read()?);
        Ok(kernel::spmm(&problem, weights.matrix()?, bias, options)?)
    })
}

/// Makes a product of a dense matrix, row by row, with others. As `skimjit_sparse_conv_create`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_gemm_create(
    problem: In<MatMul>,
    weights: In<f32>,
    weight_count: usize,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    kernel: Out<*mut Kernel>,
) -> Status {
    create(kernel, bias, bias_count, options, |bias, options| {
        let weights = weights.array("weights", weight_count)?;
        let problem = problem.read()?.problem();
        Ok(kernel::gemm(&problem, weights, bias, options)?)
    })
}

fn create(
    kernel: Out<*mut Kernel>,
    bias: In<f32>,
    bias_count: usize,
    options: In<KernelOptions>,
    generate: impl FnOnce(&[f32], &kernel::Options) -> Outcome<kernel::Kernel>,
) -> Status {
    guard(|| {
        kernel.check("kernel")?;
        let bias = bias.array("bias", bias_count)?;
        let options = options.read()?;
        let options = kernel::Options {
            isa: isa(options.isa)?,
            variant: options.variant.get("variant")?.map(str::to_owned),
        };
        kernel.set(Kernel::into_raw(generate(bias, &options)?));
        Ok(())
    })
}

/// 0 is 1.
fn or_one(values: [u32; 2]) -> [u32; 2] {
    values.map(|value| value.max(1))
}

fn given(pitch: u32) -> Option<u32> {
    (pitch > 0).then_some(pitch)
}

fn slope(relu: u32, slope: f32) -> Option<f32> {
    (relu != 0).then_some(slope)
}

impl Conv {
    fn problem(&self) -> kernel::Conv {
        kernel::Conv {
            ic: self.ic,
            oc: self.oc,
            input: [self.ih, self.iw],
            kernel: [self.kh, self.kw],
            stride: or_one([self.stride_h, self.stride_w]),
            pad: [self.pad_h, self.pad_w],
            dilation: or_one([self.dilation_h, self.dilation_w]),
            groups: self.groups.max(1),
            relu: slope(self.relu, self.relu_slope),
            residual: self.residual != 0,
            src_pitch: given(self.src_pitch),
            dst_pitch: given(self.dst_pitch),
        }
    }
}

impl Fc {
    fn problem(&self) -> kernel::Fc {
        kernel::Fc {
            inputs: self.inputs,
            outputs: self.outputs,
            relu: slope(self.relu, self.relu_slope),
        }
    }
}

impl MatMul {
    fn problem(&self) -> kernel::MatMul {
        kernel::MatMul {
            rows: self.rows,
            inner: self.inner,
            columns: self.columns,
            relu: slope(self.relu, self.relu_slope),
            residual: self.residual != 0,
            src_pitch: given(self.src_pitch),
            dst_pitch: given(self.dst_pitch),
        }
    }
}

impl Csr {
    fn matrix(&self) -> Outcome<kernel::Csr<'_>> {
        let starts = self.rows.saturating_add(1);
        Ok(kernel::Csr {
            row_start: self.row_start.array("csr.row_start", starts)?,
            columns: self.columns.array("csr.columns", self.nnz)?,
            values: self.values.array("csr.values", self.nnz)?,
        })
    }
}
