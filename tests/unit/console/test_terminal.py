"""The live view through a real terminal: in all sizes, with all that tasks may print."""

from __future__ import annotations

import logging
import threading

import pytest

from consolekit import executor, plain, script, scripted, terminal
from support import WAIT, Gate, wait
from ttasks import SQLiteStore, Task, TaskGraph
from ttasks.console import console
from ttasks.testing import FakeClock

SIZES = [(20, 5), (80, 24), (200, 60)]


def bound(rows: int) -> int:
    """How many lines the footer may take."""
    return max(0, min(8, rows - 3))


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_what_runs_is_below_and_what_has_ended_above(columns: int, rows: int) -> None:
    gate = Gate()
    graph = TaskGraph("two")
    graph.add(scripted("first", script("out\n")))
    graph.add(scripted("second", gate))
    with terminal(columns, rows) as screen:
        with executor() as running, console(running, "live", file=screen.file):
            thread = threading.Thread(target=graph.run, args=(running, 1))
            thread.start()
            screen.wait_for("1/2" if columns < 30 else "second")
            gate.wait_reached()
            screen.wait_for("s  first")
            screen.wait_for_footer(1, bound(rows))
            gate.open()
            thread.join(WAIT)
        lines = screen.everything()
        assert sum("second" in line for line in lines) == 1  # no remains of the footer
        assert "2 succeeded" in "".join(lines)
        assert screen.most_below <= bound(rows) + 1
        assert not screen.below()


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_every_line_of_a_thousand_tasks_is_there_once(columns: int, rows: int) -> None:
    graph = TaskGraph("many")
    for number in range(1000):
        graph.add(scripted(f"t{number}", script(f"out {number}\n")))
    with terminal(columns, rows) as screen:
        with executor() as running, console(running, "live", file=screen.file):
            graph.run(running, 4)
        ended = [line.split()[-1] for line in screen.everything() if line.startswith("✓")]
        assert sorted(ended[:1000], key=lambda name: int(name[1:])) == [
            f"t{number}" for number in range(1000)
        ]
        assert screen.most_below <= bound(rows) + 1


def test_the_longest_running_come_first_and_the_rest_is_counted() -> None:
    barrier = threading.Barrier(41)
    done = threading.Event()

    def busy(_context) -> None:
        barrier.wait(WAIT)
        wait(done)

    graph = TaskGraph("busy")
    for number in range(40):
        graph.add(scripted(f"busy-{number}", busy))
    for number in range(60):
        graph.add(scripted(f"later-{number}", script()))
    with (
        terminal(80, 24) as screen,
        executor() as running,
        console(running, "live", file=screen.file),
    ):
        thread = threading.Thread(target=graph.run, args=(running, 40))
        thread.start()
        barrier.wait(WAIT)
        for text in ("+35 running", "later-0 waits for a worker", "0/100"):
            screen.wait_for(text)
        screen.wait_for_footer(bound(24), bound(24))
        done.set()
        thread.join(WAIT)


def test_what_waits_says_for_what() -> None:
    gate = Gate()
    graph = TaskGraph("wait")
    build = graph.add(scripted("build", gate))
    graph.add(scripted("test", script()), after=build)
    with (
        terminal() as screen,
        executor() as running,
        console(running, "live", file=screen.file),
    ):
        thread = threading.Thread(target=graph.run, args=(running,))
        thread.start()
        screen.wait_for("test waits for build")
        gate.open()
        thread.join(WAIT)


def test_progress_is_drawn() -> None:
    gate = Gate()

    def counts(context) -> None:
        context.emit_progress(50, "half of it")
        gate(context)

    with (
        terminal() as screen,
        executor() as running,
        console(running, "live", file=screen.file),
    ):
        future = running.submit(scripted("count", counts))
        lines = screen.wait_for("half of it")
        (line,) = [line for line in lines if "half of it" in line]
        assert "50%" in line
        assert line.count("━") == line.count("─") == 8
        gate.open()
        future.result(WAIT)


