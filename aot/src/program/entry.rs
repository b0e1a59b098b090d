//! The public functions.
//!
//! * `<name>_init(scratch, most_isa)` zeroes the scratch memory, and writes into its header whose it is
//!   and which instruction set is used; returns the latter's number.
//! * `<name>_run_ports(inputs, outputs, scratch)` runs the network; `<name>_run(in, out, scratch)` does so
//!   where there is one input and one output.
//! * `<name>_layer_<layer>(sources, result, scratch)` runs a layer.
//!
//! They use no vector register, so they can refuse a CPU; and they read nothing but their arguments.

use super::image::{Emitter, Image, Target};
use super::network::Functions;
use super::{HEADER_ISA, Interface, SCRATCH_ALIGN, isa_number};
use skimjit_jit::asm::{self, Avx2Asm, Cond, Gp, Label, Mem, VectorAsm};
use skimjit_kernels::jit::Isa;

/// The CPU has none of the instruction sets.
pub const ERROR_ISA: i32 = -1;
/// The scratch memory is null, not aligned, or not initialised by this program.
pub const ERROR_SCRATCH: i32 = -2;
/// An address is null.
pub const ERROR_NULL: i32 = -3;

/// Emits instructions that every x86-64 CPU has.
type Plain = Emitter<Avx2Asm>;

/// Appends all of them.
pub(super) fn add(image: &mut Image, interface: &Interface, found: &[Functions]) {
    let detection = image.add_kernel(
        format!("{}_detection", interface.name),
        &asm::detection().bytes,
    );
    let identity = image.identity();
    let mut emitter = Plain::new();
    init(&mut emitter, interface, identity, detection);
    if let Some([inputs, outputs]) = &interface.network {
        let network: Vec<(Isa, Target)> = found
            .iter()
            .filter_map(|functions| Some((functions.isa, functions.network?)))
            .collect();
        let name = format!("{}_run_ports", interface.name);
        function(&mut emitter, &name, identity, &network, false);
        if inputs.len() == 1 && outputs.len() == 1 {
            let name = format!("{}_run", interface.name);
            function(&mut emitter, &name, identity, &network, true);
        }
    }
    for (index, layer) in interface.layers.iter().enumerate() {
        let targets = found
            .iter()
            .map(|functions| (functions.isa, functions.layers[index]));
        let targets: Vec<(Isa, Target)> = targets.collect();
        function(&mut emitter, &layer.function, identity, &targets, false);
    }
    image.add_code(emitter, true);
}

fn init(emitter: &mut Plain, interface: &Interface, identity: u64, detection: Target) {
    let (scratch, most) = (Gp::Rdi, Gp::Rsi);
    let asm = &mut emitter.asm;
    asm.entry(&format!("{}_init", interface.name), 16);
    let [bad_scratch, capped] = [(); 2].map(|()| asm.new_label());
    asm.cmp_imm(scratch, 0);
    asm.jcc(Cond::Equal, bad_scratch);
    asm.mov(Gp::Rax, scratch);
    asm.and_imm(Gp::Rax, SCRATCH_ALIGN as i32 - 1);
    asm.cmp_imm(Gp::Rax, 0);
    asm.jcc(Cond::NotEqual, bad_scratch);
    // The upper half of an int's register is anything.
    asm.shl_imm(most, 32);
    asm.shr_imm(most, 32);
    asm.push(scratch);
    asm.push(most);
    asm.sub_imm(Gp::Rsp, 8);
    emitter.address(Gp::Rax, detection);
    let asm = &mut emitter.asm;
    asm.call_reg(Gp::Rax);
    asm.add_imm(Gp::Rsp, 8);
    asm.pop(most);
    asm.pop(scratch);
    asm.cmp_imm(most, 0);
    asm.jcc(Cond::Equal, capped);
    asm.cmp(Gp::Rax, most);
    asm.jcc(Cond::Below, capped);
    asm.mov(Gp::Rax, most);
    asm.bind(capped);
    choose(asm, interface);
    clear(asm, interface, identity);
    asm.bind(bad_scratch);
    give(asm, ERROR_SCRATCH);
}

