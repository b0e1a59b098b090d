"""The engines as processes that are stopped whenever it is not their turn."""

import json
import os
import pathlib
import re
import signal
import statistics
import subprocess

import models

FOLDER = pathlib.Path(__file__).resolve().parent
PEERS = ["onnxruntime", "openvino", "opencv", "torch", "deepsparse"]
LEAST_RUNS, MOST_RUNS = 3, 200
# Words that a line of an engine's log has when it says why the engine ended.
REASONS = re.compile(r"error|assert|exception", re.IGNORECASE)


class EngineError(Exception):
    """An engine that does not run, and why."""


def start(name, options, model, places):
    if name == "skimjit":
        return Skimjit(options, model)
    if name not in PEERS:
        raise EngineError(f"unknown engine, expected one of: {', '.join(PEERS)}")
    if name not in places:
        raise EngineError("not installed")
    return Peer(name, options, model, places[name])


class Engine:
    """Medians of an engine's turns."""

    def __init__(self, name, version, note):
        self.name, self.version, self.note = name, version, note
        self.medians, self.runs = [], LEAST_RUNS

    def calibrate(self, seconds):
        """Chooses how many runs a turn has."""
        self.turn()
        self.runs = max(LEAST_RUNS, min(MOST_RUNS, round(1e3 * seconds / self.medians.pop())))

    def turn(self):
        self.medians.append(self.measure(self.runs))


class Peer(Engine):
    """Another engine, in `worker.py`."""

    def __init__(self, name, options, model, python):
        self.folder = model.folder
        job = dict(
            engine=name, onnx=str(model.onnx), input=str(model.input), batch=model.batch, threads=options.threads,
            caffemodel=str(model.source.caffemodel), prototxt=str(model.source.prototxt),
            topology=model.source.topology and str(model.source.topology),
        )
        self.log = model.folder / f"{name}.log"
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), NM_DISABLE_ANALYTICS="1")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [python, FOLDER / "worker.py", json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, env=environment,
            )
        hello = self.answer()
        super().__init__(name, hello["version"], hello["note"])
        self.process.send_signal(signal.SIGSTOP)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise EngineError(f"{self.reason()} (see {self.log})")
        return json.loads(line)

    def reason(self):
        """The last line of the log that sounds like one."""
        lines = self.log.read_text(encoding="utf-8").strip().splitlines()
        telling = [line for line in lines if REASONS.search(line)] or lines or ["it ended without a word"]
        return telling[-1].strip()[:160]

    def ask(self, command):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def measure(self, runs):
        # The first runs bring caches and clock back after the other engines' turns.
        warm_ups = 2 if runs > LEAST_RUNS else 1
        return statistics.median(self.ask(f"run {runs + warm_ups}")[warm_ups:])

    def output(self):
        file = self.folder / f"{self.name}.npy"
        self.ask(f"save {file}")
        return file

    def stop(self):
        self.process.kill()
        self.process.wait()


class Skimjit(Engine):
    """The engine of this repository; every turn is a new process."""

    def __init__(self, options, model):
        self.command = [
            options.skimjit, "time", model.skim, "--batch", str(model.batch), "--threads", str(options.threads), "--json",
        ]
        self.expected = model.expected
        version = models.output_of([options.skimjit, "--version"]).split()[-1]
        super().__init__("skimjit", version, "")
        self.note = json.loads(models.output_of([*self.command, "--iterations", "1"]))["isa"]

    def measure(self, runs):
        report = json.loads(models.output_of([*self.command, "--iterations", str(runs)]))
        return report["total_ms"]

    def output(self):
        return self.expected

    def stop(self):
        pass
