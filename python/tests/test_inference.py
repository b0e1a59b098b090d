"""InferenceSession, as programs for onnxruntime use it."""

import numpy
import pytest
import skimjit as onnxruntime
from conftest import LENET, TWO_OUTPUTS, random


def test_a_program_for_onnxruntime(digits):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(str(LENET), sess_options=options, providers=["CPUExecutionProvider"])
    [input], [output] = session.get_inputs(), session.get_outputs()
    assert input.type == "tensor(float)" and input.shape[1:] == [1, 28, 28]
    [scores] = session.run([output.name], {input.name: digits})
    assert scores.argmax(axis=1).tolist() == list(range(10))
    assert session.get_providers() == ["CPUExecutionProvider"] and session.engine.threads == 1


def test_outputs_by_name_and_in_any_order(network):
    session = onnxruntime.InferenceSession(network(TWO_OUTPUTS))
    feed = {"data": random((3, 2, 6, 5))}
    names = [one.name for one in session.get_outputs()]
    everything = session.run(None, feed)
    assert len(everything) == len(names) == 2
    assert all(numpy.array_equal(a, b) for a, b in zip(session.run([], feed), everything))
    backwards = session.run(names[::-1], feed)
    assert all(numpy.array_equal(a, b) for a, b in zip(backwards, everything[::-1]))
    with pytest.raises(onnxruntime.ArrayError, match="found outputs"):
        session.run(["nothing"], feed)


def test_pictures_whose_axes_were_exchanged_are_copied(digits):
    session = onnxruntime.InferenceSession(LENET.read_bytes())
    name = session.get_inputs()[0].name
    last = numpy.ascontiguousarray(digits.transpose(0, 2, 3, 1))
    [scores] = session.run(None, {name: last.transpose(0, 3, 1, 2)})
    assert scores.argmax(axis=1).tolist() == list(range(10))


def test_options():
    for providers in (["CUDAExecutionProvider"], [("TensorrtExecutionProvider", {})]):
        with pytest.raises(onnxruntime.OptionError, match="CPUExecutionProvider"):
            onnxruntime.InferenceSession(LENET, providers=providers)
    onnxruntime.InferenceSession(LENET, providers=["CUDAExecutionProvider", ("CPUExecutionProvider", {})])
    with pytest.raises(AttributeError):
        onnxruntime.SessionOptions().enable_profiling = True
    with pytest.raises(onnxruntime.OptionError):
        onnxruntime.InferenceSession(onnxruntime.Model(LENET), zero_below=0.1)


def test_closed(digits):
    with onnxruntime.InferenceSession(LENET) as session:
        name = session.get_inputs()[0].name
    with pytest.raises(onnxruntime.ClosedError):
        session.run(None, {name: digits})
    with pytest.raises(onnxruntime.ClosedError):
        session.get_inputs()
