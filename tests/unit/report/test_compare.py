"""Two runs compared."""

from __future__ import annotations

import pytest

from reportkit import Work, reported, simulate, work
from ttasks import TaskStatus

FAILED = TaskStatus.FAILED


def changes(found: object) -> list[str]:
    return [change.title for change in found]


def compared(before: list[Work], after: list[Work], **options: float) -> object:
    return reported(simulate(after)).compare(reported(simulate(before)), **options)


def test_what_failed_what_was_mended_what_came_and_went() -> None:
    found = compared(
        [work("a"), work("b", outcome=FAILED), work("gone"), work("still", outcome=FAILED)],
        [work("a", outcome=FAILED), work("b"), work("new"), work("still", outcome=FAILED)],
    )
    assert changes(found.newly_failed) == ["a"]
    assert changes(found.mended) == ["b"]
    assert changes(found.added) == ["new"]
    assert changes(found.gone) == ["gone"]
    assert found


def test_blocked_is_newly_failed_too_and_says_from_what_to_what() -> None:
    found = compared(
        [work("a"), work("b", after="a")], [work("a", outcome=FAILED), work("b", after="a")]
    )
    assert changes(found.newly_failed) == ["a", "b"]
    assert "b: succeeded → blocked" in found.to_text()


def test_slower_and_faster_by_ratio_and_by_seconds() -> None:
    before = [work("a", 1.0), work("b", 4.0), work("c", 1.0), work("d", 0.001)]
    after = [work("a", 1.3), work("b", 1.0), work("c", 1.2), work("d", 0.04)]
    found = compared(before, after)
    assert changes(found.slower) == ["a"]
    assert changes(found.faster) == ["b"]
    assert found.slower[0].ratio == pytest.approx(1.3)
    assert "a: 1.00s → 1.30s (1.30 times)" in found.to_text()
    assert changes(compared(before, after, ratio=1.1, least_seconds=0).slower) == ["a", "c", "d"]


def test_tasks_are_known_by_key_or_by_title_and_those_of_one_title_by_their_order() -> None:
    found = compared(
        [work("old title", key="k"), work("x"), work("y", outcome=FAILED)],
        [work("new title", key="k", outcome=FAILED), work("x"), work("y")],
    )
    assert changes(found.newly_failed) == ["new title"]
    assert (changes(found.added), changes(found.gone)) == ([], [])


def test_equal_runs_compare_to_nothing() -> None:
    found = compared([work("a")], [work("a")])
    assert not found
    assert found.to_text() == "1.00s before, 1.00s now\n\nNothing has changed.\n"


def test_a_reused_result_is_neither_slower_nor_faster() -> None:
    found = compared([work("a", 9.0)], [work("a", 0.1, reused=True)])
    assert not found


def test_reused_tasks_explain_other_times() -> None:
    tasks = [work("a"), work("b"), work("c")]
    some = [work("a", reused=True), work("b", reused=True), work("c")]
    one = [work("a", reused=True), work("b"), work("c")]
    found = compared(tasks, some)
    assert (found.reused_before, found.reused_after) == (0, 2)
    assert found.to_text().splitlines()[1:] == ["2 tasks were reused", "", "Nothing has changed."]
    assert compared(one, some).to_text().splitlines()[1:3] == [
        "1 task was reused before",
        "2 tasks were reused",
    ]


@pytest.mark.parametrize("options", [{"ratio": 1}, {"ratio": float("nan")}, {"least_seconds": -1}])
def test_wrong_thresholds_are_errors(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        compared([], [], **options)


def test_only_a_report_can_be_compared() -> None:
    with pytest.raises(TypeError, match="other must be a RunReport"):
        reported(simulate([])).compare("latest")  # type: ignore[arg-type]
