//! Copies: one generated routine that follows a table.
//!
//! A table is a header of [`HEADER_BYTES`] (channels, bytes from one channel to the next in the result
//! and in the source, lines per channel; at [`PERMUTATION`] the lanes of [`every_second`]), followed by
//! the lines, [`LINE_BYTES`] each: offsets in the channel in bytes, elements, [`Kind`], and the strides
//! of source and result in bytes.

use super::image::Emitter;
use skimjit_jit::asm::{Cond, Gp, Label, Mem, V, VectorAsm};
use skimjit_kernels::{Planes, stage::Staging};
use skimjit_runtime::plan::Run;

const HEADER_BYTES: i32 = 128;
const PERMUTATION: i32 = 64;
const LINE_BYTES: i32 = 32;
const ELEM: u32 = size_of::<f32>() as u32;

/// What a line is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Zeros, in whole vectors: lines behind it overwrite the excess.
    Vectors = 0,
    /// Zeros.
    Zeros = 1,
    /// Elements that lie side by side.
    Copy = 2,
    /// Every second element.
    Second = 3,
    /// Every fourth element.
    Fourth = 4,
    /// Any strides.
    Strided = 5,
}

/// A line of a table; offsets and strides in elements.
struct Row {
    dst: u32,
    src: u32,
    len: u32,
    kind: Kind,
    strides: [u32; 2],
}

