//! Methods as they are written down.

use crate::acdc::{Alternating, AlternatingOptions};
use crate::cost::CostTable;
use crate::frozen::Frozen;
use crate::gradual::{Gradual, GradualOptions};
use crate::guided::{Guided, GuidedOptions};
use crate::method::Method;
use crate::surgery::{Surgery, SurgeryOptions};
use serde::Deserialize;
use skimjit_models::{Error, Result};

/// A method and its options, as the trainer's recipes have them; costs are the table itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MethodOptions {
    /// Gradual magnitude pruning.
    Gradual(GradualOptions),
    /// As far as it makes layers faster.
    Guided(GuidedOptions<CostTable>),
    /// AC/DC: masked and dense training take turns.
    #[serde(rename = "ac-dc")]
    Alternating(AlternatingOptions),
    /// Dynamic network surgery with two thresholds.
    Surgery(SurgeryOptions),
    /// Zeros stay zeros.
    Frozen(FrozenOptions),
}

/// Which zeros stay.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenOptions {
    /// Layers; all convolutions and inner products when empty.
    #[serde(default)]
    pub layers: Vec<String>,
}

impl MethodOptions {
    /// Reads JSON.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            Error::new(error.to_string())
                .field("recipe")
                .expected("a kind (gradual, guided, ac-dc, surgery or frozen) with its options")
        })
    }

    /// The method.
    pub fn build(self) -> Result<Box<dyn Method>> {
        Ok(match self {
            Self::Gradual(options) => Box::new(Gradual::new(options)?),
            Self::Guided(options) => {
                options.cost.check()?;
                Box::new(Guided::new(&options, options.cost.clone())?)
            }
            Self::Alternating(options) => Box::new(Alternating::new(options)?),
            Self::Surgery(options) => Box::new(Surgery::new(options)?),
            Self::Frozen(options) => Box::new(Frozen {
                layers: options.layers,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_and_checked() {
        let end = |text: &str| {
            MethodOptions::parse(text)?
                .build()
                .map(|method| method.end())
        };
        let table = r#"{"machine": "m", "batch": 1, "threads": 1, "rest_ms": 1, "layers": []}"#;
        for text in [
            r#"{"kind": "gradual", "sparsity": 90, "end": 7, "scope": "erk", "cluster": 4}"#,
            r#"{"kind": "ac-dc", "sparsity": "90%", "warm_up": 1, "compressed": 2, "dense": 1, "end": 7}"#,
            r#"{"kind": "surgery", "rate": 0.5, "end": 7}"#,
            &format!(r#"{{"kind": "guided", "cost": {table}, "target_speedup": 2, "end": 7}}"#),
        ] {
            assert_eq!(end(text), Ok(7), "{text}");
        }
        assert_eq!(end(r#"{"kind": "frozen"}"#), Ok(0));
        for (text, word) in [
            (r#"{"kind": "magic"}"#, "magic"),
            (r#"{"kind": "gradual", "sparsity": 90}"#, "end"),
            (r#"{"kind": "frozen", "sparsity": 90}"#, "sparsity"),
            (
                r#"{"kind": "gradual", "sparsity": 100, "end": 7}"#,
                "less than 100 %",
            ),
        ] {
            let error = end(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
