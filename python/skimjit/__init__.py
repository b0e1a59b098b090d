"""Runs pruned convolutional networks fast on x86 CPUs.

    engine = skimjit.compile("net.onnx")
    scores = engine.run(images)                       # an array of float32, N × C × H × W

or, in a program written for onnxruntime,

    session = skimjit.InferenceSession("net.onnx")
    [scores] = session.run(None, {"input": images})

Model reads networks, compile() generates their code, Engine and Session run it. inspect(), explain(), verify(),
benchmark() and report() tell about them. skimjit.vision makes inputs of pictures; skimjit.backend is ONNX's;
skimjit.torch prunes in PyTorch; skimjit.ray, skimjit.spark and skimjit.dask score data sets on clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import (
    ArrayError,
    ClosedError,
    CompileError,
    DTypeError,
    Error,
    FileError,
    InternalError,
    IsaError,
    LayoutError,
    MaskError,
    ModelError,
    ModelWarning,
    NotFiniteError,
    OptionError,
    ShapeError,
)
from ._inference import InferenceSession, SessionOptions, get_available_providers
from ._native import Engine, Model, NodeArg, Session, __version__, compile, usable_cores
from ._tables import Benchmark, Report, Table, Verification
from ._tools import benchmark, explain, inspect, report, verify

if TYPE_CHECKING:
    from . import vision as vision

__all__ = [
    "ArrayError",
    "Benchmark",
    "ClosedError",
    "CompileError",
    "DTypeError",
    "Engine",
    "Error",
    "FileError",
    "InferenceSession",
    "InternalError",
    "IsaError",
    "LayoutError",
    "MaskError",
    "Model",
    "ModelError",
    "ModelWarning",
    "NodeArg",
    "NotFiniteError",
    "OptionError",
    "Report",
    "Session",
    "SessionOptions",
    "ShapeError",
    "Table",
    "Verification",
    "__version__",
    "benchmark",
    "compile",
    "explain",
    "get_available_providers",
    "inspect",
    "report",
    "usable_cores",
    "verify",
]


def __getattr__(name: str) -> Any:
    # It brings numpy, which a program that only looks at networks need not wait for.
    if name == "vision":
        import importlib

        return importlib.import_module("skimjit.vision")
    raise AttributeError(f"module 'skimjit' has no attribute {name!r}")
