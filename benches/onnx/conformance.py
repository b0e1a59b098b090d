#!/usr/bin/env python3
"""Runs skimjit over the conformance cases that the package `onnx` carries, and writes docs/ONNX.md's tables.

    pip install onnx numpy
    python benches/onnx/conformance.py [--skimjit target/release/skimjit] [--write] [--only NAME] [--keep FOLDER]

Three suites: the node cases (onnx.backend.test.case.node), the light networks of its zoo, and the networks and
operators that came from PyTorch. Each case is passed (within the suite's own tolerance), refused (with a message) or
wrong. Operands that are no float, and floats that the importer wants to know (weights), are made initializers first:
what the suite hands in at run time is what exporters put into the file.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnx.backend.test
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The operators that the README promises; the share that passes is counted over their float cases.
PROMISED = """Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization
InstanceNormalization LayerNormalization LRN Gemm MatMul Relu LeakyRelu PRelu Elu Selu Clip Sigmoid HardSigmoid
HardSwish Swish Mish Tanh Softplus Gelu Erf Exp Log Sqrt Reciprocal Abs Neg Pow Min Max Add Sub Mul Div Sum Mean
Concat Split Slice Pad Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Gather ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare ArgMax ArgMin Softmax LogSoftmax
Resize Upsample DepthToSpace SpaceToDepth Identity Dropout Cast Where Equal Less LessOrEqual Greater GreaterOrEqual
LSTM GRU RNN NonMaxSuppression TopK""".split()


class Case:
    """A model with inputs and expected outputs."""

    def __init__(self, suite, name, model, inputs, outputs, rtol, atol):
        self.suite, self.name, self.model = suite, name, model
        self.inputs, self.outputs = [to_array(one) for one in inputs], [to_array(one) for one in outputs]
        self.rtol, self.atol = rtol, atol

    def ops(self):
        return {node.op_type for node in self.model.graph.node}


def to_array(value):
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return numpy.asarray(value) if isinstance(value, numpy.generic) else value


def node_cases():
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        inputs, outputs = case.data_sets[0]
        yield Case("node", case.name, case.model, list(inputs), list(outputs), case.rtol, case.atol)


def folder_cases(suite, folder):
    for path in sorted(folder.iterdir()):
        model = path / "model.onnx"
        if not model.exists():
            continue
        data = path / "test_data_set_0"
        read = lambda kind: [
            numpy_helper.to_array(onnx.load_tensor(data / f"{kind}_{index}.pb"))
            for index in range(len(list(data.glob(f"{kind}_*.pb"))))
        ]
        yield Case(suite, path.name, onnx.load(model), read("input"), read("output"), 1e-3, 1e-5)


def light_cases(folder):
    """The light networks: their weights come from ConstantOfShape, their outputs are stored."""
    for model in sorted(folder.glob("light_*.onnx")):
        stem = model.stem
        output = folder / f"{stem}_output_0.pb"
        network = onnx.load(model)
        initializers = {one.name for one in network.graph.initializer}
        inputs = []
        for one in network.graph.input:
            if one.name in initializers:
                continue
            shape = [dim.dim_value for dim in one.type.tensor_type.shape.dim]
            count = int(numpy.prod(shape))
            inputs.append((numpy.arange(count).reshape(shape) / count).astype(numpy.float32))
        outputs = [numpy_helper.to_array(onnx.load_tensor(output))] if output.exists() else None
        if outputs:
            yield Case("light zoo", stem, network, inputs, outputs, 1e-3, 1e-7)


def all_cases():
    data = pathlib.Path(onnx.backend.test.__file__).parent / "data"
    yield from node_cases()
    yield from light_cases(data / "light")
    yield from folder_cases("pytorch-converted", data / "pytorch-converted")
    yield from folder_cases("pytorch-operator", data / "pytorch-operator")


def is_float(array):
    return isinstance(array, numpy.ndarray) and array.dtype == numpy.float32


def types(case):
    """Element types of the inputs, constants and outputs that are no shapes."""
    kinds = set()
    for array in list(case.inputs) + list(case.outputs):
        kinds.add(str(array.dtype) if isinstance(array, numpy.ndarray) else type(array).__name__)
    return kinds


def baked(case, floating):
    """The model with inputs as initializers: all but floats, and of these all behind the first `floating`."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    initializers = {one.name for one in graph.initializer}
    open_inputs = [one for one in graph.input if one.name not in initializers]
    inputs = {}
    kept = 0
    for info, array in zip(open_inputs, case.inputs):
        if is_float(array) and kept < floating:
            inputs[info.name] = array
            kept += 1
            continue
        graph.initializer.append(numpy_helper.from_array(array, info.name))
        graph.input.remove(info)
    return model, inputs


