"""The report as one HTML page.

The part that can be read without scripts is written here: the outcome of the run, its numbers, its
failures, and a table of its tasks. The files in ``page`` add the timeline, the graph,
and a table to sort and filter, from data that stands in the page as JSON.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from html import escape
from importlib import resources

from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import (
    OUTCOMES,
    SYMBOLS,
    count,
    encodable,
    one_line,
    percent,
    seconds,
    tail_of,
)
from ttasks.report.page_data import page_data

FAILURES = 50
"""How many failures are written out; the table has the rest."""

ROWS = 2_000
"""Rows of the table for browsers without scripts; tasks that did not succeed come first."""

_TAIL_LINES = 40
_TAIL_CHARACTERS = 6_000
_SCRIPTS = ("base", "timeline", "graph", "table", "details", "main")
_OUTCOME_COLORS = {"ok": "#1f9d61", "running": "#2f6fdf"}


def to_html(content: Content) -> str:
    """See `RunReport.to_html`."""
    return encodable("\n".join(_page(content))) + "\n"


def _page(content: Content) -> Iterator[str]:
    style, script = _assets()
    title = escape(content.title)
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{title}: {escape(OUTCOMES.get(content.facts.outcome, ''))}</title>"
    yield f'<link rel="icon" href="data:image/svg+xml,{_icon(content)}">'
    yield f"<style>{style}</style>"
    yield "</head>"
    yield f'<body class="{escape(content.facts.outcome)}">'
    yield from _header(content)
    yield "<main>"
    yield from _cards(content)
    yield from _failures(content)
    yield '<div id="views"></div>'
    yield from _advice(content)
    yield "<noscript>"
    yield from _plain_table(content)
    yield "</noscript>"
    yield "</main>"
    yield f'<script type="application/json" id="data">{_data(content)}</script>'
    yield f"<script>{script}</script>"
    yield "</body>"
    yield "</html>"


@cache
def _assets() -> tuple[str, str]:
    """The style and the script of the page."""
    folder = resources.files("ttasks.report") / "page"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    style = (folder / "page.css").read_text(encoding="utf-8")
    return style, '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"


def _policy(style: str, script: str) -> str:
    """A policy that allows nothing but this style and this script."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode("ascii")


def _data(content: Content) -> str:
    """The data of the page as JSON that cannot end its element."""
    text = json.dumps(page_data(content), ensure_ascii=False, separators=(",", ":"))
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _icon(content: Content) -> str:
    color = _OUTCOME_COLORS.get(content.facts.outcome, "#d13438").replace("#", "%23")
    return (
        "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
        f"%3Ccircle cx='8' cy='8' r='7' fill='{color}'/%3E%3C/svg%3E"
    )


def _header(content: Content) -> Iterator[str]:
    facts = content.facts
    outcome = OUTCOMES.get(facts.outcome, facts.outcome)
    yield "<header>"
    yield f'<p class="outcome">{escape(outcome)}</p>'
    yield f"<h1>{escape(content.title)}</h1>"
    parts = [f"Run {facts.number:,}", content.started, count(facts.workers, "worker")]
    if facts.host:
        parts.append(f"on {facts.host}")
    if content.origin:
        parts.append(content.origin)
    yield f'<p class="about">{" · ".join(escape(part) for part in parts)}</p>'
    if facts.error:
        yield f'<p class="run-error">{escape(one_line(facts.error, 500))}</p>'
    if left_out := content.left_out():
        yield f'<p class="about">{escape(left_out)}</p>'
    yield '<div id="tools"></div>'
    yield "</header>"


def _cards(content: Content) -> Iterator[str]:
    numbers = content.numbers
    yield '<section class="cards" aria-label="Numbers">'
    yield _card("Wall time", seconds(numbers.wall), f"{seconds(numbers.work)} of work")
    yield _card(
        "Workers in use",
        percent(numbers.utilisation),
        f"of {count(content.facts.workers, 'worker')}",
        numbers.utilisation,
    )
    yield _card(
        "Critical path",
        percent(numbers.critical_share),
        f"of the run; {seconds(numbers.bound)} with unlimited workers",
        numbers.critical_share,
    )
    yield '<div class="card wide"><h2>Tasks</h2>'
    yield f'<p class="figure">{sum(number for _, number in content.counts()):,}</p>'
    yield _status_bar(content)
    yield '<p class="legend">'
    for status, number in reversed(content.counts()):
        yield (
            f'<span class="{status.value}"><i>{SYMBOLS[status]}</i> '
            f"{number:,} {status.value}</span>"
        )
    if numbers.reused:
        yield f"<span>{numbers.reused:,} reused</span>"
    yield "</p></div></section>"


def _card(title: str, figure: str, about: str, share: float | None = None) -> str:
    bar = ""
    if share is not None:
        width = round(100 * min(share, 1.0), 1)
        bar = (
            '<svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="groove" width="100" height="4"/>'
            f'<rect class="level" width="{width}" height="4"/></svg>'
        )
    return (
        f'<div class="card"><h2>{escape(title)}</h2><p class="figure">{escape(figure)}</p>{bar}'
        f"<p>{escape(about)}</p></div>"
    )


