//! Kernels that several plans use: what is the same for two input shapes is generated and kept once.

use skimjit_kernels::jit::{Isa, SpecHash, SpecHasher};
use skimjit_kernels::{
    CompiledKernel, EltwiseKind, EltwiseProblem, FunctionProblem, LrnProblem, Problem,
    ResampleProblem, StandardizeProblem, Values, Weights,
};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Kernels of the plans that are alive, by what they were generated from. Shared between threads;
/// for networks of one owner, as [`SpecHasher`] explains.
///
/// The plans own the kernels: one that no plan uses any more is gone.
pub struct KernelStore<K = CompiledKernel> {
    held: Mutex<Held<K>>,
}

struct Held<K> {
    kernels: HashMap<SpecHash, Weak<K>>,
    hits: usize,
}

impl<K> Default for KernelStore<K> {
    fn default() -> Self {
        let held = Held {
            kernels: HashMap::new(),
            hits: 0,
        };
        Self {
            held: Mutex::new(held),
        }
    }
}

impl<K> KernelStore<K> {
    /// Kernels alive.
    pub fn kernels(&self) -> usize {
        let held = self.lock();
        let alive = held.kernels.values();
        alive.filter(|kernel| kernel.strong_count() > 0).count()
    }

    /// Kernels that a plan took over from another one so far.
    pub fn hits(&self) -> usize {
        self.lock().hits
    }

    /// A kernel that is alive.
    pub fn find(&self, key: SpecHash) -> Option<Arc<K>> {
        let mut held = self.lock();
        let kernel = held.kernels.get(&key)?.upgrade()?;
        held.hits += 1;
        Some(kernel)
    }

    /// Lists a kernel as long as it is alive; returns the one to use, which is an older one if another
    /// thread was faster.
    pub fn keep(&self, key: SpecHash, kernel: Arc<K>) -> Arc<K> {
        let mut held = self.lock();
        if let Some(older) = held.kernels.get(&key).and_then(Weak::upgrade) {
            return older;
        }
        held.kernels.retain(|_, kernel| kernel.strong_count() > 0);
        held.kernels.insert(key, Arc::downgrade(&kernel));
        kernel
    }

    /// Takes a kernel that is not alive any more off the list: for owners that drop their kernels with
    /// a notice.
    pub fn forget(&self, key: SpecHash) {
        let mut held = self.lock();
        let gone = |kernel: &Weak<K>| kernel.strong_count() == 0;
        if held.kernels.get(&key).is_some_and(gone) {
            held.kernels.remove(&key);
        }
        if held.kernels.is_empty() {
            held.kernels = HashMap::new();
        }
    }

    /// A panic elsewhere cannot leave the map half-changed, so a poisoned lock is fine.
    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a kernel is generated from, all of it: generation is pure.
pub(crate) fn key(variant: &str, problem: &Problem, weights: Weights<'_>, isa: Isa) -> SpecHash {
    let mut hasher = SpecHasher::new();
    variant.hash(&mut hasher);
    isa.hash(&mut hasher);
    weights.element.hash(&mut hasher);
    hash_problem(problem, &mut hasher);
    let values = match weights.values {
        Values::All(values) => values,
        Values::NonZeros(values) => {
            weights.pattern.hash(&mut hasher);
            values
        }
    };
    for values in [values, weights.bias] {
        hasher.write_usize(values.len());
        for pair in values.chunks(2) {
            let word = |index: usize| {
                pair.get(index)
                    .map_or(0, |value| u64::from(value.to_bits()))
            };
            hasher.write_u64(word(0) | word(1) << 32);
        }
    }
    hasher.finish128()
}

/// All fields of a problem, floats by their bits.
pub fn hash_problem(problem: &Problem, hasher: &mut SpecHasher) {
    discriminant(problem).hash(hasher);
    match problem {
        Problem::Conv(problem) => problem.hash(hasher),
        Problem::Deconv(problem) => problem.hash(hasher),
        Problem::Fc(problem) => problem.hash(hasher),
        Problem::Pool(problem) => problem.hash(hasher),
        Problem::Channelwise(problem) => problem.hash(hasher),
        // Printed floats are different where floats are.
        Problem::Function(FunctionProblem { src, dst, function }) => {
            (src, dst, format!("{function:?}")).hash(hasher);
        }
        Problem::Resample(ResampleProblem { src, dst, op }) => {
            (src, dst, format!("{op:?}")).hash(hasher);
        }
        Problem::Softmax(problem) => problem.hash(hasher),
        Problem::Copy(problem) => problem.hash(hasher),
        Problem::Standardize(StandardizeProblem {
            src,
            dst,
            over,
            divisor,
            eps,
        }) => (src, dst, over, divisor, eps.to_bits()).hash(hasher),
        Problem::Binary(problem) => problem.hash(hasher),
        Problem::Lrn(LrnProblem {
            planes,
            size,
            within_channel,
            alpha,
            beta,
            k,
        }) => {
            let numbers = [alpha, beta, k].map(|x| x.to_bits());
            (planes, size, within_channel, numbers).hash(hasher);
        }
        Problem::Eltwise(EltwiseProblem {
            elems,
            operands,
            kind,
            post,
        }) => {
            (elems, operands, post, discriminant(kind)).hash(hasher);
            if let EltwiseKind::Sum(coefficients) = kind {
                let bits: Vec<u32> = coefficients.iter().map(|x| x.to_bits()).collect();
                bits.hash(hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skimjit_kernels::FcProblem;
    use skimjit_models::{ElementType, Pattern};

    #[test]
    fn a_key_depends_on_everything() {
        let fc = |inputs, post| {
            Problem::Fc(FcProblem {
                inputs,
                outputs: 2,
                post,
            })
        };
        let plain = fc(3, None);
        let of = |variant: &str, problem: &Problem, values: &[f32], bias: &[f32], isa| {
            let pattern = &Pattern::from_weights(1, values.len() as u32, values);
            let weights = Weights {
                values: Values::All(values),
                pattern,
                bias,
                element: ElementType::F32,
            };
            key(variant, problem, weights, isa)
        };
        let keys = [
            of("a", &plain, &[1.0, 2.0, 3.0], &[4.0], Isa::Avx2),
            of("b", &plain, &[1.0, 2.0, 3.0], &[4.0], Isa::Avx2),
            of("a", &fc(4, None), &[1.0, 2.0, 3.0], &[4.0], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, -3.0], &[4.0], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, 3.0, 0.0], &[4.0], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, 3.0], &[], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, 3.0], &[0.0], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, 3.0], &[-0.0], Isa::Avx2),
            of("a", &plain, &[1.0, 2.0, 3.0], &[4.0], Isa::Avx512),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == key), Some(index));
        }
        let again = of("a", &plain, &[1.0, 2.0, 3.0], &[4.0], Isa::Avx2);
        assert_eq!(again, keys[0]);
    }
}