/// The best instruction set up to `rax` goes to `rdx`; returns when there is none.
fn choose(asm: &mut Avx2Asm, interface: &Interface) {
    let chosen = asm.new_label();
    for &isa in interface.isas.iter().rev() {
        let number = isa_number(isa) as i32;
        asm.mov_imm(Gp::Rdx, number.into());
        asm.cmp_imm(Gp::Rax, number);
        asm.jcc(Cond::AboveEqual, chosen);
    }
    give(asm, ERROR_ISA);
    asm.bind(chosen);
}

/// Zeroes the scratch memory at `rdi`, writes its header and returns the instruction set in `rdx`.
fn clear(asm: &mut Avx2Asm, interface: &Interface, identity: u64) {
    let (scratch, zero, at) = (Gp::Rdi, Gp::Rax, Gp::Rcx);
    asm.mov_imm(zero, 0);
    asm.mov_imm(at, interface.scratch_bytes as i64);
    let top = asm.new_label();
    asm.bind(top);
    asm.store64(Mem::indexed(scratch, at, 1, -8), zero);
    asm.sub_imm(at, 8);
    asm.jcc(Cond::NotEqual, top);
    asm.mov_imm(Gp::Rax, identity as i64);
    asm.store64(Mem::new(scratch, 0), Gp::Rax);
    asm.store64(Mem::new(scratch, HEADER_ISA), Gp::Rdx);
    asm.mov(Gp::Rax, Gp::Rdx);
    asm.ret_near();
}

fn give(asm: &mut Avx2Asm, value: i32) {
    asm.mov_imm(Gp::Rax, value.into());
    asm.ret_near();
}

/// A function of two addresses and the scratch memory that checks them and calls the one for the
/// instruction set in the scratch memory. `direct`: the addresses are those of the one input and the one
/// output, of which arrays are made.
fn function(
    emitter: &mut Plain,
    name: &str,
    identity: u64,
    targets: &[(Isa, Target)],
    direct: bool,
) {
    let asm = &mut emitter.asm;
    asm.entry(name, 16);
    let [null, bad_scratch] = [(); 2].map(|()| asm.new_label());
    check(asm, identity, [null, bad_scratch]);
    // Two addresses, and 8 bytes that align the stack.
    asm.sub_imm(Gp::Rsp, 24);
    if direct {
        asm.store64(Mem::new(Gp::Rsp, 0), Gp::Rdi);
        asm.store64(Mem::new(Gp::Rsp, 8), Gp::Rsi);
        asm.mov(Gp::Rdi, Gp::Rsp);
        asm.lea(Gp::Rsi, Mem::new(Gp::Rsp, 8));
    }
    dispatch(emitter, targets);
    let asm = &mut emitter.asm;
    asm.add_imm(Gp::Rsp, 24);
    give(asm, 0);
    asm.bind(null);
    give(asm, ERROR_NULL);
    asm.bind(bad_scratch);
    give(asm, ERROR_SCRATCH);
}

fn check(asm: &mut Avx2Asm, identity: u64, [null, bad_scratch]: [Label; 2]) {
    for (address, label) in [(Gp::Rdi, null), (Gp::Rsi, null), (Gp::Rdx, bad_scratch)] {
        asm.cmp_imm(address, 0);
        asm.jcc(Cond::Equal, label);
    }
    asm.mov_imm(Gp::Rax, identity as i64);
    asm.load64(Gp::Rcx, Mem::new(Gp::Rdx, 0));
    asm.cmp(Gp::Rax, Gp::Rcx);
    asm.jcc(Cond::NotEqual, bad_scratch);
}

/// Calls the function for the instruction set that `init` chose; it is one of these.
fn dispatch(emitter: &mut Plain, targets: &[(Isa, Target)]) {
    let call = emitter.asm.new_label();
    emitter.asm.load64(Gp::Rcx, Mem::new(Gp::Rdx, HEADER_ISA));
    for &(isa, target) in targets {
        emitter.address(Gp::Rax, target);
        emitter.asm.cmp_imm(Gp::Rcx, isa_number(isa) as i32);
        emitter.asm.jcc(Cond::Equal, call);
    }
    emitter.asm.bind(call);
    emitter.asm.call_reg(Gp::Rax);
}
