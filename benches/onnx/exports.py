#!/usr/bin/env python3
"""Compares skimjit with onnxruntime on networks as people export them.

    pip install onnx onnxruntime torch torchvision onnxscript ultralytics
    python benches/onnx/exports.py [--folder exports] [--only NAME] [--full]
    python benches/onnx/exports.py --packages [--only NAME]
    python benches/onnx/exports.py --double --only NAME

For each network of networks.py and each exporter, or with --packages for each trained network that a package carries:
the largest difference over the largest output, for batches of 1, 3 and 8, both instruction sets, one thread and two.
More than 1e-4 is a failure. Exports without --full: batch 1 and 3, the best instruction set, one thread.
With --double: how far each of the two programs is from the file's result in double precision, of one image.
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


def inputs_of(session, batch, sizes=None, numbers=(0, 1), shows=networks.pictures):
    """What is shown to every input, as numbers in a range; `sizes` are those behind the batch."""
    low, high = numbers
    feed = {}
    for one in session.get_inputs():
        written = [dim if isinstance(dim, int) else None for dim in one.shape]
        shape = [written[0] or batch, *(sizes or written[1:])]
        feed[one.name] = low + (high - low) * shows(numpy.random.default_rng(7), shape)
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


def difference(expected, found):
    """The largest difference over the largest output; a number that is none is infinitely far off."""
    if expected.shape != found.shape:
        raise RuntimeError(f"an output of {found.shape} instead of {expected.shape}")
    largest = float(numpy.abs(expected - found).max() / max(numpy.abs(expected).max(), 1e-30))
    return largest if numpy.isfinite(largest) else float("inf")


def compare(program, path, full, folder, **given):
    """The batches that were run, and the largest difference of all runs."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    is_open = not isinstance(session.get_inputs()[0].shape[0], int)
    shapes = any(not isinstance(dim, int) for one in session.get_inputs() for dim in one.shape[1:])
    batches = ((1, 3, 8) if full else (1, 3)) if is_open else (1,)
    worst = 0.0
    for batch in batches:
        feed = inputs_of(session, batch, **given)
        expected = session.run(names, feed)
        for isa in ("avx2", "avx512") if full else ("auto",):
            for threads in (1, 2) if full else (1,):
                found = skimjit(program, path, feed, names, folder, batch, isa, threads, shapes)
                worst = max([worst, *map(difference, expected, found)])
    return batches, worst


class Table:
    """Rows, printed as they come; `failed` counts what is too far off or not run."""

    def __init__(self, *heads):
        self.failed = 0
        print(f"| {' | '.join(heads)} |\n|{'|'.join(['---'] + ['--:'] * (len(heads) - 1))}|", flush=True)

    def result(self, run):
        """The batches of a comparison, and what came of it as text."""
        try:
            batches, worst = run()
        except Exception as error:
            self.failed += 1
            return "", f"{type(error).__name__}: {error}"
        self.failed += worst > LIMIT
        return ", ".join(map(str, batches)), f"{worst:.1e}" + (" too large" if worst > LIMIT else "")

    def row(self, *cells):
        print(f"| {' | '.join(cells)} |", flush=True)


def exports(options, folder):
    exporters = [one for one in networks.EXPORTERS if options.exporter in (None, one)]
    table = Table("network", "zeros", *exporters)
    for name, (share, _) in networks.NAMES.items():
        if not name.startswith(options.only):
            continue
        cells = []
        for exporter in exporters:
            exported = lambda: networks.exported(options.folder, name, exporter)
            cells.append(table.result(lambda: compare(options.skimjit, exported(), options.full, folder))[1])
        table.row(name, f"{share:.0%}", *cells)
    return table.failed


def from_double(program, path, folder):
    """How far onnxruntime and skimjit are from the result in double precision: the largest, and the mean square's root."""
    import double
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    feed = inputs_of(session, 1)
    exact = double.run(path, names, feed)
    found = {"onnxruntime": session.run(names, feed)}
    for isa in ("avx2", "avx512"):
        found[f"skimjit {isa}"] = skimjit(program, path, feed, names, folder, 1, isa, 1, False)
    for who, outputs in found.items():
        square = max(float(numpy.sqrt(numpy.square(a - b).mean()) / numpy.abs(a).max()) for a, b in zip(exact, outputs))
        yield who, max(map(difference, exact, outputs)), square


def doubles(options, folder):
    table = Table("network", "program", "largest", "root mean square")
    for name in (name for name in networks.NAMES if name.startswith(options.only)):
        for who, largest, square in from_double(options.skimjit, networks.exported(options.folder, name, "legacy"), folder):
            table.row(name, who, f"{largest:.1e}", f"{square:.1e}")
    return 0


def packages(options, folder):
    table = Table("network", "package", "batches", "difference")
    for name, network in networks.TRAINED.items():
        if not name.startswith(options.only):
            continue
        fetched = lambda: networks.fetched(pathlib.Path(options.folder) / "packages", name)
        given = {"sizes": network.sizes, "numbers": network.numbers, "shows": network.shows}
        batches, result = table.result(lambda: compare(options.skimjit, fetched(), True, folder, **given))
        table.row(name, f"{network.package} {network.version}", batches, result)
    return table.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skimjit", default=str(ROOT / "target/release/skimjit"))
    parser.add_argument("--folder", default=str(ROOT / "target/exports"))
    parser.add_argument("--only", default="", help="networks whose name begins so")
    parser.add_argument("--exporter", help="legacy or dynamo")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--packages", action="store_true", help="trained networks of packages instead of exports")
    parser.add_argument("--double", action="store_true", help="both programs beside a result in double precision")
    options = parser.parse_args()
    runs = packages if options.packages else doubles if options.double else exports
    with tempfile.TemporaryDirectory() as folder:
        failed = runs(options, pathlib.Path(folder))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
