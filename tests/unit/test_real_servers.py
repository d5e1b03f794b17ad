"""Services that people really run: Redis, PostgreSQL and http.server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from support import run, statuses, threads
from ttasks import Task, TaskEventType, TaskExecutor, TaskGraph, ready

REDIS = shutil.which("redis-server")
PSQL_HOMES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def use(service: Task, command: str, *before: Task) -> TaskGraph:
    """Run a graph with a service and a command that uses it."""
    graph = TaskGraph("real")
    for task in before:
        graph.add(task)
    graph.add(service, after=before)
    graph.add(Task.bash(command, title="use"), after=service)
    with TaskExecutor() as executor:
        seen: list[TaskEventType] = []
        executor.events.subscribe(lambda e: seen.append(e.type), types=TaskEventType.READY)
        run(graph, executor)
    assert seen == [TaskEventType.READY]
    assert threads() == []
    return graph


@pytest.mark.parametrize("how", ["http", "tcp", "output"])
def test_http_server(how: str, tmp_path: Path) -> None:
    port = ready.free_port()
    (tmp_path / "hello").write_text("world")
    probe = {
        "http": ready.http(f"http://127.0.0.1:{port}/hello"),
        "tcp": ready.tcp(port),
        "output": ready.output(f"port {port}"),
    }[how]
    command = f"exec {sys.executable} -u -m http.server {port} --bind 127.0.0.1"
    service = Task.service(command, title="server", cwd=tmp_path, ready=probe)
    script = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/hello').read())"
    graph = use(service, f'{sys.executable} -c "{script}"')
    assert graph.find("use").value == "b'world'\n"


@pytest.mark.skipif(REDIS is None, reason="there is no redis-server")
@pytest.mark.parametrize("how", ["tcp", "output", "command"])
def test_redis(how: str, tmp_path: Path) -> None:
    port = ready.free_port()
    probe = {
        "tcp": ready.tcp(port),
        "output": ready.output("Ready to accept connections"),
        "command": ready.command(f"redis-cli -p {port} ping"),
    }[how]
    service = Task.service(
        f"exec redis-server --port {port} --save '' --dir {tmp_path}", title="redis", ready=probe
    )
    graph = use(service, f"redis-cli -p {port} set key value; redis-cli -p {port} get key")
    assert graph.find("use").value == "OK\nvalue\n"
    assert service.result is not None
    assert service.result.returncode == 0  # it ended in good order


@pytest.mark.skipif(not PSQL_HOMES, reason="there is no PostgreSQL server")
def test_postgresql(tmp_path: Path) -> None:
    home, port, folder = PSQL_HOMES[-1], ready.free_port(), tmp_path / "data"
    as_user = ""
    if os.geteuid() == 0:  # it refuses to run as root
        as_user = "setpriv --reuid=postgres --regid=postgres --clear-groups "
        shutil.chown(tmp_path, "postgres", "postgres")
        for parent in tmp_path.parents:
            if "pytest-of-" in str(parent):
                parent.chmod(0o755)
    initdb = Task.bash(f"{as_user}{home}/initdb -D {folder} -A trust -U postgres", title="initdb")
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={tmp_path} -c fsync=off"
    service = Task.service(
        f"exec {as_user}{home}/postgres -D {folder} -p {port} {options}",
        title="postgres",
        ready=ready.command(f"{home}/pg_isready -q -h 127.0.0.1 -p {port}"),
        stop_signal=signal.SIGINT,
    )
    query = "create table t (n int); insert into t values (7); select n from t"
    graph = use(service, f"{home}/psql -U postgres -h 127.0.0.1 -p {port} -qAtc '{query}'", initdb)
    assert statuses(graph) == dict.fromkeys(["initdb", "postgres", "use"], "succeeded")
    assert graph.find("use").value == "7\n"
    assert service.result is not None
    assert "database system is shut down" in (service.result.error or "")
