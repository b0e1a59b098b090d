"""Pruning in PyTorch."""

import copy
import io
import pathlib
import subprocess
import sys
import textwrap

import numpy
import pytest
import skimjit

torch = pytest.importorskip("torch", reason="torch is not installed")
from skimjit.torch import Cost, Pruner, cost, export, oneshot, wrap  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

COST = {
    "machine": "made up",
    "batch": 1,
    "threads": 1,
    "layers": [
        {"layer": "conv1", "points": [[0.0, 1.0], [0.5, 1.2], [0.9, 0.9]]},
        {"layer": "conv2", "points": [[0.0, 8.0], [0.5, 8.5], [0.8, 3.0], [0.95, 1.0]]},
    ],
    "rest_ms": 1.0,
}


class Net(nn.Module):
    """Groups, BatchNorm, strides and an inner product."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2, bias=False)
        self.fc = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        x = functional.relu(self.bn(self.conv1(x)))
        x = functional.relu(self.conv2(x))
        return self.fc(x.view(x.size(0), -1))


@pytest.fixture
def net():
    torch.manual_seed(1)
    return Net()


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, **options)


def batch(seed, images=8):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(images, 3, 8, 8, generator=random)
    return x, x[:, :, ::3, ::3].flatten(1)[:, :10].argmax(1)


def step(model, optimizer, seed):
    x, labels = batch(seed)
    optimizer.zero_grad()
    functional.cross_entropy(model(x), labels).backward()
    optimizer.step()


def train(model, optimizer, steps, first=0):
    for seed in range(first, first + steps):
        step(model, optimizer, seed)


def zeros(model):
    return {name: float((weight == 0).float().mean()) for name, weight in model.named_parameters() if weight.dim() > 1}


@pytest.mark.parametrize("optimizer", [sgd, torch.optim.AdamW, torch.optim.RMSprop])
@pytest.mark.parametrize("scope", ["global", "uniform", "erk"])
def test_gradual(net, scope, optimizer):
    made = optimizer(net) if optimizer is sgd else optimizer(net.parameters(), lr=1e-3)
    recipe = {"kind": "gradual", "sparsity": 80, "end": 10, "every": 2, "scope": scope}
    pruner = Pruner(net, made, recipe)
    train(net, made, 5)
    assert not pruner.done and 0 < pruner.sparsity()[0]["zeros"] + pruner.sparsity()[2]["zeros"]
    train(net, made, 8, 5)
    assert pruner.done and pruner.iteration == 13
    found = zeros(net)
    count = sum(weight.numel() for weight in net.parameters() if weight.dim() > 1)
    all_zeros = sum(float(weight.eq(0).sum()) for weight in net.parameters() if weight.dim() > 1)
    assert abs(all_zeros / count - 0.8) < 0.01
    if scope == "uniform":
        assert all(abs(share - 0.8) < 0.01 for share in found.values())
    if scope == "erk":
        assert found["conv2.weight"] > found["conv1.weight"] > found["fc.weight"]
    assert [event.iteration for event in pruner.events] == [2, 4, 6, 8, 10]
    pruner.check()


def test_layers_targets_and_clusters(net):
    optimizer = sgd(net)
    recipe = {"kind": "gradual", "sparsity": 50, "end": 1, "layers": ["conv2", "fc"], "targets": {"fc": "90%"}, "cluster": 4}
    Pruner(net, optimizer, recipe)
    train(net, optimizer, 2)
    found = zeros(net)
    assert found["conv1.weight"] == 0 and abs(found["fc.weight"] - 0.9) < 0.01
    positions = net.conv2.weight.detach().eq(0).view(4, 4, -1)
    assert (positions == positions[:, :1]).all()


def test_guided(net):
    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, {"kind": "guided", "cost": COST, "target_speedup": 2, "end": 8, "every": 2})
    train(net, optimizer, 9)
    found = zeros(net)
    # conv1 wins too little to be pruned, fc is not in the table.
    assert found["fc.weight"] == 0 and found["conv2.weight"] > 0.7
    assert any("2.0" in event.text for event in pruner.events), pruner.events
    with pytest.raises(skimjit.OptionError, match="conv9"):
        wrong = {**COST, "layers": [{"layer": "conv9", "points": [[0, 1]]}]}
        Pruner(net, optimizer, {"kind": "guided", "cost": wrong, "target_speedup": 2, "end": 8})


def test_surgery_brings_weights_back(net):
    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, {"kind": "surgery", "rate": 0.3, "end": 30}, seed=3)
    seen = []
    for seed in range(30):
        step(net, optimizer, seed)
        seen.append(net.conv2.weight.detach().eq(0))
    assert any(bool((before & ~after).any()) for before, after in zip(seen, seen[1:]))
    kept = seen[-1]
    train(net, optimizer, 5, 30)
    assert torch.equal(net.conv2.weight.eq(0), kept) and 0.3 < float(kept.float().mean()) < 0.9
    assert pruner.done


def test_phases_take_turns(net):
    optimizer = sgd(net)
    recipe = {"kind": "ac-dc", "sparsity": 70, "warm_up": 2, "compressed": 3, "dense": 2, "end": 9}
    Pruner(net, optimizer, recipe)
    shares = []
    for seed in range(11):
        step(net, optimizer, seed)
        shares.append(zeros(net)["fc.weight"] > 0.3)
    # Masked from the second update on, free after the fifth (its weights are zero until the next), masked from the seventh.
    assert shares == [False] + 4 * [True] + [False] + 5 * [True], shares


def test_frozen_zeros_stay(net):
    with torch.no_grad():
        net.fc.weight[:, ::2] = 0
    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, {"kind": "frozen"})
    train(net, optimizer, 4)
    assert zeros(net)["fc.weight"] == 0.5 and pruner.done
    pruner.remove()
    train(net, optimizer, 1)
    assert zeros(net)["fc.weight"] < 0.5


RECIPES = [
    {"kind": "gradual", "sparsity": 85, "end": 16, "every": 3},
    {"kind": "guided", "cost": COST, "target_speedup": 2, "end": 16, "every": 3},
    {"kind": "surgery", "rate": 0.3, "end": 16, "gamma": 0.05},
    {"kind": "ac-dc", "sparsity": 70, "warm_up": 2, "compressed": 3, "dense": 2, "end": 16},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe["kind"] for recipe in RECIPES])
@pytest.mark.parametrize("stop", [5, 9])
def test_a_run_that_goes_on_has_the_same_masks(net, recipe, stop):
    whole = copy.deepcopy(net)
    optimizer = sgd(whole)
    expected = Pruner(whole, optimizer, recipe, seed=5)
    train(whole, optimizer, 20)

    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, recipe, seed=5)
    train(net, optimizer, stop)
    buffer = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), pruner.state_dict()], buffer)
    again = Net()
    optimizer = sgd(again)
    pruner = Pruner(again, optimizer, recipe)
    buffer.seek(0)
    states = torch.load(buffer)
    for one, state in zip((again, optimizer, pruner), states):
        one.load_state_dict(state)
    train(again, optimizer, 20 - stop, stop)
    assert pruner.iteration == 20
    for (name, one), other in zip(expected.masks().items(), pruner.masks().values()):
        assert torch.equal(one, other), name
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters()))


def test_state_of_another_recipe_is_refused(net):
    optimizer = sgd(net)
    state = Pruner(net, optimizer, {"kind": "frozen"}).state_dict()
    with pytest.raises(skimjit.OptionError, match="recipe"):
        Pruner(net, optimizer, RECIPES[0]).load_state_dict(state)


def test_accumulated_gradients_and_mixed_precision(net):
    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, {"kind": "gradual", "sparsity": 50, "end": 4, "every": 1})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for round_ in range(6):
        optimizer.zero_grad()
        for part in range(3):
            x, labels = batch(3 * round_ + part)
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(net(x), labels)
            if round_ == 2 and part == 0:
                # What overflows is no update.
                loss = loss * float("inf")
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert pruner.iteration == 5
    pruner.check()
    assert all(bool(torch.isfinite(weight).all()) for weight in net.parameters())


def test_wrong_recipes_say_what_is_wrong(net):
    optimizer = sgd(net)
    for recipe, word in [
        ({"kind": "magic"}, "magic"),
        ({"kind": "gradual", "sparsity": 90}, "end"),
        ({"kind": "gradual", "sparsity": 100, "end": 3}, "less than 100 %"),
        ({"kind": "gradual", "sparsity": 90, "end": 3, "layers": ["conv7"]}, "conv1, conv2, fc"),
        ({"kind": "guided", "cost": COST, "target_speedup": 0.5, "end": 3}, "more than 1"),
        ({"kind": "gradual", "sparsity": object()}, "expected numbers"),
        ("gradual", "expected a dict"),
    ]:
        with pytest.raises(skimjit.OptionError, match=word):
            Pruner(net, optimizer, recipe)
    with pytest.raises(skimjit.OptionError, match="Conv2d or Linear"):
        Pruner(nn.ReLU(), optimizer, RECIPES[0])


def test_export_has_the_zeros(net, tmp_path):
    optimizer = sgd(net)
    pruner = Pruner(net, optimizer, {"kind": "gradual", "sparsity": 80, "end": 1})
    train(net, optimizer, 2)
    x, _ = batch(0)
    model = export(net, x[:1], file=tmp_path / "net.onnx")
    assert net.training and (tmp_path / "net.onnx").exists()
    rows = {row["weights"]: row["zeros"] for row in skimjit.inspect(model) if row["weights"]}
    for weight in (net.conv1.weight, net.conv2.weight, net.fc.weight):
        assert rows[weight.numel()] == int(weight.eq(0).sum())
    assert not any(row["kind"] == "BatchNorm" for row in skimjit.explain(skimjit.compile(model)))
    net.eval()
    expected = net(x).detach().numpy()
    found = skimjit.compile(model).run(x.numpy())
    assert abs(found - expected).max() < 1e-4 * abs(expected).max()
    with torch.no_grad():
        net.fc.weight.fill_(1)
    with pytest.raises(skimjit.MaskError, match="fc"):
        export(net, x[:1])
    pruner.apply()
    export(net, x[:1])


def test_wrapped(net):
    x, _ = batch(0)
    compiled = wrap(net, x[:1], threads=1)
    net.eval()
    for images in (1, 5, 8):
        expected = net(x[:images])
        assert torch.allclose(compiled(x[:images]), expected, atol=1e-4)
    assert not compiled(x).requires_grad


def test_costs(net, tmp_path):
    table = cost(net, batch(0)[0][:1], levels=[0, 50, 90], seconds=0.02, rounds=2)
    assert [row["layer"] for row in table] == ["conv1", "conv2", "fc"]
    assert all(points[0][0] == 0 and len(points) == 3 for points in table.points.values())
    assert table.dense_ms > 0 and "ms dense" in str(table) and "<table>" in table._repr_html_()
    table.save(tmp_path / "cost.json")
    again = Cost.load(tmp_path / "cost.json")
    assert again.to_dict() == table.to_dict() and list(again) == list(table)
    Pruner(net, sgd(net), {"kind": "guided", "cost": tmp_path / "cost.json", "target_latency_ms": 1e-3, "end": 2})
    with pytest.raises(skimjit.FileError, match="no.json"):
        Cost.load(tmp_path / "no.json")
    with pytest.raises(skimjit.OptionError, match="levels"):
        cost(net, batch(0)[0], levels=[100])


@pytest.mark.parametrize("scope", ["uniform", "erk"])
def test_oneshot(net, scope):
    dense = copy.deepcopy(net).eval()
    batches = [batch(seed, 32)[0] for seed in range(4)]
    table = oneshot(net, batches, sparsity=60, scope=scope, targets={"fc": 70})
    assert [row["layer"] for row in table] == ["conv1", "conv2", "fc"]
    assert abs(zeros(net)["fc.weight"] - 0.7) < 0.01
    assert all(row["error"] <= row["magnitude_error"] for row in table), table
    net.eval()
    x = batch(99, 64)[0]
    change = (net(x) - dense(x)).detach().pow(2).mean() / dense(x).detach().pow(2).mean()
    assert float(change) < magnitude(dense, zeros(net), x)
    with pytest.raises(skimjit.OptionError, match="conv8"):
        oneshot(net, batches, sparsity=60, chosen=["conv8"])
    with pytest.raises(skimjit.NotFiniteError, match="conv1"):
        oneshot(net, [torch.full((1, 3, 8, 8), float("nan"))], sparsity=60)


@torch.no_grad()
def magnitude(dense, shares, x):
    """What the outputs change by when the smallest weights go, relative to them."""
    before = dense(x)
    for name, weight in dense.named_parameters():
        if name in shares:
            limit = weight.abs().flatten().kthvalue(round(shares[name] * weight.numel())).values
            weight[weight.abs() <= limit] = 0
    return float((dense(x) - before).pow(2).mean() / before.pow(2).mean())


TOGETHER = """
import hashlib, pathlib, sys
import torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
from test_torch import Net, RECIPES, batch, sgd
from skimjit.torch import Pruner
from torch.nn import functional

