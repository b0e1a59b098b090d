"""Writes a network as ONNX of a fixed batch, with a random input beside it.

usage: to_onnx.py CAFFEMODEL PROTOTXT|- BATCH FOLDER
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import network

# What the oldest engine compared reads.
OPSET, IR_VERSION = 13, 8


def model(net, outputs):
    """The network as an ONNX model with these values as outputs."""
    nodes, weights = [], []
    for op in net.ops:
        _NODES[op.kind](op, net, nodes, weights)
    info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, net.shapes[name])
    graph = helper.make_graph(nodes, net.name, [info(net.input)], [info(name) for name in outputs], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    made.ir_version = IR_VERSION
    return made


def _node(op, nodes, kind, extra=(), **attributes):
    nodes.append(helper.make_node(kind, [*op.inputs, *extra], [op.output], name=op.name, **attributes))


def _weights(op, weights, arrays):
    names = [f"{op.name}.{index}" for index in range(len(arrays))]
    weights.extend(
        numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        for name, array in zip(names, arrays)
    )
    return names


def _conv(op, _, nodes, weights):
    a = op.attributes
    _node(
        op, nodes, "Conv", _weights(op, weights, op.weights), kernel_shape=a["kernel"], strides=a["strides"],
        pads=[*a["pads"], *a["pads"]], dilations=a["dilations"], group=a["groups"],
    )


def _fc(op, net, nodes, weights):
    source = op.inputs[0]
    if len(net.shapes[source]) != 2:
        nodes.append(helper.make_node("Flatten", [source], [f"{op.name}.flat"], name=f"{op.name}.flat"))
        source = f"{op.name}.flat"
    names = _weights(op, weights, op.weights)
    nodes.append(helper.make_node("Gemm", [source, *names], [op.output], name=op.name, transB=1))


def _pool(op, net, nodes, _):
    a = op.attributes
    if a["method"] == "AVE" and a["kernel"] == net.shapes[op.inputs[0]][2:]:
        return _node(op, nodes, "GlobalAveragePool")
    common = dict(kernel_shape=a["kernel"], strides=a["strides"])
    if any(a["over"]) and any(a["pads"]):
        # ONNX before opset 19 rounds up without Caffe's clipping: spell the padding out.
        ends = [pad + over for pad, over in zip(a["pads"], a["over"])]
        common.update(pads=[*a["pads"], *ends])
    else:
        common.update(pads=[*a["pads"], *a["pads"]], ceil_mode=int(any(a["over"])))
    if a["method"] == "MAX":
        return _node(op, nodes, "MaxPool", **common)
    return _node(op, nodes, "AveragePool", count_include_pad=int(any(a["pads"])), **common)


def _lrn(op, _, nodes, __):
    a = op.attributes
    _node(op, nodes, "LRN", alpha=a["alpha"], beta=a["beta"], bias=a["k"], size=a["local_size"])


def _relu(op, _, nodes, __):
    slope = op.attributes["slope"]
    if slope:
        _node(op, nodes, "LeakyRelu", alpha=slope)
    else:
        _node(op, nodes, "Relu")


def _scale(op, net, nodes, weights):
    rank = len(net.shapes[op.inputs[0]])
    factor, offset = _weights(op, weights, [w.reshape(1, -1, *[1] * (rank - 2)) for w in op.weights])
    nodes.append(helper.make_node("Mul", [op.inputs[0], factor], [f"{op.name}.scaled"], name=f"{op.name}.mul"))
    nodes.append(helper.make_node("Add", [f"{op.name}.scaled", offset], [op.output], name=op.name))


def _eltwise(op, _, nodes, weights):
    a = op.attributes
    if len(op.inputs) != 2 or any(c != 1 for c in a["coefficients"]):
        raise network.CaffeError(f"layer {op.name}: found coefficients or not two inputs")
    _node(op, nodes, {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[a["operation"]])


_NODES = {
    "conv": _conv,
    "fc": _fc,
    "pool": _pool,
    "lrn": _lrn,
    "relu": _relu,
    "scale": _scale,
    "eltwise": _eltwise,
    "concat": lambda op, _, nodes, __: _node(op, nodes, "Concat", axis=op.attributes["axis"]),
    "softmax": lambda op, _, nodes, __: _node(op, nodes, "Softmax", axis=op.attributes["axis"]),
}


def main():
    caffemodel, prototxt, batch, folder = sys.argv[1:]
    folder = pathlib.Path(folder)
    net = network.load(caffemodel, None if prototxt == "-" else prototxt, int(batch))
    onnx.save(model(net, [net.output]), folder / "net.onnx")
    # Softmax hides differences: what comes before it is compared too.
    last = net.ops[-1]
    scores = last.inputs[0] if last.kind == "softmax" else net.output
    onnx.save(model(net, [scores]), folder / "scores.onnx")
    random = np.random.default_rng(1)
    np.save(folder / "input.npy", random.standard_normal(net.shapes[net.input], np.float32))
    print(json.dumps(dict(input=net.input, output=net.output, scores=scores.split(":")[0])))


if __name__ == "__main__":
    try:
        main()
    except network.CaffeError as error:
        sys.exit(f"error: {error}")
