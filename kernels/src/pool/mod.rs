//! Maximum and average pooling.

pub mod lines;
pub mod registers;

use crate::emit::{AUX, COUNT, DST, SRC};
use crate::problem::{check_planes, refuse};
use crate::variant::{Task, Unsupported, balanced};
use crate::{AlignedBuf, PoolProblem, limits};
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::ops::PoolMethod;

/// Tasks of a kernel.
const TASKS: u32 = 16;

/// Refuses sizes that do not fit together or are beyond the limits.
fn check(problem: &PoolProblem) -> Result<(), Unsupported> {
    check_planes(&problem.src)?;
    check_planes(&problem.dst)?;
    if matches!(problem.method, PoolMethod::Lp { .. }) {
        return refuse(format!("{:?}, expected maxima or averages", problem.method));
    }
    let window = &problem.window;
    let reach = u64::from(problem.dst.w - 1) * u64::from(window.stride[1]);
    let line = reach.max(u64::from(problem.src.w)) + window.pads(1);
    if window.kernel[1] > limits::POOL_KERNEL || line > u64::from(limits::POOL_LINE) {
        return refuse(format!(
            "a kernel {} wide on lines of {line}, expected at most {} and {}",
            window.kernel[1],
            limits::POOL_KERNEL,
            limits::POOL_LINE
        ));
    }
    let sizes = [
        (problem.src.h, problem.dst.h),
        (problem.src.w, problem.dst.w),
    ];
    let fits = (0..2).all(|axis| {
        let [kernel, stride] = [window.kernel[axis], window.stride[axis]].map(u64::from);
        let [begin, end] = [window.pad_begin[axis], window.pad_end[axis]].map(u64::from);
        let (input, output) = (u64::from(sizes[axis].0), u64::from(sizes[axis].1));
        begin.max(end) < kernel && stride > 0 && (output - 1) * stride < input + begin + stride
    });
    let same = problem.src.c == problem.dst.c && window.dilation == [1, 1];
    if !(fits && same) {
        return refuse(format!(
            "{window:?} from {:?} to {:?}, expected windows that start inside the padded planes",
            problem.src, problem.dst
        ));
    }
    Ok(())
}

/// Window of output index `i` along an axis of `size` elements: first and end index, clipped to the plane,
/// and the extent that counts for the average (clipped to the padded plane only, or to the plane).
fn window(problem: &PoolProblem, axis: usize, i: u32) -> (u32, u32, u32) {
    let (window, size) = (&problem.window, [problem.src.h, problem.src.w][axis]);
    let start = i64::from(i * window.stride[axis]) - i64::from(window.pad_begin[axis]);
    let padded_end = i64::from(size + window.pad_end[axis]);
    let padded_end = padded_end.min(start + i64::from(window.kernel[axis]));
    let first = start.clamp(0, i64::from(size)) as u32;
    let end = padded_end.clamp(i64::from(first), i64::from(size)) as u32;
    let counted = match problem.method {
        PoolMethod::AverageInside => end - first,
        _ => (padded_end - start).max(0) as u32,
    };
    (first, end, counted.max(1))
}

/// What a window over nothing gives.
fn fill(problem: &PoolProblem) -> f32 {
    match problem.method {
        PoolMethod::Max if problem.relu => 0.0,
        PoolMethod::Max => -f32::MAX,
        PoolMethod::Average | PoolMethod::AverageInside | PoolMethod::Lp { .. } => 0.0,
    }
}

/// Bytes of the record of an output row.
const ROW_RECORD: i32 = 16;

/// Appends a record per output row: byte offset of the window's first source row, its rows, the
/// vertical divisor (`f32`), and whether `stored` elements from the row's start stay in the plane.
fn write_rows(packed: &mut AlignedBuf, problem: &PoolProblem, stored: u32) -> i32 {
    let rows = packed.align(64) as i32;
    for oh in 0..problem.dst.h {
        let (first, end, counted) = window(problem, 0, oh);
        let whole = u32::from(oh * problem.dst.w + stored <= problem.dst.hw());
        packed.extend(&(first * problem.src.w * 4).to_le_bytes());
        packed.extend(&(end - first).to_le_bytes());
        packed.extend_f32([counted as f32]);
        packed.extend(&whole.to_le_bytes());
    }
    rows
}

/// Current source row.
const ROW: Gp = Gp::R10;
/// Rows of the window.
const ROWS: Gp = Gp::R11;
/// Record of the current output row.
const RECORD: Gp = Gp::Rsi;
/// Output rows left.
const OUTPUT_ROWS: Gp = Gp::Rbx;

/// Walks through the output rows of the task's channels. `body` computes the one at `out`, whose
/// record is at `RECORD`; the first record is `rows` bytes into the tables.
fn for_output_rows<A: VectorAsm>(
    asm: &mut A,
    problem: &PoolProblem,
    rows: i32,
    out: Gp,
    body: impl FnOnce(&mut A),
) {
    asm.counted_loop(COUNT, |asm| {
        asm.lea(RECORD, Mem::new(AUX, rows));
        asm.mov(out, DST);
        asm.mov_imm(OUTPUT_ROWS, i64::from(problem.dst.h));
        asm.counted_loop(OUTPUT_ROWS, |asm| {
            body(asm);
            asm.add_imm(RECORD, ROW_RECORD);
            asm.add_imm(out, problem.dst.w as i32 * 4);
        });
        asm.add_imm(SRC, problem.src.pitch as i32 * 4);
        asm.add_imm(DST, problem.dst.pitch as i32 * 4);
    });
}

/// Walks through the source rows of the window, from accumulators that hold `fill`. `body` combines
/// with the one at `ROW`.
fn for_source_rows<A: VectorAsm>(
    asm: &mut A,
    problem: &PoolProblem,
    accs: &[V],
    fill: V,
    body: impl FnOnce(&mut A),
) {
    asm.load32(ROW, Mem::new(RECORD, 0));
    asm.add(ROW, SRC);
    asm.load32(ROWS, Mem::new(RECORD, 4));
    accs.iter().for_each(|&acc| asm.vmov(acc, fill));
    asm.counted_loop_if_any(ROWS, |asm| {
        body(asm);
        asm.add_imm(ROW, problem.src.w as i32 * 4);
    });
}

/// Some channels each.
fn tasks(problem: &PoolProblem) -> Vec<Task> {
    balanced(problem.dst.c, problem.dst.c.div_ceil(TASKS))
        .map(|channels| Task::of_channels(channels, &problem.src, &problem.dst))
        .collect()
}
