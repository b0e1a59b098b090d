"""Virtual environments of the engines."""

import pathlib
import shutil
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent

# Engines of each environment, and what to import to see whether one is there.
ENVIRONMENTS = {
    "dense": {"tools": "onnx", "onnxruntime": "onnxruntime", "openvino": "openvino", "opencv": "cv2"},
    "torch": {"torch": "torch"},
    "deepsparse": {"deepsparse": "deepsparse"},
}
# DeepSparse's wheels end with this version of Python.
OLD_PYTHON = "python3.11"


def find(options):
    """The Python of each engine; engines that are not installed are left out."""
    if options.setup:
        wanted = {"tools", *options.engines.split(",")}
        for name in (name for name, engines in ENVIRONMENTS.items() if wanted & engines.keys()):
            make(options.work / f"venv-{name}", name)
    made = [options.work / f"venv-{name}" for name in ENVIRONMENTS]
    places = {}
    for folder in [*options.venv, *made]:
        python = folder / "bin" / "python"
        if not python.exists():
            continue
        for modules in ENVIRONMENTS.values():
            for engine, module in modules.items():
                if engine not in places and has(python, module):
                    places[engine] = python
    if "tools" not in places:
        sys.exit("error: no environment with numpy and onnx; run with --setup, or pass --venv")
    return places


def has(python, module):
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


def make(folder, name):
    """Makes an environment unless it is there; one that fails is removed and reported."""
    if folder.exists():
        return
    python = OLD_PYTHON if name == "deepsparse" else sys.executable
    print(f"making {folder}", flush=True)
    requirements = FOLDER / "requirements" / f"{name}.txt"
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements]
    try:
        subprocess.run([python, "-m", "venv", folder], check=True)
        subprocess.run(install, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{name}: not installed: {error}")
