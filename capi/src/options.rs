//! How a network is loaded.

use super::failure::{Failure, Outcome, needed};
use super::memory::{Element, In, Text, growing};
use super::team::{Team, pool};
use engine::tune::{TuneCache, Tuning};
use engine::{CompileOptions, Keep, LoadOptions};
use skimjit_runtime::ThreadPool;
use skimjit_runtime::jit::Isa;
use std::sync::Arc;

/// The best instruction set of the machine.
pub const ISA_BEST: u32 = 0;
/// AVX2 and FMA.
pub const ISA_AVX2: u32 = 1;
/// AVX-512 F, BW, DQ and VL.
pub const ISA_AVX512: u32 = 2;

/// Kernels are chosen by estimates: the same ones on every machine.
pub const TUNING_NONE: u32 = 0;
/// Kernels are chosen by timing them, which takes some seconds; times that are in the cache are used.
pub const TUNING_MEASURE: u32 = 1;
/// Kernels are chosen by the times in the cache; a missing one is an error.
pub const TUNING_FROZEN: u32 = 2;

/// Most axes of a shape.
pub const MAX_RANK: usize = 8;

/// How a network is loaded. Set `size` to sizeof(skimjit_options) and leave 0 what should be as usual.
/// Nothing of it is needed after the call. No environment variable changes what it says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    /// sizeof(skimjit_options).
    pub size: usize,
    /// Threads of a run, the caller included; 0: one per core. Not used with `team`.
    pub threads: u32,
    /// SKIMJIT_ISA_...: the instruction set. One that the machine lacks is an error.
    pub isa: u32,
    /// Images that are computed together; 0: as many as the network says.
    pub batch: u32,
    /// SKIMJIT_TUNING_...: how kernels are chosen.
    pub tuning: u32,
    /// File that measured times are read from and added to; null: they are forgotten.
    pub tune_cache: Text,
    /// File of the topology, for a .caffemodel without one or to replace it; null: none.
    pub prototxt: Text,
    /// The topology itself, instead of a file; null: none.
    pub prototxt_text: Text,
    /// Shape of the only input, where the topology does not give it or another one is wanted; null:
    /// none.
    pub input_shape: In<u32>,
    /// Number of dims in `input_shape`, N, C, H, W for pictures.
    pub input_rank: usize,
    /// Names of blobs to get beside the network's outputs; they become the last outputs.
    pub keep: In<Text>,
    /// Number of names in `keep`.
    pub keep_count: usize,
    /// Threads that compute; null: a team of the model's own.
    pub team: In<Team>,
    /// Not 0: layers are read without the fields that are unknown, which may change what they compute.
    /// They are warnings then; otherwise they are an error.
    pub ignore_unknown_fields: u32,
    /// Not 0: in-place layers change every blob that Caffe keeps in the same memory, as there. Otherwise
    /// each blob keeps its own value, and a warning tells where that makes a difference.
    pub caffe_in_place: u32,
    /// Bytes of memory that what is in the files, and a session of the model, may take; 0: what is free.
    pub memory_limit: u64,
    /// Shapes of inputs by name, where the network has several; null: none.
    pub input_shapes: In<Shape>,
    /// Number of shapes in `input_shapes`.
    pub input_shape_count: usize,
}

growing!(Options, "skimjit_options", 88);

/// A shape for an input.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shape {
    /// Name of the input; null: the only one. In skimjit_options, a name.
    pub name: Text,
    /// Dims, N, C, H, W for pictures.
    pub dims: In<u32>,
    /// Number of dims.
    pub rank: usize,
}

impl Element for Shape {}

impl Options {
    pub fn load_options(&self) -> Outcome<LoadOptions> {
        Ok(LoadOptions {
            prototxt: self.prototxt.path().map(Into::into),
            input_shape: match self.input_shape.is_null() {
                true => None,
                false => Some(shape("input_shape", self.input_shape, self.input_rank)?),
            },
            input_shapes: self.named_shapes()?,
            ignore_unknown_fields: self.ignore_unknown_fields != 0,
            caffe_in_place: self.caffe_in_place != 0,
            ..LoadOptions::default()
        })
    }

    fn named_shapes(&self) -> Outcome<Vec<(String, skimjit_models::Shape)>> {
        let given = self.input_shapes;
        let given = given.array("input_shapes", self.input_shape_count)?;
        let named = |one: &Shape| {
            let name = needed("input_shapes.name", one.name.get("input_shapes.name")?)?;
            let dims = shape("input_shapes.dims", one.dims, one.rank)?;
            Ok((name.to_owned(), dims))
        };
        given.iter().map(named).collect()
    }

    pub fn compile_options(&self) -> Outcome<CompileOptions> {
        let keep = self.keep.array("keep", self.keep_count)?;
        let names = keep.iter().map(|name| {
            let name = name.get("keep")?;
            Ok(needed("keep", name)?.to_owned())
        });
        Ok(CompileOptions {
            batch: (self.batch > 0).then_some(self.batch),
            isa: isa(self.isa)?,
            keep: Keep::Named(names.collect::<Outcome<Vec<String>>>()?),
            tuning: self.tuning()?,
            ..CompileOptions::default()
        })
    }

    fn tuning(&self) -> Outcome<Option<Tuning>> {
        let frozen = match self.tuning {
            TUNING_NONE => return Ok(None),
            TUNING_MEASURE => false,
            TUNING_FROZEN => true,
            found => {
                return Err(Failure::argument(format!(
                    "tuning: found {found}, expected SKIMJIT_TUNING_NONE, _MEASURE or _FROZEN"
                )));
            }
        };
        let cache = match self.tune_cache.path() {
            // A file that cannot be used is replaced when the cache is saved.
            Some(path) => TuneCache::open(path)?.0,
            None => TuneCache::in_memory(),
        };
        Ok(Some(Tuning {
            frozen,
            ..Tuning::with(cache)
        }))
    }

    /// `None`: what is free.
    pub fn memory_limit(&self) -> Option<u64> {
        (self.memory_limit > 0).then_some(self.memory_limit)
    }

    pub fn pool(&self) -> Outcome<Arc<ThreadPool>> {
        match self.team.get() {
            Some(team) => Ok(team.pool.clone()),
            None => pool(self.threads),
        }
    }
}

/// An instruction set by its number.
pub fn isa(number: u32) -> Outcome<Option<Isa>> {
    match number {
        ISA_BEST => Ok(None),
        ISA_AVX2 => Ok(Some(Isa::Avx2)),
        ISA_AVX512 => Ok(Some(Isa::Avx512)),
        found => Err(Failure::argument(format!(
            "isa: found {found}, expected SKIMJIT_ISA_BEST, _AVX2 or _AVX512"
        ))),
    }
}

/// Its number.
pub fn isa_number(isa: Isa) -> u32 {
    match isa {
        Isa::Avx2 => ISA_AVX2,
        Isa::Avx512 => ISA_AVX512,
    }
}

/// A shape from its dims.
pub fn shape(what: &str, dims: In<u32>, rank: usize) -> Outcome<skimjit_models::Shape> {
    if rank > MAX_RANK {
        return Err(Failure::argument(format!(
            "{what}: found {rank} dims, expected at most {MAX_RANK}"
        )));
    }
    let shape = skimjit_models::Shape::new(dims.array(what, rank)?);
    Ok(shape.map_err(|error| engine::Error::from(error.field(what)))?)
}

const _: () = assert!(MAX_RANK == skimjit_models::Shape::MAX_RANK);
