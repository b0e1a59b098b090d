"""Layers of a model that can be pruned."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import torch
from torch import nn

from .._errors import OptionError
from .._typing import Floats

Tensors = Union[torch.Tensor, tuple[torch.Tensor, ...]]


class Layer(NamedTuple):
    """A convolution or inner product."""

    name: str
    module: Union[nn.Conv2d, nn.Linear]

    @property
    def weight(self) -> torch.Tensor:
        """oc × ic / groups × kh × kw, or outputs × inputs."""
        return self.module.weight

    @property
    def groups(self) -> int:
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1


def bare(model: nn.Module) -> nn.Module:
    """The model without what DistributedDataParallel, DataParallel and torch.compile put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def layers(model: nn.Module) -> list[Layer]:
    """In the order of the model; weights that several modules share once."""
    found: list[Layer] = []
    for name, module in bare(model).named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)) or not isinstance(module.weight, nn.Parameter):
            continue
        if all(module.weight is not other.weight for other in found):
            found.append(Layer(name or type(module).__name__.lower(), module))
    if not found:
        raise OptionError("model: found no layer with weights, expected Conv2d or Linear")
    return found


def array(tensor: torch.Tensor) -> Floats:
    """Its elements in order, float32 in this computer's memory: without a copy where they are that already."""
    flat: Any = tensor.detach().to("cpu", torch.float32).contiguous().flatten().numpy()
    return flat  # type: ignore[no-any-return, unused-ignore]


def inputs(example: Tensors) -> tuple[torch.Tensor, ...]:
    """Inputs of a model, from what a caller gives for them."""
    given = example if isinstance(example, tuple) else (example,)
    if not given or not all(isinstance(one, torch.Tensor) and one.dim() > 0 for one in given):
        raise OptionError("example: expected a tensor with a batch in front, or a tuple of such tensors")
    return given


class Evaluating:
    """The model in evaluation, without gradients; afterwards its modules are as before."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._training = {module: module.training for module in model.modules()}
        self._no_grad = torch.no_grad()

    def __enter__(self) -> nn.Module:
        self._model.eval()
        self._no_grad.__enter__()
        return self._model

    def __exit__(self, *raised: Any) -> None:
        self._no_grad.__exit__(*raised)
        for module, training in self._training.items():
            module.training = training
