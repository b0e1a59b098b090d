//! Gradients of a network's values: every consumer of a value adds its part.

use crate::memory::Memory;
use skimjit_models::Result;
use std::collections::HashMap;

/// Gradients of the homes of a network.
pub struct Gradients<M: Memory> {
    /// Elements of each home.
    homes: Vec<usize>,
    /// Those of a home; `None` until somebody wants them.
    arrays: Vec<Option<M::Array>>,
    /// Homes whose gradient has been written in this backward run.
    written: Vec<bool>,
    /// Memory for parts of further consumers, by its elements.
    spare: HashMap<usize, Vec<M::Array>>,
}

impl<M: Memory> Gradients<M> {
    /// Of homes of so many elements.
    pub fn new(homes: &[usize]) -> Self {
        Self {
            homes: homes.to_vec(),
            arrays: homes.iter().map(|_| None).collect(),
            written: vec![false; homes.len()],
            spare: HashMap::new(),
        }
    }
    /// Forgets the last backward run.
    pub fn start(&mut self) {
        self.written.fill(false);
    }
    /// The gradient of a home, once somebody has written it.
    pub fn of(&self, home: usize) -> Option<&M::Array> {
        let array = self.arrays[home].as_ref();
        array.filter(|_| self.written[home])
    }
    /// Takes the gradient of a home away for a while, if somebody has written it.
    pub fn take(&mut self, home: usize) -> Option<M::Array> {
        let array = self.arrays[home].take_if(|_| self.written[home]);
        array.inspect(|_| self.written[home] = false)
    }
    /// Memory for a consumer's part: that of the home, unless it is in use.
    pub fn part(&mut self, home: usize, memory: &mut M) -> Result<M::Array> {
        let count = self.homes[home];
        let own = self.arrays[home].take_if(|_| !self.written[home]);
        let spare = self.spare.entry(count).or_default();
        match own.or_else(|| spare.pop()) {
            Some(array) => Ok(array),
            None => memory.allocate(count),
        }
    }
    /// Adds a consumer's part.
    pub fn deliver(&mut self, home: usize, part: M::Array, memory: &mut M) -> Result<()> {
        let count = self.homes[home];
        match &mut self.arrays[home] {
            Some(sum) if self.written[home] => {
                memory.add(&part, sum, count)?;
                self.spare.entry(count).or_default().push(part);
            }
            own => {
                *own = Some(part);
                self.written[home] = true;
            }
        }
        Ok(())
    }
    /// Adds a part that is known.
    pub fn add(&mut self, home: usize, data: &[f32], memory: &mut M) -> Result<()> {
        let mut part = self.part(home, memory)?;
        memory.write(&mut part, data)?;
        self.deliver(home, part, memory)
    }
}
