//! One network for inputs of many shapes: kernels are generated when a shape first appears.

use crate::error::Result;
use crate::{CompileOptions, Engine, Model, Shared};
use skimjit_models::{Shape, Tensor};
use skimjit_runtime::{KernelStore, RunError, Session};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most images of a plan where [`CompileOptions::batch`] does not say; more are run in several goes.
const USUAL_MOST_IMAGES: u32 = 64;
/// Memory of a session for shapes that are not in use, in bytes.
const MOST_IDLE_BYTES: u64 = 1 << 31;

/// A network that takes inputs of every shape its layers can work on. Shared between threads; clones
/// are the same one.
///
/// The engine of a shape is made when the shape is first asked for, once for all threads, and kept
/// until too many others were used after it. What does not depend on the shape is common to all
/// engines: weights, threads, and kernels that come out the same.
///
/// ```no_run
/// use skimjit::{AnyShape, CompileOptions, LoadOptions, Model};
/// # fn main() -> skimjit::Result<()> {
/// let model = Model::load("det1.skim".as_ref(), &LoadOptions::default())?;
/// let engines = AnyShape::new(&model, &CompileOptions::default(), AnyShape::USUAL_SHAPES)?;
/// let mut session = engines.session();
/// for file in ["small.npy", "large.npy"] {
///     let outputs = session.run(&[skimjit::array::read_npy(file.as_ref())?])?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnyShape(Arc<Owner>);

struct Owner {
    model: Model,
    options: CompileOptions,
    shared: Shared,
    kernels: Arc<KernelStore>,
    most_shapes: usize,
    combines_images: bool,
    /// By shapes of the inputs, the one used last at the end; a handful.
    slots: Mutex<Vec<(Vec<Shape>, Arc<Slot>)>>,
    generated: AtomicUsize,
    /// Trials that run at the same time would disturb each other.
    measuring: Mutex<()>,
}

/// An engine, or who makes it holds the lock.
type Slot = Mutex<Option<Arc<Engine>>>;

impl AnyShape {
    /// Shapes that are kept, for callers without reason for another number.
    pub const USUAL_SHAPES: NonZeroUsize = NonZeroUsize::new(8).unwrap();

    /// Nothing is generated yet. `options.batch` is the most images that are computed together; layers
    /// are timed for every new shape if `options.tuning` asks for it.
    pub fn new(model: &Model, options: &CompileOptions, most_shapes: NonZeroUsize) -> Result<Self> {
        let kernels = Arc::new(KernelStore::default());
        let shared = Shared {
            pool: Arc::new(options.pool()?),
            kernels: Some(kernels.clone()),
            builders: None,
        };
        Ok(Self(Arc::new(Owner {
            model: model.clone(),
            options: options.clone(),
            shared,
            kernels,
            most_shapes: most_shapes.get(),
            combines_images: model.combines_images(),
            slots: Mutex::default(),
            generated: AtomicUsize::new(0),
            measuring: Mutex::default(),
        })))
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.0.model
    }
    /// Threads of a run.
    pub fn threads(&self) -> usize {
        self.0.shared.pool.threads()
    }
    /// Engines made so far.
    pub fn generated(&self) -> usize {
        self.0.generated.load(Ordering::Relaxed)
    }
    /// The kernels of all engines.
    pub fn kernels(&self) -> &KernelStore {
        &self.0.kernels
    }
    /// Memory to run in; one per concurrent caller.
    pub fn session(&self) -> AnyShapeSession {
        AnyShapeSession {
            engines: self.clone(),
            held: Vec::new(),
        }
    }

    /// The engine for inputs of these shapes, in the network's order; made now if there is none.
    ///
    /// Batches are rounded up to a power of two, so that few engines serve all numbers of images; an
    /// engine runs smaller batches as well. Networks that combine images get the very batch.
    pub fn engine(&self, inputs: &[Shape]) -> Result<Arc<Engine>> {
        let owner = &*self.0;
        let shapes = owner.planned(inputs);
        if let Some(engine) = owner.find(&shapes).and_then(|slot| lock(&slot).clone()) {
            return Ok(engine);
        }
        // Before any other engine has to give way to one that cannot be.
        let model = owner.resized(&shapes)?;
        let slot = owner.slot(&shapes);
        let mut engine = lock(&slot);
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        let made = owner.make(&model);
        match &made {
            Ok(made) => *engine = Some(made.clone()),
            Err(_) => owner.forget(&slot),
        }
        made
    }
}

