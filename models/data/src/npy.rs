//! NumPy `.npy` files as tensors: network inputs, reference outputs, mean images.
//!
//! The format is one line of Python literal and raw elements; it is read here directly so that a
//! damaged header can neither allocate nor recurse. Element types: bool, (unsigned) integers of 1
//! to 8 bytes and floats of 2, 4 and 8 bytes, either byte order, C or Fortran order. Everything
//! becomes `f32`, rounded to nearest.

use skimjit_host::{memory, whole};
use skimjit_models::{Error, Result, Shape, Tensor};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 33;
/// Longest header that is read, in bytes; NumPy itself refuses more than 10,000.
pub const MAX_HEADER_BYTES: usize = 1 << 16;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The header is padded so that elements start at a multiple of this.
const ALIGNMENT: usize = 64;

/// Reads a file; errors name it.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    let unreadable = |error: io::Error| Error::new(error.to_string()).file(path);
    let bytes = memory::read_file(path, MAX_FILE_BYTES).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::new("a larger file")
            .file(path)
            .expected(format!("at most {MAX_FILE_BYTES} bytes")));
    }
    parse_npy(&bytes).map_err(|error| error.file(path))
}

/// Reads the shape of a file's array, and nothing else.
pub fn read_npy_shape(path: &Path) -> Result<Shape> {
    let unreadable = |error: io::Error| Error::new(error.to_string()).file(path);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    let head = MAGIC.len() + 6 + MAX_HEADER_BYTES;
    file.take(head as u64)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let shape = split_header(&bytes)
        .and_then(|(header, _)| Header::parse(header))
        .and_then(|header| Shape::new(header.dims).map_err(|error| error.field("shape")));
    shape.map_err(|error| error.file(path))
}

/// Reads the contents of a file.
pub fn parse_npy(bytes: &[u8]) -> Result<Tensor> {
    let (header, data) = split_header(bytes)?;
    let header = Header::parse(header)?;
    let shape = Shape::new(header.dims).map_err(|error| error.field("shape"))?;
    let needed = shape.count() as u64 * header.element.bytes as u64;
    if needed != data.len() as u64 {
        return Err(Error::new(format!("{} bytes of elements", data.len()))
            .expected(format!("{needed} bytes for shape {shape}")));
    }
    memory::check(2 * size_of::<f32>() as u64 * shape.count() as u64)?;
    let elements = header.element.convert(data);
    let elements = if header.fortran {
        to_c_order(&shape, &elements)
    } else {
        elements
    };
    Ok(Tensor::new(shape, elements))
}

/// Writes a tensor as little-endian `f32` in C order.
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<()> {
    whole::write_with(path, |out| write_npy_to(out, tensor))
        .map_err(|error: io::Error| Error::unwritable(path, &error))
}

/// As [`write_npy`], to any writer; calls `write` once per element, so buffer it.
pub fn write_npy_to(mut out: impl Write, tensor: &Tensor) -> io::Result<()> {
    let dims: String = tensor
        .shape()
        .dims()
        .iter()
        .map(|dim| format!("{dim}, "))
        .collect();
    // One-element tuples need their comma; NumPy accepts it behind the last dim of any other.
    let dims = if tensor.shape().rank() > 1 {
        dims.trim_end_matches(", ")
    } else {
        dims.trim_end()
    };
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}").into_bytes();
    let prefix = MAGIC.len() + 4;
    let padded = (prefix + text.len() + 1).next_multiple_of(ALIGNMENT) - prefix;
    text.resize(padded - 1, b' ');
    text.push(b'\n');
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(padded as u16).to_le_bytes())?;
    out.write_all(&text)?;
    tensor
        .data()
        .iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// Header text and elements of a file.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let no_npy = || Error::new("a file that is no .npy array").expected(".npy, version 1 to 3");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(no_npy)?;
    let (length, rest) = match rest {
        [1, 0, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, 0, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(no_npy()),
    };
    if length > MAX_HEADER_BYTES {
        return Err(Error::new(format!("a header of {length} bytes"))
            .expected(format!("at most {MAX_HEADER_BYTES}")));
    }
    let (text, data) = rest
        .split_at_checked(length)
        .ok_or_else(|| Error::new("a file that ends inside its header"))?;
    let text = std::str::from_utf8(text).map_err(|_| Error::new("a header that is no text"))?;
    Ok((text, data))
}

