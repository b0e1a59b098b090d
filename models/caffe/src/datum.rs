//! Records of Caffe's data bases: one picture, or one vector of features, with its label.

use super::proto;
use prost::Message;
use skimjit_models::{Error, Result};

/// One record of a data base.
#[derive(Clone, PartialEq, Debug)]
pub struct Datum {
    /// Channels; 0 in encoded records, whose file says it.
    pub channels: u32,
    /// Height, in pixels; 0 in encoded records.
    pub height: u32,
    /// Width, in pixels; 0 in encoded records.
    pub width: u32,
    /// Class; `None` where the record has none.
    pub label: Option<i32>,
    /// What the record holds.
    pub pixels: Pixels,
}

/// Contents of a record. Arrays are in the order channels, height, width; Caffe's own tools store
/// colours as blue, green, red.
#[derive(Clone, PartialEq, Debug)]
pub enum Pixels {
    /// Values of 0 to 255.
    U8(Vec<u8>),
    /// Any values.
    F32(Vec<f32>),
    /// A picture file.
    Encoded(Vec<u8>),
}

impl Datum {
    /// Decodes the value of a record. The sizes must fit: neither Caffe nor this crate guesses.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let message = proto::Datum::decode(bytes).map_err(|error| {
            Error::new(format!("no Datum ({error})"))
                .hint("the record is damaged, or the data base is not one of Caffe's")
        })?;
        let size = |name: &str, size: i32| {
            u32::try_from(size).map_err(|_| {
                Error::new(size.to_string())
                    .field(format!("Datum.{name}"))
                    .expected("0 or more")
            })
        };
        let datum = Self {
            channels: size("channels", message.channels())?,
            height: size("height", message.height())?,
            width: size("width", message.width())?,
            label: message.label,
            pixels: pixels(message),
        };
        datum.check()?;
        Ok(datum)
    }

    /// The value of a record, as Caffe reads it.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check()?;
        // Encoded records have no sizes of their own.
        let size = |name: &str, size: u32| {
            let size = i32::try_from(size).map(|size| Some(size).filter(|&size| size > 0));
            size.map_err(|_| {
                Error::new("2^31 or more")
                    .field(format!("Datum.{name}"))
                    .expected("less than 2^31")
            })
        };
        let mut message = proto::Datum {
            channels: size("channels", self.channels)?,
            height: size("height", self.height)?,
            width: size("width", self.width)?,
            label: self.label,
            ..proto::Datum::default()
        };
        match &self.pixels {
            Pixels::U8(values) => message.data = Some(values.clone()),
            Pixels::F32(values) => message.float_data.clone_from(values),
            Pixels::Encoded(file) => {
                message.data = Some(file.clone());
                message.encoded = Some(true);
            }
        }
        Ok(message.encode_to_vec())
    }

    /// Values that channels, height and width ask for.
    pub fn count(&self) -> u64 {
        // Each is below 2^32, so two factors fit and the third saturates.
        (u64::from(self.channels) * u64::from(self.height)).saturating_mul(self.width.into())
    }

    fn check(&self) -> Result<()> {
        let (found, what) = match &self.pixels {
            Pixels::U8(values) => (values.len(), "bytes"),
            Pixels::F32(values) => (values.len(), "floats"),
            Pixels::Encoded(file) if file.is_empty() => {
                return Err(Error::new("nothing")
                    .field("Datum.data")
                    .expected("a picture file, as encoded is true"));
            }
            Pixels::Encoded(_) => return Ok(()),
        };
        if found > 0 && found as u64 == self.count() {
            return Ok(());
        }
        let (c, h, w) = (self.channels, self.height, self.width);
        let expected = format!(
            "{}, as its size {c}x{h}x{w} (channels, height, width) says",
            self.count().max(1)
        );
        Err(Error::new(format!("{found} {what}"))
            .field("Datum.data")
            .expected(expected)
            .hint("the record is damaged, or its writer forgot to say that it is encoded"))
    }
}

/// Bytes win over floats, as in Caffe.
fn pixels(message: proto::Datum) -> Pixels {
    let encoded = message.encoded();
    let data = message.data.unwrap_or_default();
    if encoded {
        Pixels::Encoded(data)
    } else if data.is_empty() && !message.float_data.is_empty() {
        Pixels::F32(message.float_data)
    } else {
        Pixels::U8(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datum(pixels: Pixels) -> Datum {
        Datum {
            channels: 2,
            height: 1,
            width: 3,
            label: Some(-7),
            pixels,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for pixels in [
            Pixels::U8(vec![0, 1, 2, 253, 254, 255]),
            Pixels::F32(vec![0.5, -1.0, 1e-20, 3.0, 4.0, 5.0]),
            Pixels::Encoded(b"\xff\xd8 a picture".to_vec()),
        ] {
            let datum = datum(pixels);
            assert_eq!(Datum::decode(&datum.encode().unwrap()).unwrap(), datum);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_schema() {
        let small = Datum {
            channels: 1,
            height: 1,
            width: 2,
            label: Some(3),
            pixels: Pixels::U8(vec![9, 8]),
        };
        let expected = [8, 1, 16, 1, 24, 2, 34, 2, 9, 8, 40, 3];
        assert_eq!(small.encode().unwrap(), expected);
        // Floats in one packed run, as other writers may store them.
        let packed = [8, 1, 16, 1, 24, 2, 50, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40];
        let read = Datum::decode(&packed).unwrap();
        assert_eq!(read.pixels, Pixels::F32(vec![1.0, 2.0]));
        assert_eq!(read.label, None);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for (bytes, found) in [
            (&[8, 1, 16, 1, 24, 2, 34, 1, 9][..], "found 1 bytes"),
            (&[][..], "found 0 bytes"),
            (&[56, 1][..], "found nothing"),
            (&[34, 200][..], "found no Datum"),
            (
                &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..],
                "Datum.channels: found -1",
            ),
        ] {
            let text = Datum::decode(bytes).unwrap_err().to_string();
            assert!(text.contains(found), "{text}");
        }
        assert!(datum(Pixels::U8(vec![0; 5])).encode().is_err());
        let huge = Datum {
            channels: u32::MAX,
            height: u32::MAX,
            width: u32::MAX,
            ..datum(Pixels::U8(vec![0; 5]))
        };
        assert!(huge.encode().is_err());
    }
}
