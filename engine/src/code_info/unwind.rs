//! Where the caller is, at each instruction of a kernel: what unwinders need.

use gimli::write::{CallFrameInstruction, CommonInformationEntry, FrameDescriptionEntry};
use gimli::{Encoding, Register, X86_64};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register as Gp};

/// Bytes that a call pushes.
const RETURN_ADDRESS: i32 = 8;

/// What is true at every entry: the caller's address lies on top of the stack.
pub fn common(encoding: Encoding) -> CommonInformationEntry {
    let mut common = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    common.add_instruction(CallFrameInstruction::Cfa(X86_64::RSP, RETURN_ADDRESS));
    common.add_instruction(CallFrameInstruction::Offset(X86_64::RA, -RETURN_ADDRESS));
    common
}

/// Adds the changes of the stack pointer and the saved registers, instruction by instruction. Code
/// behind a return belongs to another entry, where everything is as at the start.
pub fn describe(code: &[u8], frame: &mut FrameDescriptionEntry) {
    let mut depth = RETURN_ADDRESS;
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        let after = instruction.next_ip() as u32;
        match instruction.mnemonic() {
            Mnemonic::Push => {
                depth += 8;
                frame.add_instruction(after, CallFrameInstruction::CfaOffset(depth));
                if let Some(register) = number(instruction.op0_register()) {
                    frame.add_instruction(after, CallFrameInstruction::Offset(register, -depth));
                }
            }
            Mnemonic::Pop => {
                depth -= 8;
                frame.add_instruction(after, CallFrameInstruction::CfaOffset(depth));
                if let Some(register) = number(instruction.op0_register()) {
                    frame.add_instruction(after, CallFrameInstruction::SameValue(register));
                }
            }
            Mnemonic::Add | Mnemonic::Sub if instruction.op0_register() == Gp::RSP => {
                depth += moved(&instruction);
                frame.add_instruction(after, CallFrameInstruction::CfaOffset(depth));
            }
            Mnemonic::Ret if depth != RETURN_ADDRESS => {
                depth = RETURN_ADDRESS;
                frame.add_instruction(after, CallFrameInstruction::CfaOffset(depth));
            }
            _ => {}
        }
    }
}

/// By how much the stack grows.
fn moved(instruction: &Instruction) -> i32 {
    if instruction.op1_kind() == OpKind::Register {
        return 0;
    }
    let by = instruction.immediate(1) as i32;
    if instruction.mnemonic() == Mnemonic::Sub {
        by
    } else {
        -by
    }
}

/// DWARF's number of a register that callees save.
fn number(register: Gp) -> Option<Register> {
    Some(match register {
        Gp::RBX => X86_64::RBX,
        Gp::RBP => X86_64::RBP,
        Gp::R12 => X86_64::R12,
        Gp::R13 => X86_64::R13,
        Gp::R14 => X86_64::R14,
        Gp::R15 => X86_64::R15,
        _ => return None,
    })
}
