"""The servers as a fixture: up before the first test that uses them, gone after the last."""

import tempfile
from pathlib import Path

import pytest
import servers as server_graph

from ttasks.pytest_plugin import graph_fixture


@pytest.fixture(scope="session")
def data_folder():
    """A folder for the database; removed when the servers that use it are gone."""
    with tempfile.TemporaryDirectory(prefix="notes-") as folder:
        yield Path(folder)


def start_servers(data_folder):
    """Start PostgreSQL and the web application; their addresses."""
    try:
        return server_graph.build(data_folder)
    except server_graph.Missing as reason:
        pytest.skip(str(reason))


servers = graph_fixture(start_servers)


@pytest.fixture
def sql(servers, monkeypatch):
    """Run SQL in the database, whose table is empty when the test begins."""
    from app import query

    path = f"{server_graph.postgres_programs()}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("DATABASE", servers.database)
    query("TRUNCATE notes RESTART IDENTITY;")
    return query
