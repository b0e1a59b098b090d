//! From a problem and weights to a kernel, generated once.

use super::csr::{Csr, hash_words};
use super::{Conv, Fc, Kernel, Made, MatMul};
use crate::error::{Error, Result};
use skimjit_host::memory;
use skimjit_models::{ElementType, Pattern};
use skimjit_runtime::jit::{CodeRegion, Isa, SpecHash, SpecHasher};
use skimjit_runtime::kernels::{
    Built, CompiledKernel, Problem, Values, Variant, Weighting, Weights, limits, registry,
};
use skimjit_runtime::{KernelStore, PlanError, PlanErrorKind, hash_problem};
use std::borrow::Cow;
use std::hash::Hash;
use std::sync::{Arc, LazyLock};

/// How a kernel is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Instruction set, at most what the machine has; default: the best there is.
    pub isa: Option<Isa>,
    /// Variant, by name; default: the one with the best estimate among those that leave zeros out, or
    /// among those that do not.
    pub variant: Option<String>,
}

/// What the small allocations of any kernel take, with room to spare.
const SMALL_BYTES: u64 = 4 << 20;

/// The kernels that anyone holds.
static KERNELS: LazyLock<KernelStore<Made>> = LazyLock::new(KernelStore::default);

/// Is told when the last handle of a kernel is gone.
pub(super) fn forget(key: SpecHash) {
    KERNELS.forget(key);
}

/// A convolution that leaves zero weights out. `bias` has one value per output channel, or none.
pub fn sparse_conv(
    problem: &Conv,
    csr: Csr<'_>,
    bias: &[f32],
    options: &Options,
) -> Result<Kernel> {
    create(problem.problem()?, Matrix::Sparse(csr), bias, options)
}

/// A convolution with all weights.
pub fn dense_conv(
    problem: &Conv,
    weights: &[f32],
    bias: &[f32],
    options: &Options,
) -> Result<Kernel> {
    create(problem.problem()?, Matrix::Dense(weights), bias, options)
}

/// An inner product of one row that leaves zero weights out.
pub fn sparse_fc(problem: &Fc, csr: Csr<'_>, bias: &[f32], options: &Options) -> Result<Kernel> {
    create(problem.problem(), Matrix::Sparse(csr), bias, options)
}

/// An inner product of one row with all weights, row by row.
pub fn dense_fc(problem: &Fc, weights: &[f32], bias: &[f32], options: &Options) -> Result<Kernel> {
    create(problem.problem(), Matrix::Dense(weights), bias, options)
}

/// A sparse matrix times a dense one.
pub fn spmm(problem: &MatMul, csr: Csr<'_>, bias: &[f32], options: &Options) -> Result<Kernel> {
    create(problem.problem()?, Matrix::Sparse(csr), bias, options)
}

/// A dense matrix, row by row, times a dense one.
pub fn gemm(problem: &MatMul, weights: &[f32], bias: &[f32], options: &Options) -> Result<Kernel> {
    create(problem.problem()?, Matrix::Dense(weights), bias, options)
}

/// Weights as they were given.
#[derive(Clone, Copy)]
enum Matrix<'a> {
    Sparse(Csr<'a>),
    Dense(&'a [f32]),
}

impl<'a> Matrix<'a> {
    /// What its variants do with weights.
    fn weighting(&self) -> Weighting {
        match self {
            Self::Sparse(_) => Weighting::Sparse,
            Self::Dense(_) => Weighting::Dense,
        }
    }

    /// Row-major values.
    fn values(&self, [rows, columns]: [u32; 2]) -> Result<Cow<'a, [f32]>> {
        match self {
            Self::Sparse(csr) => Ok(Cow::Owned(csr.expand(rows, columns)?)),
            Self::Dense(values) if values.len() as u64 == u64::from(rows) * u64::from(columns) => {
                Ok(Cow::Borrowed(values))
            }
            Self::Dense(values) => Err(Error::Usage(format!(
                "weights: found {} values, expected {rows} x {columns}",
                values.len()
            ))),
        }
    }

    fn hash(&self, hasher: &mut SpecHasher) {
        self.weighting().hash(hasher);
        match self {
            Self::Sparse(csr) => csr.hash(hasher),
            Self::Dense(values) => hash_words(hasher, values.iter().map(|value| value.to_bits())),
        }
    }
}

