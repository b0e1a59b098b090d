"""What the project wants of itself, beside what was measured."""

import re
import statistics

BASELINE = "onnxruntime"
# Times as fast as ONNX Runtime, by network and batch.
OVER_BASELINE = {
    ("caffenet", 1): 3.9, ("caffenet", 16): 4.2, ("googlenet", 1): 3.7, ("googlenet", 16): 4.1,
    ("resnet-50", 1): 1.75, ("resnet-50", 16): 1.8,
}
OVER_LIMIT = {"caffenet": 1.45, "googlenet": 1.3, "resnet-50": 1.2}
THREADS = {1: 1.6, 16: 1.85}
# Shares of zeros for which the targets of sparse layers hold.
ZEROS = (0.80, 0.93)
SMALL, LARGE = 7, 13
# Of the peak, on large planes and on small ones.
LEAST_SHARES = {"avx512": (0.75, 0.5), "avx2": (0.5, 0.5)}


def section(data):
    """The table of targets."""
    rows = []
    for name, make in CHECKS.items():
        if name in data:
            rows += make(data[name])
    if not rows:
        return ""
    missed = sum(row[3] == "**missed**" for row in rows)
    lines = ["| target | wanted | measured | |", "| :-- | :-- | :-- | :-- |", *("| " + " | ".join(row) + " |" for row in rows)]
    return f"## Targets\n\nOne thread, AVX-512 unless said otherwise; {missed} of {len(rows)} missed.\n\n" + "\n".join(lines)


def verdict(met):
    return "met" if met else "**missed**"


def least(what, wanted, found, text="{:.2f}x"):
    return [what, "at least " + text.format(wanted), text.format(found), verdict(found >= wanted)]


def most(what, wanted, found, text="{:.2f}x"):
    return [what, "at most " + text.format(wanted), text.format(found), verdict(found <= wanted)]


def find_net(name):
    """Network of a result of compare.py, whose names say how it was made as well."""
    return next((net for net in OVER_LIMIT if name.startswith(net)), name)


def peers(found):
    rows = []
    for result in found["results"]:
        times = {row["engine"]: row["median_ms"] for row in result["engines"]}
        net, batch = find_net(result["net"]), result["batch"]
        if "skimjit" not in times:
            continue
        if BASELINE in times and (net, batch) in OVER_BASELINE:
            rows.append(least(f"{net}, batch {batch}, over ONNX Runtime", OVER_BASELINE[net, batch], times[BASELINE] / times["skimjit"]))
        others = {name: ms for name, ms in times.items() if name != "skimjit"}
        if others:
            best = min(others, key=others.get)
            rows.append(least(f"{net}, batch {batch}, over the fastest other engine ({best})", 1.0, others[best] / times["skimjit"]))
    return rows


def nets(found):
    rows = []
    for case in found["cases"]:
        if case["threads"] != 1 or case["isa"] != "avx512":
            continue
        network, net, batch = case["network"], case["net"], case["batch"]
        if net in OVER_LIMIT and batch <= 16:
            rows.append(most(f"{net}, batch {batch}, over its limit", OVER_LIMIT[net], network["total_ms"] / network["limit_ms"]))
        if batch == 1:
            rows.append(least(f"{net}, code generation, 10^6 non-zeros a second", 5.0, jit_rate(case["jit"]), "{:.1f}"))
        for layer in case["layers"] if net == "caffenet" and batch == 1 else []:
            if layer["layer"] in ("fc6", "fc7"):
                rows.append(most(f"{layer['layer']}, batch 1, over its limit", 1.6, layer["time_ms"] / layer["limit_ms"]))
    return rows


def jit_rate(jit):
    """Millions of non-zeros that are compiled in a second."""
    return jit["nonzeros"] / 1e3 / max(jit["sparse_ms"], 1e-9)


def threads(found):
    rows = []
    for case in found["cases"]:
        rows.append(least(f"{case['net']}, batch {case['batch']}, two threads over one", THREADS[case["batch"]], case["ratio"]))
    return rows


def is_convolution(layer):
    return layer["kind"] == "Convolution" and plane(layer) > 1


