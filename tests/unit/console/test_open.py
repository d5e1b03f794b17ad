"""How a console opens, and what it keeps while it is open."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import replace

import pytest

from consolekit import Text, executor, script, scripted, timeless
from support import WAIT, Gate, Obedient
from ttasks import DependencyPolicy, Run, Task, TaskContext, TaskGraph, TaskStatus
from ttasks.console import MODES, console
from ttasks.console.board import Board
from ttasks.console.prints import Prints
from ttasks.console.writer import Stopping, _stops_first
from ttasks.engine.history import GraphHistory
from ttasks.model.event import TaskEventType
from ttasks.model.run import source_of


def test_an_interrupt_while_it_opens_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    file, before = Text(), threading.active_count()
    monkeypatch.setattr("sys.stdout", file)
    install = Prints.install

    def interrupted(self: Prints) -> None:
        install(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Prints, "install", interrupted)
    with executor() as running:
        with pytest.raises(KeyboardInterrupt), console(running, "plain"):
            pytest.fail("it has opened")
        assert sys.stdout is file
        assert threading.active_count() == before
        assert not running.events.wants(TaskEventType.RUN_STARTED)


def test_an_interrupt_before_its_thread_starts_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = Text()
    monkeypatch.setattr("sys.stdout", file)

    def interrupted(_self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ttasks.console.writer.Writer.start", interrupted)
    with executor() as running:
        with pytest.raises(KeyboardInterrupt), console(running, "plain"):
            pytest.fail("it has opened")
        assert sys.stdout is file


def test_the_last_line_of_a_task_is_its_own_also_if_it_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = Text()
    monkeypatch.setattr("sys.stdout", file)

    def says(text: str) -> None:
        print(text, end="")

    with executor(redact=["hunter2"]) as running, console(running, "stream"):
        running.execute(Task.python(says, ("first hunter2",), title="one"))
        running.execute(Task.python(says, ("second hunter2",), title="two"))
    lines = file.getvalue().splitlines()
    assert "hunter2" not in file.getvalue()
    assert "first ***" in lines
    assert "second ***" in lines


def test_only_groups_with_a_limit_are_waited_for() -> None:
    graph = TaskGraph("groups")
    first = Task.bash("true", title="first", group=["many", "one"])
    second = Task.bash("true", title="second", group=["many", "one"])
    third = Task.bash("true", title="third", group="many")
    with executor(limits={"one": 1}) as running:
        for task in (first, second, third):
            graph.add(task)
        graph.run(running)
    source = source_of(graph.latest_run)
    assert isinstance(source, GraphHistory)
    head, board = source.head(), Board()
    board.begin(head, source.planned(), head.started_at, 0.0)
    board.running[first.id] = board.waiting.pop(first.id)
    assert board.why_waiting(board.rows[second.id], 0.0) == "for a place in one"
    assert board.why_waiting(board.rows[third.id], 0.0) == "for a worker"


def test_tasks_without_a_graph_are_counted_and_forgotten(tmp_path) -> None:
    file = Text()
    running = executor()
    shown = console(running, "grouped", file=file, logs=tmp_path)
    with running, shown:
        for number in range(50):
            running.execute(scripted(f"t{number}", script("out\n")))
        running.submit(scripted("bad", script(fails=ValueError("no")))).exception(WAIT)
        gate = Gate()
        last = running.submit(scripted("last", gate))
        gate.wait_reached()
        gate.open()
        last.result(WAIT)
    assert [row.name for row in shown._board.rows.values()] == ["bad"]
    assert not shown._log_files._runs
    assert "51 succeeded" in file.getvalue().splitlines()[-1]
    assert "1 failed" in file.getvalue().splitlines()[-1]
    assert len(list(tmp_path.glob("*/t*.1.log"))) == 50


def test_what_waits_for_its_turn_is_shown_at_the_end() -> None:
    file, gate = Text(), Gate()
    running = executor()
    shown = console(running, "keep-order", file=file)
    with running:
        with shown:
            live = running.submit(scripted("live", gate))
            gate.wait_reached()
            running.submit(scripted("other", script("its output\n"))).result(WAIT)
        gate.open()
        live.result(WAIT)
    lines = file.getvalue().splitlines()
    assert "  │ its output" in lines
    assert any(line.startswith("✓") and line.endswith("other") for line in lines)


# --- what goes on when it closes ------------------------------------------------------------------


def held(mode: str, **options: object) -> tuple[Text, Run]:
    """What a console writes that is closed while a run goes on; and the run, which then ends."""
    file, gate = Text(), Gate()
    graph = TaskGraph("forgotten")
    first = graph.add(scripted("first", script()))
    last = graph.add(scripted("last", gate), after=first)
    graph.add(scripted("package", script()), after=last)
    with executor() as running:
        with console(running, mode, file=file, **options):
            run = graph.start(running)
            gate.wait_reached()
        gate.open()
        assert run.wait(WAIT)
    return file, run


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("auto", "jsonl")])
def test_a_run_that_goes_on_is_no_success(mode: str) -> None:
    file, run = held(mode)
    assert run.ok
    (line,) = [line for line in file.getvalue().splitlines() if " forgotten " in line]
    assert line.startswith("▸ ")
    assert line.endswith("forgotten  still running: 1 running, 1 waiting, 1 succeeded")


def test_jsonl_does_not_end_a_run_that_goes_on() -> None:
    file, _ = held("jsonl")
    kinds = [json.loads(line)["event"] for line in file.getvalue().splitlines()]
    assert kinds == ["run_started", "started", "succeeded", "started"]


def test_a_task_without_a_graph_that_goes_on_is_running() -> None:
    file, gate = Text(), Gate()
    with executor() as running:
        with console(running, "plain", file=file):
            running.execute(scripted("done", script()))
            future = running.submit(scripted("submitted", gate))
            gate.wait_reached()
        gate.open()
        future.result(WAIT)
    last = file.getvalue().splitlines()[-1]
    assert last.startswith("▸ ")
    assert last.endswith("tasks  still running: 1 running, 1 succeeded")


def test_a_console_around_the_executor_sees_the_end_of_what_it_waits_for() -> None:
    file = Text()
    running = executor()
    graph = TaskGraph("awaited")
    graph.add(scripted("bad", script(fails=ValueError("no"))))
    with console(running, "plain", file=file), running:
        graph.start(running)
    assert file.getvalue().splitlines()[-1].endswith("awaited  1 failed")


# --- how to kill what is being stopped ------------------------------------------------------------


def test_a_run_that_was_not_interrupted_is_killed_by_ctrl_c_twice() -> None:
    graph, slow, file = TaskGraph("late"), Obedient(), Text()

    def fails(_context: TaskContext) -> None:
        slow.wait_reached()
        raise ValueError("no")

    graph.add(scripted("slow", slow))
    graph.add(scripted("bad", fails))
    with executor() as running, console(running, "plain", file=file):
        graph.run(running, 2, fail_fast=True)
    lines = file.getvalue().splitlines()
    assert "⊘          'bad' failed (fail_fast)" in lines
    assert "  Ctrl-C twice to kill what is left" in lines


def test_a_run_that_another_thread_waits_for_says_nothing_of_ctrl_c() -> None:
    graph, slow, file = TaskGraph("started"), Obedient(), Text()
    graph.add(scripted("slow", slow))
    with executor() as running, console(running, "plain", file=file):
        run = graph.start(running)
        slow.wait_reached()
        run.cancel()
        assert run.wait(WAIT)
    assert "⊘          Cancelled" in file.getvalue().splitlines()
    assert "Ctrl-C" not in file.getvalue()


# --- what a failure blocks ------------------------------------------------------------------------


def test_what_a_failure_blocks_is_known_before_the_events_of_those() -> None:
    graph, events = TaskGraph("blocked"), []
    bad = graph.add(scripted("bad", script(fails=ValueError("no"))))
    near = graph.add(scripted("near", script()), after=bad)
    graph.add(scripted("far", script()), after=near)
    graph.add(scripted("anyway", script()), after=bad, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
    graph.add(scripted("skipped", script()), after=bad, on_dep_failure=DependencyPolicy.SKIP)
    graph.add(scripted("cleanup", script()), after=bad, finally_=True)
    with executor() as running:
        running.events.subscribe(events.append)
        graph.run(running)
    source = source_of(graph.latest_run)
    assert isinstance(source, GraphHistory)
    head, board = source.head(), Board()
    board.begin(head, source.planned(), head.started_at, 0.0)
    after = []
    for event in events:
        board.apply(event, 0.0)
        if board.rows[bad.id].status is TaskStatus.FAILED:
            after.append(list(board.rows[bad.id].blocks.values()))
    assert after[0] == ["near", "far"]
    assert sorted(after[-1]) == ["far", "near"]


def test_what_was_stopped_is_not_told_as_blocked() -> None:
    graph, events = TaskGraph("stopped"), []
    bad = graph.add(scripted("bad", script(fails=ValueError("no"))))
    graph.add(scripted("next", script()), after=bad)
    with executor() as running:
        running.events.subscribe(events.append)
        graph.run(running)
    source = source_of(graph.latest_run)
    assert isinstance(source, GraphHistory)
    head, board = source.head(), Board()
    board.begin(head, source.planned(), head.started_at, 0.0)
    for event in events:
        if event.status is TaskStatus.BLOCKED:
            event = replace(event, type=TaskEventType.CANCELLED, status=TaskStatus.CANCELLED)
        board.apply(event, 0.0)
    assert not board.rows[bad.id].blocks


# --- a console that opens while a run goes on -----------------------------------------------------


def opened_late(mode: str) -> str:
    file, gate = Text(), Gate()
    graph = TaskGraph("deploy")
    first = graph.add(scripted("first", script()))
    graph.add(scripted("bad", script(fails=ValueError("no"))), required=False)
    last = graph.add(scripted("last", gate), after=first)
    graph.add(scripted("package", script()), after=last)
    with executor() as running:
        run = graph.start(running, 1)
        gate.wait_reached()
        with console(running, mode, file=file):
            gate.open()
            assert run.wait(WAIT)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["plain", "quiet", "live", "stream", "grouped", "keep-order"])
def test_a_console_that_opens_late_knows_the_run_and_what_it_did(mode: str) -> None:
    last = opened_late(mode).splitlines()[-1]
    assert last.endswith("deploy  1 failed (optional), 3 succeeded")


def test_jsonl_that_opens_late_begins_with_the_run() -> None:
    objects = [json.loads(line) for line in opened_late("jsonl").splitlines()]
    assert objects[0]["event"] == "run_started"
    assert (objects[0]["title"], objects[0]["total"]) == ("deploy", 4)
    assert objects[-1]["counts"] == {"succeeded": 3, "failed": 1}


def test_a_console_that_opens_late_names_nested_tasks_as_ever() -> None:
    file, gate = Text(), Gate()
    inner = TaskGraph("inner")
    inner.add(scripted("held", gate))
    outer = TaskGraph("outer")
    with executor() as running:
        outer.add(scripted("runs", lambda _context: inner.run(running)))
        run = outer.start(running)
        gate.wait_reached()
        with console(running, "plain", file=file):
            gate.open()
            assert run.wait(WAIT)
    lines = timeless(file.getvalue()).splitlines()
    assert "✓   0.00s  inner / held" in lines
    assert lines[-1].endswith("outer  2 succeeded")


def test_a_title_in_front_of_output_is_no_command_of_a_ci_system() -> None:
    file = Text()
    titles = ["::error::x", "##[error]x", "+++ x"]
    with executor() as running, console(running, "stream", file=file):
        for title in titles:
            running.execute(scripted(title, script("out\n")))
    lines = [line for line in file.getvalue().splitlines() if line.endswith("│ out")]
    assert len(lines) == len(titles)
    assert all(line.startswith("│ ") for line in lines)


def test_a_task_that_is_interrupted_is_no_failure() -> None:
    def interrupts(context: TaskContext) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert context.wait_cancelled(WAIT)
        context.raise_if_cancelled()

    file = Text()
    with (
        executor() as running,
        console(running, "plain", file=file),
        pytest.raises(KeyboardInterrupt),
    ):
        running.execute(scripted("alone", interrupts))
    lines = timeless(file.getvalue()).splitlines()
    assert "⊘   0.00s  alone  interrupted" in lines
    assert lines[-1] == "⊘   0.00s  tasks interrupted  1 cancelled"


def test_why_tasks_are_cancelled_stands_above_them() -> None:
    graph, events = TaskGraph("stopped"), []
    graph.add(scripted("one", lambda _context: graph.cancel()))
    with executor() as running:
        running.events.subscribe(events.append, types=TaskEventType)
        graph.run(running)
    kinds = [event.type for event in events]
    stop = Stopping(events.pop(kinds.index(TaskEventType.RUN_STOPPING)), on_main=True)
    late = [*events[:-1], stop, events[-1]]
    cancelled = [event.type for event in events].index(TaskEventType.CANCELLED)
    assert _stops_first(list(late)).index(stop) == cancelled
    assert [item for item in _stops_first(list(late)) if item is not stop] == events
    assert _stops_first([stop, *events]) == [stop, *events]
