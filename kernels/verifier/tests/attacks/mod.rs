//! Code that does more, or other things, than its layer: all of it is refused.

use crate::Case;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Values, Weights, registry};
use skimjit_verifier::{Fault, Kind};

const CONV: &str = "conv src=6x13x13x224 dst=20x13x13x224 k=3x3 s=1x1 p=1x1 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=3";
const POOL: &str =
    "pool src=3x13x13x224 dst=3x6x6x48 k=3x3 s=2x2 p=0x0 d=1x1 density=100 scale=1 seed=1";

/// The kernel with `change` made to it, which must be found.
fn found(variant: &str, isa: Isa, spec: &str, change: impl FnOnce(&mut Built)) -> Fault {
    let case = Case::new(spec.parse().unwrap());
    let mut built = case.build(registry::find(variant).unwrap(), isa).unwrap();
    case.verify(isa, &built).expect("a right kernel");
    change(&mut built);
    match case.verify(isa, &built) {
        Ok(_) => panic!("{variant}, {isa}: proved"),
        Err(fault) => fault,
    }
}

/// Entries that run `bytes` before a right kernel.
fn before(built: &mut Built, bytes: &[u8]) {
    let code = &mut built.code.bytes;
    for entry in &mut built.entries {
        let right = *entry as i64;
        *entry = code.len();
        code.extend_from_slice(bytes);
        code.push(0xE9);
        let distance = right - (code.len() as i64 + 4);
        code.extend((distance as i32).to_le_bytes());
    }
}

/// What is found of `bytes` in front of a right kernel.
fn found_before(isa: Isa, bytes: &[u8]) -> Fault {
    found("sparse_conv.baked", isa, CONV, |built| before(built, bytes))
}

/// An instruction that is on no list is named with its address and its bytes.
fn refused(bytes: &[u8]) {
    for isa in Isa::ALL {
        let fault = found_before(isa, bytes);
        assert_eq!(fault.kind, Kind::Refused, "{fault}");
        assert_eq!(fault.bytes, bytes, "{fault}");
        assert!(fault.offset.is_some());
        println!("{fault}");
    }
}

#[test]
fn a_system_call_is_refused() {
    refused(&[0x0F, 0x05]);
}

#[test]
fn traps_are_refused() {
    let traps: [&[u8]; 4] = [&[0xCC], &[0x0F, 0x0B], &[0xF4], &[0xCD, 0x80]];
    traps.into_iter().for_each(refused);
}

#[test]
fn a_changed_register_of_the_caller_is_found() {
    // xor rbx, rbx is on no list; a move is, but the register must be restored.
    refused(&[0x48, 0x31, 0xDB]);
    for number in [3u8, 5, 12, 13, 14, 15] {
        let rex = if number >= 8 { 0x49 } else { 0x48 };
        let set = [rex, 0xC7, 0xC0 | number & 7, 0, 0, 0, 0];
        for isa in Isa::ALL {
            let fault = found_before(isa, &set);
            assert_eq!(fault.kind, Kind::Convention, "{fault}");
        }
    }
}

#[test]
fn the_direction_flag_stays() {
    refused(&[0xFD]);
}

#[test]
fn control_registers_of_arithmetic_stay() {
    // ldmxcsr [rdi], vldmxcsr [rdi], fldcw [rdi], fninit.
    let loads: [&[u8]; 4] = [
        &[0x0F, 0xAE, 0x17],
        &[0xC5, 0xF8, 0xAE, 0x17],
        &[0xD9, 0x2F],
        &[0xDB, 0xE3],
    ];
    loads.into_iter().for_each(refused);
}

#[test]
fn writes_by_instructions_without_vectors_are_refused() {
    // inc, lock xadd, or with an address outside of everything; stosq; a move of 4 bytes.
    let writes: [&[u8]; 5] = [
        &[0x48, 0xFF, 0x87, 0x00, 0x00, 0xF0, 0xFF],
        &[0xF0, 0x48, 0x0F, 0xC1, 0x87, 0x00, 0x00, 0xF0, 0xFF],
        &[0x83, 0x8F, 0x00, 0x00, 0xF0, 0xFF, 0x01],
        &[0x48, 0xAB],
        &[0x89, 0x07],
    ];
    writes.into_iter().for_each(refused);
}

#[test]
fn a_store_to_anything_but_the_own_stack_is_found() {
    // mov [rdi], rax: the arguments; mov [rsp], rax: the return address; mov [rsp - 8], rax.
    let stores: [&[u8]; 3] = [
        &[0x48, 0x89, 0x07],
        &[0x48, 0x89, 0x04, 0x24],
        &[0x48, 0x89, 0x44, 0x24, 0xF8],
    ];
    for store in stores {
        assert_eq!(found_before(Isa::Avx2, store).kind, Kind::Access);
    }
}

