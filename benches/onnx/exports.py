#!/usr/bin/env python3
"""Compares skimjit with onnxruntime on networks as people export them.

    pip install onnx onnxruntime torch torchvision onnxscript ultralytics
    python benches/onnx/exports.py [--folder exports] [--only NAME] [--full]

For each network of networks.py (and each trained one of a package, with --packages) and each exporter: the largest
difference over the largest output, for batches of 1, 3 and 8, both instruction sets, one thread and two. More than
1e-4 is a failure. Without --full: batch 1 and 3, the best instruction set, one thread.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy

import networks

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 1e-4


def inputs_of(session, batch):
    """Numbers of 0 to 1 for every input; what is open and no batch is 224."""
    numbers = numpy.random.default_rng(7)
    feed = {}
    for one in session.get_inputs():
        shape = [batch] + [dim if isinstance(dim, int) else 224 for dim in one.shape[1:]]
        if isinstance(one.shape[0], int):
            shape[0] = one.shape[0]
        feed[one.name] = numbers.random(shape, dtype=numpy.float32)
    return feed


def skimjit(program, path, feed, names, folder, batch, isa, threads, shapes):
    command = [program, "run", str(path), "--batch", str(batch), "--isa", isa, "--threads", str(threads), "--top", "0"]
    for name, array in feed.items():
        file = folder / f"{len(command)}.npy"
        numpy.save(file, array)
        command.append(f"{name}={file}" if len(feed) > 1 else str(file))
        if shapes:
            command += ["--input-shape", f"{name}=" + ",".join(map(str, (1,) + array.shape[1:]))]
    files = []
    for index, name in enumerate(names):
        files.append(folder / f"output{index}.npy")
        command += ["--output", f"{name}={files[-1]}" if len(names) > 1 else str(files[-1])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][-400:])
    return [numpy.load(file) for file in files]


def compare(program, path, options, folder):
    """The largest difference over the largest output, of all runs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    is_open = not isinstance(session.get_inputs()[0].shape[0], int)
    shapes = any(not isinstance(dim, int) for one in session.get_inputs() for dim in one.shape[1:])
    worst = 0.0
    for batch in (1, 3, 8) if options.full else (1, 3):
        if not is_open and batch > 1:
            continue
        feed = inputs_of(session, batch)
        expected = session.run(names, feed)
        for isa in ("avx2", "avx512") if options.full else ("auto",):
            for threads in (1, 2) if options.full else (1,):
                found = skimjit(program, path, feed, names, folder, batch, isa, threads, shapes)
                for want, got in zip(expected, found):
                    scale = max(numpy.abs(want).max(), 1e-30)
                    got = got.reshape(want.shape)
                    worst = max(worst, float(numpy.abs(want - got).max() / scale))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skimjit", default=str(ROOT / "target/release/skimjit"))
    parser.add_argument("--folder", default=str(ROOT / "target/exports"))
    parser.add_argument("--only", help="networks whose name has this in it")
    parser.add_argument("--exporter", help="legacy or dynamo")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    failed = 0
    print("| network | zeros | exporter | largest difference / largest output |\n|---|--:|---|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, (share, _) in networks.NAMES.items():
            if options.only and options.only not in name:
                continue
            for exporter in networks.EXPORTERS:
                if options.exporter and options.exporter != exporter:
                    continue
                try:
                    path = networks.exported(options.folder, name, exporter)
                    worst = compare(options.skimjit, path, options, pathlib.Path(folder))
                    failed += worst > LIMIT
                    result = f"{worst:.1e}" + (" too large" if worst > LIMIT else "")
                except Exception as error:
                    failed += 1
                    result = f"{type(error).__name__}: {error}"
                print(f"| {name} | {share:.0%} | {exporter} | {result} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
