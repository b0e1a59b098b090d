//! States of solvers: `iter`, `learned_net`, `current_step`, and `/history/<number>`.

use super::{check_end, check_numbers, check_size, checked, read_blob, unreadable};
use crate::limits::{BASE_MEMORY, HDF5_MEMORY, MAX_HDF5_HISTORY, MAX_HDF5_TEXT};
use crate::proto::{BlobProto, SolverState};
use hdf5_pure::{DType, Dataset, Datatype, File, Group, VlenStringReadOptions};
use skimjit_host::memory;
use skimjit_models::{Error, Result};

/// Reads the contents of a `.solverstate.h5` file.
pub(crate) fn parse_state(bytes: Vec<u8>) -> Result<SolverState> {
    checked(|| parse(bytes))
}

fn parse(bytes: Vec<u8>) -> Result<SolverState> {
    let mut memory = BASE_MEMORY + bytes.len() as u64 * HDF5_MEMORY;
    memory::check(bytes.len() as u64)?;
    check_end(&bytes, bytes.len() as u64)?;
    let file = File::from_bytes(bytes).map_err(|error| unreadable(&error))?;
    let root = file.root();
    let number = |name: &str| number(&root, name).map_err(|error| error.field(name));
    let text = text(&root, "learned_net").map_err(|error| error.field("learned_net"))?;
    Ok(SolverState {
        iter: Some(number("iter")?),
        learned_net: Some(text),
        current_step: Some(number("current_step")?),
        history: history(&root, &mut memory).map_err(|error| error.field("history"))?,
        ..SolverState::default()
    })
}

fn dataset(root: &Group, name: &str) -> Result<Dataset> {
    root.dataset(name).map_err(|_| {
        Error::new("nothing")
            .expected("the state of a solver (.solverstate.h5)")
            .hint("files of weights (.caffemodel.h5) go with --weights")
    })
}

fn number(root: &Group, name: &str) -> Result<i32> {
    let set = dataset(root, name)?;
    check_numbers(&set)?;
    single(&set)?;
    let values = set.read_i32().map_err(|error| unreadable(&error))?;
    let value = values.first().copied();
    value.ok_or_else(|| Error::new("no value").expected("a whole number"))
}

/// Refuses more than one element.
fn single(set: &Dataset) -> Result<()> {
    let dims = set.shape().map_err(|error| unreadable(&error))?;
    if dims.iter().any(|&dim| dim != 1) {
        return Err(Error::new(format!("dims {dims:?}")).expected("one element"));
    }
    // Of text too, the size of an element and of a chunk are claims.
    check_size(set, &mut BASE_MEMORY.clone()).map(drop)
}

fn text(root: &Group, name: &str) -> Result<String> {
    let set = dataset(root, name)?;
    single(&set)?;
    let values = match set.datatype().map_err(|error| unreadable(&error))? {
        Datatype::String { size, .. } if u64::from(size) <= MAX_HDF5_TEXT => set.read_string(),
        _ if set
            .dtype()
            .is_ok_and(|kind| matches!(kind, DType::VariableLengthString)) =>
        {
            let limits = VlenStringReadOptions::new()
                .with_max_elements(1)
                .with_max_payload_bytes(MAX_HDF5_TEXT as usize);
            set.read_vlen_strings(limits)
        }
        _ => {
            return Err(
                Error::new("no text").expected(format!("a path of at most {MAX_HDF5_TEXT} bytes"))
            );
        }
    };
    let values = values.map_err(|error| unreadable(&error))?;
    let value = values.into_iter().next().unwrap_or_default();
    // C strings end at their first zero byte.
    Ok(value.split('\0').next().unwrap_or_default().to_owned())
}

/// The datasets "0", "1", …, all of them.
fn history(root: &Group, memory: &mut u64) -> Result<Vec<BlobProto>> {
    let group = root
        .group("history")
        .map_err(|_| Error::new("no group \"history\"").expected("the state of a solver"))?;
    let count = group.datasets().map_err(|error| unreadable(&error))?.len();
    if count > MAX_HDF5_HISTORY {
        return Err(
            Error::new(format!("{count} arrays")).expected(format!("at most {MAX_HDF5_HISTORY}"))
        );
    }
    let read = |number: usize| {
        let name = number.to_string();
        let set = group.dataset(&name).map_err(|_| {
            Error::new(format!("no array {name:?}"))
                .expected(format!("arrays \"0\" to \"{}\"", count - 1))
        })?;
        read_blob(&set, memory)
    };
    (0..count).map(read).collect()
}
