#!/usr/bin/env python3
"""Measures skimjit and other engines on the same pruned networks, by turns, on the same cores.

Needs the standard library only: every engine runs in a process of its own, in a virtual environment
that --setup makes. See README.md beside this file.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import sys

import engines
import environments
import models
from engines import EngineError

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
BASELINE = "onnxruntime"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--setup", action="store_true", help="make the missing virtual environments first")
    parser.add_argument("--net", action="append", metavar="NET", help="network of `skimjit synth` (default: caffenet, googlenet, resnet-50)")
    parser.add_argument("--model", action="append", default=[], metavar="PROTOTXT,CAFFEMODEL", help="a trained network; alone, replaces the default networks")
    parser.add_argument("--sparsity", default="published", help="of the networks of --net (default: published)")
    parser.add_argument("--seed", default="1", help="of their weights (default: 1)")
    parser.add_argument("--batch", default="1,16", help="images computed together, a list (default: 1,16)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--engines", default=",".join(engines.PEERS), help="default: all")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each engine (default: 9)")
    parser.add_argument("--turn", type=float, default=0.4, metavar="SECONDS", help="length of a turn (default: 0.4)")
    parser.add_argument("--core", type=int, help="first core to use (default: the last of those allowed)")
    parser.add_argument("--venv", action="append", default=[], type=pathlib.Path, metavar="DIR", help="a virtual environment to look for engines in first")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "peers", metavar="DIR", help="environments and models (default: target/peers)")
    parser.add_argument("--skimjit", type=pathlib.Path, default=ROOT / "target" / "release" / "skimjit", metavar="FILE", help="default: target/release/skimjit")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the results as JSON")
    return parser.parse_args()


def main():
    options = arguments()
    if not options.skimjit.exists():
        sys.exit(f"error: {options.skimjit}: not found; run `cargo build --release` or pass --skimjit")
    options.work.mkdir(parents=True, exist_ok=True)
    places = environments.find(options)
    cores = pin(options)
    machine = dict(
        cpu=cpu_name(), cores=cores, date=datetime.date.today().isoformat(), threads=options.threads,
        skimjit=models.output_of([options.skimjit, "--version"]).split()[-1],
    )
    print(f"{machine['cpu']}, cores {cores}, {options.threads} threads, {machine['date']}")
    results = []
    for source in models.sources(options):
        for batch in options.batch.split(","):
            model = models.prepare(options, source, int(batch), places)
            results.append(compare(options, model, places))
            show(results[-1])
    if options.json:
        options.json.write_text(json.dumps(dict(machine=machine, results=results), indent=1) + "\n")


def pin(options):
    """Keeps this process and all it starts on as many cores as there are threads."""
    allowed = sorted(os.sched_getaffinity(0))
    if options.core is not None:
        allowed = [core for core in allowed if core >= options.core][: options.threads]
    cores = allowed[-options.threads :]
    if len(cores) < options.threads:
        sys.exit(f"error: --threads {options.threads}: found {len(cores)} cores to use")
    os.sched_setaffinity(0, cores)
    return cores


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def compare(options, model, places):
    """Times of every engine that starts, taken in turns."""
    started, skipped = [], {}
    for name in ["skimjit", *options.engines.split(",")]:
        try:
            started.append(engines.start(name, options, model, places))
        except EngineError as error:
            skipped[name] = str(error)
    for engine in started:
        engine.calibrate(options.turn)
    for _ in range(options.rounds):
        for engine in started:
            engine.turn()
    rows = [row(engine, model, places) for engine in started]
    for engine in started:
        engine.stop()
    return dict(net=model.name, batch=model.batch, check=model.check, engines=rows, skipped=skipped)


def row(engine, model, places):
    return dict(
        engine=engine.name, version=engine.version, note=engine.note, median_ms=statistics.median(engine.medians),
        best_ms=min(engine.medians), turns_ms=[round(ms, 4) for ms in engine.medians],
        difference=models.difference(places, engine.output(), model.expected),
    )


def show(result):
    print(f"\n{result['net']}, batch {result['batch']}; ONNX model against skimjit: scores differ by {result['check']:.1e}")
    base = next((row["median_ms"] for row in result["engines"] if row["engine"] == BASELINE), None)
    print(f"{'engine':<13} {'version':<20} {'median ms':>10} {'best ms':>9} {'x ORT':>7} {'differs':>8}  note")
    for each in result["engines"]:
        ratio = f"{base / each['median_ms']:.2f}" if base else "-"
        print(
            f"{each['engine']:<13} {each['version']:<20} {each['median_ms']:>10.3f} {each['best_ms']:>9.3f}"
            f" {ratio:>7} {each['difference']:>8.1e}  {each['note']}"
        )
    for name, why in result["skipped"].items():
        print(f"{name:<13} skipped: {why}")


if __name__ == "__main__":
    try:
        main()
    except (EngineError, models.ModelError) as error:
        sys.exit(f"error: {error}")
