#![allow(unsafe_code)]
//! Tells Intel VTune, through its JIT profiling API, which lines of a listing code stands for.

use super::{CodeObserver, PublishedCode, Source};
use ittapi_sys::{
    _LineNumberInfo as LineNumberInfo, iJIT_GetNewMethodID, iJIT_Method_Load, iJIT_NotifyEvent,
    iJIT_jvm_event_iJVM_EVENT_TYPE_METHOD_LOAD_FINISHED as METHOD_LOADED,
};
use std::ffi::{CString, c_char};
use std::io;
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// VTune, where it runs this process; otherwise nobody.
#[derive(Default)]
pub struct VTune {
    /// Its library is not asked by two threads at once.
    turn: Mutex<()>,
}

/// Where the code of each line ends, and the line: VTune counts a range to the offset it is given.
fn ranges(source: &Source, size: u32) -> Vec<LineNumberInfo> {
    let ends = source.lines.iter().skip(1).map(|(offset, _)| *offset);
    let lines = source.lines.iter().zip(ends.chain([size]));
    lines
        .map(|(&(_, line), end)| LineNumberInfo {
            Offset: end,
            LineNumber: line,
        })
        .collect()
}

/// Text for C; a name with a zero in it ends there.
fn text(name: &str) -> CString {
    let before = name.split('\0').next().unwrap_or_default();
    CString::new(before).unwrap_or_default()
}

impl CodeObserver for VTune {
    fn register(&self, code: &PublishedCode<'_>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let size = u32::try_from(code.addresses.len()).unwrap_or(u32::MAX);
        let name = text(code.name);
        let file = code
            .source
            .map(|source| text(&source.file.to_string_lossy()));
        let mut lines = code.source.map_or(vec![], |source| ranges(source, size));
        let pointer = |text: &CString| text.as_ptr().cast::<c_char>().cast_mut();
        let mut method = iJIT_Method_Load {
            // SAFETY: it takes nothing, and gives a number.
            method_id: unsafe { iJIT_GetNewMethodID() },
            method_name: pointer(&name),
            method_load_address: code.addresses.start as *mut _,
            method_size: size,
            line_number_size: lines.len() as u32,
            line_number_table: if lines.is_empty() {
                null_mut()
            } else {
                lines.as_mut_ptr()
            },
            class_id: 0,
            class_file_name: null_mut(),
            source_file_name: file.as_ref().map_or(null_mut(), pointer),
        };
        // SAFETY: the event takes a method description. Its texts end with zeros, its table has as many
        // entries as it says, and all of it lives until the call, which copies it, returns. Zero without
        // VTune: nobody listens, which is no error.
        let _ = unsafe { iJIT_NotifyEvent(METHOD_LOADED, (&raw mut method).cast()) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_next_begins() {
        let source = Source {
            file: "a.lst".into(),
            lines: vec![(0, 2), (4, 3), (9, 4)],
        };
        let found: Vec<(u32, u32)> = ranges(&source, 12)
            .iter()
            .map(|range| (range.Offset, range.LineNumber))
            .collect();
        assert_eq!(found, [(4, 2), (9, 3), (12, 4)]);
    }

    #[test]
    fn without_vtune_nothing_happens() {
        let bytes = [0xc3];
        let start = bytes.as_ptr() as usize;
        let code = PublishedCode {
            name: "conv1\0hidden",
            addresses: start..start + 1,
            bytes: &bytes,
            entries: &[],
            source: None,
        };
        VTune::default().register(&code).unwrap();
        assert_eq!(text(code.name).as_bytes(), b"conv1");
    }
}
