"""Message: what is said of a run, made from its report, and its forms for mail and chats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from ttasks.model.checks import check_str
from ttasks.report.labels import joined, one_line, rounded, seconds, shortened, tail_of
from ttasks.report.run_report import content_of_report

if TYPE_CHECKING:
    from ttasks.report.entries import ReportEntry
    from ttasks.report.run_report import RunReport

FAILURES = 10
"""How many tasks a message describes."""

SUBJECT_CHARACTERS = 150
_BLOCKED = 20  # names of tasks that did not run because of one
_ERROR_LINES, _ERROR_CHARACTERS = 10, 1_000
_OUTPUT_LINES, _OUTPUT_CHARACTERS = 15, 1_500


@dataclass(frozen=True, slots=True)
class Reason:
    """Why people are told of a run.

    Attributes:
        name: a word for programs, such as "failed".
        text: a few words for people, such as "2 tasks failed".

    Raises:
        TypeError, ValueError: one of them is no str, or is empty.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        check_str("name", self.name, empty=False)
        check_str("text", self.text, empty=False)


@dataclass(frozen=True, slots=True)
class Message:
    """What is said of one run. The executor's ``redact`` has hidden its secrets.

    Attributes:
        id: the same whenever the message is sent again, and to every channel.
        created_at: aware UTC.
        subject: one line, at most 150 characters.
        reasons: why it is sent, at least one.
        data: JSON values. ``run`` has id, number, title, key, outcome, error, host, started_at
            (ISO 8601), duration (seconds), counts (by status) and summary (one line). ``failures``
            has title, status, error, output and did_not_run (titles) of up to 10 tasks;
            ``more_failures`` is the number of the others.
        report: the page of `RunReport.to_html`; None if no channel attaches it.
    """

    id: str
    created_at: datetime
    subject: str
    reasons: tuple[Reason, ...]
    data: Mapping[str, Any]
    report: str | None = None

    @property
    def kind(self) -> str:
        """Name of its first reason."""
        return self.reasons[0].name

    @property
    def is_good(self) -> bool:
        """True if the run ended well."""
        return bool(self.data["run"]["outcome"] == "ok")

    @property
    def text(self) -> str:
        """The message as plain text, with its subject as the first line."""
        return "\n".join(_text_lines(self)) + "\n"

    @property
    def html(self) -> str:
        """The message as HTML for mail: no scripts, and nothing that has to be loaded."""
        return "".join(_html_parts(self))

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for a short table: outcome, tasks, duration, start, host."""
        run = self.data["run"]
        table = [
            ("Outcome", run["outcome"]),
            ("Tasks", run["summary"]),
            ("Duration", seconds(run["duration"])),
            ("Started", f"{run['started_at'][:19].replace('T', ' ')} UTC"),
            ("Host", run["host"]),
            ("Run", f"#{run['number']}, {run['id']}"),
        ]
        if run["error"]:
            table.insert(1, ("Error", run["error"]))
        return [(name, value) for name, value in table if value]

    def to_json(self) -> str:
        """All of it as JSON, for the outbox."""
        reasons = [[reason.name, reason.text] for reason in self.reasons]
        return json.dumps(
            {
                "id": self.id,
                "created_at": self.created_at.isoformat(),
                "subject": self.subject,
                "reasons": reasons,
                "data": self.data,
                "report": self.report,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Message:
        """The message that ``to_json`` was called for."""
        told = json.loads(text)
        return cls(
            told["id"],
            datetime.fromisoformat(told["created_at"]),
            told["subject"],
            tuple([Reason(name, words) for name, words in told["reasons"]]),
            told["data"],
            told["report"],
        )


def message_of(
    report: RunReport,
    reasons: Sequence[Reason],
    message_id: str,
    created_at: datetime,
    *,
    attach: bool,
) -> Message:
    """What is to be said of a run.

    Args:
        report: of the run; its entries may be a part of the tasks.
        reasons: why, at least one.
        message_id: becomes ``id``.
        created_at: aware UTC.
        attach: add the report as an HTML page.
    """
    content = content_of_report(report)
    facts = report.facts
    failures = content.failures()
    run = {
        "id": facts.id,
        "number": facts.number,
        "title": content.title,
        "key": facts.graph_key,
        "outcome": facts.outcome,
        "error": None if facts.error is None else one_line(facts.error),
        "host": facts.host,
        "started_at": facts.started_at.isoformat(),
        "duration": rounded(facts.elapsed),
        "counts": {status.value: number for status, number in content.counts()},
        "summary": content.counts_text(),
    }
    why = "; ".join(reason.text for reason in reasons)
    return Message(
        message_id,
        created_at,
        one_line(f"{shortened(content.title, 60)}: {one_line(why)}", SUBJECT_CHARACTERS),
        tuple(reasons),
        {
            "run": run,
            "failures": [
                _failure(entry, content.full_name(entry)) for entry in failures[:FAILURES]
            ],
            "more_failures": max(0, len(failures) - FAILURES),
        },
        report.to_html() if attach else None,
    )


def _failure(entry: ReportEntry, title: str) -> dict[str, Any]:
    error = tail_of(entry.message, _ERROR_LINES, _ERROR_CHARACTERS)
    output = tail_of(entry.output, _OUTPUT_LINES, _OUTPUT_CHARACTERS)
    return {
        "title": title,
        "status": entry.status.value,
        "error": error.text,
        "output": output.text.strip("\n"),
        "did_not_run": [one_line(name) for name, _ in entry.downstream[:_BLOCKED]],
    }


def _text_lines(message: Message) -> Iterator[str]:
    yield message.subject
    yield ""
    for name, value in message.facts():
        yield f"{name + ':':<10}{value}"
    for failure in message.data["failures"]:
        yield ""
        yield f"{failure['title']} {failure['status']}"
        yield from [f"  {line}" for line in failure["error"].splitlines()]
        if failure["did_not_run"]:
            yield f"  did not run because of it: {joined(failure['did_not_run'], 5)}"
        if failure["output"]:
            yield "  end of its output:"
            yield from [f"  | {line}" for line in failure["output"].splitlines()]
    if message.data["more_failures"]:
        yield ""
        yield f"... and {message.data['more_failures']:,} more"


_STYLE = (
    "font-family:system-ui,sans-serif;font-size:14px;line-height:1.4;max-width:60em;color:#1f2328"
)
_PRE = (
    "font-family:ui-monospace,monospace;font-size:12px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;background:#f6f8fa;padding:8px;margin:4px 0"
)


def _html_parts(message: Message) -> Iterator[str]:
    color = "#1a7f37" if message.is_good else "#cf222e"
    yield f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body style="{_STYLE}">'
    yield f'<h2 style="color:{color}">{escape(message.subject)}</h2><table>'
    for name, value in message.facts():
        yield (
            f'<tr><td style="padding-right:1em;color:#59636e">{name}</td>'
            f"<td>{escape(value)}</td></tr>"
        )
    yield "</table>"
    for failure in message.data["failures"]:
        yield f"<h3>{escape(failure['title'])} {failure['status']}</h3>"
        yield f'<pre style="{_PRE}">{escape(failure["error"])}</pre>'
        if failure["did_not_run"]:
            names = escape(joined(failure["did_not_run"], 5))
            yield f"<p>Did not run because of it: {names}</p>"
        if failure["output"]:
            yield f'<p>End of its output:</p><pre style="{_PRE}">{escape(failure["output"])}</pre>'
    if message.data["more_failures"]:
        yield f"<p>… and {message.data['more_failures']:,} more</p>"
    yield "</body></html>"
