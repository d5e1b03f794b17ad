"""Options of prompts and agents, and what a prompt handler returns."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from ttasks import (
    PromptReply,
    ProviderError,
    RateLimitedError,
    Task,
    TaskExecutor,
    TaskType,
)

ALL = {
    "model": "m",
    "provider": {"type": "openai", "base_url": "http://127.0.0.1/v1", "api_key_env": "KEY"},
    "system": "Be brief.",
    "temperature": 0.5,
    "max_tokens": 100,
}


def test_options_are_kept_as_json_and_those_that_are_none_are_not() -> None:
    assert Task.prompt("x", **ALL).options == ALL  # type: ignore[arg-type]
    task = Task.agent("x", cwd=Path("/tmp"), **ALL)  # type: ignore[arg-type]
    assert task.options == {**ALL, "cwd": "/tmp"}
    assert Task.prompt("x").options == Task.agent("x").options == {}
    assert Task("t", "x", TaskType.AGENT, options=task.options).options == task.options


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("model", "", ValueError),
        ("model", 5, TypeError),
        ("system", " ", ValueError),
        ("temperature", -0.1, ValueError),
        ("temperature", 2.1, ValueError),
        ("temperature", "hot", TypeError),
        ("max_tokens", 0, ValueError),
        ("max_tokens", 1.5, TypeError),
        ("provider", "http://x", TypeError),
        ("provider", {"base_url": 5}, TypeError),
        ("provider", {"retries": object()}, TypeError),
    ],
)
@pytest.mark.parametrize("make", [Task.prompt, Task.agent])
def test_a_wrong_option_is_refused_by_name(
    make: Any, name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        make("x", **{name: value})
    type_ = make("x").type
    with pytest.raises(error, match=name):
        Task("t", "x", type_, options={name: value})


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'cwd' of a prompt"):
        Task("t", "x", TaskType.PROMPT, options={"cwd": "/"})
    with pytest.raises(TypeError, match="temperatur"):
        Task.prompt("x", temperatur=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cwd"):
        Task.agent("x", cwd="")
    with pytest.raises(TypeError, match="cwd"):
        Task.agent("x", cwd=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["api_key", "apiKey", "bearer_token", "headers", "token"])
def test_a_key_in_an_option_of_a_task_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(ValueError, match="must not hold") as caught:
        Task.prompt("x", provider={"base_url": "http://x", name: "sk-secret"})
    assert "api_key_env" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_password_in_the_url_of_a_task_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="must not hold a password") as caught:
        Task.prompt("x", provider={"base_url": "http://me:sk-secret@host/v1"})
    assert "sk-secret" not in str(caught.value)


def test_a_reply_becomes_the_result() -> None:
    reply = PromptReply("so\nthis", {"total_tokens": 5}, {"content": "this"}, "this")
    with TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, lambda _context: reply)
        result = executor.execute(Task.prompt("x"))
    assert (result.output, result.value, result.raw) == ("so\nthis", "this", {"content": "this"})
    assert result.usage == {"total_tokens": 5}
    assert result.error is None


def test_secrets_are_hidden_in_every_part_of_a_reply() -> None:
    reply = PromptReply("say hunter2", None, {"content": ["hunter2"]}, "hunter2")
    with TaskExecutor(redact=["hunter2"]) as executor:
        executor.register(TaskType.PROMPT, lambda _context: reply)
        result = executor.execute(Task.prompt("x"))
    assert (result.output, result.value, result.raw) == ("say ***", "***", {"content": ["***"]})


@pytest.mark.parametrize("error", [ProviderError("P", "why"), RateLimitedError("P", "slow", 429)])
def test_errors_of_providers_survive_pickling(error: ProviderError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == f"P: {error.reason}"
    assert (copy.provider, copy.reason, copy.status) == ("P", error.reason, error.status)
