//! Functions of one instruction set: one per layer, and one for the network.
//!
//! A layer's function takes an array of the sources' addresses, the result's, and the scratch memory; the
//! network's takes the inputs' addresses, the outputs' and the scratch memory. They return nothing.

use super::image::{Emitter, Image, Target};
use super::layers::{Action, Layer, Layers};
use super::{Interface, Scratch, moves, tasks};
use skimjit_jit::asm::{Cond, Gp, Label, Mem, VectorAsm};
use skimjit_kernels::Planes;
use skimjit_runtime::PlanError;
use skimjit_runtime::plan::{Loops, Operand, Place, Plan, Port, Segment, Step, Work};

const ELEM: usize = size_of::<f32>();

/// What one instruction set contributes.
pub(super) struct Parts<'p> {
    pub plan: &'p Plan,
    pub layers: &'p Layers<'p>,
    pub scratch: Scratch,
    pub whole: bool,
}

/// Where its functions are.
pub(super) struct Functions {
    pub isa: skimjit_kernels::jit::Isa,
    pub layers: Vec<Target>,
    pub network: Option<Target>,
}

/// Data and code of a layer.
struct Placed {
    code: Target,
    packed: Target,
    tasks: Target,
    moves: Option<Target>,
}

/// The shared routines, and the layers' functions and data.
struct Labels {
    tasks: Label,
    moves: Label,
    layers: Vec<Label>,
    places: Vec<Placed>,
}

