//! Ops that only move data (Permute, Slice, Gather, ...): runs of elements, found by asking the reference
//! where each element of its result comes from.

use crate::plan::{Rearranged, Reference, Run};
use skimjit_models::{Tensor, TensorRef};

/// Most elements of an operand or result: below this, a float tells every index apart.
const MOST_ELEMS: usize = (1 << 24) - 1;
/// Most runs of a small result. The table of a large one must not become larger than the data.
const MOST_RUNS: usize = 1 << 16;
/// See [`MOST_RUNS`].
const ELEMS_PER_RUN: usize = size_of::<Run>() / size_of::<f32>();
/// Runs may be as many results apart as this: an image whose rows become twice as long has two kinds of results.
const MOST_PHASES: u32 = 4;
/// Elements of a run that are enough: nothing better is looked for.
const LONG_RUN: usize = 64;

/// What an op of one operand moves, where each element of the operand is an element of something else; and of that,
/// which element each of the result is. `None` for an op that computes, or one too large.
pub(super) fn rearrange_behind(
    reference: &Reference,
    before: Option<&[u32]>,
) -> Option<(Vec<Rearranged>, Vec<u32>)> {
    let counts = [&reference.inputs[0], &reference.output].map(|shape| shape.count());
    if !reference.op.only_moves() || counts.into_iter().any(|count| count > MOST_ELEMS) {
        return None;
    }
    let whole: Option<Vec<u32>> = origins(reference, 0).into_iter().collect();
    let through = |origin: u32| before.map_or(origin, |before| before[origin as usize]);
    let whole: Vec<u32> = whole?.into_iter().map(through).collect();
    let all: Vec<Option<u32>> = whole.iter().copied().map(Some).collect();
    let runs = fewest_runs(&all);
    let few = runs.len() <= MOST_RUNS.max(all.len() / ELEMS_PER_RUN);
    few.then(|| (vec![Rearranged { operand: 0, runs }], whole))
}

/// What an op moves from each of its operands; `None` for an op that computes, or one too large.
pub(super) fn rearrange(reference: &Reference) -> Option<Vec<Rearranged>> {
    let shapes = reference.inputs.iter().chain([&reference.output]);
    if !reference.op.only_moves()
        || shapes
            .map(|shape| shape.count())
            .any(|count| count > MOST_ELEMS)
    {
        return None;
    }
    let mut rearranged = Vec::new();
    let mut covered = vec![false; reference.output.count()];
    for operand in 0..reference.inputs.len() {
        let origins = origins(reference, operand);
        for (covered, origin) in covered.iter_mut().zip(&origins) {
            *covered |= origin.is_some();
        }
        let runs = fewest_runs(&origins);
        if runs.len() > MOST_RUNS.max(origins.len() / ELEMS_PER_RUN) {
            return None;
        }
        if !runs.is_empty() {
            rearranged.push(Rearranged { operand, runs });
        }
    }
    covered.iter().all(|&covered| covered).then_some(rearranged)
}

/// Which element of an operand each element of the result is, if it is one.
fn origins(reference: &Reference, operand: usize) -> Vec<Option<u32>> {
    let inputs: Vec<Tensor> = reference
        .inputs
        .iter()
        .enumerate()
        .map(|(index, shape)| {
            let count = shape.count();
            let data = match index == operand {
                true => (1..=count).map(|number| number as f32).collect(),
                false => vec![0.0; count],
            };
            Tensor::new(shape.clone(), data)
        })
        .collect();
    let operands: Vec<TensorRef<'_>> = inputs
        .iter()
        .map(|tensor| TensorRef {
            shape: tensor.shape(),
            data: tensor.data(),
        })
        .collect();
    let mut result = vec![0.0; reference.output.count()];
    let (weights, shape) = (&reference.weights, &reference.output);
    reference
        .op
        .evaluate(&operands, weights, shape, &mut result);
    let origin = |&number: &f32| (number as u32).checked_sub(1);
    result.iter().map(origin).collect()
}

/// In the order of the result, of the source, or of every second (third, …) element of the result: a permutation
/// of axes has few long runs in one of the first two, a repetition of pixels in one of the others.
fn fewest_runs(origins: &[Option<u32>]) -> Vec<Run> {
    let mut pairs: Vec<[u32; 2]> = (0..)
        .zip(origins)
        .filter_map(|(dst, origin)| Some([(*origin)?, dst]))
        .collect();
    let mut fewest = runs(pairs.iter().copied());
    for phases in 2..=MOST_PHASES {
        if fewest.len() * LONG_RUN <= pairs.len() {
            return fewest;
        }
        let phase = |phase: u32| {
            let pairs = pairs.iter().copied();
            pairs.filter(move |[_, dst]| dst % phases == phase)
        };
        let found = runs((0..phases).flat_map(phase));
        if found.len() < fewest.len() {
            fewest = found;
        }
    }
    pairs.sort_unstable();
    let by_source = runs(pairs.into_iter());
    match by_source.len() < fewest.len() {
        true => by_source,
        false => fewest,
    }
}

/// Joins neighbours (source and result) whose distances stay the same and do not go backwards.
fn runs(pairs: impl Iterator<Item = [u32; 2]>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last = [0; 2];
    for [src, dst] in pairs {
        let steps = [src.checked_sub(last[0]), dst.checked_sub(last[1])];
        last = [src, dst];
        match (runs.last_mut(), steps) {
            (Some(run), [Some(src), Some(dst)]) if run.len == 1 || run.strides == [src, dst] => {
                run.strides = [src, dst];
                run.len += 1;
            }
            _ => runs.push(Run {
                dst,
                src,
                len: 1,
                strides: [1, 1],
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_move_what_was_asked(origins in prop::collection::vec(prop::option::of(0..40u32), 0..60)) {
            let mut found = vec![None; origins.len()];
            for run in fewest_runs(&origins) {
                for i in 0..run.len {
                    let at = (run.dst + i * run.strides[1]) as usize;
                    prop_assert_eq!(found[at], None, "an element is written once");
                    found[at] = Some(run.src + i * run.strides[0]);
                }
            }
            prop_assert_eq!(found, origins);
        }
    }

    #[test]
    fn transpositions_have_one_run_per_row_or_column() {
        let [rows, columns] = [3, 50];
        let element = |dst: u32| Some(dst % rows * columns + dst / rows);
        let transposed: Vec<Option<u32>> = (0..rows * columns).map(element).collect();
        assert_eq!(fewest_runs(&transposed).len(), rows as usize);
    }

    #[test]
    fn rows_of_twice_the_pixels_have_two_runs() {
        let element = |dst: u32| Some(dst / 100 * 50 + dst % 100 / 2);
        let doubled: Vec<Option<u32>> = (0..500).map(element).collect();
        assert_eq!(fewest_runs(&doubled).len(), 2);
        let moved = Rearranged {
            operand: 0,
            runs: fewest_runs(&doubled),
        };
        let src: Vec<f32> = (0..250).map(|x| x as f32).collect();
        let mut dst = [f32::NAN; 500];
        moved.apply(&src, &mut dst);
        let expected = doubled.iter().map(|from| from.unwrap() as f32);
        assert!(dst.into_iter().eq(expected));
    }
}
