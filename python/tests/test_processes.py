"""Engines in other processes: pickled, and inherited by fork()."""

import multiprocessing
import os
import pickle
import threading

import numpy
import pytest
import skimjit
from conftest import LENET, SLOW, random

# Seconds after which a child hangs.
PATIENCE = 120


def test_engines_are_pickled(lenet, digits):
    made = skimjit.compile(lenet, batch=2, isa="avx2", threads=2, keep=["conv1"])
    again = pickle.loads(pickle.dumps(made))
    assert (again.batch, again.isa, again.threads) == (2, "avx2", 2)
    assert again.inputs == made.inputs and again.outputs == made.outputs
    name = made.inputs[0].name
    expected, found = made.run({name: digits}), again.run({name: digits})
    assert all(numpy.array_equal(found[one], expected[one]) for one in expected)
    kernels = [row["kernel"] for row in skimjit.explain(made)]
    assert [row["kernel"] for row in skimjit.explain(again)] == kernels


def test_sessions_are_pickled(engine, digits):
    for made in (engine.session(threads=2), skimjit.InferenceSession(LENET)):
        again = pickle.loads(pickle.dumps(made))
        name = engine.inputs[0].name
        if isinstance(made, skimjit.Session):
            assert again.threads == 2
            assert numpy.array_equal(again.run(digits), engine.run(digits))
        else:
            assert numpy.array_equal(again.run(None, {name: digits})[0], made.run(None, {name: digits})[0])


def predict(engine, x):
    return os.getpid(), engine.run(x)


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(way, digits, lenet):
    engine = skimjit.compile(lenet, batch=2, threads=2)
    expected = engine.run(digits)
    with multiprocessing.get_context(way).Pool(2) as pool:
        results = pool.starmap_async(predict, [(engine, digits)] * 4).get(PATIENCE)
    for process, scores in results:
        assert process != os.getpid() and numpy.array_equal(scores, expected)


def in_child(work):
    """What `work` returns in a child of fork()."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child():
        try:
            theirs.send(work())
        except BaseException as error:
            theirs.send(error)

    process = context.Process(target=child)
    process.start()
    try:
        assert ours.poll(PATIENCE), "the child hangs"
        result = ours.recv()
    finally:
        process.kill() if ours.closed or not process.is_alive() else process.join(PATIENCE)
    if isinstance(result, BaseException):
        raise result
    assert process.exitcode == 0
    return result


def test_a_child_has_a_team_of_its_own(digits, lenet):
    engine = skimjit.compile(lenet, batch=2, threads=3)
    session = engine.session(threads=2)
    expected = engine.run(digits)
    session.run(digits)

    def work():
        before = threads()
        found = engine.run(digits), session.run(digits)
        return found, before, threads()

    def threads():
        return len(os.listdir("/proc/self/task"))

    found, before, after = in_child(work)
    assert all(numpy.array_equal(one, expected) for one in found)
    assert (before, after) == (1, 1 + 2 + 1)
    # The parent's still work, and a child of a child's.
    assert numpy.array_equal(engine.run(digits), expected)
    assert numpy.array_equal(in_child(lambda: in_child(lambda: engine.run(digits))), expected)


def test_a_child_can_do_all(digits, lenet):
    engine = skimjit.compile(lenet, batch=2, threads=2)
    skimjit.verify(engine)

    def work():
        made = skimjit.compile(lenet, batch=2, threads=2, tune=True)
        assert skimjit.verify(made).passed and skimjit.verify(engine).passed
        skimjit.benchmark(engine, seconds=0.01)
        again = pickle.loads(pickle.dumps(engine))
        with engine.session() as session:
            session.run(digits)
        skimjit.Model(LENET)
        return again.run(digits)

    assert numpy.array_equal(in_child(work), engine.run(digits))


def test_a_child_can_drop_what_its_parent_made(digits, lenet):
    held = [skimjit.compile(lenet, threads=2)]
    held.append(held[0].session())
    [one.run(digits) for one in held]

    def work():
        held[1].close()
        held.clear()
        return True

    assert in_child(work)


def test_a_child_of_a_process_that_is_running(network):
    engine = skimjit.compile(network(SLOW), threads=2)
    session = engine.session()
    many, one = random((64, 32, 64, 64)), random((2, 32, 64, 64))
    expected = engine.run(one)
    stop = threading.Event()

    def work(target):
        while not stop.is_set():
            target.run(many)

    workers = [threading.Thread(target=work, args=(target,)) for target in (engine, engine, session)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(5):
            found = in_child(lambda: (engine.run(one), session.run(one)))
            assert all(numpy.array_equal(one_, expected) for one_ in found)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
