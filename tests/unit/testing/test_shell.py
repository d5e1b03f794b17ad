"""FakeShell keeps to what it says, and behaves as real commands do."""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path
from typing import Any

import pytest

from support import background
from ttasks import Task, TaskEventType, TaskExecutor, TaskStatus
from ttasks.testing import EventRecorder, FakeClock, FakeShell, ShellReply, make_context, shell


def execute(fake: FakeShell, task: Task, **options: Any) -> Any:
    with TaskExecutor(**options) as executor:
        fake.install(executor)
        return executor.attempt(task)


def test_its_example_runs() -> None:
    found = doctest.testmod(shell)
    assert found.attempted
    assert not found.failed


def test_bash_and_powershell_commands_are_answered_and_recorded() -> None:
    fake = FakeShell().on("ls *", "a\nb\n").on("Get-Item", "item")
    with TaskExecutor() as executor:
        fake.install(executor)
        listed = executor.execute(Task.bash("ls -l", title="list", cwd="/", env={"A": "1"}))
        got = executor.execute(Task.powershell("Get-Item"))
    assert (listed.output, listed.stdout, listed.stderr, listed.returncode) == (
        "a\nb\n",
        "a\nb\n",
        "",
        0,
    )
    assert got.output == "item"
    assert fake.commands == ["ls -l", "Get-Item"]
    call = fake.calls[0]
    assert (call.title, call.type.value, call.attempt) == ("list", "bash", 1)
    assert (call.options["cwd"], call.options["env"]) == ("/", {"A": "1"})


@pytest.mark.parametrize(
    ("pattern", "command", "matches"),
    [
        ("git *", "git push\ngit pull", True),
        ("git *", "git", False),
        ("git", "git push", False),
        ("[ -f x? ]", "[ -f x? ]", True),
        ("[ -f x? ]", "[ -f xy ]", False),
        ("*.txt", "cat a.txt", True),
        (re.compile(r"\bpush\b"), "git push --force", True),
        (re.compile(r"^push"), "git push", False),
    ],
)
def test_a_pattern_matches_the_whole_command_and_only_a_star_is_special(
    pattern: Any, command: str, matches: bool
) -> None:
    result = execute(FakeShell().on(pattern, "yes"), Task.bash(command))
    assert result.ok is matches


def test_the_pattern_added_last_answers() -> None:
    fake = FakeShell().on("*", "any").on("date", "monday")
    assert execute(fake, Task.bash("date")).output == "monday"
    assert execute(fake, Task.bash("uname")).output == "any"


def test_answers_come_in_order_and_the_last_is_repeated() -> None:
    fake = FakeShell().on("flaky", 7, "up")
    results = [execute(fake, Task.bash("flaky")) for _ in range(3)]
    assert [result.returncode for result in results] == [7, 0, 0]
    assert [result.output for result in results] == ["", "up", "up"]


def test_an_unknown_command_is_refused_with_what_was_given() -> None:
    fake = FakeShell().on("git *").on(re.compile("make|ninja"))
    result = execute(fake, Task.bash("rm -rf build", title="clean"))
    assert result.status is TaskStatus.FAILED
    assert "'rm -rf build' of task 'clean'" in result.error
    assert "'git *', 'make|ninja'" in result.error
    assert [call.command for call in fake.refused] == ["rm -rf build"]
    assert fake.commands == ["rm -rf build"]


def test_a_failure_looks_like_that_of_a_real_command() -> None:
    text = "echo out; echo one >&2; echo two >&2; exit 3"
    fake = FakeShell().on("*", ShellReply("out\n", "one\ntwo\n", 3))
    faked = execute(fake, Task.bash(text))
    with TaskExecutor() as executor:
        real = executor.attempt(Task.bash(text))
    for name in ("status", "error", "stdout", "stderr", "returncode", "termination_reason"):
        assert getattr(faked, name) == getattr(real, name), name
    assert type(faked.raw) is type(real.raw)