#[test]
fn a_read_outside_of_everything_is_found() {
    // mov rax, [rdi - 0x100000]
    let fault = found_before(Isa::Avx2, &[0x48, 0x8B, 0x87, 0x00, 0x00, 0xF0, 0xFF]);
    assert_eq!(fault.kind, Kind::Access);
}

#[test]
fn segments_are_refused() {
    refused(&[0x64, 0x48, 0x8B, 0x07]);
    refused(&[0x65, 0x48, 0x8B, 0x07]);
}

#[test]
fn what_depends_on_time_or_the_processor_is_refused() {
    let instructions: [&[u8]; 3] = [&[0x0F, 0x31], &[0x0F, 0xA2], &[0x0F, 0xC7, 0xF0]];
    instructions.into_iter().for_each(refused);
}

#[test]
fn prefixes_without_a_meaning_are_refused() {
    // 66 mov, repeated nop (pause), lock, a branch hint, address size.
    let prefixed: [&[u8]; 4] = [
        &[0x66, 0x48, 0x8B, 0x07],
        &[0xF3, 0x90],
        &[0x2E, 0x75, 0x00],
        &[0x67, 0x48, 0x8D, 0x07],
    ];
    prefixed.into_iter().for_each(refused);
}

#[test]
fn the_stack_is_balanced_and_the_return_address_stays() {
    let attacks: [&[u8]; 4] = [
        // push rax; pop rax; pop rax
        &[0x50, 0x58, 0x58],
        // push rax
        &[0x50],
        // push rdi; ret
        &[0x57, 0xC3],
        // ret without vzeroupper after zeroing ymm0
        &[0xC5, 0xFC, 0x57, 0xC0, 0xC3],
    ];
    for attack in attacks {
        for isa in Isa::ALL {
            let fault = found_before(isa, attack);
            assert_eq!(fault.kind, Kind::Convention, "{fault}");
        }
    }
    // add rsp, 8
    refused(&[0x48, 0x83, 0xC4, 0x08]);
}

#[test]
fn registers_and_flags_of_the_caller_decide_nothing() {
    // mov rax, [rbx]; jne +0; mov rax, [rdi + rbx]
    let attacks: [&[u8]; 3] = [
        &[0x48, 0x8B, 0x03],
        &[0x75, 0x00],
        &[0x48, 0x8B, 0x04, 0x1F],
    ];
    for attack in attacks {
        assert_eq!(found_before(Isa::Avx2, attack).kind, Kind::Refused);
    }
    // imul rax, rax, 3 leaves the zero flag undefined.
    let multiplied = [0xB8, 1, 0, 0, 0, 0x48, 0x6B, 0xC0, 0x03, 0x75, 0x00];
    assert_eq!(found_before(Isa::Avx2, &multiplied).kind, Kind::Refused);
}

#[test]
fn jumps_into_an_instruction_are_refused() {
    // jmp -1
    assert_eq!(found_before(Isa::Avx2, &[0xEB, 0xFF]).kind, Kind::Refused);
    // jmp rax; call rax
    refused(&[0xFF, 0xE0]);
    refused(&[0xFF, 0xD0]);
}

#[test]
fn code_that_ends_in_the_middle_is_refused() {
    for isa in Isa::ALL {
        for cut in 1..12 {
            let fault = found("sparse_conv.baked", isa, CONV, |built| {
                let len = built.code.bytes.len();
                built.code.bytes.truncate(len - cut);
            });
            assert_ne!(fault.kind, Kind::Value, "{fault}");
        }
    }
}

#[test]
fn instructions_of_another_instruction_set_are_refused() {
    let case = Case::new(CONV.parse().unwrap());
    let variant = registry::find("sparse_conv.baked").unwrap();
    let built = case.build(variant, Isa::Avx512).unwrap();
    let fault = case.verify(Isa::Avx2, &built).unwrap_err();
    assert_eq!(fault.kind, Kind::Refused);
}

/// `vmovups` becomes `vmovaps`, which faults where the address is no multiple of the vector.
fn align_moves(built: &mut Built) {
    let code = &mut built.code.bytes;
    let moves: Vec<usize> = Decoder::new(64, code, DecoderOptions::NONE)
        .iter()
        .filter(|i| i.mnemonic() == Mnemonic::Vmovups)
        .map(|i| i.ip() as usize)
        .collect();
    for start in moves {
        let opcode = start
            + match code[start] {
                0xC5 => 2,
                0xC4 => 3,
                _ => 4,
            };
        code[opcode] += 0x28 - 0x10;
    }
}

#[test]
fn aligned_moves_of_operands_are_found() {
    for isa in Isa::ALL {
        let fault = found("sparse_conv.baked", isa, CONV, align_moves);
        assert_eq!(fault.kind, Kind::Access, "{fault}");
    }
}

