//! What keeps a plan from becoming a program.

use skimjit_runtime::plan::Work;
use skimjit_runtime::{Plan, PlanError, PlanErrorKind};
use std::fmt;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// An argument cannot be used.
    Usage(String),
    /// The plan cannot run by itself.
    Plan(PlanError),
    /// A file could not be written.
    File(skimjit_models::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Plan(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage(_) => None,
            Self::Plan(error) => Some(error),
            Self::File(error) => Some(error),
        }
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<skimjit_models::Error> for Error {
    fn from(error: skimjit_models::Error) -> Self {
        Self::File(error)
    }
}

/// Layers (and their types) without generated code, which a program of its own cannot run.
pub(crate) fn no_kernels(layers: &[(&str, &str)]) -> PlanError {
    let without: Vec<String> = layers
        .iter()
        .map(|(layer, kind)| format!("\"{layer}\" ({kind})"))
        .collect();
    let message = format!(
        "found layers without generated code, expected none in a network that runs by itself: {}; \
         name the layers to take (compile --layers), and compute these otherwise, or run the \
         network with skimjit",
        without.join(", ")
    );
    PlanError::new(PlanErrorKind::NoKernel, message)
}
/// A layer of a program that has no kernel.
pub(crate) fn no_kernel(plan: &Plan, layer: &str) -> PlanError {
    let kind = reference_steps(plan)
        .find(|(name, _)| *name == layer)
        .map(|(_, kind)| format!("a {kind} layer without a kernel"));
    let kernels = plan.segments.iter().flat_map(|segment| &segment.steps);
    let kernels = kernels.filter(|step| matches!(step.work, Work::Kernel(_)));
    let mut names: Vec<&str> = kernels.map(|step| &step.layer[..]).collect();
    names.dedup();
    let found = kind.unwrap_or_else(|| "no kernel of this name".to_owned());
    let message = format!("found {found}, expected one of: {}", names.join(", "));
    PlanError::new(PlanErrorKind::NoKernel, message).layer(layer)
}
/// A layer that has a kernel for one instruction set only.
pub(crate) fn one_isa_only(layer: &str) -> PlanError {
    let message = "found generated code for one instruction set only, expected it for all that \
                   were asked for; compile for one instruction set, or leave the layer out"
        .to_owned();
    PlanError::new(PlanErrorKind::NoKernel, message).layer(layer)
}
pub(crate) fn program_size(found: usize, most: usize) -> PlanError {
    let message = format!(
        "found {found} bytes of code and weights in one program, expected at most {most}; compile \
         for one instruction set, or a part of the layers"
    );
    PlanError::new(PlanErrorKind::TooLarge, message)
}

/// Layers that run on the reference, and their types.
fn reference_steps(plan: &Plan) -> impl Iterator<Item = (&str, &'static str)> {
    let steps = plan.segments.iter().flat_map(|segment| &segment.steps);
    steps.filter_map(|step| match &step.work {
        Work::Reference(reference) => Some((&step.layer[..], reference.op.name())),
        _ => None,
    })
}
