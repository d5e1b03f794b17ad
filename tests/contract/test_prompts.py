"""What every provider of prompts does alike, against a model server of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatkit import (
    ChatServer,
    Reply,
    babbles,
    breaks_off,
    chat_server,
    closed_port_url,
    fails,
    never,
    says,
    use_copilot_cli,
)
from ttasks import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    RateLimitedError,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskTimeoutError,
    TaskType,
    UnknownModelError,
    make_copilot_prompt_handler,
    make_openai_prompt_handler,
)

KEY = "sk-0123456789abcdef"


class Host:
    """A provider, and how a test lets it ask a server."""

    def __init__(self, name: str, handler: Any) -> None:
        self.name = name
        self._handler = handler

    def executor(self, url: str, **settings: Any) -> TaskExecutor:
        executor = TaskExecutor(**settings)
        handler = self._handler or make_openai_prompt_handler("some-model", url, KEY)
        executor.register(TaskType.PROMPT, handler)
        return executor

    def task(self, url: str, text: str = "How are you?", **options: Any) -> Task:
        if self.name == "copilot":
            options["provider"] = {
                "type": "openai",
                "wire_api": "completions",
                "base_url": url,
                "api_key_env": "TEST_MODEL_KEY",
            }
        return Task.prompt(text, **options)


@pytest.fixture(scope="module", params=["openai", "copilot"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_MODEL_KEY", KEY)
        if request.param == "openai":
            host = Host("openai", None)
            # The SDK takes a while to import, which is no part of the time of any test.
            with chat_server() as server, host.executor(server.url) as executor:
                executor.execute(host.task(server.url))
            yield host
            return
        use_copilot_cli(patch, tmp_path_factory.mktemp("copilot"))
        handler = make_copilot_prompt_handler("some-model")
        handler.close = lambda: None  # shared by the executors of all tests
        try:
            host = Host("copilot", handler)
            with chat_server() as server:  # started before the tests look what they leave behind
                host.executor(server.url).execute(host.task(server.url))
            yield host
        finally:
            type(handler).close(handler)


Run = Callable[..., tuple[Task, ChatServer]]


@pytest.fixture
def failing(host: Host) -> Callable[..., tuple[ProviderError, Task, ChatServer]]:
    """Run a prompt against a server that answers like this, and return how it failed."""

    def run(*replies: Reply, **options: Any) -> tuple[ProviderError, Task, ChatServer]:
        with chat_server(*replies) as server, host.executor(server.url) as executor:
            task = host.task(server.url, **options)
            with pytest.raises(ProviderError) as caught:
                executor.execute(task)
            return caught.value, task, server

    return run


def outputs(executor: TaskExecutor) -> list[str]:
    chunks: list[str] = []
    executor.events.subscribe(
        lambda event: chunks.append(event.output_chunk or ""), types=[TaskEventType.OUTPUT]
    )
    return chunks


def test_the_answer_is_the_output_and_its_tokens_are_counted(host: Host) -> None:
    with chat_server(says("I am ", "fine.")) as server, host.executor(server.url) as executor:
        result = executor.execute(host.task(server.url, "How are you?", system="Be brief."))
    assert result.output == result.value == "I am fine."
    assert result.usage is not None
    assert {name: result.usage[name] for name in ("input_tokens", "output_tokens")} == {
        "input_tokens": 11,
        "output_tokens": 3,
    }
    assert result.usage["total_tokens"] == 14
    assert result.raw["content"] == "I am fine."
    assert result.raw["model"] == "some-model"
    (call,) = server.calls
    assert call.key == KEY
    assert call.body["model"] == "some-model"
    assert call.texts("system") == ["Be brief."]
    assert call.texts("user")[0].endswith("How are you?")
    assert not call.body.get("tools")


def test_chunks_are_output_events_while_the_answer_is_written(host: Host) -> None:
    with (
        chat_server(says("one ", "two ", "three", gate=True)) as server,
        host.executor(server.url) as executor,
    ):
        chunks: list[str] = []

        def listen(event: TaskEvent) -> None:
            chunks.append(event.output_chunk or "")
            server.go.set()  # the rest is only sent once the first chunk has been seen

        executor.events.subscribe(listen, types=[TaskEventType.OUTPUT])
        result = executor.execute(host.task(server.url))
    assert chunks == ["one ", "two ", "three"]
    assert result.output == "one two three"


def test_a_server_that_does_not_stream_is_understood(host: Host) -> None:
    with (
        chat_server(says("all at ", "once", stream=False)) as server,
        host.executor(server.url) as executor,
    ):
        chunks = outputs(executor)
        result = executor.execute(host.task(server.url))
    assert result.output == "".join(chunks) == "all at once"


def test_options_of_the_task_win_over_those_of_the_handler(host: Host) -> None:
    with chat_server() as server, host.executor(server.url) as executor:
        executor.execute(host.task(server.url, model="another", max_tokens=77))
    assert server.calls[0].body["model"] == "another"
    assert server.calls[0].body["max_tokens"] == 77


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (fails(401, "bad key"), ProviderAuthenticationError, "key is not accepted (HTTP 401)"),
        (fails(403, "not you"), ProviderAuthenticationError, "access is denied (HTTP 403)"),
        (fails(404, "no model x"), UnknownModelError, "no such model"),
        (fails(429, "slow down"), RateLimitedError, "rate limited (HTTP 429): slow down"),
        (fails(400, "too long"), ProviderError, "refused (HTTP 400): too long"),
        (fails(500, "boom"), ProviderConnectionError, "server failed (HTTP 500): boom"),
        (babbles(), ProviderResponseError, "malformed"),
        (babbles(b"data: {nope\n\n", "text/event-stream"), ProviderResponseError, "malformed"),
        (says(""), ProviderResponseError, "answer is empty"),
        (breaks_off("Well, "), ProviderConnectionError, "connection"),
    ],
    ids=["401", "403", "404", "429", "400", "500", "html", "bad-stream", "empty", "broken-off"],
)
def test_a_failure_of_the_server_has_a_readable_reason(
    failing: Any, reply: Reply, kind: type[ProviderError], words: str
) -> None:
    error, task, server = failing(reply)
    assert type(error) is kind
    assert words in str(error)
    assert len(server.calls) == 1  # trying again is up to the task's policy
    assert task.result.failure.message == str(error)
    assert task.result.termination_reason == "handler"


def test_a_refused_connection_has_a_readable_reason(host: Host) -> None:
    url = closed_port_url()
    with host.executor(url) as executor:
        task = host.task(url)
        with pytest.raises(ProviderConnectionError, match="connection refused"):
            executor.execute(task)


def test_a_rate_limit_can_be_named_by_a_retry_policy(host: Host) -> None:
    policy = RetryPolicy(3, retry_on=(RateLimitedError,))
    with chat_server(fails(429), says("now")) as server, host.executor(server.url) as executor:
        result = executor.execute(host.task(server.url, retry=policy))
    assert result.output == "now"
    assert len(server.calls) == 2


def test_cancelling_in_mid_turn_stops_it_and_keeps_what_was_said(host: Host) -> None:
    with chat_server(never("Once upon a time")) as server, host.executor(server.url) as executor:
        said = threading.Event()
        executor.events.subscribe(lambda _event: said.set(), types=[TaskEventType.OUTPUT])
        task = host.task(server.url)
        future = executor.submit(task)
        assert said.wait(20)
        executor.cancel(task)
        with pytest.raises(TaskCancelled):
            future.result(20)
        assert server.hung_up.wait(5)
    assert task.is_cancelled
    assert task.result is not None
    assert task.result.output == "Once upon a time"


def test_the_timeout_of_the_task_stops_the_turn(host: Host) -> None:
    with chat_server(never()) as server, host.executor(server.url) as executor:
        task = host.task(server.url, timeout=1.0)
        with pytest.raises(TaskTimeoutError, match="after 1 seconds"):
            executor.execute(task)
        assert server.hung_up.wait(5)
    assert task.result is not None
    assert task.result.termination_reason == "timeout"
    assert task.result.duration < 4


def test_turns_at_the_same_time_do_not_mix(host: Host) -> None:
    with (
        chat_server(lambda exchange, call: says(call.texts("user")[0][-1])(exchange, call)) as s,
        host.executor(s.url) as executor,
    ):
        tasks = [host.task(s.url, f"say {letter}") for letter in "abcd"]
        futures = [executor.submit(task) for task in tasks]
        assert [future.result(30).output for future in futures] == list("abcd")


def test_a_key_that_the_server_repeats_is_shown_nowhere(host: Host, tmp_path: Path) -> None:
    reply = fails(401, f"Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}")
    seen: list[TaskEvent] = []
    with (
        chat_server(reply) as server,
        SQLiteStore(tmp_path / "ledger") as store,
        host.executor(server.url, store=store, capture_locals=True) as executor,
    ):
        executor.events.subscribe(seen.append)
        task = host.task(server.url)
        with pytest.raises(ProviderAuthenticationError) as caught:
            executor.execute(task)
    assert server.calls[0].key == KEY
    error = caught.value
    assert KEY not in repr(error) + str(error) + repr(task.result)
    assert "***" in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert all(KEY not in repr(event) + str(event.error) for event in seen)
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
