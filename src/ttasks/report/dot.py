"""The graph of a run in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import one_line, seconds

TITLE_CHARACTERS = 80

_COLORS = {  # of the area and of the line
    TaskStatus.SUCCEEDED: ("#d7f2df", "#1a7f4b"),
    TaskStatus.FAILED: ("#fbd9d9", "#c62a2f"),
    TaskStatus.CANCELLED: ("#ecdcf7", "#7b3fa8"),
    TaskStatus.BLOCKED: ("#fdebc8", "#a86400"),
    TaskStatus.SKIPPED: ("#e8ebef", "#68727f"),
    TaskStatus.RUNNING: ("#d6e6fd", "#2563c9"),
    TaskStatus.PENDING: ("#f6f7f9", "#9aa3ae"),
}


def to_dot(content: Content) -> str:
    """See `RunReport.to_dot`."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Content) -> Iterator[str]:
    yield f"digraph {_quoted(content.title)} {{"
    yield "  rankdir=LR;"
    yield '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];'
    yield '  edge [color="#68727f"];'
    number = {task_id: f"t{index}" for index, task_id in enumerate(content.entries)}
    for index, (path, members) in enumerate(content.graphs()):
        indent = "  "
        if path:
            title = " / ".join(one_line(part, TITLE_CHARACTERS) for part in path)
            yield f"  subgraph cluster_{index} {{"
            yield f"    label={_quoted(title)};"
            indent = "    "
        for entry in members:
            yield f"{indent}{number[entry.id]} [{_attributes(entry, content)}];"
        if path:
            yield "  }"
    critical = set(pairwise(content.numbers.critical_path))
    for upstream, entry in content.edges():
        style = " [style=dashed]" if entry.is_finally else ""
        if (upstream, entry.id) in critical:
            style = " [penwidth=2.5]"
        yield f"  {number[upstream]} -> {number[entry.id]}{style};"
    yield "}"


def _attributes(entry: ReportEntry, content: Content) -> str:
    about = entry.status.value
    if entry.duration is not None:
        about += f", {seconds(entry.duration)}"
    title = one_line(content.name(entry.id), TITLE_CHARACTERS)
    fill, line = _COLORS[entry.status]
    tooltip = one_line(entry.why or about)
    return (
        f"label={_quoted(title, about)}, tooltip={_quoted(tooltip)}, "
        f'fillcolor="{fill}", color="{line}"' + (", peripheries=2" if entry.is_finally else "")
    )


def _quoted(*lines: str) -> str:
    """A string of Graphviz; its lines are divided by the escape for a line break."""
    # An entity would be read as one: `&` is written as one itself.
    parts = [line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines]
    return '"' + "\\n".join(parts) + '"'
