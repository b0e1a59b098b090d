"""docs/PERFORMANCE.md from what report.py measured."""

import json
import math
import statistics

import report_targets
from report_targets import find_net, sides

ISAS = {"avx512": "AVX-512", "avx2": "AVX2"}
LONGEST_LINE = 240
# Layers of a network that are listed with their limit.
SLOWEST = 8


def rounded(value):
    """Numbers with five digits: more are noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value


def compact(value, indent=""):
    """JSON with a line for whatever fits one, so that versions can be compared."""
    line = json.dumps(value)
    if len(line) + len(indent) <= LONGEST_LINE or not isinstance(value, (dict, list)):
        return line if indent else line + "\n"
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {compact(each, inner)}" for key, each in value.items()]
        text = "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    else:
        text = "[\n" + ",\n".join(inner + compact(each, inner) for each in value) + f"\n{indent}]"
    return text if indent else text + "\n"


def page(data, notes):
    """The page. Sections that were not measured are left out."""
    parts = [head(data), report_targets.section(data)]
    parts += [make(data[name]) for name, make in TABLES.items() if name in data]
    if notes:
        parts.append(notes)
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def table(columns, rows):
    """A Markdown table; names that begin with `<` are aligned left."""
    names = [name.removeprefix("<") for name in columns]
    rule = [":--" if name.startswith("<") else "--:" for name in columns]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [names, rule, *rows])


def number(value, digits=3):
    """With so many significant digits, without exponent."""
    if value is None:
        return "-"
    size = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits - 1 - size, 0)}f}"


def share(value):
    return "-" if value is None else f"{100 * value + 0.0:.0f} %"


def times(value):
    return "-" if value is None else f"{value:.2f}x"


def commands(lines):
    return "```console\n" + "\n".join(f"$ {line}" for line in lines) + "\n```"


def measured(section):
    machine = section["machine"]
    return f"Measured {machine['date']}, skimjit {machine['version']} ({machine['commit']})."


def folded(title, text):
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def head(data):
    lines = ["# Performance", ""]
    machines = {(m["cpu"], m["family"], m["model"], m["cores"]) for m in (section["machine"] for section in data.values() if "family" in section["machine"])}
    for cpu, family, model, cores in sorted(machines):
        lines.append(f"{cpu} (family {family}, model {model}), {cores} cores. Measured in the same runs as the tables:")
    lines += ["", table(["<instructions", "peak of a core, GFLOP/s", "read from memory, GB/s", "read from the last-level cache, GB/s"], peaks(data)), ""]
    lines.append(
        "`python3 benches/report.py` measures everything but the other engines, `--peers` those as well, and writes this page;"
        " each table names its command. Times are medians. Weights are made up, with the published sparsities."
    )
    return "\n".join(lines)


def peaks(data):
    found = {}
    for section in data.values():
        for run in section.get("cases", []) + section.get("runs", []):
            if "peak" in run:
                found.setdefault(run["isa"], []).append(run["peak"])
    rows = []
    for isa in filter(found.get, ISAS):
        middle = [statistics.median(peak[name] for peak in found[isa]) for name in ("gflops", "read_gbps", "cache_gbps")]
        rows.append([ISAS[isa], *(number(value) for value in middle)])
    return rows


def nets(section):
    rows = []
    for case in section["cases"]:
        network = case["network"]
        total, limit = network["total_ms"], network["limit_ms"]
        rows.append([
            case["net"], case["batch"], ISAS[case["isa"]], case["threads"], number(total), number(network["images_per_second"]),
            number(limit), times(total / limit), share(network["dense"]["share"]), share(network["sparse"]["share"]),
        ])
    columns = ["<network", "batch", "<instructions", "threads", "ms", "images/s", "limit ms", "x limit", "in dense kernels", "in sparse kernels"]
    text = f"""## Networks

{measured(section)} The limit is the sum over the layers of the longer of two times: multiply-adds with weights other than
zero at the measured peak, and bytes (4 of a dense weight, 6 of a non-zero, 4 of each input and output) at the measured bandwidth.
With two threads the peak counts twice, the memory once. For each row the same command with other numbers:

{commands([*section['synth'], section['cases'][0]['command']])}

{table(columns, rows)}

