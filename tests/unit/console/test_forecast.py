"""How long a run will take is known from the runs of its graph before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consolekit import executor, scripted
from ttasks import InMemoryStore, TaskGraph
from ttasks.console.board import Board
from ttasks.console.forecast import Forecast, medians
from ttasks.console.rows import Row, Section
from ttasks.engine.history import GraphHistory
from ttasks.model.run import source_of
from ttasks.testing import FakeClock


def begun(graph: TaskGraph) -> tuple[Board, Section]:
    """A board that has heard of the beginning of the graph's latest run."""
    source = source_of(graph.latest_run)
    assert isinstance(source, GraphHistory)
    head, board = source.head(), Board()
    return board, board.begin(head, source.planned(), head.started_at, 0.0)


def test_a_nested_task_of_the_same_title_is_another_task() -> None:
    clock, store = FakeClock(), InMemoryStore()
    with executor(store=store, clock=clock) as running:

        def inner(_context) -> None:
            nested = TaskGraph("nested")
            nested.add(scripted("work", lambda _: clock.advance(600)))
            nested.run(running)

        for _ in range(3):
            graph = TaskGraph("nightly", key="nightly")
            first = graph.add(scripted("work", lambda _: clock.advance(30)))
            graph.add(scripted("more", inner), after=first)
            graph.run(running)
    board, _ = begun(graph)
    head = source_of(graph.latest_run).head()
    found = medians(store, head, board.rows)
    names = {board.rows[task_id].name: seconds for task_id, seconds in found.items()}
    assert names == {"work": pytest.approx(30), "more": pytest.approx(600)}


def test_a_run_that_the_store_does_not_know_yet_has_earlier_ones_too() -> None:
    clock, store = FakeClock(), InMemoryStore()
    with executor(store=store, clock=clock) as running:
        graph = TaskGraph("nightly")
        graph.add(scripted("work", lambda _: clock.advance(30)))
        graph.run(running)
    board, _ = begun(graph)
    head = source_of(graph.latest_run).head()
    assert medians(store, head, board.rows) == {}  # there is none before it
    new = replace(head, id="another")
    assert list(medians(store, new, board.rows).values()) == [pytest.approx(30)]


def test_what_is_left_is_the_longest_path_or_the_work_of_all_workers() -> None:
    clock = FakeClock()
    with executor(clock=clock) as running:
        graph = TaskGraph("chain")
        first = graph.add(scripted("first", lambda _: None))
        graph.add(scripted("second", lambda _: None), after=first)
        graph.add(scripted("third", lambda _: None))
        graph.run(running)
    board, section = begun(graph)
    rows: dict[str, Row] = board.rows
    usual = dict(zip(rows, (10.0, 20.0, 5.0), strict=True))
    for workers, left in ((2, 30.0), (1, 35.0)):
        forecast = Forecast()
        forecast.begin(rows, usual, workers)
        assert forecast.left(board, section, 0.0) == left
