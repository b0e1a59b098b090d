//! Where a file ends: what is cut off behind its last group is missed by nobody who reads from its front.

use skimjit_models::{Error, Result};

/// Refuses a file of so many bytes that is shorter than its superblock says. `start` are its first bytes, 128
/// where it has as many. What has no superblock that is understood is left to the reader.
pub fn check_end(start: &[u8], bytes: u64) -> Result<()> {
    match end(start) {
        Some(end) if end > bytes => Err(Error::new(format!("an HDF5 file of {bytes} bytes"))
            .expected(format!("{end} bytes, as its beginning says"))
            .hint("the file is cut off: copy or download it again")),
        _ => Ok(()),
    }
}

/// The address of the end, behind those of the base and of one thing else.
fn end(start: &[u8]) -> Option<u64> {
    let rest = start.strip_prefix(super::SIGNATURE)?;
    let version = *rest.first()?;
    let (width, addresses) = match version {
        0 => (*rest.get(5)?, 16),
        1 => (*rest.get(5)?, 20),
        2 | 3 => (*rest.get(1)?, 4),
        _ => return None,
    };
    let width = usize::from(width);
    let number = rest.get(addresses + 2 * width..)?.get(..width)?;
    // Widths are 2, 4 or 8; all ones: not known.
    let is_known = matches!(width, 2 | 4 | 8) && number.iter().any(|&byte| byte != 0xff);
    let value = |all, &byte| all << 8 | u64::from(byte);
    is_known.then(|| number.iter().rev().fold(0, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_every_kind_of_superblock() {
        let file = |rest: &[u8]| [super::super::SIGNATURE, rest].concat();
        let addresses =
            |width: usize| [&[0; 16][..width * 2], &1000_u64.to_le_bytes()[..width]].concat();
        for (head, width) in [
            (&[0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0][..], 8),
            (
                &[1, 0, 0, 0, 0, 4, 4, 0, 4, 0, 16, 0, 0, 0, 0, 0, 32, 0, 0, 0],
                4,
            ),
            (&[2, 8, 8, 0], 8),
            (&[3, 2, 8, 0], 2),
        ] {
            let start = file(&[head, &addresses(width)].concat());
            assert!(check_end(&start, 1000).is_ok(), "{head:?}");
            let text = check_end(&start, 999).unwrap_err().to_string();
            assert!(
                text.contains("found an HDF5 file of 999 bytes, expected 1000"),
                "{text}"
            );
            for length in 0..start.len() {
                assert!(check_end(&start[..length], 9).is_ok());
            }
        }
        let unknown = [&[2, 8, 8, 0][..], &[0xff; 24]].concat();
        assert!(check_end(&file(&unknown), 9).is_ok());
    }
}
