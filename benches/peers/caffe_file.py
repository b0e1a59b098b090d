"""Reads the parts of Caffe networks that are needed here: prototxt, and caffemodel.

A message is a dict from field name to the list of its values, whichever file it came from.
"""

import re
import struct

import numpy as np

INT, FLOAT, TEXT, FLOATS = "int", "float", "text", "floats"


class CaffeError(Exception):
    """A file that cannot be used, and why."""


def _message(**fields):
    """Fields as name=(number, kind); a kind is a constant above, a message, or a list of enum names."""
    return {name: field for name, field in fields.items()}


SHAPE = _message(dim=(1, INT))
BLOB = _message(
    num=(1, INT), channels=(2, INT), height=(3, INT), width=(4, INT), data=(5, FLOATS), shape=(7, SHAPE)
)
PHASE = ["TRAIN", "TEST"]
RULE = _message(phase=(1, PHASE))
CONVOLUTION = _message(
    num_output=(1, INT), bias_term=(2, INT), pad=(3, INT), kernel_size=(4, INT), group=(5, INT),
    stride=(6, INT), pad_h=(9, INT), pad_w=(10, INT), kernel_h=(11, INT), kernel_w=(12, INT),
    stride_h=(13, INT), stride_w=(14, INT), dilation=(18, INT),
)
POOLING = _message(
    pool=(1, ["MAX", "AVE", "STOCHASTIC"]), kernel_size=(2, INT), stride=(3, INT), pad=(4, INT),
    kernel_h=(5, INT), kernel_w=(6, INT), stride_h=(7, INT), stride_w=(8, INT), pad_h=(9, INT),
    pad_w=(10, INT), global_pooling=(12, INT), round_mode=(13, ["CEIL", "FLOOR"]),
)
LRN = _message(
    local_size=(1, INT), alpha=(2, FLOAT), beta=(3, FLOAT),
    norm_region=(4, ["ACROSS_CHANNELS", "WITHIN_CHANNEL"]), k=(5, FLOAT),
)
PARAMETERS = _message(
    concat_param=(104, _message(concat_dim=(1, INT), axis=(2, INT))),
    convolution_param=(106, CONVOLUTION),
    eltwise_param=(110, _message(operation=(1, ["PROD", "SUM", "MAX"]), coeff=(2, FLOAT))),
    inner_product_param=(117, _message(num_output=(1, INT), bias_term=(2, INT), axis=(5, INT), transpose=(6, INT))),
    lrn_param=(118, LRN),
    pooling_param=(121, POOLING),
    relu_param=(123, _message(negative_slope=(1, FLOAT))),
    softmax_param=(125, _message(axis=(2, INT))),
    batch_norm_param=(139, _message(eps=(3, FLOAT))),
    scale_param=(142, _message(axis=(1, INT), bias_term=(4, INT))),
    input_param=(143, _message(shape=(1, SHAPE))),
)
LAYER = _message(
    name=(1, TEXT), type=(2, TEXT), bottom=(3, TEXT), top=(4, TEXT), blobs=(7, BLOB), include=(8, RULE),
    exclude=(9, RULE), **PARAMETERS,
)
# Of the old layers only the weights are read; the topology comes from a prototxt.
OLD_LAYER = _message(name=(4, TEXT), blobs=(6, BLOB))
NET = _message(
    name=(1, TEXT), layers=(2, OLD_LAYER), input=(3, TEXT), input_dim=(4, INT), input_shape=(8, SHAPE),
    layer=(100, LAYER),
)


def read_binary(path):
    """The NetParameter of a caffemodel."""
    with open(path, "rb") as file:
        data = memoryview(file.read())
    try:
        return _decode(data, NET)
    except (IndexError, struct.error, ValueError) as error:
        raise CaffeError(f"{path}: found no caffemodel ({error})") from error


def read_text(path):
    """The NetParameter of a prototxt."""
    with open(path, encoding="utf-8") as file:
        tokens = _TOKEN.findall(re.sub(r"#[^\n]*", "", file.read()))
    tokens.append("")
    message, end = _parse(tokens, 0, NET)
    if end != len(tokens) - 1:
        raise CaffeError(f"{path}: found {tokens[end]!r} outside of all messages")
    return message


def blob_array(blob):
    """Values of a BlobProto, in its shape."""
    dims = blob["shape"][0].get("dim", []) if "shape" in blob else [
        blob.get(name, [1])[0] for name in ("num", "channels", "height", "width")
    ]
    return np.concatenate([np.asarray(part, np.float32) for part in blob["data"]]).reshape(dims)


def _varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _decode(data, schema):
    by_number = {number: (name, kind) for name, (number, kind) in schema.items()}
    message, at = {}, 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _wire_value(data, at, key & 7)
        name, kind = by_number.get(key >> 3, (None, None))
        if name is not None:
            message.setdefault(name, []).extend(_typed(value, key & 7, kind))
    return message


def _wire_value(data, at, wire):
    if wire == 0:
        return _varint(data, at)
    if wire == 2:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("the file is cut off")
        return data[at : at + size], at + size
    if wire in (1, 5):
        size = 8 if wire == 1 else 4
        return data[at : at + size], at + size
    raise ValueError(f"wire type {wire}")


def _typed(value, wire, kind):
    """The values that one occurrence of a field holds: several when they are packed."""
    if isinstance(kind, dict):
        return [_decode(value, kind)]
    if kind == TEXT:
        return [bytes(value).decode("utf-8")]
    if kind == FLOATS:
        return [np.frombuffer(value, "<f4")]
    if kind == FLOAT:
        return [number for (number,) in struct.iter_unpack("<f", value)]
    numbers, at = ([value], 0) if wire == 0 else ([], 0)
    while wire == 2 and at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    return [kind[number] for number in numbers] if isinstance(kind, list) else numbers


_TOKEN = re.compile(r'"[^"]*"|\'[^\']*\'|[{}\[\]:,;]|[^\s{}\[\]:,;"\']+')
_CONSTANTS = {"true": 1, "false": 0}


def _parse(tokens, at, schema):
    """A message up to its closing brace; fields outside the schema are skipped."""
    message = {}
    while tokens[at] not in ("", "}"):
        name, at = tokens[at], at + 1
        _, kind = schema.get(name, (None, None))
        if tokens[at] == ":":
            at += 1
        if tokens[at] == "{":
            value, at = _parse(tokens, at + 1, kind if isinstance(kind, dict) else {})
            values, at = [value], at + 1
        else:
            values, at = _scalars(tokens, at, kind)
        if kind is not None:
            message.setdefault(name, []).extend(values)
        if tokens[at] in (",", ";"):
            at += 1
    return message, at


def _scalars(tokens, at, kind):
    if tokens[at] != "[":
        return [_scalar(tokens[at], kind)], at + 1
    end = tokens.index("]", at)
    return [_scalar(token, kind) for token in tokens[at + 1 : end] if token != ","], end + 1


def _scalar(token, kind):
    if kind == INT:
        return _CONSTANTS[token] if token in _CONSTANTS else int(token)
    if kind == FLOAT:
        return float(token)
    return token.strip("\"'")
