"""Types of arguments, for type checkers only: nothing imports it when a program runs."""

from __future__ import annotations

import os
from typing import Any, Protocol, Union

import numpy
from numpy.typing import NDArray


class SupportsArray(Protocol):
    """What has an array of numpy."""

    def __array__(self) -> NDArray[Any]: ...


class SupportsDLPack(Protocol):
    """What shares its memory, as tensors of PyTorch do."""

    def __dlpack__(self) -> Any: ...


Floats = NDArray[numpy.float32]
Pixels = NDArray[numpy.uint8]
ArrayLike = Union[NDArray[numpy.float32], SupportsArray, SupportsDLPack]
Feed = Union[ArrayLike, dict[str, Any]]
Path = Union[str, os.PathLike[str]]
Bytes = Union[bytes, bytearray, memoryview]
