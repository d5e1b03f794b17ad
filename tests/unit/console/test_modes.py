"""What each mode prints: nothing lost, nothing mixed, failures at once and at the end."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import threading
from datetime import datetime

import pytest

from consolekit import Text, executor, plain, script, scripted, shown, timeless
from support import WAIT, wait
from ttasks import RetryPolicy, SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.console import MODES, console

LINE_MODES = (
    "stream",
    "grouped",
    "keep-order",
    "github",
    "gitlab",
    "azure",
    "buildkite",
    "teamcity",
)


def checks() -> TaskGraph:
    """A graph in which one thing fails that another needs."""
    graph = TaskGraph("checks")
    graph.add(scripted("import", script("fine\n")))
    lint = graph.add(scripted("lint", script("bad line\nworse", fails=ValueError("2 errors"))))
    graph.add(scripted("deploy", script("never\n")), after=lint)
    return graph


def test_plain_is_a_line_per_change_and_the_output_of_what_failed() -> None:
    lines = timeless(shown(checks(), "plain", executor())).splitlines()
    assert lines[:3] == [
        "▸          import",
        "✓   0.00s  import",
        "▸          lint",
    ]
    assert lines[3] == "✗   0.00s  lint  ValueError: 2 errors"
    assert lines[4:6] == ["  │ bad line", "  │ worse"]
    assert "  ╰ blocked deploy" in lines
    assert "■          deploy  blocked by 'lint'" in lines
    assert not any("fine" in line for line in lines)


def test_a_failure_is_told_at_once_and_again_at_the_end() -> None:
    lines = plain(shown(checks(), "plain", executor())).splitlines()
    assert [line.strip() for line in lines].count("│ bad line") == 2
    assert "1 failed, 1 blocked, 1 succeeded" in lines[-1]


def test_a_failure_is_not_told_twice_in_a_row() -> None:
    graph = TaskGraph("one")
    graph.add(scripted("lint", script("bad line\n", fails=ValueError("no"))))
    lines = shown(graph, "plain", executor()).splitlines()
    assert [line.strip() for line in lines].count("│ bad line") == 1


def test_at_most_the_last_forty_lines_are_shown_of_a_failure() -> None:
    graph = TaskGraph("one")
    text = "".join(f"line {n}\n" for n in range(100))
    graph.add(Task.bash(f"printf %s '{text}'; exit 3", title="long"))
    lines = [line.strip() for line in shown(graph, "plain").splitlines()]
    assert "│ line 99" in lines
    assert "│ line 60" in lines
    assert "│ line 59" not in lines
    assert any(line.endswith("long  exit code 3") for line in lines)


@pytest.mark.parametrize("mode", ["plain", "quiet", "github"])
@pytest.mark.parametrize("color", [False, True])
def test_long_lines_of_a_failure_are_cut(mode: str, color: bool) -> None:
    graph = TaskGraph("one")
    long = script("\x1b[31mx" * 20_000 + "\n", fails=ValueError("y" * 3_000_000))
    graph.add(scripted("long", long))
    graph.add(scripted("many", script(*["z" * 3000 + "\n"] * 40, fails=ValueError("no"))))
    text = shown(graph, mode, executor(), color=color)
    failures = text[text.rindex("Failures") :] if mode != "quiet" else text
    assert len(failures) < 60_000
    lines = [plain(line) for line in failures.splitlines()]
    assert any(line.endswith("… 1,000 more characters") for line in lines)
    assert any("yyy" in line and line.endswith("more characters") for line in lines)
    assert all(len(line) < 5000 for line in lines)


def test_the_command_of_a_failure_is_given_to_run_it_again(tmp_path) -> None:
    graph = TaskGraph("one")
    folder = tmp_path / "a folder"
    folder.mkdir()
    graph.add(Task.bash("exit 3", title="bash", cwd=folder))
    text = shown(graph, "plain")
    assert f"again   cd '{folder}' && exit 3" in text


def test_a_strict_command_is_given_as_a_strict_one() -> None:
    graph = TaskGraph("one")
    graph.add(Task.bash("false | echo 'a b'", title="strict", strict=True))
    (line,) = [line for line in shown(graph, "plain").splitlines() if " again " in line]
    command = line.split("again", 1)[1].strip()
    again = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "a b\n")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("grep x", {"stdin": "abc"}),
        ("test $A = 2", {"env": {"A": "1"}}),
        ("false # hunter2", {}),
        ("echo one\nfalse", {}),
        ("grep '\t' /dev/null", {}),
    ],
)
def test_no_command_is_given_that_would_not_do_the_same(command, options) -> None:
    graph = TaskGraph("one")
    graph.add(Task.bash(command, title="task", **options))
    text = shown(graph, "plain", TaskExecutor(redact=["hunter2"]))
    assert "1 failed" in text
    assert " again " not in text


def test_who_knows_better_says_how_to_run_it_again() -> None:
    text = shown(checks(), "plain", executor(), rerun=lambda task: f"make {task.title}")
    assert "again   make lint" in text


def test_a_rerun_that_raises_does_no_harm_and_is_told_once(monkeypatch) -> None:
    def broken(task: Task) -> str:
        raise SystemExit(f"no way to run {task.title}")

    stderr = Text()
    monkeypatch.setattr("sys.stderr", stderr)
    text = shown(checks(), "plain", executor(), rerun=broken)
    assert "1 failed" in text
    assert "again" not in text
    assert stderr.getvalue().count("SystemExit: no way to run lint") == 1


def test_a_rerun_that_returns_something_else_is_told(monkeypatch) -> None:
    stderr = Text()
    monkeypatch.setattr("sys.stderr", stderr)
    text = shown(checks(), "plain", executor(), rerun=lambda _task: 5)
    assert "1 failed" in text
    assert "again" not in text
    message = "TypeError: the result of rerun must be a str or None, got int: 5"
    assert stderr.getvalue().count(message) == 1


def test_a_rerun_of_several_lines_is_shown_line_by_line() -> None:
    text = shown(checks(), "plain", executor(), rerun=lambda _task: "cd app\nmake\x1b[2J lint\n")
    lines = text.splitlines()
    at = lines.index("    again   cd app")
    assert lines[at + 1] == "            make lint"


def test_a_retry_says_when_and_what_became_of_it() -> None:
    fails = iter([OSError("reset by peer"), None])

    def flaky(context) -> None:
        error = next(fails)
        if error is not None:
            raise error

    graph = TaskGraph("one")
    graph.add(scripted("fetch", flaky, retry=RetryPolicy(max_attempts=2)))
    lines = timeless(shown(graph, "plain", executor())).splitlines()
    assert "↻          fetch  reset by peer; attempt 2 in 0s" in lines
    assert "✓   0.00s  fetch  attempt 2" in lines
    assert "1 succeeded, 1 flaky" in lines[-1]


def test_quiet_prints_failures_once_and_the_last_line() -> None:
    lines = timeless(shown(checks(), "quiet", executor())).splitlines()
    assert lines[0] == "✗   0.00s  lint  ValueError: 2 errors"
    assert [line.strip() for line in lines].count("│ bad line") == 1
    assert "1 failed" in lines[-1]


def test_stream_names_the_task_of_each_line() -> None:
    lines = shown(checks(), "stream", executor()).splitlines()
    assert "import │ fine" in lines
    assert "lint   │ bad line" in lines
    assert "lint   │ worse" in lines


def test_grouped_prints_output_below_the_line_of_its_task() -> None:
    lines = timeless(shown(checks(), "grouped", executor())).splitlines()
    at = lines.index("✓   0.00s  import")
    assert lines[at + 1] == "  │ fine"
    at = lines.index("✗   0.00s  lint  ValueError: 2 errors")
    assert lines[at + 1 : at + 3] == ["  │ bad line", "  │ worse"]


@pytest.mark.parametrize("mode", LINE_MODES)
def test_ten_tasks_at_once_lose_mix_and_repeat_nothing(mode: str) -> None:
    each = 10_000 if mode in ("stream", "grouped") else 1000
    barrier = threading.Barrier(10)

    def chatter(context) -> None:
        barrier.wait(WAIT)
        for begin in range(0, each, 50):
            context.emit_output(
                "".join(f"{context.title}:{n}:é\n" for n in range(begin, begin + 50))
            )

    graph = TaskGraph("many")
    for number in range(10):
        graph.add(scripted(f"task-{number}", chatter))
    text = plain(shown(graph, mode, executor(), workers=10))
    found = [line.split("│ ", 1)[1] for line in text.splitlines() if "│ task-" in line]
    for number in range(10):
        mine = [line for line in found if line.startswith(f"task-{number}:")]
        assert mine == [f"task-{number}:{n}:é" for n in range(each)]
    if mode != "stream":
        owners = [line.split(":")[0] for line in found]
        changes = sum(a != b for a, b in itertools.pairwise(owners))
        assert changes == 9, "the output of two tasks is mixed"


def test_keep_order_shows_one_task_live_and_the_others_when_it_is_their_turn() -> None:
    file = Text()
    first_began, second_printed = threading.Event(), threading.Event()
    first_may_end = threading.Event()

    def first(context) -> None:
        context.emit_output("first: begin\n")
        first_began.set()
        wait(second_printed)
        wait(first_may_end)
        context.emit_output("first: end\n")

    def second(context) -> None:
        context.emit_output("second: all\n")
        second_printed.set()

    seen = threading.Event()
    write = file.write

    def watched(text: str) -> int:
        if "first: begin" in text:
            seen.set()
        return write(text)

    file.write = watched
    with executor() as running, console(running, "keep-order", file=file):
        futures = [running.submit(scripted("first", first))]
        wait(first_began)
        futures.append(running.submit(scripted("second", second)))
        wait(seen)  # live: it is shown while it runs
        wait(second_printed)
        assert "second: all" not in file.getvalue()
        first_may_end.set()
        for future in futures:
            future.result(WAIT)
    lines = [line.strip() for line in file.getvalue().splitlines()]
    order = [line for line in lines if line.startswith("│")]
    assert order == ["│ first: begin", "│ first: end", "│ second: all"]


def test_jsonl_is_json_and_nothing_else() -> None:
    graph = checks()
    objects = [json.loads(line) for line in shown(graph, "jsonl", executor()).splitlines()]
    kinds = [item["event"] for item in objects if item.get("name") == "lint"]
    assert kinds == ["started", "output", "failed"]
    (failed,) = [item for item in objects if item["event"] == "failed"]
    assert failed["error"] == "2 errors"
    assert failed["reason"] == "handler"
    assert objects[0] == {
        "event": "run_started",
        "time": objects[0]["time"],
        "run": objects[1]["run"],
        "title": "checks",
        "total": 3,
    }
    assert objects[-1]["event"] == "run_ended"
    times = [datetime.fromisoformat(item["time"]) for item in objects]
    assert times == sorted(times)
    assert objects[-1]["counts"] == {"succeeded": 1, "failed": 1, "blocked": 1}


def test_what_a_task_prints_cannot_reach_beyond_its_line() -> None:
    evil = "\x1b[2Jcleared\x1b[10A\n10%\r20%\r30%\n\x1b]0;title\x07shown\n\x1b[31mred\n"
    graph = TaskGraph("evil\x1b[2J")
    graph.add(scripted("e\x1b[31mv\nil", script(evil)))
    text = shown(graph, "grouped", executor())
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [line.strip() for line in text.splitlines()]
    assert [line for line in lines if line.startswith("│")] == [
        "│ cleared",
        "│ 30%",
        "│ shown",
        "│ red",
    ]


def test_colours_of_tasks_are_kept_where_there_are_colours() -> None:
    graph = TaskGraph("one")
    graph.add(scripted("red", script("\x1b[31mred\n")))
    assert "\x1b[31mred\x1b[0m\n" in shown(graph, "grouped", executor(), color=True)
    assert "\x1b" not in shown(graph, "grouped", executor(), color=False)


def test_ascii_where_symbols_cannot_be_shown(monkeypatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    for mode in ("plain", "stream", "grouped", "keep-order", "quiet"):
        text = shown(checks(), mode, executor())
        assert text.isascii(), text
        assert "FAIL" in text


def test_tasks_without_a_graph_have_a_last_line_too() -> None:
    file = Text()
    with executor() as running, console(running, "plain", file=file):
        running.execute(scripted("one", script()))
        running.submit(scripted("two", script())).result(WAIT)
    assert "2 succeeded" in file.getvalue().splitlines()[-1]


def test_a_graph_that_goes_on_counts_what_it_has_already(tmp_path) -> None:
    graph = checks()
    first = shown(graph, "plain", executor())
    assert "1 failed, 1 blocked, 1 succeeded" in first.splitlines()[-1]
    again = shown(graph, "plain", executor())
    assert "1 failed, 1 blocked, 1 reused" in again.splitlines()[-1]
    assert "import" not in again


def test_what_a_resume_takes_over_is_reused(tmp_path) -> None:
    def graph_of(command: str) -> TaskGraph:
        graph = TaskGraph("resumed", key="resumed")
        first = graph.add(Task.bash("true", title="first"))
        graph.add(Task.bash(command, title="second"), after=first)
        return graph

    path = tmp_path / "ledger.db"
    with SQLiteStore(path) as store:
        graph_of("false").run(TaskExecutor(store))
        file = Text()
        with TaskExecutor(store) as running, console(running, "plain", file=file):
            graph_of("true").run(running, resume=True)
    lines = timeless(file.getvalue()).splitlines()
    assert lines[0].startswith("↺")
    assert "1 succeeded, 1 reused" in lines[-1]


def test_two_runs_in_one_console_have_a_last_line_each() -> None:
    file = Text()
    with executor() as running, console(running, "plain", file=file):
        for title in ("one", "two"):
            graph = TaskGraph(title)
            graph.add(scripted(f"in {title}", script()))
            graph.run(running)
    lasts = [line for line in file.getvalue().splitlines() if "succeeded" in line]
    assert [line.split()[2] for line in lasts] == ["one", "two"]


def test_a_console_forgets_the_runs_that_have_ended() -> None:
    with executor() as running:
        made = console(running, "plain", file=Text())
        with made:
            for number in range(3):
                graph = TaskGraph(f"run {number}")
                graph.add(scripted("task", script("out\n")))
                graph.run(running)
        assert not made._board.rows
        assert not made._board.sections


def test_nothing_is_printed_when_nothing_happened() -> None:
    for mode in ("plain", "quiet", "grouped"):
        file = Text()
        with executor() as running, console(running, mode, file=file):
            pass
        assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mode": "loud"}, ValueError, "mode must be one of auto, live"),
        ({"mode": 3}, TypeError, "mode must be a str"),
        ({"color": "yes"}, TypeError, "color must be a bool"),
        ({"logs": 3}, TypeError, "logs must be a path, got int"),
        ({"logs": ""}, ValueError, "logs must be the path of a folder"),
        ({"logs": "a\0b"}, ValueError, "logs must be the path of a folder"),
        ({"logs": b"logs"}, TypeError, "logs must be a path, got bytes"),
        ({"rerun": "make"}, TypeError, "rerun must be a callable"),
        ({"file": "out.txt"}, TypeError, "file must be a text file or None"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_shown(arguments, error, message) -> None:
    with executor() as running, pytest.raises(error, match=message):
        console(running, **arguments)


def test_a_file_that_cannot_be_written_is_refused(tmp_path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("")
    expected = "file must be a file that is open for writing"
    with executor() as running, path.open() as file, pytest.raises(ValueError, match=expected):
        console(running, file=file)
    with executor() as running, pytest.raises(ValueError, match=expected):
        console(running, file=file)  # it is closed by now


def test_something_else_than_an_executor_is_refused() -> None:
    with pytest.raises(TypeError, match="executor must be a TaskExecutor"):
        console(TaskGraph("x"))


def test_a_console_is_opened_once() -> None:
    with executor() as running:
        made = console(running, "quiet", file=Text())
        with made:
            pass
        with pytest.raises(RuntimeError, match="opened once"), made:
            pass


def test_the_modes_are_those_of_the_documentation() -> None:
    assert MODES[:8] == (
        "auto",
        "live",
        "plain",
        "stream",
        "grouped",
        "keep-order",
        "quiet",
        "jsonl",
    )


def test_live_without_its_extra_says_what_to_install(monkeypatch) -> None:
    import sys

    from ttasks import MissingExtraError

    monkeypatch.delitem(sys.modules, "ttasks.console.live", raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with executor() as running, pytest.raises(MissingExtraError, match=r"ttasks\[rich\]"):
        console(running, "live", file=Text(terminal=True))


def test_live_without_a_terminal_is_plain() -> None:
    with executor() as running:
        assert console(running, "live", file=Text()).mode == "plain"


def test_jsonl_of_tasks_without_a_graph_tells_of_no_run() -> None:
    output = io.StringIO()
    with executor() as running, console(running, "jsonl", file=output):
        running.execute(scripted("alone", script("hello\n")))
    kinds = [json.loads(line)["event"] for line in output.getvalue().splitlines()]
    assert kinds == ["started", "output", "succeeded"]


def test_jsonl_says_when_the_program_printed(monkeypatch) -> None:
    output = Text()
    monkeypatch.setattr("sys.stdout", output)
    with executor() as running, console(running, "jsonl"):
        print("hello")
    (item,) = [json.loads(line) for line in output.getvalue().splitlines()]
    assert (item["event"], item["text"]) == ("printed", "hello")
    assert datetime.fromisoformat(item["time"]).tzinfo is not None
