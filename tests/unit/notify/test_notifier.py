"""Notifier: which runs it tells of, once each, and what a channel that fails or hangs does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notifykit import Collector, named
from support import CUSTOM, WAIT, background, bounded, make, wait
from ttasks import (
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    StoreError,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
)
from ttasks.notify import (
    Always,
    Channel,
    CleanupFailed,
    EndedRun,
    Failed,
    Mended,
    Message,
    Notifier,
    NotifyError,
    Reason,
    Slower,
    StillFailing,
)
from ttasks.notify.notifier import LOOK_SECONDS
from ttasks.testing import FakeClock

STORES = ["none", "memory", "ledger"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "ledger":
        with SQLiteStore(tmp_path / "ledger.db") as made:
            yield made
    else:
        yield InMemoryStore() if request.param == "memory" else None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger.db") as made:
        yield made


def executor(store: Any = None, **options: Any) -> TaskExecutor:
    """An executor whose tasks fail if their payload is false."""
    made = TaskExecutor(store, **options)

    def work(context: TaskContext) -> None:
        if not context.payload:
            raise ValueError(f"{context.title} is broken")

    made.register(CUSTOM, work)
    return made


def run(on: TaskExecutor, ok: bool, *, cleanup: bool = True, key: str | None = "nightly") -> None:
    graph = TaskGraph("nightly", key=key)
    first = graph.add(make("first", ok))
    graph.add(make("clean up", cleanup), after=first, finally_=True, required=False)
    bounded(lambda: graph.run(on))


# --- rules --------------------------------------------------------------------------------------


def test_one_message_per_run_and_none_for_what_goes_well(store: Any) -> None:
    tell = Collector()
    with executor(store) as on, Notifier(on, [tell]):
        for ok in (True, False, False, False, True, True, False):
            run(on, ok)
    assert [(item.kind, item.subject) for item in tell.messages] == [
        ("failed", "nightly: 'first' failed"),
        ("still_failing", "nightly: still failing, 2 times in a row: 'first' failed"),
        ("still_failing", "nightly: still failing, 3 times in a row: 'first' failed"),
        ("mended", "nightly: succeeded after 3 failures"),
        ("failed", "nightly: 'first' failed"),
    ]
    assert len({item.id for item in tell.messages}) == 5


def test_a_message_has_all_reasons(store: Any) -> None:
    tell = Collector()
    with executor(store) as on, Notifier(on, [tell]):
        run(on, False, cleanup=False)
        run(on, True, cleanup=False)
    assert [[reason.name for reason in item.reasons] for item in tell.messages] == [
        ["failed", "cleanup_failed"],
        ["mended", "cleanup_failed"],
    ]
    assert tell.messages[1].subject == (
        "nightly: succeeded after 1 failure; cleanup failed: 'clean up'"
    )


def test_graphs_of_other_keys_have_a_history_of_their_own(store: Any) -> None:
    tell = Collector()
    with executor(store) as on, Notifier(on, [tell]):
        run(on, False, key="one")
        run(on, False, key="other")
    assert tell.kinds == ["failed", "failed"]


def test_the_same_graph_without_a_key_has_a_history(store: Any) -> None:
    tell = Collector()
    with executor(store) as on, Notifier(on, [tell]):
        graph = TaskGraph()
        graph.add(make("first", False))
        for _ in range(2):
            bounded(lambda: graph.run(on))
    assert tell.kinds == ["failed", "still_failing"]


def test_earlier_processes_count_with_a_ledger(tmp_path: Path) -> None:
    tell = Collector()
    for ok in (False, False, True):
        store = SQLiteStore(tmp_path / "ledger.db")
        with store, executor(store) as on, Notifier(on, [tell]):
            run(on, ok)
    assert tell.kinds == ["failed", "still_failing", "mended"]


def test_only_every_tenth_failure() -> None:
    tell = Collector()
    with executor() as on, Notifier(on, [tell], [StillFailing(every=10)]):
        for _ in range(23):
            run(on, False)
    assert [item.subject.split(":")[1] for item in tell.messages] == [
        " still failing, 2 times in a row",
        " still failing, 12 times in a row",
        " still failing, 22 times in a row",
    ]


def test_a_count_that_ends_does_not_end_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttasks.notify.rules.EARLIER_RUNS", 3)
    tell = Collector()
    with executor(InMemoryStore()) as on, Notifier(on, [tell], [StillFailing(every=2)]):
        for _ in range(9):
            run(on, False)
    assert [item.subject.split(":")[1] for item in tell.messages] == [
        " still failing, 2 times in a row",
        " still failing, more than 3 times in a row",
        " still failing, more than 3 times in a row",
        " still failing, more than 3 times in a row",
    ]


def test_a_run_that_takes_longer_than_usual() -> None:
    clock, tell = FakeClock(), Collector()
    with executor(clock=clock) as on, Notifier(on, [tell], [Slower()]):

        def take(context: TaskContext) -> None:
            clock.advance(context.payload)

        on.register(CUSTOM, take)
        for seconds in (10, 12, 8, 14.9, 15.5, 60):
            graph = TaskGraph("load", key="load")
            graph.add(make("work", seconds))
            bounded(lambda graph=graph: graph.run(on))
    assert [item.subject for item in tell.messages] == [
        "load: took 1m 00s, usually 12.0s",
    ]


def test_a_timeout_is_a_failure_and_a_cancelled_run_is_none() -> None:
    tell = Collector()
    clock, released = FakeClock(), threading.Event()
    with executor(clock=clock) as on, Notifier(on, [tell]):
        on.register(CUSTOM, lambda context: context.wait_cancelled(1000))
        graph = TaskGraph("slow", key="slow")
        graph.add(make("work"))
        running = background(lambda: graph.run(on, timeout=5))
        clock.wait_for_waits(2)
        clock.advance(5)
        running.result(WAIT)
        cancelled = TaskGraph("slow", key="slow")
        cancelled.add(make("work"))
        run_of_it = cancelled.start(on)
        run_of_it.cancel()
        assert run_of_it.wait(WAIT)
        released.set()
    assert [item.subject for item in tell.messages] == ["slow: ran out of time"]


def test_nested_runs_and_single_tasks_are_not_told_of() -> None:
    tell = Collector()
    with executor() as on, Notifier(on, [tell], [Always()]):

        def outer_work(context: TaskContext) -> None:
            inner = TaskGraph("inner")
            inner.add(make("inside", False))
            inner.run(on)

        on.attempt(make("single", False))
        outer = TaskGraph("outer")
        outer.add(Task.python(outer_work, [None]))
        bounded(lambda: outer.run(on))
    assert [item.data["run"]["title"] for item in tell.messages] == ["outer"]


def test_a_rule_of_ones_own() -> None:
    def many(run: EndedRun) -> Reason | None:
        number = len(run.facts.tasks)
        return Reason("many", f"{number} tasks") if number > 1 else None

    tell = Collector()
    with executor() as on, Notifier(on, [tell], [many]):
        run(on, True)
    assert [item.subject for item in tell.messages] == ["nightly: 2 tasks"]


def test_a_rule_that_raises_is_logged_and_the_others_hold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(run: EndedRun) -> Reason | None:
        raise KeyError("what?")

    tell = Collector()
    with executor() as on, Notifier(on, [tell], [broken, Failed()]):
        run(on, False)
    assert tell.kinds == ["failed"]
    assert "broken" in caplog.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("made", ["failed", True, [], Reason])
def test_a_rule_that_returns_something_else_is_logged_and_the_others_hold(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tell = Collector()
    with executor() as on, Notifier(on, [tell], [lambda run: made, Failed()]):
        run(on, False)
    assert tell.kinds == ["failed"]
    assert "must be a Reason or None, got" in caplog.text


@pytest.mark.parametrize(
    "arguments", [("", "x"), ("x", ""), ("x", None), (5, "x")], ids=["name", "text", "None", "int"]
)
def test_a_reason_has_a_name_and_a_text(arguments: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(name|text) must be a"):
        Reason(*arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((ValueError("x"),), "reason must be a str"),
        (("x", "soon"), "retry_after must be a number"),
        (("x", float("nan")), "retry_after must be a finite number"),
        (("x", -1), "retry_after must be a finite number >= 0"),
        (("x", None, 1), "is_final must be a bool"),
    ],
)
def test_a_wrong_error_of_a_channel_is_an_error_like_others(arguments: Any, said: str) -> None:
    tries: list[Message] = []

    def send(message: Message) -> None:
        tries.append(message)
        if len(tries) == 1:
            raise NotifyError(*arguments)

    retry = RetryPolicy(2, 0.0)
    with executor() as on, Notifier(on, [send], retry=retry) as notifier:
        run(on, False)
        assert notifier.flush(WAIT)
    assert len(tries) == 2  # the thread of the channel is still there
    assert said in str(notifier.errors[0])


def test_secrets_are_hidden_in_messages_errors_and_the_log(
    ledger: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    tell, broken = Collector(), Collector(OSError("no hunter2"))
    channels = [tell, named(broken, "broken")]
    with (
        executor(ledger, redact=["hunter2"]) as on,
        Notifier(on, channels, retry=RetryPolicy(1)) as notifier,
    ):
        graph = TaskGraph("nightly hunter2")
        graph.add(Task.bash("echo hunter2; echo hunter2 >&2; exit 1", title="say hunter2"))
        bounded(lambda: graph.run(on))
    (message,) = tell.messages
    (error,) = notifier.errors
    assert str(error) == "OSError: no ***"
    for text in (message.to_json(), message.text, message.html, caplog.text):
        assert "hunter2" not in text
        assert "***" in text
    assert "hunter2" not in str(ledger.outbox.rows())


def test_a_channel_hides_its_own_secrets(caplog: pytest.LogCaptureFixture) -> None:
    class Own(Channel):
        def send(self, message: Message) -> None:
            raise NotifyError("the password hunter3 is wrong", is_final=True)

    with executor() as on, Notifier(on, [Own("own", ["hunter3"])]) as notifier:
        run(on, False)
        assert notifier.flush(WAIT)
    assert "own: message" in caplog.text
    assert [str(error) for error in notifier.errors] == ["the password *** is wrong"]
    assert "hunter3" not in caplog.text


# --- channels that fail -------------------------------------------------------------------------


def test_a_message_is_sent_again_with_the_same_id(store: Any) -> None:
    clock = FakeClock()
    seen: list[str] = []
    tell = Collector(OSError("down"), OSError("down"))

    def note(message: Message) -> None:
        seen.append(message.id)
        tell(message)

    retry = RetryPolicy(5, 10.0, multiplier=2)
    with executor(store, clock=clock) as on, Notifier(on, [note], retry=retry) as notifier:
        waits = 2 if isinstance(store, SQLiteStore) else 1
        run(on, False)
        tell.wait_for(1)
        assert clock_moves(clock, 10.0, waits)
        tell.wait_for(2)
        assert clock_moves(clock, 20.0, waits)
        tell.wait_for(3)
        assert notifier.flush(WAIT)
        if isinstance(store, SQLiteStore):
            assert len(store.outbox) == 0
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert len(tell.messages) == 1


def clock_moves(clock: FakeClock, seconds: float, waits: int = 1) -> bool:
    """Move the clock to the next attempt; True if it was so far away.

    With a ledger, there is another wait: for the next look at the outbox.
    """
    before = clock.now()
    clock.wait_for_waits(waits)
    return clock.advance_to_next() == before + seconds


def test_a_longer_retry_after_holds() -> None:
    clock = FakeClock()
    tell = Collector(NotifyError("busy", retry_after=100.0), NotifyError("busy", retry_after=0.1))
    retry = RetryPolicy(5, 10.0)
    with executor(clock=clock) as on, Notifier(on, [tell], retry=retry):
        run(on, False)
        tell.wait_for(1)
        assert clock_moves(clock, 100.0)
        tell.wait_for(2)
        assert clock_moves(clock, 10.0)
        tell.wait_for(3)
    assert len(tell.messages) == 1


@pytest.mark.parametrize(
    ("errors", "retry", "calls"),
    [
        ([NotifyError("gone", is_final=True)], RetryPolicy(9), 1),
        ([OSError("down")] * 9, RetryPolicy(3), 3),
        ([KeyError("bug")] * 9, RetryPolicy(9, retry_on=OSError), 1),
        ([SystemExit(3)] * 9, RetryPolicy(3), 1),
    ],
)
def test_a_message_that_is_given_up_stays_in_the_outbox(
    ledger: SQLiteStore,
    errors: list[BaseException],
    retry: RetryPolicy,
    calls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tell = Collector(*errors)
    with executor(ledger) as on:
        with Notifier(on, [tell], retry=retry) as notifier:
            run(on, False)
            assert notifier.flush(WAIT)
        assert (tell.calls, tell.messages) == (calls, [])
        assert "it stays in the outbox for another process" in caplog.text
        (row,) = ledger.outbox.rows()
        assert row.content is not None
        tell.errors.clear()
        with Notifier(on, [tell]) as again:
            tell.wait_for(calls + 1)
            assert again.flush(WAIT)
        assert [item.id for item in tell.messages] == [row.id]
        assert len(ledger.outbox) == 0


def test_without_a_ledger_what_cannot_be_sent_in_time_is_lost_with_a_warning() -> None:
    tell = Collector(*[OSError("down")] * 9)
    with executor() as on:
        notifier = Notifier(on, [tell], retry=RetryPolicy(5, 3600.0))
        run(on, False)
        tell.wait_for(1)
        with pytest.warns(RuntimeWarning, match="1 message could not be sent in time") as caught:
            notifier.close(0.1)
        assert "Collector" in str(caught[0].message)
    assert tell.messages == []


class Hanging:
    """A channel function that hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, message: Message) -> None:
        self.entered.set()
        wait(self.let_go)


