"""Modules as ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import nn

from .. import _native
from .._errors import ModelError
from ._layers import Evaluating, Layer, Tensors, bare, inputs, layers

# Opset of what is written.
_OPSET = 17


def read(onnx: bytes, example: Tensors) -> _native.Model:
    """The model that to_onnx() has written."""
    shapes: dict[str, Sequence[int]] = {name: tuple(one.shape) for name, one in zip(input_names(example), inputs(example))}
    return _native.Model(onnx, input_shapes=shapes)


def to_onnx(model: nn.Module, example: Tensors, ran: Optional[set[str]] = None) -> bytes:
    """A module as ONNX, the first axis of inputs and outputs open; adds layers that were run to `ran`."""
    names, buffer = input_names(example), io.BytesIO()
    # Its hints leave out files that are in memory.
    write: Any = torch.onnx.export
    hooks: list[Any] = []

    def note(layer: Layer) -> Any:
        return lambda *_: ran.add(layer.name) if ran is not None else None

    with Evaluating(bare(model)) as evaluated, warnings.catch_warnings():
        # Of its tracing, and that there is a newer exporter, which needs another package.
        warnings.simplefilter("ignore")
        try:
            hooks += [layer.module.register_forward_hook(note(layer)) for layer in layers(model)]
            write(
                evaluated,
                inputs(example),
                buffer,
                input_names=names,
                dynamic_axes={name: {0: "batch"} for name in names},
                opset_version=_OPSET,
                dynamo=False,
            )
        except Exception as error:
            raise ModelError(f"{type(evaluated).__name__}: found a module that PyTorch cannot write as ONNX: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()
    return buffer.getvalue()


def input_names(example: Tensors) -> list[str]:
    """Of the inputs in ONNX."""
    count = len(inputs(example))
    return ["input"] if count == 1 else [f"input{index}" for index in range(count)]