def run(skimjit, folder, model, inputs, count, engine):
    """Outputs, or the message of the refusal."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    command = [skimjit, "run", str(path), "--threads", "1", "--top", "0"]
    for index, (name, array) in enumerate(inputs.items()):
        file = folder / f"input{index}.npy"
        numpy.save(file, numpy.ascontiguousarray(array))
        command.append(f"{name}={file}" if len(inputs) > 1 else str(file))
    outputs = []
    for one in model.graph.output:
        file = folder / f"output{len(outputs)}.npy"
        file.unlink(missing_ok=True)
        outputs.append(file)
        command += ["--output", f"{one.name}={file}" if count > 1 else str(file)]
    command += engine
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return done.returncode, (lines[-1] if lines else "")
    return 0, [numpy.load(file) for file in outputs]


def attempt(skimjit, folder, case, engine):
    """What came of a case: 'passed', 'refused' or 'wrong', and why."""
    if any(not isinstance(one, numpy.ndarray) for one in list(case.inputs) + list(case.outputs)):
        return "refused", "sequences, maps or nothing instead of tensors"
    floats = sum(is_float(array) for array in case.inputs)
    message = ""
    for floating in dict.fromkeys([floats, min(floats, 1), 0]):
        try:
            model, inputs = baked(case, floating)
        except Exception as error:  # types that numpy has no arrays of
            return "refused", f"{type(error).__name__} when the case is made"
        code, found = run(skimjit, folder, model, inputs, len(case.outputs), engine)
        if code == 0:
            return compare(case, found)
        if code not in (1, 2, 3):
            return "wrong", f"exit code {code}: {found}"
        message = message or found
    return "refused", message


def compare(case, found):
    for expected, got in zip(case.outputs, found):
        if "NonMaxSuppression" in case.ops():
            # As many rows as there may be; those behind the last are -1.
            got = got[(got >= 0).all(axis=1)]
        if expected.shape != got.shape and expected.size != got.size:
            return "wrong", f"shape {got.shape} instead of {expected.shape}"
        try:
            want = expected.astype(numpy.float64).reshape(got.shape)
            numpy.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.atol)
        except Exception as error:
            return "wrong", " ".join(str(error).split())[:200]
    return "passed", ""


def reason(message):
    """A refusal without the names of its case."""
    message = re.sub(r"^.*?model\.onnx: ", "", message)
    message = re.sub(r"\S*/(\w+\.npy)", r"\1", message)
    message = re.sub(r'layer "[^"]*": ', "", message)
    message = re.sub(r'"[^"]*"', '"…"', message)
    message = re.sub(r"[0-9]+", "0", message)
    return message[:120]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skimjit", default=str(ROOT / "target/release/skimjit"))
    parser.add_argument("--only", help="cases whose name has this in it")
    parser.add_argument("--suite", help="one suite")
    parser.add_argument("--isa", default="auto", help="auto, avx2 or avx512")
    parser.add_argument("--write", action="store_true", help="write docs/ONNX.md's tables")
    parser.add_argument("--json", help="write all results there")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case in all_cases():
            if options.only and options.only not in case.name:
                continue
            if options.suite and options.suite != case.suite:
                continue
            outcome, why = attempt(options.skimjit, pathlib.Path(folder), case, ["--isa", options.isa])
            promised = case.ops() <= set(PROMISED) and types(case) <= {"float32", "int64", "int32", "bool"}
            promised = promised and "float32" in types(case)
            results.append((case.suite, case.name, sorted(case.ops()), outcome, why, promised))
            if outcome == "wrong" or options.only:
                print(f"{case.suite} {case.name}: {outcome}: {why}", flush=True)
            elif outcome == "refused" and promised:
                print(f"  {case.name}: {outcome}: {why}", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    text = table(results)
    print(text)
    if options.write:
        write(text)
    return 1 if any(result[3] == "wrong" for result in results) else 0


def table(results):
    lines = ["| suite | cases | passed | refused | wrong | of the promised float cases |", "|---|--:|--:|--:|--:|--:|"]
    for suite in dict.fromkeys(result[0] for result in results):
        own = [result for result in results if result[0] == suite]
        count = collections.Counter(result[3] for result in own)
        promised = [result for result in own if result[5]]
        passed = sum(result[3] == "passed" for result in promised)
        share = f"{passed} of {len(promised)} ({100 * passed / max(1, len(promised)):.1f} %)"
        lines.append(
            f"| {suite} | {len(own)} | {count['passed']} | {count['refused']} | {count['wrong']} | {share} |"
        )
    reasons = collections.Counter(reason(result[4]) for result in results if result[3] == "refused")
    lines += ["", "| refused because | cases |", "|---|--:|"]
    lines += [f"| {why.replace('|', '/')} | {count} |" for why, count in reasons.most_common(40)]
    return "\n".join(lines)


def write(text):
    path = ROOT / "docs/ONNX.md"
    page = path.read_text()
    begin, end = "<!-- conformance -->", "<!-- end -->"
    before, rest = page.split(begin)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
