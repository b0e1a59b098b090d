"""Several threads of a program at the same time."""

import threading
import time

import numpy
import skimjit
from conftest import LENET, SLOW, random


def overlapping(long, short):
    """Whether calls of `short` end while another thread is in one call of `long`: they cannot if the two take turns, on
    any number of cores. Those in the second half do not count: there they may do so when the call is over."""
    began, times = threading.Event(), []

    def work():
        times.append(time.perf_counter())
        began.set()
        long()
        times.append(time.perf_counter())

    worker = threading.Thread(target=work)
    worker.start()
    began.wait()
    # The long call has begun when this thread comes to run again.
    time.sleep(0.001)
    ends = []
    while worker.is_alive():
        short()
        ends.append(time.perf_counter())
    worker.join()
    return any(end < sum(times) / 2 for end in ends)


def test_runs_of_an_engine_of_one_thread_overlap(network):
    engine = skimjit.compile(network(SLOW), threads=1)
    many, one = random((200, 32, 64, 64)), random((1, 32, 64, 64))
    expected = engine.run(one)
    assert overlapping(lambda: engine.run(many), lambda: numpy.testing.assert_array_equal(engine.run(one), expected))


def test_sessions_of_several_threads_overlap(network):
    engine = skimjit.compile(network(SLOW), threads=2)
    many, one = random((200, 32, 64, 64)), random((1, 32, 64, 64))
    with engine.session(threads=2) as first, engine.session(threads=2) as second:
        assert overlapping(lambda: first.run(many), lambda: second.run(one))


# Takes a while to be generated, and to be read.
LARGE = SLOW.replace("num_output: 64", "num_output: 512")


def test_the_interpreter_is_free_while_a_network_is_read_compiled_and_run(network):
    engine, many = skimjit.compile(network(SLOW), threads=1), random((200, 32, 64, 64))
    assert overlapping(lambda: engine.run(many), lambda: None)
    large = network(LARGE)
    assert overlapping(lambda: skimjit.compile(large, threads=1), lambda: None)
    artifact = large.to_bytes()
    assert overlapping(lambda: skimjit.Model(artifact), lambda: None)


def test_many_threads_get_their_own_results(digits):
    engine = skimjit.compile(LENET, batch=1, threads=1)
    expected = engine.run(digits)
    faults = []

    def work(first):
        out = numpy.zeros((1, 10), numpy.float32)
        for turn in range(300):
            digit = (first + turn) % 10
            engine.run(digits[digit : digit + 1], out=out)
            if not numpy.array_equal(out[0], expected[digit]):
                faults.append((first, turn))

    workers = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults


def test_many_threads_share_a_team(digits):
    engine = skimjit.compile(LENET, batch=4, threads=2)
    expected = engine.run(digits)
    results = []
    workers = [threading.Thread(target=lambda: results.append(engine.run(digits))) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 6 and all(numpy.array_equal(one, expected) for one in results)