impl Owner {
    /// Shapes of the plan that runs inputs of these shapes.
    fn planned(&self, inputs: &[Shape]) -> Vec<Shape> {
        let images = inputs.first().map_or(1, |shape| shape.dim(0));
        if self.combines_images {
            return inputs.to_vec();
        }
        let most = self.options.batch.unwrap_or(USUAL_MOST_IMAGES).max(1);
        let batch = images.min(most).next_power_of_two().min(most);
        inputs.iter().map(|shape| shape.with_batch(batch)).collect()
    }

    /// The network for these shapes, or which layer is in the way.
    fn resized(&self, shapes: &[Shape]) -> Result<Model> {
        let graph = self.model.graph();
        if shapes.len() != graph.inputs.len() {
            let outputs = graph.outputs.len();
            return Err(RunError::Arrays {
                inputs: (shapes.len(), graph.inputs.len()),
                outputs: (outputs, outputs),
            }
            .into());
        }
        let names = graph.inputs.iter().map(|&id| &graph.value(id).name[..]);
        let named: Vec<(&str, Shape)> = names.zip(shapes.iter().cloned()).collect();
        self.model.with_input_shapes(&named)
    }

    fn make(&self, model: &Model) -> Result<Arc<Engine>> {
        let options = CompileOptions {
            batch: None,
            ..self.options.clone()
        };
        let _alone = options.tuning.is_some().then(|| lock(&self.measuring));
        let engine = Arc::new(model.compile_with(&options, &self.shared)?);
        self.generated.fetch_add(1, Ordering::Relaxed);
        Ok(engine)
    }

    /// Makes the slot of these shapes, if there is one, the last to go.
    fn find(&self, shapes: &[Shape]) -> Option<Arc<Slot>> {
        let mut slots = lock(&self.slots);
        let index = slots.iter().position(|(known, _)| known == shapes)?;
        let found = slots.remove(index);
        let slot = found.1.clone();
        slots.push(found);
        Some(slot)
    }

    /// The slot of these shapes; a new one takes the place of the one used longest ago.
    fn slot(&self, shapes: &[Shape]) -> Arc<Slot> {
        if let Some(slot) = self.find(shapes) {
            return slot;
        }
        let mut slots = lock(&self.slots);
        // Another thread may have been faster.
        if let Some((_, slot)) = slots.iter().find(|(known, _)| known == shapes) {
            return slot.clone();
        }
        if slots.len() >= self.most_shapes {
            slots.remove(0);
        }
        let slot = Arc::new(Slot::default());
        slots.push((shapes.to_vec(), slot.clone()));
        slot
    }

    fn forget(&self, slot: &Arc<Slot>) {
        lock(&self.slots).retain(|(_, known)| !Arc::ptr_eq(known, slot));
    }
}

/// What a panic elsewhere left is whole: values are replaced, not changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory for runs of an [`AnyShape`]: that of each shape it was used for, as long as it is not too
/// much.
pub struct AnyShapeSession {
    engines: AnyShape,
    /// The one used last at the end.
    held: Vec<Held>,
}

struct Held {
    engine: Arc<Engine>,
    session: Session,
    bytes: u64,
}

impl AnyShapeSession {
    /// Generates the kernels, and gets the memory, for inputs of these shapes, so that a later run finds
    /// both ready.
    pub fn prepare(&mut self, inputs: &[Shape]) -> Result<Arc<Engine>> {
        self.held_for(inputs).map(|held| held.engine.clone())
    }

    /// Runs any number of images of any shape the network can take; see [`Engine::run`].
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().clone()).collect();
        let held = self.held_for(&shapes)?;
        held.engine.run(&mut held.session, inputs)
    }

    fn held_for(&mut self, inputs: &[Shape]) -> Result<&mut Held> {
        let engine = self.engines.engine(inputs)?;
        let mut held = self.held.iter();
        let held = match held.position(|held| Arc::ptr_eq(&held.engine, &engine)) {
            Some(index) => self.held.remove(index),
            None => self.add(engine)?,
        };
        self.held.push(held);
        // Just pushed.
        Ok(self.held.last_mut().expect("one is held"))
    }

    /// Memory for another shape, in place of that for shapes used long ago.
    fn add(&mut self, engine: Arc<Engine>) -> Result<Held> {
        let bytes = engine.plan().session_bytes(engine.threads());
        let idle = |held: &[Held]| held.iter().map(|held| held.bytes).sum::<u64>();
        while self.held.len() >= self.engines.0.most_shapes
            || (!self.held.is_empty() && idle(&self.held) > MOST_IDLE_BYTES)
        {
            self.held.remove(0);
        }
        Ok(Held {
            session: engine.try_session_on(engine.pool())?,
            engine,
            bytes,
        })
    }
}
