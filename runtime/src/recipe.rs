//! The plan section of an artifact: what was chosen, not the machine code.

use crate::Plan;
use crate::jit::Isa;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Name of the plan section.
pub const SECTION: &str = "plan";
/// Most layers a recipe may name.
const MOST_LAYERS: usize = 1 << 16;

/// Choices of the planner that a later load repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Instruction set the choices were made for: `avx2` or `avx512`.
    pub isa: String,
    /// Images per batch.
    pub batch: u32,
    /// (layer, variant).
    pub variants: Vec<(String, String)>,
}

impl Recipe {
    /// The choices of a plan.
    pub fn of(plan: &Plan) -> Self {
        let kernels = plan.choices.iter().filter(|choice| choice.cycles > 0.0);
        Self {
            isa: plan.isa.to_string(),
            batch: plan.batch as u32,
            variants: kernels
                .map(|c| (c.layer.clone(), c.variant.clone()))
                .collect(),
        }
    }
    /// Bytes of the section.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }
    /// Reads a section; the text of the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let recipe: Self = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        if recipe.batch == 0 || recipe.variants.len() > MOST_LAYERS {
            return Err(format!(
                "batch {}, {} layers",
                recipe.batch,
                recipe.variants.len()
            ));
        }
        Ok(recipe)
    }
    /// Variants by layer, where the recipe was made for `isa`; others choose anew.
    pub fn variants_for(&self, isa: Isa) -> HashMap<String, String> {
        if self.isa == isa.to_string() {
            self.variants.iter().cloned().collect()
        } else {
            HashMap::new()
        }
    }
}
