"""The explorer itself: it finds what it should find, and nothing else."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from random import Random

import pytest

from explore.choices import Choices, Priorities
from explore.explorer import Explorer, Problem
from explore.primitives import VirtualClock, sleep
from explore.runner import many_plays, play
from explore.seam import virtual
from ttasks import sync

TRIES = 100


def explore(main: Callable[[], object], seed: int = 0, **options: object) -> Explorer:
    random = Random(seed)
    choices = Priorities(random, 2, 30) if seed % 2 else Choices(random)
    explorer = Explorer(choices, **options)  # type: ignore[arg-type]
    with virtual():
        explorer.run(main)
    return explorer


def in_threads(*targets: Callable[[], object]) -> None:
    threads = [sync.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def found(main: Callable[[], object]) -> int:
    """How many of some seeds make it fail."""
    failed = 0
    for seed in range(TRIES):
        try:
            explore(main, seed)
        except Problem:
            failed += 1
    return failed


def test_a_lost_update_is_found_and_a_lock_prevents_it() -> None:
    def count(guard: bool) -> None:
        value = 0
        lock, other = sync.Lock(), sync.Lock()

        def add() -> None:
            nonlocal value
            with lock if guard else other:
                seen = value
            if guard:
                with lock:
                    value += 1
            else:
                value = seen + 1

        in_threads(add, add)
        assert value == 2

    assert found(lambda: count(False)) > TRIES / 20
    assert found(lambda: count(True)) == 0


def test_locks_in_two_orders_are_a_deadlock_with_the_stacks_of_both_threads() -> None:
    def main() -> None:
        one, two = sync.Lock(), sync.Lock()

        def first() -> None:
            with one, two:
                pass

        def second() -> None:
            with two, one:
                pass

        in_threads(first, second)

    problems = []
    for seed in range(TRIES):
        try:
            explore(main, seed)
        except Problem as problem:
            problems.append(str(problem))
    assert problems
    assert all("deadlock" in text and "first" in text and "second" in text for text in problems)


def test_waiting_without_an_end_is_a_deadlock_and_looking_without_an_end_a_livelock() -> None:
    def look() -> None:
        lock = sync.Lock()
        lock.acquire()
        while not lock.acquire(False):
            sync.sleep(0)

    with pytest.raises(Problem, match="deadlock"):
        explore(lambda: sync.Event().wait())
    with pytest.raises(Problem, match="livelock"):
        explore(look)


@pytest.mark.parametrize("seed", range(4))
def test_who_looks_in_vain_does_not_keep_others_from_going_on(seed: int) -> None:
    def main() -> None:
        lock = sync.Lock()
        lock.acquire()

        def spin() -> None:
            while not lock.acquire(False):
                sync.sleep(0)

        thread = sync.Thread(target=spin)
        thread.start()
        lock.release()
        thread.join()

    explore(main, seed)


def test_time_passes_only_when_all_wait() -> None:
    seen = []

    def main() -> None:
        clock = VirtualClock()
        event, lock = sync.Event(), sync.Lock()
        lock.acquire()
        in_threads(
            lambda: (sleep(3600), seen.append(("slept", clock.now()))),
            lambda: (event.wait(60), seen.append(("waited", clock.now()))),
            lambda: seen.append((clock.wait_until(lock, 7200), clock.now())),
        )
        condition = sync.Condition()
        with condition:
            assert not condition.wait(1)
        seen.append(("condition", clock.now()))

    explore(main)
    assert seen == [("waited", 60), ("slept", 3600), (False, 7200), ("condition", 7201)]


@pytest.mark.parametrize("seed", range(20))
def test_a_condition_loses_no_notification(seed: int) -> None:
    def main() -> None:
        condition = sync.Condition()
        items: list[int] = []

        def take() -> None:
            with condition:
                condition.wait_for(lambda: items)
                items.pop()

        def put() -> None:
            with condition:
                items.append(1)
                condition.notify()

        in_threads(take, put, take, put)
        assert not items

    explore(main, seed)


@pytest.mark.parametrize("seed", range(20))
def test_an_event_loop_sleeps_in_virtual_time_and_is_woken_by_other_threads(seed: int) -> None:
    def main() -> None:
        loop = asyncio.new_event_loop()
        ended = []

        async def work() -> None:
            await asyncio.sleep(3600)
            ended.append(loop.time())
            loop.stop()

        def serve() -> None:
            loop.run_forever()
            loop.close()

        thread = sync.Thread(target=serve)
        thread.start()
        task = loop.call_soon_threadsafe(lambda: loop.create_task(work()))
        thread.join()
        assert ended == [3600]
        assert not task.cancelled()

    explore(main, seed)


def test_ctrl_c_strikes_the_main_thread_at_its_point_also_while_it_waits() -> None:
    struck = []

    def main(explorer: list[Explorer]) -> None:
        try:
            with explorer[0].armed():
                sync.Event().wait(10)
        except KeyboardInterrupt:
            struck.append(VirtualClock().now())
        with explorer[0].armed():
            signal.signal(signal.SIGINT, lambda *_: struck.append("handler"))
            sleep(1)

    random = Random(0)
    explorer = Explorer(Choices(random), interrupts=(2, 4))
    before = signal.getsignal(signal.SIGINT)
    with virtual():
        explorer.run(lambda: main([explorer]))
    assert struck == [0.0, "handler"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_exception_that_ends_a_thread_and_a_thread_that_goes_on_fail_the_run() -> None:
    def die() -> None:
        raise ValueError("bad")

    with pytest.raises(Problem, match="ValueError: bad"):
        explore(lambda: in_threads(die))
    with pytest.raises(Problem, match="deadlock"):
        explore(lambda: sync.Thread(target=sync.Event().wait, daemon=True).start())


def test_a_run_that_failed_leaves_no_thread() -> None:
    def main() -> None:
        event = sync.Event()
        in_threads(event.wait, event.wait)

    before = threading.active_count()
    with pytest.raises(Problem, match="deadlock"):
        explore(main)
    assert threading.active_count() <= before + 1  # the last of them may just be leaving


def test_the_same_seed_gives_the_same_interleaving() -> None:
    with many_plays():
        for seed in range(20):
            first, second = play(seed), play(seed)
            assert first.trace == second.trace
            assert first.log == second.log


def test_different_seeds_give_different_interleavings() -> None:
    with many_plays():
        traces = {play(seed, "shared_task").trace for seed in range(20)}
    assert len(traces) > 15
