//! Runs of a network.

use super::failure::{Failure, Outcome, Status, c_text, guard, needed};
use super::memory::{Element, In, Out, growing, overlap};
use super::model::Model;
use super::team::Team;
use engine::Session as Runner;
use skimjit_host::memory;
use skimjit_runtime::{Profile as Times, RunError};
use std::ffi::{CString, c_char};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Memory to run a model in: one per thread that runs it at the same time. A session may move between
/// threads; a call while another thread uses it fails with SKIMJIT_STATUS_BUSY.
pub struct Session {
    runner: Mutex<Runner>,
    /// Layer and kernel of each step.
    steps: Vec<[CString; 2]>,
    inputs: usize,
    outputs: usize,
}

/// An array to read. It belongs to the caller, and needs the alignment of a float only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Input {
    /// Elements, row by row.
    pub data: In<f32>,
    /// Number of elements.
    pub elems: usize,
}

impl Element for Input {}

/// An array to write. It belongs to the caller, and needs the alignment of a float only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Output {
    /// Elements, row by row.
    pub data: Out<f32>,
    /// Number of elements.
    pub elems: usize,
}

impl Element for Output {}

/// Times of the runs since a profile was started. Set `size` to sizeof(skimjit_profile).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Profile {
    /// sizeof(skimjit_profile).
    pub size: usize,
    /// Number of steps.
    pub steps: usize,
    /// Runs.
    pub runs: u64,
    /// Images of all runs.
    pub images: u64,
    /// Time of all runs, in nanoseconds.
    pub wall_ns: u64,
    /// Time that all threads together spent in no step: waiting for each other.
    pub outside_ns: u64,
}

growing!(Profile, "skimjit_profile", 48);

/// Times of one step. Set `size` to sizeof(skimjit_step).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Step {
    /// sizeof(skimjit_step).
    pub size: usize,
    /// Layer, UTF-8. Belongs to the session.
    pub layer: *const c_char,
    /// Kernel variant, or what kind of copy it is. Belongs to the session.
    pub kernel: *const c_char,
    /// Time over all threads and runs, in nanoseconds.
    pub time_ns: u64,
    /// Time over all runs of the thread that spent most on it, in nanoseconds.
    pub longest_ns: u64,
}

growing!(Step, "skimjit_step", 40);

/// Gets the memory for runs of a model. `team` computes them; null: the model's own team. Sessions on
/// different teams run at the same time, sessions on one team take turns (on a team of one thread, they
/// need not). SKIMJIT_STATUS_PLAN when there is no memory.
///
/// The caller owns `*session`, and frees it with `skimjit_session_free`. It keeps what it needs of the
/// model and the team, which may be freed before.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_create(
    model: Option<&Model>,
    team: Option<&Team>,
    session: Out<*mut Session>,
) -> Status {
    guard(|| {
        session.check("session")?;
        let model = needed("model", model)?;
        let pool = team.map_or(model.engine.pool(), |team| &team.pool);
        let runner = memory::within(model.memory_limit, || model.engine.try_session_on(pool))?;
        session.set(Box::into_raw(Box::new(Session::new(runner))));
        Ok(())
    })
}

/// Frees a session; null is allowed. No thread may be using it.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_free(session: Option<Box<Session>>) {
    guard(|| {
        drop(session);
        Ok(())
    });
}

/// Computes all outputs for any number of images, batch by batch. The arrays are listed in the order of
/// the model's inputs and outputs. Input i holds n rows of `row_elems` floats (see skimjit_port; n rows
/// of batches where it is not per image), output o is filled in the same way. Lengths that fit no n are
/// an error.
///
/// Arrays are read and written where they are: nothing is copied but what the first layer reads in a
/// layout of its own, which is a part of computing it. Outputs may not overlap with other arrays.
/// A run allocates nothing (but a list, where there are more than 8 inputs or outputs).
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_run(
    session: Out<Session>,
    inputs: In<Input>,
    input_count: usize,
    outputs: In<Output>,
    output_count: usize,
) -> Status {
    guard(|| {
        let session = needed("session", session.get())?;
        session.check_counts(input_count, output_count)?;
        let mut runner = session.lock()?;
        let sources = inputs.array("inputs", input_count)?;
        let targets = outputs.array("outputs", output_count)?;
        run(&mut runner, sources, targets)
    })
}

/// Starts timing each step; later runs add to the times. Starting again forgets them. Costs some dozen
/// nanoseconds per step and thread.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_start_profile(session: Out<Session>) -> Status {
    guard(|| {
        needed("session", session.get())?.lock()?.start_profile();
        Ok(())
    })
}