def plane(layer):
    """Shorter side of the result."""
    sizes = [int(size) for size in re.findall(r"\d+", layer["shape"])]
    return min(sizes[2:4]) if len(sizes) == 4 else 1


def sides(point):
    """All kernels of a sweep's point, the dense one first."""
    return [*([point["dense"]] if point["dense"] else []), *point["sparse"]]


def layers(found):
    rows = []
    for isa in LEAST_SHARES:
        runs = [run for run in found["runs"] if run["isa"] == isa]
        kernels = [(f"{run['net']} {layer['layer']}, batch {case['batch']}", layer) for run in runs for case in run["cases"] for layer in case["layers"]]
        convolutions = [(label, layer) for label, layer in kernels if is_convolution(layer)]
        pruned = [(label, layer) for label, layer in convolutions if layer["sparse"] and layer["density"] < 1]
        rows += sparse_shares("", isa, [(label, layer, 1 - layer["density"]) for label, layer in pruned])
        if isa == "avx512":
            dense = [(label, layer) for label, layer in convolutions if layer["dense"]]
            rows += shares("dense convolutions, planes larger than 7x7, of peak", 0.9, dense, "dense", SMALL + 1, 1000)
            rows += shares("dense convolutions, 7x7, of peak", 0.75, dense, "dense", SMALL, SMALL)
    return rows


def sparse_shares(what, isa, candidates):
    """Rows of sparse convolutions: label, layer, share of zeros."""
    some = [(label, layer) for label, layer, zeros in candidates if ZEROS[0] <= zeros <= ZEROS[1]]
    # The 7x7 layers of published networks have more zeros than that.
    all_pruned = [(label, layer) for label, layer, zeros in candidates if zeros >= ZEROS[0]]
    large, small = LEAST_SHARES[isa]
    name = ", AVX2" if isa == "avx2" else ""
    rows = shares(f"sparse convolutions{what}, 80 to 93 % zeros, 13x13 and larger, of peak{name}", large, some, "sparse", LARGE, 1000)
    return rows + shares(f"sparse convolutions{what}, 80 % zeros and more, 7x7, of peak{name}", small, all_pruned, "sparse", SMALL, SMALL)


def shares(what, wanted, candidates, side, smallest, largest):
    """Shares of the peak: all of them have to be large enough."""
    found = [(layer[side]["peak_share"], label) for label, layer in candidates if smallest <= plane(layer) <= largest]
    if not found:
        return []
    lowest, where = min(found)
    enough = sum(share >= wanted for share, _ in found)
    middle = statistics.median(share for share, _ in found)
    text = f"{enough} of {len(found)}; median {100 * middle:.0f} %, lowest {100 * lowest:.0f} % ({where})"
    return [[what, f"at least {100 * wanted:.0f} %", text, verdict(enough == len(found))]]


def sweep(found):
    rows = []
    for isa in LEAST_SHARES:
        runs = [(run["net"], each) for run in found["runs"] if run["isa"] == isa for each in run["sweeps"]]
        for net, each in runs:
            what = f"{net} {each['layer']}, zeros from which sparse is as fast as dense{', AVX2' if isa == 'avx2' else ''}"
            crossing = each["crossover_percent"]
            never = [what, "at most 50 %", "never", verdict(False)]
            rows.append(never if crossing is None else most(what, 50.0, crossing, "{:.0f} %"))
        rows += sparse_shares(" of the sweep", isa, [swept for net, each in runs if is_convolution(each) for swept in points(net, each)])
    return rows


def points(net, found):
    """The points of a sweep with their fastest sparse kernel."""
    for point in found["points"]:
        if point["sparse"]:
            best = min(point["sparse"], key=lambda kernel: kernel["time_ms"])
            label = f"{net} {found['layer']}, {point['zeros_percent']:.0f} % zeros"
            yield label, dict(shape=found["shape"], sparse=best), point["zeros_percent"] / 100


CHECKS = {"peers": peers, "nets": nets, "layers": layers, "threads": threads, "sweep": sweep}