struct Header {
    element: Element,
    fortran: bool,
    dims: Vec<u32>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order.
    fn parse(text: &str) -> Result<Self> {
        let mut literal = Literal { rest: text };
        let (mut element, mut fortran, mut dims) = (None, None, None);
        literal.expect("{")?;
        while !literal.accept("}") {
            let key = literal.string()?;
            literal.expect(":")?;
            match key {
                "descr" => element = Some(Element::parse(literal.string()?)?),
                "fortran_order" => fortran = Some(literal.boolean()?),
                "shape" => dims = Some(literal.dims()?),
                other => return Err(Error::new(format!("key {other:?}")).field("header")),
            }
            if !literal.accept(",") {
                literal.expect("}")?;
                break;
            }
        }
        match (element, fortran, dims) {
            (Some(element), Some(fortran), Some(dims)) => Ok(Self {
                element,
                fortran,
                dims,
            }),
            _ => Err(Error::new("an incomplete header").expected("descr, fortran_order and shape")),
        }
    }
}

/// The rest of a Python literal.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(rest) => self.rest = rest,
            None => self.rest = rest,
        }
        rest.starts_with(token)
    }
    fn expect(&mut self, token: &str) -> Result<()> {
        if self.accept(token) {
            Ok(())
        } else {
            Err(self.unexpected(token))
        }
    }
    fn unexpected(&self, expected: &str) -> Error {
        let found: String = self.rest.chars().take(20).collect();
        Error::new(format!("{found:?}"))
            .field("header")
            .expected(expected)
    }
    fn string(&mut self) -> Result<&'a str> {
        let quote = ["'", "\""].into_iter().find(|quote| self.accept(quote));
        let quote = quote.ok_or_else(|| {
            self.unexpected("a quoted string")
                .hint("arrays of records cannot be read")
        })?;
        let (text, rest) = self
            .rest
            .split_once(quote)
            .ok_or_else(|| self.unexpected("a closing quote"))?;
        self.rest = rest;
        Ok(text)
    }
    fn boolean(&mut self) -> Result<bool> {
        match (self.accept("True"), self.accept("False")) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(self.unexpected("True or False")),
        }
    }
    fn dims(&mut self) -> Result<Vec<u32>> {
        let mut dims = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            let end = self
                .rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            dims.push(
                digits
                    .parse()
                    .map_err(|_| self.unexpected("a dim below 2^32"))?,
            );
            self.rest = rest;
            // Python 2 marks long integers.
            self.accept("L");
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(dims)
    }
}

/// How one element is stored.
struct Element {
    kind: Kind,
    bytes: usize,
    big_endian: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Element {
    fn parse(descr: &str) -> Result<Self> {
        let unknown = || {
            Error::new(format!("element type {descr:?}"))
                .field("descr")
                .expected("b1, i1 to i8, u1 to u8, f2, f4 or f8")
        };
        let (order, code) = descr.split_at_checked(1).ok_or_else(unknown)?;
        let (kind, bytes) = match code {
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            "b1" | "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            _ => return Err(unknown()),
        };
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return Err(unknown()),
        };
        Ok(Self {
            kind,
            bytes,
            big_endian,
        })
    }
    fn convert(&self, data: &[u8]) -> Vec<f32> {
        match (self.kind, self.bytes) {
            (Kind::Float, 2) => self.map(data, |b| half::f16::from_le_bytes(b).to_f32()),
            (Kind::Float, 4) => self.map(data, f32::from_le_bytes),
            (Kind::Float, _) => self.map(data, |b| f64::from_le_bytes(b) as f32),
            (Kind::Signed, 1) => self.map(data, |b| f32::from(i8::from_le_bytes(b))),
            (Kind::Signed, 2) => self.map(data, |b| f32::from(i16::from_le_bytes(b))),
            (Kind::Signed, 4) => self.map(data, |b| i32::from_le_bytes(b) as f32),
            (Kind::Signed, _) => self.map(data, |b| i64::from_le_bytes(b) as f32),
            (Kind::Unsigned, 1) => self.map(data, |b| f32::from(u8::from_le_bytes(b))),
            (Kind::Unsigned, 2) => self.map(data, |b| f32::from(u16::from_le_bytes(b))),
            (Kind::Unsigned, 4) => self.map(data, |b| u32::from_le_bytes(b) as f32),
            (Kind::Unsigned, _) => self.map(data, |b| u64::from_le_bytes(b) as f32),
        }
    }
    fn map<const N: usize>(&self, data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (elements, _) = data.as_chunks::<N>();
        let swap = |mut element: [u8; N]| {
            if self.big_endian {
                element.reverse();
            }
            element
        };
        elements
            .iter()
            .map(|&element| value(swap(element)))
            .collect()
    }
}

