//! Runs one case on one variant and ISA, and checks everything the contract says.

use crate::data::{Data, Random};
use crate::guard::{Guarded, POISON, Placement, naming_faults};
use crate::oracle::{Expected, expected};
use crate::spec::Spec;
use skimjit_kernels::jit::{CodeRegion, Isa};
use skimjit_kernels::{
    Built, CompiledKernel, Extent, KernelIo, Planes, Values, Variant, Weights, registry,
};
use skimjit_testing::isas;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Filler of the result: what is not written keeps these bits.
const SENTINEL: f32 = f32::from_bits(0x7fc0_5e17);

/// The line that repeats a case.
pub fn repeat(variant: &str, isa: Isa, spec: &Spec) -> String {
    format!(
        "SKIMJIT_CASE='{variant} {isa} {spec}' cargo test --release -p skimjit-kernels --test suite replay -- --ignored"
    )
}

/// Checks a case on every variant that supports it and every ISA; false if there is none.
pub fn check(spec: &Spec) -> Result<bool, String> {
    let isas = isas();
    let candidates = || {
        isas.iter().flat_map(|&isa| {
            registry::VARIANTS
                .iter()
                .map(move |&variant| (variant, isa))
        })
    };
    let supported: Vec<_> = candidates()
        .filter(|(v, isa)| v.supports(&spec.problem, *isa).is_ok())
        .collect();
    if supported.is_empty() {
        return Ok(false);
    }
    let data = Data::new(spec);
    let expected = expected(spec, &data);
    for (variant, isa) in supported {
        check_variant(variant, isa, spec, &data, &expected)?;
    }
    Ok(true)
}

/// Whether a variant builds a case.
pub fn builds(variant: &dyn Variant, isa: Isa, spec: &Spec) -> bool {
    let data = Data::new(spec);
    let weights = Weights {
        values: Values::All(&data.values),
        pattern: &data.pattern,
        bias: &data.bias,
        element: spec.element(),
    };
    variant.supports(&spec.problem, isa).is_ok()
        && variant.build(&spec.problem, weights, isa).is_ok()
}

/// Checks a case on one variant.
pub fn check_one(variant: &dyn Variant, isa: Isa, spec: &Spec) -> Result<(), String> {
    variant
        .supports(&spec.problem, isa)
        .map_err(|reason| reason.to_string())?;
    let data = Data::new(spec);
    check_variant(variant, isa, spec, &data, &expected(spec, &data))
}

fn check_variant(
    variant: &dyn Variant,
    isa: Isa,
    spec: &Spec,
    data: &Data,
    expected: &Expected,
) -> Result<(), String> {
    let line = repeat(variant.name(), isa, spec);
    let run = || match build(variant, isa, spec, data)? {
        Some(built) => Run {
            spec,
            data,
            expected,
        }
        .check(built),
        None => Ok(()),
    };
    let result = naming_faults(&line, || {
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a panic".into()))
    });
    result.map_err(|message| format!("{message}, repeat with:\n{line}\n"))
}

/// Builds twice and compares; `None` when the variant refuses the pattern.
fn build(
    variant: &dyn Variant,
    isa: Isa,
    spec: &Spec,
    data: &Data,
) -> Result<Option<Built>, String> {
    let cost = variant
        .cost(&spec.problem, &data.pattern, isa)
        .map_err(|reason| reason.to_string())?;
    if !(cost.cycles.is_finite() && cost.cycles > 0.0) {
        return Err(format!("an estimate of {} cycles", cost.cycles));
    }
    let weights = Weights {
        values: Values::All(&data.values),
        pattern: &data.pattern,
        bias: &data.bias,
        element: spec.element(),
    };
    // The same weights in their other form are the same kernel.
    let rows = (0..data.pattern.rows()).flat_map(|row| {
        let cols = data.pattern.row(row).iter();
        cols.map(move |&col| weights.value(row, col))
    });
    let nonzeros: Vec<f32> = rows.collect();
    let of_nonzeros = Weights {
        values: match data.values.is_empty() {
            true => Values::All(&[]),
            false => Values::NonZeros(&nonzeros),
        },
        ..weights
    };
    let build = |weights| variant.build(&spec.problem, weights, isa);
    let (built, again) = match (build(weights), build(of_nonzeros)) {
        (Ok(built), Ok(again)) => (built, again),
        (Err(first), Err(second)) if first == second => return Ok(None),
        (first, second) => {
            return Err(format!(
                "one build of two fails: {:?} {:?}",
                first.err(),
                second.err()
            ));
        }
    };
    let same = built.code == again.code
        && built.entries == again.entries
        && built.packed.bytes() == again.packed.bytes()
        && built.tasks == again.tasks
        && built.staging == again.staging
        && built.footprint == again.footprint;
    if !same {
        return Err("two builds of one case differ".into());
    }
    Ok(Some(built))
}