/// Stops timing, and forgets the times.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_stop_profile(session: Out<Session>) -> Status {
    guard(|| {
        needed("session", session.get())?.lock()?.stop_profile();
        Ok(())
    })
}

/// Times since the profile was started; an error where none was.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_get_profile(
    session: Option<&Session>,
    profile: Out<Profile>,
) -> Status {
    guard(|| {
        let session = needed("session", session)?;
        let runner = session.lock()?;
        let times = started(&runner)?;
        profile.fill(Profile {
            size: 0,
            steps: session.steps.len(),
            runs: times.runs(),
            images: times.images(),
            wall_ns: times.wall_ns(),
            outside_ns: times.outside_ns(),
        })
    })
}

/// Times of step `index`, counted from 0 in the order of a run.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_session_get_step(
    session: Option<&Session>,
    index: usize,
    step: Out<Step>,
) -> Status {
    guard(|| {
        let session = needed("session", session)?;
        let runner = session.lock()?;
        let times = started(&runner)?.steps();
        let (Some(time), Some([layer, kernel])) = (times.get(index), session.steps.get(index))
        else {
            return Err(Failure::index("step", index, session.steps.len()));
        };
        step.fill(Step {
            size: 0,
            layer: layer.as_ptr(),
            kernel: kernel.as_ptr(),
            time_ns: time.time_ns,
            longest_ns: time.longest_ns,
        })
    })
}

fn started(runner: &Runner) -> Outcome<&Times> {
    runner.profile().ok_or_else(|| {
        Failure::argument(
            "profile: found none, expected one; call skimjit_session_start_profile first",
        )
    })
}

/// Arrays of a network that need no memory for their list.
const USUAL_PORTS: usize = 8;

fn run(runner: &mut Runner, inputs: &[Input], outputs: &[Output]) -> Outcome {
    let mut few_sources = [&[][..]; USUAL_PORTS];
    let mut few_targets: [&mut [f32]; USUAL_PORTS] = Default::default();
    let (mut many_sources, mut many_targets) = (Vec::new(), Vec::new());
    let sources = match few_sources.get_mut(..inputs.len()) {
        Some(few) => few,
        None => {
            many_sources.resize(inputs.len(), &[][..]);
            &mut many_sources[..]
        }
    };
    let targets = match few_targets.get_mut(..outputs.len()) {
        Some(few) => few,
        None => {
            many_targets.resize_with(outputs.len(), Default::default);
            &mut many_targets[..]
        }
    };
    for (source, input) in sources.iter_mut().zip(inputs) {
        *source = input.data.array("inputs.data", input.elems)?;
    }
    check_apart(inputs, outputs)?;
    for (target, output) in targets.iter_mut().zip(outputs) {
        *target = output.data.array("outputs.data", output.elems)?;
    }
    runner.run(sources, targets).map_err(engine::Error::from)?;
    Ok(())
}

/// Refuses outputs that have elements in common with other arrays.
fn check_apart(inputs: &[Input], outputs: &[Output]) -> Outcome {
    let source = |input: &Input| input.data.range(input.elems);
    let target = |output: &Output| output.data.range(output.elems);
    for (index, output) in outputs.iter().enumerate() {
        let written = target(output);
        let others = outputs[..index].iter().map(target);
        let mut others = inputs.iter().map(source).chain(others);
        if others.any(|other| overlap(&other, &written)) {
            return Err(Failure::argument(format!(
                "outputs: found output {index} in the memory of another array, expected it apart"
            )));
        }
    }
    Ok(())
}

impl Session {
    fn new(runner: Runner) -> Self {
        let plan = runner.plan();
        let steps = plan.segments.iter().flat_map(|segment| &segment.steps);
        let steps = steps.map(|step| [c_text(&step.layer), c_text(step.label)]);
        Self {
            steps: steps.collect(),
            inputs: plan.inputs.len(),
            outputs: plan.outputs.len(),
            runner: Mutex::new(runner),
        }
    }

    fn lock(&self) -> Outcome<MutexGuard<'_, Runner>> {
        self.runner.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(
                Status::Busy,
                "session: found it in use by another thread, expected one session per thread",
            ),
            TryLockError::Poisoned(_) => Failure::new(
                Status::Internal,
                "session: found one that an earlier run left in pieces, expected a whole one; free it",
            ),
        })
    }

    /// Before the lists are read: a wrong number could lead beyond them.
    fn check_counts(&self, inputs: usize, outputs: usize) -> Outcome {
        if (inputs, outputs) == (self.inputs, self.outputs) {
            return Ok(());
        }
        Err(engine::Error::from(RunError::Arrays {
            inputs: (inputs, self.inputs),
            outputs: (outputs, self.outputs),
        })
        .into())
    }
}
