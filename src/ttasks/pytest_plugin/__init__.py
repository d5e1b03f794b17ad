"""Graphs as fixtures of pytest.

The hooks and the fixtures ``task_executor``, ``task_store``, ``task_events`` and ``task_graph`` are
in `pytest_ttasks`, which pytest finds by itself. Import `graph_fixture` from here.
"""

from ttasks.pytest_plugin.fixtures import graph_fixture

__all__ = ["graph_fixture"]
