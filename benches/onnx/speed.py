#!/usr/bin/env python3
"""Times skimjit, onnxruntime and OpenVINO by turns on the same ONNX files, one thread.

    pip install onnxruntime openvino torch torchvision onnxscript ultralytics
    python benches/onnx/speed.py FILE.onnx ...            these files
    python benches/onnx/speed.py --networks [--share 0.9] networks.py's, unpruned or with that share of zeros

Each round runs every engine in turn for a while; figures are medians of the rounds' means, with the spread between the
quartiles. A machine that is used by others makes all of them larger, not their ratios.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

import networks

ROOT = pathlib.Path(__file__).resolve().parents[2]
DENSE = ["resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "yolov8n"]


def onnxruntime_engine(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return lambda feed: session.run(names, feed)


def openvino_engine(path, threads, feed):
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({name: list(array.shape) for name, array in feed.items()})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda feed: request.infer(feed)


def seconds(run, feed, most):
    """Mean time of some runs."""
    count, start = 0, time.perf_counter()
    while True:
        run(feed)
        count += 1
        passed = time.perf_counter() - start
        if passed > most and count > 2:
            return passed / count


def skimjit_seconds(program, artifact, most, batch):
    """Mean time of some runs, by the program's own clock: there is no Python in between."""
    command = [program, "time", str(artifact), "--json", "--threads", "1", "--batch", str(batch)]
    first = json.loads(subprocess.run(command + ["--iterations", "3"], capture_output=True, text=True, check=True).stdout)
    each = first["median_ms"] / 1e3
    count = max(5, int(most / max(each, 1e-6)))
    done = subprocess.run(command + ["--iterations", str(count)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["median_ms"] / 1e3


def measure(program, path, rounds, most, batch, folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    feed = {}
    for one in session.get_inputs():
        shape = [batch] + [dim if isinstance(dim, int) else 224 for dim in one.shape[1:]]
        feed[one.name] = numpy.random.default_rng(1).random(shape, dtype=numpy.float32)
    artifact = pathlib.Path(folder) / "net.skim"
    compiled = [program, "compile", str(path), "-o", str(artifact), "--batch", str(batch), "--threads", "1", "--no-verify"]
    subprocess.run(compiled, check=True, capture_output=True)
    runs = {
        "onnxruntime": onnxruntime_engine(path, 1),
        "OpenVINO": openvino_engine(path, 1, feed),
    }
    for run in runs.values():
        run(feed)
    times = {name: [] for name in ["skimjit", *runs]}
    for _ in range(rounds):
        times["skimjit"].append(skimjit_seconds(program, artifact, most, batch))
        for name, run in runs.items():
            times[name].append(seconds(run, feed, most))
    return times


def row(name, times):
    def text(values):
        low, middle, high = numpy.percentile(values, [25, 50, 75]) * 1e3
        return f"{middle:.2f} ({low:.2f}–{high:.2f})"

    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(medians["onnxruntime"], medians["OpenVINO"])
    cells = [text(times[engine]) for engine in ("skimjit", "onnxruntime", "OpenVINO")]
    return f"| {name} | {' | '.join(cells)} | {best / medians['skimjit']:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--folder", default=str(ROOT / "target/exports"))
    parser.add_argument("--skimjit", default=str(ROOT / "target/release/skimjit"))
    options = parser.parse_args()
    files = [pathlib.Path(file) for file in options.files]
    if options.networks:
        names = [name for name in DENSE if not options.only or options.only in name]
        files += [networks.exported(options.folder, name, "legacy", options.share) for name in names]
    print("| network | skimjit ms | onnxruntime ms | OpenVINO ms | skimjit over the faster |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            times = measure(options.skimjit, file, options.rounds, options.seconds, options.batch, folder)
            print(row(file.stem, times), flush=True)


if __name__ == "__main__":
    sys.exit(main())