impl Parts<'_> {
    /// Appends everything to the image.
    pub fn add<A: VectorAsm>(
        &self,
        image: &mut Image,
        interface: &Interface,
    ) -> Result<Functions, PlanError> {
        let prefix = format!("{}_{}", interface.name, A::ISA);
        let names: Vec<String> = interface
            .layers
            .iter()
            .map(|layer| format!("{prefix}{}", &layer.function[interface.name.len()..]))
            .collect();
        let layers = self.layers.list.iter().zip(&names);
        let places: Vec<Placed> = layers
            .map(|(layer, name)| self.add_layer::<A>(image, layer, name))
            .collect();
        let moves = self.add_moves::<A>(image, &prefix);
        let mut emitter = Emitter::<A>::new();
        let mut labels = Labels {
            tasks: tasks::routine(&mut emitter, &format!("{prefix}_tasks")),
            moves: moves::routine(&mut emitter, &format!("{prefix}_moves")),
            layers: Vec::new(),
            places,
        };
        for (index, (layer, name)) in self.layers.list.iter().zip(&names).enumerate() {
            emitter.asm.entry(&format!("{name}_run"), 16);
            let label = self.layer(&mut emitter, layer, &labels.places[index], &labels);
            labels.layers.push(label);
        }
        if self.whole {
            emitter.asm.entry(&format!("{prefix}_network"), 16);
            self.network(&mut emitter, &labels, &moves);
        }
        // The two routines come first.
        let mut targets = image.add_code(emitter, false).split_off(2);
        let network = if self.whole { targets.pop() } else { None };
        Ok(Functions {
            isa: A::ISA,
            layers: targets,
            network,
        })
    }

    fn add_layer<A: VectorAsm>(&self, image: &mut Image, layer: &Layer<'_>, name: &str) -> Placed {
        let kernel = layer.kernel;
        let table = tasks::table(kernel, self.plan.code_is_far);
        Placed {
            code: image.add_kernel(name.to_owned(), kernel.code()),
            packed: image.add_data(format!("{name}_weights"), kernel.packed()),
            tasks: image.add_data(format!("{name}_tasks"), &table),
            moves: layer.staging.map(|staging| {
                let table = moves::staging_table::<A>(staging);
                image.add_data(format!("{name}_staging"), &table)
            }),
        }
    }

    /// Tables of the network's moves, in order: for each the operand and the table.
    fn add_moves<A: VectorAsm>(
        &self,
        image: &mut Image,
        prefix: &str,
    ) -> Vec<Vec<(usize, Target)>> {
        let actions = self.layers.segments.iter().flatten();
        let tables: Vec<Vec<(usize, Vec<u8>)>> = actions.filter_map(move_tables::<A>).collect();
        let mut number = 0;
        let mut add = |(operand, table): (usize, Vec<u8>)| {
            number += 1;
            let name = format!("{prefix}_move_{number}");
            (operand, image.add_data(name, &table))
        };
        let tables = tables.into_iter();
        tables
            .map(|tables| tables.into_iter().map(&mut add).collect())
            .collect()
    }

    /// A layer's function.
    fn layer<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        layer: &Layer<'_>,
        place: &Placed,
        labels: &Labels,
    ) -> Label {
        let start = emitter.asm.new_label();
        emitter.asm.bind(start);
        if let Some(table) = place.moves {
            self.staged(emitter, layer, table, labels);
        }
        self.pass_kernel(emitter, layer, place, Gp::Rdx);
        if place.moves.is_none() {
            emitter.asm.jmp(labels.tasks);
            return start;
        }
        emitter.asm.call(labels.tasks);
        emitter.asm.add_imm(Gp::Rsp, FRAME_BYTES);
        emitter.asm.ret_near();
        start
    }

    /// Arguments of the routine for tasks, but the operands: all tasks.
    fn pass_kernel<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        layer: &Layer<'_>,
        place: &Placed,
        base: Gp,
    ) {
        let [.., scratch, table, count, code, packed, sources] = tasks::ARGUMENTS;
        emitter.displaced(scratch, base, self.scratch.kernel);
        emitter.address(table, place.tasks);
        let tasks = layer.kernel.tasks().len();
        emitter.asm.mov_imm(count, tasks as i64);
        emitter.address(code, place.code);
        emitter.address(packed, place.packed);
        emitter.asm.mov_imm(sources, layer.src.len() as i64);
    }

    /// Makes the padded copy, and on the stack an array of sources in which it comes first.
    fn staged<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        layer: &Layer<'_>,
        table: Target,
        labels: &Labels,
    ) {
        let saved = [Gp::Rdi, Gp::Rsi, Gp::Rdx];
        saved.iter().for_each(|&reg| emitter.asm.push(reg));
        emitter.asm.load64(Gp::Rsi, Mem::new(Gp::Rdi, 0));
        emitter.displaced(Gp::Rdi, Gp::Rdx, self.scratch.staged);
        emitter.address(Gp::Rdx, table);
        emitter.asm.call(labels.moves);
        saved.iter().rev().for_each(|&reg| emitter.asm.pop(reg));
        emitter.asm.sub_imm(Gp::Rsp, FRAME_BYTES);
        for index in 1..layer.src.len() as i32 {
            emitter.asm.load64(Gp::Rax, Mem::new(Gp::Rdi, 8 * index));
            emitter.asm.store64(Mem::new(Gp::Rsp, 8 * index), Gp::Rax);
        }
        emitter.displaced(Gp::Rcx, Gp::Rdx, self.scratch.staged);
        emitter.asm.store64(Mem::new(Gp::Rsp, 0), Gp::Rcx);
        emitter.asm.mov(Gp::Rdi, Gp::Rsp);
    }

    /// The network's function.
    fn network<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        labels: &Labels,
        moves: &[Vec<(usize, Target)>],
    ) {
        SAVED.iter().for_each(|&reg| emitter.asm.push(reg));
        emitter.asm.sub_imm(Gp::Rsp, FRAME_BYTES);
        for (to, from) in [(INPUTS, Gp::Rdi), (OUTPUTS, Gp::Rsi), (SCRATCH, Gp::Rdx)] {
            emitter.asm.mov(to, from);
        }
        let mut moves = moves.iter();
        for (segment, actions) in self.plan.segments.iter().zip(&self.layers.segments) {
            self.segment(emitter, segment, actions, labels, &mut moves);
        }
        emitter.asm.add_imm(Gp::Rsp, FRAME_BYTES);
        SAVED.iter().rev().for_each(|&reg| emitter.asm.pop(reg));
        emitter.asm.ret_near();
    }

    fn segment<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        segment: &Segment,
        actions: &[Action<'_>],
        labels: &Labels,
        moves: &mut std::slice::Iter<'_, Vec<(usize, Target)>>,
    ) {
        if segment.per_image {
            return self.for_images(emitter, true, |emitter| {
                for action in actions {
                    self.action(emitter, action, labels, moves);
                }
            });
        }
        for action in actions {
            let loops = match action {
                Action::Clear(_) => Loops::Images,
                Action::Layer(index) => self.layers.list[*index].loops,
                Action::Move(step, _) => step.loops,
            };
            match (loops, action) {
                (Loops::Tasks, Action::Layer(index)) => {
                    self.tasks_of_images(emitter, *index, labels);
                }
                _ => self.for_images(emitter, loops != Loops::Once, |emitter| {
                    self.action(emitter, action, labels, moves);
                }),
            }
        }
    }

    fn tasks_of_images<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        index: usize,
        labels: &Labels,
    ) {
        let (layer, place) = (&self.layers.list[index], &labels.places[index]);
        let [.., table, count, _, _, _] = tasks::ARGUMENTS;
        emitter.asm.mov_imm(TASK, 0);
        let top = emitter.asm.new_label();
        emitter.asm.bind(top);
        self.for_images(emitter, true, |emitter| {
            self.operands(emitter, layer);
            self.pass_kernel(emitter, layer, place, SCRATCH);
            emitter.asm.add(table, TASK);
            emitter.asm.mov_imm(count, 1);
            emitter.asm.call(labels.tasks);
        });
        let bytes = layer.kernel.tasks().len() as i64 * i64::from(tasks::TASK_BYTES);
        emitter.asm.add_imm(TASK, tasks::TASK_BYTES);
        emitter.asm.mov_imm(Gp::Rax, bytes);
        emitter.asm.cmp(TASK, Gp::Rax);
        emitter.asm.jcc(Cond::Below, top);
    }

    /// Repeats the body with [`IMAGE`] counting images.
    fn for_images<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        every: bool,
        body: impl FnOnce(&mut Emitter<A>),
    ) {
        emitter.asm.mov_imm(IMAGE, 0);
        let top = emitter.asm.new_label();
        emitter.asm.bind(top);
        body(emitter);
        if every && self.plan.batch > 1 {
            emitter.asm.add_imm(IMAGE, 1);
            emitter.asm.mov_imm(Gp::Rax, self.plan.batch as i64);
            emitter.asm.cmp(IMAGE, Gp::Rax);
            emitter.asm.jcc(Cond::Below, top);
        }
    }

    fn action<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        action: &Action<'_>,
        labels: &Labels,
        moves: &mut std::slice::Iter<'_, Vec<(usize, Target)>>,
    ) {
        match action {
            Action::Layer(index) => {
                self.operands(emitter, &self.layers.list[*index]);
                emitter.asm.mov(Gp::Rdx, SCRATCH);
                emitter.asm.call(labels.layers[*index]);
            }
            Action::Clear(operand) => {
                for &(_, table) in moves.next().expect("a table per action") {
                    self.operand(emitter, Gp::Rdi, operand);
                    emitter.asm.mov(Gp::Rsi, Gp::Rdi);
                    emitter.address(Gp::Rdx, table);
                    emitter.asm.call(labels.moves);
                }
            }
            Action::Move(step, _) => {
                for &(operand, table) in moves.next().expect("tables per move") {
                    self.move_operands(emitter, step, operand);
                    emitter.address(Gp::Rdx, table);
                    emitter.asm.call(labels.moves);
                }
            }
        }
    }

    /// The first two arguments of the routine for moves.
    fn move_operands<A: VectorAsm>(&self, emitter: &mut Emitter<A>, step: &Step, operand: usize) {
        let columns = [
            matches!(step.work, Work::ToColumns),
            matches!(step.work, Work::FromColumns),
        ];
        let ends = [(Gp::Rdi, &step.dst), (Gp::Rsi, &step.src[operand])];
        for ((reg, operand), columns) in ends.into_iter().zip(columns) {
            self.operand(emitter, reg, operand);
            // The image's column of all of them.
            if columns {
                self.add_images(emitter, reg, ELEM);
            }
        }
    }

    /// The sources' addresses on the stack, and the first two arguments of a layer's function.
    fn operands<A: VectorAsm>(&self, emitter: &mut Emitter<A>, layer: &Layer<'_>) {
        for (index, source) in layer.src.iter().enumerate() {
            self.operand(emitter, Gp::Rcx, source);
            let slot = Mem::new(Gp::Rsp, 8 * index as i32);
            emitter.asm.store64(slot, Gp::Rcx);
        }
        self.operand(emitter, Gp::Rsi, &layer.dst);
        emitter.asm.mov(Gp::Rdi, Gp::Rsp);
    }

    /// `dst = address of plane 0 of an operand`, for the image in [`IMAGE`]; clobbers `rax`.
    fn operand<A: VectorAsm>(&self, emitter: &mut Emitter<A>, dst: Gp, operand: &Operand) {
        match operand.place {
            Place::Image { offset } => {
                emitter.displaced(dst, SCRATCH, self.scratch.image + offset * ELEM);
            }
            Place::Batch { offset, stride } => {
                emitter.displaced(dst, SCRATCH, self.scratch.batch + offset * ELEM);
                self.add_images(emitter, dst, stride * ELEM);
            }
            Place::Input { index } => self.port(emitter, dst, (INPUTS, index), &self.plan.inputs),
            Place::Output { index } => {
                self.port(emitter, dst, (OUTPUTS, index), &self.plan.outputs);
            }
        }
    }

    fn port<A: VectorAsm>(
        &self,
        emitter: &mut Emitter<A>,
        dst: Gp,
        (array, index): (Gp, usize),
        ports: &[Port],
    ) {
        emitter.asm.load64(dst, Mem::new(array, 8 * index as i32));
        if ports[index].per_image {
            self.add_images(emitter, dst, ports[index].elems * ELEM);
        }
    }

    /// `dst += image · bytes`; clobbers `rax`.
    fn add_images<A: VectorAsm>(&self, emitter: &mut Emitter<A>, dst: Gp, bytes: usize) {
        if self.plan.batch > 1 && bytes > 0 {
            emitter.asm.mov_imm(Gp::Rax, bytes as i64);
            emitter.asm.imul(Gp::Rax, IMAGE);
            emitter.asm.add(dst, Gp::Rax);
        }
    }
}

