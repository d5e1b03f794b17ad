"""Options of commands: what is taken, what is refused, and how it is said."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ttasks.model.command import check_script, command_options, stdin_bytes


def test_everything_is_kept_as_json() -> None:
    options = command_options(
        cwd=PurePosixPath("/a/b"),
        env={"A": "1", "B": None},
        stdin="text",
        strict=True,
        output_limit=100,
        grace=1,
    )
    assert options == {
        "cwd": "/a/b",
        "env": {"A": "1", "B": None},
        "stdin": "text",
        "strict": True,
        "output_limit": 100,
        "grace": 1.0,
    }
    assert command_options(**json.loads(json.dumps(options))) == options


def test_defaults_are_left_out() -> None:
    options = command_options(
        cwd=None, env={}, stdin=None, strict=False, output_limit=None, grace=2.0
    )
    assert options == {}


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"ab"), memoryview(b"xyz"), b""])
def test_stdin_of_bytes_comes_back(data: bytes) -> None:
    options = json.loads(json.dumps(command_options(stdin=data)))
    assert stdin_bytes(options["stdin"]) == bytes(data)
    assert command_options(**options) == options


def test_stdin_text_is_utf8() -> None:
    assert stdin_bytes("ä\udcff") == b"\xc3\xa4\xff"
    assert stdin_bytes(None) is None


class Path5:
    def __fspath__(self) -> bytes:
        return b"/b"


def test_cwd_may_be_any_path() -> None:
    assert command_options(cwd=Path("x"))["cwd"] == "x"
    assert command_options(cwd=Path5())["cwd"] == "/b"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shell": True}, TypeError, r"unknown option 'shell'.*known: cwd, env, stdin, strict"),
        ({"cwd": 5}, TypeError, r"cwd must be .* got int: 5"),
        ({"cwd": b"/x"}, TypeError, r"cwd must be .* got bytes"),
        ({"cwd": ""}, ValueError, r"cwd must be .* got ''"),
        ({"cwd": "a\0b"}, ValueError, r"cwd .*NUL.* position 1"),
        ({"env": ["A=1"]}, TypeError, r"env must be a mapping .* got list"),
        ({"env": {1: "x"}}, TypeError, r"a name in env must be a str, got int: 1"),
        ({"env": {"A": 1}}, TypeError, r"env\['A'\] must be a str or None, got int"),
        ({"env": {"": "x"}}, ValueError, r"a name in env .* got ''"),
        ({"env": {"A=B": "x"}}, ValueError, r"a name in env .* got 'A=B'"),
        ({"env": {"A\0": "x"}}, ValueError, r"a name in env .*NUL"),
        ({"env": {"A": "\0"}}, ValueError, r"env\['A'\].*NUL"),
        ({"env": {"A": "\ud800"}}, ValueError, r"env\['A'\].*surrogate"),
        ({"env_from": "A"}, TypeError, r"env_from must be a list of names"),
        ({"env_from": [1]}, TypeError, r"a name in env_from must be a str, got int: 1"),
        ({"env_from": ["A=B"]}, ValueError, r"a name in env_from .* got 'A=B'"),
        ({"stdin": 5}, TypeError, r"stdin must be a str, bytes or None, got int: 5"),
        ({"stdin": ["a"]}, TypeError, r"stdin must be .* got list"),
        ({"stdin": {"base64": "?"}}, ValueError, r"stdin must be valid base64"),
        ({"stdin": {"base64": 5}}, ValueError, r"stdin must be valid base64"),
        ({"stdin": "\ud800"}, ValueError, r"stdin.*surrogate"),
        ({"strict": 1}, TypeError, r"strict must be a bool, got int: 1"),
        ({"output_limit": 0}, ValueError, r"output_limit must be an int >= 2, got 0"),
        ({"output_limit": -5}, ValueError, r"output_limit must be .* got -5"),
        ({"output_limit": 1.5}, TypeError, r"output_limit must be an int, got float: 1.5"),
        ({"output_limit": True}, TypeError, r"output_limit must be an int, got bool"),
        ({"grace": -1}, ValueError, r"grace must be .* got -1"),
        ({"grace": float("nan")}, ValueError, r"grace must be .* got nan"),
        ({"grace": float("inf")}, ValueError, r"grace must be .* got inf"),
        ({"grace": "2"}, TypeError, r"grace must be a number, got str: '2'"),
        ({"grace": None}, TypeError, r"grace must be a number, got NoneType"),
    ],
)
def test_bad_options_are_refused_by_name_and_value(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        command_options(**options)


def test_a_bad_environment_value_is_not_shown() -> None:
    with pytest.raises(TypeError) as caught:
        command_options(env={"TOKEN": b"hunter2"})
    assert "hunter2" not in str(caught.value)


def test_payloads() -> None:
    assert check_script("") == ""
    assert check_script("echo ä\n") == "echo ä\n"
    with pytest.raises(ValueError, match="payload must not have a NUL .* position 3"):
        check_script("abc\0d")
    with pytest.raises(ValueError, match="payload.*lone surrogate at position 0"):
        check_script("\ud800")
    with pytest.raises(TypeError, match="payload must be a str, got int: 5"):
        check_script(5)  # type: ignore[arg-type]
