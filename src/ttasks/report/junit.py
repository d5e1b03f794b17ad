"""The report as JUnit XML, in the dialect that Jenkins, GitLab and Maven Surefire read.

There is no standard. These are the rules, with their reasons; tests check them:

- A ``testsuite`` for each graph, with the numbers of its tests, failures, errors and skipped ones.
  The sum stands on ``testsuites``, without attributes that Jenkins' schema does not know.
- ``classname`` is the path of the graph, with dots. GitLab shows it as the suite.
- Two tests of a class never have one name: GitLab drops the second. It gets `` (2)``.
- A test has at most one of ``failure``, ``error`` and ``skipped``. The message stands in the
  attribute (Jenkins) and in the text (GitLab).
- ``failure``: an exit code, or an exception of the handler. ``error``: a timeout, an interruption,
  a cancellation after the start, a refusal. ``skipped``: a task that did not run, with the culprit,
  and what failed without making the run fail: an optional task, or one of a nested graph.
- Earlier attempts are ``flakyFailure`` in a test that passed, ``rerunFailure`` beside a failure or
  an error. These have a ``type``, as Surefire's schema wants it, and a ``stackTrace``.
- A run that is not ok without any failed test, such as one that timed out before its first task,
  has one more test, which is an error.
- ``system-out`` stands in the test, never in the suite: GitLab reads no other.
- Times are seconds with a dot and three digits. Characters that XML forbids are U+FFFD, and escape
  sequences are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportAttempt, ReportEntry
from ttasks.report.labels import one_line, plain, tail_of

PASSED_CHARACTERS = 1_000
"""How much output of a test that passed is written; Jenkins keeps no more."""

_FAILURES = ("exit_code", "handler", "died", None)


@dataclass(slots=True)
class _Suite:
    name: str
    names: set[str] = field(default_factory=set)
    cases: list[str] = field(default_factory=list)
    results: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def unique(self, name: str) -> str:
        found, number = name, 1
        while found in self.names:
            number += 1
            found = f"{name} ({number})"
        self.names.add(found)
        return found

    def add(self, name: str, result: str, seconds: float, children: list[str]) -> None:
        self.results[result] = self.results.get(result, 0) + 1
        self.seconds += seconds
        head = (
            f"    <testcase name={_quoted(self.unique(name))} classname={_quoted(self.name)} "
            f'time="{seconds:.3f}"'
        )
        if children:
            self.cases += [f"{head}>", *[f"      {child}" for child in children]]
            self.cases.append("    </testcase>")
        else:
            self.cases.append(f"{head}/>")


def to_junit(content: Content) -> str:
    """See `RunReport.to_junit`."""
    suites: dict[tuple[str, ...], _Suite] = {}
    for entry in content.entries.values():
        suite = suites.get(entry.path)
        if suite is None:
            path = entry.path or (content.title,)
            suite = suites[entry.path] = _Suite(".".join(one_line(title) or "-" for title in path))
        result, child = _result(entry, content)
        children = [] if child is None else [child]
        children += _attempts(entry, result)
        children += _output(entry, result)
        length = 0.0 if entry.reused else entry.duration or 0.0
        suite.add(content.name(entry.id), result, length, children)
    if content.facts.outcome not in ("ok", "running") and not any(
        suite.results.get(result) for suite in suites.values() for result in ("failure", "error")
    ):
        message = plain(content.facts.error or content.headline)
        suite = suites.setdefault(("",), _Suite(content.title))
        suite.add("run", "error", 0.0, [_element("error", content.facts.outcome, message)])
    return "\n".join(_document(list(suites.values()), content)) + "\n"


def _document(suites: list[_Suite], content: Content) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    numbers = [_numbers(suite.results) for suite in suites]
    tests, failures, errors = (sum(row[column] for row in numbers) for column in range(3))
    yield (
        f'<testsuites name={_quoted(content.title)} tests="{tests}" failures="{failures}" '
        f'errors="{errors}" time="{content.until:.3f}">'
    )
    for suite, (tests, failures, errors, skipped) in zip(suites, numbers, strict=True):
        yield (
            f'  <testsuite name={_quoted(suite.name)} tests="{tests}" failures="{failures}" '
            f'errors="{errors}" skipped="{skipped}" time="{suite.seconds:.3f}" '
            f'timestamp="{content.facts.started_at:%Y-%m-%dT%H:%M:%S}" '
            f"hostname={_quoted(plain(content.facts.host))}>"
        )
        yield from suite.cases
        yield "  </testsuite>"
    yield "</testsuites>"


def _numbers(results: dict[str, int]) -> tuple[int, int, int, int]:
    failures, errors, skipped = (results.get(key, 0) for key in ("failure", "error", "skipped"))
    return sum(results.values()), failures, errors, skipped


def _result(entry: ReportEntry, content: Content) -> tuple[str, str | None]:
    """The kind of result of a test, and the element that says so."""
    status = entry.status
    if status is TaskStatus.SUCCEEDED:
        return "passed", None
    if status is TaskStatus.FAILED or (status is TaskStatus.CANCELLED and entry.attempts):
        kind = "failure" if entry.termination_reason in _FAILURES else "error"
        if status is TaskStatus.CANCELLED:
            kind = "error"
        message = one_line(entry.error or status.value)
        if not entry.required or content.facts.ok:  # the latter in a nested graph
            why = "but is optional" if not entry.required else "but the run is ok"
            text = f"{status.value}, {why}: {message}"
            return "skipped", _element("skipped", "optional", text, entry.message)
        type_ = entry.failure.type if entry.failure is not None else ""
        return kind, _element(kind, type_ or status.value, message, entry.message)
    message = content.note(entry) or entry.why or status.value
    return "skipped", _element("skipped", status.value, message)


def _attempts(entry: ReportEntry, result: str) -> list[str]:
    """The attempts before the last, which have all failed."""
    name = "flakyFailure" if result == "passed" else "rerunFailure"
    return [_rerun(name, attempt) for attempt in entry.attempts[:-1]]


def _rerun(name: str, attempt: ReportAttempt) -> str:
    message = attempt.error or attempt.status.value
    kind = attempt.termination_reason or attempt.status.value
    return (
        f"<{name} message={_quoted(one_line(message))} type={_quoted(kind)}>"
        f"<stackTrace>{_escaped(message)}</stackTrace></{name}>"
    )


def _output(entry: ReportEntry, result: str) -> list[str]:
    if not entry.output:
        return []
    text = entry.output
    if result == "passed":
        text = tail_of(text, PASSED_CHARACTERS, PASSED_CHARACTERS).text
    return [f"<system-out>{_escaped(text)}</system-out>"]


def _element(name: str, kind: str, message: str, text: str = "") -> str:
    return (
        f"<{name} type={_quoted(kind)} message={_quoted(message)}>"
        f"{_escaped(text or message)}</{name}>"
    )


def _escaped(text: str) -> str:
    """Text of an element; entries are free of what XML forbids already."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    """The value of an attribute, with its quotes."""
    text = _escaped(text).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")
    return f'"{text}"'
