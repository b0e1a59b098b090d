//! Kernels that are wrong in one place.

use crate::Case;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{AlignedBuf, Built, registry};
use std::sync::Arc;

/// An instruction with where its displacement is.
#[derive(Clone, Copy)]
struct At {
    instruction: Instruction,
    start: usize,
    len: usize,
    displacement: Option<(usize, usize)>,
}

fn decode(code: &[u8]) -> Vec<At> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut all = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let offsets = decoder.get_constant_offsets(&instruction);
        let start = instruction.ip() as usize;
        let displacement = offsets.has_displacement().then(|| {
            (
                start + offsets.displacement_offset(),
                offsets.displacement_size(),
            )
        });
        let len = instruction.len();
        all.push(At {
            instruction,
            start,
            len,
            displacement,
        });
    }
    all
}

const NOP: u8 = 0x90;

impl At {
    fn is(&self, mnemonic: Mnemonic) -> bool {
        self.instruction.mnemonic() == mnemonic
    }
    fn reads_memory(&self) -> bool {
        (1..self.instruction.op_count()).any(|i| self.instruction.op_kind(i) == OpKind::Memory)
    }
    fn writes_memory(&self) -> bool {
        self.instruction.op0_kind() == OpKind::Memory
    }
    fn drop_from(&self, code: &mut [u8]) {
        code[self.start..][..self.len].fill(NOP);
    }
    fn masked(&self) -> bool {
        self.instruction.op_mask() != iced_x86::Register::None
    }
}

/// The instruction in the middle of those that are wanted: away from special cases at the ends.
fn middle(code: &[u8], wanted: impl Fn(&At) -> bool) -> At {
    let found: Vec<At> = decode(code).into_iter().filter(wanted).collect();
    assert!(!found.is_empty(), "no such instruction in the kernel");
    found[found.len() / 2]
}

fn is_fma(at: &At) -> bool {
    at.is(Mnemonic::Vfmadd231ps)
}

fn repack(built: &mut Built, change: impl FnOnce(&mut [u8])) {
    let mut bytes = built.packed.bytes().to_vec();
    change(&mut bytes);
    let mut packed = AlignedBuf::new();
    packed.extend(&bytes);
    built.packed = Arc::new(packed);
}

/// A 13×13 plane: the last vector of a plane is masked.
const CONV: &str = "conv src=6x13x13x224 dst=30x13x13x224 k=3x3 s=1x1 p=1x1 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=3";
const DENSE: &str = "conv src=20x9x9x112 dst=20x9x9x112 k=1x1 s=1x1 p=0x0 d=1x1 g=1 density=100 bias=1 scale=1 seed=3";
const FC: &str = "fc in=200 out=70 density=100 bias=1 scale=1 seed=1";
const POOL: &str =
    "pool src=3x13x13x224 dst=3x6x6x48 k=3x3 s=2x2 p=0x0 d=1x1 density=100 scale=1 seed=1";

fn found(variant: &str, isa: Isa, spec: &str, what: &str, seed: impl FnOnce(&mut Built)) {
    let case = Case::new(spec.parse().unwrap());
    let mut built = case.build(registry::find(variant).unwrap(), isa).unwrap();
    case.verify(isa, &built).expect("a right kernel");
    seed(&mut built);
    match case.verify(isa, &built) {
        Ok(_) => panic!("{variant}, {isa}: {what} is not found"),
        Err(fault) => println!("{what}: {fault}"),
    }
}

fn sparse(isa: Isa, what: &str, seed: impl FnOnce(&mut Built)) {
    found("sparse_conv.baked", isa, CONV, what, seed);
}

#[test]
fn a_lost_multiply_add() {
    for isa in Isa::ALL {
        sparse(isa, "a lost multiply-add", |built| {
            middle(&built.code.bytes, is_fma).drop_from(&mut built.code.bytes);
        });
    }
}

#[test]
fn a_doubled_multiply_add() {
    for isa in Isa::ALL {
        sparse(isa, "a doubled multiply-add", |built| {
            // One multiply-add takes the place of another of its length.
            let all = decode(&built.code.bytes);
            let twins = all
                .windows(2)
                .find(|pair| pair.iter().all(is_fma) && pair[0].len == pair[1].len);
            let [first, second] = *twins.expect("two multiply-adds in a row") else {
                unreachable!("windows of two")
            };
            let bytes = built.code.bytes[first.start..][..first.len].to_vec();
            built.code.bytes[second.start..][..second.len].copy_from_slice(&bytes);
        });
    }
}

#[test]
fn a_wrong_displacement() {
    for isa in Isa::ALL {
        sparse(isa, "a wrong displacement", |built| {
            let wanted = |at: &At| {
                at.reads_memory()
                    && at.displacement.is_some()
                    && at.instruction.op0_register().is_vector_register()
            };
            let (offset, _) = middle(&built.code.bytes, wanted).displacement.unwrap();
            built.code.bytes[offset] ^= 4;
        });
    }
}

#[test]
fn swapped_weights() {
    sparse(Isa::Avx512, "swapped weights", |built| {
        let start = built.tasks[0].wei as usize;
        repack(built, |bytes| {
            let (a, b) = bytes[start..].split_at_mut(4);
            a.swap_with_slice(&mut b[..4]);
        });
    });
}

#[test]
fn a_wrong_bias() {
    sparse(Isa::Avx512, "a wrong bias", |built| {
        let start = built.tasks[0].bias as usize;
        repack(built, |bytes| bytes[start + 2] ^= 1);
    });
}

