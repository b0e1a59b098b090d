"""Pruning without training: layer by layer, each so that its outputs on some batches change least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import torch
from torch import nn
from torch.nn import functional

from .. import _native
from .._errors import NotFiniteError, OptionError
from .._tables import Column, Row, Table
from ._layers import Evaluating, Layer, Tensors, array, bare, inputs, layers


class _Seen(Exception):
    """The layer has its inputs: what follows need not be computed."""


def oneshot(
    model: nn.Module,
    batches: Iterable[Tensors],
    *,
    sparsity: float,
    scope: str = "uniform",
    chosen: Optional[Sequence[str]] = None,
    targets: Optional[Mapping[str, float]] = None,
    damping: float = 0.01,
) -> Table:
    """Prunes a trained model in place, without training: weights that stay make up for those that go.

    Later layers see what earlier ones have become. Statistics of BatchNorm stay; run some batches in training mode
    afterwards where there is any.

    Arguments:
        batches: inputs of the model, N × C × H × W each, kept in memory; some hundreds of images do.
        sparsity: zeros in percent.
        scope: "uniform", or "erk": more in layers with many weights for their dims.
        chosen: names of layers; None: all Conv2d and Linear layers that are run.
        targets: zeros of single layers in percent, instead.
        damping: share of the mean second moment that is added to all.

    Returns:
        a row for each layer: its zeros, `error`, the mean square of what its outputs changed over that of the outputs,
        and `magnitude_error`, the same had the smallest weights been zeroed.

    Raises:
        NotFiniteError: the inputs of a layer are no finite numbers.
    """
    kept = [inputs(batch) for batch in batches]
    if not kept:
        raise OptionError("batches: found none, expected some inputs of the model")
    rows: list[Row] = []
    with Evaluating(bare(model)) as evaluated:
        found = _in_order(evaluated, kept[0], chosen)
        shares = _shares([layer for layer, _ in found], sparsity, scope, targets or {})
        for (layer, times), share in zip(found, shares):
            rows.append(_prune(evaluated, layer, times, kept, share, damping))
    columns = (
        Column("layer", "layer"),
        Column("weights", "weights", ",d"),
        Column("sparsity", "zeros", ".1%"),
        Column("error", "error", ".2e"),
        Column("magnitude_error", "magnitude's", ".2e"),
    )
    return Table("pruned without training", columns, rows)


def _shares(found: Sequence[Layer], sparsity: float, scope: str, targets: Mapping[str, float]) -> list[float]:
    names = [layer.name for layer in found]
    missing = [name for name in targets if name not in names]
    if missing:
        raise OptionError(f"targets: found layer {missing[0]!r}, expected one of {', '.join(names)}")
    wrong = [value for value in (sparsity, *targets.values()) if not 0 <= value < 100]
    if wrong:
        raise OptionError(f"sparsity: found {wrong[0]:g} %, expected 0 % or more and less than 100 %")
    if scope == "erk":
        densities = _native.erk([list(layer.weight.shape) for layer in found], 1 - sparsity / 100)
        usual = [1 - density for density in densities]
    elif scope == "uniform":
        usual = [sparsity / 100] * len(found)
    else:
        raise OptionError(f"scope: found {scope!r}, expected 'uniform' or 'erk'")
    return [targets[name] / 100 if name in targets else share for name, share in zip(names, usual)]


def _in_order(
    model: nn.Module, batch: tuple[torch.Tensor, ...], chosen: Optional[Sequence[str]]
) -> list[tuple[Layer, int]]:
    """Layers in the order in which they are run, and how often each."""
    ran: list[Layer] = []

    def note(layer: Layer) -> Any:
        return lambda *_: ran.append(layer)

    hooks = [layer.module.register_forward_pre_hook(note(layer)) for layer in layers(model)]
    try:
        model(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    runs = {layer.name: (layer, ran.count(layer)) for layer in ran}
    missing = [name for name in chosen or () if name not in runs]
    if missing:
        raise OptionError(f"chosen: found layer {missing[0]!r}, expected layers that are run: {', '.join(runs)}")
    return [run for name, run in runs.items() if chosen is None or name in chosen]


def _prune(
    model: nn.Module,
    layer: Layer,
    times: int,
    batches: Sequence[tuple[torch.Tensor, ...]],
    share: float,
    damping: float,
) -> Row:
    weight, bias = layer.weight, layer.module.bias
    filters = weight.shape[0] // layer.groups
    moments = _native.Moments(layer.groups, filters, weight[0].numel())
    hook = layer.module.register_forward_pre_hook(_adding(moments, layer, times))
    try:
        for batch in batches:
            try:
                model(*batch)
            except _Seen:
                pass
    finally:
        hook.remove()
    # One offset cannot make up for what several runs lose.
    outcome = moments.prune(array(weight), bias is not None and times == 1, share, damping)
    if outcome is None:
        raise NotFiniteError(f"layer {layer.name!r}: found inputs that are no finite numbers; correct the weights or the data")
    pruned, shifts, error, magnitude_error, _ = outcome
    weight.copy_(torch.from_numpy(pruned).view(weight.shape))
    if bias is not None and shifts is not None:
        bias.add_(torch.tensor(shifts, dtype=bias.dtype, device=bias.device))
    zeros = int((weight == 0).sum())
    return {
        "layer": layer.name,
        "weights": weight.numel(),
        "sparsity": zeros / weight.numel(),
        "error": error,
        "magnitude_error": magnitude_error,
    }


def _adding(moments: _native.Moments, layer: Layer, times: int) -> Any:
    """A hook that adds what a layer is about to see, and ends a run of the model with the last of so many times."""
    calls = 0

    def add(_module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal calls
        if isinstance(layer.module, nn.Linear):
            moments.add(array(given[0]))
        else:
            for image in torch.split(given[0], 1):
                moments.add(array(windows := _windows(layer.module, image)), windows.shape[-1])
        calls += 1
        if calls % times == 0:
            raise _Seen

    return add


def _windows(module: nn.Conv2d, image: torch.Tensor) -> torch.Tensor:
    """What the filters see, 1 × channels·kh·kw × output pixels: groups are parts of the channels."""
    # As the convolution pads, zeros or others.
    pads = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(image, pads, mode)
    return functional.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)
