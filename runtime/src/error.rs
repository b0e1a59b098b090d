//! What can go wrong when planning and running.

use crate::jit::RegionError;
use crate::plan::Port;
use skimjit_host::memory::TooMuch;
use std::fmt;

/// What kind of thing keeps a graph from being planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// There is no memory, or none that may be executed.
    Memory,
    /// Something is larger than what is supported.
    TooLarge,
    /// A time is not in the tune cache, and may not be measured.
    Unmeasured,
    /// A layer has no kernel, where only kernels can be used.
    NoKernel,
    /// A file could not be written.
    Io,
    /// An option names what there is not.
    Asked,
}

/// Why a graph could not be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// What kind it is of.
    pub kind: PlanErrorKind,
    /// Layer.
    pub layer: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl PlanError {
    /// What is wrong, and what to do.
    pub fn new(kind: PlanErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            layer: None,
            message: message.into(),
        }
    }
    /// Adds the layer.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<String>) -> Self {
        self.layer = Some(layer.into());
        self
    }
    /// Code that could not be published.
    pub fn memory(error: RegionError) -> Self {
        let message = match error {
            RegionError::Protect { .. } => format!(
                "generated code cannot run: {error}; run skimjit without it, or elsewhere write the code to a \
                 file (compile --emit so --no-tune --no-verify works here too)"
            ),
            _ => format!("no memory for the generated code: {error}"),
        };
        Self::new(PlanErrorKind::Memory, message)
    }
    pub(crate) fn ports(found: usize) -> Self {
        let most = crate::plan::MOST_PORTS;
        let message = format!("found {found} outputs, expected at most {most}; keep fewer blobs");
        Self::new(PlanErrorKind::TooLarge, message)
    }
    pub(crate) fn size(blob: &str, shape: &skimjit_models::Shape) -> Self {
        let most = skimjit_kernels::limits::OPERAND_ELEMS;
        let message = format!(
            "blob \"{blob}\": found shape {shape}, expected at most {most} elements per image; use \
             smaller inputs"
        );
        Self::new(PlanErrorKind::TooLarge, message)
    }
    pub(crate) fn untold(layer: &str, error: &std::io::Error) -> Self {
        let message = format!(
            "tools cannot be told of its code: {error}; check the folder and the free space"
        );
        Self::new(PlanErrorKind::Io, message).layer(layer)
    }
    /// Work that may need more memory than there is.
    pub fn short(error: &TooMuch) -> Self {
        let message = format!(
            "the network or kernel {error}; raise the limit of this process (ulimit -v), or use a smaller one"
        );
        Self::new(PlanErrorKind::Memory, message)
    }
    /// A plan that needs `needed` bytes to run where there are `free`.
    pub fn too_large(needed: u64, free: u64) -> Self {
        let mib = |bytes: u64| bytes >> 20;
        let message = format!(
            "found a network that needs {} MiB of memory for one run, expected at most the {} MiB \
             that are free or allowed; use smaller inputs or a smaller batch",
            mib(needed),
            mib(free)
        );
        Self::new(PlanErrorKind::Memory, message)
    }
    /// The system gave less than it says is free: a limit of this process.
    pub(crate) fn no_memory(needed: u64) -> Self {
        let message = format!(
            "found no memory for one run of the network, expected {} MiB; raise this process's limit \
             (ulimit -v), or use smaller inputs or a smaller batch",
            needed.div_ceil(1 << 20)
        );
        Self::new(PlanErrorKind::Memory, message)
    }
    pub(crate) fn frozen(layer: &str, variants: &[&str], threads: usize) -> Self {
        let message = format!(
            "found no measurement of {} with {threads} threads on this machine, expected one in the \
             tune cache; compile once without freezing",
            variants.join(", ")
        );
        Self::new(PlanErrorKind::Unmeasured, message).layer(layer)
    }
    pub(crate) fn operands(layer: &str, found: usize) -> Self {
        let most = crate::plan::MOST_OPERANDS;
        let message = format!("found {found} bottoms, expected at most {most}");
        Self::new(PlanErrorKind::TooLarge, message).layer(layer)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = &self.layer {
            write!(f, "layer \"{layer}\": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for PlanError {}

/// Why a run was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// Wrong number of arrays: (found, expected).
    Arrays {
        /// Inputs.
        inputs: (usize, usize),
        /// Outputs.
        outputs: (usize, usize),
    },
    /// An input whose length fits no number of images.
    Input {
        /// Blob.
        name: String,
        /// Elements found.
        found: usize,
        /// Elements of one image (or batch).
        row: usize,
        /// What one row is.
        unit: &'static str,
        /// Shape in words.
        shape: String,
        /// How many images were found, where only complete batches of the network can be run.
        images: Option<usize>,
    },
    /// An input with an element that is infinite or not a number.
    NotFinite {
        /// Blob.
        name: String,
        /// Image of the input, and element of that image.
        at: (usize, usize),
        /// The element.
        found: String,
    },
    /// An output of the wrong length.
    Output {
        /// Blob.
        name: String,
        /// Elements found.
        found: usize,
        /// Elements expected.
        expected: usize,
    },
}

impl RunError {
    pub(crate) fn input(port: &Port, found: usize, coupled: bool) -> Self {
        let batch = port.shape.dim(0).max(1) as usize;
        let (row, unit) = if coupled {
            (
                port.shape.count(),
                "batch (a layer of this network combines the images of a batch)",
            )
        } else {
            (port.shape.count() / batch, "image")
        };
        let image = (port.shape.count() / batch).max(1);
        let images = (coupled && found > 0 && found.is_multiple_of(image)).then(|| found / image);
        let (name, shape) = (port.name.clone(), port.shape.to_string());
        Self::Input {
            name,
            found,
            row,
            unit,
            shape,
            images,
        }
    }
    /// The first element that is not finite; there is one.
    pub(crate) fn not_finite(port: &Port, input: &[f32]) -> Self {
        let at = input.iter().position(|x| !x.is_finite()).unwrap_or(0);
        Self::NotFinite {
            name: port.name.clone(),
            at: (at / port.elems.max(1), at % port.elems.max(1)),
            found: input.get(at).copied().unwrap_or(f32::NAN).to_string(),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrays { inputs, outputs } => write!(
                f,
                "found {} input and {} output arrays, expected {} and {}",
                inputs.0, outputs.0, inputs.1, outputs.1
            ),
            Self::Input {
                name,
                found,
                row,
                unit,
                shape,
                images,
            } => write!(
                f,
                "input \"{name}\": found {found} elements, expected the same number of images for \
                 every input and a multiple of {row} elements per {unit}; the network's shape is \
                 {shape}, {}",
                match images {
                    Some(images) =>
                        format!("{images} images need a plan of their own (--batch {images})"),
                    None => "other sizes need a plan of their own (--input-shape)".to_owned(),
                }
            ),
            Self::NotFinite {
                name,
                at: (image, element),
                found,
            } => write!(
                f,
                "input \"{name}\": found {found} at element {element} of image {image}, expected finite \
                 numbers; look at what made the input"
            ),
            Self::Output {
                name,
                found,
                expected,
            } => {
                write!(
                    f,
                    "output \"{name}\": found {found} elements, expected {expected}"
                )
            }
        }
    }
}

impl std::error::Error for RunError {}
