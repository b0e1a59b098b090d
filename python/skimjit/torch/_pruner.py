"""Masks that follow an optimizer."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

import torch
import torch.distributed as dist
from torch import nn

from .. import _native
from .._errors import MaskError, OptionError
from .._tables import Column, Row, Table
from ._cost import Cost
from ._layers import array, bare, layers

# Those that prune a model, for export().
_known: weakref.WeakKeyDictionary[nn.Module, weakref.WeakSet[Pruner]] = weakref.WeakKeyDictionary()


class Event(NamedTuple):
    """What a method told: after how many updates, what, and shares of zeros by layer where it is about them."""

    iteration: int
    text: str
    zeros: dict[str, float]


class Pruner:
    """Prunes a model while it is trained: masks change after updates, as a recipe says.

    Train as before. Each optimizer.step() is an iteration; one that GradScaler leaves out is none, and batches whose
    gradients are summed before a step are one. Masks are on the parameters' devices. Where processes train together
    (DistributedDataParallel), make a Pruner in each: the masks of the first are everybody's.

    Arguments:
        model: with Conv2d and Linear layers; what DistributedDataParallel or torch.compile made of one is fine.
        optimizer: that of the model's parameters.
        recipe: a method with its options, as a recipe of skimjit-train has them (docs/TRAINING.md); zeros in percent:
            {"kind": "gradual", "sparsity": 90, "end": 2000, "scope": "global", "uniform" or "erk", "begin": 0,
                "every": 50, "initial": 0, "layers": [], "targets": {"fc": 80}, "cluster": 1}
            {"kind": "guided", "cost": cost(model, example), "target_speedup": 2.5 or "target_latency_ms": 0.2,
                "end": 2000, "begin": 0, "every": 100}
            {"kind": "surgery", "rate": 1.0, "end": 2000, "rates": {}, "gamma": 1e-4, "power": 1, "layers": []}
            {"kind": "ac-dc", "sparsity": 90, "warm_up": 200, "compressed": 300, "dense": 300, "end": 1700,
                "scope", "layers", "targets", "cluster" as above}
            {"kind": "frozen", "layers": []}: what is zero now stays zero, for fine-tuning
            `end` is the iteration from which on masks stay; layers are named as in model.named_modules().
        seed: of what surgery draws.
        group: processes that train together; None: all, where torch.distributed is initialised.

    Attributes:
        iteration: updates done.
        events: what the method told, see Event.

    Raises:
        OptionError: a recipe that cannot be used, by option, found and expected.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Mapping[str, Any],
        *,
        seed: int = 0,
        group: Optional[Any] = None,
    ) -> None:
        self._layers = layers(model)
        self._optimizer = optimizer
        self._recipe = _text(recipe)
        self._seed = seed
        self._group = group
        # By layer: True where a weight is zero for good; weights behind masks, of methods that train them.
        self._masks: dict[int, torch.Tensor] = {}
        self._behind: dict[int, torch.Tensor] = {}
        self.iteration = 0
        self.events: list[Event] = []
        self._method = self._new_method()
        self._decide(lambda weights: self._method.start(weights, 0, seed))
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        _known.setdefault(bare(model), weakref.WeakSet()).add(self)

    @property
    def done(self) -> bool:
        """Whether masks stay from now on."""
        return self.iteration >= self._method.end

    def masks(self) -> dict[str, torch.Tensor]:
        """Of each layer that has one, by its name: True where a weight is zero for good, in the weight's shape."""
        return {self._layers[index].name: mask for index, mask in self._masks.items()}

    def sparsity(self) -> Table:
        """Zeros of all layers."""
        rows: list[Row] = []
        for layer in self._layers:
            zeros = int((layer.weight.detach() == 0).sum())
            count = layer.weight.numel()
            rows.append({"layer": layer.name, "weights": count, "zeros": zeros, "share": zeros / max(count, 1)})
        columns = (Column("layer", "layer"), Column("weights", "weights", ",d"), Column("share", "zeros", ".1%"))
        weights, zeros = (sum(row[key] for row in rows) for key in ("weights", "zeros"))
        return Table("zeros", columns, rows, (f"total: {weights:,} weights, {zeros / max(weights, 1):.1%} zeros",))

    def check(self) -> None:
        """Raises MaskError where a weight that is masked is not zero: weights were loaded or changed behind its back."""
        for index, mask in self._masks.items():
            lost = int((self._layers[index].weight.detach()[mask] != 0).sum())
            if lost:
                raise MaskError(
                    f"layer {self._layers[index].name!r}: found {lost} weights other than zero where it is masked, expected "
                    "none; load the weights before Pruner.load_state_dict(), or call apply()"
                )

    def apply(self) -> None:
        """Zeroes what is masked."""
        with torch.no_grad():
            for index, mask in self._masks.items():
                self._layers[index].weight.masked_fill_(mask, 0)

    def remove(self) -> None:
        """Ends it: the optimizer is as before, weights are no longer kept at zero."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for pruners in _known.values():
            pruners.discard(self)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on later needs, for torch.save(); weights and optimizer have their own."""
        return {
            "recipe": self._recipe,
            "iteration": self.iteration,
            "seed": self._seed,
            "masks": self._named(self._masks),
            "behind": self._named(self._behind),
            "method": self._method.save(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where state_dict() was taken. Load the model's and the optimizer's state first."""
        if state["recipe"] != self._recipe:
            raise OptionError(f"state: found one of the recipe {state['recipe']}, expected {self._recipe}")
        self._masks = self._indexed(state["masks"])
        self._behind = self._indexed(state["behind"])
        self.iteration, self._seed = state["iteration"], state["seed"]
        zeros = []
        for index, layer in enumerate(self._layers):
            mask = self._masks.get(index)
            zeros.append((layer.weight.detach() == 0 if mask is None else mask).cpu().contiguous().flatten().numpy())
        self._method = self._new_method()
        # What it says at a start is in the state already.
        self._method.start(self._weights(), self.iteration, self._seed, zeros)
        self._method.restore(state["method"])
        self.apply()

    def _new_method(self) -> _native.Pruning:
        described = [(layer.name, list(layer.weight.shape), layer.groups) for layer in self._layers]
        return _native.Pruning(self._recipe, described)

    def _named(self, tensors: Mapping[int, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {self._layers[index].name: tensor.cpu() for index, tensor in tensors.items()}

    def _indexed(self, tensors: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
        places = {layer.name: index for index, layer in enumerate(self._layers)}
        found = {}
        for name, tensor in tensors.items():
            index = places.get(name, -1)
            if index < 0 or self._layers[index].weight.shape != tensor.shape:
                raise OptionError(f"state: found layer {name!r} of shape {tuple(tensor.shape)}, expected the model's layers")
            found[index] = tensor.to(self._layers[index].weight.device, copy=True)
        return found

    def _weights(self) -> list[Any]:
        """Of all layers: those behind masks where they train on."""
        return [array(self._behind.get(index, layer.weight)) for index, layer in enumerate(self._layers)]

    def _before_step(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        with torch.no_grad():
            for index, mask in self._masks.items():
                weight = self._layers[index].weight
                if index in self._behind:
                    weight.copy_(self._behind[index])
                elif weight.grad is not None:
                    weight.grad.masked_fill_(mask, 0)

    def _after_step(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self.iteration += 1
        for index, behind in self._behind.items():
            behind.copy_(self._layers[index].weight.detach())
        if self._method.is_due(self.iteration):
            self._decide(lambda weights: self._method.step(weights, self.iteration))
        self.apply()

    def _decide(self, ask: Callable[[list[Any]], tuple[dict[int, Any], list[Any]]]) -> None:
        """Every process asks, so that an error is everybody's; what the first is told holds."""
        masks, told = ask(self._weights())
        self.events += [Event(self.iteration, text, dict(zeros or [])) for text, zeros in told]
        for index, mask in self._shared(masks).items():
            weight = self._layers[index].weight
            if mask is None:
                self._masks.pop(index, None)
                continue
            self._masks[index] = mask.view(weight.shape).to(weight.device)
            if self._method.trains_behind_masks:
                self._behind.setdefault(index, weight.detach().clone())
            else:
                self._forget(weight, self._masks[index])
        self.apply()

    def _forget(self, weight: torch.Tensor, mask: torch.Tensor) -> None:
        """Zeroes what the optimizer remembers of masked weights: momentum would bring them back."""
        for kept in self._optimizer.state.get(weight, {}).values():
            if isinstance(kept, torch.Tensor) and kept.shape == weight.shape:
                kept.detach().masked_fill_(mask.to(kept.device), 0)

    def _shared(self, masks: Mapping[int, Any]) -> dict[int, Optional[torch.Tensor]]:
        """Masks of the first process."""
        own = {index: None if mask is None else torch.from_numpy(mask) for index, mask in masks.items()}
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(self._group) == 1:
            return own
        device = self._layers[0].weight.device
        first = 0 if self._group is None else dist.get_global_rank(self._group, 0)
        # Of each layer: 0 nothing new, 1 no mask, 2 a mask.
        kinds = [0 if index not in own else 1 if own[index] is None else 2 for index in range(len(self._layers))]
        told = torch.tensor(kinds, dtype=torch.uint8, device=device)
        dist.broadcast(told, first, group=self._group)
        kinds = told.tolist()
        shared: dict[int, Optional[torch.Tensor]] = {}
        for index, kind in enumerate(kinds):
            if kind == 1:
                shared[index] = None
            elif kind == 2:
                mask = own.get(index)
                bits = torch.zeros(self._layers[index].weight.numel(), dtype=torch.uint8)
                bits = (bits if mask is None else mask.to(torch.uint8)).to(device)
                dist.broadcast(bits, first, group=self._group)
                shared[index] = bits.bool()
        return shared


def _text(recipe: Mapping[str, Any]) -> str:
    """A recipe as JSON, its cost table in it."""
    if not isinstance(recipe, Mapping):
        raise OptionError(f"recipe: found {type(recipe)}, expected a dict with a kind and options")
    plain = dict(recipe)
    table = plain.get("cost")
    if isinstance(table, (str, os.PathLike)):
        table = Cost.load(table)
    if isinstance(table, Cost):
        plain["cost"] = table.to_dict()
    try:
        return json.dumps(plain, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise OptionError(f"recipe: expected numbers, texts, lists and dicts: {error}") from error


def check(model: nn.Module) -> None:
    """Raises MaskError where a model has lost a mask of one of its pruners."""
    for pruner in _known.get(bare(model), ()):
        pruner.check()
