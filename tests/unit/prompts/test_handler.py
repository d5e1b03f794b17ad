"""The prompt handler itself, with providers that do as a test says."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatkit import chat_server, says
from ttasks import (
    MissingExtraError,
    PromptReply,
    ProviderError,
    Task,
    TaskCancelled,
    TaskExecutor,
    TaskTimeoutError,
    TaskType,
    make_copilot_agent_handler,
    make_copilot_prompt_handler,
    make_openai_prompt_handler,
)
from ttasks.prompts import client
from ttasks.prompts.handler import PromptHandler
from ttasks.prompts.provider import Channel, TurnRequest
from ttasks.testing import FakeClock

KEY = "sk-0123456789abcdef"


class Scripted:
    """A provider whose turns do what the text of the prompt says."""

    name = "Scripted"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.killed = threading.Event()
        self.closed = threading.Event()
        self.stopped = threading.Event()

    async def turn(self, request: TurnRequest, channel: Channel) -> PromptReply:
        self.begun.set()
        if request.text == "break":
            raise LookupError(f"the key is {KEY}")
        if request.text == "wait":
            try:
                await asyncio.sleep(60)
            finally:
                self.stopped.set()
        if request.text == "ignore":
            while not self.killed.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
        channel.emit(request.text)
        return PromptReply(request.text)

    async def close(self) -> None:
        self.closed.set()

    def kill(self) -> None:
        self.killed.set()


class Opened:
    """Makes handlers, and knows what they have opened."""

    def __init__(self) -> None:
        self.providers: list[Scripted] = []

    def open(self) -> Scripted:
        self.providers.append(Scripted())
        return self.providers[-1]

    def handler(self, **settings: Any) -> PromptHandler:
        return PromptHandler("scripted", self.open, {"model": "m"}, **settings)


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def run(opened: Opened) -> Iterator[Callable[..., TaskExecutor]]:
    """An executor with a scripted handler, closed at the end."""
    executors: list[TaskExecutor] = []

    def make(**settings: Any) -> TaskExecutor:
        executor = TaskExecutor.empty()
        executors.append(executor)
        executor.register(TaskType.PROMPT, opened.handler(**settings))
        return executor

    yield make
    for executor in executors:
        executor.shutdown()


def test_the_timeout_of_the_handler_holds_for_tasks_without_one(run: Any, opened: Opened) -> None:
    executor = run(timeout=0.05)
    with pytest.raises(TaskTimeoutError, match="after 0.05 seconds"):
        executor.execute(Task.prompt("wait"))
    assert opened.providers[0].stopped.is_set()


def test_the_timeout_of_the_task_wins_over_that_of_the_handler(run: Any) -> None:
    with pytest.raises(TaskTimeoutError, match="after 0.05 seconds"):
        run(timeout=60).execute(Task.prompt("wait", timeout=0.05))
    assert run(timeout=0.0001).execute(Task.prompt("hello", timeout=30)).output == "hello"


def test_the_import_of_an_sdk_is_no_part_of_the_time_of_a_task(opened: Opened) -> None:
    clock = FakeClock()

    def slow_import() -> Scripted:
        clock.advance(3600)
        return opened.open()

    with TaskExecutor.empty(clock=clock) as executor:
        executor.register(TaskType.PROMPT, PromptHandler("scripted", slow_import, {"model": "m"}))
        assert executor.execute(Task.prompt("hello", timeout=30)).output == "hello"


def test_one_provider_serves_all_turns_until_shutdown_closes_it(run: Any, opened: Opened) -> None:
    executor = run()
    futures = [executor.submit(Task.prompt(f"t{number}")) for number in range(20)]
    assert [future.result(20).output for future in futures] == [f"t{n}" for n in range(20)]
    (provider,) = opened.providers
    assert not provider.closed.is_set()
    executor.shutdown()
    assert provider.closed.is_set()
    assert not provider.killed.is_set()
    executor.shutdown()


def test_shutdown_that_does_not_wait_lets_the_last_turn_close(run: Any, opened: Opened) -> None:
    executor = run()
    executor.execute(Task.prompt("first"))
    (provider,) = opened.providers
    provider.begun.clear()
    task = Task.prompt("wait")
    future = executor.submit(task)
    assert provider.begun.wait(10)
    executor.shutdown(wait=False)
    assert not provider.closed.is_set()
    executor.cancel(task)
    with pytest.raises(TaskCancelled):
        future.result(10)
    executor.shutdown()
    assert provider.closed.is_set()


def test_a_turn_after_close_opens_a_provider_for_itself(opened: Opened) -> None:
    handler = opened.handler()
    with TaskExecutor.empty() as executor:
        executor.register(TaskType.PROMPT, handler)
        handler.close()
        for text in "ab":
            assert executor.execute(Task.prompt(text)).output == text
        assert [provider.closed.is_set() for provider in opened.providers] == [True, True]


def test_shutdown_closes_a_handler_that_was_replaced(opened: Opened) -> None:
    with TaskExecutor.empty() as executor:
        executor.register(TaskType.PROMPT, opened.handler())
        executor.execute(Task.prompt("x"))
        executor.register(TaskType.PROMPT, lambda _context: "y")
        assert not opened.providers[0].closed.is_set()
    assert opened.providers[0].closed.is_set()


def test_a_handler_that_nobody_closes_ends_its_provider_when_it_is_garbage(opened: Opened) -> None:
    executor = TaskExecutor.empty()
    executor.register(TaskType.PROMPT, opened.handler())
    executor.execute(Task.prompt("x"))
    del executor
    for _ in range(20):  # the loop's thread may still be busy with the end of the turn
        gc.collect()
        if opened.providers[0].killed.wait(0.05):
            return
    pytest.fail("the provider was not ended")


def test_a_turn_that_does_not_obey_is_killed(
    run: Any, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "END_PATIENCE", 0.05)
    executor = run()
    executor.execute(Task.prompt("first"))
    opened.providers[0].begun.clear()
    task = Task.prompt("ignore")
    future = executor.submit(task)
    assert opened.providers[0].begun.wait(10)
    executor.cancel(task)
    with pytest.raises(TaskCancelled):
        future.result(10)
    assert opened.providers[0].killed.is_set()


def test_an_unexpected_error_of_a_provider_shows_nothing_of_it(run: Any) -> None:
    task = Task.prompt("break")
    with pytest.raises(ProviderError, match="failed unexpectedly \\(LookupError\\)") as caught:
        run().execute(task)
    assert KEY not in f"{caught.value!r} {task.result!r}"
    assert caught.value.__context__ is None


def test_a_task_that_is_cancelled_before_it_begins_opens_nothing(run: Any, opened: Opened) -> None:
    executor = run()
    task = Task.prompt("x")
    executor.cancel(task)
    with pytest.raises(TaskCancelled):
        executor.execute(task)
    assert opened.providers == []


# --- the makers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name", "value", "error"),
    [
        (make_copilot_prompt_handler, "model", "", ValueError),
        (make_copilot_prompt_handler, "timeout", 0, ValueError),
        (make_copilot_prompt_handler, "provider", "http://x", TypeError),
        (make_copilot_prompt_handler, "github_token", "", TypeError),
        (make_copilot_prompt_handler, "max_tokens", 0, ValueError),
        (make_copilot_agent_handler, "permissions", True, TypeError),
        (make_copilot_agent_handler, "cwd", 5, TypeError),
        (make_openai_prompt_handler, "base_url", "", TypeError),
        (make_openai_prompt_handler, "api_key", 5, TypeError),
        (make_openai_prompt_handler, "temperature", 3, ValueError),
        (make_openai_prompt_handler, "system", "", ValueError),
    ],
)
def test_a_wrong_argument_is_refused_by_name(
    make: Any, name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        make(**{"model": "m", name: value})


def test_no_repr_shows_a_key() -> None:
    setting = {"base_url": "http://x", "api_key": KEY}
    for handler in (
        make_copilot_prompt_handler(provider=setting, github_token=KEY),
        make_copilot_agent_handler(provider=setting),
        make_openai_prompt_handler("m", api_key=KEY),
    ):
        assert KEY not in repr(handler) + repr(vars(handler))
        assert "model=" in repr(handler)


def test_the_openai_handler_takes_address_and_key_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with chat_server(says("yes")) as server, TaskExecutor() as executor:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        executor.register(TaskType.PROMPT, make_openai_prompt_handler("m", temperature=0.25))
        assert executor.execute(Task.prompt("hello")).output == "yes"
    assert server.calls[0].key == KEY
    assert server.calls[0].body["temperature"] == 0.25


def test_the_openai_handler_needs_no_key_for_a_server_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with chat_server(says("yes")) as server, TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, make_openai_prompt_handler("m", server.url))
        assert executor.execute(Task.prompt("hello")).output == "yes"


def test_the_openai_handler_refuses_the_setting_of_another(opened: Opened) -> None:
    with TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, make_openai_prompt_handler("m", "http://127.0.0.1:9/v1"))
        with pytest.raises(ProviderError, match="no option 'provider'"):
            executor.execute(Task.prompt("hello", provider={"base_url": "http://x"}))


def test_without_the_openai_extra_the_error_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, make_openai_prompt_handler("m"))
        with pytest.raises(MissingExtraError, match=r"pip install 'ttasks\[openai\]'"):
            executor.execute(Task.prompt("hello"))


def test_handlers_import_and_start_nothing_before_the_first_turn() -> None:
    script = """
import sys, threading
from ttasks import TaskExecutor, make_copilot_prompt_handler, make_openai_prompt_handler
make_copilot_prompt_handler(), make_openai_prompt_handler("m")
with TaskExecutor():
    assert not {"copilot", "openai", "asyncio", "sqlite3"} & set(sys.modules), sys.modules
    assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
