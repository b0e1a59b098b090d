"""inspect, explain, verify, benchmark, report."""

import skimjit
from conftest import SLOW, TWO_OUTPUTS


def test_inspect(lenet, engine):
    table = skimjit.inspect(lenet)
    assert len(table) == len(list(table)) > 5
    weights = sum(row["weights"] for row in table)
    zeros = sum(row["zeros"] for row in table)
    assert weights == 430_500 and zeros / weights > 0.98
    text = str(table)
    assert repr(table) == text and text.count("\n") == len(table) + 2
    assert "conv1" in text and "total: 430,500 weights" in text
    assert str(skimjit.inspect(engine)) == text
    html = table._repr_html_()
    assert html.count("<tr>") == len(table) + 1 and "conv1" in html


def test_explain(engine):
    table = skimjit.explain(engine)
    assert {row["layer"] for row in table} >= {"conv1", "conv2", "ip1"}
    assert any(row["kernel"].startswith("sparse") for row in table)
    assert any(row["candidates"] for row in table) and engine.isa in table.title
    assert "named" in str(table) and "µs" not in str(table) and "estimates" not in str(table)


def test_explain_what_was_timed(network):
    model = network(SLOW)
    assert "tune=True" in str(skimjit.explain(skimjit.compile(model, threads=1)))
    table = skimjit.explain(skimjit.compile(model, threads=1, tune=True))
    assert "next best µs" in str(table) and any(row["time_us"] for row in table)


def test_verify(engine, digits, network):
    found = skimjit.verify(engine, digits)
    assert found.passed and found.tolerance == 1e-4
    assert {row["of"] for row in found} == {"layer", "output"}
    assert "passed: tolerance" in str(found)
    strict = skimjit.verify(engine, tolerance=0)
    assert not strict.passed and "FAILED" in str(strict)
    made = skimjit.compile(network(TWO_OUTPUTS), threads=2, batch=3)
    assert skimjit.verify(made).passed


def test_benchmark(engine, digits):
    found = skimjit.benchmark(engine, digits, seconds=0.05, least=3)
    assert len(found.times_ms) >= 3 and 0 < found.least_ms <= found.median_ms
    assert found.images == 10 and found.images_per_second > 0
    assert {"conv1", "conv2"} <= {row["layer"] for row in found}
    assert abs(sum(row["share"] for row in found) - 1) < 1e-6
    assert "images/s" in str(found) and "<table>" in found._repr_html_()
    with engine.session() as session:
        assert skimjit.benchmark(session, seconds=0, least=1).images == 1


def test_report(engine, tmp_path):
    report = skimjit.report(engine, seconds=0.01)
    assert len(report.tables) == 3 and all(table.title in str(report) for table in report.tables)
    path = tmp_path / "report.html"
    report.save(path)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("<table>") == 3 and "conv1" in page
