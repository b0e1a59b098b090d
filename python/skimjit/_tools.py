"""What there is to know about models and engines, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from . import _native
from ._tables import Benchmark, Column, Report, Row, Table, Verification

if TYPE_CHECKING:
    from ._native import Engine, Model, Session
    from ._typing import Feed


def inspect(model: Union[Model, Engine]) -> Table:
    """Lists the layers of a model: kind, output shape, parameters, weights, zeros, and multiply-adds of one image (in
    millions; those with weights other than zero beside them)."""
    if isinstance(model, _native.Engine):
        model = model.model
    rows: list[Row] = _native.layers(model)
    for row in rows:
        row["share"] = row["zeros"] / row["weights"] if row["weights"] else None
        row["m"], row["m_nonzero"] = row["macs"] / 1e6, row["macs_nonzero"] / 1e6
    total = {key: sum(row[key] for row in rows) for key in ("weights", "zeros", "m", "m_nonzero")}
    columns = (
        Column("layer", "layer"),
        Column("kind", "kind"),
        Column("shape", "shape"),
        Column("parameters", "parameters", ",d"),
        Column("weights", "weights", ",d"),
        Column("share", "zeros", ".1%"),
        Column("m", "Mmacs", ".2f"),
        Column("m_nonzero", "not zero", ".2f"),
    )
    share = total["zeros"] / (total["weights"] or 1)
    note = (
        f"total: {total['weights']:,} weights, {share:.1%} zeros; {total['m']:.2f} Mmacs, "
        f"{total['m_nonzero']:.2f} of them not with zeros"
    )
    return Table(f"{model.name}: layers", columns, rows, (note,))


def explain(engine: Engine) -> Table:
    """Lists which kernel computes each layer and why; rows have the other candidates with estimates and times, and those
    that refused with their reason (`candidates`, `rejected`)."""
    rows: list[Row] = _native.choices(engine)
    for row in rows:
        times = {name: time for name, _, time in row["candidates"] if time is not None}
        row["time_us"] = times.get(row["kernel"], 0.0) / 1e3 or None
        others = [time for name, time in times.items() if name != row["kernel"]]
        row["next_us"] = min(others) / 1e3 if others else None
        row["shape"] = row["shape"].replace("x", "×")
    columns = (
        Column("layer", "layer"),
        Column("kind", "kind"),
        Column("shape", "shape"),
        Column("density", "density", ".1%"),
        Column("kernel", "kernel"),
        Column("basis", "why"),
        Column("time_us", "µs", ".1f"),
        Column("next_us", "next best µs", ".1f"),
        Column("code_bytes", "code", ",d"),
        Column("weight_bytes", "weights", ",d"),
    )
    title = f"{engine.model.name}: kernels for {engine.isa}, {engine.threads} threads, batch {engine.batch}"
    timed = any(row["time_us"] for row in rows)
    shown = tuple(column for column in columns if timed or not column.title.endswith("µs"))
    estimated = any(row["basis"] == "estimated" for row in rows)
    notes = ("chosen by estimates; compile(model, tune=True) times candidates",) if estimated else ()
    return Table(title, shown, rows, notes)


def verify(engine: Engine, x: Optional[Feed] = None, *, tolerance: float = 1e-4) -> Verification:
    """Compares every layer, and the outputs, with the slow reference.

    Arguments:
        x: what Engine.run() takes; None: random numbers.
        tolerance: largest difference over the largest value that passes.
    """
    layers, outputs = _native.verify(engine, random_inputs(engine) if x is None else x, tolerance)
    rows: list[Row] = [{"of": "layer", **row} for row in layers] + [{"of": "output", **row} for row in outputs]
    for row in rows:
        row["verdict"] = "passed" if row["passed"] else "overflow" if row["overflow"] else "FAILED"
    passed = all(row["passed"] for row in rows)
    columns = (
        Column("of", "of"),
        Column("layer", "layer"),
        Column("blob", "blob"),
        Column("kernel", "kernel"),
        Column("difference", "difference", ".1e"),
        Column("magnitude", "largest", ".1e"),
        Column("relative", "relative", ".1e"),
        Column("verdict", "verdict"),
    )
    note = f"{'passed' if passed else 'FAILED'}: tolerance {tolerance:g}"
    title = f"{engine.model.name}: engine against reference"
    return Verification(title, columns, rows, (note,), passed, tolerance)


def benchmark(
    engine: Union[Engine, Session], x: Optional[Feed] = None, *, seconds: float = 1.0, least: int = 5
) -> Benchmark:
    """Measures runs, after one that is not counted: for so many seconds, at least so many runs; then again, step by step.

    Arguments:
        x: what Engine.run() takes; None: a full batch of random numbers.
    """
    session = engine.session() if isinstance(engine, _native.Engine) else engine
    engine = session.engine
    feed = random_inputs(engine) if x is None else x
    times, steps = session._measure(feed, seconds, least)
    rows: list[Row] = list(steps)
    total = sum(row["time_us"] for row in rows) or 1.0
    for row in rows:
        row["share"] = row["time_us"] / total
    columns = (
        Column("layer", "layer"),
        Column("kernel", "kernel"),
        Column("time_us", "µs", ".1f"),
        Column("share", "share", ".1%"),
    )
    images = _images(engine, feed)
    title = f"{engine.model.name}: {images} images, {engine.isa}, {session.threads} threads"
    found = Benchmark(title, columns, rows, (), [time / 1e6 for time in times], images)
    note = (
        f"median {found.median_ms:.3f} ms, least {found.least_ms:.3f} ms of {len(times)} runs; "
        f"{found.images_per_second:,.0f} images/s"
    )
    return Benchmark(title, columns, rows, (note,), found.times_ms, images)


def report(engine: Engine, x: Optional[Feed] = None, *, seconds: float = 1.0) -> Report:
    """Tells all about an engine: layers, kernels, times."""
    tables = (inspect(engine), explain(engine), benchmark(engine, x, seconds=seconds))
    return Report(f"{engine.model.name} on skimjit {_native.__version__}", tables)


def random_inputs(engine: Engine) -> dict[str, Any]:
    """A full batch of numbers, always the same."""
    import numpy

    generator = numpy.random.default_rng(0)
    return {one.name: generator.standard_normal(one.shape, numpy.float32) for one in engine.inputs}


def _images(engine: Engine, feed: Any) -> int:
    first = engine.inputs[0] if engine.inputs else None
    array = feed.get(first.name) if first and isinstance(feed, dict) else feed
    shape = getattr(array, "shape", None)
    return int(shape[0]) if first and shape and len(shape) == len(first.shape) else engine.batch