dist.init_process_group("gloo")
rank = dist.get_rank()
told = []
for recipe in RECIPES:
    torch.manual_seed(1)
    model = torch.nn.parallel.DistributedDataParallel(Net())
    optimizer = sgd(model)
    # What each would draw by itself is another thing.
    pruner = Pruner(model, optimizer, recipe, seed=5)
    for step in range(20):
        x, labels = batch(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rank::2]), labels[rank::2]).backward()
        optimizer.step()
    pruner.check()
    masks = b"".join(mask.numpy().tobytes() for mask in pruner.masks().values())
    told.append(f"{{recipe['kind']}} {{sum(masks)}} {{hashlib.sha256(masks).hexdigest()}}")
pathlib.Path(__file__).with_name(f"{{rank}}.txt").write_text("\\n".join(told))
dist.destroy_process_group()
"""


def test_processes_that_train_together_have_the_same_masks(tmp_path):
    program = tmp_path / "together.py"
    program.write_text(textwrap.dedent(TOGETHER).format(tests=str(pathlib.Path(__file__).parent)))
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    done = subprocess.run([sys.executable, *run], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in (0, 1))
    assert first == second and len(first) == len(RECIPES)
    assert all(int(line.split()[1]) > 100 for line in first)


def test_arrays_without_torch():
    """What decides is the same for any arrays."""
    native = skimjit._native.Pruning('{"kind": "gradual", "sparsity": 50, "end": 1}', [("a", [2, 3], 1)])
    weights = numpy.array([1, -2, 3, -4, 5, -6], numpy.float32)
    native.start([weights], 0, 0)
    assert native.is_due(1) and not native.is_due(2)
    masks, told = native.step([weights], 1)
    assert masks[0].tolist() == [True, True, True, False, False, False]
    assert told == [("pruned to 50.00 %", [("a", 0.5)])]
    with pytest.raises(skimjit.ArrayError, match="expected"):
        native.step([weights[:4].copy()], 1)