struct Run<'a> {
    spec: &'a Spec,
    data: &'a Data,
    expected: &'a Expected,
}

impl Run<'_> {
    fn check(&self, built: Built) -> Result<(), String> {
        let (region, bases) =
            CodeRegion::publish_all(&[&built.code]).map_err(|error| error.to_string())?;
        let kernel = CompiledKernel::new(built, &region, bases[0]);
        let mut first: Option<Vec<u32>> = None;
        for placement in Placement::ALL {
            let result = self.run(&kernel, placement)?;
            match &first {
                None => {
                    self.compare(&kernel, &result)?;
                    first = Some(bits(&result));
                }
                Some(first) if *first != bits(&result) => {
                    return Err(format!("placement {placement:?} changes the result"));
                }
                Some(_) => {}
            }
        }
        let merged = self.run_apart(&kernel)?;
        match first == Some(bits(&merged)) {
            true => Ok(()),
            false => Err("another order of the tasks changes the result".into()),
        }
    }

    /// All tasks in order.
    fn run(&self, kernel: &CompiledKernel, placement: Placement) -> Result<Vec<f32>, String> {
        let operands = self.operands(kernel, placement)?;
        let (dst, all) = (self.result(kernel, placement), 0..kernel.tasks().len());
        self.call(kernel, &operands, &dst, placement, all);
        Ok(dst.elems().to_vec())
    }

    /// Random ranges of tasks in random order, each into its own fresh result; the parts they write
    /// must not overlap.
    fn run_apart(&self, kernel: &CompiledKernel) -> Result<Vec<f32>, String> {
        let placement = Placement::Back;
        let operands = self.operands(kernel, placement)?;
        let mut merged = self.result(kernel, placement);
        for range in ranges(
            kernel.tasks().len(),
            &mut Random::new(self.spec.seed ^ 0xFACE),
        ) {
            let part = self.result(kernel, placement);
            self.call(kernel, &operands, &part, placement, range.clone());
            for (i, (to, from)) in merged.elems_mut().iter_mut().zip(part.elems()).enumerate() {
                if from.to_bits() == SENTINEL.to_bits() {
                    continue;
                }
                if to.to_bits() != SENTINEL.to_bits() {
                    return Err(format!(
                        "tasks {range:?} and earlier ones both write element {i}"
                    ));
                }
                *to = *from;
            }
        }
        Ok(merged.elems().to_vec())
    }

    fn call(
        &self,
        kernel: &CompiledKernel,
        operands: &[Guarded],
        dst: &Guarded,
        placement: Placement,
        tasks: Range<usize>,
    ) {
        let scratch_elems = kernel.footprint().scratch_bytes.div_ceil(4);
        // Scratch memory is promised to start on a cache line.
        let after = scratch_elems.next_multiple_of(16);
        let scratch = Guarded::new(Extent { before: 0, after }, placement);
        let src: Vec<*const f32> = operands
            .iter()
            .map(|operand| operand.base().cast_const())
            .collect();
        let io = KernelIo {
            src: &src,
            dst: dst.base(),
            scratch: scratch.base(),
        };
        // SAFETY: all operands have the kernel's footprint; nothing else runs on them.
        unsafe { kernel.run(&io, tasks) };
    }

    fn result(&self, kernel: &CompiledKernel, placement: Placement) -> Guarded {
        let mut dst = Guarded::new(kernel.footprint().dst, placement);
        dst.elems_mut().fill(SENTINEL);
        dst
    }

    fn operands(
        &self,
        kernel: &CompiledKernel,
        placement: Placement,
    ) -> Result<Vec<Guarded>, String> {
        let footprint = kernel.footprint();
        let residual = self.spec.problem.operands().residual;
        let place = |(i, (planes, values)): (usize, &(Planes, Vec<f32>))| {
            let extent = if i == 1 && residual {
                footprint.dst
            } else {
                footprint.src
            };
            let mut operand = Guarded::new(extent, placement);
            match kernel.staging() {
                Some(staging) if i == 0 => {
                    let copy = staged(staging, values)?;
                    let len = copy.len().min(extent.after);
                    operand.elems_mut()[extent.before..][..len].copy_from_slice(&copy[..len]);
                }
                _ => fill(operand.elems_mut(), extent, planes, values),
            }
            Ok(operand.read_only())
        };
        self.data.src.iter().enumerate().map(place).collect()
    }

    /// Values inside the planes, untouched sentinels everywhere else.
    fn compare(&self, kernel: &CompiledKernel, found: &[f32]) -> Result<(), String> {
        let (planes, extent) = (self.data.dst, kernel.footprint().dst);
        let mut seen = 0;
        for (i, &found) in found.iter().enumerate() {
            let element = i as i64 - extent.before as i64;
            let Some((c, pixel)) = inside(&planes, element) else {
                if found.to_bits() != SENTINEL.to_bits() {
                    return Err(format!("element {element} outside the planes is {found:e}"));
                }
                continue;
            };
            seen += 1;
            let index = c * planes.hw() as usize + pixel;
            let (value, tolerance) = (self.expected.value[index], self.expected.tolerance[index]);
            let difference = (f64::from(found) - value).abs();
            let may_be_nan = self.expected.may_be_nan.get(index) == Some(&true);
            let same =
                f64::from(found) == value || (found.is_nan() && (value.is_nan() || may_be_nan));
            if !same && (difference > tolerance || difference.is_nan() || value.is_infinite()) {
                let (y, x) = (pixel as u32 / planes.w, pixel as u32 % planes.w);
                return Err(format!(
                    "channel {c}, row {y}, column {x}: found {found:e}, expected {value:e} ± {tolerance:e}"
                ));
            }
        }
        match self.expected.value.len() {
            all if all == seen => Ok(()),
            all => Err(format!("the footprint holds {seen} of {all} results")),
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Channel and pixel of an element, when it is one.
fn inside(planes: &Planes, element: i64) -> Option<(usize, usize)> {
    let element = usize::try_from(element).ok()?;
    let (c, pixel) = (
        element / planes.pitch as usize,
        element % planes.pitch as usize,
    );
    (c < planes.c as usize && pixel < planes.hw() as usize).then_some((c, pixel))
}

/// Pixels, zero gaps behind each plane and as much in front of the first; all else stays poisoned.
fn fill(elems: &mut [f32], extent: Extent, planes: &Planes, values: &[f32]) {
    for (i, elem) in elems.iter_mut().enumerate() {
        let element = i as i64 - extent.before as i64;
        let gapped = -i64::from(planes.gap())..planes.elems() as i64;
        *elem = match inside(planes, element) {
            Some((c, pixel)) => values[c * planes.hw() as usize + pixel],
            None if gapped.contains(&element) => 0.0,
            None => POISON,
        };
    }
}

/// A NaN that no operand has.
const UNWRITTEN: u32 = 0x7fc5_a5a5;

/// The staged copy; must be written everywhere.
fn staged(staging: &skimjit_kernels::stage::Staging, values: &[f32]) -> Result<Vec<f32>, String> {
    // Not a value that special operands have: those are copied as they are.
    let unwritten = f32::from_bits(UNWRITTEN);
    let mut copy = vec![unwritten; staging.elems()];
    let planes = values.chunks_exact(staging.src.hw() as usize);
    for (src, dst) in planes.zip(copy.chunks_exact_mut(staging.channel as usize)) {
        staging.copy_channel(src, dst);
    }
    match copy.iter().position(|value| value.to_bits() == UNWRITTEN) {
        Some(at) => Err(format!("staging leaves element {at} unwritten")),
        None => Ok(copy),
    }
}

/// `0..count` in at most six parts, shuffled.
fn ranges(count: usize, random: &mut Random) -> Vec<Range<usize>> {
    let mut cuts: Vec<usize> = (0..5).map(|_| random.below(count + 1)).collect();
    cuts.extend([0, count]);
    cuts.sort_unstable();
    let mut ranges: Vec<Range<usize>> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    for i in (1..ranges.len()).rev() {
        ranges.swap(i, random.below(i + 1));
    }
    ranges
}
