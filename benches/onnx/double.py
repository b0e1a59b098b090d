"""The result of an ONNX file in double precision, by which the rounding of two programs can be told apart.

The evaluator of the package `onnx` runs the file with every float made a double; PyTorch computes what it would take
minutes for.
"""

import numpy
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch.nn import functional


def padded(x, pads, fill):
    """A tensor with ONNX's pads (all begins, then all ends) of two axes."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    return functional.pad(torch.from_numpy(x), (left, right, top, bottom), value=fill)


class Conv(OpRun):
    def _run(self, x, weight, bias=None, auto_pad=None, dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
        assert auto_pad in (None, "NOTSET"), auto_pad
        bias = None if bias is None else torch.from_numpy(bias)
        weight = torch.from_numpy(weight)
        x = padded(x, pads, 0.0)
        return (functional.conv2d(x, weight, bias, strides or 1, 0, dilations or 1, group).numpy(),)


class MaxPool(OpRun):
    def _run(self, x, auto_pad=None, ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0, strides=None):
        assert auto_pad in (None, "NOTSET") and not (ceil_mode and any(pads)), (auto_pad, pads)
        x = padded(x, pads, -numpy.inf)
        return (functional.max_pool2d(x, kernel_shape, strides or 1, 0, dilations or 1, bool(ceil_mode)).numpy(),)


class Resize(OpRun):
    def _run(self, x, roi=None, scales=None, sizes=None, mode=None, coordinate_transformation_mode=None, **others):
        assert mode == "linear" and coordinate_transformation_mode.endswith("half_pixel"), (mode, others)
        if sizes is None:
            sizes = [int(size * scale) for size, scale in zip(x.shape, scales)]
        sizes = [int(size) for size in sizes[2:]]
        return (functional.interpolate(torch.from_numpy(x), sizes, mode="bilinear", align_corners=False).numpy(),)


def doubled(path):
    """The model of a file; its floats are doubles."""
    model = onnx.load(path)
    tensors = list(model.graph.initializer)
    for attribute in (one for node in model.graph.node for one in node.attribute):
        if attribute.type == onnx.AttributeProto.TENSOR:
            tensors.append(attribute.t)
        elif attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    for tensor in (one for one in tensors if one.data_type == TensorProto.FLOAT):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(numpy.float64), tensor.name))
    return model


def run(path, names, feed):
    evaluator = ReferenceEvaluator(doubled(path), new_ops=[Conv, MaxPool, Resize])
    return evaluator.run(names, {name: array.astype(numpy.float64) for name, array in feed.items()})
