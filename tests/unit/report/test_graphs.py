"""The graph of a run for Mermaid and Graphviz, drawn by the real programs where they are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as etree

import pytest

from reportkit import golden, hostile, layered, release, reported, simulate, work
from ttasks.model.facts import RunFacts

DOT = shutil.which("dot")
ROOT = Path(__file__).resolve().parents[3]
FETCHED = sorted((ROOT / ".cache" / "mermaid").glob("*/mermaid.min.js"))
MERMAID = os.environ.get("MERMAID_JS") or (str(FETCHED[-1]) if FETCHED else "")
SVG = "{http://www.w3.org/2000/svg}"


def test_mermaid_is_that_of_the_golden_file() -> None:
    text = reported(release()).to_mermaid()
    assert text == golden("release.mmd", text)


def test_dot_is_that_of_the_golden_file() -> None:
    text = reported(release()).to_dot()
    assert text == golden("release.dot", text)


def test_mermaid_labels_hold_nothing_that_means_something_there() -> None:
    for line in reported(hostile()).to_mermaid().splitlines():
        if '"' in line:
            (label,) = re.findall('"(.*)"', line)
            assert not set('"<>&`[]{}|@*_\\') & set(label.replace("<br/>", ""))


def nodes_and_edges(facts: RunFacts) -> tuple[int, int]:
    return len(facts.tasks), sum(len(task.after) for task in facts.tasks.values())


# Mermaid, in the browser


@pytest.fixture
def mermaid(tmp_path: Path, browser: Any) -> Any:
    """Draws a chart with the real Mermaid and returns the browser that shows it."""
    if not Path(MERMAID).is_file():
        pytest.skip("needs Mermaid, which .ci/mermaid fetches into .cache/")

    def draw(chart: str) -> Any:
        page = tmp_path / "chart.html"
        page.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><div id="chart"></div>'
            f'<script src="{Path(MERMAID).as_uri()}"></script>'
        )
        browser.open(page)
        error = browser.driver.execute_async_script(
            """const [chart, done] = arguments;
            mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });
            mermaid.render("made", chart).then(({ svg }) => {
              document.getElementById("chart").innerHTML = svg;
              done(null);
            }, (error) => done(String(error)));""",
            chart,
        )
        assert error is None, error
        return browser

    return draw


@pytest.mark.parametrize("facts", [release(), hostile(), simulate([work("one")])])
def test_mermaid_draws_every_node_and_edge(mermaid: Any, facts: RunFacts) -> None:
    browser = mermaid(reported(facts).to_mermaid())
    nodes, edges = nodes_and_edges(facts)
    assert len(browser.find("#chart g.node")) == nodes
    assert len(browser.find("#chart path.flowchart-link")) == edges


def test_mermaid_shows_hostile_titles_as_they_are(mermaid: Any) -> None:
    browser = mermaid(reported(hostile()).to_mermaid())
    text = browser.script("return document.getElementById('chart').textContent")
    for part in (
        "</script><script>alert(1)</script>",
        '"quoted" \\ `ticks` | pipe ]]> --> & &amp; #quot; ;',
        "@everyone <img src=x onerror=alert(2)>",
        "Grüße, 世界 🚀",
    ):
        assert part in text
    assert browser.find("#chart img") == browser.find("#chart script") == []


# Graphviz


def drawn(text: str) -> etree.Element:
    """The SVG that Graphviz draws, without a warning."""
    if DOT is None:
        pytest.skip("needs Graphviz (Debian: graphviz)")
    done = subprocess.run(
        [DOT, "-Tsvg"], input=text.encode(), capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return etree.fromstring(done.stdout)


@pytest.mark.parametrize("facts", [release(), hostile(), layered(200), simulate([])])
def test_graphviz_draws_every_node_and_edge(facts: RunFacts) -> None:
    svg = drawn(reported(facts).to_dot())
    groups = [group.get("class") for group in svg.iter(f"{SVG}g")]
    assert (groups.count("node"), groups.count("edge")) == nodes_and_edges(facts)


def test_graphviz_shows_hostile_titles_as_they_are() -> None:
    svg = drawn(reported(hostile()).to_dot())
    text = "\n".join(item.text or "" for item in svg.iter(f"{SVG}text")).replace("\u00a0", " ")
    for part in (
        "</script><script>alert(1)</script>",
        '"quoted" \\ `ticks` | pipe ]]> --> & &amp; #quot; ;',
        "Grüße, 世界 🚀",
    ):
        assert part in text


def test_a_nested_graph_is_a_group_in_both() -> None:
    report = reported(release())
    assert 'subgraph g1["compile all"]' in report.to_mermaid()
    clusters = [g for g in drawn(report.to_dot()).iter(f"{SVG}g") if g.get("class") == "cluster"]
    assert len(clusters) == 1
