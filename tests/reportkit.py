"""Facts of runs that never were: a small simulation makes them for the tests of reports."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from ttasks import Failure, RunReport, TaskStatus
from ttasks.model.facts import AttemptFacts, RunFacts, Span, TaskFacts, WaitReason
from ttasks.report import SCHEMA

BEGIN = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "fixtures" / "reports"
HOSTILE = "</script><script>alert(1)</script>"


@dataclass(frozen=True)
class Work:
    """A task to simulate.

    ``attempts`` are the seconds of each try: all fail but the last, which ends as ``outcome``.
    Further fields of `TaskFacts` come by name in ``more``.
    """

    title: str
    after: tuple[str, ...] = ()
    attempts: tuple[float, ...] = (1.0,)
    outcome: TaskStatus = TaskStatus.SUCCEEDED
    pause: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)


def work(title: str, *attempts: float, after: Iterable[str] | str = (), **more: Any) -> Work:
    """A `Work` in one line."""
    ends = (after,) if isinstance(after, str) else tuple(after)
    known = {key: more.pop(key) for key in ("outcome", "pause") if key in more}
    return Work(title, ends, attempts or (1.0,), more=more, **known)


def simulate(
    works: Iterable[Work],
    workers: int = 2,
    title: str = "release",
    path: tuple[str, ...] = ("release",),
    **more: Any,
) -> RunFacts:
    """Run the works in order on so many workers; an id is ``id-`` and the title.

    What depends on a task that did not succeed is BLOCKED, unless it is a finally task.
    """
    by_id = {f"id-{item.title}": item for item in works}
    after = {key: tuple(f"id-{end}" for end in item.after) for key, item in by_id.items()}
    missing = {key: set(ends) for key, ends in after.items()}
    dependents: dict[str, list[str]] = {}
    for key, ends in after.items():
        for end in set(ends):
            dependents.setdefault(end, []).append(key)
    spans: dict[str, list[Span]] = {key: [] for key in by_id}
    tries: dict[str, list[AttemptFacts]] = {key: [] for key in by_id}
    done: dict[str, TaskFacts] = {}
    ready: list[tuple[float, int, str]] = []
    free = [(0.0, slot) for slot in range(1, workers + 1)]
    order = {key: index for index, key in enumerate(by_id)}
    finish: list[tuple[float, int, str]] = []

    def settle(key: str, now: float) -> None:
        bad = [end for end in after[key] if done[end].status is not TaskStatus.SUCCEEDED]
        if now > 0:
            spans[key].append(Span(0.0, now, WaitReason.DEPENDENCY, last_of(key)))
        if bad and not by_id[key].more.get("is_finally"):
            conclude(key, now, TaskStatus.BLOCKED, blocked_by=bad[0])
        else:
            heappush(ready, (now, order[key], key))

    def last_of(key: str) -> tuple[str, ...]:
        latest = max((done[end].ended or 0.0 for end in after[key]), default=0.0)
        return tuple(end for end in after[key] if done[end].ended == latest)

    def conclude(key: str, now: float, status: TaskStatus, **known: Any) -> None:
        item = by_id[key]
        attempts = tuple(tries[key])
        done[key] = TaskFacts(
            key,
            item.title,
            path,
            after=after[key],
            status=status,
            attempts=attempts,
            spans=tuple(spans[key]),
            started=attempts[0].started if attempts else None,
            ended=now,
            slot=attempts[0].slot if attempts else None,
            duration=item.attempts[-1] if attempts else None,
            **{**known, **item.more},
        )
        for other in dependents.get(key, ()):
            missing[other].discard(key)
            if not missing[other]:
                settle(other, now)

    for key in list(by_id):
        if not missing[key] and key not in done:
            heappush(ready, (0.0, order[key], key))
    while ready or finish:
        while finish and (not ready or finish[0][0] <= max(ready[0][0], free[0][0])):
            now, _, key = heappop(finish)
            conclude(key, now, by_id[key].outcome, **_ends(by_id[key]))
        if not ready:
            continue
        at, _, key = heappop(ready)
        moment, slot = heappop(free)
        begin = max(at, moment)
        if begin > at:
            spans[key].append(Span(at, begin, WaitReason.WORKER))
        item, number = by_id[key], len(tries[key]) + 1
        end = begin + item.attempts[number - 1]
        spans[key].append(Span(begin, end))
        heappush(free, (end, slot))
        if number < len(item.attempts):
            tries[key].append(
                AttemptFacts(number, at, begin, end, TaskStatus.FAILED, slot, "flaky", "exit_code")
            )
            if item.pause:
                spans[key].append(Span(end, end + item.pause, WaitReason.RETRY))
            heappush(ready, (end + item.pause, order[key], key))
            continue
        known = _ends(item)
        reason = known.get("termination_reason")
        tries[key].append(
            AttemptFacts(number, at, begin, end, item.outcome, slot, known.get("error"), reason)
        )
        heappush(finish, (end, order[key], key))
    return concluded(done, by_id, workers, title, **more)


def _ends(item: Work) -> dict[str, Any]:
    if item.outcome is TaskStatus.SUCCEEDED:
        return {"returncode": 0}
    if item.outcome is TaskStatus.CANCELLED:
        return {"error": "cancelled", "termination_reason": "cancelled"}
    error = "Command failed with exit code 2: no such file"
    return {
        "error": item.more.get("error", error),
        "termination_reason": item.more.get("termination_reason", "exit_code"),
        "returncode": 2,
        "failure": item.more.get("failure", Failure("ttasks.errors.TaskExecutionError", error)),
    }


def concluded(
    done: Mapping[str, TaskFacts], order: Iterable[str], workers: int, title: str, **more: Any
) -> RunFacts:
    """The facts of a run of these tasks."""
    tasks = {key: done[key] for key in order}
    blocked: dict[str, list[tuple[str, str]]] = {}
    for task in tasks.values():
        root = task
        while root.blocked_by is not None:
            root = tasks[root.blocked_by]
        if root is not task:
            blocked.setdefault(root.id, []).append((task.title, task.id))
    for key, downstream in blocked.items():
        tasks[key] = replace(tasks[key], downstream=tuple(downstream))
    wall = max((task.ended or 0.0 for task in tasks.values()), default=0.0)
    is_bad = any(task.required and task.status.is_bad for task in tasks.values())
    known: dict[str, Any] = {
        "started_at": BEGIN,
        "ended_at": BEGIN + timedelta(seconds=wall),
        "duration": wall,
        "elapsed": wall,
        "outcome": "failed" if is_bad else "ok",
        "host": "builder",
        "pid": 4242,
    }
    return RunFacts(
        "run-1", 3, "graph-1", "release", title, workers=workers, tasks=tasks, **{**known, **more}
    )


def release(**more: Any) -> RunFacts:
    """A run with one of everything: failed, blocked, retried, optional, finally, reused, nested."""
    facts = simulate(
        [
            work("fetch", 0.8, output="fetched 12 files\n", groups=("network",)),
            work("compile", 2.4, after="fetch", output="cc -O2 main.c\n\x1b[32mok\x1b[0m\n"),
            work("docs", 0.3, 0.4, after="fetch", pause=0.5),
            work(
                "unit tests",
                1.7,
                after="compile",
                outcome=TaskStatus.FAILED,
                type="python",
                function="checks.unit",
                arguments="('src', fast=True)",
                error="assert 3 == 4",
                termination_reason="handler",
                failure=Failure(
                    "builtins.AssertionError",
                    "assert 3 == 4",
                    "Traceback (most recent call last):\n"
                    '  File "checks.py", line 7, in unit\n    assert total == 4\n'
                    "AssertionError: assert 3 == 4\n",
                    {"total": "3"},
                ),
                output="collected 4 tests\n..F.\n1 failed, 3 passed\n",
                log_file="logs/run-1/unit-tests.1.log",
            ),
            work("lint", 0.6, after="fetch", outcome=TaskStatus.FAILED, required=False),
            work("package", 1.0, after=("unit tests", "docs")),
            work("upload", 2.0, after="package"),
            work("remove scratch files", 0.2, after="compile", is_finally=True),
            work("size", 0.5, after="compile", value="1_048_576", type="python"),
        ],
        **more,
    )
    early = TaskFacts(
        "id-toolchain",
        "toolchain",
        ("release",),
        key="toolchain",
        status=TaskStatus.SUCCEEDED,
        duration=41.0,
        reused=True,
    )
    inner = TaskFacts(
        "id-inner",
        "inner",
        ("release", "compile all"),
        status=TaskStatus.SUCCEEDED,
        attempts=(AttemptFacts(1, 1.0, 1.2, 2.0, TaskStatus.SUCCEEDED, 1),),
        spans=(
            Span(0.0, 1.0, WaitReason.DEPENDENCY),
            Span(1.0, 1.2, WaitReason.GROUP, ("cc",)),
            Span(1.2, 2.0),
        ),
        ready=1.0,
        started=1.2,
        ended=2.0,
        slot=1,
        duration=0.8,
    )
    return replace(facts, tasks={early.id: early, **facts.tasks, inner.id: inner})


def hostile() -> RunFacts:
    """Titles, output and errors that try to break out of each format."""
    nasty = [
        HOSTILE,
        "x" * 10_000,
        "two\nlines\tand a tab",
        "\x1b]0;title\x07\x1b[31mred\x1b[0m \x00\x01\x7f\x85",
        "half a pair \ud800 here \ufffe",
        '"quoted" \\ `ticks` | pipe ]]> --> & &amp; #quot; ;',
        "```\n# heading\n```",
        "@everyone <img src=x onerror=alert(2)>",
        "",
        "   ",
        "Grüße, 世界 🚀",
    ]
    works = []
    for number, text in enumerate(nasty):
        outcome = TaskStatus.FAILED if number % 2 else TaskStatus.SUCCEEDED
        works.append(work(f"{number}", 0.5, outcome=outcome, output=f"{text}\n" * 3))
    facts = simulate(works, title=HOSTILE, path=(HOSTILE,))
    tasks = {}
    for text, task in zip(nasty, facts.tasks.values(), strict=True):
        error = None if task.error is None else f"failed: {text}"
        failure = None if error is None else Failure("E", error, error, {text: text})
        tasks[task.id] = replace(
            task,
            title=text,
            error=error,
            failure=failure,
            value=text,
            arguments=text,
            key=text or None,
        )
    first = next(iter(tasks))
    tasks[first] = replace(tasks[first], output="y" * 1_000_000)
    return replace(facts, tasks=tasks)


def layered(count: int, workers: int = 4, seed: int = 1) -> RunFacts:
    """A run of so many tasks in layers, some of which fail, with some output each."""
    chance = random.Random(seed)
    works: list[Work] = []
    failed: set[int] = set()
    for number in range(count):
        ends: set[int] = set()
        if number > 20:
            near = range(max(0, number - 120), number)
            ends = {chance.choice(near) for _ in range(chance.randint(1, 3))}
            if number % 5:  # one in five may be blocked, and nothing else
                ends -= failed
        fails = chance.random() < 0.01
        if fails or ends & failed:
            failed.add(number)
        works.append(
            work(
                f"task {number:05d}",
                round(chance.lognormvariate(-1, 0.8), 4),
                after=[f"task {end:05d}" for end in sorted(ends)],
                outcome=TaskStatus.FAILED if fails else TaskStatus.SUCCEEDED,
                output="".join(f"line {line} of task {number}\n" for line in range(8)),
            )
        )
    return simulate(works, workers, title=f"{count} tasks", path=(f"{count} tasks",))


def reported(facts: RunFacts, history: Iterable[RunFacts] = ()) -> RunReport:
    """A report, whose JSON has been checked by the schema of the package."""
    report = RunReport(facts, history)
    check_json(report)
    return report


def check_json(report: RunReport) -> dict[str, Any]:
    """The JSON of a report, checked by the schema; no member is there that it does not describe."""
    document: dict[str, Any] = json.loads(report.to_json())
    validator().validate(document)
    return document


@cache
def validator() -> Draft202012Validator:
    """Checks by the schema of the package, which must not allow anything beyond its members."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    for part in [schema, *schema["$defs"].values()]:
        if "properties" in part:
            part["additionalProperties"] = False
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(schema, format_checker=checker)


def golden(name: str, text: str) -> str:
    """What the fixture of this name holds; with TTASKS_GOLDEN=write the text is made it first."""
    path = GOLDEN / name
    if os.environ.get("TTASKS_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")
