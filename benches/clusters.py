#!/usr/bin/env python3
"""Measures what it is worth that neighbouring output channels of a pruned convolution share positions.

Patterns are random: every channel for itself, or clusters of channels with the same positions, with equally many
zeros. Each layer is measured by `skimjit bench`, patterns by turns; times are medians.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name, output channels, input channels, kernel, problem.
LAYERS = [
    ("CaffeNet conv3", 384, 256, 3, "g1mb1ic256ih13oc384oh13kh3ph1"),
    ("ResNet-50 res4 3x3", 256, 256, 3, "g1mb1ic256ih14oc256oh14kh3ph1"),
    ("GoogLeNet 4e 1x1", 256, 528, 1, "g1mb1ic528ih14oc256oh14kh1"),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--skimjit", type=pathlib.Path, default=ROOT / "target" / "release" / "skimjit", metavar="FILE", help="default: target/release/skimjit")
    parser.add_argument("--sparsity", default="0.8,0.9,0.95,0.98", help="default: 0.8,0.9,0.95,0.98")
    parser.add_argument("--clusters", default="1,4,8,16", help="channels that share positions (default: 1,4,8,16)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pattern (default: 5)")
    parser.add_argument("--isa", default="auto", help="default: auto")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def main():
    options = arguments()
    if not options.skimjit.exists():
        sys.exit(f"error: {options.skimjit}: not found; run `cargo build --release` or pass --skimjit")
    clusters = [int(size) for size in options.clusters.split(",")]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for layer in LAYERS:
            for sparsity in map(float, options.sparsity.split(",")):
                results.append(measure(options, layer, sparsity, clusters, pathlib.Path(folder)))
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        table(results, clusters)


def measure(options, layer, sparsity, clusters, folder):
    name, oc, ic, kernel, problem = layer
    files = {size: folder / f"clusters-of-{size}.mtx" for size in clusters}
    for size, file in files.items():
        file.write_text(pattern(oc, ic * kernel * kernel, sparsity, size))
    times = {size: [] for size in clusters}
    for _ in range(options.rounds):
        for size, file in files.items():
            times[size].append(bench(options, file, problem))
    return dict(layer=name, sparsity=sparsity, ms={size: statistics.median(times[size]) for size in clusters})


def pattern(rows, columns, sparsity, cluster):
    """A MatrixMarket file; the same one every time."""
    chance = random.Random(f"{rows} {columns} {sparsity} {cluster}")
    kept = round(columns * (1 - sparsity))
    lines = []
    for first in range(0, rows, cluster):
        places = sorted(chance.sample(range(columns), kept))
        for row in range(first, min(first + cluster, rows)):
            lines += [f"{row + 1} {column + 1} {chance.uniform(-1, 1):.6f}" for column in places]
    return f"%%MatrixMarket matrix coordinate real general\n{rows} {columns} {len(lines)}\n" + "\n".join(lines) + "\n"


def bench(options, file, problem):
    command = [options.skimjit, "bench", "--mtx", file, "--problem", problem, "--isa", options.isa, "--iterations", "50", "--json"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)["cases"][0]["layers"][0]["sparse"]["time_ms"]


def table(results, clusters):
    print("layer                zeros  " + "  ".join(f"{f'of {size}':>12}" for size in clusters))
    for result in results:
        alone = result["ms"][clusters[0]]
        cells = "  ".join(f"{ms:7.4f} {alone / ms:4.2f}" for ms in result["ms"].values())
        print(f"{result['layer']:20} {100 * result['sparsity']:4.0f} %  {cells}")


if __name__ == "__main__":
    main()
