//! Drafts → plan: buffers get their places, code is published, loops are settled.

use super::drafts::{Draft, DraftWork, Drafts};
use super::kernel::Kernel;
use crate::buffers::{BufferId, Buffers, Home, Placement, Span};
use crate::caches::Distance;
use crate::plan::{Listing, Loops, Plan, Segment, Step, Work};
use crate::{Options, PlanError};
use skimjit_kernels::CompiledKernel;
use skimjit_kernels::jit::observe::PublishedCode;
use skimjit_kernels::jit::{Code, CodeRegion, Isa};
use std::sync::Arc;

/// A plan of segments, each of which is `per_image` or not, that has no inputs and outputs yet.
pub(super) fn link(
    drafts: Drafts<'_>,
    (isa, batch, per_image): (Isa, usize, &[bool]),
    options: &Options,
) -> Result<Plan, PlanError> {
    let placement = drafts
        .buffers
        .place(batch, &spans(&drafts.steps, per_image));
    let codes: Vec<&Code> = drafts.kernels().filter_map(Kernel::new_code).collect();
    let published = match options.stored {
        true => CodeRegion::store_all(&codes),
        false => CodeRegion::publish_all(&codes),
    };
    let (region, bases) = published.map_err(PlanError::memory)?;
    let code_bytes: usize = drafts.kernels().map(|kernel| kernel.code().len()).sum();
    let packed_bytes: usize = drafts.kernels().map(Kernel::packed_bytes).sum();
    let scratch = drafts
        .kernels()
        .map(|kernel| kernel.footprint().scratch_bytes);
    let distance = options.caches.distance((code_bytes + packed_bytes) as u64);
    let empty = |&per_image| Segment {
        per_image,
        steps: vec![],
    };
    let mut plan = Plan {
        isa,
        batch,
        coupled: false,
        segments: per_image.iter().map(empty).collect(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        image_elems: placement.image_elems,
        batch_elems: placement.batch_elems,
        scratch_elems: scratch.max().unwrap_or(0).div_ceil(4),
        caches: options.caches,
        code_is_far: distance != Distance::Inner,
        choices: Vec::new(),
        code_bytes,
        listings: drafts
            .steps
            .iter()
            .filter_map(|draft| listing(draft, options))
            .collect(),
    };
    let mut linker = Linker {
        options,
        batch,
        region,
        bases: bases.into_iter(),
        buffers: &drafts.buffers,
        placement: &placement,
    };
    for (index, draft) in drafts.steps.into_iter().enumerate() {
        let segment = &mut plan.segments[draft.segment];
        let step = linker.step(index, draft, segment.per_image)?;
        segment.steps.push(step);
    }
    Ok(plan)
}

/// For each step the first and last that other images may be at while one is there.
fn spans(steps: &[Draft<'_>], per_image: &[bool]) -> Vec<Span> {
    let mut spans: Vec<Span> = (0..steps.len()).map(|step| (step, step)).collect();
    let mut first = 0;
    for segment in steps.chunk_by(|a, b| a.segment == b.segment) {
        let last = first + segment.len() - 1;
        if per_image[segment[0].segment] {
            spans[first..=last].fill((first, last));
        }
        first = last + 1;
    }
    spans
}

fn listing(draft: &Draft<'_>, options: &Options) -> Option<Listing> {
    let code = draft.kernel()?.code();
    let kept = if options.keep_code { code } else { &[] };
    Some(Listing {
        layer: draft.subject.layer.to_owned(),
        variant: draft.label,
        bytes: kept.to_vec(),
    })
}

/// What steps are linked with.
struct Linker<'a, B> {
    options: &'a Options,
    batch: usize,
    region: Arc<CodeRegion>,
    /// Start of each new kernel in the region.
    bases: B,
    buffers: &'a Buffers,
    placement: &'a Placement,
}

impl<B: Iterator<Item = usize>> Linker<'_, B> {
    fn step(&mut self, index: usize, draft: Draft<'_>, per_image: bool) -> Result<Step, PlanError> {
        let (loops, cumulated) = (self.loops(&draft, per_image), draft.cumulated());
        let layer = draft.subject.layer;
        let work = match draft.work {
            DraftWork::Other(work, _) => work,
            DraftWork::Kernel(kernel) => Work::Kernel(self.kernel(layer, kernel)?),
            DraftWork::Stage(staging, kernel) => {
                Work::Stage(staging, Some(self.kernel(layer, kernel)?))
            }
        };
        let operand = |id: &BufferId| self.placement.operand(self.buffers, *id);
        Ok(Step {
            layer: layer.to_owned(),
            node: draft.subject.node,
            label: draft.label,
            work,
            unclean: self.placement.unclean(self.buffers, index),
            src: draft.src.iter().map(operand).collect(),
            dst: operand(&draft.dst),
            cumulated,
            loops,
        })
    }

    fn loops(&self, draft: &Draft<'_>, per_image: bool) -> Loops {
        let mut operands = draft.src.iter().chain([&draft.dst]);
        let whole = operands.any(|&id| self.buffers.home(id) == Home::Whole);
        match &draft.work {
            // They hold all images, but their columns are those of one.
            DraftWork::Other(Work::ToColumns | Work::FromColumns, _) => Loops::Images,
            _ if whole => Loops::Once,
            // There is one padded copy for all images.
            DraftWork::Kernel(kernel) if kernel.staging().is_none() && !per_image => {
                match self.batch {
                    1 => Loops::Images,
                    _ => Loops::Tasks,
                }
            }
            _ => Loops::Images,
        }
    }

    fn kernel(&mut self, layer: &str, kernel: Kernel) -> Result<Arc<CompiledKernel>, PlanError> {
        let (built, key) = match kernel {
            Kernel::Shared(kernel) => return Ok(kernel),
            Kernel::New(built, key) => (*built, key),
        };
        let base = self.bases.next().expect("one base per new kernel");
        if let Some(observer) = &self.options.observer {
            let start = self.region.addresses().start + base;
            let published = PublishedCode {
                name: layer,
                addresses: start..start + built.code.bytes.len(),
                bytes: &built.code.bytes,
                entries: &built.code.entries,
                source: None,
            };
            let told = observer.register(&published);
            // Who asked for it would wait for what never comes.
            told.map_err(|error| PlanError::untold(layer, &error))?;
        }
        let kernel = Arc::new(CompiledKernel::new(built, &self.region, base));
        Ok(match self.options.kernels.as_deref().zip(key) {
            Some((store, key)) => store.keep(key, kernel),
            None => kernel,
        })
    }
}
