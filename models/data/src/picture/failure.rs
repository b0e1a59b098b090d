//! Why a file is no picture.

use super::MAX_DECODE_BYTES;
use image::ImageError;
use image::error::{ImageFormatHint, UnsupportedErrorKind};
use skimjit_models::Error;

/// What is read, for messages and help.
pub const FORMATS: &str = "JPEG, PNG, BMP, GIF, TIFF, WebP or PNM";

/// Why there are no pixels.
pub enum Failure {
    /// Something is missing or wrong.
    Damaged(String),
    /// No picture, or of a kind that is not read.
    Unknown(String),
    /// More pixels than the limits allow.
    Large(Error),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let text = error.to_string();
        match error {
            ImageError::Unsupported(error) => match error.kind() {
                UnsupportedErrorKind::Format(ImageFormatHint::Unknown) => {
                    Self::Unknown("its first bytes are those of no picture".to_owned())
                }
                _ => Self::Unknown(text),
            },
            // Sides are looked at by themselves.
            ImageError::Limits(_) => Self::Large(
                Error::new("a picture that takes more memory to read").expected(format!(
                    "at most {} MiB, or what is free",
                    MAX_DECODE_BYTES >> 20
                )),
            ),
            _ => Self::Damaged(text),
        }
    }
}

impl From<Failure> for Error {
    /// One line, whatever the decoder says.
    fn from(failure: Failure) -> Self {
        let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match failure {
            Failure::Large(error) => error,
            Failure::Damaged(text) => Self::new(format!("no readable picture ({})", line(text)))
                .hint("the file is cut off or damaged: copy or download it again"),
            Failure::Unknown(text) => Self::new(format!("no readable picture ({})", line(text)))
                .expected(format!("{FORMATS}; a .npy array goes by its name")),
        }
    }
}
