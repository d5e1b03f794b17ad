"""The graph of a run as a Mermaid flowchart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import SYMBOLS, one_line, seconds

TITLE_CHARACTERS = 60

# Whatever means something in a label of Mermaid, in its Markdown or in HTML.
_SPECIAL = re.compile(r"[^\w \-.,:/()+=…äöüß]")

_STYLES = {
    TaskStatus.SUCCEEDED: "fill:#d7f2df,stroke:#1a7f4b,color:#0b3d24",
    TaskStatus.FAILED: "fill:#fbd9d9,stroke:#c62a2f,color:#5c0e11,stroke-width:2px",
    TaskStatus.CANCELLED: "fill:#ecdcf7,stroke:#7b3fa8,color:#3c1a55",
    TaskStatus.BLOCKED: "fill:#fdebc8,stroke:#a86400,color:#4d2d00",
    TaskStatus.SKIPPED: "fill:#e8ebef,stroke:#68727f,color:#333a42,stroke-dasharray:4 3",
    TaskStatus.RUNNING: "fill:#d6e6fd,stroke:#2563c9,color:#0d2c63",
    TaskStatus.PENDING: "fill:#f6f7f9,stroke:#9aa3ae,color:#4a525c",
}


def to_mermaid(content: Content) -> str:
    """See `RunReport.to_mermaid`."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Content) -> Iterator[str]:
    yield "flowchart LR"
    number = {task_id: f"t{index}" for index, task_id in enumerate(content.entries)}
    for index, (path, members) in enumerate(content.graphs()):
        if path:
            title = " / ".join(one_line(part, TITLE_CHARACTERS) for part in path)
            yield f'  subgraph g{index}["{escaped(title)}"]'
        for entry in members:
            yield f"  {number[entry.id]}{_node(entry, content)}:::{entry.status.value}"
        if path:
            yield "  end"
    for upstream, entry in content.edges():
        arrow = "-.->" if entry.is_finally else "-->"
        yield f"  {number[upstream]} {arrow} {number[entry.id]}"
    for status, _ in content.counts():
        yield f"  classDef {status.value} {_STYLES[status]}"


def _node(entry: ReportEntry, content: Content) -> str:
    label = escaped(one_line(content.name(entry.id), TITLE_CHARACTERS))
    about = SYMBOLS[entry.status]
    if entry.duration is not None:
        about += f" {seconds(entry.duration)}"
    label = f"{label}<br/>{about}"
    return f'(["{label}"])' if entry.is_finally else f'["{label}"]'


def escaped(text: str) -> str:
    """Text for a label between double quotes: what means something there as a character code."""
    return _SPECIAL.sub(lambda match: f"#{ord(match[0])};", text)
