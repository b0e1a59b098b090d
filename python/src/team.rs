//! Threads that compute, and memory to compute in, for any number of callers; both are made anew in a child of `fork()`.

use crate::arrays::slices;
use crate::errors::{ClosedError, CompileError, detached, exception};
use crate::forks;
use crate::network::Network;
use pyo3::prelude::*;
use skimjit::{Session, ThreadPool};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A team of threads with its memory.
pub struct Team {
    network: Arc<Network>,
    threads: usize,
    /// Locked for moments only, by who holds the interpreter.
    state: Mutex<State>,
}

struct State {
    forks: u64,
    closed: bool,
    pool: Option<Arc<ThreadPool>>,
    /// As many as ever ran at the same time.
    idle: Vec<Session>,
}

/// Threads by number.
pub fn pool(threads: usize) -> PyResult<Arc<ThreadPool>> {
    let pool = ThreadPool::new(threads).map_err(CompileError::new_err)?;
    Ok(Arc::new(pool))
}

impl Team {
    /// Threads that are started when they are first needed, or these.
    pub fn new(network: &Arc<Network>, threads: usize, pool: Option<Arc<ThreadPool>>) -> Self {
        Self {
            network: network.clone(),
            threads,
            state: Mutex::new(State {
                forks: forks::count(),
                closed: false,
                pool,
                idle: Vec::new(),
            }),
        }
    }

    /// Of a run.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Computes one run; see [`Network::arrays`].
    pub fn run<'py>(
        &self,
        feed: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = feed.py();
        let arrays = self.network.arrays(feed, out)?;
        let mut memory = slices(&arrays.inputs, &arrays.outputs)?;
        let mut session = self.take(py)?;
        let (sources, targets) = (&memory.sources[..], &mut memory.targets[..]);
        let (session, outcome) = detached(py, move || {
            let outcome = session.run(sources, targets);
            Ok((session, outcome))
        })?;
        self.put_back(session);
        outcome.map_err(|error| exception(error.into()))?;
        drop(memory);
        arrays.returned(py)
    }

    /// Memory for one caller.
    pub fn take(&self, py: Python<'_>) -> PyResult<Session> {
        let pool = {
            let mut state = self.state()?;
            if let Some(session) = state.idle.pop() {
                return Ok(session);
            }
            match &state.pool {
                Some(pool) => pool.clone(),
                None => state.pool.insert(pool(self.threads)?).clone(),
            }
        };
        detached(py, || self.network.engine.try_session_on(&pool))
    }

    /// For the next caller.
    fn put_back(&self, session: Session) {
        if let Ok(mut state) = self.state() {
            state.idle.push(session);
        }
    }

    /// Gives threads and memory back, when no caller uses them any more; later runs are refused.
    pub fn close(&self) {
        let mut state = self.lock();
        state.forget_parents();
        state.closed = true;
        state.idle = Vec::new();
        state.pool = None;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// What there is in this process.
    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.forget_parents();
        match state.closed {
            true => Err(closed()),
            false => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A parent's threads are not here, and its sessions are of these threads.
    fn forget_parents(&mut self) {
        let now = forks::count();
        if self.forks == now {
            return;
        }
        std::mem::forget(std::mem::take(&mut self.idle));
        std::mem::forget(self.pool.take());
        self.forks = now;
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.lock().forget_parents();
    }
}

fn closed() -> PyErr {
    ClosedError::new_err(
        "found a closed session, expected an open one; Engine.session() makes another",
    )
}
