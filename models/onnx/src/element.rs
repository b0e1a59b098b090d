//! Element types of the format.

use skimjit_models::{Error, Result};

/// Element type of a tensor, by the format's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    /// The format's number.
    pub number: i32,
    /// The format's name.
    pub name: &'static str,
    /// How its values are held here.
    pub kind: Kind,
    /// Bytes of an element in raw data; 0 where it is not read.
    pub bytes: usize,
}

/// How values are held: floats are computed with, the others give shapes, indices and conditions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// `f32`, whatever the file has.
    Float,
    /// Integers.
    Int,
    /// 0 and 1.
    Bool,
    /// Not read.
    Other,
}

const fn element(number: i32, name: &'static str, kind: Kind, bytes: usize) -> Element {
    Element {
        number,
        name,
        kind,
        bytes,
    }
}

#[rustfmt::skip]
const ELEMENTS: [Element; 29] = [
    element(0, "undefined", Kind::Other, 0),
    element(1, "float", Kind::Float, 4),
    element(2, "uint8", Kind::Int, 1),
    element(3, "int8", Kind::Int, 1),
    element(4, "uint16", Kind::Int, 2),
    element(5, "int16", Kind::Int, 2),
    element(6, "int32", Kind::Int, 4),
    element(7, "int64", Kind::Int, 8),
    element(8, "string", Kind::Other, 0),
    element(9, "bool", Kind::Bool, 1),
    element(10, "float16", Kind::Float, 2),
    element(11, "double", Kind::Float, 8),
    element(12, "uint32", Kind::Int, 4),
    element(13, "uint64", Kind::Int, 8),
    element(14, "complex64", Kind::Other, 0),
    element(15, "complex128", Kind::Other, 0),
    element(16, "bfloat16", Kind::Float, 2),
    element(17, "float8e4m3fn", Kind::Other, 0),
    element(18, "float8e4m3fnuz", Kind::Other, 0),
    element(19, "float8e5m2", Kind::Other, 0),
    element(20, "float8e5m2fnuz", Kind::Other, 0),
    element(21, "uint4", Kind::Other, 0),
    element(22, "int4", Kind::Other, 0),
    element(23, "float4e2m1", Kind::Other, 0),
    element(24, "float8e8m0", Kind::Other, 0),
    element(25, "uint2", Kind::Other, 0),
    element(26, "int2", Kind::Other, 0),
    element(27, "float6e2m3", Kind::Other, 0),
    element(28, "float6e3m2", Kind::Other, 0),
];

pub(crate) const FLOAT: i32 = 1;
pub(crate) const INT64: i32 = 7;

impl Element {
    /// The type of a number of the format.
    pub fn of(number: i32) -> Result<Self> {
        let known = usize::try_from(number)
            .ok()
            .and_then(|index| ELEMENTS.get(index));
        known.copied().ok_or_else(|| {
            Error::new(format!("element type {number}"))
                .expected("one of the format's, 1 to 28")
                .hint("the file is damaged or of a newer format")
        })
    }
}