fn table<A: VectorAsm>(channels: u64, pitches: [u64; 2], rows: &[Row]) -> Vec<u8> {
    let elem = u64::from(ELEM);
    let [src, dst] = pitches;
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize + rows.len() * LINE_BYTES as usize);
    for word in [channels, dst * elem, src * elem, rows.len() as u64] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(PERMUTATION as usize, 0);
    let half = A::LANES as u32 / 2;
    let lane = |i: u32| 4 * (i % half / 2) + i % 2 + if i < half { 0 } else { 2 };
    (0..2 * half).for_each(|i| bytes.extend(lane(i).to_le_bytes()));
    bytes.resize(HEADER_BYTES as usize, 0);
    for row in rows {
        let words = [row.dst * ELEM, row.src * ELEM, row.len, row.kind as u32];
        let strides = row.strides.map(|stride| stride * ELEM);
        for word in words.into_iter().chain(strides).chain([0, 0]) {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

/// `channels` runs of `len` elements, `pitches` elements apart in source and result.
pub(super) fn copy_table<A: VectorAsm>(channels: u32, len: u32, pitches: [u32; 2]) -> Vec<u8> {
    let row = Row {
        dst: 0,
        src: 0,
        len,
        kind: Kind::Copy,
        strides: [1, 1],
    };
    table::<A>(channels.into(), pitches.map(u64::from), &[row])
}

/// One run of `len` elements, `strides` elements apart in source and result.
pub(super) fn strided_table<A: VectorAsm>(len: u32, strides: [u32; 2]) -> Vec<u8> {
    let row = Row {
        dst: 0,
        src: 0,
        len,
        kind: Kind::Strided,
        strides,
    };
    table::<A>(1, [0, 0], &[row])
}

/// Every pixel of some planes, `pitch` elements apart in the result.
pub(super) fn columns_table<A: VectorAsm>(planes: Planes, pitch: u32) -> Vec<u8> {
    let row = Row {
        dst: 0,
        src: 0,
        len: planes.hw(),
        kind: Kind::Strided,
        strides: [1, pitch],
    };
    let column = u64::from(planes.hw()) * u64::from(pitch);
    table::<A>(planes.c.into(), [planes.pitch.into(), column], &[row])
}

/// Any runs.
pub(super) fn runs_table<A: VectorAsm>(runs: &[Run]) -> Vec<u8> {
    let row = |run: &Run| Row {
        dst: run.dst,
        src: run.src,
        len: run.len,
        kind: match run.strides {
            [1, 1] => Kind::Copy,
            _ => Kind::Strided,
        },
        strides: run.strides,
    };
    let rows: Vec<Row> = runs.iter().map(row).collect();
    table::<A>(1, [0, 0], &rows)
}

/// Zeros behind every plane.
pub(super) fn gaps_table<A: VectorAsm>(planes: Planes) -> Vec<u8> {
    let row = Row {
        dst: planes.hw(),
        src: 0,
        len: planes.gap(),
        kind: Kind::Zeros,
        strides: [1, 1],
    };
    table::<A>(planes.c.into(), [0, planes.pitch.into()], &[row])
}

/// A padded copy.
pub(super) fn staging_table<A: VectorAsm>(staging: &Staging) -> Vec<u8> {
    let (lanes, stride) = (A::LANES as u32, staging.line_stride());
    let rows: Vec<Row> = staging
        .lines()
        .into_iter()
        .map(|line| {
            let vectors = line.len.div_ceil(lanes);
            let whole = line.dst + vectors * lanes <= staging.channel;
            let (kind, len) = match (line.src, stride) {
                (None, _) if whole => (Kind::Vectors, vectors),
                (None, _) => (Kind::Zeros, line.len),
                (_, 1) => (Kind::Copy, line.len),
                (_, 2) => (Kind::Second, line.len),
                (_, 4) => (Kind::Fourth, line.len),
                _ => (Kind::Strided, line.len),
            };
            let src = line.src.unwrap_or(0);
            Row {
                dst: line.dst,
                src,
                len,
                kind,
                strides: [stride, 1],
            }
        })
        .collect();
    let pitches = [staging.src.pitch.into(), staging.channel.into()];
    table::<A>(staging.src.c.into(), pitches, &rows)
}

// The routine is called with the result, the source and the table, as the System V convention has it.
const DST: Gp = Gp::Rdi;
const SRC: Gp = Gp::Rsi;
const LEN: Gp = Gp::Rdx;
const ROWS: Gp = Gp::Rcx;
const CHANNELS: Gp = Gp::R8;
const DST_CHANNEL: Gp = Gp::R9;
const SRC_CHANNEL: Gp = Gp::R10;
const ROW: Gp = Gp::R11;
const TABLE: Gp = Gp::Rbx;
const SRC_STRIDE: Gp = Gp::R12;
const DST_STRIDE: Gp = Gp::Rbp;
const KIND: Gp = Gp::Rax;
const SAVED: [Gp; 3] = [TABLE, SRC_STRIDE, DST_STRIDE];

const ZERO: V = V(0);
const LANES_OF_HALVES: V = V(5);
const VALUES: [V; 4] = [V(1), V(2), V(3), V(4)];

fn bytes<A: VectorAsm>() -> i32 {
    (A::LANES * size_of::<f32>()) as i32
}

/// Emits the routine; returns its label.
pub(super) fn routine<A: VectorAsm>(emitter: &mut Emitter<A>, name: &str) -> Label {
    let asm = &mut emitter.asm;
    asm.entry(name, 64);
    let [start, channel, row, next] = [(); 4].map(|()| asm.new_label());
    asm.bind(start);
    SAVED.iter().for_each(|&reg| asm.push(reg));
    asm.mov(TABLE, Gp::Rdx);
    asm.mov(DST_CHANNEL, Gp::Rdi);
    asm.mov(SRC_CHANNEL, Gp::Rsi);
    asm.load64(CHANNELS, Mem::new(TABLE, 0));
    asm.zero(ZERO);
    asm.load(LANES_OF_HALVES, Mem::new(TABLE, PERMUTATION));
    asm.bind(channel);
    asm.lea(ROW, Mem::new(TABLE, HEADER_BYTES));
    asm.load64(ROWS, Mem::new(TABLE, 24));
    asm.bind(row);
    load_row(asm);
    line(asm, next);
    asm.bind(next);
    asm.add_imm(ROW, LINE_BYTES);
    asm.dec(ROWS);
    asm.jcc(Cond::NotEqual, row);
    for (base, pitch) in [(DST_CHANNEL, 8), (SRC_CHANNEL, 16)] {
        asm.load64(KIND, Mem::new(TABLE, pitch));
        asm.add(base, KIND);
    }
    asm.dec(CHANNELS);
    asm.jcc(Cond::NotEqual, channel);
    SAVED.iter().rev().for_each(|&reg| asm.pop(reg));
    asm.ret();
    start
}

fn load_row<A: VectorAsm>(asm: &mut A) {
    asm.load32(DST, Mem::new(ROW, 0));
    asm.add(DST, DST_CHANNEL);
    asm.load32(SRC, Mem::new(ROW, 4));
    asm.add(SRC, SRC_CHANNEL);
    asm.load32(LEN, Mem::new(ROW, 8));
    asm.load32(KIND, Mem::new(ROW, 12));
}

/// Does what the row says and goes to `next`.
fn line<A: VectorAsm>(asm: &mut A, next: Label) {
    let kinds = [
        Kind::Copy,
        Kind::Vectors,
        Kind::Second,
        Kind::Fourth,
        Kind::Zeros,
    ];
    let labels = kinds.map(|_| asm.new_label());
    for (kind, label) in kinds.iter().zip(labels) {
        asm.cmp_imm(KIND, *kind as i32);
        asm.jcc(Cond::Equal, label);
    }
    strided(asm);
    asm.jmp(next);
    for (kind, label) in kinds.iter().zip(labels) {
        asm.bind(label);
        match kind {
            Kind::Copy => copy(asm, next),
            Kind::Vectors => asm.counted_loop(LEN, |asm| {
                asm.store(Mem::new(DST, 0), ZERO);
                asm.add_imm(DST, bytes::<A>());
            }),
            Kind::Second => spread(asm, 2, next),
            Kind::Fourth => spread(asm, 4, next),
            Kind::Zeros | Kind::Strided => zeros(asm, next),
        }
        asm.jmp(next);
    }
}

/// Element by element.
fn strided<A: VectorAsm>(asm: &mut A) {
    asm.load32(SRC_STRIDE, Mem::new(ROW, 16));
    asm.load32(DST_STRIDE, Mem::new(ROW, 20));
    asm.counted_loop(LEN, |asm| {
        asm.load_lane0(VALUES[0], Mem::new(SRC, 0));
        asm.store_lane0(Mem::new(DST, 0), VALUES[0]);
        asm.add(SRC, SRC_STRIDE);
        asm.add(DST, DST_STRIDE);
    });
}

/// Whole vectors while `least` elements are left.
fn vectors<A: VectorAsm>(asm: &mut A, least: i32, body: impl FnOnce(&mut A)) {
    let [top, done] = [(); 2].map(|()| asm.new_label());
    asm.cmp_imm(LEN, least);
    asm.jcc(Cond::Less, done);
    asm.bind(top);
    body(asm);
    asm.add_imm(DST, bytes::<A>());
    asm.sub_imm(LEN, A::LANES as i32);
    asm.cmp_imm(LEN, least);
    asm.jcc(Cond::GreaterEqual, top);
    asm.bind(done);
}

/// What vectors left over, element by element.
fn rest<A: VectorAsm>(asm: &mut A, stride: i32, next: Label) {
    asm.cmp_imm(LEN, 0);
    asm.jcc(Cond::Equal, next);
    asm.counted_loop(LEN, |asm| {
        asm.load_lane0(VALUES[0], Mem::new(SRC, 0));
        asm.store_lane0(Mem::new(DST, 0), VALUES[0]);
        asm.add_imm(SRC, stride * ELEM as i32);
        asm.add_imm(DST, ELEM as i32);
    });
}

fn zeros<A: VectorAsm>(asm: &mut A, next: Label) {
    vectors(asm, A::LANES as i32, |asm| {
        asm.store(Mem::new(DST, 0), ZERO)
    });
    asm.cmp_imm(LEN, 0);
    asm.jcc(Cond::Equal, next);
    asm.counted_loop(LEN, |asm| {
        asm.store_lane0(Mem::new(DST, 0), ZERO);
        asm.add_imm(DST, ELEM as i32);
    });
}

fn copy_vector<A: VectorAsm>(asm: &mut A) {
    asm.load(VALUES[0], Mem::new(SRC, 0));
    asm.store(Mem::new(DST, 0), VALUES[0]);
}

/// Whole vectors, the last one over the end of the one before it.
fn copy<A: VectorAsm>(asm: &mut A, next: Label) {
    let (lanes, short) = (A::LANES as i32, asm.new_label());
    asm.cmp_imm(LEN, lanes);
    asm.jcc(Cond::Less, short);
    vectors(asm, lanes, |asm| {
        copy_vector(asm);
        asm.add_imm(SRC, bytes::<A>());
    });
    asm.cmp_imm(LEN, 0);
    asm.jcc(Cond::Equal, next);
    for base in [SRC, DST] {
        asm.lea(base, Mem::indexed(base, LEN, ELEM as u8, -bytes::<A>()));
    }
    copy_vector(asm);
    asm.jmp(next);
    asm.bind(short);
    rest(asm, 1, next);
}

/// Every second or fourth element. A vector of the source is read only when an element behind the ones
/// it gives follows, so that nothing is read behind the last element.
fn spread<A: VectorAsm>(asm: &mut A, stride: usize, next: Label) {
    vectors(asm, A::LANES as i32 + 1, |asm| {
        for (i, &value) in VALUES.iter().take(stride).enumerate() {
            asm.load(value, Mem::new(SRC, i as i32 * bytes::<A>()));
        }
        asm.add_imm(SRC, stride as i32 * bytes::<A>());
        let [a, b, c, d] = VALUES;
        every_second(asm, a, b);
        if stride == 4 {
            every_second(asm, c, d);
            every_second(asm, a, c);
        }
        asm.store(Mem::new(DST, 0), a);
    });
    rest(asm, stride as i32, next);
}

/// Every second lane of two vectors, into the first.
fn every_second<A: VectorAsm>(asm: &mut A, a: V, b: V) {
    asm.shuffle(a, a, b, 0x88);
    asm.permute(a, LANES_OF_HALVES, a);
}