#[test]
fn a_store_past_the_end() {
    for isa in Isa::ALL {
        sparse(isa, "a store past the end", |built| {
            let last = built.tasks.len() - 1;
            built.tasks[last].dst += 4 * 224;
        });
    }
}

#[test]
fn a_result_into_the_gap() {
    found(
        "dense_conv.rolled",
        Isa::Avx512,
        DENSE,
        "a result in the gap",
        |built| {
            built.tasks.iter_mut().for_each(|task| task.dst += 4);
        },
    );
}

#[test]
fn a_read_before_the_source() {
    sparse(Isa::Avx512, "a read before the source", |built| {
        built.tasks[0].src -= 1 << 20;
    });
}

#[test]
fn a_wrong_loop_count() {
    for isa in Isa::ALL {
        for by in [1, u64::MAX] {
            found(
                "sparse_conv.phase",
                isa,
                CONV,
                "a wrong loop count",
                |built| {
                    let task = built.tasks.iter_mut().max_by_key(|task| task.count);
                    let task = task.expect("a task");
                    assert!(task.count > 1, "a loop");
                    task.count = task.count.wrapping_add(by);
                },
            );
        }
    }
}

#[test]
fn a_missing_mask() {
    sparse(Isa::Avx512, "a missing mask on the tail", |built| {
        let store = middle(&built.code.bytes, |at| at.writes_memory() && at.masked());
        // The last three bits of EVEX name the mask.
        built.code.bytes[store.start + 3] &= !7;
    });
}

#[test]
fn a_lost_store() {
    for isa in Isa::ALL {
        sparse(isa, "a lost store", |built| {
            let store = middle(&built.code.bytes, |at| {
                at.writes_memory()
                    && at
                        .instruction
                        .op_register(at.instruction.op_count() - 1)
                        .is_vector_register()
            });
            store.drop_from(&mut built.code.bytes);
        });
    }
}

#[test]
fn a_missing_activation() {
    for isa in Isa::ALL {
        sparse(isa, "a missing ReLU", |built| {
            middle(&built.code.bytes, |at| at.is(Mnemonic::Vmaxps))
                .drop_from(&mut built.code.bytes);
        });
    }
}

#[test]
fn an_inverted_jump() {
    for isa in Isa::ALL {
        found(
            "dense_conv.rolled",
            isa,
            DENSE,
            "an inverted jump",
            |built| {
                let jump = middle(&built.code.bytes, |at| {
                    at.instruction.is_jcc_short_or_near()
                });
                let opcode = jump.start + usize::from(jump.len > 2);
                built.code.bytes[opcode] ^= 1;
            },
        );
    }
}

#[test]
fn a_loop_without_end() {
    found(
        "dense_conv.rolled",
        Isa::Avx512,
        DENSE,
        "a loop without end",
        |built| {
            let all = decode(&built.code.bytes);
            let step = all
                .windows(2)
                .find(|pair| pair[1].instruction.is_jcc_short_or_near());
            step.expect("a loop")[0].drop_from(&mut built.code.bytes);
        },
    );
}

#[test]
fn two_tasks_with_one_result() {
    sparse(Isa::Avx512, "two tasks that write one result", |built| {
        assert!(built.tasks.len() > 1, "several tasks");
        let first = built.tasks[0];
        built.tasks.push(first);
    });
}

#[test]
fn a_task_that_is_left_out() {
    sparse(Isa::Avx2, "a task that is left out", |built| {
        built.tasks.pop();
    });
}

#[test]
fn a_footprint_that_is_too_small() {
    for isa in Isa::ALL {
        sparse(isa, "a footprint that is too small", |built| {
            built.footprint.src.after -= 16
        });
    }
}

#[test]
fn a_register_that_nobody_set() {
    sparse(
        Isa::Avx512,
        "an accumulator that starts undefined",
        |built| {
            let all = decode(&built.code.bytes);
            let first = all.iter().position(is_fma).expect("a multiply-add");
            let accumulator = all[first].instruction.op0_register();
            let sets = all[..first]
                .iter()
                .rev()
                .find(|at| at.instruction.op0_register() == accumulator);
            sets.expect("it is set").drop_from(&mut built.code.bytes);
        },
    );
}

#[test]
fn a_wrong_accumulator() {
    sparse(
        Isa::Avx512,
        "a multiply-add into another accumulator",
        |built| {
            let fma = middle(&built.code.bytes, |at| is_fma(at) && at.reads_memory());
            // reg of ModRM, behind the four bytes of EVEX and the opcode.
            built.code.bytes[fma.start + 5] ^= 0x08;
        },
    );
}

#[test]
fn a_wrong_window() {
    for isa in Isa::ALL {
        found(
            "pool.lines",
            isa,
            POOL,
            "a pooling window that is shifted",
            |built| {
                let wanted = |at: &At| {
                    at.is(Mnemonic::Vmovups)
                        && at.reads_memory()
                        && at.displacement.is_some_and(|d| d.1 == 4)
                };
                let loads: Vec<At> = decode(&built.code.bytes)
                    .into_iter()
                    .filter(wanted)
                    .collect();
                match loads.get(loads.len() / 2) {
                    Some(load) => built.code.bytes[load.displacement.unwrap().0] ^= 4,
                    None => built.tasks[0].src += 4,
                }
            },
        );
    }
}

#[test]
fn a_lost_product_of_an_inner_product() {
    for (variant, isa) in [
        ("dense_fc.gemv", Isa::Avx2),
        ("dense_fc.gemv", Isa::Avx512),
        ("sparse_fc.sell", Isa::Avx2),
    ] {
        found(variant, isa, FC, "a lost product", |built| {
            middle(&built.code.bytes, is_fma).drop_from(&mut built.code.bytes);
        });
    }
}
