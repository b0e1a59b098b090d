"""The exceptions of skimjit. All but those of Python itself (MemoryError, KeyboardInterrupt) are children of Error."""

__all__ = [
    "ArrayError",
    "ClosedError",
    "CompileError",
    "DTypeError",
    "Error",
    "FileError",
    "InternalError",
    "IsaError",
    "LayoutError",
    "MaskError",
    "ModelError",
    "ModelWarning",
    "NotFiniteError",
    "OptionError",
    "ShapeError",
]


class Error(Exception):
    """What all exceptions of skimjit are."""


class FileError(Error, OSError):
    """A file cannot be read or written."""


class ModelError(Error, ValueError):
    """A file or bytes that are no model, or a model that cannot be run: file, layer, field, found and expected."""


class OptionError(Error, ValueError):
    """An argument has a value that cannot be used."""


class IsaError(Error, RuntimeError):
    """The machine does not have the instruction set."""


class CompileError(Error, RuntimeError):
    """A network cannot be planned, or there is no memory for it, or no thread."""


class ArrayError(Error, ValueError):
    """The arrays of a run do not fit the network: a missing or unknown name, or one of the children of this class."""


class DTypeError(ArrayError, TypeError):
    """No array of float32 in this machine's order of bytes, or a masked one."""


class ShapeError(ArrayError):
    """A shape that is not the network's, no images, or not as many as a batch needs."""


class LayoutError(ArrayError):
    """An array that is not contiguous, or one to write to that is read-only or in the memory of another."""


class NotFiniteError(ArrayError):
    """An input with an infinity or NaN."""


class ClosedError(Error, RuntimeError):
    """A session that was closed."""


class MaskError(Error, ValueError):
    """Weights that pruning has masked are not zero any more."""


class InternalError(Error, RuntimeError):
    """A defect of skimjit."""


class ModelWarning(UserWarning):
    """Something odd about a model's file: unknown fields, weights that are not used and the like."""


for _name in __all__:
    globals()[_name].__module__ = "skimjit"
