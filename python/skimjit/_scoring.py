"""What scoring on clusters has in common: an artifact that travels, and one engine for each process that it reaches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy

from . import _native, vision
from ._errors import OptionError, ShapeError

if TYPE_CHECKING:
    from ._typing import Bytes, Floats, Path

Source = Union["_native.Engine", "_native.Model", "Path", "Bytes"]
Pictures = Union[str, "vision.Preprocess", None]

# Of this process: engines by what they were made of.
_engines: dict[tuple[bytes, int], _native.Engine] = {}


def artifact(source: Source) -> bytes:
    """What is sent: an engine with its choice of kernels, a model, or the contents of a file."""
    if isinstance(source, (_native.Engine, _native.Model)):
        return source.to_bytes()
    if isinstance(source, (str, os.PathLike)):
        return _native.Model(source).to_bytes()
    return bytes(source)


def engine(contents: bytes, threads: int) -> _native.Engine:
    """The engine of this process for an artifact. A child of fork() has its parent's, with threads of its own."""
    key = (contents, threads)
    if key not in _engines:
        made = _native.compile(contents, threads=threads)
        if len(made.inputs) != 1 or len(made.outputs) != 1:
            raise OptionError(
                f"model: found {len(made.inputs)} inputs and {len(made.outputs)} outputs, expected one of each; "
                "keep one output when you compile it"
            )
        _engines[key] = made
    return _engines[key]


def score(contents: bytes, threads: int, values: Any, pictures: Pictures) -> Floats:
    """Outputs for a column: of pictures as `pictures` says, or of inputs, each C × H × W or flat."""
    ready = engine(contents, threads)
    if len(values) == 0:
        return numpy.zeros((0, *ready.outputs[0].shape[1:]), numpy.float32)
    if pictures is not None:
        how: Any = ready.model if pictures == "model" else pictures
        return ready.run(vision.load(list(values), how, model=ready.model))
    return ready.run(inputs(values, ready.inputs[0].shape))


def inputs(values: Any, shape: Sequence[int]) -> Floats:
    """A column as inputs of a network: without a copy where it is an array of them."""
    column: Any = values if isinstance(values, numpy.ndarray) and values.dtype != object else None
    if column is None:
        column = numpy.stack([numpy.asarray(value, numpy.float32) for value in values])
    wanted = (len(column), *shape[1:])
    if column.size != numpy.prod(wanted):
        raise ShapeError(f"found elements of shape {column.shape[1:]}, expected {tuple(shape[1:])}, or as many in a row")
    return numpy.ascontiguousarray(column, numpy.float32).reshape(wanted)


def checked_threads(threads: Optional[int]) -> int:
    """One unless asked for otherwise: a cluster has as many processes as there are cores."""
    return 1 if threads is None else threads
