//! Datasets of numbers, of any size that the file's own size and the budget of memory allow.
//!
//! The library allocates what a file claims: the size of an element, the dims of a chunk, the extent of what
//! was never written. All of these are looked at before it is asked for values.

use super::unreadable;
use hdf5_pure::{Dataset, Datatype, Layout};
use skimjit_host::memory;
use skimjit_models::{Error, Result, Shape};

/// Largest number, in bytes: that of `long double`.
const MAX_ELEMENT_BYTES: u32 = 16;

/// What a dataset of numbers holds.
pub struct Numbers {
    /// Extents.
    pub dims: Vec<u32>,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

/// Reads a dataset of floats or whole numbers, which takes its bytes from `memory`.
pub fn read_numbers(dataset: &Dataset, memory: &mut u64) -> Result<Numbers> {
    check_numbers(dataset)?;
    let dims = check_size(dataset, memory)?;
    let shape = Shape::new(&*dims)?;
    let values = read_values(dataset)?;
    if values.len() != shape.count() {
        return Err(Error::new(format!("{} values", values.len()))
            .expected(format!("{}, as its shape {shape} says", shape.count())));
    }
    Ok(Numbers { dims, values })
}

/// Checks what reading a dataset takes, before anything is read, and takes it from `memory`.
pub(super) fn check_size(dataset: &Dataset, memory: &mut u64) -> Result<Vec<u32>> {
    let dims = dataset.shape().map_err(|error| unreadable(&error))?;
    let small: Option<Vec<u32>> = dims.iter().map(|&dim| u32::try_from(dim).ok()).collect();
    let small = small.ok_or_else(|| Error::new(format!("dims {dims:?}")).expected("32 bits"))?;
    let count = product(&dims);
    let element = dataset.element_size().map_err(|error| unreadable(&error))?;
    // As stored, as the widest number, and as the floats that are kept.
    let each = element + (size_of::<f64>() + size_of::<f32>()) as u64;
    let all = each.saturating_mul(count);
    let chunk = chunk_elements(dataset)?.saturating_mul(element);
    let needed = all.saturating_add(chunk);
    *memory = memory.checked_sub(needed).ok_or_else(|| {
        Error::new(format!(
            "a dataset of dims {dims:?}, {element} bytes an element"
        ))
        .expected("no more than a file of this size can hold")
        .hint("the file is damaged")
    })?;
    memory::check(needed)?;
    Ok(small)
}

/// Elements of one chunk, which is unpacked as a whole; 0 without chunks.
fn chunk_elements(dataset: &Dataset) -> Result<u64> {
    let layout = dataset.layout().map_err(|error| unreadable(&error))?;
    let Layout::Chunked { chunk_shape, .. } = layout else {
        return Ok(0);
    };
    Ok(product(&chunk_shape))
}

fn product(dims: &[u64]) -> u64 {
    dims.iter()
        .fold(1, |all: u64, &dim| all.saturating_mul(dim))
}

/// Refuses what holds no numbers.
pub(super) fn check_numbers(dataset: &Dataset) -> Result<()> {
    let kind = dataset.datatype().map_err(|error| unreadable(&error))?;
    let bytes = kind.type_size();
    let numbers = matches!(
        kind,
        Datatype::FixedPoint { .. } | Datatype::FloatingPoint { .. } | Datatype::Enumeration { .. }
    );
    if numbers && bytes <= MAX_ELEMENT_BYTES {
        return Ok(());
    }
    let found = match numbers {
        true => format!("numbers of {bytes} bytes each"),
        false => "a dataset without numbers".to_owned(),
    };
    Err(Error::new(found).expected("numbers of 1 to 8 bytes each"))
}

fn read_values(dataset: &Dataset) -> Result<Vec<f32>> {
    let narrow = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
    let whole = |values: Vec<i64>| values.into_iter().map(|x| x as f32).collect();
    // Labels are often whole numbers.
    let values = dataset.read_f32().or_else(|first| {
        let doubles = dataset.read_f64().map(narrow);
        let all = doubles.or_else(|_| dataset.read_i64().map(whole));
        all.map_err(|_| first)
    });
    values.map_err(|error| unreadable(&error))
}
