"""Messages survive `kill -9`: sent at least once, with one id, and not by two processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from notifykit import Web, message, serve
from support import WAIT
from ttasks import SQLiteStore, TaskExecutor
from ttasks.notify import Notifier, Webhook

HOST = Path(__file__).with_name("notify_host.py")


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


@contextlib.contextmanager
def host(path: Path, web: Web, where: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(HOST), str(path), web.url, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"it ended before {line!r}")


def die(path: Path, web: Web, where: str) -> None:
    """Have a process die at a place."""
    with host(path, web, where) as process:
        if where == "sending":
            web.wait_for(1)
        else:
            read_until(process, "here")
        process.kill()
        process.wait(WAIT)


def tell_rest(path: Path, web: Web) -> None:
    """Have a new process send what is left."""
    with (
        SQLiteStore(path) as store,
        TaskExecutor(store) as executor,
        Notifier(executor, [Webhook(web.url, name="hook")]) as notifier,
    ):
        before = len(web.posts)
        while len(store.outbox):
            assert notifier.flush(WAIT)
        assert before <= len(web.posts)
        assert store.check() == []


@pytest.mark.parametrize("where", ["queued", "decided", "sending", "sent"])
def test_a_message_is_sent_at_least_once_with_the_same_id(
    tmp_path: Path, web: Web, where: str
) -> None:
    path = tmp_path / "ledger.db"
    web.answers = [None, 200] if where == "sending" else [200]
    die(path, web, where)
    with SQLiteStore(path) as store:
        (row,) = store.outbox.rows()
        assert (row.content is None) == (where == "queued")
    tell_rest(path, web)
    posts = web.wait_for(1)
    assert len(posts) == (2 if where in ("sending", "sent") else 1)
    assert {post.headers["webhook-id"] for post in posts} == {row.id}
    assert b"'dump' failed" in posts[-1].body


def test_what_was_queued_for_two_channels_is_sent_once_to_each(tmp_path: Path, web: Web) -> None:
    path = tmp_path / "ledger.db"
    die(path, web, "queued")
    with SQLiteStore(path) as store:
        (row,) = store.outbox.rows()
        (other,) = store.outbox.add(row.run, row.id, ["other"], row.created_at)
        store.outbox.release(other)
    channels = [Webhook(web.url, name=name, headers={"X-Name": name}) for name in ("hook", "other")]
    with (
        SQLiteStore(path) as store,
        TaskExecutor(store) as executor,
        Notifier(executor, channels) as notifier,
    ):
        web.wait_for(2)
        assert notifier.flush(WAIT)
        assert len(store.outbox) == 0
    assert sorted(post.headers["x-name"] for post in web.posts) == ["hook", "other"]
    assert {post.headers["webhook-id"] for post in web.posts} == {row.id}


def test_three_processes_share_what_a_fourth_left(tmp_path: Path, web: Web) -> None:
    path, number = tmp_path / "ledger.db", 30
    with SQLiteStore(path) as store:
        now = time.time_ns() // 1000
        for at in range(number):
            (row,) = store.outbox.add("run", f"msg_{at}", ["hook"], now)
            content = replace(message(), id=row.id).to_json()
            store.outbox.save(row._replace(content=content))
            store.outbox.release(row)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(host(path, web, "idle")) for _ in range(3)]
        for process in hosts:
            read_until(process, "here")
        posts = web.wait_for(number)
        for process in hosts:
            process.communicate("", timeout=WAIT)
            assert process.returncode == 0
    assert len(web.posts) == number
    assert len({post.headers["webhook-id"] for post in posts}) == number
    with SQLiteStore(path) as store:
        assert len(store.outbox) == 0


def test_a_program_that_ends_without_closing_sends_what_is_queued(tmp_path: Path, web: Web) -> None:
    code = f"""
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.notify import Notifier
executor = TaskExecutor(SQLiteStore({str(tmp_path / "l.db")!r}))
Notifier(executor, [{web.url!r}])
graph = TaskGraph("nightly")
graph.add(Task.bash("exit 3"))
graph.run(executor)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(web.posts) == 1


def test_a_channel_that_hangs_does_not_keep_a_program_from_its_end(
    tmp_path: Path, web: Web
) -> None:
    code = f"""
import threading
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.notify import Notifier
def hangs(message):
    threading.Event().wait()
executor = TaskExecutor(SQLiteStore({str(tmp_path / "l.db")!r}))
notifier = Notifier(executor, [hangs])
graph = TaskGraph("nightly")
graph.add(Task.bash("exit 3"))
graph.run(executor)
notifier.close(0.2)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    with SQLiteStore(tmp_path / "l.db") as store:
        assert len(store.outbox) == 1
