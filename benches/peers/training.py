#!/usr/bin/env python3
"""Measures training steps of skimjit-train and PyTorch on the same networks, by turns, on the same cores.

A step is forward, backward and an SGD update with momentum and weight decay. Needs a Python with torch
(`--python`); see README.md beside this file.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Network, images of a step.
NETS = [("lenet", 64), ("cifar10-quick", 100), ("caffenet", 16)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", type=pathlib.Path, default=sys.executable, help="a Python with torch (default: this one)")
    parser.add_argument("--trainer", type=pathlib.Path, default=ROOT / "target" / "release" / "skimjit-train", metavar="FILE", help="default: target/release/skimjit-train")
    parser.add_argument("--net", action="append", metavar="NET", help=f"default: {', '.join(name for name, _ in NETS)}")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--turn", type=float, default=2.0, metavar="SECONDS", help="length of a turn (default: 2)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = arguments()
    if options.worker:
        return worker(options)
    if not options.trainer.exists():
        sys.exit(f"error: {options.trainer}: not found; run `cargo build --release -p skimjit-trainer` or pass --trainer")
    results = []
    for net, batch in NETS:
        if options.net and net not in options.net:
            continue
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(options, net, batch, pathlib.Path(folder)))
        if not options.json:
            print(line(results[-1]), flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


def line(result):
    return (
        "{net}, {batch} images, {threads} threads: skimjit-train {skimjit_ms:.1f} ms, "
        "PyTorch {version} {torch_ms:.1f} ms, ratio {ratio:.2f} ({low:.2f} to {high:.2f})".format(**result)
    )


def compare(options, net, batch, folder):
    model = folder / "net.prototxt"
    subprocess.run([options.trainer, "net", net, "--batch", str(batch), "-o", model], check=True)
    ours = lambda steps: ours_ms(options, model, steps)
    with Torch(options, net, batch) as torch:
        counts = [max(3, round(1e3 * options.turn / run(3))) for run in (ours, torch.run)]
        pairs = [(ours(counts[0]), torch.run(counts[1])) for _ in range(options.rounds)]
        version = torch.version
    ratios = [theirs / own for own, theirs in pairs]
    median = lambda values: statistics.median(list(values))
    return dict(
        net=net, batch=batch, threads=options.threads, version=version,
        skimjit_ms=median(own for own, _ in pairs), torch_ms=median(theirs for _, theirs in pairs),
        ratio=median(ratios), low=min(ratios), high=max(ratios),
    )


def ours_ms(options, model, steps):
    command = [options.trainer, "time", "--prototxt", model, "--iterations", str(steps), "--threads", str(options.threads), "--json"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)["step_ms"]


class Torch:
    """The other process, which waits while it is not its turn."""

    def __init__(self, options, net, batch):
        command = [options.python, __file__, "--worker", net, "--batch", str(batch), "--threads", str(options.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        self.version = self.read()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def read(self):
        answer = self.process.stdout.readline().strip()
        if not answer:
            sys.exit("error: no answer from PyTorch; pass --python with a Python that has torch")
        return answer

    def run(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.read())


def worker(options):
    import time

    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    network, shape, classes = MODULES[options.worker](torch.nn)
    x = torch.randn(options.batch, *shape)
    labels = torch.randint(classes, (options.batch,))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-9, momentum=0.9, weight_decay=5e-4)
    print(torch.__version__, flush=True)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    for command in sys.stdin:
        step(), step()
        times = []
        for _ in range(int(command)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(1e3 * statistics.median(times), flush=True)


def lenet(nn):
    layers = [
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(True), nn.Linear(500, 10),
    ]
    return nn.Sequential(*layers), (1, 28, 28), 10


def cifar10_quick(nn):
    pool = dict(kernel_size=3, stride=2, ceil_mode=True)
    layers = [
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(**pool), nn.ReLU(True),
        nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(True), nn.AvgPool2d(**pool),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(True), nn.AvgPool2d(**pool), nn.Flatten(),
        nn.Linear(1024, 64), nn.Linear(64, 10),
    ]
    return nn.Sequential(*layers), (3, 32, 32), 10


def caffenet(nn):
    norm = lambda: nn.LocalResponseNorm(5, 1e-4, 0.75)
    layers = [
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(True), nn.MaxPool2d(3, 2), norm(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2), norm(),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(True), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(),
        nn.Linear(4096, 1000),
    ]
    return nn.Sequential(*layers), (3, 227, 227), 1000


MODULES = {"lenet": lenet, "cifar10-quick": cifar10_quick, "caffenet": caffenet}


if __name__ == "__main__":
    main()
