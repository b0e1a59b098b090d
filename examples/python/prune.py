#!/usr/bin/env python3
"""Trains a ResNet-20 on CIFAR-10 with PyTorch, and prunes it until it is so many times as fast on this machine.

    python examples/python/prune.py --data cifar10 --speedup 2.5
    torchrun --nproc-per-node 2 examples/python/prune.py --data cifar10 --speedup 2.5

The folder has pictures of 1024 × 1000 (an image a row) cifar10_batch_0.png to _9.png, their labels
train_00000_09999_labels.u8, and test_00000_00499.bin.gz in CIFAR's own format. --quick shows how it goes, in seconds.
"""

import argparse
import contextlib
import gzip
import hashlib
import os
import pathlib
import time

import numpy
import skimjit
import skimjit.torch
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn
from torch.nn import functional

BATCH = 100


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same = stride == 1 and before == channels
        self.around = nn.Identity() if same else nn.Conv2d(before, channels, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.around(x))


def resnet20() -> nn.Module:
    """Of 3 × 32 × 32, ten classes."""
    sizes = [(16, 16, 1)] * 3 + [(16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1)]
    head = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*head, *(Block(*size) for size in sizes), *tail)


def load(folder: pathlib.Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of training and their labels, of the test and theirs."""
    rows = [numpy.asarray(Image.open(folder / f"cifar10_batch_{batch}.png").convert("RGB")) for batch in range(10)]
    images = numpy.concatenate(rows).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    labels = numpy.fromfile(folder / "train_00000_09999_labels.u8", numpy.uint8)
    with gzip.open(folder / "test_00000_00499.bin.gz") as file:
        records = numpy.frombuffer(file.read(), numpy.uint8).reshape(-1, 1 + 3 * 32 * 32)
    tests = records[:, 1:].reshape(-1, 3, 32, 32)

    def scaled(pixels: numpy.ndarray) -> torch.Tensor:
        return (torch.from_numpy(pixels.astype(numpy.float32)) - 120) / 60

    classes = [torch.from_numpy(one.astype(numpy.int64)) for one in (labels, records[:, 0])]
    return scaled(images), classes[0], scaled(tests), classes[1]


def moved(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Mirrored or not, and moved by up to four pixels: the batch in halves, so that it costs nothing."""
    images = functional.pad(images, (4, 4, 4, 4))
    parts = []
    for part in images.split(len(images) // 4 or 1):
        y, x, mirror = (int(torch.randint(end, (), generator=random)) for end in (9, 9, 2))
        part = part[:, :, y : y + 32, x : x + 32]
        parts.append(part.flip(3) if mirror else part)
    return torch.cat(parts)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: tuple, steps: int, rate: float, seed: int) -> None:
    """With a rate that falls to 0. Processes that train together share each batch out."""
    images, labels = data[:2]
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    random = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        mine = torch.randint(len(images), (BATCH,), generator=random)[rank::ranks]
        loss = functional.cross_entropy(model(moved(images[mine], random)), labels[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple) -> float:
    """Share of the test's images that get their class."""
    model.eval()
    scores = torch.cat([model(part) for part in data[2].split(BATCH)])
    return float((scores.argmax(1) == data[3]).float().mean())


def cost(model: nn.Module, example: torch.Tensor, quick: bool) -> skimjit.torch.Cost:
    """Measured by the first process, for all."""
    made = [None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        levels = (0, 80, 95) if quick else skimjit.torch.LEVELS
        made = [skimjit.torch.cost(model, example, levels=levels, seconds=0.1 if quick else 2.0).to_dict()]
    if dist.is_initialized():
        dist.broadcast_object_list(made)
    return skimjit.torch.Cost.of(made[0])


def digest(pruner: skimjit.torch.Pruner) -> str:
    """In short, what is masked."""
    masks = pruner.masks()
    return hashlib.sha256(b"".join(masks[name].numpy().tobytes() for name in sorted(masks))).hexdigest()[:16]


def faster(dense: skimjit.Engine, pruned: skimjit.Engine, rounds: int) -> float:
    """How many times as fast, measured by turns."""
    ratios = []
    for _ in range(rounds):
        times = [skimjit.benchmark(engine, seconds=0.3).median_ms for engine in (dense, pruned)]
        ratios.append(times[0] / times[1])
    return float(numpy.median(ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a ResNet-20 and prunes it until it is fast.")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with CIFAR-10, see above")
    parser.add_argument("--speedup", type=float, default=2.5, help="goal: how many times as fast as dense")
    parser.add_argument("--steps", type=int, default=1200, help="of dense training, and of pruning with fine-tuning")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few steps")
    arguments = parser.parse_args()
    steps = 12 if arguments.quick else arguments.steps
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    first = not dist.is_initialized() or dist.get_rank() == 0
    quiet = contextlib.redirect_stdout(None) if not first else contextlib.nullcontext()
    torch.manual_seed(arguments.seed)
    data, started = load(arguments.data), time.monotonic()
    bare = resnet20()
    model: nn.Module = nn.parallel.DistributedDataParallel(bare) if dist.is_initialized() else bare
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4, nesterov=True, lr=0.1)
    example = data[2][:1]
    with quiet:
        train(model, optimizer, data, steps, 0.1, arguments.seed)
        before = accuracy(bare, data)
        dense = skimjit.compile(skimjit.torch.export(bare, example), threads=1, tune=True)
        print(f"dense: {before:.1%} right, {skimjit.benchmark(dense).median_ms:.4f} ms ({time.monotonic() - started:.0f} s)")
        table = cost(bare, example, arguments.quick)
        print(table)
        end = steps * 6 // 10
        recipe = {"kind": "guided", "cost": table, "target_speedup": arguments.speedup, "end": end, "every": max(end // 12, 1)}
        pruner = skimjit.torch.Pruner(model, optimizer, recipe)
        train(model, optimizer, data, steps, 0.05, arguments.seed + 1)
        pruner.check()
        after = accuracy(bare, data)
        print(pruner.sparsity())
        print(pruner.events[-1].text)
        pruned = skimjit.compile(skimjit.torch.export(bare, example), threads=1, tune=True)
        print(f"pruned: {after:.1%} right ({after - before:+.1%}), {skimjit.benchmark(pruned).median_ms:.4f} ms")
        if first:
            print(f"{faster(dense, pruned, 1 if arguments.quick else 9):.2f} times as fast as dense; asked for: {arguments.speedup:g}")
    print(f"masks {digest(pruner)} ({time.monotonic() - started:.0f} s)")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
