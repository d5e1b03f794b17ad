"""The stand-in for models of `ttasks.testing`."""

from __future__ import annotations

import pytest

from ttasks import (
    PromptReply,
    RateLimitedError,
    RetryPolicy,
    Task,
    TaskEventType,
    TaskExecutor,
    TaskType,
)
from ttasks.testing import FakePromptHandler


def executor_with(fake: FakePromptHandler) -> TaskExecutor:
    executor = TaskExecutor()
    executor.register(TaskType.PROMPT, fake)
    executor.register(TaskType.AGENT, fake)
    return executor


def test_a_fake_answers_from_its_script_in_chunks_with_usage() -> None:
    fake = FakePromptHandler("one", ["t", "wo"], PromptReply("three", {"total_tokens": 3}, "raw"))
    chunks = []
    with executor_with(fake) as executor:
        executor.events.subscribe(
            lambda event: chunks.append(event.output_chunk), types=[TaskEventType.OUTPUT]
        )
        results = [
            executor.execute(Task.prompt("first question", model="x")),
            executor.execute(Task.agent("second")),
            executor.execute(Task.prompt("third")),
        ]
    assert [result.output for result in results] == ["one", "two", "three"]
    assert [result.value for result in results] == ["one", "two", "three"]
    assert chunks == ["one", "t", "wo", "three"]
    assert results[0].usage == {"input_tokens": 2, "output_tokens": 1, "total_tokens": 3}
    assert results[2].usage == {"total_tokens": 3}
    assert results[2].raw == "raw"
    assert [call.text for call in fake.calls] == ["first question", "second", "third"]
    assert fake.calls[0].options == {"model": "x"}
    assert fake.closed


def test_a_fake_without_a_script_repeats_what_it_is_asked() -> None:
    with executor_with(FakePromptHandler(usage={"total_tokens": 7})) as executor:
        result = executor.execute(Task.prompt("echo"))
    assert result.output == "echo"
    assert result.usage == {"total_tokens": 7}


def test_a_fake_fails_as_told() -> None:
    fake = FakePromptHandler(
        RateLimitedError("fake", "slow down"), lambda context: f"attempt {context.attempt}"
    )
    with executor_with(fake) as executor:
        policy = RetryPolicy(2, retry_on=(RateLimitedError,))
        assert executor.execute(Task.prompt("x", retry=policy)).output == "attempt 2"
    assert [call.attempt for call in fake.calls] == [1, 2]


def test_a_fake_whose_script_is_over_says_so() -> None:
    with executor_with(FakePromptHandler("only")) as executor:
        executor.execute(Task.prompt("x"))
        with pytest.raises(AssertionError, match="1 answers, and is asked for more: 'y'"):
            executor.execute(Task.prompt("y"))
