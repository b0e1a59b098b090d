"""onnxruntime's way to run a network, so that a program changes one import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from ._errors import ArrayError, ClosedError, OptionError
from ._native import Engine, Model, NodeArg, compile

if TYPE_CHECKING:
    import os

    import numpy
    from numpy.typing import NDArray

PROVIDER = "CPUExecutionProvider"


def get_available_providers() -> list[str]:
    """What networks can run on: the CPU."""
    return [PROVIDER]


class SessionOptions:
    """Options of an InferenceSession; onnxruntime's others do not apply, and cannot be set."""

    __slots__ = {"intra_op_num_threads": "Threads of a run; 0: one per core that affinity and control group allow."}

    def __init__(self) -> None:
        self.intra_op_num_threads = 0


class InferenceSession:
    """A network to run, as onnxruntime has it. Any number of threads may call run() at the same time.

    Arguments:
        path_or_bytes: a Model, or what Model() takes first.
        sess_options: threads.
        providers: None, or names with "CPUExecutionProvider" among them.
        batch, isa, tune: as compile() has them.
        model_options: as Model() has them, such as input_shapes.

    Raises what Model() and compile() raise.
    """

    def __init__(
        self,
        path_or_bytes: Union[str, os.PathLike[str], bytes, Model],
        sess_options: Optional[SessionOptions] = None,
        providers: Optional[Sequence[Union[str, tuple[str, Any]]]] = None,
        *,
        batch: Optional[int] = None,
        isa: Optional[str] = None,
        tune: Union[bool, str, os.PathLike[str], None] = None,
        **model_options: Any,
    ) -> None:
        names = [one if isinstance(one, str) else one[0] for one in providers or [PROVIDER]]
        if PROVIDER not in names:
            raise OptionError(f"providers: found {names}, expected {PROVIDER!r} among them")
        if isinstance(path_or_bytes, Model):
            if model_options:
                raise OptionError(f"found {sorted(model_options)} for a Model, expected none")
            model = path_or_bytes
        else:
            model = Model(path_or_bytes, **model_options)
        threads = (sess_options.intra_op_num_threads if sess_options else 0) or None
        self._engine: Optional[Engine] = compile(model, batch=batch, isa=isa, threads=threads, tune=tune)

    @property
    def engine(self) -> Engine:
        """The engine that runs it.

        Raises:
            ClosedError: the session was closed.
        """
        if self._engine is None:
            raise ClosedError("found a closed session, expected an open one; make another")
        return self._engine

    def run(
        self,
        output_names: Optional[Sequence[str]],
        input_feed: Mapping[str, Any],
        run_options: None = None,
    ) -> list[NDArray[numpy.float32]]:
        """Computes outputs for any number of images.

        Arguments:
            output_names: which, in which order; None or none: all.
            input_feed: arrays of float32 by input name. Arrays that are not contiguous are copied, as in onnxruntime.

        Raises what Engine.run() raises.
        """
        if run_options is not None:
            raise OptionError("run_options: found some, expected none")
        results = self.engine.run({name: _contiguous(array) for name, array in input_feed.items()})
        if not output_names:
            return list(results.values())
        unknown = [name for name in output_names if name not in results]
        if unknown:
            raise ArrayError(f"found outputs of the names {unknown}, expected some of {list(results)}")
        return [results[name] for name in output_names]

    def get_inputs(self) -> list[NodeArg]:
        """Inputs: name, shape, type."""
        return self.engine.inputs

    def get_outputs(self) -> list[NodeArg]:
        """Outputs: name, shape, type."""
        return self.engine.outputs

    def get_providers(self) -> list[str]:
        """What it runs on."""
        return [PROVIDER]

    def close(self) -> None:
        """Gives the engine back; later runs raise ClosedError."""
        self._engine = None

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _contiguous(array: Any) -> Any:
    import numpy

    if isinstance(array, numpy.ndarray) and not array.flags.c_contiguous and not isinstance(array, numpy.ma.MaskedArray):
        return numpy.ascontiguousarray(array)
    return array
