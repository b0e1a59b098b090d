"""ONNX's interface for runtimes: onnx.backend.base.Backend. It needs the package onnx.

    prepared = skimjit.backend.prepare(onnx.load("net.onnx"))
    outputs = prepared.run([images])

Engines compute with single floats, and weights are constants for them. Inputs of other types, and floats that an operator
wants to know when code is generated (weights as inputs), are made constants of the model, which is compiled anew when
they change. Results have the types that the model declares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy
import onnx
from onnx import helper, numpy_helper
from onnx.backend.base import Backend, BackendRep

from ._errors import DTypeError, Error, ModelError, ShapeError
from ._native import Engine, Model, compile

__all__ = ["SkimjitBackend", "SkimjitRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]


class SkimjitRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, model: onnx.ModelProto, threads: Optional[int] = None) -> None:
        self._model = model
        self._threads = threads
        constants = {one.name for one in model.graph.initializer}
        self._inputs = [one.name for one in model.graph.input if one.name not in constants]
        self._outputs = [(one.name, int(one.type.tensor_type.elem_type)) for one in model.graph.output]
        self._boxes = {node.output[0] for node in model.graph.node if node.op_type == "NonMaxSuppression"}
        # What was compiled last, and for which constants and shapes.
        self._key: Any = None
        self._engine: Optional[Engine] = None
        self._open: list[str] = []

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Computes all outputs.

        Arguments:
            inputs: arrays in the order of the model's inputs, or by name.

        Raises:
            ModelError: something in the model that cannot be run; it is named.
        """
        if isinstance(inputs, dict):
            inputs = [inputs[name] for name in self._inputs]
        arrays = [_array(one) for one in inputs]
        if len(arrays) != len(self._inputs):
            raise ShapeError(f"found {len(arrays)} inputs, expected {len(self._inputs)}: {self._inputs}")
        feed = dict(zip(self._inputs, arrays))
        self._compile(feed)
        assert self._engine is not None
        given = {name: numpy.ascontiguousarray(feed[name]).reshape(feed[name].shape) for name in self._open}
        results = self._engine.run(given)
        # The engine has a row for each box that may be chosen; those behind the last are -1.
        for name in self._boxes & set(results):
            results[name] = results[name][(results[name] >= 0).all(axis=1)]
        return tuple(_typed(results[name], kind) for name, kind in self._outputs)

    def _compile(self, feed: dict[str, Any]) -> None:
        """Makes the engine for these inputs, unless there is one."""
        floats = [name for name, array in feed.items() if array.dtype == numpy.float32]
        refused: Optional[Error] = None
        for open_count in dict.fromkeys((len(floats), min(len(floats), 1), 0)):
            open_names = floats[:open_count]
            constants = {name: array for name, array in feed.items() if name not in open_names}
            shapes = {name: feed[name].shape for name in open_names}
            content = [(name, array.dtype.str, array.shape, array.tobytes()) for name, array in constants.items()]
            key = (content, shapes)
            if key == self._key:
                return
            try:
                baked = _baked(self._model, constants, shapes)
                model = Model(baked.SerializeToString())
                self._engine = compile(model, threads=self._threads)
            except Error as error:
                refused = refused or error
                continue
            self._key, self._open = key, open_names
            return
        assert refused is not None
        raise refused


class SkimjitBackend(Backend):
    """Runs models of ONNX on the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the device is the CPU. What is in the way in a model may depend on its inputs: run() tells."""
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> SkimjitRep:
        """Takes a model; it is compiled when the first inputs tell their shapes.

        Arguments:
            threads: of a run; None: one per core that may be used.
        """
        if not cls.supports_device(device):
            raise ModelError(f"device: found {device!r}, expected CPU")
        return SkimjitRep(model, **kwargs)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Runs a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Optional[Sequence[tuple[Any, tuple[int, ...]]]] = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Runs one node as a model of its own."""
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        arrays = [numpy.asarray(one) for one in inputs]
        ins = [_info(name, array.dtype, array.shape) for name, array in zip(node.input, arrays)]
        if outputs_info is None:
            outs = [onnx.ValueInfoProto(name=name) for name in node.output]
        else:
            outs = [_info(name, numpy.dtype(kind), shape) for name, (kind, shape) in zip(node.output, outputs_info)]
        graph = helper.make_graph([node], node.op_type, ins, outs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device == "CPU"


prepare = SkimjitBackend.prepare
run_model = SkimjitBackend.run_model
run_node = SkimjitBackend.run_node
supports_device = SkimjitBackend.supports_device
is_compatible = SkimjitBackend.is_compatible


def _array(given: Any) -> Any:
    if given is None or isinstance(given, (list, tuple, dict)):
        raise DTypeError(f"found {type(given).__name__}, expected an array: sequences, maps and nothing cannot be given")
    return numpy.asarray(given)


def _info(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), list(shape))


def _typed(result: Any, kind: int) -> Any:
    """A result as the type that the model declares."""
    if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.UNDEFINED):
        return result
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return (numpy.rint(result) if dtype.kind in "iu" else result).astype(dtype)


def _baked(model: onnx.ModelProto, constants: dict[str, Any], shapes: dict[str, Any]) -> onnx.ModelProto:
    """The model with some inputs as constants, and the others of these shapes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for info in list(made.graph.input):
        if info.name in constants:
            made.graph.initializer.append(numpy_helper.from_array(constants[info.name], info.name))
            made.graph.input.remove(info)
        elif info.name in shapes:
            info.CopyFrom(_info(info.name, numpy.dtype(numpy.float32), shapes[info.name]))
    return made
