"""A Caffe network as a short list of operations with resolved shapes, for exporters to walk.

Batch normalisation and scaling after a convolution are folded into its weights, as every engine
does; Dropout and Split vanish.
"""

from dataclasses import dataclass, field

import numpy as np

from caffe_file import CaffeError, blob_array, read_binary, read_text


@dataclass
class Op:
    """One operation; `inputs` and `output` name values, each written once."""

    kind: str
    name: str
    inputs: list
    output: str
    shape: tuple
    attributes: dict = field(default_factory=dict)
    weights: list = field(default_factory=list)


@dataclass
class Network:
    """Operations in order, between one input and one output."""

    name: str
    input: str
    shapes: dict
    ops: list

    @property
    def output(self):
        return self.ops[-1].output


def load(caffemodel, prototxt=None, batch=1):
    """The network of a caffemodel, or of a prototxt with the caffemodel's weights."""
    weights = read_binary(caffemodel)
    topology = read_text(prototxt) if prototxt else weights
    blobs = {
        layer["name"][0]: [blob_array(blob) for blob in layer.get("blobs", [])]
        for layer in weights.get("layer", []) + weights.get("layers", [])
        if "name" in layer
    }
    builder = _Builder(topology, blobs, batch)
    if not builder.network.ops:
        raise CaffeError(f"{prototxt or caffemodel}: found no layers; weights of old files need a prototxt")
    return builder.network


def first(message, name, default):
    """The field's first value."""
    return message.get(name, [default])[0]


def pair(message, both, high, wide, default):
    """Height and width of a kernel, stride or padding."""
    values = message.get(both, [default])
    return (first(message, high, values[0]), first(message, wide, values[-1]))


class _Builder:
    def __init__(self, topology, blobs, batch):
        self.blobs = blobs
        self.batch = batch
        self.current = {}
        self.network = Network(first(topology, "name", "network"), None, {}, [])
        self._old_style_input(topology)
        for layer in topology.get("layer", []):
            phases = [first(rule, "phase", None) for rule in layer.get("include", [])]
            if "TRAIN" not in phases:
                self._layer(layer)

    def _old_style_input(self, topology):
        if "input" in topology:
            shape = topology.get("input_shape", [{"dim": topology.get("input_dim", [])}])[0]
            self._input(topology["input"][0], shape["dim"])

    def _input(self, name, dims):
        if self.network.input is not None:
            raise CaffeError(f"input {name}: found a second input, expected one")
        self.network.input = self.current[name] = name
        self.network.shapes[name] = (self.batch, *dims[1:])

    def _layer(self, layer):
        kind, name = layer["type"][0], layer["name"][0]
        if kind == "Input":
            self._input(layer["top"][0], first(layer["input_param"][0], "shape", None)["dim"])
            return
        inputs = [self.current[bottom] for bottom in layer["bottom"]]
        if kind in ("Dropout", "Split"):
            self.current.update({top: inputs[0] for top in layer["top"]})
            return
        if kind not in _LAYERS:
            raise CaffeError(f"layer {name}: found type {kind}, expected one of: {', '.join(_LAYERS)}")
        op = Op("", name, inputs, "", ())
        shapes = [self.network.shapes[value] for value in inputs]
        _LAYERS[kind](op, layer, shapes, self.blobs.get(name, []))
        if op.kind == "scale" and self._fold(op):
            self.current[layer["top"][0]] = inputs[0]
            return
        op.output = f"{layer['top'][0]}:{name}" if layer["top"][0] in self.current else layer["top"][0]
        self.network.shapes[op.output] = op.shape
        self.network.ops.append(op)
        self.current[layer["top"][0]] = op.output

    def _fold(self, scale):
        """Multiplies a scaling into the convolution right before it."""
        before = self.network.ops[-1] if self.network.ops else None
        if before is None or before.kind != "conv" or before.output != scale.inputs[0]:
            return False
        factor, offset = scale.weights
        weights, bias = before.weights
        before.weights = [weights * factor[:, None, None, None], bias * factor + offset]
        return True