### Where the time beyond the limit goes

AVX-512, one thread: the {SLOWEST} layers of each network that lose most."""
    return "\n\n".join([text, *slowest(section), inner_products(section), jit(section)])


def slowest(section):
    for case in section["cases"]:
        if case["isa"] != "avx512" or case["threads"] != 1:
            continue
        lost = sorted(case["layers"], key=lambda layer: layer["limit_ms"] - layer["time_ms"])
        beyond = case["network"]["total_ms"] - case["network"]["limit_ms"]
        rows = [
            [
                layer["layer"], layer["shape"], share(layer["density"]), layer["variant"], number(layer["time_ms"]), number(layer["limit_ms"]),
                layer["bound"], times(layer["time_ms"] / layer["limit_ms"]) if layer["limit_ms"] else "-",
                share((layer["time_ms"] - layer["limit_ms"]) / beyond),
            ]
            for layer in lost[:SLOWEST]
        ]
        columns = ["<layer", "<output", "density", "<variant", "ms", "limit ms", "<bound by", "x limit", "of what is beyond"]
        yield folded(f"{case['net']}, batch {case['batch']}: {number(beyond)} ms beyond the limit", table(columns, rows))


def inner_products(section):
    rows = []
    for case in section["cases"]:
        if case["threads"] != 1:
            continue
        for layer in case["layers"]:
            if layer["kind"] == "InnerProduct":
                limit = layer["limit_ms"]
                rows.append([
                    case["net"], layer["layer"], case["batch"], ISAS[case["isa"]], share(layer["density"]), layer["variant"], number(layer["time_ms"]),
                    number(limit), layer["bound"], times(layer["time_ms"] / limit) if limit else "-",
                ])
    columns = ["<network", "<layer", "batch", "<instructions", "density", "<variant", "ms", "limit ms", "<bound by", "x limit"]
    return f"### Inner products\n\nIn the networks of the table above, one thread.\n\n{table(columns, rows)}"


def jit_of(layers):
    """What generating the code of a network costs, and of its layers on sparse kernels."""
    sparse = [layer for layer in layers if layer["variant"].startswith("sparse_")]
    return dict(
        nonzeros=sum(layer["weights"] * layer["density"] for layer in sparse), sparse_ms=sum(layer["jit_ms"] for layer in sparse),
        code_bytes=sum(layer["code_bytes"] for layer in layers),
    )


def jit(section):
    rows = []
    for case in section["cases"]:
        if case["batch"] == 1 and case["threads"] == 1:
            found = case["jit"]
            rows.append([
                case["net"], ISAS[case["isa"]], number(found["nonzeros"] / 1e6), number(found["sparse_ms"]), number(report_targets.jit_rate(found)),
                number(found["code_bytes"] / 1e6), number(case["network"]["jit_ms"]),
            ])
    columns = ["<network", "<instructions", "10^6 non-zeros", "their JIT ms", "10^6 a second", "code of the network, MB", "JIT of the network, ms"]
    return f"""### Code generation

In the networks of the table above, batch 1: time of generating code and packing weights on one core, and of the layers that run on
sparse kernels how many non-zeros that is a second.

{table(columns, rows)}"""


def threads(section):
    rows = [[case["net"], case["batch"], ISAS[case["isa"]], number(case["one_ms"]), number(case["two_ms"]), times(case["ratio"])] for case in section["cases"]]
    columns = ["<network", "batch", "<instructions", "1 thread, ms", "2 threads, ms", "as fast"]
    return f"""## Threads

{measured(section)} One thread and two by turns; the ratio is the median of those of neighbouring runs. For each row the same commands with
other numbers:

{commands(section['cases'][0]['commands'])}

{table(columns, rows)}"""


def layers(section):
    columns = ["<layer", "<output", "density", "<sparse variant", "ms", "of peak", "<dense variant", "ms", "of peak", "sparse over dense", "<planned"]
    parts = []
    for run in section["runs"]:
        for case in run["cases"]:
            whole = case["whole"]
            ratio = times(whole["dense_time_ms"] / whole["time_ms"])
            title = f"{run['net']}, batch {case['batch']}, {ISAS[run['isa']]}: {number(whole['time_ms'])} ms, all dense {number(whole['dense_time_ms'])} ms ({ratio})"
            parts.append(folded(title, table(columns, [layer_row(layer) for layer in case["layers"]])))
    return "\n\n".join([f"""## Layers

