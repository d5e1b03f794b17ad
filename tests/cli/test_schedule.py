"""``ttasks schedule``: what is next, runs, and clean ends."""

from __future__ import annotations

import json
import signal
from typing import Any

import jsonschema
import pytest

from ttasks import SQLiteStore
from ttasks.cli import SCHEMA

_VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(SCHEMA.read_text()), format_checker=jsonschema.FormatChecker()
)
JOBS = """
from datetime import UTC, datetime, timedelta
from ttasks import Task, TaskExecutor, TaskGraph
from ttasks.schedule import Scheduler

def work():
    graph = TaskGraph("work", key="work")
    first = graph.add(Task.bash("touch begun; sleep {seconds}", title="first"))
    graph.add(Task.bash("touch cleaned", title="clean"), after=first, finally_=True)
    return graph

def build_scheduler(executor):
    scheduler = Scheduler(executor)
    scheduler.every(0.2).do(work)
    return scheduler

def once(executor):
    scheduler = Scheduler(executor, on_error="{on_error}")
    scheduler.at(datetime.now(UTC) + timedelta(seconds=0.3)).do({once})
    return scheduler

def own():
    return Scheduler(TaskExecutor())

def boom():
    raise LookupError("no data")

def nothing(executor):
    return 3

def raises(executor):
    raise LookupError("no scheduler")

def idle(executor):
    scheduler = Scheduler(executor)
    scheduler.every(5)
    return scheduler
"""


def write(folder: Any, *, seconds: float = 0, once: str = "work", on_error: str = "log") -> None:
    text = JOBS.replace("{seconds}", str(seconds)).replace("{once}", once)
    folder.write("jobs.py", text.replace("{on_error}", on_error))


def test_next_prints_slots_and_runs_nothing(folder: Any, cli: Any) -> None:
    write(folder)
    done = cli("schedule", "jobs.py", "--next", "3")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["NEXT", "SCHEDULE", "RULE"]
    assert [line.split()[3:] for line in lines[1:]] == [["work", "every", "0.2", "s"]] * 3
    assert not (folder.path / ".ttasks").exists()
    found = cli("schedule", "jobs.py:build_scheduler", "--next", "2", "--json").json
    _VALIDATOR.validate(found)
    assert [item["schedule"] for item in found["next"]] == ["work", "work"]


def test_it_ends_by_itself_when_nothing_is_left(folder: Any) -> None:
    write(folder)
    done = folder.real("schedule", "jobs.py:once", "--json")
    assert (done.code, done.err) == (0, "")
    coming, begun, ended = map(json.loads, done.out.splitlines())
    for found in (coming, begun, ended):
        _VALIDATOR.validate(found)
    assert (begun["outcome"], ended["outcome"]) == ("running", "ok")
    assert coming["next"][0]["slot"].startswith(ended["slot"][:19])
    with SQLiteStore(folder.path / ".ttasks" / "ledger.sqlite") as store:
        (slot,) = store.slots.list()
        assert (slot.schedule, slot.outcome) == ("work", "ok")
    listed = folder.real("list").out
    assert "SCHEDULE" in listed
    assert "slot" in folder.real("show").out
    (run,) = folder.real("list", "--json").json["runs"]
    assert (run["schedule"], run["slot"]) == ("work", ended["slot"])


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def number(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_signal_ends_it_cleanly(folder: Any, number: int) -> None:
    write(folder, seconds=60)
    process = folder.start("schedule", "jobs.py")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "has begun" in line:
                break
        while not (folder.path / "begun").exists():
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (128 + number, "")
    assert "cancelled" in out
    assert (folder.path / "cleaned").exists()
    with SQLiteStore(folder.path / ".ttasks" / "ledger.sqlite") as store:
        assert store.check() == []
        assert {slot.outcome for slot in store.slots.list()} <= {"cancelled", "skipped"}


def test_a_factory_that_raises_is_shown_with_its_own_frames(folder: Any) -> None:
    write(folder, once="boom")
    done = folder.real("schedule", "jobs.py:once", "--no-store")
    assert done.code == 0
    assert "ttasks: Schedule 'boom', slot" in done.err
    assert "LookupError: no data" in done.err
    assert 'jobs.py", line' in done.err
    assert "turns.py" not in done.err
    write(folder, once="boom", on_error="raise")
    done = folder.real("schedule", "jobs.py:once", "--no-store")
    assert done.code == 1
    assert "it could not run: no data" in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["jobs.py:nothing"], 2, "returned an int; it has to return a Scheduler"),
        (["jobs.py:raises"], 1, "LookupError: no scheduler"),
        (["jobs.py:idle"], 2, "every 5 s) has nothing to do"),
        (["jobs.py:nope"], 2, "has no 'nope'"),
        (["jobs.py:JOBS"], 2, "has no 'JOBS'"),
        (["none.py"], 2, "there is no file"),
        (["empty.py"], 2, "has no scheduler: no Scheduler at its top level"),
        (["given.py", "--no-store"], 2, "leave out --store and --no-store"),
        (["jobs.py", "--next", "0"], 2, "--next"),
    ],
)
def test_what_cannot_be_done_is_refused(
    folder: Any, cli: Any, words: list[str], code: int, said: str
) -> None:
    write(folder)
    folder.write("empty.py", "")
    folder.write("given.py", "from jobs import own\nscheduler = own()\n")
    done = cli("schedule", *words)
    assert (done.code, said in done.err) == (code, True), done.err


def test_a_scheduler_of_the_program_brings_its_executor(folder: Any, cli: Any) -> None:
    write(folder)
    folder.write(
        "given.py",
        """
        from ttasks import Task
        from jobs import own
        scheduler = own()
        scheduler.every(3600).do(Task.bash("true", title="hourly"))
        """,
    )
    done = cli("schedule", "given.py", "--next", "1")
    assert done.code == 0
    assert "hourly" in done.out
