"""``ttasks run``: what it loads, runs, shows and writes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ttasks import SQLiteStore


def ledger_of(folder: Any) -> SQLiteStore:
    return SQLiteStore(folder.path / ".ttasks" / "ledger.sqlite")


def test_a_run_is_kept_in_a_ledger_that_git_ignores(cli: Any, folder: Any) -> None:
    folder.build(code=0)
    done = cli("run", "build.py")
    assert done.code == 0
    assert "build  4 succeeded" in done.out
    assert (folder.path / ".ttasks" / ".gitignore").read_text() == "*\n"
    with ledger_of(folder) as store:
        (run,) = store.runs.list()
        assert (run.outcome, run.graph_key) == ("ok", "build.py:graph")


def test_no_store_keeps_nothing(cli: Any, folder: Any) -> None:
    folder.build(code=0)
    assert cli("run", "build.py", "--no-store").code == 0
    assert not (folder.path / ".ttasks").exists()


def test_the_ledger_is_named_by_an_option_or_a_variable(
    cli: Any, folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.build(code=0)
    monkeypatch.setenv("TTASKS_STORE", "variable.db")
    assert cli("run", "build.py").code == 0
    assert cli("run", "build.py", "--store", "option.db").code == 0
    assert [cli("list", "--json").json["runs"][0]["number"]] == [1]
    assert len(cli("list", "--json", "--store", "option.db").json["runs"]) == 1
    assert not (folder.path / ".ttasks").exists()


def test_the_failure_says_how_to_run_the_task_again(cli: Any, folder: Any) -> None:
    folder.build()
    done = cli("run", "build.py")
    assert done.code == 1
    assert "again   ttasks run build.py --only test" in done.out


def test_a_time_limit_ends_the_run_with_code_4(cli: Any, folder: Any) -> None:
    folder.write(
        "slow.py",
        """
        from ttasks import Task, TaskGraph
        graph = TaskGraph("slow")
        wait = graph.add(Task.bash("sleep 60", title="wait"))
        graph.add(Task.bash("touch cleaned", title="clean"), after=wait, finally_=True)
        """,
    )
    assert cli("run", "slow.py", "--timeout", "0.2").code == 4
    assert (folder.path / "cleaned").exists()


def test_fail_fast_and_jobs_reach_the_run(cli: Any, folder: Any) -> None:
    folder.build()
    assert cli("run", "build.py", "--fail-fast", "-j", "3").code == 1
    with ledger_of(folder) as store:
        facts = store.runs.latest().facts()
    assert facts.workers == 3
    assert facts.options["fail_fast"] is True


def test_reports_and_logs_are_written(cli: Any, folder: Any) -> None:
    folder.build()
    done = cli(
        *("run", "build.py", "--report", "r.xml", "--report", "r.html", "--report", "r.json"),
        *("--logs", "logs", "--console", "quiet"),
    )
    assert done.code == 1
    assert (folder.path / "r.xml").read_text().startswith("<?xml")
    assert "<html" in (folder.path / "r.html").read_text()
    assert json.loads((folder.path / "r.json").read_text())["run"]["outcome"] == "failed"
    (log,) = folder.path.glob("logs/*/test.1.log")
    assert log.read_text().startswith("tested\n")


def test_a_report_that_cannot_be_written_is_a_failure(cli: Any, folder: Any) -> None:
    folder.write(
        "prog.py",
        """
        import os
        from ttasks import Task, TaskGraph
        graph = TaskGraph("deletes")
        graph.add(Task.bash("rmdir out", title="remove"))
        """,
    )
    (folder.path / "out").mkdir()
    done = cli("run", "prog.py", "--report", "out/r.xml")
    assert done.code == 1
    assert "cannot write the report: No such file or directory" in done.err


def test_json_is_all_that_comes_to_stdout(cli: Any, folder: Any) -> None:
    folder.write(
        "noisy.py",
        """
        from ttasks import Task, TaskGraph
        print("imported")
        def build_graph():
            print("made")
            graph = TaskGraph("noisy")
            graph.add(Task.python(print, ("ran",), title="loud"))
            return graph
        """,
    )
    done = cli("run", "noisy.py", "--json")
    assert done.code == 0
    assert done.json["format"] == "ttasks-report"
    assert {"imported", "made"} <= set(done.err.splitlines())
    lines = cli("run", "noisy.py", "--console", "jsonl").out.splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "run_ended"


# A part of the graph


def titles_run(folder: Any) -> list[str]:
    """What the latest run really ran."""
    with ledger_of(folder) as store:
        facts = store.runs.latest().facts()
    return [task.title for task in facts.tasks.values() if task.attempts]


def test_failed_runs_what_has_not_succeeded_and_what_comes_after_it(cli: Any, folder: Any) -> None:
    folder.build()
    assert cli("run", "build.py").code == 1
    folder.build(code=0)
    done = cli("run", "build.py", "--failed")
    assert (done.code, titles_run(folder)) == (0, ["test", "pack", "drop"])
    done = cli("run", "build.py", "--failed")
    assert (done.code, done.err) == (5, "ttasks: nothing is selected, so nothing runs\n")


def test_failed_again_knows_what_succeeded_in_the_runs_before(cli: Any, folder: Any) -> None:
    folder.build()
    cli("run", "build.py")
    cli("run", "build.py", "--failed")
    folder.build(code=0)
    assert cli("run", "build.py", "--failed").code == 0
    assert titles_run(folder) == ["test", "pack", "drop"]


def test_what_is_left_out_must_have_succeeded_or_the_run_is_refused(cli: Any, folder: Any) -> None:
    folder.build()
    done = cli("run", "build.py", "--only", "pack")
    assert done.code == 2
    assert "'test' would be left out, but has not succeeded" in done.err
    cli("run", "build.py")
    assert cli("run", "build.py", "--only", "pack").code == 2
    assert cli("run", "build.py", "--only", "test").code == 1
    assert titles_run(folder) == ["test", "drop"]


def test_a_value_that_is_left_out_comes_from_the_ledger(cli: Any, folder: Any) -> None:
    folder.write(
        "sums.py",
        """
        from ttasks import Task, TaskGraph
        def number(): return 4
        def double(value): return 2 * value
        graph = TaskGraph("sums")
        a = graph.add(Task.python(number))
        graph.add(Task.python(double, (a,)))
        """,
    )
    assert cli("run", "sums.py").code == 0
    assert cli("run", "sums.py", "--only", "double").code == 0
    with ledger_of(folder) as store:
        facts = store.runs.latest().facts()
    assert facts.find("double").value == "8"
    assert (facts.find("number").attempts, facts.find("number").reused) == ((), True)


def test_a_later_resume_notices_what_changed_while_it_was_left_out(cli: Any, folder: Any) -> None:
    program = """
        from ttasks import Task, TaskGraph
        graph = TaskGraph("two")
        a = graph.add(Task.bash("echo {text}", title="a"))
        graph.add(Task.bash("echo b", title="b"), after=a)
        """
    folder.write("two.py", program.format(text="one"))
    cli("run", "two.py")
    folder.write("two.py", program.format(text="another"))
    assert cli("run", "two.py", "--only", "b").code == 0
    assert titles_run(folder) == ["b"]
    assert cli("run", "two.py", "--resume").code == 0
    assert titles_run(folder) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--until", "test"], ["fetch", "test", "drop"]),
        (["--from", "test"], ["test", "pack", "drop"]),
        (["--skip", "pack"], ["fetch", "test", "drop"]),
        (["--only", "f*", "--only", "test"], ["fetch", "test", "drop"]),
    ],
)
def test_a_part_runs_and_nothing_else(
    cli: Any, folder: Any, options: list[str], expected: list[str]
) -> None:
    folder.build(code=0)
    cli("run", "build.py")
    assert cli("run", "build.py", *options).code == 0
    assert titles_run(folder) == expected


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--only", "tset"], 2, "graph 'build' has no task 'tset'; did you mean 'test'?"),
        (["--only", "x*"], 5, "nothing is selected"),
        (["--failed"], 2, "the ledger knows no run of 'build.py:graph'"),
        (["--failed", "--no-store"], 2, "--failed needs a ledger"),
        (["--resume", "--no-store"], 2, "--resume needs a ledger"),
        (["--console", "lve"], 2, "there is no console mode 'lve'; did you mean 'live'?"),
        (["--report", "r.doc"], 2, "is not that of a report format; known are .txt"),
        (["--report", "no/r.xml"], 2, "there is no folder 'no'"),
        (["--timeout", "0"], 2, "argument --timeout: invalid number of seconds above 0 value"),
        (["--jobs", "none"], 2, "argument -j/--jobs: invalid whole number above 0 value"),
        (["--fial-fast"], 2, "did you mean '--fail-fast'?"),
        (["--json", "--console", "jsonl"], 2, "choose one"),
        (["--", "level=2"], 2, "build.py:graph is a graph and takes no parameters"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(
    cli: Any, folder: Any, options: list[str], code: int, message: str
) -> None:
    folder.write(
        "build.py",
        "from ttasks import Task, TaskGraph\ngraph = TaskGraph('build')\n"
        "graph.add(Task.bash('touch ran', title='test'))\n",
    )
    done = cli("run", "build.py", *options)
    assert done.code == code
    assert message in done.err
    assert not (folder.path / "ran").exists()
    assert "Traceback" not in done.err


# A dry run


def test_a_dry_run_tells_order_reason_and_time_and_runs_nothing(cli: Any, folder: Any) -> None:
    folder.build()
    done = cli("run", "build.py", "--dry-run")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == [
        *("TASK", "fetch", "test", "pack", "drop")
    ]
    assert not (folder.path / ".ttasks").exists()
    cli("run", "build.py")
    plan = cli("run", "build.py", "--dry-run", "--resume", "--json").json
    assert [(task["title"], task["why"]) for task in plan["tasks"]] == [
        ("test", "it did not succeed in the previous run"),
        ("pack", "it did not succeed in the previous run"),
        ("drop", "after 'test'"),
    ]
    assert plan["tasks"][2]["seconds"] > 0
    assert plan["tasks"][0]["seconds"] is None
    assert len(cli("list", "--json").json["runs"]) == 1


def test_a_dry_run_with_changes_names_them(cli: Any, folder: Any) -> None:
    folder.build(code=0)
    cli("run", "build.py")
    folder.build(code=1)
    plan = cli("run", "build.py", "-n", "--resume", "--json").json
    assert [(task["title"], task["why"]) for task in plan["tasks"]] == [
        ("test", "changed: payload"),
        ("pack", "after 'test'"),
        ("drop", "after 'test'"),
    ]


# The executor of the user


def test_a_module_makes_the_executor_of_its_runs(cli: Any, folder: Any) -> None:
    folder.write(
        "custom.py",
        """
        from ttasks import Task, TaskExecutor, TaskGraph, TaskType
        def build_executor(store):
            executor = TaskExecutor(store, redact=["hunter2"])
            executor.register(TaskType("greet"), lambda context: f"hello {context.payload}")
            return executor
        graph = TaskGraph("custom")
        graph.add(Task("greet hunter2", "you", TaskType("greet")))
        """,
    )
    assert cli("run", "custom.py").code == 0
    assert "hunter2" not in (folder.path / ".ttasks" / "ledger.sqlite.names").read_text()
    folder.write(
        "custom.py",
        "from ttasks import TaskGraph\ngraph = TaskGraph()\n"
        "graph.add(__import__('ttasks').Task.bash('true'))\n"
        "def build_executor(store): pass\n",
    )
    done = cli("run", "custom.py")
    assert done.code == 2
    assert "build_executor of custom.py:graph returned None" in done.err


def test_two_runs_of_a_graph_at_once_are_refused_or_wait(cli: Any, folder: Any) -> None:
    folder.build(code=0)
    cli("run", "build.py")
    from ttasks import Task, TaskExecutor, TaskGraph

    gate = folder.path / "go"
    os.mkfifo(gate)
    graph = TaskGraph("other", key="build.py:graph")
    graph.add(Task.bash(f"cat {gate}"))
    with ledger_of(folder) as store, TaskExecutor(store) as executor:
        started = graph.start(executor)
        done = cli("run", "build.py")
        Path(gate).write_text("")
        assert started.wait(10)
    assert done.code == 2
    assert "has been running since" in done.err


CACHED = """
from ttasks import Task, TaskGraph

