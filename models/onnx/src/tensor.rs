//! Tensors of a file: in the message, beside it, or by their non-zeros.

use crate::constant::{Constant, Int, shape};
use crate::element::{Element, Kind};
use crate::external::Folder;
use crate::proto::{SparseTensorProto, TensorProto};
use half::{bf16, f16};
use prost::bytes::Bytes;
use skimjit_host::memory;
use skimjit_models::{Elements, Error, Places, Result, Shape, Weight};

const EXTERNAL: i32 = 1;

/// Decodes a tensor.
pub(crate) fn decode(tensor: &TensorProto, folder: &Folder) -> Result<Constant> {
    let element = readable(tensor)?;
    let dims = dims(&tensor.dims)?;
    let count = count(&dims)?;
    if tensor.segment.is_some() {
        return Err(Error::new("a part of a tensor")
            .field("segment")
            .expected("whole tensors"));
    }
    let raw = match tensor.data_location() {
        0 => tensor.raw_data.clone(),
        EXTERNAL => Some(folder.read(&tensor.external_data, count as u64 * element.bytes as u64)?),
        other => {
            return Err(Error::new(other.to_string())
                .field("data_location")
                .expected("0 or 1"));
        }
    };
    memory::check(4 * count as u64)?;
    match raw {
        Some(raw) => from_raw(element, dims, count, &raw, tensor),
        None => from_typed(element, dims, count, tensor),
    }
}

/// Refuses tensors of types that are not read.
fn readable(tensor: &TensorProto) -> Result<Element> {
    let element = Element::of(tensor.data_type())?;
    match element.kind {
        Kind::Other => Err(Error::new(format!("elements of type {}", element.name))
            .field("data_type")
            .expected("float, float16, bfloat16, double, bool or integers of 8 to 64 bits")),
        _ => Ok(element),
    }
}

/// Dims of a message.
pub(crate) fn dims(dims: &[i64]) -> Result<Vec<usize>> {
    if dims.len() > Shape::MAX_RANK {
        return Err(Error::new(format!("{} axes", dims.len()))
            .field("dims")
            .expected(format!("at most {}", Shape::MAX_RANK)));
    }
    let dim = |&dim: &i64| {
        u32::try_from(dim).map(|dim| dim as usize).map_err(|_| {
            Error::new(dim.to_string())
                .field("dims")
                .expected("sizes of 0 to 2^32 - 1")
        })
    };
    dims.iter().map(dim).collect()
}

/// Elements of so many dims.
fn count(dims: &[usize]) -> Result<usize> {
    let product = dims
        .iter()
        .try_fold(1u64, |count, &dim| count.checked_mul(dim as u64));
    match product {
        Some(count @ 0..=Shape::MAX_COUNT) => Ok(count as usize),
        _ => Err(Error::new(format!("dims {dims:?}"))
            .field("dims")
            .expected(format!("at most {} elements", Shape::MAX_COUNT))),
    }
}

fn from_raw(
    element: Element,
    dims: Vec<usize>,
    count: usize,
    raw: &Bytes,
    tensor: &TensorProto,
) -> Result<Constant> {
    if typed_counts(tensor).iter().any(|(_, count)| *count > 0) {
        return Err(Error::new("elements twice, raw and typed").expected("one of both"));
    }
    if raw.len() != count * element.bytes {
        return Err(Error::new(format!("{} bytes of raw data", raw.len()))
            .field("raw_data")
            .expected(format!(
                "{}, {count} elements of type {}",
                count * element.bytes,
                element.name
            )));
    }
    let pieces = raw.chunks_exact(element.bytes);
    let of = |piece: &[u8], size: usize| -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&piece[..size]);
        bytes
    };
    let bits = move |piece: &[u8]| u64::from_le_bytes(of(piece, element.bytes));
    match element.kind {
        Kind::Float => {
            let floats: Result<_> = pieces.map(|piece| float(element, bits(piece))).collect();
            Constant::floats(dims, floats?)
        }
        _ => {
            let ints: Result<_> = pieces.map(|piece| int(element, bits(piece))).collect();
            Ok(Constant::ints(element.kind, dims, ints?))
        }
    }
}

/// A float of its bits.
fn float(element: Element, bits: u64) -> Result<f32> {
    match element.name {
        "float" => Ok(f32::from_bits(bits as u32)),
        "float16" => Ok(f16::from_bits(bits as u16).to_f32()),
        "bfloat16" => Ok(bf16::from_bits(bits as u16).to_f32()),
        _ => narrowed(f64::from_bits(bits)),
    }
}

/// An integer of its bits.
fn int(element: Element, bits: u64) -> Result<Int> {
    let value = match element.name {
        "int8" => i64::from(bits as u8 as i8),
        "int16" => i64::from(bits as u16 as i16),
        "int32" => i64::from(bits as u32 as i32),
        "int64" => bits as i64,
        "bool" => i64::from(bits != 0),
        _ => i64::try_from(bits)
            .map_err(|_| Error::new(bits.to_string()).expected("integers of at most 63 bits"))?,
    };
    Ok(Int::known(value))
}

