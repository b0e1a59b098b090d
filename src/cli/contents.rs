//! What a file holds, told from its bytes.

/// True for text definitions; false for caffemodels, HDF5 files and artifacts, which have control
/// characters near their beginning. Text may be in any encoding: comments often are.
pub fn is_text(start: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !(b'\t'..=b'\r').contains(byte);
    !start.is_empty() && !start.starts_with(b"\x89HDF") && !start.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_binary_files() {
        for text in [&b"name: \"x\"\r\n\t# caf\xe9"[..], b"layer {}"] {
            assert!(is_text(text), "{text:?}");
        }
        for binary in [&b"\n\x03two"[..], b"\x89HDF\r\n\x1a\n", b"", b"a\0"] {
            assert!(!is_text(binary), "{binary:?}");
        }
    }
}
