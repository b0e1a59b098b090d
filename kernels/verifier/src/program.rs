//! Decoded code.

use crate::action::Action;
use crate::rules::{Reason, admit};
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
use skimjit_kernels::jit::{Code, Isa};

/// Marks offsets at which no instruction starts.
const NOTHING: u32 = u32::MAX;

/// An instruction: what it does, or why it may not be there.
pub struct Step {
    pub action: Result<Action, Reason>,
    /// Offset of the instruction behind it.
    pub next: u64,
}

/// Decoded code.
pub struct Program<'c> {
    /// The instructions.
    code: &'c [u8],
    steps: Vec<Step>,
    /// Index of the instruction that starts at an offset.
    starts: Vec<u32>,
}

impl<'c> Program<'c> {
    /// Decodes everything. What may not be there is refused only where it is reached.
    pub fn decode(code: &'c Code, isa: Isa) -> Self {
        let code = code.instructions();
        let mut starts = vec![NOTHING; code.len()];
        let mut steps = Vec::with_capacity(code.len() / 5);
        for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
            let (start, end) = (instruction.ip() as usize, instruction.next_ip() as usize);
            let Some(entry) = starts.get_mut(start) else {
                break;
            };
            *entry = steps.len() as u32;
            let bytes = code.get(start..end).unwrap_or_default();
            steps.push(Step {
                action: admit(bytes, &instruction, isa),
                next: instruction.next_ip(),
            });
        }
        Self {
            code,
            steps,
            starts,
        }
    }

    /// The instruction that starts at an offset.
    pub fn at(&self, offset: u64) -> Option<&Step> {
        let offset = usize::try_from(offset).ok()?;
        self.steps.get(*self.starts.get(offset)? as usize)
    }

    /// Offset of what follows the instructions.
    pub fn end(&self) -> u64 {
        self.code.len() as u64
    }

    /// All instructions: offset and text.
    pub fn listing(&self) -> impl Iterator<Item = (u64, String)> + '_ {
        let decoder = Decoder::new(64, self.code, DecoderOptions::NONE);
        decoder.into_iter().map(|i| (i.ip(), text(&i)))
    }

    /// Bytes and text of the instruction at an offset.
    pub fn show(&self, offset: u64) -> (Vec<u8>, String) {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.code.get(start..));
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return (vec![], "no instruction".to_owned());
        };
        let instruction = Decoder::with_ip(64, bytes, offset, DecoderOptions::NONE).decode();
        let own = bytes.get(..instruction.len()).unwrap_or_default();
        (own.to_vec(), text(&instruction))
    }
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    NasmFormatter::new().format(instruction, &mut text);
    text
}
