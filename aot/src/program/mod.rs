//! A plan as a program of its own: code and read-only data that run a network, or single layers of
//! it, without this crate and without memory that is both written and executed.
//!
//! A program is position independent and has no writable data. Its code consists of
//!
//! * the kernels of each instruction set, as they were generated;
//! * for each instruction set, two routines (`tasks`: all tasks of a kernel; `moves`: copies and
//!   padded copies), a function per layer and one for the network, which call them (`network`);
//! * the public functions (`entry`), which check their arguments and choose the instruction set.
//!
//! Its data are packed weights, tables of tasks and tables of moves. All state is in the scratch memory
//! of the caller (`Scratch`), so one program serves any number of threads.

mod entry;
mod image;
mod layers;
mod moves;
mod network;
mod tasks;

pub use entry::{ERROR_ISA, ERROR_NULL, ERROR_SCRATCH};
pub use layers::identifier;

use image::Image;
use layers::Layers;
use skimjit_jit::with_assembler;
use skimjit_kernels::Planes;
use skimjit_kernels::jit::Isa;
use skimjit_runtime::PlanError;
use skimjit_runtime::plan::{Plan, Port, SLACK_ELEMS};

/// Most bytes of code and data together: addresses are 32-bit distances, and the sections of an
/// object may be linked with others.
pub const MOST_BYTES: usize = (1 << 31) - (64 << 20);
/// Alignment of scratch memory in bytes.
pub const SCRATCH_ALIGN: usize = 64;

/// Code and data, and what is where.
pub struct Program {
    /// Machine code; starts on a cache line.
    pub text: Vec<u8>,
    /// Weights and tables; start on a cache line.
    pub data: Vec<u8>,
    /// Named parts of both.
    pub symbols: Vec<Symbol>,
    /// Places in the code that need the distance to the data.
    pub references: Vec<Reference>,
    /// How the program is called.
    pub interface: Interface,
}

/// A part of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Code.
    Text,
    /// Read-only data.
    Data,
}

/// A named part of a section.
pub struct Symbol {
    /// Name, a C identifier.
    pub name: String,
    /// Where it is.
    pub section: Section,
    /// First byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// To be called from outside.
    pub public: bool,
}

/// Four bytes of code that hold the distance from their end to a byte of the data.
pub struct Reference {
    /// Offset in the code.
    pub at: usize,
    /// Offset in the data.
    pub to: usize,
}

/// How a program is called.
pub struct Interface {
    /// Prefix of all names.
    pub name: String,
    /// Instruction sets it has code for, smallest first.
    pub isas: Vec<Isa>,
    /// Images of one run.
    pub batch: usize,
    /// Bytes of scratch memory.
    pub scratch_bytes: usize,
    /// Inputs and outputs; `None` when there are only single layers.
    pub network: Option<[Vec<Port>; 2]>,
    /// Layers that can be called.
    pub layers: Vec<LayerInterface>,
}

/// A layer that can be called.
pub struct LayerInterface {
    /// Layer.
    pub layer: String,
    /// Name of its function.
    pub function: String,
    /// Variant for each instruction set.
    pub variants: Vec<&'static str>,
    /// Computes the whole batch, which lies in columns; otherwise one image.
    pub whole_batch: bool,
    /// Sources.
    pub sources: Vec<Access>,
    /// Result.
    pub result: Access,
}

/// An operand of a layer.
#[derive(Clone, Copy)]
pub struct Access {
    /// Layout.
    pub planes: Planes,
    /// Elements before plane 0 that may be read.
    pub before: usize,
    /// Elements from plane 0 on that may be read or are written.
    pub after: usize,
}

/// Where the parts of scratch memory are, in bytes, for one plan.
///
/// A header says who owns it ([`entry`]); then come the arenas of a session of one thread, a padded
/// copy, and the scratch memory of kernels.
#[derive(Clone, Copy)]
struct Scratch {
    image: usize,
    batch: usize,
    staged: usize,
    kernel: usize,
    end: usize,
}

/// Bytes of the header: the identity of the program, then the instruction set.
const HEADER_BYTES: usize = 64;
/// Where in the header the instruction set is.
const HEADER_ISA: i32 = 8;

impl Scratch {
    fn new(plan: &Plan, staged_elems: usize, whole: bool) -> Self {
        let mut end = HEADER_BYTES;
        let mut part = |elems: usize| {
            let start = end;
            end += ((elems + SLACK_ELEMS) * size_of::<f32>()).next_multiple_of(SCRATCH_ALIGN);
            start
        };
        let arena = |elems: usize| if whole { elems } else { 0 };
        Self {
            image: part(arena(plan.image_elems)),
            batch: part(arena(plan.batch_elems)),
            staged: part(staged_elems),
            kernel: part(plan.scratch_elems),
            end,
        }
    }
}

/// Makes a program of plans that differ in the instruction set only. `wanted`: these layers; `None`:
/// the whole network, and all its layers with kernels.
///
/// # Panics
/// When there is no plan, or two have the same instruction set.
pub fn program(
    name: &str,
    plans: &[&Plan],
    wanted: Option<&[String]>,
) -> Result<Program, PlanError> {
    let mut plans: Vec<&Plan> = plans.to_vec();
    plans.sort_by_key(|plan| plan.isa);
    assert!(plans.is_sorted_by(|a, b| a.isa < b.isa) && !plans.is_empty());
    let mut found = Vec::with_capacity(plans.len());
    for plan in &plans {
        found.push(Layers::of(plan, wanted)?);
    }
    let mut interface = layers::interface(name, &plans, &found, wanted.is_none())?;
    let mut image = Image::new();
    let mut networks = Vec::with_capacity(plans.len());
    for (plan, layers) in plans.iter().zip(&found) {
        let scratch = Scratch::new(plan, layers.staged_elems(), wanted.is_none());
        interface.scratch_bytes = interface.scratch_bytes.max(scratch.end);
        let whole = wanted.is_none();
        let parts = network::Parts {
            plan,
            layers,
            scratch,
            whole,
        };
        networks.push(with_assembler!(plan.isa, A => parts.add::<A>(&mut image, &interface))?);
    }
    entry::add(&mut image, &interface, &networks);
    image.finish(interface)
}

/// Number of an instruction set in headers and return values, as [`skimjit_jit::asm::detection`] counts.
pub fn isa_number(isa: Isa) -> u32 {
    match isa {
        Isa::Avx2 => 1,
        Isa::Avx512 => 2,
    }
}
