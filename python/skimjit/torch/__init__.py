"""Pruning in PyTorch, by what zeros are worth on this machine.

    table = skimjit.torch.cost(model, example)        # milliseconds of each layer, by its zeros
    pruner = skimjit.torch.Pruner(
        model, optimizer, {"kind": "guided", "cost": table, "target_speedup": 2.5, "end": 2000}
    )
    ...                                               # train as before: masks follow optimizer.step()
    engine = skimjit.compile(skimjit.torch.export(model, example), tune=True)

The methods are those of skimjit-train, decided by the same code. oneshot() prunes without training, wrap() runs the
engine in a loop that evaluates. PyTorch 2.0 or newer; layers are Conv2d and Linear, by their names in the model.
"""

from ._cost import LEVELS, Cost, cost
from ._export import Compiled, export, wrap
from ._oneshot import oneshot
from ._pruner import Event, Pruner

__all__ = ["LEVELS", "Compiled", "Cost", "Event", "Pruner", "cost", "export", "oneshot", "wrap"]
