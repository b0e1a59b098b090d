//! Steps over buffers that have no places yet.

use super::kernel::Kernel;
use crate::buffers::{BufferId, Buffers, Home};
use crate::plan::Work;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::stage::Staging;
use skimjit_kernels::{CopyProblem, Extent, Planes, Problem, Values, Weights, registry};
use skimjit_models::{ElementType, Pattern};
use std::collections::HashMap;

/// Work of a step before its code is published.
pub(super) enum DraftWork {
    Kernel(Kernel),
    /// A padded copy by generated code.
    Stage(Staging, Kernel),
    /// In so many tasks of equal cost.
    Other(Work, usize),
}

/// What a step is made for.
#[derive(Clone, Copy, Default)]
pub(super) struct Subject<'a> {
    pub layer: &'a str,
    pub node: Option<usize>,
}

/// A step before its buffers are placed.
pub(super) struct Draft<'a> {
    pub subject: Subject<'a>,
    pub label: &'static str,
    pub work: DraftWork,
    pub src: Vec<BufferId>,
    pub dst: BufferId,
    pub segment: usize,
}

/// See the module.
pub(super) struct Drafts<'a> {
    isa: Isa,
    pub buffers: Buffers,
    pub steps: Vec<Draft<'a>>,
    /// Segment steps are appended to.
    pub segment: usize,
    /// Padded copies that kernels of a segment read, by what is copied.
    copies: HashMap<(BufferId, Staging, usize), BufferId>,
}

impl<'a> Drafts<'a> {
    /// None yet.
    pub fn new(isa: Isa) -> Self {
        Self {
            isa,
            buffers: Buffers::default(),
            steps: Vec::new(),
            segment: 0,
            copies: HashMap::new(),
        }
    }

    /// Appends a step.
    pub fn push(
        &mut self,
        subject: Subject<'a>,
        label: &'static str,
        work: DraftWork,
        src: Vec<BufferId>,
        dst: BufferId,
    ) {
        let step = self.steps.len();
        let touched = src.iter().chain([&dst]).enumerate();
        for (index, &buffer) in touched {
            let extent = match &work {
                DraftWork::Other(..) => Extent {
                    before: 0,
                    after: self.buffers.planes(buffer).elems(),
                },
                DraftWork::Kernel(kernel) | DraftWork::Stage(_, kernel) => {
                    let footprint = kernel.footprint();
                    if index < src.len() {
                        footprint.src
                    } else {
                        footprint.dst
                    }
                }
            };
            self.buffers.touch(buffer, step, extent);
        }
        // A second operand lies as the result does.
        if let (Some(&residual), DraftWork::Kernel(kernel)) = (src.get(1), &work) {
            self.buffers.touch(residual, step, kernel.footprint().dst);
        }
        self.steps.push(Draft {
            subject,
            label,
            work,
            src,
            dst,
            segment: self.segment,
        });
    }

    /// Appends a kernel, with the staged copy it wants.
    pub fn push_kernel(
        &mut self,
        subject: Subject<'a>,
        label: &'static str,
        kernel: Kernel,
        mut src: Vec<BufferId>,
        dst: BufferId,
    ) {
        if let Some(&staging) = kernel.staging() {
            let copy = self.padded_copy(subject, staging, src[0], dst);
            // A program ahead of time makes the copy behind the clearing of the result's gaps.
            let kernel_step = self.steps.len();
            self.buffers.touch(src[0], kernel_step, Extent::default());
            src[0] = copy;
        }
        self.push(subject, label, DraftWork::Kernel(kernel), src, dst);
    }

    /// The copy of `of` for a kernel that writes `dst`: the one that another kernel reads already, if it is the same.
    fn padded_copy(
        &mut self,
        subject: Subject<'a>,
        staging: Staging,
        of: BufferId,
        dst: BufferId,
    ) -> BufferId {
        let key = (of, staging, self.segment);
        if let Some(&copy) = self.copies.get(&key) {
            return copy;
        }
        let home = match self.buffers.home(dst) {
            Home::Whole => Home::Whole,
            _ => Home::Image,
        };
        let planes = Planes::compact(staging.elems() as u32, 1, 1);
        let copy = self.buffers.add(planes, home);
        let work = self.copying(staging);
        self.push(subject, "stage", work, vec![of], copy);
        self.copies.insert(key, copy);
        copy
    }

    /// How a copy is made.
    fn copying(&self, staging: Staging) -> DraftWork {
        let problem = Problem::Copy(CopyProblem { staging });
        let nothing = Pattern::from_weights(0, 0, &[]);
        let (candidates, _) = registry::candidates(&problem, &nothing, self.isa);
        let weights = Weights {
            values: Values::All(&[]),
            pattern: &nothing,
            bias: &[],
            element: ElementType::F32,
        };
        let mut built = candidates
            .iter()
            .filter_map(|candidate| candidate.variant.build(&problem, weights, self.isa).ok());
        match built.next() {
            Some(built) => DraftWork::Stage(staging, Kernel::New(Box::new(built), None)),
            None => DraftWork::Other(Work::Stage(staging, None), staging.src.c as usize),
        }
    }

    /// Every buffer is in use all the time, so that none shares its memory.
    pub fn keep_apart(&mut self) {
        let last = self.steps.len() - 1;
        for draft in &self.steps {
            for &buffer in draft.src.iter().chain([&draft.dst]) {
                self.buffers.touch(buffer, 0, Extent::default());
                self.buffers.touch(buffer, last, Extent::default());
            }
        }
    }

    /// The kernels, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.steps.iter().filter_map(Draft::kernel)
    }
}

impl Draft<'_> {
    pub fn kernel(&self) -> Option<&Kernel> {
        match &self.work {
            DraftWork::Kernel(kernel) | DraftWork::Stage(_, kernel) => Some(kernel),
            DraftWork::Other(..) => None,
        }
    }

    /// Costs of tasks `0..=i`.
    pub fn cumulated(&self) -> Vec<f32> {
        let mut sum = 0.0;
        let mut add = |cost| {
            sum += cost;
            sum
        };
        match &self.work {
            DraftWork::Kernel(kernel) | DraftWork::Stage(_, kernel) => {
                kernel.tasks().iter().map(|t| add(t.cost)).collect()
            }
            DraftWork::Other(_, tasks) => (0..(*tasks).max(1)).map(|_| add(1.0)).collect(),
        }
    }
}