graph = TaskGraph("cached", key="cached")
graph.add(
    Task.bash(
        "cat text undeclared > made",
        key="make",
        reuse=True,
        inputs="text",
        outputs="made",
    )
)
"""


def test_a_task_is_skipped_until_its_input_changes_and_why_names_it(cli: Any, folder: Any) -> None:
    folder.write("build.py", CACHED)
    folder.write("text", "one")
    folder.write("undeclared", "")
    assert "1 succeeded" in cli("run", "build.py").out
    for words in (["run", "build.py"], ["run", "--cache", "build.py"]):
        assert "1 reused" in cli(*words).out
    folder.write("text", "two")
    assert "its inputs: changed text" in cli("run", "build.py", "--dry-run").out
    assert cli("run", "build.py").code == 0
    assert "its inputs changed since it last succeeded: changed text" in cli("why", "make").out


def test_verify_fails_for_what_is_not_declared(cli: Any, folder: Any) -> None:
    folder.write("build.py", CACHED)
    folder.write("text", "one")
    folder.write("undeclared", "1")
    assert cli("run", "build.py").code == 0
    assert cli("run", "build.py", "--cache=verify").code == 0
    folder.write("undeclared", "2")
    assert cli("run", "build.py").code == 0
    assert cli("run", "build.py", "--cache=verify").code == 1
    assert "does not declare" in cli("why", "make").out
    assert cli("run", "build.py", "--cache=off").code == 0


def test_wrong_uses_of_the_cache_are_told(cli: Any, folder: Any) -> None:
    folder.write("build.py", CACHED)
    done = cli("run", "build.py", "--dry-run")
    assert done.code == 0  # there is no ledger to compare with
    done = cli("run", "build.py")
    assert (done.code, done.out) == (2, "")
    assert "its input 'text' matches no file in" in done.err
    done = cli("run", "build.py", "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert cli("run", "--cache=no", "build.py").code == 2
    done = cli("run", "--cache=verify", "--resume", "build.py")
    assert (done.code, done.err) == (
        2,
        "ttasks: --cache=verify runs tasks again, so it cannot go with --resume\n",
    )