{measured(section)} Each layer alone on one thread, so its weights stay in the caches that hold them; the best sparse kernel and the best
dense one by turns. The share of the peak counts multiply-adds that the kernel does: those with non-zeros, or all.

{commands([run['command'] for run in section['runs']])}""", *parts])


def layer_row(layer):
    sparse, dense = layer["sparse"], layer["dense"]
    return [
        layer["layer"], layer["shape"], f"{100 * layer['density']:.1f} %", *kernel(sparse), *kernel(dense),
        times(dense["time_ms"] / sparse["time_ms"]) if sparse and dense else "-", "sparse" if layer["chosen"].startswith("sparse_") else "dense",
    ]


def kernel(found):
    return [found["variant"], number(found["time_ms"]), share(found["peak_share"])] if found else ["-", "-", "-"]


def sweep(section):
    parts = [f"""## Sparsity

{measured(section)} Every sparse kernel beside the dense one, batch 1, one thread: milliseconds and share of the peak.

{commands([run['command'] for run in section['runs']])}"""]
    for run in section["runs"]:
        for found in run["sweeps"]:
            crossing = found["crossover_percent"]
            crossing = "sparse never as fast" if crossing is None else f"sparse as fast from {crossing:.0f} % zeros on"
            parts.append(folded(f"{run['net']} {found['layer']} ({found['shape']}), {ISAS[run['isa']]}: {crossing}", sweep_table(found)))
    return "\n\n".join(parts)


def sweep_table(found):
    variants = list(dict.fromkeys(each["variant"] for point in found["points"] for each in sides(point)))
    rows = []
    for point in found["points"]:
        row = [f"{point['zeros_percent']:.0f} %"]
        for variant in variants:
            each = next((each for each in sides(point) if each["variant"] == variant), None)
            row.append(f"{number(each['time_ms'])} ({share(each['peak_share'])})" if each else "-")
        rows.append([*row, point["chosen"]])
    return table(["zeros", *variants, "<planned"], rows)


def matrices(section):
    columns = ["<file", "<output", "density", "<sparse variant", "ms", "of peak", "<dense variant", "ms", "of peak", "sparse over dense", "<planned"]
    parts = []
    for run in section["runs"]:
        for case in run["cases"]:
            parts.append(folded(f"batch {case['batch']}, {ISAS[run['isa']]}", table(columns, [layer_row(layer) for layer in case["layers"]])))
    return "\n\n".join([f"""## Layers of really pruned networks

{measured(section)} MatrixMarket files, measured as the layers above.

{commands([run['command'] for run in section['runs']])}""", *parts])


def peers(section):
    names = list(dict.fromkeys(row["engine"] for result in section["results"] for row in result["engines"]))
    rows, checks = [], []
    for result in section["results"]:
        found = {row["engine"]: row for row in result["engines"]}
        base = found.get(report_targets.BASELINE)
        row = [find_net(result["net"]), result["batch"]]
        for name in names:
            each = found.get(name)
            ratio = f" ({base['median_ms'] / each['median_ms']:.2f}x)" if each and base else ""
            row.append(f"{number(each['median_ms'])}{ratio}" if each else "-")
        rows.append(row)
        checks += [row["difference"] for row in result["engines"]]
    versions = {row["engine"]: row["version"] for result in section["results"] for row in result["engines"]}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "skimjit")
    skipped = {f"{name}: {why}" for result in section["results"] for name, why in result["skipped"].items()}
    return "\n\n".join(filter(None, [f"""## Other engines

{measured(section)} The same pruned networks in turns, threads: {section['team']}. Milliseconds, and how many times as fast as ONNX Runtime in the same
run. {listed}. Results differ by at most {max(checks):.0e} of the largest value. How: [benches/peers](../benches/peers/README.md).

{commands([section['command']])}""", table(["<network", "batch", *names], rows), "Skipped: " + "; ".join(sorted(skipped)) + "." if skipped else ""]))


TABLES = {"nets": nets, "threads": threads, "peers": peers, "sweep": sweep, "layers": layers, "matrices": matrices}
