//! Groups of elements of planes, of each of which one mean, sum or maximum is taken.

use crate::emit::{DST, SRC, TMP, load, vector_bytes};
use crate::variant::{Task, balanced, last_lanes, vector_tasks};
use crate::{Over, Planes};
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};

/// Tasks of a kernel.
const TASKS: u32 = 16;

/// Elements to the next in source and result.
type Steps = [u32; 2];

/// How the groups of two operands lie.
///
/// A *run* is elements that lie side by side: either of as many groups ([`Self::side_by_side`]), or of one.
pub struct Groups {
    /// A lane is a group.
    pub side_by_side: bool,
    run: u32,
    /// Runs of a group.
    runs: u32,
    run_steps: Steps,
    /// Groups, or those that are side by side, that follow each other.
    sets: u32,
    set_steps: Steps,
    /// The same, of those.
    outer: u32,
    outer_steps: Steps,
}

/// Source or result of the current run.
pub const FROM: Gp = Gp::R9;
/// Result of the current run.
pub const TO: Gp = Gp::R10;
/// Runs that are left; code that walks saves it.
pub const RUNS: Gp = Gp::R12;

impl Groups {
    /// Of planes of the same dims. `split`: a run lies in one channel.
    pub fn new([src, dst]: [&Planes; 2], over: Over, split: bool) -> Self {
        let Planes { c, h, w, .. } = *src;
        let pitches = [src.pitch, dst.pitch];
        let compact = pitches == [src.hw(); 2];
        let one = Self {
            side_by_side: false,
            run: src.hw(),
            runs: 1,
            run_steps: pitches,
            sets: 1,
            set_steps: pitches,
            outer: 1,
            outer_steps: pitches,
        };
        let whole = Self {
            run: c * h * w,
            ..one
        };
        match over {
            // Channels of one pixel each lie side by side themselves.
            Over::Channels if pitches == [1; 2] && !split => whole,
            Over::Channels => Self {
                side_by_side: true,
                runs: c,
                ..one
            },
            Over::Rows => Self {
                side_by_side: true,
                run: w,
                runs: h,
                run_steps: [w; 2],
                sets: c,
                ..one
            },
            Over::Columns if compact => Self {
                run: w,
                sets: c * h,
                set_steps: [w; 2],
                ..one
            },
            Over::Columns => Self {
                run: w,
                sets: h,
                set_steps: [w; 2],
                outer: c,
                ..one
            },
            Over::Plane => Self { sets: c, ..one },
            Over::Image if compact && !split => whole,
            Over::Image => Self { runs: c, ..one },
        }
    }

    /// Elements of a group.
    pub fn elems(&self) -> u32 {
        match self.side_by_side {
            true => self.runs,
            false => self.runs * self.run,
        }
    }

    /// Vectors of all groups, lanes that are not used included.
    pub fn vectors(&self, lanes: u32) -> f64 {
        let of_run = f64::from(self.run.div_ceil(lanes));
        of_run * f64::from(self.runs) * f64::from(self.sets) * f64::from(self.outer)
    }

    /// How many reductions over lanes there are.
    pub fn reductions(&self) -> f64 {
        match self.side_by_side {
            true => 0.0,
            false => f64::from(self.sets) * f64::from(self.outer),
        }
    }

    /// Lanes that the last vector of a run uses.
    pub fn last_lanes(&self, lanes: u32) -> u32 {
        last_lanes(self.run, lanes)
    }

    /// Groups side by side: entry 0 for some vectors of groups, entry 1 for the last one; else entry 0 for some groups.
    pub fn tasks(&self, lanes: u32) -> Vec<Task> {
        let moved = |task: Task, by: [i64; 2]| Task {
            src: task.src + 4 * by[0],
            dst: task.dst + 4 * by[1],
            ..task
        };
        let by = |steps: Steps, count: u32| steps.map(|step| i64::from(step) * i64::from(count));
        let of_set = |set: u32| {
            let tasks = vector_tasks(self.run, lanes, (TASKS / self.sets).max(1));
            tasks
                .into_iter()
                .map(move |task| moved(task, by(self.set_steps, set)))
        };
        if self.side_by_side {
            return (0..self.sets).flat_map(of_set).collect();
        }
        let parts = (TASKS / self.outer).max(1);
        let of_outer = |outer: u32| {
            balanced(self.sets, self.sets.div_ceil(parts)).map(move |sets| {
                let task = Task {
                    count: sets.len() as u64,
                    cost: sets.len() as f32,
                    ..Task::default()
                };
                let inside = moved(task, by(self.set_steps, sets.start));
                moved(inside, by(self.outer_steps, outer))
            })
        };
        (0..self.outer).flat_map(of_outer).collect()
    }

