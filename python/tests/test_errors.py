"""Every error is a Python exception of a class that the documentation names."""

import pickle
import subprocess
import sys
import threading

import numpy
import pytest
import skimjit
from conftest import LENET, SLOW, TWO_INPUTS, random


@pytest.fixture
def x(digits):
    return digits[:2].copy()


def raises(error, match):
    return pytest.raises(error, match=match)


def test_classes():
    classes = [getattr(skimjit, name) for name in skimjit.__all__ if name.endswith("Error")]
    assert len(classes) == 14
    for one in classes:
        assert issubclass(one, skimjit.Error) and one.__module__ == "skimjit" and one.__doc__
        assert type(pickle.loads(pickle.dumps(one("text")))) is one
    assert issubclass(skimjit.DTypeError, TypeError) and issubclass(skimjit.ShapeError, ValueError)
    assert issubclass(skimjit.FileError, OSError)


@pytest.mark.parametrize(
    "kind", ["float64", "float16", "int8", "uint8", "int64", "bool", "complex64", ">f4", "S4", "O", "M8[s]"]
)
def test_other_types(engine, x, kind):
    with raises(skimjit.DTypeError, "float32"):
        engine.run(numpy.zeros(x.shape, kind))
    with raises(skimjit.DTypeError, "float32"):
        engine.run(x, out=numpy.zeros((2, 10), kind))


def test_big_endian_says_so(engine, x):
    with raises(skimjit.DTypeError, "order of bytes"):
        engine.run(x.astype(">f4"))


@pytest.mark.parametrize("thing", [None, 3, 1.5, "text", b"bytes", [[1.0]], (1.0,), object(), numpy.float32(1)])
def test_no_arrays(engine, x, thing):
    with pytest.raises((skimjit.DTypeError, skimjit.ShapeError)):
        engine.run(thing)
    if thing is not None:
        with raises(skimjit.DTypeError, "expected an array of numpy|float32"):
            engine.run(x, out=thing)


def test_masked_arrays(engine, x):
    with raises(skimjit.DTypeError, "masked"):
        engine.run(numpy.ma.masked_array(x, x > 0.5))
    with raises(skimjit.DTypeError, "masked"):
        engine.run(x, out=numpy.ma.zeros((2, 10), numpy.float32))


def test_memory_that_cannot_be_shared(engine):
    class Elsewhere:
        def __dlpack__(self, **options):
            raise BufferError("on another device")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(skimjit.DTypeError) as caught:
        engine.run(Elsewhere())
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("shape", [(2, 1, 28, 27), (2, 1, 784), (2, 784), (28, 28), (2, 3, 28, 28), (), (2, 1, 28, 28, 1)])
def test_other_shapes(engine, shape):
    with raises(skimjit.ShapeError, "expected"):
        engine.run(numpy.zeros(shape, numpy.float32))


@pytest.mark.parametrize("shape", [(0, 1, 28, 28), (0,), (2, 0, 28, 28), (2, 1, 0, 28)])
def test_no_elements(engine, shape):
    with pytest.raises(skimjit.ShapeError):
        engine.run(numpy.zeros(shape, numpy.float32))


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (2, 11), (20,), (0, 10)])
def test_other_shapes_of_out(engine, x, shape):
    with raises(skimjit.ShapeError, "output"):
        engine.run(x, out=numpy.zeros(shape, numpy.float32))


def test_strides(engine, x):
    wide = numpy.zeros((2, 1, 28, 56), numpy.float32)
    for strided in (wide[..., ::2], wide[..., :28], x[::-1], numpy.asfortranarray(x), x.transpose(0, 1, 3, 2)):
        if strided.flags.c_contiguous:
            continue
        with raises(skimjit.LayoutError, "ascontiguousarray"):
            engine.run(strided)
    with raises(skimjit.LayoutError, "contiguous"):
        engine.run(x, out=numpy.zeros((10, 2), numpy.float32).T)
    with raises(skimjit.LayoutError, "contiguous"):
        engine.run(numpy.broadcast_to(x[:1], (5, 1, 28, 28)))


def test_alignment(engine, x):
    bytes_ = numpy.zeros(x.nbytes + 1, numpy.uint8)
    odd = bytes_[1:].view(numpy.float32).reshape(x.shape)
    with raises(skimjit.LayoutError, "aligned"):
        engine.run(odd)


def test_read_only_out(engine, x):
    out = numpy.zeros((2, 10), numpy.float32)
    out.flags.writeable = False
    with raises(skimjit.LayoutError, "read-only"):
        engine.run(x, out=out)


def test_out_apart_from_other_arrays(network):
    engine = skimjit.compile(network(TWO_INPUTS), threads=1)
    a = random((1, 3, 4, 4))
    with raises(skimjit.LayoutError, "memory of another"):
        engine.run({"a": a, "b": a.copy()}, out={"sum": a})
    with raises(skimjit.LayoutError, "memory of another"):
        both = numpy.zeros((3, 3, 4, 4), numpy.float32)
        engine.run({"a": both[:2], "b": both[:2]}, out={"sum": both[1:]})