#[test]
fn a_maximum_that_starts_from_the_largest_float_is_found() {
    for (name, isa) in [
        ("pool.registers", Isa::Avx512),
        ("pool.lines", Isa::Avx2),
        ("pool.lines", Isa::Avx512),
    ] {
        for start in [f32::MAX, 0.0, f32::NEG_INFINITY, -1.0] {
            let fault = found(name, isa, POOL, |built| {
                let code = &mut built.code.bytes;
                let least = f32::MIN.to_bits().to_le_bytes();
                let at = code.windows(4).position(|bytes| bytes == least);
                let at = at.expect("where maxima start");
                code[at..at + 4].copy_from_slice(&start.to_bits().to_le_bytes());
            });
            assert_eq!(fault.kind, Kind::Value, "{fault}");
        }
    }
}

#[test]
fn operands_of_a_maximum_that_are_exchanged_are_found() {
    for isa in Isa::ALL {
        let fault = found("sparse_conv.baked", isa, CONV, |built| {
            // max(0, x) and max(x, 0) differ for NaN.
            let code = &mut built.code.bytes;
            let decoder = Decoder::new(64, code, DecoderOptions::NONE);
            let relu = decoder
                .into_iter()
                .find(|i| i.mnemonic() == Mnemonic::Vmaxps && i.op0_register() == i.op2_register());
            let relu = relu.expect("a ReLU");
            let [zero, x] = [relu.op1_register(), relu.op2_register()].map(|r| r.number() as u8);
            let start = relu.ip() as usize;
            let end = relu.next_ip() as usize;
            // vvvv and r/m change places; both registers are below 16 on AVX2, and their upper bits
            // are equal or known on AVX-512.
            match code[start] {
                0xC5 => {
                    // The longer prefix has a bit for r/m; rebuild the instruction in its place only
                    // if that fits.
                    assert!(zero < 8, "the zero register needs the longer prefix");
                    code[start + 1] = code[start + 1] & !0x78 | (!x & 15) << 3;
                    code[end - 1] = code[end - 1] & !7 | zero;
                }
                0xC4 => {
                    code[start + 1] = code[start + 1] & !0x20 | (!zero >> 3 & 1) << 5;
                    code[start + 2] = code[start + 2] & !0x78 | (!x & 15) << 3;
                    code[end - 1] = code[end - 1] & !7 | zero & 7;
                }
                _ => {
                    let p0 = code[start + 1] & !0x60;
                    code[start + 1] = p0 | (!zero >> 3 & 1) << 5 | (!zero >> 4 & 1) << 6;
                    code[start + 2] = code[start + 2] & !0x78 | (!x & 15) << 3;
                    code[start + 3] = code[start + 3] & !0x08 | (!x >> 4 & 1) << 3;
                    code[end - 1] = code[end - 1] & !7 | zero & 7;
                }
            }
        });
        assert_eq!(fault.kind, Kind::Value, "{fault}");
    }
}

#[test]
fn a_fault_in_one_lane_below_a_relu_is_found() {
    // One pixel, so a weight is in one lane: an order that hides one of four would let some pass.
    let spec = "conv src=6x3x3x24 dst=20x1x1x16 k=3x3 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=40 bias=1 scale=1 seed=3";
    let case = Case::new(spec.parse().unwrap());
    let nonzero: Vec<usize> = (0..case.data.values.len())
        .filter(|&at| case.data.values[at] != 0.0)
        .collect();
    let mut kernels = 0;
    for (&variant, isa) in registry::VARIANTS
        .iter()
        .flat_map(|v| Isa::ALL.map(|isa| (v, isa)))
    {
        let Some(built) = case.build(variant, isa) else {
            continue;
        };
        kernels += 1;
        case.verify(isa, &built).expect("a right kernel");
        // 2⁻⁶¹ is 1 in a field that was used once.
        let factors = [1.0625, -1.0, 2f32.powi(-61), 2f32.powi(61)];
        for (&at, factor) in nonzero.iter().step_by(7).zip(factors.into_iter().cycle()) {
            let mut values = case.data.values.clone();
            values[at] *= factor;
            let weights = Weights {
                values: Values::All(&values),
                ..case.weights()
            };
            let proof = skimjit_verifier::verify(&case.spec.problem, weights, isa, &built);
            let fault = proof.expect_err("a wrong weight");
            assert_eq!(fault.kind, Kind::Value);
        }
    }
    assert!(kernels >= 4, "{kernels} kernels");
}

#[test]
fn a_wrong_root_of_a_normalisation_is_found() {
    let spec = "lrn src=6x5x5x25 size=5 alpha=0.1 beta=0.75 k0=1 density=100 scale=1 seed=1";
    for isa in Isa::ALL {
        let fault = found("lrn.across", isa, spec, |built| {
            let code = &mut built.code.bytes;
            let mut decoder = Decoder::new(64, code, DecoderOptions::NONE).into_iter();
            let root = decoder.find(|i| i.mnemonic() == Mnemonic::Vsqrtps);
            let root = root.expect("a square root");
            code[root.ip() as usize..root.next_ip() as usize].fill(0x90);
        });
        assert_eq!(fault.kind, Kind::Value, "{fault}");
    }
}