def test_a_channel_that_hangs_delays_neither_runs_nor_other_channels(
    ledger: SQLiteStore,
) -> None:
    hanging, tell = Hanging(), Collector()
    with executor(ledger) as on:
        notifier = Notifier(on, [hanging, tell])
        for _ in range(5):
            run(on, False)
            tell.wait_for(1)
        wait(hanging.entered)
        tell.wait_for(5)
        notifier.close(0.2)  # bounded
        assert len(tell.messages) == 5
        assert len(ledger.outbox) == 5  # for the one that hangs
        hanging.let_go.set()


def test_a_channel_that_hangs_without_a_ledger_is_warned_of() -> None:
    hanging = Hanging()
    with executor() as on:
        notifier = Notifier(on, [hanging])
        run(on, False)
        wait(hanging.entered)
        assert not notifier.flush(0.05)
        assert notifier.waiting == 1
        with pytest.warns(RuntimeWarning, match="1 message could not be sent in time"):
            notifier.close(0.1)
        hanging.let_go.set()


def test_a_rule_that_hangs_bounds_the_end_too(ledger: SQLiteStore) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def hangs(run: EndedRun) -> Reason | None:
        entered.set()
        wait(let_go)
        return None

    tell = Collector()
    with executor(ledger) as on:
        notifier = Notifier(on, [tell], [hangs])
        run(on, False)
        run(on, False)
        wait(entered)
        notifier.close(0.1)
        assert len(ledger.outbox) == 2
        let_go.set()


