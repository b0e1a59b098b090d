//! Where the caller is, at each instruction of a kernel: what unwinders need.

use gimli::write::{CallFrameInstruction, CommonInformationEntry, FrameDescriptionEntry};
use gimli::{Encoding, Register, X86_64};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register as Gp};
use std::collections::HashSet;

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
/// behind a return belongs to another entry, where everything is as at the start, or to the code around a
/// subroutine.
pub fn describe(code: &[u8], frame: &mut FrameDescriptionEntry) {
    for (after, change) in changes(code) {
        frame.add_instruction(after, change);
    }
}

fn changes(code: &[u8]) -> Vec<(u32, CallFrameInstruction)> {
    let instructions = || Decoder::new(64, code, DecoderOptions::NONE).into_iter();
    let calls = instructions().filter(Instruction::is_call_near);
    let subroutines: HashSet<u64> = calls.map(|call| call.near_branch_target()).collect();
    let mut changes = Vec::new();
    let (mut depth, mut around) = (RETURN_ADDRESS, RETURN_ADDRESS);
    for instruction in instructions() {
        let (at, after) = (instruction.ip(), instruction.next_ip() as u32);
        if subroutines.contains(&at) {
            (around, depth) = (depth, depth + RETURN_ADDRESS);
            changes.push((at as u32, CallFrameInstruction::CfaOffset(depth)));
        }
        let before = depth;
        let saved = number(instruction.op0_register());
        let mut register = None;
        match instruction.mnemonic() {
            Mnemonic::Push => {
                depth += 8;
                register = saved.map(|saved| CallFrameInstruction::Offset(saved, -depth));
            }
            Mnemonic::Pop => {
                depth -= 8;
                register = saved.map(CallFrameInstruction::SameValue);
            }
            Mnemonic::Add | Mnemonic::Sub if instruction.op0_register() == Gp::RSP => {
                depth += moved(&instruction);
            }
            Mnemonic::Ret => depth = std::mem::replace(&mut around, RETURN_ADDRESS),
            _ => {}
        }
        let moved = (depth != before).then_some(CallFrameInstruction::CfaOffset(depth));
        changes.extend(
            moved
                .into_iter()
                .chain(register)
                .map(|change| (after, change)),
        );
    }
    changes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subroutine_has_one_return_address_more() {
        let code = [
            0x53, // 0: push rbx
            0xEB, 1,    // 1: jmp 4
            0xC3, // 3: ret
            0xE8, 0xFA, 0xFF, 0xFF, 0xFF, // 4: call 3
            0x5B, // 9: pop rbx
            0xC3, // 10: ret
        ];
        let depth = |at, depth| (at, CallFrameInstruction::CfaOffset(depth));
        let expected = [
            depth(1, 16),
            (1, CallFrameInstruction::Offset(X86_64::RBX, -16)),
            depth(3, 24),
            depth(4, 16),
            depth(10, 8),
            (10, CallFrameInstruction::SameValue(X86_64::RBX)),
        ];
        assert_eq!(changes(&code), expected);
    }
}
