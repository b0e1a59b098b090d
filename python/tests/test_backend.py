"""ONNX's own conformance tests over skimjit.backend."""

import unittest

import numpy
import pytest
import skimjit

onnx = pytest.importorskip("onnx")
import onnx.backend.test  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from skimjit import backend  # noqa: E402


def affine(batch="N"):
    weights = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), weights


def test_a_model_of_onnx():
    model, weights = affine()
    x = numpy.random.default_rng(0).standard_normal((5, 4), numpy.float32)
    made = skimjit.compile(model.SerializeToString(), threads=1)
    numpy.testing.assert_allclose(made.run(x), x @ weights, rtol=1e-5)
    [y] = backend.prepare(model).run([x])
    numpy.testing.assert_allclose(y, x @ weights, rtol=1e-5)
    [y] = backend.run_model(model, {"x": x})
    numpy.testing.assert_allclose(y, x @ weights, rtol=1e-5)
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    assert backend.is_compatible(model)
    with pytest.raises(skimjit.ModelError):
        backend.prepare(model, "CUDA")
    with pytest.raises(skimjit.ShapeError):
        backend.prepare(model).run([])


def test_one_node():
    x = numpy.array([[-1.0, 2.0]], numpy.float32)
    [y] = backend.run_node(helper.make_node("Relu", ["x"], ["y"]), [x])
    assert y.tolist() == [[0.0, 2.0]]
    k = numpy.array([1], numpy.int64)
    node = helper.make_node("Gather", ["x", "k"], ["y"], axis=1)
    [y] = backend.run_node(node, [x, k])
    assert y.tolist() == [[2.0]]
    with pytest.raises(skimjit.ModelError):
        backend.run_node(helper.make_node("Hardmax", ["x"], ["y"]), [x])


class Refusing:
    """skimjit.backend, of which what a model has that cannot be run is a test left out."""

    supports_device = staticmethod(backend.supports_device)

    @staticmethod
    def prepare(model, device, **options):
        prepared = backend.prepare(model, device, threads=1)
        found = prepared.run

        def run(inputs, **options):
            try:
                return found(inputs, **options)
            except skimjit.Error as error:
                if isinstance(error, skimjit.InternalError):
                    raise
                raise unittest.SkipTest(str(error)) from None

        prepared.run = run
        return prepared


@pytest.mark.filterwarnings("ignore")
def test_conformance(tmp_path, monkeypatch):
    """None of the cases that are not refused is wrong."""
    monkeypatch.setenv("ONNX_HOME", str(tmp_path))
    cases = onnx.backend.test.BackendTest(Refusing, __name__)
    cases.exclude("_cuda$")
    # Its results were computed with float16, of which one unit in the last place is more than the tolerance.
    cases.exclude("test_attention_4d_causal_fp16_expanded_cpu$")
    suite = cases.enable_report().test_suite
    result = unittest.TestResult()
    suite.run(result)
    refused = [test for test, why in result.skipped if not test.id().endswith("_cuda")]
    ran = sum(1 for test in flat(cases.test_suite) if not test.id().endswith("_cuda"))
    wrong = [(test.id(), text) for test, text in result.failures + result.errors]
    print(f"{ran} cases: {ran - len(refused) - len(wrong)} passed, {len(refused)} refused, {len(wrong)} wrong")
    assert not wrong, wrong
    # Of onnx 1.23.2, 1150 pass.
    assert ran - len(refused) > 1000


def flat(tests):
    for one in tests:
        yield from flat(one) if isinstance(one, unittest.TestSuite) else [one]
