"""Messages of real runs, and reports that are sent at once."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from notifykit import SECRET, Collector, closed_port, message, named, serve
from support import wait
from ttasks import RunReport, Task, TaskExecutor, TaskGraph, TTasksError
from ttasks.notify import Channel, Message, NotifyError, Webhook


def broken() -> None:
    raise ValueError("no <space> left")


@pytest.fixture
def report() -> RunReport:
    """Of a run with a failure, a blocked task and one that succeeded."""
    graph = TaskGraph("nightly", key="nightly")
    dump = graph.add(Task.bash("echo reading; echo no space >&2; exit 3", title="dump"))
    graph.add(Task.bash("true", title="upload"), after=dump)
    graph.add(Task.bash("true", title="lint"))
    graph.add(Task.python(broken, title="check"))
    with TaskExecutor() as executor:
        return graph.run(executor).report()


def test_a_message_says_what_failed_and_why(report: RunReport) -> None:
    tell = Collector()
    (done,) = report.notify(tell)
    assert (done.attempts, done.error, bool(done)) == (1, None, True)
    (found,) = tell.messages
    assert (found.kind, found.is_good) == ("report", False)
    assert found.subject == "nightly: failed"
    lines = found.text.splitlines()
    assert lines[0] == found.subject
    assert "Tasks:    2 failed, 1 blocked, 1 succeeded" in lines
    at = lines.index("dump failed")
    assert lines[at + 1] == "  Command failed with exit code 3: no space"
    assert lines[at + 2] == "  did not run because of it: upload"
    assert lines[at + 3 : at + 5] == ["  end of its output:", "  | reading"]
    assert "  ValueError: no <space> left" in lines
    assert "ValueError: no &lt;space&gt; left" in found.html
    assert [failure["title"] for failure in found.data["failures"]] == ["dump", "check"]
    assert found.data["run"]["counts"] == {"failed": 2, "blocked": 1, "succeeded": 1}


def test_a_message_survives_the_outbox(report: RunReport) -> None:
    class Attaching(Channel):
        attaches = True

        def send(self, message: Message) -> None:
            tell(message)

    tell = Collector()
    report.notify(Attaching("attaching"))
    (found,) = tell.messages
    assert found.report is not None
    assert found.report.startswith("<!DOCTYPE html>")
    again = Message.from_json(found.to_json())
    assert again == found
    assert (again.text, again.html) == (found.text, found.html)


def test_a_report_is_made_only_for_channels_that_attach_it(report: RunReport) -> None:
    tell = Collector()
    report.notify(tell)
    assert tell.messages[0].report is None


def test_only_some_tasks(report: RunReport) -> None:
    tell = Collector()
    report.notify(tell, tasks=["dump", "lint"])
    report.notify(tell, tasks=["lint"])
    report.notify(tell, only_failures=True)
    titles = [[item["title"] for item in one.data["failures"]] for one in tell.messages]
    assert titles == [["dump"], [], ["dump", "check"]]


def test_only_failures_sends_nothing_if_there_are_none() -> None:
    graph = TaskGraph()
    graph.add(Task.bash("true"))
    tell = Collector()
    with TaskExecutor() as executor:
        report = graph.run(executor).report()
    assert report.notify(tell, only_failures=True) == []
    assert tell.messages == []


def test_a_message_of_many_failures_is_short() -> None:
    graph = TaskGraph()
    for number in range(30):
        graph.add(Task.bash("exit 1", title=f"task {number} " + "x" * 400))
    tell = Collector()
    with TaskExecutor() as executor:
        graph.run(executor).report().notify(tell)
    (found,) = tell.messages
    assert len(found.data["failures"]) == 10
    assert found.data["more_failures"] == 20
    assert found.text.splitlines()[-1] == "... and 20 more"
    assert "and 20 more" in found.html
    assert len(found.subject) <= 150
    assert len(found.text) < 30_000


def test_channels_are_tried_at_the_same_time_and_again_until_the_time_is_up(
    report: RunReport,
) -> None:
    let_go = threading.Event()
    tell, again = Collector(), Collector(OSError("down"))
    refusing = Collector(*[NotifyError("gone", is_final=True)] * 5)

    def hangs(message: Message) -> None:
        wait(let_go)

    with pytest.warns(RuntimeWarning) as caught:
        done = report.notify(
            hangs, tell, named(again, "again"), named(refusing, "refusing"), timeout=2.0
        )
    let_go.set()
    assert [(bool(one), one.attempts) for one in done] == [
        (False, 1),
        (True, 1),
        (True, 2),
        (False, 1),
    ]
    assert [str(one.error) for one in done if one.error] == ["it took longer than 2 s", "gone"]
    texts = [str(item.message) for item in caught]
    assert [text.rpartition(".")[2] for text in texts] == [
        "hangs': it took longer than 2 s",
        "refusing': gone",
    ]
    assert len({item.id for item in [*tell.messages, *again.messages]}) == 1


def test_a_url_may_be_given(report: RunReport) -> None:
    with serve() as web:
        assert all(report.notify(f"{web.url}#{SECRET}", Webhook(web.url, name="other")))
        assert len(web.wait_for(2)) == 2
        assert len({post.headers["webhook-id"] for post in web.posts}) == 1


def test_nothing_is_raised_for_a_channel_that_cannot_be_reached(report: RunReport) -> None:
    url = f"http://127.0.0.1:{closed_port()}/T0KEN"
    with pytest.warns(RuntimeWarning, match="cannot reach 127.0.0.1: Connection ref") as caught:
        (done,) = report.notify(url, timeout=0.7)
    assert not done
    assert "T0KEN" not in str(caught[0].message)


@pytest.mark.parametrize(
    ("channels", "options", "kind", "said"),
    [
        ((), {}, ValueError, "there is no channel; give at least one"),
        ((5,), {}, TypeError, "channels[0] must be a Channel"),
        ((print,), {"timeout": 0}, ValueError, "timeout must be a finite number > 0"),
        ((print,), {"only_failures": 1}, TypeError, "only_failures must be a bool"),
        ((print,), {"tasks": "dump"}, TypeError, "titles must be an iterable of str"),
        ((print,), {"tasks": ["dumb"]}, LookupError, "did you mean 'dump'"),
    ],
)
def test_a_wrong_argument_is_refused(
    report: RunReport, channels: Any, options: dict[str, Any], kind: Any, said: str
) -> None:
    with pytest.raises(kind) as caught:
        report.notify(*channels, **options)
    assert said in str(caught.value)


def test_errors_and_messages_survive_pickling() -> None:
    error = NotifyError("busy", 5.0, True)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, TTasksError)
    assert (again.reason, again.retry_after, again.is_final) == ("busy", 5.0, True)
    assert pickle.loads(pickle.dumps(message())) == message()
