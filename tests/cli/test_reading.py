"""The commands that read a ledger: what they print for people, and what for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.cli import SCHEMA
from ttasks.report import SCHEMA as REPORT

_VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(SCHEMA.read_text()), format_checker=jsonschema.FormatChecker()
)


def checked(document: Any, kind: str) -> Any:
    """A document that is valid."""
    assert document["format"] == f"ttasks-{kind}"
    _VALIDATOR.validate(document)
    return document


@pytest.fixture
def runs(cli: Any, folder: Any) -> list[str]:
    """Ids of a failed run and of one that mended it, the first one first."""
    folder.build()
    cli("run", "build.py")
    folder.build(code=0)
    cli("run", "build.py", "--failed")
    listed = checked(cli("list", "--json").json, "runs")["runs"]
    return [run["id"] for run in reversed(listed)]


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_list_shows_runs_the_latest_first(cli: Any, runs: list[str]) -> None:
    head, last, first = cli("list").out.splitlines()
    assert head.split() == ["RUN", "NO.", "STARTED", "TOOK", "OUTCOME", "TITLE"]
    assert last.startswith(runs[1][:8])
    assert last.endswith("ok       build")
    assert first.split()[0] == runs[0][:8]
    assert len(cli("list", "--limit", "1").out.splitlines()) == 2
    assert cli("list", "--key", "other").out == "no runs of the key 'other'\n"


def test_list_of_a_target_shows_its_tasks(cli: Any, folder: Any) -> None:
    folder.build()
    found = checked(cli("list", "build.py", "--json").json, "tasks")
    assert [(task["title"], task["after"]) for task in found["tasks"]] == [
        *(("fetch", []), ("test", ["fetch"]), ("pack", ["test"]), ("drop", ["test"]))
    ]
    assert "drop (finally)  -    bash  test" in cli("list", "build.py").out
    assert not (folder.path / ".ttasks").exists()


@pytest.mark.parametrize("name", ["id", "beginning", "key", "latest"])
def test_a_run_is_named_by_id_beginning_key_or_latest(cli: Any, runs: list[str], name: str) -> None:
    words = {"id": runs[1], "beginning": runs[1][:6], "key": "build.py:graph", "latest": "latest"}
    found = cli("show", words[name], "--json").json
    assert found["run"]["id"] == runs[1]
    jsonschema.validate(found, json.loads(REPORT.read_text()))


def test_a_wrong_run_is_answered_with_the_near_ones(cli: Any, runs: list[str]) -> None:
    done = cli("show", "biuld.py:graph")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'build.py:graph'?" in done.err
    assert "2 runs have ids that begin with ''" in cli("show", "").err


def test_show_prints_the_table_and_what_failed(cli: Any, runs: list[str]) -> None:
    text = cli("show", runs[0]).out
    assert "build failed" in text
    assert "blocked by 'test'" in text
    assert "\x1b" not in text


def test_show_sums_up_a_run_of_many_tasks(
    cli: Any, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttasks.cli.show.MOST_TASKS", 3)
    lines = cli("show", runs[0]).out.splitlines()
    assert lines[0].startswith("build failed in ")
    assert lines[2:5] == [
        "2 succeeded, 1 failed, 1 blocked",
        "",
        "✗ test: Command failed with exit code 1",
    ]
    assert lines[-1].startswith(f"`ttasks show {runs[0][:8]} --all` shows every task")
    assert "blocked by 'test'" in cli("show", runs[0], "--all").out
    assert len(cli("show", runs[0], "--json").json["tasks"]) == 4


def test_events_are_those_of_the_run_and_no_other(cli: Any, runs: list[str]) -> None:
    lines = cli("events", runs[0], "--json").out.splitlines()
    found = [checked(json.loads(line), "event") for line in lines]
    assert {item["run"] for item in found} == {runs[0]}
    assert [(item["event"], item["title"]) for item in found if item["event"] != "started"] == [
        *(("succeeded", "fetch"), ("failed", "test"), ("blocked", "pack"), ("succeeded", "drop"))
    ]
    titles = [line.split()[2].strip(":") for line in cli("events").out.splitlines()]
    assert set(titles) == {"test", "pack", "drop"}


def test_events_of_a_graph_that_ran_twice_are_told_apart(tmp_path: Path, cli: Any) -> None:
    graph = TaskGraph("twice")
    graph.add(Task.bash("test -e there", title="a", cwd=str(tmp_path)))
    inner = TaskGraph("inner")
    inner.add(Task.bash("true", title="below"))
    with SQLiteStore("l.db") as store, TaskExecutor(store) as executor:
        graph.add(Task.python(lambda: inner.run(executor).ok, title="outer"))
        first = graph.run(executor).latest_run
        (tmp_path / "there").touch()
        second = graph.run(executor).latest_run
        executor.execute(Task.bash("true", title="alone"))
        assert first is not None
        assert second is not None

        def told(run: Any) -> list[str]:
            return [item.title for item in store.events.read(run=run)]

        assert sorted(told(first)) == ["a", "a", "below", "below", "outer", "outer"]
        assert told(second.id) == ["a", "a"]
        assert told(store.runs.latest()) == ["alone", "alone"]
    follow = cli("events", second.id, "--follow", "--store", "l.db")
    assert len(follow.out.splitlines()) == 2


def test_follow_shows_a_run_as_it_goes_and_ends_with_it(folder: Any) -> None:
    gate = folder.path / "go"
    os.mkfifo(gate)
    graph = TaskGraph("slow", key="slow")
    graph.add(Task.bash(f"cat {gate}", title="wait"))
    with SQLiteStore("l.db") as store, TaskExecutor(store) as executor:
        run = graph.start(executor)
        process = folder.start("events", "slow", "--follow", "--store", "l.db")
        assert process.stdout is not None
        first = process.stdout.readline()
        gate.write_text("")
        rest, err = process.communicate(timeout=30)
        assert run.wait(10)
    assert "started    wait" in first
    assert ("succeeded  wait" in rest, err, process.returncode) == (True, "", 0)


def test_logs_show_what_the_ledger_has(cli: Any, runs: list[str]) -> None:
    text = cli("logs", runs[0]).out
    assert "test: failed\n  tested\n  Command failed with exit code 1\n" in text
    assert "pack" not in text
    assert cli("logs", runs[1], "pack").out == "packed\n"
    found = checked(cli("logs", runs[1], "test", "--json").json, "logs")["tasks"]
    assert [(task["title"], task["output"]) for task in found] == [("test", "tested\n")]
    done = cli("logs", runs[1], "pakc")
    assert (done.code, "did you mean 'pack'?" in done.err) == (2, True)


def test_logs_let_a_task_command_no_terminal(cli: Any, folder: Any) -> None:
    folder.write(
        "esc.py",
        "from ttasks import Task, TaskGraph\ngraph = TaskGraph()\n"
        "graph.add(Task.bash(r\"printf 'a\\033]0;title\\007\\033[2Jb'\", title='t'))\n",
    )
    cli("run", "esc.py")
    assert cli("logs", "latest", "t").out == "ab\n"


def test_why_says_it_in_one_sentence(cli: Any, runs: list[str]) -> None:
    assert cli("why", "pack", "--run", runs[0]).out.startswith("'pack' did not run: it is blocked")
    found = checked(cli("why", "test", "--json").json, "why")
    assert found["why"] == "'test' ran because it did not succeed in the previous run."
    assert cli("why", "pakc").code == 2


def test_report_writes_files_or_prints(cli: Any, folder: Any, runs: list[str]) -> None:
    assert cli("report", runs[0], "-o", "a.xml", "-o", "b.md").out == ""
    assert (folder.path / "a.xml").stat().st_size
    assert (folder.path / "b.md").stat().st_size
    assert "build failed" in cli("report", runs[0]).out
    assert cli("report", "--json").json["run"]["id"] == runs[1]
    assert cli("report", "-o", "a.doc").code == 2


def test_compare_says_what_has_changed(cli: Any, runs: list[str]) -> None:
    assert "Mended (2)\n  test: failed → succeeded" in cli("compare", *runs).out
    found = checked(cli("compare", *reversed(runs), "--json").json, "comparison")
    assert [item["title"] for item in found["newly_failed"]] == ["test", "pack"]
    assert (found["reused_before"], found["reused_after"]) == (1, 0)


def test_cancel_of_a_run_that_has_ended_does_nothing(cli: Any, runs: list[str]) -> None:
    found = checked(cli("cancel", runs[0], "--json").json, "cancel")
    assert (found["asked"], found["outcome"]) == (False, "failed")
    assert "had ended before: ok" in cli("cancel", "latest").out


def test_prune_deletes_what_is_old(cli: Any, runs: list[str]) -> None:
    assert cli("prune", "--older-than", "1h").out == "deleted 0 tasks and 0 runs\n"
    done = cli("prune", "--older-than", "0s", "--vacuum", "--json")
    found = checked(done.json, "pruned")
    assert (found["tasks"], found["runs"]) == (8, 2)
    assert cli("list").out == "no runs\n"
    for age in ("30", "d", "-1d", "9e9d", "99999999999d"):
        assert cli("prune", f"--older-than={age}").code == 2
    assert cli("prune").code == 2


def test_check_says_whether_a_ledger_is_sound(cli: Any, folder: Any, runs: list[str]) -> None:
    assert cli("check").out == ".ttasks/ledger.sqlite is sound\n"
    assert checked(cli("check", "--json").json, "check")["ok"]
    ledger = folder.path / ".ttasks" / "ledger.sqlite"
    ledger.write_bytes(ledger.read_bytes().replace(b"exit code 1", b"exit code 7"))
    done = cli("check", str(ledger), "--json")
    found = checked(done.json, "check")
    assert (done.code, found["ok"]) == (1, False)
    assert found["problems"]
    assert cli("check").out.splitlines()[-1].endswith("problems")


# Ledgers that cannot be read


READERS = [
    ["list"],
    ["show"],
    ["events"],
    ["logs"],
    ["why", "test"],
    ["report"],
    ["compare", "latest", "latest"],
    ["cancel", "latest"],
    ["prune", "--older-than", "1d"],
]


@pytest.mark.parametrize("words", [*READERS, ["check"]], ids=lambda words: words[0])
def test_a_missing_ledger_is_told_and_not_made(cli: Any, folder: Any, words: list[str]) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert "there is no ledger '.ttasks/ledger.sqlite'; `ttasks run` makes one" in done.err
    assert list(folder.path.iterdir()) == []


def test_a_ledger_without_runs_is_told(cli: Any) -> None:
    SQLiteStore("l.db").close()
    assert cli("list", "--store", "l.db").out == "no runs\n"
    done = cli("show", "--store", "l.db")
    assert (done.code, "has no runs yet" in done.err) == (2, True)


@pytest.mark.parametrize("kind", ["text", "other database", "newer", "folder", "damaged"])
def test_what_is_no_good_ledger_is_refused_and_not_touched(
    cli: Any, folder: Any, kind: str
) -> None:
    import sqlite3

    path = folder.path / "l.db"
    if kind == "text":
        path.write_text("no ledger" * 40)
    elif kind == "folder":
        path.mkdir()
    elif kind == "other database":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
    else:
        SQLiteStore(path).close()
        if kind == "newer":
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version=99")
            connection.close()
        else:
            path.write_bytes(path.read_bytes()[:3000])
    before = path.read_bytes() if path.is_file() else b""
    for words in READERS:
        done = cli(*words, "--store", "l.db")
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith("ttasks: ")
        assert "Traceback" not in done.err
    assert (path.read_bytes() if path.is_file() else b"") == before
    folder.build()
    done = cli("run", "build.py", "--store", "l.db")
    assert (done.code, done.out) == (2, "")
    assert cli("check", "l.db").code == (2 if kind == "newer" else 1)


def test_a_ledger_that_others_keep_locked_is_told(
    cli: Any, folder: Any, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    monkeypatch.setattr("ttasks.stores.sqlite.connection.LOCK_TIMEOUT_SECONDS", 0.0)
    ledger = folder.path / ".ttasks" / "ledger.sqlite"
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    for words in (["list"], ["show"], ["run", "build.py"]):
        done = cli(*words)
        assert (done.code, done.out) == (2, "")
        assert "locked" in done.err
    other.close()
    assert cli("list").code == 0


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anything")
def test_a_ledger_that_cannot_be_written_is_told(cli: Any, folder: Any, runs: list[str]) -> None:
    ledger = folder.path / ".ttasks" / "ledger.sqlite"
    ledger.chmod(0o400)
    ledger.parent.chmod(0o500)
    done = cli("run", "build.py")
    ledger.parent.chmod(0o700)
    assert (done.code, done.out) == (2, "")
    assert "cannot be written" in done.err


def test_a_ledger_that_can_only_be_read_is_read(
    cli: Any, folder: Any, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = folder.path / ".ttasks" / "ledger.sqlite"
    before = sorted(ledger.parent.iterdir())
    usual = [cli("list").out, cli("show").out, cli("check").out]
    monkeypatch.setattr("ttasks.cli.ledgers.os.access", lambda *_: False)
    ledger.chmod(0o400)
    assert [cli("list").out, cli("show").out, cli("check").out] == usual
    for words in (["cancel", "latest"], ["prune", "--older-than", "1d"]):
        done = cli(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith("or its folder, cannot be written; only read it\n")
    assert sorted(ledger.parent.iterdir()) == before


def test_a_table_fits_a_terminal(
    cli: Any, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("ttasks.cli.output.is_terminal", lambda stream: True)
    lines = cli("list").out.splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[1].startswith(runs[1][:8])
