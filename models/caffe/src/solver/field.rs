//! Checks of single fields of a solver definition.

use skimjit_models::{Error, Result};

/// An error at a field.
pub(super) fn fault(field: &str, found: String) -> Error {
    Error::new(found).field(field)
}

/// A number of things.
pub(super) fn count(value: i32, field: &str) -> Result<u64> {
    u64::try_from(value).map_err(|_| fault(field, value.to_string()).expected("0 or more"))
}

/// A number of things without which there is nothing to do.
pub(super) fn at_least_one(value: i32, field: &str) -> Result<u32> {
    match u32::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(fault(field, value.to_string()).expected("at least 1")),
    }
}

/// A number that is one.
pub(super) fn finite(value: f32, field: &str) -> Result<f32> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(fault(field, value.to_string()).expected("a finite number"))
}

/// A part of 1 that a running mean keeps.
pub(super) fn fraction(value: f32, field: &str) -> Result<f32> {
    if (0.0..1.0).contains(&value) {
        return Ok(value);
    }
    Err(fault(field, value.to_string()).expected("0 or more and less than 1"))
}

/// A number that is one, and not negative.
pub(super) fn magnitude(value: f32, field: &str) -> Result<f32> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(fault(field, value.to_string()).expected("0 or more"))
}
