"""One sentence for each reason why a task waits, ran, did not run or failed."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support import make
from ttasks import Task, TaskStatus
from ttasks.model.changes import changed_parts
from ttasks.model.facts import AttemptFacts, RunFacts, Span, TaskFacts, WaitReason

S = TaskStatus
NO = AttemptFacts(1, 0.0, 0.0, 1.0, S.FAILED, 1, "no", "handler")
RAN = AttemptFacts(1, 0.0, 0.0, 1.0, S.SUCCEEDED, 1)
RUNS = AttemptFacts(1, 0.0, 0.0, None, S.RUNNING, 1)
WHOLE = Span(0.0, 1.0)


def facts(*tasks: TaskFacts, outcome: str = "running", workers: int = 4) -> RunFacts:
    return RunFacts(
        "run",
        1,
        "graph",
        None,
        "g",
        datetime.now(UTC),
        outcome=outcome,
        workers=workers,
        tasks={task.id: task for task in tasks},
    )


def task(name: str, status: TaskStatus = S.PENDING, **more: Any) -> TaskFacts:
    if "spans" not in more and not status.is_active:
        more["spans"] = (WHOLE,)
    if not status.is_active:
        more.setdefault("ended", 1.0)
    return TaskFacts(name, f"Task {name}", status=status, **more)


def waits(reason: WaitReason, *because: str) -> tuple[Span, ...]:
    return (Span(0.0, None, reason, because),)


a = task("a", S.SUCCEEDED, attempts=(RAN,))
bad = task("bad", S.FAILED, attempts=(NO,), error="exit code 3.\nmore")
gone = task("gone", S.CANCELLED, error="The graph run was cancelled")


WAITS = [
    (waits(WaitReason.DEPENDENCY, "a", "bad"), (), "waits for 'Task a' and 'Task bad'"),
    (waits(WaitReason.DEPENDENCY, *"cdefghi"), (), "waits for c, d, e, f and 3 more"),
    (waits(WaitReason.WORKER), (), "waits for a free worker (the run has 4)"),
    (waits(WaitReason.GROUP, "db"), (), "waits for a place in the group 'db'"),
    (waits(WaitReason.RETRY), (NO,), "waits for attempt 2: attempt 1 failed (no)"),
    (waits(WaitReason.DUPLICATE, "t"), (), "waits for another run, which executes it"),
    (waits(WaitReason.DUPLICATE, "a"), (), "waits for 'Task a', which does the same work"),
]


@pytest.mark.parametrize(("spans", "attempts", "said"), WAITS)
def test_why_it_waits(spans: tuple[Span, ...], attempts: tuple[AttemptFacts], said: str) -> None:
    run = facts(a, bad, task("t", spans=spans, attempts=attempts))
    assert run.why("t") == f"'Task t' {said}."


RAN_BECAUSE: list[tuple[dict[str, Any], str]] = [
    ({}, "ran because it has no dependencies"),
    (
        {"after": ("a",), "spans": (Span(0.0, 0.5, WaitReason.DEPENDENCY, ("a",)), WHOLE)},
        "ran after 'Task a' ended",
    ),
    ({"after": ("a", "bad")}, "ran although 'Task bad' failed"),
    ({"after": ("bad",), "is_finally": True}, "ran to clean up after 'Task bad' failed"),
    ({"not_reused": "first"}, "ran because there was no earlier result to reuse"),
    ({"not_reused": "unsuccessful"}, "ran because it did not succeed in the previous run"),
    (
        {"not_reused": "changed", "changed": ("env CC", "payload")},
        "ran because its env CC and payload changed since it last succeeded",
    ),
    (
        {"not_reused": "upstream", "changed": ("Task a",)},
        "ran because the result of 'Task a' was not reused",
    ),
    ({"not_reused": "value"}, "ran because its earlier value was not stored"),
    (
        {"attempts": (NO, AttemptFacts(2, 1.0, 1.0, 2.0, S.SUCCEEDED, 1))},
        "ran because it has no dependencies, again because attempt 1 failed (no)",
    ),
]


@pytest.mark.parametrize(("more", "said"), RAN_BECAUSE)
def test_why_it_ran(more: dict[str, Any], said: str) -> None:
    done = task("t", S.SUCCEEDED, **{"attempts": (RAN,), **more})
    assert facts(a, bad, done, outcome="ok").why("t") == f"'Task t' {said}."


def test_why_it_is_running() -> None:
    running = task("t", S.RUNNING, attempts=(RUNS,), spans=(Span(0.0, None),))
    assert facts(running).why("t") == (
        "'Task t' is running, attempt 1, because it has no dependencies."
    )
    for outcome, said in [
        ("ok", "succeeded"),
        ("failed", "failed"),
        ("cancelled", "was cancelled"),
        ("timeout", "timed out"),
        ("interrupted", "was interrupted"),
    ]:
        ended = facts(running, outcome=outcome)
        assert ended.why("t") == f"'Task t' did not end before the run {said}."


def test_why_it_never_started() -> None:
    waiting = task("t", spans=(Span(0.0, None, WaitReason.WORKER),))
    ended = facts(waiting, outcome="interrupted")
    assert ended.why("t") == "'Task t' did not start before the run was interrupted."


def test_why_it_did_not_run() -> None:
    reused = task("reused", S.SUCCEEDED, spans=(), ended=None, reused=True)
    before = task("before", S.SUCCEEDED, spans=(), ended=None)
    first = task("first", S.BLOCKED, blocked_by="bad", error="blocked by 'Task bad'")
    second = task("second", S.BLOCKED, blocked_by="first", error="blocked by 'Task first'")
    third = task("third", S.BLOCKED, blocked_by="gone")
    skipped = task("skipped", S.SKIPPED, error="skipped: 'Task bad' failed")
    lost = task("lost", S.BLOCKED, blocked_by="nobody", error="blocked by task nobody")
    run = facts(a, bad, gone, reused, before, first, second, third, skipped, lost, outcome="failed")
    assert [run.why(item.id) for item in list(run.tasks.values())[2:]] == [
        "'Task gone' did not run: The graph run was cancelled.",
        "'Task reused' did not run: it took over the result of an equal task.",
        "'Task before' did not run: it succeeded before the run began.",
        "'Task first' did not run: it is blocked by 'Task bad', which failed (exit code 3).",
        "'Task second' did not run: it is blocked by 'Task first', which is blocked by "
        "'Task bad', which failed (exit code 3).",
        "'Task third' did not run: it is blocked by 'Task gone', which was cancelled "
        "(The graph run was cancelled).",
        "'Task skipped' did not run: 'Task bad' failed.",
        "'Task lost' did not run: blocked by task nobody.",
    ]


FAILED_BECAUSE = [
    ((NO,), "exit_code", "failed: boom"),
    ((NO,), "timeout", "failed because it timed out: boom"),
    ((NO, NO), "handler", "failed in the last of 2 attempts: boom"),
    ((NO,), "interrupted", "failed because it was interrupted: boom"),
    ((NO,), "circuit_open", "failed because its circuit breaker was open: boom"),
    ((NO,), "rejected", "failed because a guard rejected it: boom"),
    ((), "handler", "failed before it started: boom"),
]


@pytest.mark.parametrize(("attempts", "reason", "said"), FAILED_BECAUSE)
def test_why_it_failed(attempts: tuple[AttemptFacts], reason: str, said: str) -> None:
    failed = task("t", S.FAILED, attempts=attempts, error="boom\n", termination_reason=reason)
    assert facts(failed, outcome="failed").why("t") == f"'Task t' {said}."


def test_why_it_was_cancelled() -> None:
    ended = replace(NO, status=S.CANCELLED)
    cancelled = task("t", S.CANCELLED, attempts=(ended,), error="Task was cancelled")
    assert facts(cancelled).why("t") == "'Task t' was cancelled while it ran: Task was cancelled."


def test_a_task_is_found_by_itself_id_key_and_title() -> None:
    real = make("real", key="its key")
    run = facts(TaskFacts(real.id, "real", key="its key"), a)
    for name in (real, real.id, "its key", "real"):
        assert run.find(name).id == real.id


def test_a_task_that_is_not_found_is_answered_with_the_near_ones() -> None:
    run = facts(a, bad, TaskFacts("x", "same"), TaskFacts("y", "same"))
    with pytest.raises(LookupError, match=r"no task 'Task aa'; did you mean 'Task a'"):
        run.why("Task aa")
    with pytest.raises(LookupError, match="no task 'zzz'$"):
        run.why("zzz")
    with pytest.raises(LookupError, match="2 tasks of the run are called 'same': x, y"):
        run.find("same")
    with pytest.raises(TypeError, match="a task, or its id, key or title"):
        run.find(3)


def test_facts_are_plain_data() -> None:
    run = facts(a, bad)
    assert pickle.loads(pickle.dumps(run)) == run
    text = json.dumps(asdict(run), default=str)
    assert json.loads(text)["tasks"]["a"]["attempts"][0]["ended"] == 1.0


# What changed


def add(one: int, two: int = 0) -> int:
    return one + two


def twice(one: int, two: int = 0) -> int:
    return 2 * add(one, two)


CHANGES: list[tuple[Task, Task, tuple[str, ...]]] = [
    (make("t", "p"), make("u", "p"), ()),
    (make("t", "p"), make("t", "q"), ("payload",)),
    (Task.bash("p"), Task.powershell("p"), ("type",)),
    (make("t", "p", version="1"), make("t", "p", version="2"), ("version",)),
    (Task.bash("p", cwd="/"), Task.bash("p"), ("option cwd",)),
    (
        Task.bash("p", env={"CC": "gcc", "A": "1"}),
        Task.bash("p", env={"CC": "clang", "A": "1", "B": None}),
        ("env CC",),
    ),
    (Task.python(add, (1,)), Task.python(add, (1,)), ()),
    (Task.python(add, (1, 2)), Task.python(add, (1, 3)), ("argument 2",)),
    (Task.python(add, (1,), {"two": 2}), Task.python(add, (1,), {"two": 3}), ("argument two",)),
    (Task.python(add, (1,)), Task.python(twice, (1,)), ("function",)),
]


@pytest.mark.parametrize(("new", "old", "changed"), CHANGES)
def test_what_changed_is_named(new: Task, old: Task, changed: tuple[str, ...]) -> None:
    assert changed_parts(new, old) == changed
