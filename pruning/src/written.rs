//! Zeros as recipes write them: `90` and `"90%"` are percentages; numbers between 0 and 1 are the shares that
//! recipes had before, and are told.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use skimjit_models::Percent;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Written {
    fn share(&self) -> Result<f64, String> {
        let percent = match self {
            Self::Number(number) => Percent::new(*number),
            Self::Text(text) => text.parse(),
        };
        let percent = percent.map_err(|wrong| wrong.to_string())?;
        Ok(match percent.is_like_a_share() {
            true => percent.value(),
            false => percent.share(),
        })
    }
}

/// A share of 1.
pub fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Written::deserialize(from)?
        .share()
        .map_err(D::Error::custom)
}

/// Shares of 1 by name.
pub fn shares<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let written = BTreeMap::<String, Written>::deserialize(from)?;
    let each = written.into_iter().map(|(name, written)| {
        let share = written.share().map_err(D::Error::custom)?;
        Ok((name, share))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Fields {
        #[serde(deserialize_with = "share")]
        sparsity: f64,
        #[serde(default, deserialize_with = "shares")]
        targets: BTreeMap<String, f64>,
    }

    #[test]
    fn percentages_and_the_shares_of_before() {
        for (text, expected) in [
            ("90", 0.9),
            ("90.0", 0.9),
            ("\"90%\"", 0.9),
            ("\"0.5%\"", 0.005),
            ("0.9", 0.9),
            ("1", 0.01),
            ("0", 0.0),
        ] {
            let text = format!("sparsity = {text}\ntargets = {{ ip1 = {text} }}");
            let fields: Fields = toml::from_str(&text).unwrap();
            assert_eq!(
                (fields.sparsity, fields.targets["ip1"]),
                (expected, expected),
                "{text}"
            );
        }
        for text in ["-1", "101", "\"much\"", "true"] {
            assert!(toml::from_str::<Fields>(&format!("sparsity = {text}")).is_err());
        }
    }
}