/// The typed lists of a message, and how many elements each has.
fn typed_counts(tensor: &TensorProto) -> [(&'static str, usize); 6] {
    [
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
        ("string_data", tensor.string_data.len()),
    ]
}

fn from_typed(
    element: Element,
    dims: Vec<usize>,
    count: usize,
    tensor: &TensorProto,
) -> Result<Constant> {
    let list = match element.name {
        "float" => "float_data",
        "double" => "double_data",
        "int64" => "int64_data",
        "uint32" | "uint64" => "uint64_data",
        _ => "int32_data",
    };
    for (name, found) in typed_counts(tensor) {
        let expected = if name == list { count } else { 0 };
        if found != expected {
            return Err(Error::new(format!("{found} elements"))
                .field(name)
                .expected(format!(
                    "{expected}, for {count} elements of type {}",
                    element.name
                )));
        }
    }
    let narrow = || tensor.int32_data.iter().map(|&bits| u64::from(bits as u32));
    check_range(element, tensor)?;
    let bits = || -> Box<dyn Iterator<Item = u64> + '_> {
        match list {
            "int64_data" => Box::new(tensor.int64_data.iter().map(|&value| value as u64)),
            "uint64_data" => Box::new(tensor.uint64_data.iter().copied()),
            _ => Box::new(narrow()),
        }
    };
    match (element.name, element.kind) {
        ("float", _) => Constant::floats(dims, tensor.float_data.clone()),
        ("double", _) => {
            let data: Result<_> = tensor
                .double_data
                .iter()
                .map(|&value| narrowed(value))
                .collect();
            Constant::floats(dims, data?)
        }
        (_, Kind::Float) => {
            let floats: Result<_> = narrow().map(|bits| float(element, bits)).collect();
            Constant::floats(dims, floats?)
        }
        _ => {
            let ints: Result<_> = bits().map(|bits| int(element, bits)).collect();
            Ok(Constant::ints(element.kind, dims, ints?))
        }
    }
}

/// Refuses typed elements that are no numbers of their type: a list of integers also holds what has fewer bits.
fn check_range(element: Element, tensor: &TensorProto) -> Result<()> {
    let (least, most): (i64, i64) = match element.name {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "uint16" | "float16" | "bfloat16" => (0, u16::MAX.into()),
        "bool" => (0, 1),
        "uint32" => (0, u32::MAX.into()),
        _ => return Ok(()),
    };
    let narrow = tensor.int32_data.iter().map(|&value| i64::from(value));
    let wide = tensor
        .uint64_data
        .iter()
        .map(|&value| i64::try_from(value).unwrap_or(i64::MAX));
    match narrow
        .chain(wide)
        .find(|value| !(least..=most).contains(value))
    {
        None => Ok(()),
        Some(value) => Err(Error::new(value.to_string()).expected(format!(
            "{least} to {most}, elements of type {}",
            element.name
        ))),
    }
}

/// A double as a single float; what is too large is refused, not made an infinity.
fn narrowed(value: f64) -> Result<f32> {
    let single = value as f32;
    match single.is_finite() == value.is_finite() {
        true => Ok(single),
        false => Err(Error::new(value.to_string()).expected("numbers that single floats hold")),
    }
}

/// Decodes a tensor that is stored by its non-zeros: their places are kept.
pub(crate) fn decode_sparse(sparse: &SparseTensorProto, folder: &Folder) -> Result<Constant> {
    let missing = |field| Error::new("nothing").field(field).expected("a tensor");
    let values = sparse.values.as_ref().ok_or_else(|| missing("values"))?;
    let indices = sparse.indices.as_ref().ok_or_else(|| missing("indices"))?;
    let dims = dims(&sparse.dims)?;
    let shape = shape(&dims).map_err(|error| error.field("dims"))?;
    let in_field = |field: &'static str| move |error: Error| error.field(field);
    let stored = decode(values, folder).map_err(in_field("values"))?;
    let found = decode(indices, folder).map_err(in_field("indices"))?;
    if stored.dims.len() != 1 || stored.kind() != Kind::Float {
        return Err(Error::new(format!("values of {} axes", stored.dims.len()))
            .field("values")
            .expected("a list of floats"));
    }
    let places = places(&found, stored.dims[0], &shape)?;
    let elements = Elements {
        places: Places::collect(shape.matrix(), places),
        values: stored.to_floats(1),
    };
    Ok(Constant::weight(Weight::sparse(shape, elements)))
}

/// Row-major places of the stored elements, in order and each once.
fn places(indices: &Constant, count: usize, shape: &Shape) -> Result<Vec<usize>> {
    let wrong = |found: String, expected: String| {
        Err(Error::new(found).field("indices").expected(expected))
    };
    let axes = match *indices.dims {
        [rows] if rows == count => 1,
        [rows, axes] if rows == count && axes == shape.rank() => axes,
        _ => {
            let found = format!("indices of dims {:?}", indices.dims);
            let both = format!(
                "[{count}] (places) or [{count}, {}] (coordinates)",
                shape.rank()
            );
            return wrong(found, both);
        }
    };
    let Some(ints) = indices.as_ints() else {
        return wrong("floats".to_owned(), "integers".to_owned());
    };
    let linear = indices.dims.len() == 1;
    let mut places = Vec::with_capacity(count);
    for row in ints.chunks_exact(axes.max(1)) {
        let mut place = 0;
        for (axis, index) in row.iter().enumerate() {
            let size = if linear {
                shape.count()
            } else {
                shape.dim(axis) as usize
            };
            let inside = usize::try_from(index.rest)
                .ok()
                .filter(|&index| index < size);
            let Some(index) = inside else {
                return wrong(index.rest.to_string(), format!("0 to {}", size - 1));
            };
            place = place * if linear { 1 } else { size } + index;
        }
        if places.last().is_some_and(|&last| last >= place) {
            let found = format!("place {place} behind place {}", places[places.len() - 1]);
            return wrong(found, "places in order, each once".to_owned());
        }
        places.push(place);
    }
    Ok(places)
}
