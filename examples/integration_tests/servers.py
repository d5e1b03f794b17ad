"""PostgreSQL and the web application, as services of one graph."""

import os
import pwd
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ttasks import Task, TaskGraph, ready

HERE = Path(__file__).parent


class Missing(Exception):
    """PostgreSQL cannot be run here; the message says why."""


@dataclass(frozen=True)
class Servers:
    """Where the servers are reached."""

    web: str
    database: str


def build(data: Path) -> tuple[TaskGraph, Servers]:
    """Return a graph that starts both servers, and their addresses.

    Args:
        data: an empty folder for the database.

    Raises:
        Missing: PostgreSQL is not installed, or may not be run by this user.
    """
    bin_folder, as_user = postgres_programs(), user_prefix()
    if as_user:
        shutil.chown(data, "postgres")
    database_port, web_port = ready.free_port(), ready.free_port()
    database = f"postgresql://notes@127.0.0.1:{database_port}/postgres"
    web = f"http://127.0.0.1:{web_port}"
    env = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}

    graph = TaskGraph("servers")
    init = graph.add(
        Task.bash(
            f"{as_user} initdb --username=notes --auth=trust --encoding=UTF8 --no-sync --pgdata=db",
            title="initdb",
            cwd=data,
            env=env,
        )
    )
    postgres = graph.add(
        Task.service(
            f"exec {as_user} postgres -D db -p {database_port} -c listen_addresses=127.0.0.1 "
            "-c unix_socket_directories='' -c fsync=off -c log_statement=all",
            title="postgres",
            cwd=data,
            env=env,
            ready=ready.command(f"pg_isready --quiet --dbname={database}", env=env),
            stop_signal=signal.SIGINT,  # do not wait for clients
        ),
        after=init,
    )
    schema = graph.add(
        Task.bash(
            f"psql --quiet --set=ON_ERROR_STOP=1 --file='{HERE / 'schema.sql'}' {database}",
            title="schema",
            env=env,
        ),
        after=postgres,
    )
    graph.add(
        Task.service(
            f"exec '{sys.executable}' -u '{HERE / 'app.py'}' {web_port}",
            title="web",
            env={**env, "DATABASE": database},
            ready=ready.http(f"{web}/notes"),
        ),
        after=schema,
    )
    return graph, Servers(web, database)


def postgres_programs() -> Path:
    """Return the folder with initdb and postgres, which Debian does not put on PATH."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_isready", "psql")):
            return folder
    raise Missing("PostgreSQL is not installed: get it with your system's package manager")


def user_prefix() -> str:
    """Return what runs a command as another user, since PostgreSQL refuses to run as root."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return ""
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise Missing("root may not run PostgreSQL, and there is no user 'postgres'") from None
    return "setpriv --reuid=postgres --regid=postgres --clear-groups --"
