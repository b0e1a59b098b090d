//! JPEG files, of which every block must be there.
//!
//! JPEG has no checksums, and decoders paint what is missing grey. So the file must go on to its end marker,
//! and behind each run of coded data the decoder meets bits that are no code: should it need more than the
//! file holds, it fails.

use super::failure::Failure;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Bytes that begin every file.
pub const MAGIC: &[u8] = b"\xff\xd8\xff";

const MARK: u8 = 0xff;
const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
/// Head of a progressive picture.
const PROGRESSIVE: u8 = 0xc2;
/// A run of ones, which no Huffman code is, as coded data store it: longer than what decoders read ahead.
const NO_CODE: [u8; 64] = {
    let mut ones = [MARK; 64];
    let mut at = 1;
    while at < ones.len() {
        ones[at] = 0;
        at += 2;
    }
    ones
};

/// Pixels of a file, row by row, in the colours `colours`.
pub fn decode(file: &[u8], colours: ColorSpace) -> Result<Vec<u8>, Failure> {
    let guarded = guarded(file)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(colours);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*guarded), options);
    decoder
        .decode()
        .map_err(|error| Failure::Damaged(format!("{error:?}")))
}

/// The file up to its end marker, with [`NO_CODE`] behind runs of coded data and without stray bytes
/// between segments.
fn guarded(file: &[u8]) -> Result<Vec<u8>, Failure> {
    let cut = || Failure::Damaged("the file ends before the picture does".to_owned());
    let mut parts = Parts { rest: file };
    let mut whole = Vec::with_capacity(file.len() + 8 * NO_CODE.len());
    // The decoder looks for what follows the first scan of a progressive picture right behind it.
    let mut bare = false;
    loop {
        let kind = parts.marker().ok_or_else(cut)?;
        bare |= kind == PROGRESSIVE;
        whole.extend([MARK, kind]);
        match kind {
            END => return Ok(whole),
            // Markers without contents.
            START | 0x01 | 0xd0..=0xd7 => {}
            _ => whole.extend(parts.segment().ok_or_else(cut)?),
        }
        if kind == SCAN {
            whole.extend(parts.coded().ok_or_else(cut)?);
            if !std::mem::take(&mut bare) {
                whole.extend(NO_CODE);
            }
        }
    }
}

struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next marker's kind, whatever lies before it, as other decoders do.
    fn marker(&mut self) -> Option<u8> {
        loop {
            let at = self.rest.iter().position(|&byte| byte == MARK)?;
            self.take(at)?;
            let marks = self.rest.iter().take_while(|&&byte| byte == MARK).count();
            self.take(marks)?;
            match *self.take(1)?.first()? {
                0 => {}
                kind => return Some(kind),
            }
        }
    }

    /// Length and contents.
    fn segment(&mut self) -> Option<&'a [u8]> {
        let (&length, _) = self.rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(length));
        self.take(length).filter(|segment| segment.len() >= 2)
    }

    /// Coded data up to the next marker, restarts included.
    fn coded(&mut self) -> Option<&'a [u8]> {
        let mut at = 0;
        loop {
            at += self.rest.get(at..)?.iter().position(|&byte| byte == MARK)?;
            match *self.rest.get(at + 1)? {
                0 | 0xd0..=0xd7 => at += 2,
                MARK => at += 1,
                _ => return self.take(at),
            }
        }
    }
}