def test_too_many_messages_are_not_held_in_memory(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttasks.notify.notifier.MOST_WAITING", 3)
    hanging, clock = Hanging(), FakeClock()
    sent: list[str] = []

    def tell(message: Message) -> None:
        hanging(message)
        sent.append(message.id)

    with executor(ledger, clock=clock) as on, Notifier(on, [tell]) as notifier:
        for _ in range(5):
            run(on, False)
        wait(hanging.entered)
        while notifier.waiting > 3:
            notifier.flush(0.01)
        hanging.let_go.set()
        assert notifier.flush(WAIT)
        assert len(sent) == 3
        assert len(ledger.outbox) == 2
        clock.wait_for_waits(1)
        clock.advance(LOOK_SECONDS)  # it looks what is left in the outbox
        while len(sent) < 5:
            notifier.flush(0.01)
    assert len(set(sent)) == 5
    assert len(ledger.outbox) == 0


def test_messages_that_cannot_be_sent_any_more_are_removed(
    ledger: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{__name__}._tell"
    now = time.time_ns() // 1000
    for message_id, run_id, created_at, content in (
        ("msg_gone", "no such run", now, None),
        ("msg_old", "run", now - 25 * 3600 * 1_000_000, None),
        ("msg_odd", "run", now, '{"no": "message"}'),
    ):
        (row,) = ledger.outbox.add(run_id, message_id, [name], created_at)
        ledger.outbox.save(row._replace(content=content))
        ledger.outbox.release(row)
    with executor(ledger) as on, Notifier(on, [_tell]) as notifier:
        while len(ledger.outbox):
            notifier.flush(0.01)
            time.sleep(0)
    assert "message msg_gone cannot be sent: its run is no longer in the ledger" in caplog.text
    assert "message msg_old cannot be sent: it is more than a day old" in caplog.text
    assert "message msg_odd cannot be sent" in caplog.text


def test_a_ledger_that_cannot_be_read_now_loses_no_message(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tell, clock = Collector(), FakeClock()
    with executor(ledger, clock=clock) as on, Notifier(on, [tell]) as notifier:
        with monkeypatch.context() as broken:
            broken.setattr("ttasks.notify.notifier.message_of", broken_ledger)
            run(on, False)
            assert notifier.flush(WAIT)
        assert "cannot be told of: the ledger is locked" in caplog.text
        assert len(ledger.outbox) == 1
        clock.wait_for_waits(1)
        clock.advance(LOOK_SECONDS)
        tell.wait_for(1)
    assert tell.kinds == ["failed"]
    assert len(ledger.outbox) == 0


def broken_ledger(*_: object, **__: object) -> None:
    raise StoreError("the ledger is locked")


def test_only_so_many_messages_that_were_given_up_stay_in_the_outbox(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttasks.notify.notifier.MOST_WAITING", 3)
    tell = Collector(*[NotifyError("gone", is_final=True)] * 9)
    with executor(ledger) as on, Notifier(on, [tell]) as notifier:
        for _ in range(5):
            run(on, False)
            assert notifier.flush(WAIT)
        ids = [row.id for row in ledger.outbox.rows()]
    assert len(ids) == 3
    with executor(ledger) as on, Notifier(on, [tell]):
        tell.wait_for(8)


def test_a_channel_may_close_its_notifier(caplog: pytest.LogCaptureFixture) -> None:
    closed = threading.Event()

    def tell(message: Message) -> None:
        with pytest.warns(RuntimeWarning, match="could not be sent in time"):
            notifier.close(0.2)
        closed.set()

    with executor() as on:
        notifier = Notifier(on, [tell])
        run(on, False)
        wait(closed)


def test_an_outbox_that_cannot_be_written_does_not_stop_anything(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    tell = Collector()
    with executor(ledger) as on, Notifier(on, [tell]):
        monkeypatch.setattr(ledger.outbox, "add", full)
        run(on, False)
    assert tell.kinds == ["failed"]
    assert "the outbox cannot be written, messages may be lost: the disk is full" in caplog.text


# --- the end ------------------------------------------------------------------------------------


def test_a_message_without_a_thread_is_sent_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, refused = threading.Thread.start, threading.Event()
    left = [1, 2]  # at the end of the run, and for its message

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("ttasks-notify-") and left:
            if left.pop() == 1:
                refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    tell = Collector()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with executor() as on, Notifier(on, [tell], [Always()]) as notifier:
        run(on, True)
        wait(refused)
        run(on, True)
        assert notifier.flush(WAIT)
    assert len(tell.messages) == 2
    assert "can't start new thread" in caplog.text


def test_after_the_end_nothing_is_told() -> None:
    tell = Collector()
    with executor() as on:
        notifier = Notifier(on, [tell])
        notifier.close()
        notifier.close()
        run(on, False)
    assert tell.messages == []
    assert not [item for item in threading.enumerate() if item.name.startswith("ttasks-notify")]


def test_what_is_queued_is_sent_before_the_end() -> None:
    tell = Collector()
    with executor() as on, Notifier(on, [tell]):
        for _ in range(20):
            run(on, False)
    assert len(tell.messages) == 20


# --- bad input ----------------------------------------------------------------------------------


def _tell(message: Message) -> None:
    raise AssertionError


async def _atell(message: Message) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("make_it", "kind", "said"),
    [
        (lambda on: Notifier("x", [_tell]), TypeError, "executor must be a TaskExecutor, got str"),
        (lambda on: Notifier(on, []), ValueError, "there is no channel; give at least one"),
        (lambda on: Notifier(on, _tell), TypeError, "channels must be an iterable of channels"),
        (lambda on: Notifier(on, "https://h/T0KEN"), TypeError, "channels must be an iterable"),
        (lambda on: Notifier(on, [5]), TypeError, "channels[0] must be a Channel, a function"),
        (lambda on: Notifier(on, [None]), TypeError, "channels[0] must be a Channel, a function"),
        (lambda on: Notifier(on, [Hanging]), TypeError, "is the class Hanging; give an instance"),
        (lambda on: Notifier(on, [_tell, _tell]), ValueError, "two channels have the name"),
        (lambda on: Notifier(on, [_atell]), TypeError, "channels[0] is a coroutine function"),
        (lambda on: Notifier(on, [_tell], [_atell]), TypeError, "rules[0] is a coroutine function"),
        (lambda on: Notifier(on, [_tell], []), ValueError, "there is no rule"),
        (lambda on: Notifier(on, [_tell], Failed()), TypeError, "rules must be an iterable"),
        (lambda on: Notifier(on, [_tell], [Failed]), TypeError, "is the class Failed; write Fail"),
        (lambda on: Notifier(on, [_tell], ["failed"]), TypeError, "rules[0] must be a rule"),
        (lambda on: Notifier(on, [_tell], retry=3), TypeError, "retry must be a RetryPolicy"),
        (lambda on: StillFailing(0), ValueError, "every must be an int >= 1, got 0"),
        (lambda on: Slower(1), ValueError, "ratio must be a finite number > 1, got 1"),
        (lambda on: Slower(least_seconds=-1), ValueError, "least_seconds must be"),
        (lambda on: Slower(least_runs=0), ValueError, "least_runs must be an int >= 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(
    make_it: Callable[[TaskExecutor], object], kind: Any, said: str
) -> None:
    with executor() as on, pytest.raises(kind) as caught:
        make_it(on)
    assert said in str(caught.value)
    assert "T0KEN" not in str(caught.value)


def test_a_channel_without_a_name_is_refused() -> None:
    class Own(Channel):
        def __init__(self) -> None:
            pass

        def send(self, message: Message) -> None:
            raise AssertionError

    with executor() as on, pytest.raises(TypeError, match="has no name; call super"):
        Notifier(on, [Own()])


def test_wrong_times_are_refused() -> None:
    with executor() as on, Notifier(on, [_tell], [Mended(), CleanupFailed()]) as notifier:
        with pytest.raises(ValueError, match="timeout must be a finite number > 0"):
            notifier.flush(0)
        with pytest.raises(ValueError, match="timeout must be a finite number >= 0"):
            notifier.close(-1)
