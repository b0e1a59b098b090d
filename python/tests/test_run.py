"""Engine.run: values, shapes, memory."""

import gc
import sys

import numpy
import pytest
import skimjit
from conftest import LENET, TWO_INPUTS, TWO_OUTPUTS, random


def test_digits_are_read(engine, digits, lenet):
    scores = engine.run(digits)
    assert scores.shape == (10, 10) and scores.dtype == numpy.float32
    assert scores.argmax(axis=1).tolist() == list(range(10))
    numpy.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    [[best, second]] = skimjit.vision.top_k(scores[3:4], 2)
    assert (best.index, best.label) == (3, "3") and best.score > second.score


def test_any_number_of_images_gives_the_same_bits(engine, digits, lenet):
    one_by_one = numpy.concatenate([engine.run(digits[n : n + 1]) for n in range(10)])
    assert numpy.array_equal(engine.run(digits), one_by_one)
    threads = skimjit.compile(lenet, batch=1, threads=3)
    assert numpy.array_equal(threads.run(digits), one_by_one)
    name = engine.inputs[0].name
    [by_name] = engine.run({name: digits}).values()
    assert numpy.array_equal(by_name, one_by_one)


def test_out_is_where_the_result_is(engine, digits):
    out = numpy.zeros((10, 10), numpy.float32)
    returned = engine.run(digits, out=out)
    assert returned is out and numpy.array_equal(out, engine.run(digits))
    # A part of a larger array.
    table = numpy.zeros((30, 10), numpy.float32)
    returned = engine.run(digits, out=table[10:20])
    assert numpy.shares_memory(returned, table)
    assert numpy.array_equal(table[10:20], out) and not table[:10].any() and not table[20:].any()


def test_arrays_by_name(network):
    engine = skimjit.compile(network(TWO_OUTPUTS), threads=1)
    [input] = engine.inputs
    assert (input.name, input.shape, input.type) == ("data", [1, 2, 6, 5], "tensor(float)")
    assert {one.name: one.shape for one in engine.outputs} == {"fc": [1, 4], "pool": [1, 3, 3, 3]}
    x = random((5, 2, 6, 5))
    results = engine.run({"data": x})
    assert {name: array.shape for name, array in results.items()} == {"fc": (5, 4), "pool": (5, 3, 3, 3)}
    fc = numpy.zeros((5, 4), numpy.float32)
    again = engine.run({"data": x}, out={"fc": fc})
    assert again["fc"] is fc and numpy.array_equal(fc, results["fc"])
    assert numpy.array_equal(again["pool"], results["pool"])
    with pytest.raises(skimjit.ArrayError, match="by name"):
        engine.run(x)


def test_several_inputs(network):
    engine = skimjit.compile(network(TWO_INPUTS), threads=1)
    a, b = random((2, 3, 4, 4), 1), random((2, 3, 4, 4), 2)
    numpy.testing.assert_allclose(engine.run({"a": a, "b": b})["sum"], a + b, rtol=1e-6)
    # One array for both is read twice.
    numpy.testing.assert_allclose(engine.run({"a": a, "b": a})["sum"], 2 * a, rtol=1e-6)


class OverArray:
    """What another library's array looks like."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OverDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries(engine, digits):
    expected = engine.run(digits)
    assert numpy.array_equal(engine.run(OverArray(digits)), expected)
    assert numpy.array_equal(engine.run(OverDLPack(digits)), expected)
    assert numpy.array_equal(engine.run({engine.inputs[0].name: OverDLPack(digits)})[engine.outputs[0].name], expected)

    class Own(numpy.ndarray):
        pass

    assert numpy.array_equal(engine.run(digits.view(Own)), expected)


def test_read_only_inputs_are_read(engine, digits):
    fixed = digits.copy()
    fixed.flags.writeable = False
    assert numpy.array_equal(engine.run(fixed), engine.run(digits))


def test_references_are_given_back(engine, digits):
    x, out = digits.copy(), numpy.zeros((10, 10), numpy.float32)
    name = engine.inputs[0].name
    feed = {name: x}
    gc.collect()
    before = [sys.getrefcount(one) for one in (x, out, feed, engine, name)]
    for _ in range(50):
        engine.run(x, out=out)
        engine.run(feed)
        with pytest.raises(skimjit.ShapeError):
            engine.run(x[:, :, :-1].copy())
        with pytest.raises(skimjit.LayoutError):
            engine.run(x, out=out.T)
    gc.collect()
    assert [sys.getrefcount(one) for one in (x, out, feed, engine, name)] == before


def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_memory_is_flat_over_many_runs(engine, digits):
    x, out = digits[:1].copy(), numpy.zeros((1, 10), numpy.float32)
    feed = {engine.inputs[0].name: x}

    def runs(count):
        for _ in range(count):
            engine.run(x, out=out)
            engine.run(feed)

    runs(2_000)
    before = resident_kib()
    runs(20_000)
    # One byte a run would be 40 KiB; allocators take pages when they like.
    assert resident_kib() - before < 256


def test_memory_is_flat_over_many_engines(lenet, digits):
    def engines(count):
        for _ in range(count):
            made = skimjit.compile(lenet, batch=1, threads=2)
            made.run(digits)
            with made.session() as session:
                session.run(digits)

    engines(20)
    before = resident_kib()
    engines(100)
    assert resident_kib() - before < 8 * 1024


def test_compile_takes_a_path_bytes_and_options(digits, engine):
    expected = engine.run(digits)
    made = skimjit.compile(LENET.read_bytes(), batch=4, isa="avx2", threads=2)
    assert (made.batch, made.isa, made.threads) == (4, "avx2", 2)
    assert made.inputs[0].shape[0] == 4
    numpy.testing.assert_allclose(made.run(digits), expected, atol=1e-5)
    assert made.code_bytes > 0 and made.session_bytes > 0 and not made.combines_images
    assert "avx2" in repr(made)
    kept = skimjit.compile(LENET, threads=1, keep=["conv1"])
    assert "conv1" in {one.name for one in kept.outputs}


def test_tuning_keeps_times(tmp_path, lenet, digits):
    cache = tmp_path / "tune.json"
    made = skimjit.compile(lenet, batch=1, threads=1, tune=cache, variants={})
    assert numpy.array_equal(made.run(digits).argmax(axis=1), numpy.arange(10))


def test_threads_are_those_that_may_be_used(lenet):
    import os

    allowed = os.sched_getaffinity(0)
    assert 1 <= skimjit.usable_cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert skimjit.usable_cores() == 1 and skimjit.compile(lenet).threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
