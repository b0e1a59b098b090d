"""Stubs, documentation, the package itself."""

import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import pytest
import skimjit

PACKAGE = pathlib.Path(skimjit.__file__).parent


def run(*command, cwd):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_strict(tmp_path):
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy\n"
        "import skimjit\n"
        "engine = skimjit.compile('net.onnx', threads=1)\n"
        "x = numpy.zeros((1, 3, 4, 4), numpy.float32)\n"
        "one: numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]] = engine.run(x)\n"
        "several = engine.run({'x': x})\n"
        "several['y'].sum()\n"
        "[scores] = skimjit.InferenceSession('net.onnx').run(None, {'x': x})\n"
        "print(skimjit.vision.top_k(scores)[0][0].label, skimjit.benchmark(engine).median_ms)\n"
    )
    # What it is written for, and what runs it.
    run("-m", "mypy", "--strict", str(program), cwd=tmp_path)
    pytest.importorskip("onnx")
    run("-m", "mypy", "--strict", "--ignore-missing-imports", "-p", "skimjit", cwd=tmp_path)


def test_stubs_are_what_there_is(tmp_path):
    pytest.importorskip("mypy")
    run("-m", "mypy.stubtest", "skimjit._native", cwd=tmp_path)


def test_all_is_documented():
    assert (PACKAGE / "py.typed").exists()
    for name in skimjit.__all__:
        thing = getattr(skimjit, name)
        if name.startswith("__"):
            continue
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            own = [one for one in vars(thing) if not one.startswith("_")]
            missing = [one for one in own if not inspect.getdoc(getattr(thing, one))]
            assert not missing or issubclass(thing, tuple), (name, missing)


def test_import_is_quick_and_brings_no_numpy():
    program = (
        "import sys, time; begin = time.perf_counter(); import skimjit;"
        "print(time.perf_counter() - begin, 'numpy' in sys.modules)"
    )
    outcomes = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, numpy = done.stdout.split()
        outcomes.append(float(seconds))
        assert numpy == "False"
    assert min(outcomes) <= 0.05, outcomes


def test_what_prunes_and_scores_is_documented():
    for module in ("ray", "spark", "dask", "torch"):
        if module == "torch":
            pytest.importorskip("torch", reason="torch is not installed")
        found = importlib.import_module(f"skimjit.{module}")
        for name in found.__all__:
            thing = getattr(found, name)
            assert isinstance(thing, tuple) or inspect.getdoc(thing), name
            own = [one for one in vars(thing) if not one.startswith("_")] if inspect.isclass(thing) else []
            fields = getattr(thing, "__dataclass_fields__", {})
            assert all(one in fields or inspect.getdoc(getattr(thing, one)) for one in own), name


def test_the_program(tmp_path):
    """python -m skimjit is the program beside Python or in PATH, or says that there is none."""
    program = tmp_path / "skimjit"
    program.write_text("#!/bin/sh\necho program $1\nexit 3\n")
    program.chmod(0o755)
    command = [sys.executable, "-m", "skimjit", "inspect"]
    if (pathlib.Path(sys.executable).parent / "skimjit").exists():
        pytest.skip("a program skimjit is installed beside Python")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (3, "program inspect\n")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": "nowhere"})
    assert done.returncode == 2 and "cargo install" in done.stderr


def test_modules_are_there():
    assert importlib.import_module("skimjit.vision").__doc__
    assert skimjit.__version__ == importlib.import_module("importlib.metadata").version("skimjit")