def test_the_latest_line_of_output_is_shown_without_its_codes() -> None:
    gate = Gate()

    def prints(context) -> None:
        context.emit_output("first\n\x1b[2J\x1b[31m10%\r99% of 日本\x1b[5A\n")
        gate(context)

    with (
        terminal() as screen,
        executor() as running,
        console(running, "live", file=screen.file),
    ):
        future = running.submit(scripted("prints", prints))
        lines = screen.wait_for("99% of")
        assert not any("10%" in line for line in lines)
        gate.open()
        future.result(WAIT)


@pytest.mark.parametrize("title", ["日本語" * 30, "e\u0301" * 90, "x" * 300, "👩‍💻 work" * 20])
@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_wide_and_combining_titles_never_wrap_the_footer(
    title: str, columns: int, rows: int
) -> None:
    gate = Gate()
    with terminal(columns, rows) as screen:
        with executor() as running, console(running, "live", file=screen.file):
            future = running.submit(scripted(title, gate))
            gate.wait_reached()
            screen.wait_for("0/1")
            screen.wait_for_footer(1, bound(rows))
            gate.open()
            future.result(WAIT)
        assert screen.most_below <= bound(rows) + 1


WIDTHS = [(80, 24), (60, 24), (100, 24), (72, 24), (90, 24)]
BOTH = [(80, 24), (60, 20), (100, 30), (72, 12), (80, 5), (90, 24)]


@pytest.mark.parametrize("sizes", [WIDTHS, BOTH])
def test_a_window_that_changes_its_size_all_the_time_shows_every_line_once(
    sizes: list[tuple[int, int]],
) -> None:
    lines_each, tasks = 5, 60
    resized = threading.Event()

    def slow(context) -> None:
        context.emit_output("".join(f"{context.title}:{n}\n" for n in range(lines_each)))
        resized.wait(0.01)

    graph = TaskGraph("resized")
    for number in range(tasks):
        graph.add(scripted(f"t{number}", slow))
    with terminal() as screen:
        with executor() as running, console(running, "live", file=screen.file):
            thread = threading.Thread(target=graph.run, args=(running, 2))
            thread.start()
            turn = 0
            while thread.is_alive():
                screen.resize(*sizes[turn % len(sizes)])
                turn += 1
                thread.join(0.03)
        assert turn > 3
        screen.settle()
        raw = plain(screen.raw.decode())
        seen = screen.everything()
    ended = [line.split()[-1] for line in raw.splitlines() if line.startswith("✓") and "." in line]
    assert sorted(ended[:tasks]) == sorted(f"t{number}" for number in range(tasks))
    if sizes is BOTH:  # the emulator leaves the cursor behind when it moves the lines up
        return
    kept = [line.split()[-1] for line in seen if line.startswith("✓") and "resized" not in line]
    assert len(kept) == len(set(kept)), "a line is there twice"
    assert not any("━" in line for line in seen), "remains of the footer"


def test_prints_of_the_program_stay_above_the_footer(monkeypatch) -> None:
    gate = Gate()
    with terminal() as screen:
        monkeypatch.setattr("sys.stdout", screen.file)
        with executor() as running, console(running, "live"):
            future = running.submit(scripted("runs", gate))
            screen.wait_for("runs")
            print("a line of the program")
            print("and ", end="")
            print("another")
            screen.wait_for("and another")
            screen.wait_for_footer(2, 2)
            gate.open()
            future.result(WAIT)
        text = [line for line in screen.everything() if line]
        assert text[0] == "a line of the program"
        assert text[1] == "and another"