def _convolution(op, layer, shapes, blobs):
    parameter = layer["convolution_param"][0]
    kernel = pair(parameter, "kernel_size", "kernel_h", "kernel_w", 1)
    pads = pair(parameter, "pad", "pad_h", "pad_w", 0)
    strides = pair(parameter, "stride", "stride_h", "stride_w", 1)
    dilations = pair(parameter, "dilation", "-", "-", 1)
    batch, channels, *size = shapes[0]
    outputs, groups = first(parameter, "num_output", 0), first(parameter, "group", 1)
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, pads, dilations, kernel, strides)
    ]
    op.kind, op.shape = "conv", (batch, outputs, *out)
    op.attributes = dict(kernel=kernel, pads=pads, strides=strides, dilations=dilations, groups=groups)
    weights = _blob(op, blobs, 0).reshape(outputs, channels // groups, *kernel)
    op.weights = [weights, _bias(op, blobs, first(parameter, "bias_term", 1), outputs)]


def _inner_product(op, layer, shapes, blobs):
    parameter = layer["inner_product_param"][0]
    if first(parameter, "axis", 1) != 1 or first(parameter, "transpose", 0):
        raise CaffeError(f"layer {op.name}: found an axis or a transposition, expected neither")
    outputs = first(parameter, "num_output", 0)
    op.kind, op.shape = "fc", (shapes[0][0], outputs)
    weights = _blob(op, blobs, 0).reshape(outputs, int(np.prod(shapes[0][1:])))
    op.weights = [weights, _bias(op, blobs, first(parameter, "bias_term", 1), outputs)]


def _pooling(op, layer, shapes, _):
    parameter = layer["pooling_param"][0]
    batch, channels, *size = shapes[0]
    if first(parameter, "global_pooling", 0):
        kernel, pads, strides = tuple(size), (0, 0), (1, 1)
    else:
        kernel = pair(parameter, "kernel_size", "kernel_h", "kernel_w", 1)
        pads = pair(parameter, "pad", "pad_h", "pad_w", 0)
        strides = pair(parameter, "stride", "stride_h", "stride_w", 1)
    ceil = first(parameter, "round_mode", "CEIL") == "CEIL"
    axes = list(zip(size, pads, kernel, strides))
    out = [_pooled(*axis, ceil) for axis in axes]
    # Rows and columns that the last window reaches past the padding.
    over = [max(0, (o - 1) * s + k - n - 2 * p) for o, (n, p, k, s) in zip(out, axes)]
    method = first(parameter, "pool", "MAX")
    if method == "STOCHASTIC":
        raise CaffeError(f"layer {op.name}: found STOCHASTIC pooling, expected MAX or AVE")
    if method == "AVE" and any(over) and any(pads):
        raise CaffeError(f"layer {op.name}: found padded averages whose last window is cut off")
    op.kind, op.shape = "pool", (batch, channels, *out)
    op.attributes = dict(method=method, kernel=kernel, pads=pads, strides=strides, over=tuple(over))


def _pooled(size, pad, kernel, stride, ceil):
    """Caffe's output size: rounded up, less a window that would start in the padding."""
    slack = size + 2 * pad - kernel
    out = (-(-slack // stride) if ceil else slack // stride) + 1
    return out - 1 if pad and (out - 1) * stride >= size + pad else out


def _lrn(op, layer, shapes, _):
    parameter = first(layer, "lrn_param", {})
    if first(parameter, "norm_region", "ACROSS_CHANNELS") != "ACROSS_CHANNELS":
        raise CaffeError(f"layer {op.name}: found normalisation within channels, expected across")
    op.kind, op.shape = "lrn", shapes[0]
    defaults = dict(local_size=5, alpha=1.0, beta=0.75, k=1.0)
    op.attributes = {name: first(parameter, name, value) for name, value in defaults.items()}


def _relu(op, layer, shapes, _):
    op.kind, op.shape = "relu", shapes[0]
    op.attributes = dict(slope=first(first(layer, "relu_param", {}), "negative_slope", 0.0))


def _batch_norm(op, layer, shapes, blobs):
    mean, variance, count = (_blob(op, blobs, index).ravel() for index in range(3))
    share = 0.0 if count[0] == 0 else 1.0 / count[0]
    eps = first(first(layer, "batch_norm_param", {}), "eps", 1e-5)
    factor = 1.0 / np.sqrt(variance.astype(np.float64) * share + eps)
    op.kind, op.shape = "scale", shapes[0]
    op.weights = [factor.astype(np.float32), (-mean * share * factor).astype(np.float32)]


def _scale(op, layer, shapes, blobs):
    parameter = first(layer, "scale_param", {})
    if len(op.inputs) != 1 or first(parameter, "axis", 1) != 1:
        raise CaffeError(f"layer {op.name}: found a factor that is computed, expected one per channel")
    factor = _blob(op, blobs, 0).ravel()
    op.kind, op.shape = "scale", shapes[0]
    op.weights = [factor, _bias(op, blobs, first(parameter, "bias_term", 0), len(factor))]


def _eltwise(op, layer, shapes, _):
    parameter = first(layer, "eltwise_param", {})
    op.kind, op.shape = "eltwise", shapes[0]
    coefficients = parameter.get("coeff", [1.0] * len(shapes))
    op.attributes = dict(operation=first(parameter, "operation", "SUM"), coefficients=coefficients)


def _concat(op, layer, shapes, _):
    parameter = first(layer, "concat_param", {})
    axis = first(parameter, "axis", first(parameter, "concat_dim", 1))
    shape = list(shapes[0])
    shape[axis] = sum(each[axis] for each in shapes)
    op.kind, op.shape, op.attributes = "concat", tuple(shape), dict(axis=axis)


def _softmax(op, layer, shapes, _):
    op.kind, op.shape = "softmax", shapes[0]
    op.attributes = dict(axis=first(first(layer, "softmax_param", {}), "axis", 1))


def _blob(op, blobs, index):
    if index >= len(blobs):
        raise CaffeError(f"layer {op.name}: found {len(blobs)} blobs, expected at least {index + 1}")
    return blobs[index]


def _bias(op, blobs, present, size):
    return _blob(op, blobs, 1).ravel() if present else np.zeros(size, np.float32)


_LAYERS = {
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "LRN": _lrn,
    "ReLU": _relu,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Eltwise": _eltwise,
    "Concat": _concat,
    "Softmax": _softmax,
}