def _status_bar(content: Content) -> str:
    total = sum(number for _, number in content.counts()) or 1
    at = 0.0
    rects = []
    for status, number in reversed(content.counts()):
        width = 100 * number / total
        rects.append(f'<rect class="{status.value}" x="{at:.3f}" width="{width:.3f}" height="4"/>')
        at += width
    return (
        '<svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(rects)}</svg>"
    )


def _failures(content: Content) -> Iterator[str]:
    failures = content.failures()
    if not failures:
        return
    yield '<section class="failures"><h2>What went wrong</h2>'
    for number, entry in enumerate(failures[:FAILURES]):
        yield from _failure(entry, content, is_open=number < 3)
    if len(failures) > FAILURES:
        yield f"<p>… and {count(len(failures) - FAILURES, 'more failure')}, in the table below.</p>"
    yield "</section>"


def _failure(entry: ReportEntry, content: Content, is_open: bool) -> Iterator[str]:
    flags = content.flags(entry)
    yield f'<details class="failure {entry.status.value}"{" open" if is_open else ""}>'
    yield (
        f'<summary><i class="{entry.status.value}">{SYMBOLS[entry.status]}</i> '
        f"<b>{escape(content.name(entry.id))}</b>"
        + (f" <small>{flags}</small>" if flags else "")
        + f"<span>{escape(one_line(entry.error or entry.why))}</span></summary>"
    )
    if len(entry.attempts) != 1 or not entry.error:
        yield f"<p>{escape(one_line(entry.why, 1_000))}</p>"
    if blocked := content.blocked(entry):
        yield f"<p>Did not run because of it: {escape(one_line(blocked, 1_000))}</p>"
    if entry.log_file is not None:
        yield f"<p>All of its output: <code>{escape(entry.log_file)}</code></p>"
    message = tail_of(entry.message, _TAIL_LINES, _TAIL_CHARACTERS).text
    if "\n" in message:
        yield f"<pre>{escape(message)}</pre>"
    tail = tail_of(entry.output, _TAIL_LINES, _TAIL_CHARACTERS)
    if tail.text.strip():
        cut = ", its end" if tail.is_cut or entry.output_is_cut else ""
        yield f"<h3>Output{cut}</h3><pre>{escape(tail.text)}</pre>"
    yield "</details>"


def _advice(content: Content) -> Iterator[str]:
    numbers = content.numbers
    if not (numbers.savings or numbers.slower):
        return
    yield '<section class="advice">'
    if numbers.savings:
        yield "<div><h2>What to speed up</h2><p>Seconds saved if the task took half its time.</p>"
        most = numbers.savings[0].seconds
        yield '<ol class="bars">'
        for saving in numbers.savings:
            yield _bar_line(content.name(saving.task_id), saving.seconds, saving.seconds / most)
        yield "</ol></div>"
    if numbers.slower:
        yield "<div><h2>Slower than usual</h2><p>Against the median of earlier runs.</p>"
        yield '<ol class="bars">'
        for item in numbers.slower[:10]:
            name = f"{content.name(item.task_id)}, usually {seconds(item.median)}"
            most = max(other.seconds for other in numbers.slower[:10])
            yield _bar_line(name, item.seconds, item.seconds / most)
        yield "</ol></div>"
    yield "</section>"


def _bar_line(name: str, length: float, share: float) -> str:
    return (
        f"<li><span>{escape(name)}</span><b>{seconds(length)}</b>"
        '<svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="level" width="{100 * share:.1f}" height="4"/></svg></li>'
    )


def _plain_table(content: Content) -> Iterator[str]:
    """The tasks for a browser without scripts, in the order of the graph."""
    entries = list(content.entries.values())
    if len(entries) > ROWS:
        others = [entry for entry in entries if entry.status is not TaskStatus.SUCCEEDED]
        passed = [entry for entry in entries if entry.status is TaskStatus.SUCCEEDED]
        entries = [*others, *passed][:ROWS]
    yield "<section><h2>Tasks</h2><p>With scripts there is also a timeline and a graph.</p>"
    yield '<table class="plain"><thead><tr><th>Status<th>Task<th>Duration<th>Waited<th>'
    yield "</thead><tbody>"
    for entry in entries:
        duration = "" if entry.duration is None else seconds(entry.duration)
        yield (
            f'<tr><td class="{entry.status.value}">{entry.status.value}'
            f"<td>{escape(content.full_name(entry))}"
            f"<td>{duration}<td>{seconds(entry.waited) if entry.spans else ''}"
            f"<td>{escape(content.note(entry))}"
        )
    yield "</tbody></table>"
    if len(entries) < len(content.entries):
        yield f"<p>… and {count(len(content.entries) - len(entries), 'more task')}.</p>"
    yield "</section>"