/// Elements whose first index varies fastest, brought to the order in which the last one does.
fn to_c_order(shape: &Shape, elements: &[f32]) -> Vec<f32> {
    let dims = shape.dims();
    let mut index = vec![0u32; dims.len()];
    let strides: Vec<usize> = (0..dims.len())
        .map(|axis| shape.count_of(0, axis))
        .collect();
    let mut at = 0;
    let mut result = Vec::with_capacity(elements.len());
    for _ in 0..elements.len() {
        result.push(elements[at]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis] as usize;
            index[axis] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}  \n")
    }

    #[test]
    fn what_is_written_is_read() {
        for dims in [vec![], vec![3], vec![2, 3], vec![2, 1, 3, 2]] {
            let shape = Shape::new(dims).unwrap();
            let data = (0..shape.count()).map(|i| i as f32 - 0.5).collect();
            let tensor = Tensor::new(shape, data);
            let mut bytes = Vec::new();
            write_npy_to(&mut bytes, &tensor).unwrap();
            assert_eq!((bytes.len() - 4 * tensor.data().len()) % ALIGNMENT, 0);
            assert_eq!(parse_npy(&bytes).unwrap(), tensor);
        }
    }

    #[test]
    fn element_types_become_f32() {
        let cases: [(&str, &[u8], f32); 10] = [
            ("|u1", &[200], 200.0),
            ("|i1", &[200], -56.0),
            ("<i4", &[0xfe, 0xff, 0xff, 0xff], -2.0),
            (">i4", &[0, 0, 1, 2], 258.0),
            ("<i8", &[7, 0, 0, 0, 0, 0, 0, 0], 7.0),
            ("<u2", &[0xff, 0xff], 65_535.0),
            ("<f2", &[0x00, 0xbe], -1.5),
            ("<f4", &1.25f32.to_le_bytes(), 1.25),
            (">f8", &0.1f64.to_be_bytes(), 0.1),
            ("|b1", &[1], 1.0),
        ];
        for (descr, data, value) in cases {
            let tensor = parse_npy(&npy(&header(descr, "False", "(1L,)"), data)).unwrap();
            assert_eq!(tensor.data(), [value], "{descr}");
        }
    }

    #[test]
    fn fortran_order_is_converted() {
        let data: Vec<u8> = (0..24).collect();
        let tensor = parse_npy(&npy(&header("|u1", "True", "(2, 3, 4)"), &data)).unwrap();
        for (a, b, c) in (0..24).map(|i| (i / 12, i / 4 % 3, i % 4)) {
            assert_eq!(
                tensor.data()[a * 12 + b * 4 + c],
                (a + b * 2 + c * 6) as f32
            );
        }
    }

    #[test]
    fn absurd_headers_are_refused() {
        for (descr, order, shape) in [
            ("<f4", "False", "(4294967295, 4294967295, 4294967295)"),
            ("<f4", "False", "(99999999999999999999,)"),
            ("<f4", "False", "(2147483648,)"),
            ("<f4", "False", "(-1,)"),
            ("<f4", "False", "(1, 2"),
            ("<f4", "False", "(((((((("),
            ("<f4", "Maybe", "(1,)"),
            ("|O", "False", "(1,)"),
            ("<c8", "False", "(1,)"),
            ("", "False", "(1,)"),
            ("é", "False", "(1,)"),
            ("<f4", "False", "(0,)"),
            ("<f4", "False", "(1,1,1,1,1,1,1,1,1)"),
        ] {
            let file = npy(&header(descr, order, shape), &[0; 4]);
            assert!(parse_npy(&file).is_err(), "{descr} {order} {shape}");
        }
        let records = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}";
        let text = parse_npy(&npy(records, &[0; 4])).unwrap_err().to_string();
        assert!(text.contains("records"), "{text}");
        assert!(parse_npy(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        let file = npy(&header("<f4", "False", "(2, 2)"), &[0; 16]);
        assert!(parse_npy(&file).is_ok());
        for length in 0..file.len() {
            assert!(parse_npy(&file[..length]).is_err(), "{length} bytes");
        }
        assert!(parse_npy(&[&file[..], &[0]].concat()).is_err());
    }
}
