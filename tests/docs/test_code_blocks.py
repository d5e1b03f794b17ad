"""Every Python code block of README.md and docs/ runs, in the order of its page."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ("python", "python3", "py")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent>\s*)(?P<ticks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)(?P<rest>.*)$")
NOT_RUN = re.compile(r"^\s*<!--\s*not run:(?P<reason>.*)-->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block: its text without the fences, and the line on which that begins."""

    language: str
    line: int
    text: str
    not_run: str | None  # the reason, "" if it was left out


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a Markdown page, in order."""
    found = []
    lines = page.splitlines()
    number = 0
    last_text = ""  # the last line outside a block that is not blank
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if opening is None:
            last_text = lines[number] if lines[number].strip() else last_text
            number += 1
            continue
        begin = number + 1
        closing = re.compile(rf"^\s*{opening['ticks'][0]}{{{len(opening['ticks'])},}}\s*$")
        end = next((i for i in range(begin, len(lines)) if closing.match(lines[i])), None)
        if end is None:
            raise ValueError(f"line {begin}: the code block is never closed")
        comment = NOT_RUN.match(last_text)
        found.append(
            Block(
                language=opening["language"].lower(),
                line=begin + 1,
                text=textwrap.dedent("\n".join(lines[begin:end])),
                not_run=None if comment is None else comment["reason"].strip(),
            )
        )
        last_text = ""
        number = end + 1
    return found


def run_page(path: Path, folder: Path) -> int:
    """Run the Python blocks of a page in one namespace; return how many ran.

    The namespace stands in for `__main__`, as it would in a script of the same blocks: functions
    of the page can be pickled by name. A traceback shows the line of the page.
    """
    blocks = [b for b in blocks_of(path.read_text(encoding="utf-8")) if b.language in PYTHON]
    main = ModuleType("__main__")
    script = folder / f"{path.stem.replace('-', '_')}.py"
    script.write_text(padded(blocks), encoding="utf-8")
    main.__file__ = str(script)
    ran = 0
    with (
        mock.patch.dict(os.environ),
        as_main(main),
        mock.patch.object(sys, "argv", [str(script)]),
    ):
        for block in blocks:
            if block.not_run == "":
                pytest.fail(f"{path}:{block.line}: 'not run' needs a reason", pytrace=False)
            if block.not_run is None:
                exec(compile(padded([block]), str(path), "exec"), main.__dict__)
                ran += 1
    return ran


@contextmanager
def as_main(module: ModuleType) -> Iterator[None]:
    """Put a module in place of `__main__`; what is imported meanwhile stays, unlike by a mock."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def padded(blocks: list[Block]) -> str:
    """Return the blocks that run as one script whose lines keep their numbers of the page."""
    lines: list[str] = []
    for block in blocks:
        if block.not_run is None:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_blocks_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(path, script_folder)


@pytest.fixture
def script_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the working folder of the page, which starts empty."""
    return tmp_path_factory.mktemp("page")


# --- the runner itself --------------------------------------------------------------------------


def page_with(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_a_failing_block_points_to_its_line_of_the_page(tmp_path: Path) -> None:
    path = page_with(tmp_path, "# Title\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run_page(path, tmp_path)
    assert caught.traceback[-1].path == path
    assert caught.traceback[-1].lineno + 1 == 5  # lineno counts from 0


def test_blocks_of_a_page_share_one_namespace(tmp_path: Path) -> None:
    path = page_with(tmp_path, "```python\nx = 1\n```\n\n- item\n\n  ```py\n  assert x\n  ```\n")
    assert run_page(path, tmp_path) == 2


def test_a_block_is_left_out_only_with_a_reason(tmp_path: Path) -> None:
    path = page_with(tmp_path, "<!-- not run: needs a network -->\n\n```python\n1 / 0\n```\n")
    assert run_page(path, tmp_path) == 0
    path = page_with(tmp_path, "<!-- not run: -->\n```python\n1 / 0\n```\n")
    with pytest.raises(pytest.fail.Exception, match="needs a reason"):
        run_page(path, tmp_path)


def test_a_comment_concerns_only_the_next_block(tmp_path: Path) -> None:
    path = page_with(
        tmp_path, "<!-- not run: slow -->\n```python\n1 / 0\n```\n```python\nx = 1\n```\n"
    )
    assert run_page(path, tmp_path) == 1


def test_other_languages_and_nested_fences_are_left_alone(tmp_path: Path) -> None:
    text = "```sh\nexit 1\n```\n\n````markdown\n```python\n1 / 0\n```\n````\n"
    assert run_page(page_with(tmp_path, text), tmp_path) == 0


def test_an_unclosed_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 1: .*never closed"):
        blocks_of("```python\nx = 1\n")
