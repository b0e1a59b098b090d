//! What a GPU does for the engine: memory, kernels, matrix products.

use skimjit_models::Result;

/// Source of the kernels.
pub const KERNELS: &str = include_str!("kernels.cu");

/// Arguments of a kernel; which is which, the source says.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Args {
    /// Addresses; 0 where there is none.
    pub p: [u64; 8],
    /// Integers, the number of threads first.
    pub n: [i64; 20],
    /// Numbers.
    pub f: [f32; 8],
}

impl Args {
    /// From as many as there are; the number of threads is the first integer.
    pub fn new(p: &[u64], n: &[usize], f: &[f32]) -> Self {
        let mut args = Self::default();
        args.p[..p.len()].copy_from_slice(p);
        let numbers = args.n.iter_mut().zip(n);
        numbers.for_each(|(to, &from)| *to = from as i64);
        args.f[..f.len()].copy_from_slice(f);
        args
    }
}

/// A matrix whose rows lie one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// First element.
    pub address: u64,
    /// The operand is its transpose.
    pub transposed: bool,
}

/// `c = a·b`, or `c += a·b`: m×k times k×n.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// m, n, k.
    pub size: [usize; 3],
    /// m×k.
    pub a: Operand,
    /// k×n.
    pub b: Operand,
    /// First element of the result.
    pub c: u64,
    /// The result is added to what is there.
    pub accumulate: bool,
}

/// A product as BLAS is asked for it, which counts by columns: what is stored by rows is to it the transpose, and
/// cᵀ = bᵀ·aᵀ. The names are those of BLAS; `a` is the product's `b`.
#[derive(Clone, Copy, Debug)]
pub struct Sgemm {
    /// Both operands: address, whether it is used transposed, elements from column to column.
    pub a: (u64, bool, usize),
    /// The right one.
    pub b: (u64, bool, usize),
    /// First element of the result.
    pub c: u64,
    /// Elements from column to column of the result, which has no more rows.
    pub ldc: usize,
    /// Rows and columns of the result, and what is summed over.
    pub size: [usize; 3],
}

impl Product {
    /// As BLAS wants it.
    pub fn sgemm(&self) -> Sgemm {
        let [m, n, k] = self.size;
        let row = |operand: Operand, rows: usize, columns: usize| {
            let length = if operand.transposed { rows } else { columns };
            (operand.address, operand.transposed, length)
        };
        Sgemm {
            a: row(self.b, k, n),
            b: row(self.a, m, k),
            c: self.c,
            ldc: n,
            size: [n, m, k],
        }
    }
}

/// A GPU. Work is done in the order in which it is asked for.
pub trait Device: Send {
    /// Memory for so many zeros.
    fn allocate(&mut self, count: usize) -> Result<u64>;
    /// Copies to the device.
    fn upload(&mut self, address: u64, data: &[f32]) -> Result<()>;
    /// Copies from the device, after all that was asked for.
    fn download(&self, address: u64, data: &mut [f32]) -> Result<()>;
    /// Writes zeros.
    fn zero(&mut self, address: u64, count: usize) -> Result<()>;
    /// Runs a kernel.
    fn launch(&mut self, kernel: &'static str, args: &Args) -> Result<()>;
    /// Multiplies.
    fn multiply(&mut self, product: &Product) -> Result<()>;
    /// Another one on the same GPU, with memory of its own.
    fn fresh(&self) -> Result<Box<dyn Device>>;
}

/// Address `count` elements behind another.
pub fn behind(address: u64, count: usize) -> u64 {
    address + 4 * count as u64
}