def test_output_is_announced_line_by_line_before_the_end() -> None:
    recorder = EventRecorder()
    fake = FakeShell().on("build", ShellReply("one\ntwo\nrest", "oops\n", delay=60))
    clock = FakeClock()
    task = Task.bash("build")
    with TaskExecutor(clock=clock) as executor:
        fake.install(executor)
        executor.events.subscribe(recorder)
        future = executor.submit(task)
        recorder.wait_for(task, TaskEventType.OUTPUT)
        clock.wait_for_waits()
        said = [event.output_chunk for event in recorder.of(task) if event.output_chunk]
        clock.advance(60)
        result = future.result()
    assert said == ["one\n", "two\n", "oops\n"]
    assert result.duration == 60
    recorder.check_order()
    texts = {"stdout": "", "stderr": ""}
    for event in recorder.of(task):
        if event.output_stream is not None:
            texts[event.output_stream] += event.output_chunk or ""
    assert texts == {"stdout": "one\ntwo\nrest", "stderr": "oops\n"}


def test_a_timeout_goes_by_the_clock_and_keeps_the_output() -> None:
    clock = FakeClock()
    fake = FakeShell().on("serve", ShellReply("listening\n", delay=3600))
    with TaskExecutor(clock=clock) as executor:
        fake.install(executor)
        future = background(lambda: executor.attempt(Task.bash("serve", timeout=5)))
        assert clock.advance_to_next() == 5
        result = future.result(10)
    assert (result.status, result.termination_reason) == (TaskStatus.FAILED, "timeout")
    assert result.output == "listening\n"
    assert result.error.startswith("Task timed out after 5 seconds")


def test_a_cancellation_ends_a_delay() -> None:
    clock = FakeClock()
    fake = FakeShell().on("serve", ShellReply("listening\n", delay=3600))
    task = Task.bash("serve")
    with TaskExecutor(clock=clock) as executor:
        fake.install(executor)
        future = background(lambda: executor.attempt(task))
        clock.wait_for_waits()
        executor.cancel(task)
        result = future.result(10)
    assert result.status is TaskStatus.CANCELLED
    assert result.output == "listening\n"


def test_secrets_are_hidden_and_a_limit_is_kept() -> None:
    fake = FakeShell().on("print", "hunter2" + "x" * 100)
    result = execute(fake, Task.bash("print", output_limit=10), redact=["hunter2"])
    assert result.output_truncated
    (path,) = result.raw.spill.values()
    try:
        assert Path(path).read_text() == "***" + "x" * 100
    finally:
        os.unlink(path)


def test_a_callable_answers_by_the_call() -> None:
    fake = FakeShell().on("echo *", lambda call: call.command.partition(" ")[2] + "\n")
    assert execute(fake, Task.bash("echo hello")).output == "hello\n"

    def refuse(_call: Any) -> str:
        raise OSError("disk full")

    assert "disk full" in execute(FakeShell().on("*", refuse), Task.bash("x")).error
    assert "got NoneType" in execute(FakeShell().on("*", lambda _: None), Task.bash("x")).error


def test_it_works_with_a_context_made_for_a_test() -> None:
    context = make_context(Task.bash("ls"))
    assert context.run(FakeShell().on("ls", "a\n")).stdout == "a\n"
    assert context.output == "a\n"


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: FakeShell().on(3), TypeError, "pattern must be a str"),
        (lambda: FakeShell().on(re.compile(b"x")), TypeError, "pattern must be a str"),
        (lambda: FakeShell().on(" "), ValueError, "pattern must be a non-empty str"),
        (lambda: FakeShell().on("x", None), TypeError, "answers must be a str, an int"),
        (lambda: FakeShell().on("x", True), TypeError, "got bool: True"),
        (lambda: ShellReply(delay=-1), ValueError, "delay must be"),
        (lambda: ShellReply(returncode="1"), TypeError, "returncode must be an int"),
        (lambda: ShellReply(b"x"), TypeError, "stdout must be a str"),
    ],
)
def test_mistakes_are_named(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make()