    /// Moves [`SRC`] and [`DST`] to the next group, or the next `vectors` of groups.
    pub fn advance<A: VectorAsm>(&self, asm: &mut A, vectors: usize) {
        for (register, step) in [SRC, DST].into_iter().zip(self.set_steps) {
            let bytes = match self.side_by_side {
                true => vectors as i32 * vector_bytes::<A>(),
                false => step as i32 * 4,
            };
            asm.add_imm(register, bytes);
        }
    }

    /// Walks through the runs of the group at [`SRC`] and [`DST`]: `begin` at each, `body` with some vectors of what is
    /// at `from`, one of the two, in the first of the registers `xs`, at [`TO`] and behind. Of groups side by side each
    /// run gives as many as there are registers, masked or not; else the last vector of a run is masked.
    pub fn walk<A: VectorAsm>(
        &self,
        asm: &mut A,
        from: Gp,
        (xs, mask): (&[V], Option<M>),
        begin: &dyn Fn(&mut A),
        body: &dyn Fn(&mut A, usize, Option<M>),
    ) {
        let steps = [
            if from == SRC {
                self.run_steps[0]
            } else {
                self.run_steps[1]
            },
            self.run_steps[1],
        ];
        let run = |asm: &mut A| {
            begin(asm);
            if self.side_by_side {
                vectors(asm, (xs, mask), body);
                return 0;
            }
            self.walk_run(asm, (xs, mask), body)
        };
        asm.mov(FROM, from);
        asm.mov(TO, DST);
        if self.runs == 1 {
            run(asm);
            return;
        }
        asm.mov_imm(RUNS, i64::from(self.runs));
        asm.counted_loop(RUNS, |asm| {
            let moved = run(asm);
            for (register, step) in [FROM, TO].into_iter().zip(steps) {
                asm.add_imm(register, step as i32 * 4 - moved);
            }
        });
    }

    /// The vectors of one run; returns by how many bytes the pointers have moved.
    fn walk_run<A: VectorAsm>(
        &self,
        asm: &mut A,
        (xs, mask): (&[V], Option<M>),
        body: &dyn Fn(&mut A, usize, Option<M>),
    ) -> i32 {
        let whole = (self.run as usize - 1) / A::LANES;
        let many = xs.len();
        for (count, times) in [(many, whole / many), (1, whole % many)] {
            let some = |asm: &mut A| {
                vectors(asm, (&xs[..count], None), body);
                for register in [FROM, TO] {
                    asm.add_imm(register, count as i32 * vector_bytes::<A>());
                }
            };
            match times {
                0 => {}
                1 => some(asm),
                _ => {
                    asm.mov_imm(TMP, times as i64);
                    asm.counted_loop(TMP, some);
                }
            }
        }
        vectors(asm, (&xs[..1], mask), body);
        whole as i32 * vector_bytes::<A>()
    }
}

/// Loads vectors and calls `body` with them.
fn vectors<A: VectorAsm>(
    asm: &mut A,
    (xs, mask): (&[V], Option<M>),
    body: &dyn Fn(&mut A, usize, Option<M>),
) {
    for (i, &x) in xs.iter().enumerate() {
        load(asm, x, vector_at::<A>(FROM, i), mask);
    }
    body(asm, xs.len(), mask);
}

/// The i-th vector from a register on.
pub fn vector_at<A: VectorAsm>(base: Gp, i: usize) -> Mem {
    Mem::new(base, i as i32 * vector_bytes::<A>())
}
