"""Log files of attempts, log files of tasks' records, events as records."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from consolekit import LOGGER, Text, executor, log_a_warning, script, scripted
from support import WAIT
from ttasks import DependencyPolicy, RetryPolicy, Task, TaskGraph, TaskLogFilter
from ttasks.console import TaskLogHandler, console, log_events
from ttasks.console.logfiles import file_name

# --- logs=folder --------------------------------------------------------------------------------


def test_every_attempt_has_its_file_with_its_whole_output(tmp_path: Path) -> None:
    fails = iter([OSError("reset"), None])

    def flaky(context) -> None:
        context.emit_output("connecting\n" * 1000)
        context.emit_output("no newline")
        error = next(fails)
        if error is not None:
            raise error

    graph = TaskGraph("logs")
    graph.add(scripted("fetch it", flaky, retry=RetryPolicy(max_attempts=2)))
    graph.add(scripted("silent", script()))
    with executor() as running, console(running, "quiet", logs=tmp_path, file=Text()) as made:
        graph.run(running)
    assert made.logs == tmp_path
    (run,) = tmp_path.iterdir()
    assert sorted(path.name for path in run.iterdir()) == ["fetch_it.1.log", "fetch_it.2.log"]
    assert (run / "fetch_it.2.log").read_text() == "connecting\n" * 1000 + "no newline"
    first = (run / "fetch_it.1.log").read_text()
    assert first.startswith("connecting\n" * 1000 + "no newline")
    assert "[ttasks] attempt 1 failed: reset" in first


def test_a_failure_names_its_log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Text()
    graph = TaskGraph("logs")
    graph.add(scripted("lint", script("bad\n", fails=ValueError("no"))))
    with executor() as running, console(running, "plain", logs="logs", file=file):
        graph.run(running)
    (line,) = [line for line in file.getvalue().splitlines() if " log " in line]
    path = Path(line.split()[-1])
    assert not path.is_absolute()
    assert path.read_text().startswith("bad\n")


def test_tasks_of_one_title_and_titles_that_are_no_names(tmp_path: Path) -> None:
    graph = TaskGraph("logs")
    for title in ("same", "same", "SAME", "../../etc/passwd", "a/b\\c:d\n", "é" * 300, "..."):
        graph.add(scripted(title, script(f"{title}\n")))
    with executor() as running, console(running, "quiet", logs=tmp_path, file=Text()):
        graph.run(running, 1)
    (run,) = tmp_path.iterdir()
    files = sorted(run.iterdir())
    assert len(files) == 7
    assert len({path.name.lower() for path in files}) == 7
    assert {"same.1.log", "same-2.1.log", "SAME-3.1.log", "task.1.log"} <= {p.name for p in files}
    assert all(path.is_file() for path in files)


def test_names_of_files_are_harmless() -> None:
    assert file_name("lint: strict, 100%") == "lint_strict_100"
    assert file_name("../..") == "task"
    assert len(file_name("x" * 500)) <= 80


def test_two_runs_have_a_folder_each(tmp_path: Path) -> None:
    with executor() as running, console(running, "quiet", logs=tmp_path, file=Text()):
        for _ in range(2):
            graph = TaskGraph("logs")
            graph.add(scripted("task", script("out\n")))
            graph.run(running)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_goes_away_costs_the_run_nothing(tmp_path: Path) -> None:
    file = Text()
    folder = tmp_path / "logs"
    graph = TaskGraph("logs")
    with executor() as running, console(running, "plain", logs=folder, file=file):
        folder.rmdir()
        folder.write_text("in the way")
        graph.add(scripted("task", script("out\n")))
        graph.run(running)
    assert graph.ok
    assert "the log files are incomplete" in file.getvalue()


def test_a_folder_that_cannot_be_made_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with executor() as running, pytest.raises(OSError, match="file"):
        console(running, "quiet", logs=tmp_path / "file")


def test_a_hundred_tasks_print_into_their_files_at_once(tmp_path: Path) -> None:
    graph = TaskGraph("logs")
    for number in range(100):
        graph.add(Task.bash(f"for i in 1 2 3; do echo {number}:$i; done", title=f"t{number}"))
    with executor() as running, console(running, "quiet", logs=tmp_path, file=Text()):
        graph.run(running, 4)
    (run,) = tmp_path.iterdir()
    for number in range(100):
        assert (run / f"t{number}.1.log").read_text() == "".join(
            f"{number}:{i}\n" for i in (1, 2, 3)
        )


# --- TaskLogHandler -----------------------------------------------------------------------------


@pytest.fixture
def logger():
    made = logging.getLogger(LOGGER)
    made.setLevel(logging.DEBUG)
    made.propagate = False
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)
        handler.close()


def test_records_go_to_the_file_of_their_task(tmp_path: Path, logger: logging.Logger) -> None:
    logger.addHandler(TaskLogHandler(tmp_path))

    def works(context) -> None:
        logger.info("working on %s", context.title)

    logger.info("outside of any task")
    with executor() as running:
        for title in ("one", "two", "two"):
            running.execute(scripted(title, works))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.log", "two-2.log", "two.log"]
    text = (tmp_path / "one.log").read_text()
    assert text.endswith("INFO ttasks-test-console: working on one\n")


def test_more_tasks_than_files_may_be_open(tmp_path: Path, logger: logging.Logger) -> None:
    logger.addHandler(TaskLogHandler(tmp_path))

    def works(context) -> None:
        logger.info("begin")
        logger.info("end")

    graph = TaskGraph("many")
    for number in range(200):
        graph.add(scripted(f"t{number}", works))
    with executor() as running:
        graph.run(running, 4)
    for number in range(200):
        assert len((tmp_path / f"t{number}.log").read_text().splitlines()) == 2


def test_records_of_worker_processes_find_their_file(
    tmp_path: Path, logger: logging.Logger
) -> None:
    logger.addHandler(TaskLogHandler(tmp_path))
    with executor() as running:
        running.execute(Task.python(log_a_warning, title="far away", backend="process"))
    assert "from a process" in (tmp_path / "far_away.log").read_text()


# --- log_events ---------------------------------------------------------------------------------


class Kept(logging.Handler):
    """Keeps records, with what `TaskLogFilter` knows of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(TaskLogFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_events_become_records_that_know_their_task(logger: logging.Logger) -> None:
    kept = Kept()
    logger.addHandler(kept)
    graph = TaskGraph("checks")
    lint = graph.add(scripted("lint", script("bad\n", fails=ValueError("2 errors"))))
    graph.add(scripted("deploy", script()), after=lint)
    with executor() as running:
        stop = log_events(running, logger=logger)
        graph.run(running, 1)
        stop()
        stop()
        running.execute(scripted("later", script()))
    told = [(r.levelname, r.task_title, r.task_event) for r in kept.records]
    assert told == [
        ("INFO", "", "run_started"),
        ("DEBUG", "lint", "started"),
        ("DEBUG", "lint", "output"),
        ("ERROR", "lint", "failed"),
        ("WARNING", "deploy", "blocked"),
        ("INFO", "", "run_ended"),
    ]
    failed = kept.records[3]
    assert (failed.task_id, failed.task_attempt) == (lint.id, 1)
    assert "2 errors" in failed.getMessage()
    text = logging.Formatter("%(message)s").format(failed)
    assert text.splitlines()[1] == "Traceback (most recent call last):"
    assert text.endswith("ValueError: 2 errors")


def test_what_did_not_run_says_once_why(logger: logging.Logger) -> None:
    kept = Kept()
    logger.addHandler(kept)
    graph = TaskGraph()
    lint = graph.add(scripted("lint", script(fails=ValueError("2 errors"))))
    graph.add(scripted("deploy", script()), after=lint)
    graph.add(scripted("extra", script()), after=lint, on_dep_failure=DependencyPolicy.SKIP)
    with executor() as running:
        log_events(running, logger=logger)
        graph.run(running, 1)
    said = {record.task_title: record.getMessage() for record in kept.records}
    assert said["deploy"] == "deploy blocked by 'lint'"
    assert said["extra"] == "extra skipped: 'lint' failed"


def test_a_retry_is_a_warning(logger: logging.Logger) -> None:
    kept = Kept()
    logger.addHandler(kept)
    fails = iter([OSError("reset"), None])

    def flaky(context) -> None:
        error = next(fails)
        if error is not None:
            raise error

    with executor() as running:
        stop = log_events(running, logger=LOGGER)
        running.execute(scripted("fetch", flaky, retry=RetryPolicy(max_attempts=2, backoff=0.01)))
        stop()
    (record,) = [r for r in kept.records if r.task_event == "failed"]
    assert record.levelname == "WARNING"
    assert record.getMessage() == "fetch failed: reset (attempt 2 in 0.01 s)"


def test_wrong_arguments_are_refused() -> None:
    with executor() as running, pytest.raises(TypeError, match="logger must be a Logger"):
        log_events(running, logger=3)
    with pytest.raises(TypeError, match="executor must be a TaskExecutor"):
        log_events("executor")


def test_records_of_any_subscriber_know_the_task_of_its_event(logger: logging.Logger) -> None:
    kept = Kept()
    logger.addHandler(kept)

    def subscriber(event) -> None:
        logger.info("told of %s", event.type.value)

    with executor(redact=["hunter2"]) as running:
        running.events.subscribe(subscriber)
        task = scripted("with hunter2", script("out\n"))
        running.submit(task).result(WAIT)
    assert {(r.task_id, r.task_title, r.task_attempt) for r in kept.records} == {
        (task.id, "with ***", 1)
    }
    logger.info("outside")
    assert kept.records[-1].task_id == ""


def test_events_of_runs_are_records_of_no_task_and_in_no_file(
    tmp_path: Path, logger: logging.Logger
) -> None:
    kept, files = Kept(), TaskLogHandler(tmp_path)
    logger.addHandler(kept)
    logger.addHandler(files)
    graph = TaskGraph("checks")
    graph.add(scripted("lint", script(fails=ValueError("2 errors"))))
    graph.add(scripted("test", script()))
    with executor() as running:
        stop = log_events(running, logger=logger)
        graph.run(running, 1, fail_fast=True)
        stop()
    files.close()
    told = [(r.levelname, r.task_event, r.task_id) for r in kept.records if "run_" in r.task_event]
    assert told == [
        ("INFO", "run_started", ""),
        ("WARNING", "run_stopping", ""),
        ("INFO", "run_ended", ""),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lint.log", "test.log"]


@pytest.mark.parametrize(("folder", "error"), [(None, TypeError), (1, TypeError), ("", ValueError)])
def test_a_log_handler_refuses_what_is_no_folder(folder: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="folder must be"):
        TaskLogHandler(folder)
