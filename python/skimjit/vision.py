"""Pictures in, labels out.

    x = skimjit.vision.load(["cat.jpg", "dog.jpg"], model)         # as the model says
    x = skimjit.vision.load(pictures, skimjit.vision.TORCHVISION)  # as torchvision's networks were trained
    for guess in skimjit.vision.top_k(engine.run(x), 5, model.labels)[0]:
        print(guess.label, guess.score)

A picture is a path, the bytes of a file (JPEG, PNG, BMP, GIF, TIFF, WebP, PNM), an image of Pillow, or an array of uint8,
height × width × channels with red first (or height × width, gray). Pillow is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy

from . import _native
from ._errors import DTypeError, ModelError, OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._typing import Floats, Pixels

__all__ = ["CAFFE", "TORCHVISION", "Guess", "Preprocess", "load", "top_k"]


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes an input, in this order: resize, cut out the centre, subtract the mean, scale.

    Attributes:
        channel_order: "RGB" or "BGR"; of no meaning for one channel.
        resize: length of the shorter side, or (height, width); None: not.
        crop: side of the square that is cut from the centre; None: none.
        mean: subtracted from pixels of 0 to 255: one number for all channels, one for each in the channel order, or an
            array of channels × height × width, as large as the picture before it is cut.
        scale: factor after that: one number, or one for each channel.
        smooth: shrinking averages all pixels (Pillow's, and so torchvision's way) instead of taking the four nearest
            (OpenCV's, and so Caffe's).
    """

    channel_order: str = "BGR"
    resize: Union[int, tuple[int, int], None] = None
    crop: Optional[int] = None
    mean: Any = ()
    scale: Union[float, tuple[float, ...]] = 1.0
    smooth: bool = False

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise OptionError(f"channel_order: found {self.channel_order!r}, expected 'RGB' or 'BGR'")

    def __call__(self, picture: Any, channels: int = 3) -> Floats:
        """The input for one picture: channels × height × width."""
        pixels = _pixels(picture, channels)
        if self.resize is not None:
            pixels = self._resized(pixels)
        planes = pixels.astype(numpy.float32).transpose(2, 0, 1)
        if channels == 3 and self.channel_order == "BGR":
            planes = planes[::-1]
        planes = (planes - self._mean(planes.shape)) * _per_channel("scale", self.scale, channels)
        return numpy.ascontiguousarray(self._cut(planes))

    def _resized(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        if isinstance(self.resize, tuple):
            size = self.resize
        else:
            short, side = min(height, width), self.resize or 0
            # torchvision cuts off what the engine's own program rounds.
            half = 0 if self.smooth else short // 2
            size = ((height * side + half) // short, (width * side + half) // short)
        if not self.smooth:
            return _native.resize(pixels, *size)
        return _smoothed(_smoothed(pixels, size[1], 1), size[0], 0)

    def _mean(self, shape: tuple[int, ...]) -> Floats:
        mean = numpy.asarray(self.mean, numpy.float32)
        if mean.ndim < 3:
            return _per_channel("mean", self.mean, shape[0])
        if mean.shape != shape:
            raise ShapeError(f"mean: found {mean.shape} for a picture of {shape}, expected the same")
        return mean

    def _cut(self, planes: Floats) -> Floats:
        if self.crop is None:
            return planes
        height, width = planes.shape[1:]
        if min(height, width) < self.crop:
            raise ShapeError(f"found a picture of {height}×{width}, expected at least the crop, {self.crop}")
        top, left = (height - self.crop) / 2, (width - self.crop) / 2
        # torchvision rounds halves of a pixel, Caffe cuts them off.
        top, left = (round(top), round(left)) if self.smooth else (int(top), int(left))
        return planes[:, top : top + self.crop, left : left + self.crop]


#: Networks of Caffe's model zoo: 256×256, blue first, without the mean of ImageNet. load() cuts to the model's size.
CAFFE = Preprocess("BGR", (256, 256), None, (104.0, 117.0, 123.0))

#: Classifiers of torchvision: the shorter side 256, the centre of 224, ImageNet's mean and deviation.
TORCHVISION = Preprocess(
    "RGB",
    256,
    224,
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
    smooth=True,
)

_NAMED = {"caffe": CAFFE, "torchvision": TORCHVISION}


def load(
    pictures: Any,
    how: Union[Preprocess, str, _native.Model],
    *,
    model: Optional[_native.Model] = None,
) -> Floats:
    """Inputs of a network from pictures.

    Arguments:
        pictures: a picture, or a list of them.
        how: a Preprocess, "caffe", "torchvision", or a model that says it itself.
        model: whose input it is: pictures are cut to its size where `how` does not say a crop, and have its channels.

    Returns:
        An array of float32, pictures × channels × height × width.

    Raises:
        ModelError: the model does not say how.
        ShapeError: pictures become inputs of different sizes, or not of the model's.
        FileError, DTypeError: no picture.
    """
    if isinstance(how, _native.Model):
        model, known = how, how.preprocess
        if known is None:
            raise ModelError(f"{how.name}: found nothing about preprocessing, expected it in the file; name one")
        how = known
    elif isinstance(how, str):
        if how not in _NAMED:
            raise OptionError(f"how: found {how!r}, expected one of {sorted(_NAMED)}, a Preprocess or a Model")
        how = _NAMED[how]
    assert isinstance(how, Preprocess)
    shape = model.inputs[0].shape if model else []
    channels, size = (shape[1], shape[2:]) if len(shape) == 4 else (3, [])
    if how.crop is None and size and size[0] == size[1] and how.resize is not None:
        how = replace(how, crop=size[0])
    inputs = [how(picture, channels) for picture in _listed(pictures)]
    sizes = {one.shape[1:] for one in inputs}
    if len(sizes) != 1 or (size and sizes != {tuple(size)}):
        expected = f"{size[0]}×{size[1]}, the model's input" if size else "one size for all"
        found = ", ".join(f"{height}×{width}" for height, width in sorted(sizes)) or "none"
        raise ShapeError(f"found pictures that become {found}, expected {expected}; resize or crop them")
    return numpy.stack(inputs)


@dataclass(frozen=True)
class Guess:
    """A class of an image: its number, its score and its name."""

    index: int
    score: float
    label: str


def top_k(scores: Any, k: int = 5, labels: Sequence[str] = ()) -> list[list[Guess]]:
    """The best classes of each image, the best one first.

    Arguments:
        scores: images × classes (further axes of one element are left out).
        labels: names of the classes; without them, the numbers are the names.
    """
    table: NDArray[Any] = numpy.asarray(scores)
    shape: tuple[int, ...] = table.shape
    if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[2:]):
        raise ShapeError(f"scores: found shape {shape}, expected images × classes")
    images, classes = shape[:2]
    table = table.reshape(images, classes)
    if labels and len(labels) != classes:
        raise ShapeError(f"labels: found {len(labels)} for {classes} classes, expected one for each")
    best = numpy.argsort(-table, axis=1, kind="stable")[:, :k]
    names = labels or [str(index) for index in range(classes)]
    return [
        [Guess(int(index), float(row[index]), names[index]) for index in order]
        for row, order in zip(table, best)
    ]


def _listed(pictures: Any) -> list[Any]:
    many = isinstance(pictures, (list, tuple)) or (isinstance(pictures, numpy.ndarray) and pictures.ndim == 4)
    return list(pictures) if many else [pictures]


def _pixels(picture: Any, channels: int) -> Pixels:
    """Height × width × channels."""
    if isinstance(picture, (str, os.PathLike, bytes, bytearray, memoryview)):
        return _native.decode(picture, channels)
    if hasattr(picture, "convert"):
        # Of Pillow, which turns any of its modes into these.
        picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = numpy.asarray(picture)
    if pixels.dtype != numpy.uint8:
        raise DTypeError(f"picture: found {pixels.dtype}, expected a path, bytes, or pixels of uint8")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, channels) or 0 in pixels.shape:
        raise ShapeError(f"picture: found shape {pixels.shape}, expected height × width × {channels}")
    return numpy.ascontiguousarray(numpy.broadcast_to(pixels, (*pixels.shape[:2], channels)))


def _per_channel(what: str, values: Any, channels: int) -> Floats:
    """One value per channel, to be combined with planes."""
    row = numpy.asarray(values, numpy.float32).reshape(-1)
    if row.size == 0:
        row = numpy.zeros(1, numpy.float32)
    if row.size not in (1, channels):
        raise ShapeError(f"{what}: found {row.size} values, expected 1 or {channels}")
    return row.reshape(-1, 1, 1)


def _smoothed(pixels: Pixels, size: int, axis: int) -> Pixels:
    """Resized along one axis: each new pixel is the mean of those around its place, weighted by a triangle as wide as the
    step from one to the next."""
    own = pixels.shape[axis]
    if own == size:
        return pixels
    step = own / size
    width = max(step, 1.0)
    centres = (numpy.arange(size) + 0.5) * step
    places = numpy.arange(own) + 0.5
    weights = numpy.maximum(0.0, 1.0 - abs(places - centres[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    resized = numpy.moveaxis(numpy.tensordot(weights, pixels, (1, axis)), 0, axis)
    rounded: Pixels = numpy.clip(numpy.floor(resized + 0.5), 0, 255).astype(numpy.uint8)
    return rounded
