"""What zeros are worth on this machine, layer by layer."""

from __future__ import annotations

import copy
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Optional

import torch
from torch import nn

from .. import _native
from .._errors import FileError, ModelError, OptionError
from .._tables import Benchmark, Column, Row, Table
from .._tools import benchmark
from .._typing import Path
from ._layers import Layer, Tensors, array, bare, layers
from ._onnx import read, to_onnx

#: Zeros that cost() measures, in percent.
LEVELS = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98)


@dataclass(frozen=True, repr=False)
class Cost(Table):
    """Times of a network's layers by their zeros, made by cost(): a row for each layer that can be pruned.

    Attributes:
        machine: CPU and instruction set.
        batch: images computed together.
        threads: of a run.
        points: by layer: pairs of share of zeros and milliseconds, from dense on.
        rest_ms: everything else.
    """

    machine: str = ""
    batch: int = 1
    threads: int = 1
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rest_ms: float = 0.0

    @property
    def dense_ms(self) -> float:
        """Time of the whole network without zeros."""
        return self.rest_ms + sum(points[0][1] for points in self.points.values())

    def to_dict(self) -> dict[str, Any]:
        """As skimjit-train has it in its files."""
        named = [{"layer": name, "points": [list(point) for point in points]} for name, points in self.points.items()]
        return {
            "machine": self.machine,
            "batch": self.batch,
            "threads": self.threads,
            "layers": named,
            "rest_ms": self.rest_ms,
        }

    @staticmethod
    def of(table: dict[str, Any]) -> Cost:
        """From what to_dict() gives."""
        rows: list[Row] = []
        for name, dense, crossover, bound, at_bound in _native.gains(json.dumps(table)):
            gain = dense / max(at_bound, 1e-12) if crossover is not None else None
            bound_shown = bound if crossover is not None else None
            rows.append({"layer": name, "dense_ms": dense, "from": crossover, "to": bound_shown, "times": gain})
        columns = (
            Column("layer", "layer"),
            Column("dense_ms", "dense ms", ".4f"),
            Column("from", "gains from", ".1%"),
            Column("to", "up to", ".1%"),
            Column("times", "times as fast", ".2f"),
        )
        points = {one["layer"]: [(zeros, ms) for zeros, ms in one["points"]] for one in table["layers"]}
        known = (table["machine"], table["batch"], table["threads"], points, table["rest_ms"])
        made = Cost("what zeros are worth", columns, rows, (), *known)
        note = f"{made.dense_ms:.4f} ms dense on {made.machine}, batch {made.batch}, {made.threads} threads"
        return Cost(made.title, columns, rows, (note,), *known)

    def save(self, path: Path) -> None:
        """Writes it as JSON, which `skimjit-train` reads too."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=2)

    @staticmethod
    def load(path: Path) -> Cost:
        """Reads what save() or `skimjit-train cost` has written."""
        try:
            with open(path, encoding="utf-8") as file:
                table = json.load(file)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}, expected a cost table (JSON)") from error
        except ValueError as error:
            raise OptionError(f"{path}: {error}, expected a cost table (JSON)") from error
        return Cost.of(table)


def cost(
    model: nn.Module,
    example: Tensors,
    *,
    levels: Sequence[float] = LEVELS,
    threads: int = 1,
    seconds: float = 1.0,
    rounds: int = 5,
) -> Cost:
    """Measures what zeros are worth in each layer of a model on this machine: the table that guided pruning goes by.

    The smallest weights of all layers go, to several shares of zeros; each network is compiled with tuning and timed
    step by step, all by turns. Run it on the machine that is to serve the model, while nothing else runs.

    Arguments:
        example: inputs, N × C × H × W with as many images as are to be computed together.
        levels: zeros that are measured, in percent.
        threads: that the model will be served with.
        seconds: of measuring, for each level.
        rounds: of all levels, of which medians are taken.
    """
    shares = sorted({0.0, *(level / 100 for level in levels)})
    if shares[0] < 0 or shares[-1] >= 1:
        raise OptionError(f"levels: found {list(levels)}, expected percentages of 0 or more and less than 100")
    pruned = copy.deepcopy(bare(model))
    names = _names(pruned, example)
    engines = []
    for share in shares:
        _prune(layers(pruned), share)
        engines.append(_native.compile(read(to_onnx(pruned, example), example), threads=threads, tune=True))
    found: list[list[Benchmark]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, measured in zip(engines, found):
            measured.append(benchmark(engine, seconds=seconds / rounds))
    return Cost.of(_table(shares, engines[0], found, names))


def _prune(all_layers: Sequence[Layer], share: float) -> None:
    """Zeroes the smallest weights of each layer."""
    with torch.no_grad():
        for layer in all_layers:
            limit = _native.smallest(array(layer.weight), share)
            layer.weight.masked_fill_(layer.weight.abs() <= limit, 0)


def _names(model: nn.Module, example: Tensors) -> dict[str, str]:
    """Names of modules by the names that their layers have in an engine. Exporters make these up; what no exporter and
    no folding changes is how many zeros a layer has, so each gets a number of its own."""
    marked = copy.deepcopy(model)
    keys: dict[tuple[int, int], str] = {}
    seen: Counter[int] = Counter()
    with torch.no_grad():
        for layer in layers(marked):
            count = layer.weight.numel()
            seen[count] += 1
            layer.weight.fill_(1)
            layer.weight.view(-1)[: seen[count]] = 0
            keys[count, seen[count]] = layer.name
    rows = _native.layers(read(to_onnx(marked, example), example))
    return {row["layer"]: keys[key] for row in rows if (key := (row["weights"], row["zeros"])) in keys}


def _table(
    shares: Sequence[float], dense: _native.Engine, found: Sequence[Sequence[Benchmark]], names: dict[str, str]
) -> dict[str, Any]:
    """Medians over the rounds, as JSON has them."""
    points: defaultdict[str, list[list[float]]] = defaultdict(list)
    for share, measured in zip(shares, found):
        times: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(measured))
        for turn, one in enumerate(measured):
            for row in one.rows:
                name = names.get(row["layer"])
                if name is not None:
                    times[name][turn] += row["time_us"] / 1e3
        for name, all_ms in times.items():
            points[name].append([share, median(all_ms)])
    if not points:
        raise ModelError("model: found no layer with weights in what it computes, expected Conv2d or Linear layers in use")
    total = median(one.median_ms for one in found[0])
    rest = max(0.0, total - sum(known[0][1] for known in points.values()))
    return {
        "machine": f"{_cpu()}, {dense.isa}",
        "batch": dense.batch,
        "threads": dense.threads,
        "layers": [{"layer": name, "points": known} for name, known in points.items()],
        "rest_ms": rest,
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names: list[Optional[str]] = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return next(iter(names), None) or "a CPU without a name"
