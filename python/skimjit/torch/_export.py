"""Models of PyTorch as models of skimjit, through ONNX."""

from __future__ import annotations

from collections import Counter
from typing import Optional, Union

import torch
from torch import nn

from .. import _native
from .._errors import MaskError
from .._typing import Path
from . import _pruner
from ._layers import Layer, Tensors, layers
from ._onnx import read, to_onnx


def export(model: nn.Module, example: Tensors, *, file: Optional[Path] = None) -> _native.Model:
    """Makes a skimjit.Model of a module, as it computes in evaluation.

    It goes through ONNX, with BatchNorm folded into the weights before it, and any number of images; that every zero of
    the module's convolutions and inner products is one in the model is checked.

    Arguments:
        example: an input, or a tuple of all: N × C × H × W, on the model's device.
        file: where the ONNX is written too.

    Raises:
        MaskError: weights that a Pruner of the model has masked are not zero, or zeros are lost on the way.
        ModelError: the module cannot be exported, or the model cannot be run.
    """
    _pruner.check(model)
    ran: set[str] = set()
    onnx = to_onnx(model, example, ran)
    if file is not None:
        with open(file, "wb") as opened:
            opened.write(onnx)
    made = read(onnx, example)
    _check_zeros([layer for layer in layers(model) if layer.name in ran], made)
    return made


def _check_zeros(expected: list[Layer], made: _native.Model) -> None:
    """Compares zeros of layers with so many weights: their names are others in ONNX."""
    wanted: Counter[int] = Counter()
    found: Counter[int] = Counter()
    for layer in expected:
        wanted[layer.weight.numel()] += int((layer.weight.detach() == 0).sum())
    for row in _native.layers(made):
        found[row["weights"]] += row["zeros"]
    for count, zeros in wanted.items():
        if found[count] < zeros:
            names = ", ".join(layer.name for layer in expected if layer.weight.numel() == count)
            raise MaskError(f"layers {names}: found {found[count]} zeros in the model, expected {zeros} as in the module")


class Compiled(nn.Module):  # type: ignore[misc, unused-ignore]
    """A module that runs an engine, made by wrap(): outputs are those of the wrapped module in evaluation, without
    gradients; inputs may be on any device and have any number of images.

    Attributes:
        engine: the skimjit.Engine.
    """

    def __init__(self, engine: _native.Engine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, *given: torch.Tensor) -> Union[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Runs the engine."""
        names = [one.name for one in self.engine.inputs]
        arrays = [one.detach().to("cpu", torch.float32).contiguous().numpy() for one in given]
        results = self.engine.run(dict(zip(names, arrays)))
        outputs = tuple(torch.from_numpy(results[one.name]).to(given[0].device) for one in self.engine.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def wrap(model: nn.Module, example: Tensors, *, threads: Optional[int] = None, tune: bool = False) -> Compiled:
    """Makes a module that runs the engine instead of PyTorch, for loops that evaluate.

    Arguments:
        example: as for export().
        threads, tune: as for skimjit.compile().
    """
    return Compiled(_native.compile(export(model, example), threads=threads, tune=tune))