def test_log_records_stay_above_the_footer_too(monkeypatch) -> None:
    gate = Gate()
    with terminal() as screen:
        monkeypatch.setattr("sys.stderr", screen.file)
        handler = logging.StreamHandler(screen.file)
        logging.getLogger().addHandler(handler)
        try:
            with executor() as running, console(running, "live", file=screen.file):
                future = running.submit(scripted("runs", gate))
                screen.wait_for("runs")
                logging.getLogger("mine").warning("a record")
                screen.wait_for("a record")
                screen.wait_for_footer(2, 2)
                gate.open()
                future.result(WAIT)
        finally:
            logging.getLogger().removeHandler(handler)
        assert handler.stream is screen.file
        assert screen.everything()[0] == "a record"


def test_nested_graphs_count_as_one_and_their_tasks_say_where_they_are() -> None:
    gate = Gate()
    with terminal() as screen:
        with executor() as running, console(running, "live", file=screen.file):

            def nested(_context) -> None:
                inner = TaskGraph("database")
                migrate = inner.add(scripted("migrate", gate))
                inner.add(scripted("fill", script()), after=migrate)
                inner.run(running, 1)

            outer = TaskGraph("outer")
            outer.add(scripted("prepare", nested))
            outer.add(scripted("other", script()))
            thread = threading.Thread(target=outer.run, args=(running, 1))
            thread.start()
            screen.wait_for("database / fill waits for database / migrate")
            screen.wait_for("0/4")
            gate.open()
            thread.join(WAIT)
        lines = screen.everything()
        ended = [line.split("  ", 2)[-1].split("s  ")[-1] for line in lines if line.startswith("✓")]
        assert ended[:3] == ["database / migrate", "database / fill", "prepare"]
        assert sum("succeeded" in line for line in lines) == 1
        assert "4 succeeded" in lines[-1]


def test_the_time_left_is_told_by_the_ledger(tmp_path) -> None:
    store = SQLiteStore(tmp_path / "ledger.db")

    def graph_of(handler) -> TaskGraph:
        graph = TaskGraph("often", key="often")
        graph.add(scripted("slow", handler))
        return graph

    clock = FakeClock()
    with executor(store=store, clock=clock) as running:

        def takes(context) -> None:
            clock.advance(90)

        for _ in range(3):
            graph_of(takes).run(running)
    gate = Gate()
    with (
        terminal() as screen,
        executor(store=store) as running,
        console(running, "live", file=screen.file),
    ):
        thread = threading.Thread(target=graph_of(gate).run, args=(running,))
        thread.start()
        screen.wait_for("about 1m 30s left")
        gate.open()
        thread.join(WAIT)
    store.close()


def test_a_terminal_that_stops_reading_costs_the_run_nothing() -> None:
    graph = TaskGraph("blocked")
    for number in range(200):
        graph.add(scripted(f"t{number}", script("x" * 1000 + "\n")))
    with terminal() as screen:
        screen.pause()
        with executor() as running, console(running, "stream", file=screen.file):
            graph.run(running, 4)  # ends although nobody reads 200 kB
            assert graph.ok


def test_a_terminal_that_goes_away_costs_the_run_nothing() -> None:
    gate = Gate()
    graph = TaskGraph("gone")
    first = graph.add(scripted("first", gate))
    graph.add(scripted("second", script("out\n" * 1000)), after=first)
    with terminal() as screen, executor() as running:
        with console(running, "live", file=screen.file):
            thread = threading.Thread(target=graph.run, args=(running,))
            thread.start()
            screen.wait_for("first")
            screen.hang_up()
            gate.open()
            thread.join(WAIT)
            assert not thread.is_alive()
        assert graph.ok


def test_a_failing_command_in_the_live_view() -> None:
    graph = TaskGraph("fails")
    graph.add(Task.bash("echo bad line; exit 3", title="lint"))
    with terminal() as screen:
        with executor() as running, console(running, "live", file=screen.file):
            graph.run(running)
        lines = screen.everything()
        assert any(line.endswith("lint  exit code 3") for line in lines)
        assert "  │ bad line" in lines
        assert any("again   echo bad line; exit 3" in line for line in lines)
