"""A network as a PyTorch module, compiled when this PyTorch can."""

import numpy as np
import torch
import torch.nn.functional as F

import network


def build(caffemodel, topology, batch):
    """The network as a module of fixed batch."""
    return Module(network.load(caffemodel, topology, batch)).eval()


def compiled(module, x):
    """The module through inductor with frozen weights, or as it is; and which of the two it is."""
    try:
        torch._inductor.config.freezing = True
        fast = torch.compile(module)
        fast(x)
        return fast, "inductor"
    except Exception as error:  # inductor fails with errors of many kinds, often for want of a compiler
        return module, f"eager: inductor failed with {type(error).__name__}"


class Module(torch.nn.Module):
    """Runs the operations in order."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.last_use = {value: index for index, op in enumerate(net.ops) for value in op.inputs}
        for index, op in enumerate(net.ops):
            for place, array in enumerate(op.weights):
                tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
                self.register_parameter(f"w{index}_{place}", torch.nn.Parameter(tensor, requires_grad=False))

    def forward(self, x):
        values = {self.net.input: x}
        for index, op in enumerate(self.net.ops):
            weights = [getattr(self, f"w{index}_{place}") for place in range(len(op.weights))]
            inputs = [values[name] for name in op.inputs]
            values[op.output] = _OPS[op.kind](op, inputs, weights)
            for name in op.inputs:
                if self.last_use[name] == index:
                    values.pop(name, None)
        return values[self.net.output]


def _conv(op, inputs, weights):
    a = op.attributes
    return F.conv2d(inputs[0], *weights, a["strides"], a["pads"], a["dilations"], a["groups"])


def _pool(op, inputs, _):
    a = op.attributes
    pool = F.max_pool2d if a["method"] == "MAX" else F.avg_pool2d
    return pool(inputs[0], a["kernel"], a["strides"], a["pads"], ceil_mode=any(a["over"]))


def _lrn(op, inputs, _):
    a = op.attributes
    return F.local_response_norm(inputs[0], a["local_size"], a["alpha"], a["beta"], a["k"])


def _relu(op, inputs, _):
    slope = op.attributes["slope"]
    return F.leaky_relu(inputs[0], slope) if slope else F.relu(inputs[0])


def _scale(op, inputs, weights):
    shape = (1, -1, *[1] * (inputs[0].dim() - 2))
    return inputs[0] * weights[0].view(shape) + weights[1].view(shape)


def _eltwise(op, inputs, _):
    a = op.attributes
    if a["operation"] == "SUM":
        return sum(c * x if c != 1 else x for c, x in zip(a["coefficients"], inputs))
    pick = torch.mul if a["operation"] == "PROD" else torch.maximum
    result = inputs[0]
    for other in inputs[1:]:
        result = pick(result, other)
    return result


_OPS = {
    "conv": _conv,
    "fc": lambda op, inputs, weights: F.linear(inputs[0].flatten(1), *weights),
    "pool": _pool,
    "lrn": _lrn,
    "relu": _relu,
    "scale": _scale,
    "eltwise": _eltwise,
    "concat": lambda op, inputs, _: torch.cat(inputs, op.attributes["axis"]),
    "softmax": lambda op, inputs, _: F.softmax(inputs[0], op.attributes["axis"]),
}