fn create(problem: Problem, matrix: Matrix<'_>, bias: &[f32], options: &Options) -> Result<Kernel> {
    let isa = Isa::detect(options.isa)?;
    let key = key(&problem, &matrix, bias, isa, options);
    if let Some(made) = KERNELS.find(key) {
        return Ok(Kernel(made));
    }
    let size = size(&problem)?;
    if !bias.is_empty() && bias.len() != size[0] as usize {
        return Err(Error::Usage(format!(
            "bias: found {} values, expected {} or none",
            bias.len(),
            size[0]
        )));
    }
    // Dense, as a pattern, packed, and as code; what is small comes on top.
    let elems = u64::from(size[0]).saturating_mul(u64::from(size[1]));
    memory::check_addresses(elems.saturating_mul(32).saturating_add(SMALL_BYTES))
        .map_err(|error| PlanError::short(&error))?;
    let values = matrix.values(size)?;
    let pattern = Pattern::from_weights(size[0], size[1], &values);
    let weights = Weights {
        values: Values::All(&values),
        pattern: &pattern,
        bias,
        element: ElementType::narrowest(&values),
    };
    let choice = Choice {
        isa,
        weighting: matrix.weighting(),
        variant: options.variant.as_deref(),
    };
    let (variant, compiled) = choice.generate(&problem, weights)?;
    let made = Made {
        problem,
        variant,
        isa,
        compiled,
        key,
    };
    Ok(Kernel(KERNELS.keep(key, Arc::new(made))))
}

/// Everything that the code depends on.
fn key(
    problem: &Problem,
    matrix: &Matrix<'_>,
    bias: &[f32],
    isa: Isa,
    options: &Options,
) -> SpecHash {
    let mut hasher = SpecHasher::new();
    isa.hash(&mut hasher);
    options.variant.hash(&mut hasher);
    hash_problem(problem, &mut hasher);
    matrix.hash(&mut hasher);
    hash_words(&mut hasher, bias.iter().map(|value| value.to_bits()));
    hasher.finish128()
}

/// Rows and columns of the weights, within what can be addressed.
fn size(problem: &Problem) -> Result<[u32; 2]> {
    let [rows, columns] = problem.matrix();
    let most = limits::OPERAND_ELEMS;
    if rows == 0 || columns == 0 || rows.saturating_mul(columns) > most {
        return Err(Error::Usage(format!(
            "weights: found {rows} x {columns}, expected 1 to {most} values"
        )));
    }
    Ok([rows as u32, columns as u32])
}

/// Which variants may compute a problem.
struct Choice<'a> {
    isa: Isa,
    /// What they do with weights.
    weighting: Weighting,
    /// Only this one.
    variant: Option<&'a str>,
}

impl Choice<'_> {
    /// The best variant; the next one where it cannot be built.
    fn generate(
        &self,
        problem: &Problem,
        weights: Weights<'_>,
    ) -> Result<(&'static str, CompiledKernel)> {
        let (candidates, refusals) = registry::candidates(problem, weights.pattern, self.isa);
        let mut reasons: Vec<String> = refusals
            .iter()
            .filter(|refusal| self.takes(refusal.variant))
            .filter(|refusal| self.variant.is_some() || !refusal.reason.other_family())
            .map(|refusal| format!("{}: {}", refusal.variant.name(), refusal.reason))
            .collect();
        for registry::Candidate { variant, .. } in candidates {
            if !self.takes(variant) {
                continue;
            }
            match variant.build(problem, weights, self.isa) {
                Ok(built) => return Ok((variant.name(), publish(built)?)),
                Err(error) => reasons.push(format!("{}: {error}", variant.name())),
            }
        }
        Err(self.refused(&reasons))
    }

    fn takes(&self, variant: &dyn Variant) -> bool {
        match self.variant {
            Some(name) => variant.name() == name,
            None => variant.weighting() == self.weighting,
        }
    }

    fn refused(&self, reasons: &[String]) -> Error {
        let (Some(variant), []) = (self.variant, reasons) else {
            let reasons = reasons.join("; ");
            return plan_error(format!("no kernel variant can compute this: {reasons}"));
        };
        let names: Vec<&str> = registry::VARIANTS
            .iter()
            .filter(|variant| variant.weighting() != Weighting::Unweighted)
            .map(|variant| variant.name())
            .collect();
        Error::Usage(format!(
            "variant: found \"{variant}\", expected one of: {}",
            names.join(", ")
        ))
    }
}

fn publish(built: Built) -> Result<CompiledKernel> {
    let region = CodeRegion::publish(&built.code).map_err(PlanError::memory)?;
    Ok(CompiledKernel::new(built, &region, 0))
}

fn plan_error(message: String) -> Error {
    PlanError::new(PlanErrorKind::Asked, message).into()
}
