//! Poolings.

use super::build::Known;
use super::node::{Node, floats};
use super::volume;
use super::window::{image, like, steps, window};
use skimjit_models::ops::{PoolMethod, Pooling, Rounding, Window};
use skimjit_models::{Error, Op, Result};

fn pool(node: &mut Node<'_>, method: PoolMethod) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    if !node.attributes.has("kernel_shape") {
        return Err(Error::new("nothing")
            .field("kernel_shape")
            .expected("sizes"));
    }
    let up = node.attributes.flag("ceil_mode", false)?;
    let pooling = Pooling {
        rounding: if up {
            Rounding::UpInside
        } else {
            Rounding::Down
        },
        global: false,
        ..whole(method)
    };
    if node.rank(x) == volume::RANK {
        return volume::pool(node, &pooling);
    }
    let plane = image(node, x)?;
    let kernel = steps(node, "kernel_shape", node.rank(x) - 2, 1)?;
    let window = window(node, plane, &kernel)?;
    // Where nothing is padded, there is no difference.
    let method = match method {
        PoolMethod::AverageInside if !window.is_padded() => PoolMethod::Average,
        method => method,
    };
    let pooling = Pooling {
        method,
        window,
        ..pooling
    };
    let y = node.add(Op::Pooling(pooling), &[plane])?;
    Ok(floats(like(node, x, y)?))
}

pub(super) fn max_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    if node.outputs > 1 {
        return Err(Error::new("a second result, the indices")
            .field("output[1]")
            .expected("one"));
    }
    // The order of indices, which nobody gets.
    node.attributes.flag("storage_order", false)?;
    pool(node, PoolMethod::Max)
}

pub(super) fn average_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    match node.attributes.flag("count_include_pad", false)? {
        true => pool(node, PoolMethod::Average),
        false => pool(node, PoolMethod::AverageInside),
    }
}

fn power(node: &Node<'_>) -> Result<PoolMethod> {
    let p = node.attributes.int("p")?.unwrap_or(2);
    match u32::try_from(p) {
        Ok(p) if p > 0 => Ok(PoolMethod::Lp { p }),
        _ => Err(Error::new(p.to_string()).field("p").expected("1 or more")),
    }
}

pub(super) fn lp_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let method = power(node)?;
    pool(node, method)
}

fn global(node: &mut Node<'_>, method: PoolMethod) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    if node.rank(x) == volume::RANK {
        return volume::global(node, x, whole(method));
    }
    let plane = image(node, x)?;
    let y = node.add(Op::Pooling(whole(method)), &[plane])?;
    Ok(floats(like(node, x, y)?))
}

/// A pooling over whole planes.
pub(super) fn whole(method: PoolMethod) -> Pooling {
    Pooling {
        method,
        window: Window::square(1, 1, 0),
        global: true,
        made_for: None,
        rounding: Rounding::Down,
        relu: false,
        mask: false,
    }
}

pub(super) fn global_average_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    global(node, PoolMethod::Average)
}

pub(super) fn global_max_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    global(node, PoolMethod::Max)
}

pub(super) fn global_lp_pool(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let method = power(node)?;
    global(node, method)
}
