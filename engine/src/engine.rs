//! A compiled network.

use crate::error::Result;
use skimjit_models::{Graph, Shape, Tensor};
use skimjit_runtime::jit::observe::CodeObserver;
use skimjit_runtime::{Plan, Port, Session, ThreadPool};
use std::sync::Arc;

/// A compiled network.
pub struct Engine {
    pub(crate) graph: Graph,
    pub(crate) plan: Arc<Plan>,
    pub(crate) pool: Arc<ThreadPool>,
    /// Debuggers know the code as long as it can run.
    pub(crate) _observer: Option<Arc<dyn CodeObserver>>,
}

impl Engine {
    /// The graph that was planned. It has the elements of its weights only if
    /// [`crate::CompileOptions::keep_weights`] asks for them.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Threads of a run.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
    /// Memory to run the network in; one per concurrent caller.
    ///
    /// # Panics
    /// When there is no memory for it: see [`Engine::try_session_on`].
    pub fn session(&self) -> Session {
        Session::new(self.plan.clone(), self.pool.clone())
    }
    /// The threads that [`Engine::session`] runs on.
    pub fn pool(&self) -> &Arc<ThreadPool> {
        &self.pool
    }
    /// [`Engine::session_on`], or an error when there is no memory for it.
    pub fn try_session_on(&self, pool: &Arc<ThreadPool>) -> Result<Session> {
        Ok(Session::try_new(self.plan.clone(), pool.clone())?)
    }
    /// The same on other threads: sessions of one team take turns, those of different teams run at the
    /// same time.
    pub fn session_on(&self, pool: &Arc<ThreadPool>) -> Session {
        Session::new(self.plan.clone(), pool.clone())
    }
    /// Runs any number of images and returns the outputs with that batch: the easy way, which
    /// allocates. `inputs` are `N × …` arrays in the order of `plan().inputs`.
    pub fn run(&self, session: &mut Session, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let n = inputs
            .first()
            .map_or(self.plan.batch as u32, |input| input.shape().dim(0));
        self.check_shapes(inputs)?;
        let mut outputs: Vec<Tensor> = Vec::new();
        for port in &self.plan.outputs {
            outputs.push(Tensor::zeros(self.output_shape(port, n)?));
        }
        let sources: Vec<&[f32]> = inputs.iter().map(Tensor::data).collect();
        let mut targets: Vec<&mut [f32]> = outputs.iter_mut().map(Tensor::data_mut).collect();
        session.run(&sources, &mut targets)?;
        Ok(outputs)
    }

    /// Shape of an output for `n` images; a value of the batch as a whole gets an axis in front when
    /// there are several batches.
    fn output_shape(&self, port: &Port, n: u32) -> Result<Shape> {
        let batch = self.plan.batch as u32;
        let mut dims = port.shape.dims().to_vec();
        match dims.first_mut() {
            Some(first) if *first == batch => *first = n,
            _ if n > batch => dims.insert(0, n / batch),
            _ => {}
        }
        Ok(Shape::new(dims)?)
    }

    /// Every dim but the batch must be the network's.
    fn check_shapes(&self, inputs: &[Tensor]) -> Result<()> {
        for (port, input) in self.plan.inputs.iter().zip(inputs) {
            let (found, expected) = (input.shape(), &port.shape);
            if found.dims().get(1..) != expected.dims().get(1..) {
                let error = skimjit_models::Error::new(format!("an input of shape {found}"))
                    .field(format!("input \"{}\"", port.name))
                    .expected(format!("{expected} with any number of images first"))
                    .hint("an AnyShape engine (run --reshape) takes other sizes");
                return Err(error.into());
            }
        }
        Ok(())
    }
}
