"""The networks to compare, and what is made of them for the engines."""

import dataclasses
import json
import pathlib
import subprocess

FOLDER = pathlib.Path(__file__).resolve().parent
NETS = ["caffenet", "googlenet", "resnet-50"]
# Largest difference of scores, relative to the largest score, that a right conversion may have.
TOLERANCE = 1e-3


class ModelError(Exception):
    """A network that cannot be compared, and why."""


@dataclasses.dataclass
class Source:
    """A Caffe network; `topology` is the prototxt when the caffemodel has weights only."""

    name: str
    caffemodel: pathlib.Path
    prototxt: pathlib.Path
    topology: pathlib.Path | None


@dataclasses.dataclass
class Model:
    """A network prepared for one batch."""

    name: str
    batch: int
    source: Source
    folder: pathlib.Path
    check: float = 0.0

    def __getattr__(self, name):
        files = dict(onnx="net.onnx", input="input.npy", expected="expected.npy", skim="net.skim")
        if name not in files:
            raise AttributeError(name)
        return self.folder / files[name]


def sources(options):
    """The networks asked for."""
    nets = options.net or ([] if options.model else NETS)
    return [synthesized(options, net) for net in nets] + [given(text) for text in options.model]


def given(text):
    prototxt, _, caffemodel = text.partition(",")
    paths = [pathlib.Path(prototxt), pathlib.Path(caffemodel)]
    for path in paths:
        if not path.is_file():
            raise ModelError(f"--model {text}: {path or 'caffemodel'} not found, expected PROTOTXT,CAFFEMODEL")
    return Source(paths[1].resolve().parent.name, paths[1], paths[0], paths[0])


def synthesized(options, net):
    stem = options.work / f"{net}-{options.sparsity}-{options.seed}"
    source = Source(net, stem.with_suffix(".caffemodel"), stem.with_suffix(".prototxt"), None)
    if not source.caffemodel.exists():
        output_of([
            options.skimjit, "synth", net, "--sparsity", options.sparsity, "--seed", options.seed,
            "--output", source.caffemodel, "--prototxt-out", source.prototxt,
        ])
    return source


def prepare(options, source, batch, places):
    """Converts a network for a batch and checks the conversion against skimjit."""
    folder = options.work / f"{source.name}-batch{batch}"
    folder.mkdir(exist_ok=True)
    model = Model(source.name, batch, source, folder)
    topology = source.topology or "-"
    names = json.loads(output_of(
        [places["tools"], FOLDER / "to_onnx.py", source.caffemodel, topology, str(batch), folder]
    ))
    prototxt = ["--prototxt", source.topology] if source.topology else []
    shared = [source.caffemodel, *prototxt, "--batch", str(batch), "--threads", str(options.threads)]
    output_of([options.skimjit, "compile", *shared, "--no-verify", "--output", model.skim])
    scores = folder / "scores.npy"
    output_of([
        options.skimjit, "run", model.skim, "--batch", str(batch), "--threads", str(options.threads),
        "--input", model.input, "--output", model.expected, "--dump-blob", f"{names['scores']}={scores}",
    ])
    model.check = scores_difference(options, model, places, scores)
    if model.check > TOLERANCE:
        raise ModelError(f"{source.name}: the ONNX model's scores differ from skimjit's by {model.check:.1e}")
    return model


_SCORES = """
import sys, numpy as np, onnx
from onnx.reference import ReferenceEvaluator
model, x, want = sys.argv[1:]
x, want = np.load(x), np.load(want)
try:
    import onnxruntime as ort
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
except ImportError:
    session = ReferenceEvaluator(model)
    got = session.run(None, {session.input_names[0]: x})[0]
print(np.abs(got.ravel() - want.ravel()).max() / np.abs(want).max())
"""


def scores_difference(options, model, places, scores):
    return float(output_of([places["tools"], "-c", _SCORES, model.folder / "scores.onnx", model.input, scores]))


_DIFFERENCE = """
import sys, numpy as np
got, want = np.load(sys.argv[1]), np.load(sys.argv[2])
print(np.abs(got.ravel() - want.ravel()).max() / np.abs(want).max())
"""


def difference(places, got, want):
    """Largest difference of two arrays, relative to the largest value."""
    return 0.0 if got == want else float(output_of([places["tools"], "-c", _DIFFERENCE, got, want]))


def output_of(command):
    """What a program prints; its error message when it fails."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ModelError(f"{pathlib.Path(command[0]).name} {command[1]}: {lines[-1].removeprefix('error: ')}")
    return done.stdout
