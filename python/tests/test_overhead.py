"""What Python costs."""

import time

import numpy
import skimjit
from conftest import LENET


def test_a_run_costs_little_more_than_the_engine(digits):
    engine = skimjit.compile(LENET, batch=1, threads=1)
    x, out = digits[:1].copy(), numpy.zeros((1, 10), numpy.float32)
    feed = {engine.inputs[0].name: x}

    def median(call, count=400):
        times = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - begin)
        return sorted(times)[count // 2]

    ways = {
        "run(x, out)": lambda: engine.run(x, out=out),
        "run(x)": lambda: engine.run(x),
        "run({name: x})": lambda: engine.run(feed),
    }
    session = engine.session()
    overheads = {way: [] for way in ways}
    # By turns, as the machine is not always as fast.
    for _ in range(15):
        nothing = median(lambda: None)
        times, _ = session._measure(x, 0.0, 400)
        alone = sorted(times)[len(times) // 2]
        for way, call in ways.items():
            overheads[way].append(median(call) - nothing - alone)
    found = {way: sorted(ns)[len(ns) // 2] / 1e3 for way, ns in overheads.items()}
    print({way: f"{us:.2f} µs" for way, us in found.items()})
    assert all(us <= 5 for us in found.values()), found
