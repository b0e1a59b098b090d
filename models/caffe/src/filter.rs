//! Which layers belong to a net: `include` and `exclude` rules.

use super::proto::{LayerParameter, NetParameter, NetState, NetStateRule};
use skimjit_models::{Error, Result};

/// Keeps the layers that the rules allow. `state` is merged over the state in the net.
pub fn filter_net(mut net: NetParameter, state: &NetState) -> Result<NetParameter> {
    let state = merge(net.state.as_ref(), state);
    let layers = std::mem::take(&mut net.layer);
    for layer in layers {
        if is_included(&layer, &state)? {
            net.layer.push(layer);
        }
    }
    Ok(net)
}

/// `over` merged over `base` as messages merge: what it sets wins, stages are added.
pub fn merge(base: Option<&NetState>, over: &NetState) -> NetState {
    let mut merged = base.cloned().unwrap_or_default();
    merged.phase = over.phase.or(merged.phase);
    merged.level = over.level.or(merged.level);
    merged.stage.extend(over.stage.iter().cloned());
    merged
}

/// Whether a layer belongs to a net of that state.
pub fn is_included(layer: &LayerParameter, state: &NetState) -> Result<bool> {
    let matches = |rule: &NetStateRule| matches(rule, state);
    match (layer.include.as_slice(), layer.exclude.as_slice()) {
        ([], exclude) => Ok(!exclude.iter().any(matches)),
        (include, []) => Ok(include.iter().any(matches)),
        _ => Err(Error::new("both include and exclude rules")
            .layer(layer.name())
            .field("include")
            .expected("rules of one kind")),
    }
}

/// Whether all conditions that a rule names hold.
fn matches(rule: &NetStateRule, state: &NetState) -> bool {
    let has_stage = |stage: &String| state.stage.contains(stage);
    rule.phase.is_none_or(|_| rule.phase() == state.phase())
        && rule.min_level.is_none_or(|least| state.level() >= least)
        && rule.max_level.is_none_or(|most| state.level() <= most)
        && rule.stage.iter().all(has_stage)
        && !rule.not_stage.iter().any(has_stage)
}