def test_names(network):
    engine = skimjit.compile(network(TWO_INPUTS), threads=1)
    a = random((1, 3, 4, 4))
    for feed in ({"a": a}, {}, {"a": a, "c": a}):
        with raises(skimjit.ArrayError, "no array of that name"):
            engine.run(feed)
    with raises(skimjit.ArrayError, "found an input of the name 'c'"):
        engine.run({"a": a, "b": a, "c": a})
    with raises(skimjit.ArrayError, "found an input of the name 7"):
        engine.run({"a": a, "b": a, 7: a})
    with raises(skimjit.ArrayError, "found an output of the name 'c'"):
        engine.run({"a": a, "b": a}, out={"c": a.copy()})
    with raises(skimjit.ArrayError, "by name"):
        engine.run({"a": a, "b": a}, out=a.copy())
    with raises(skimjit.ShapeError, "input"):
        engine.run({"a": a, "b": random((2, 3, 4, 4))})


def test_infinities(engine, x):
    for value in (numpy.inf, -numpy.inf, numpy.nan):
        x[1, 0, 3, 4] = value
        with raises(skimjit.NotFiniteError, "image 1"):
            engine.run(x)


def test_files_that_are_no_models(tmp_path):
    with raises(skimjit.FileError, "nothing.onnx"):
        skimjit.Model(tmp_path / "nothing.onnx")
    with pytest.raises(skimjit.FileError):
        skimjit.Model(tmp_path)
    for text in (b"", b"text", b"\x00" * 100, b"\x08\x07" * 50, LENET.read_bytes()[:-100], LENET.read_bytes()[:20]):
        path = tmp_path / "net.bin"
        path.write_bytes(text)
        with pytest.raises((skimjit.ModelError, skimjit.FileError)):
            skimjit.Model(path)
        with pytest.raises((skimjit.ModelError, skimjit.FileError)):
            skimjit.Model(text)


def test_damaged_artifacts_are_refused():
    whole = LENET.read_bytes()
    generator = numpy.random.default_rng(1)
    for place in generator.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        try:
            skimjit.Model(damaged)
        except skimjit.Error:
            pass


def test_options(lenet, tmp_path):
    for options in ({"threads": 0}, {"threads": 257}, {"batch": 0}):
        with pytest.raises(skimjit.OptionError):
            skimjit.compile(lenet, **options)
    with raises(skimjit.IsaError, "sse9"):
        skimjit.compile(lenet, isa="sse9")
    with raises(skimjit.OptionError, "expected none"):
        skimjit.Model(LENET, zero_below=0.1)
    with raises(skimjit.OptionError, "path or bytes"):
        skimjit.Model(7)
    with raises(skimjit.OptionError, "sizes"):
        skimjit.Model(LENET, input_shapes="four")
    with pytest.raises(skimjit.ModelError):
        skimjit.Model(LENET, input_shapes=(1, 1, 0, 28))
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(SLOW)
    with raises(skimjit.ModelError, "allow_missing_weights=True"):
        skimjit.Model(prototxt)
    foreign = tmp_path / "labels.txt"
    foreign.write_text("cat")
    with raises(skimjit.ModelError, "tune cache"):
        skimjit.compile(lenet, tune=foreign)
    assert foreign.read_text() == "cat"
    for options in ({"batch": -1}, {"batch": "many"}, {"threads": 1.5}, {"unknown": 1}):
        with pytest.raises((TypeError, OverflowError)):
            skimjit.compile(lenet, **options)


def test_too_large(network):
    for side in (3000, 8000, 40000):
        with pytest.raises((skimjit.CompileError, skimjit.ModelError, MemoryError)):
            skimjit.compile(network(SLOW, input_shapes=(1, 32, side, side)), threads=1, batch=200)


def test_no_memory_for_a_result(tmp_path):
    definition = tmp_path / "net.prototxt"
    definition.write_text(SLOW)
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy, resource, sys, warnings\n"
        "import skimjit\n"
        "warnings.simplefilter('ignore')\n"
        "engine = skimjit.compile(skimjit.Model(sys.argv[1], allow_missing_weights=True), batch=1, threads=1)\n"
        "x = numpy.zeros((1000, 32, 64, 64), numpy.float32)\n"
        "engine.run(x[:1])\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), -1))\n"
        "try:\n"
        "    engine.run(x)\n"
        "except MemoryError:\n"
        "    print('no memory', engine.run(x[:1]).shape)\n"
    )
    done = subprocess.run([sys.executable, program, definition], capture_output=True, text=True)
    assert done.stdout == "no memory (1, 64, 64, 64)\n", done.stdout + done.stderr


def test_closed_sessions(engine, x):
    session = engine.session(threads=1)
    session.run(x)
    session.close()
    session.close()
    assert session.closed and "closed" in repr(session)
    with pytest.raises(skimjit.ClosedError):
        session.run(x)
    with engine.session() as session:
        session.run(x)
    with pytest.raises(skimjit.ClosedError):
        session.run(x)


def test_another_thread_closes(network):
    engine = skimjit.compile(network(SLOW), threads=1)
    session = engine.session()
    x = random((16, 32, 64, 64))
    outcomes = []

    def work():
        try:
            while True:
                session.run(x)
                outcomes.append("ran")
        except skimjit.Error as error:
            outcomes.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    while "ran" not in outcomes:
        pass
    session.close()
    for worker in workers:
        worker.join()
    errors = [one for one in outcomes if one != "ran"]
    assert len(errors) == 3 and all(isinstance(one, skimjit.ClosedError) for one in errors)
    engine.run(x)
