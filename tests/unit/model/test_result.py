"""TaskResult and Failure: frozen plain data."""

from __future__ import annotations

import json
import pickle
import subprocess
from dataclasses import FrozenInstanceError, asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ttasks import Failure, SQLiteStore, Task, TaskExecutor, TaskResult, TaskStatus

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FAILURE = Failure(
    type="builtins.ValueError",
    message="oops",
    traceback="Traceback …",
    locals={"x": "1"},
    downstream=(("deploy", "id-2"),),
    location="etl.py:3 in load",
    function="etl.load",
    args=("1",),
    kwargs={"y": "2"},
)


def result() -> TaskResult:
    return TaskResult(
        "id-1",
        TaskStatus.FAILED,
        NOW,
        NOW,
        1.5,
        output="out",
        error="err",
        returncode=3,
        raw=subprocess.CompletedProcess(["x"], 3, "out", "err"),
        value="out",
        attempts=2,
        termination_reason="exit_code",
        failure=FAILURE,
        output_truncated=True,
        output_files={"stdout": "/tmp/spill"},
        usage={"input": 1},
    )


def test_a_result_has_the_promised_fields() -> None:
    promised = (
        "task_id status started_at finished_at duration output error returncode raw value "
        "attempts termination_reason failure reused output_truncated usage"
    )
    assert set(promised.split()) <= {field.name for field in fields(TaskResult)}


def test_a_result_has_plain_defaults() -> None:
    plain = TaskResult("id-1", TaskStatus.SUCCEEDED, NOW, NOW, 0.0)
    assert (plain.output, plain.error, plain.returncode) == ("", None, None)
    assert (plain.raw, plain.value, plain.usage) == (None, None, None)
    assert (plain.attempts, plain.termination_reason, plain.failure) == (1, None, None)
    assert (plain.reused, plain.output_truncated, plain.output_files) == (False, False, None)


@pytest.mark.parametrize("name", [field.name for field in fields(TaskResult)])
def test_a_result_is_frozen(name: str) -> None:
    frozen = result()
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(frozen, name, None)


@pytest.mark.parametrize("name", [field.name for field in fields(Failure)])
def test_a_failure_is_frozen(name: str) -> None:
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(FAILURE, name, None)


def test_a_result_survives_pickle() -> None:
    twin = pickle.loads(pickle.dumps(result()))
    assert replace(twin, raw=None) == replace(result(), raw=None)
    assert vars(twin.raw) == vars(result().raw)


def test_a_failure_survives_pickle_and_becomes_json() -> None:
    assert pickle.loads(pickle.dumps(FAILURE)) == FAILURE
    assert json.loads(json.dumps(asdict(FAILURE))) == {
        "type": "builtins.ValueError",
        "message": "oops",
        "traceback": "Traceback …",
        "locals": {"x": "1"},
        "downstream": [["deploy", "id-2"]],
        "location": "etl.py:3 in load",
        "function": "etl.load",
        "args": ["1"],
        "kwargs": {"y": "2"},
    }


def test_failures_do_not_share_their_defaults() -> None:
    one, other = Failure("a.B", "x"), Failure("a.B", "x")
    assert (one.traceback, one.locals, one.downstream) == ("", {}, ())
    assert one.locals is not other.locals


def test_a_result_says_whether_it_is_one_of_success() -> None:
    assert replace(result(), status=TaskStatus.SUCCEEDED).ok
    assert not result().ok
    assert not replace(result(), status=TaskStatus.CANCELLED).ok


def test_only_commands_have_streams() -> None:
    with TaskExecutor() as executor:
        done = executor.execute(Task.bash("echo out; echo err >&2"))
        failed = executor.attempt(Task.bash("echo out; echo err >&2; exit 3"))
        silent = executor.execute(Task.bash("true"))
        called = executor.execute(Task.python(lambda: "text"))
    for item in (done, failed):
        assert (item.stdout, item.stderr) == ("out\n", "err\n")
    assert (silent.stdout, silent.stderr) == ("", "")
    assert (called.stdout, called.stderr) == (None, None)


def test_a_result_of_a_ledger_has_the_streams_too(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        task = Task.bash("echo out; echo err >&2", output_limit=2)
        executor.attempt(task)
        kept = store.tasks[task.id].result
    assert (kept.stdout, kept.stderr) == (task.result.stdout, task.result.stderr)


def test_a_result_without_its_raw_value_still_has_streams() -> None:
    lost = replace(result(), raw=object(), returncode=1, output="out", error="err")
    assert (lost.stdout, lost.stderr) == ("out", "err")
