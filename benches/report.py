#!/usr/bin/env python3
"""Measures skimjit and writes docs/PERFORMANCE.md.

Every table comes from a `skimjit` command that the page names. Sections are measured one by one and kept
in docs/performance.json, so that `--only` renews some and the page keeps the others. Arguments behind
`--` go to benches/peers/compare.py.

  python3 benches/report.py                          everything but the other engines
  python3 benches/report.py --only sweep,matrices    these sections only
  python3 benches/report.py --only peers -- --setup  the other engines
  python3 benches/report.py --render                 the page from what is there
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import report_page

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent
# With published sparsities.
NETS = ["caffenet", "googlenet", "resnet-50"]
ISAS = ["avx512", "avx2"]
# In the order in which they are measured: nets fills the tune cache for those behind it.
SECTIONS = ["nets", "threads", "layers", "sweep", "matrices", "peers"]
# Swept layers: those that `bench` chooses, or 3x3 on planes of 56x56, 28x28, 14x14 and 7x7.
SWEPT = {"caffenet": [], "resnet-50": ["res2b_branch2b", "res3b_branch2b", "res4b_branch2b", "res5b_branch2b"]}
ROUNDS = 3
# Seconds of one command of a section, for the estimate.
COSTS = {
    "nets": {"caffenet": 2, "googlenet": 2.6, "resnet-50": 4.3}, "threads": {"caffenet": 0.7, "googlenet": 0.9, "resnet-50": 2.1},
    "layers": {"caffenet": 14, "googlenet": 12, "resnet-50": 33}, "sweep": {"caffenet": 28, "resnet-50": 6},
}
MATRICES_COST, PEERS_COST = 6, 560


class ReportError(Exception):
    """A command that failed, and how."""


def arguments():
    own, peers = split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SECTION,...", help=f"some of {', '.join(SECTIONS)} (default: all but peers)")
    parser.add_argument("--peers", action="store_true", help="measure the other engines as well")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--net", default=",".join(NETS), metavar="NET,...", help=f"default: {','.join(NETS)}")
    parser.add_argument("--iterations", type=int, default=7, help="runs of each kernel and network (default: 7)")
    parser.add_argument("--mtx", type=pathlib.Path, default=pathlib.Path("../shared/data/sparse_mtx"), metavar="FOLDER", help="pruned layers as MatrixMarket files (default: ../shared/data/sparse_mtx)")
    parser.add_argument("--skimjit", type=pathlib.Path, default=ROOT / "target" / "release" / "skimjit", metavar="FILE", help="default: target/release/skimjit")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "report", metavar="FOLDER", help="networks and tune cache (default: target/report)")
    parser.add_argument("--docs", type=pathlib.Path, default=ROOT / "docs", metavar="FOLDER", help="where the page goes (default: docs)")
    options = parser.parse_args(own)
    options.peer_arguments = peers
    options.work, options.docs = ROOT / options.work, ROOT / options.docs
    options.net = options.net.split(",")
    options.only = chosen(parser, options)
    return options


def split(words):
    """Own arguments, and those behind `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def chosen(parser, options):
    if options.render:
        return []
    usual = [name for name in SECTIONS if name != "peers"]
    names = options.only.split(",") if options.only else usual
    for name in names:
        if name not in SECTIONS:
            parser.error(f"--only: found {name}, expected some of {', '.join(SECTIONS)}")
    if options.peers and "peers" not in names:
        names.append("peers")
    return [name for name in SECTIONS if name in names]


class Runner:
    """Runs commands with progress, and says how they read outside of this script."""

    def __init__(self, options):
        self.options, self.done, self.started = options, 0, time.time()
        self.plan = {name: list(PLANS[name](options)) for name in options.only}
        self.jobs = sum(len(jobs) for jobs in self.plan.values())
        self.expected = sum(cost for jobs in self.plan.values() for cost, *_ in jobs)

    def announce(self):
        if self.jobs:
            print(f"{self.jobs} commands, about {self.expected / 60:.0f} minutes on a quiet machine", flush=True)

    def json(self, words):
        """What a command of skimjit prints, and the command as a user types it."""
        shown = " ".join(["skimjit", *words])
        self.tell(shown)
        return json.loads(output_of([self.options.skimjit, *words])), shown

    def tell(self, what):
        self.done += 1
        print(f"[{self.done}/{self.jobs}, {time.time() - self.started:.0f} s] {what}", flush=True)


def output_of(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise ReportError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def shown_path(path):
    """Relative to the project where it lies in it, so that the page names no folder of this machine."""
    return os.path.relpath(ROOT / path, ROOT)


def sparsity(net):
    return "published" if net in NETS else "90"


def batches(net):
    return [1, 16, 64] if net == "caffenet" else [1, 16]


def threads():
    return [1, 2] if len(os.sched_getaffinity(0)) > 1 else [1]


def caffemodel(options, net):
    return shown_path(options.work / f"{net}.caffemodel")


def synth_words(options, net):
    return ["synth", net, "--sparsity", sparsity(net), "--seed", "1", "--output", caffemodel(options, net)]


def make_nets(options):
    options.work.mkdir(parents=True, exist_ok=True)
    for net in options.net:
        if not (ROOT / caffemodel(options, net)).exists():
            print(f"making {net}", flush=True)
            output_of([options.skimjit, *synth_words(options, net)])


def tuned(options, batch=None):
    """Whole networks of one image are measured more often: they are short."""
    runs = options.iterations * (5 if batch == 1 else 1)
    return ["--tune-cache", shown_path(options.work / "tune.json"), "--iterations", str(runs), "--json"]


def cost(section, net):
    return COSTS[section].get(net, 1)


def plan_nets(options):
    for net in options.net:
        for batch in batches(net):
            for isa in ISAS:
                for team in threads():
                    words = ["explain", caffemodel(options, net), "--batch", str(batch), "--isa", isa, "--threads", str(team)]
                    yield cost("nets", net), net, batch, isa, team, [*words, *tuned(options, batch)]


def measure_nets(runner):
    cases = []
    for _, net, batch, isa, team, words in runner.plan["nets"]:
        found, shown = runner.json(words)
        case = dict(net=net, batch=batch, isa=isa, threads=team, command=shown, peak=found["peak"], network=found["network"])
        if team == 1:
            case.update(jit=report_page.jit_of(found["layers"]), layers=telling(found["layers"]))
        cases.append(case)
    return dict(synth=["skimjit " + " ".join(synth_words(runner.options, net)) for net in runner.options.net], cases=cases)


def telling(layers):
    """Layers that the page lists: those that lose most time, and inner products."""
    names = ["layer", "kind", "shape", "density", "time_ms", "limit_ms", "bound", "peak_share", "variant"]
    by_loss = sorted(layers, key=lambda layer: layer["limit_ms"] - layer["time_ms"])
    listed = by_loss[: report_page.SLOWEST] + [layer for layer in by_loss[report_page.SLOWEST :] if layer["kind"] == "InnerProduct"]
    return [{name: layer[name] for name in names} for layer in listed]


def plan_threads(options):
    if len(threads()) < 2:
        print("skipped: threads (one core)")
        return
    for net in options.net:
        for batch in [1, 16]:
            for _ in range(ROUNDS):
                for team in threads():
                    words = ["time", caffemodel(options, net), "--batch", str(batch), "--threads", str(team), *tuned(options, batch)]
                    yield cost("threads", net), net, batch, team, words


def measure_threads(runner):
    """One thread and two by turns; the ratio is that of neighbours."""
    found = {}
    for _, net, batch, team, words in runner.plan["threads"]:
        report, shown = runner.json(words)
        case = found.setdefault((net, batch), dict(net=net, batch=batch, isa=report["isa"], commands=[], ms={1: [], 2: []}))
        case["ms"][team].append(report["total_ms"])
        if shown not in case["commands"]:
            case["commands"].append(shown)
    for case in found.values():
        one, two = case.pop("ms").values()
        case.update(one_ms=statistics.median(one), two_ms=statistics.median(two), ratio=statistics.median(a / b for a, b in zip(one, two)))
    return dict(cases=list(found.values()))


def slim(value):
    """Less what follows from the rest."""
    if isinstance(value, dict):
        return {key: slim(each) for key, each in value.items() if key not in ("dense_equivalent_gflops", "gflops")}
    return [slim(each) for each in value] if isinstance(value, list) else value


def plan_layers(options):
    for net in options.net:
        for isa in ISAS:
            several = ",".join(map(str, batches(net)))
            words = ["bench", "--net", net, "--batch", several, "--isa", isa]
            yield cost("layers", net), net, isa, [*words, *tuned(options)]


def measure_layers(runner):
    runs = []
    for _, net, isa, words in runner.plan["layers"]:
        found, shown = runner.json(words)
        runs.append(dict(net=net, isa=isa, command=shown, peak=found["peak"], cases=slim(found["cases"])))
    return dict(runs=runs)


def plan_sweep(options):
    for net in options.net:
        if net in NETS and net not in SWEPT:
            continue
        for isa in ISAS:
            layers = [word for layer in SWEPT.get(net, []) for word in ("--layers", layer)]
            words = ["bench", "--net", net, "--sweep", *layers, "--isa", isa, "--iterations", str(options.iterations), "--json"]
            yield cost("sweep", net), net, isa, words


def measure_sweep(runner):
    runs = []
    for _, net, isa, words in runner.plan["sweep"]:
        found, shown = runner.json(words)
        runs.append(dict(net=net, isa=isa, command=shown, peak=found["peak"], sweeps=slim(found["cases"][0]["sweeps"])))
    return dict(runs=runs)


def plan_matrices(options):
    if not (ROOT / options.mtx).is_dir():
        print(f"skipped: matrices ({options.mtx}: no such folder)")
        return
    for isa in ISAS:
        words = ["bench", "--mtx", shown_path(options.mtx), "--batch", "1,16", "--isa", isa]
        yield MATRICES_COST, isa, [*words, "--iterations", str(options.iterations), "--json"]


def measure_matrices(runner):
    runs = []
    for _, isa, words in runner.plan["matrices"]:
        found, shown = runner.json(words)
        runs.append(dict(isa=isa, command=shown, peak=found["peak"], cases=slim(found["cases"])))
    return dict(runs=runs)


def plan_peers(options):
    yield PEERS_COST, options.peer_arguments


def measure_peers(runner):
    """Runs compare.py, whose progress is its own."""
    options = runner.options
    ((_, words),) = runner.plan["peers"]
    shown = "python3 benches/peers/compare.py"
    runner.tell(" ".join([shown, *words]))
    file = options.work / "peers.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    script = [sys.executable, FOLDER / "peers" / "compare.py", "--json", file, "--skimjit", options.skimjit, *words]
    if subprocess.run([str(word) for word in script], cwd=ROOT).returncode != 0 or not file.exists():
        raise ReportError("benches/peers/compare.py failed, see above")
    found = json.loads(file.read_text(encoding="utf-8"))
    for result in found["results"]:
        # Less the folders of this machine.
        result["skipped"] = {name: why.split(" (see ")[0] for name, why in result["skipped"].items()}
    command = " ".join([shown, *without_folders(words)])
    return dict(command=command, team=found["machine"]["threads"], results=found["results"])


def without_folders(words):
    """Arguments less those that say where things lie on this machine."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("--venv", "--work", "--core"):
            skip = True
        else:
            kept.append(",".join(pathlib.PurePath(part).name for part in word.split(",")) if "/" in word else word)
    return kept


PLANS = {
    "nets": plan_nets, "threads": plan_threads, "layers": plan_layers, "sweep": plan_sweep,
    "matrices": plan_matrices, "peers": plan_peers,
}
MEASURES = {
    "nets": measure_nets, "threads": measure_threads, "layers": measure_layers, "sweep": measure_sweep,
    "matrices": measure_matrices, "peers": measure_peers,
}


def machine(options):
    """What was measured where and when."""
    fields = {}
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return dict(
        cpu=fields.get("model name", "unknown CPU"), family=fields.get("cpu family", "?"), model=fields.get("model", "?"),
        cores=len(os.sched_getaffinity(0)), date=datetime.date.today().isoformat(),
        version=output_of([options.skimjit, "--version"]).split()[-1], commit=commit.stdout.strip(),
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main():
    options = arguments()
    store = options.docs / "performance.json"
    data = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    runner = None
    if options.only:
        if not options.skimjit.exists():
            raise ReportError(f"{options.skimjit}: not found; run `cargo build --release` or pass --skimjit")
        options.skimjit = options.skimjit.resolve()
        if {"nets", "threads"} & set(options.only):
            make_nets(options)
        runner = Runner(options)
        runner.announce()
    for name in options.only:
        if not runner.plan[name]:
            continue
        found = MEASURES[name](runner)
        data[name] = dict(machine=machine(options), **report_page.rounded(found))
        # After each section: what comes later may fail.
        write(store, report_page.compact(data))
    notes = options.docs / "performance-notes.md"
    text = notes.read_text(encoding="utf-8") if notes.exists() else ""
    write(options.docs / "PERFORMANCE.md", report_page.page(data, text))
    print(f"wrote {options.docs / 'PERFORMANCE.md'}")


if __name__ == "__main__":
    try:
        main()
    except (ReportError, OSError) as error:
        sys.exit(f"error: {error}")