const SCRATCH: Gp = Gp::Rbx;
const INPUTS: Gp = Gp::R12;
const OUTPUTS: Gp = Gp::R13;
const IMAGE: Gp = Gp::R14;
/// Bytes into a table of tasks.
const TASK: Gp = Gp::R15;
/// An even number, so that the frame aligns the stack.
const SAVED: [Gp; 6] = [SCRATCH, INPUTS, OUTPUTS, IMAGE, TASK, Gp::Rbp];
/// Addresses of the sources of a layer, and 8 bytes that align the stack.
const FRAME_BYTES: i32 = 8 * MOST_SOURCES + 8;
const MOST_SOURCES: i32 = skimjit_kernels::MAX_OPERANDS as i32;

/// The tables of a move, each with the operand that it reads.
fn move_tables<A: VectorAsm>(action: &Action<'_>) -> Option<Vec<(usize, Vec<u8>)>> {
    match action {
        Action::Clear(operand) => Some(vec![(0, moves::gaps_table::<A>(operand.planes))]),
        Action::Layer(_) => None,
        Action::Move(step, None) => Some(vec![(0, copy_table::<A>(step))]),
        Action::Move(_, Some(moved)) => {
            let moved = moved.iter();
            let tables = moved.map(|moved| (moved.operand, moves::runs_table::<A>(&moved.runs)));
            Some(tables.collect())
        }
    }
}

/// The table of a copy.
fn copy_table<A: VectorAsm>(step: &Step) -> Vec<u8> {
    let (from, to): (Planes, Planes) = (step.src[0].planes, step.dst.planes);
    let channels = step.cumulated.len() as u32;
    match step.work {
        Work::ToColumns => moves::columns_table::<A>(from, to.pitch),
        Work::FromColumns => moves::strided_table::<A>(channels, [from.pitch, 1]),
        _ if from.gap() == 0 && to.gap() == 0 => {
            moves::copy_table::<A>(1, channels * from.hw(), [0, 0])
        }
        _ => moves::copy_table::<A>(channels, to.hw(), [from.pitch, to.pitch]),
    }
}
