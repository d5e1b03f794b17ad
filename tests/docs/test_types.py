"""The code of README.md, docs/ and examples/ passes mypy --strict, as that of a user would."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.test_code_blocks import PAGES, PYTHON, ROOT, blocks_of, padded

api = pytest.importorskip("mypy.api", reason="mypy belongs to another group than the tests")

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def checked(paths: list[Path], cache: str) -> str:
    """What mypy says of some files."""
    options = ["--strict", "--config-file=", "--python-version", "3.11", "--no-error-summary"]
    output, trouble, _ = api.run(
        [*options, "--cache-dir", str(ROOT / ".cache" / cache), *map(str, paths)]
    )
    assert trouble == ""
    return str(output)


def test_the_code_of_every_page_is_typed(tmp_path: Path) -> None:
    pages = {}
    for page in PAGES:
        blocks = [b for b in blocks_of(page.read_text(encoding="utf-8")) if b.language in PYTHON]
        if blocks:
            name = page.relative_to(ROOT).with_suffix("").as_posix()
            path = tmp_path / f"{name.replace('/', '__').replace('-', '_')}.py"
            # The lines keep their numbers of the page.
            path.write_text(padded(blocks), encoding="utf-8")
            pages[path.name] = name
    assert len(pages) > 15
    output = checked([tmp_path / name for name in pages], "mypy-docs")
    for file, page in pages.items():
        output = output.replace(str(tmp_path / file), f"{page}.md").replace(file, f"{page}.md")
    assert output == "", output


def test_the_examples_are_typed() -> None:
    assert len(EXAMPLES) > 10
    assert checked(EXAMPLES, "mypy-examples") == ""


def test_an_error_in_a_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.py"
    path.write_text("from ttasks import Task\nTask.bash('true').result.outptu\n", encoding="utf-8")
    assert "outptu" in checked([path], "mypy-docs")
