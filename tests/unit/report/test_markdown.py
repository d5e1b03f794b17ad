"""The report as Markdown within a limit."""

from __future__ import annotations

import re

import pytest

from reportkit import golden, hostile, layered, release, reported, simulate, work
from ttasks import TaskStatus

FAILED = TaskStatus.FAILED


def test_markdown_is_that_of_the_golden_file() -> None:
    text = reported(release()).to_markdown()
    assert text == golden("release.md", text)


def test_what_is_too_long_loses_passed_tasks_first_then_tails_then_the_rest() -> None:
    report = reported(
        simulate(
            [work(f"pass {number}") for number in range(50)]
            + [
                work(f"fail {number}", outcome=FAILED, output=f"tail {number}\n" * 50)
                for number in range(30)
            ],
            workers=4,
        )
    )
    whole = report.to_markdown()
    sizes = {"passed": 50, "tails": 30 * 50, "others": 30}
    assert found_in(whole) == sizes
    last = dict(sizes)
    for limit in range(len(whole.encode()), 1_000, -700):
        text = report.to_markdown(limit)
        assert len(text.encode()) <= limit
        found = found_in(text)
        assert all(found[name] <= last[name] for name in found), "less room never shows more"
        if found["tails"] < sizes["tails"]:
            assert found["passed"] == 0
        if found["others"] < sizes["others"]:
            assert found["tails"] == 0
        last = found
    assert last["others"] < 30
    assert "Left out to save space" in text


def found_in(text: str) -> dict[str, int]:
    return {
        "passed": len(re.findall(r"\| ✅ \| pass", text)),
        "tails": len(re.findall(r"^tail \d+$", text, re.MULTILINE)),
        "others": len(re.findall(r"\| ❌ \| fail", text)),
    }


@pytest.mark.parametrize("limit", [1_000, 1_500, 5_000, 50_000])
def test_it_never_exceeds_the_limit(limit: int) -> None:
    for facts in (hostile(), release(), layered(300)):
        text = reported(facts).to_markdown(limit)
        assert len(text.encode()) <= limit
        assert text.startswith("# ")


@pytest.mark.parametrize(
    ("limit", "error"), [(999, ValueError), (None, TypeError), (2e3, TypeError)]
)
def test_a_wrong_limit_is_an_error(limit: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="limit_bytes must be an int"):
        reported(release()).to_markdown(limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "has_graph"), [(1, False), (2, True), (60, True), (61, False)])
def test_up_to_60_tasks_have_a_graph(count: int, has_graph: bool) -> None:
    report = reported(simulate([work(f"{number}") for number in range(count)]))
    assert ("```mermaid" in report.to_markdown()) == has_graph


def test_text_cannot_leave_its_fence_or_its_cell_or_notify_anybody() -> None:
    text = reported(hostile()).to_markdown()
    fence = ""
    for line in text.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif opened := re.match("(`{3,})(text|mermaid)$", line):
            fence = opened[1]
        elif line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line
        else:
            assert "<script" not in line
            assert "@everyone" not in line
    assert not fence
