"""RunReport: entries, filters, selections, files."""

from __future__ import annotations

import errno
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reportkit import HOSTILE, check_json, hostile, release, reported, simulate, work
from ttasks import GraphError, RunReport, TaskGraph, TaskStatus
from ttasks.model.facts import AttemptFacts, Span, TaskFacts, WaitReason
from ttasks.report.run_report import format_of


def titles(entries: object) -> list[str]:
    return [entry.title for entry in entries]


# Entries and filters


def test_entries_are_the_tasks_by_id_in_the_order_of_the_graph() -> None:
    facts = release()
    report = reported(facts)
    assert list(report.entries) == list(facts.tasks)
    with pytest.raises(TypeError):
        report.entries["new"] = None


def test_an_entry_says_what_the_facts_say() -> None:
    report = reported(release())
    entry = report.entries["id-unit tests"]
    assert (entry.title, entry.path, entry.type) == ("unit tests", ("release",), "python")
    assert (entry.function, entry.arguments) == ("checks.unit", "('src', fast=True)")
    assert (entry.status, entry.required, entry.is_finally) == (TaskStatus.FAILED, True, False)
    assert (entry.started, entry.ended, entry.duration) == (3.2, 4.9, 1.7)
    assert entry.waited == pytest.approx(3.2)
    assert entry.output == "collected 4 tests\n..F.\n1 failed, 3 passed"
    assert entry.downstream == (("package", "id-package"), ("upload", "id-upload"))
    assert entry.message.startswith("Traceback")
    assert entry.log_file == "logs/run-1/unit-tests.1.log"
    assert entry.why == "'unit tests' failed: assert 3 == 4."


def test_an_attempt_has_the_waits_before_it() -> None:
    first, second = reported(release()).entries["id-docs"].attempts
    assert [span.reason.value for span in first.waits] == ["dependency"]
    assert [span.reason.value for span in second.waits] == ["retry", "worker"]
    assert (first.status, first.error) == (TaskStatus.FAILED, "flaky")
    assert second.status is TaskStatus.SUCCEEDED


def test_filters_give_the_entries_of_a_status() -> None:
    report = reported(release())
    assert titles(report.failed) == ["unit tests", "lint"]
    assert titles(report.blocked) == ["package", "upload"]
    assert titles(report.reused) == ["toolchain"]
    assert report.cancelled == report.skipped == []
    assert len(report.succeeded) == 7


def test_select_keeps_numbers_and_outcome_of_the_whole_run() -> None:
    report = reported(release())
    some = report.select(titles=["fetch", "lint"])
    assert titles(some.entries.values()) == ["fetch", "lint"]
    assert some.numbers == report.numbers
    assert some.exit_code == 1
    assert "2 of 11 tasks shown" in some.to_text(100, False)
    assert check_json(some)["numbers"]["tasks"] == 11
    assert len(report.entries) == 11


def test_select_finds_tasks_by_their_key_too() -> None:
    assert list(reported(release()).select(["toolchain"]).entries) == ["id-toolchain"]


def test_only_failures_keeps_what_failed_was_cancelled_or_is_blocked() -> None:
    some = reported(release()).select(only_failures=True)
    assert titles(some.entries.values()) == ["unit tests", "lint", "package", "upload"]


def test_select_names_the_near_titles_of_one_that_is_not_there() -> None:
    with pytest.raises(LookupError, match="no task 'compil'.*'compile'"):
        reported(release()).select(["compil"])


@pytest.mark.parametrize("wrong", ["fetch", b"fetch", [3], 3])
def test_select_refuses_what_is_no_list_of_titles(wrong: object) -> None:
    with pytest.raises(TypeError, match="titles"):
        reported(release()).select(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("ok", 0), ("failed", 1), ("cancelled", 1), ("interrupted", 1), ("timeout", 4)],
)
def test_the_exit_code_tells_the_outcome(outcome: str, code: int) -> None:
    report = reported(simulate([work("a")], outcome=outcome))
    assert report.exit_code == code
    assert report.ok == (code == 0)


def test_a_report_is_made_of_facts_only() -> None:
    with pytest.raises(TypeError, match="facts must be RunFacts"):
        RunReport({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="history must be RunFacts"):
        RunReport(release(), [3])  # type: ignore[list-item]


def test_an_empty_run_has_a_report_in_every_format(tmp_path: Path) -> None:
    report = reported(simulate([]))
    assert "no tasks" in report.to_text(100, False)
    for suffix in SUFFIXES:
        assert report.write(tmp_path / f"empty{suffix}").stat().st_size > 0


def test_a_running_task_counts_up_to_now() -> None:
    base = simulate([work("a")], outcome="running", ended_at=None, duration=None, elapsed=3.0)
    running = replace(
        base.tasks["id-a"],
        status=TaskStatus.RUNNING,
        attempts=(AttemptFacts(1, 0.0, 0.5, slot=1),),
        spans=(Span(0.0, 0.5, WaitReason.WORKER), Span(0.5, None)),
        ended=None,
        duration=None,
    )
    missing = (Span(0.0, None, WaitReason.DEPENDENCY, ("id-a",)),)
    waits = TaskFacts("id-b", "b", ("release",), spans=missing)
    report = reported(replace(base, tasks={"id-a": running, "id-b": waits}))
    assert report.numbers.work == 2.5
    assert report.entries["id-b"].waited == 3.0
    assert report.exit_code == 1
    assert "release is running in 3.00s" in report.to_text(100, False)
    for suffix in SUFFIXES:
        assert format_of(Path(f"x{suffix}"))(report)


# Hostile text

CONTROLS = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n", "\t"}


def test_no_control_character_or_escape_sequence_is_left_in_an_entry() -> None:
    report = reported(hostile())
    for entry in report.entries.values():
        for text in (entry.title, entry.output, entry.value, entry.arguments, entry.message):
            assert not CONTROLS & set(text or "")
            assert (text or "").encode("utf-8") is not None  # no half of a surrogate pair


def test_a_long_title_and_a_line_of_a_million_characters_are_cut() -> None:
    first, second, *_ = reported(hostile()).entries.values()
    assert len(first.output) == 16_001
    assert first.output_is_cut
    assert len(second.title) == 300


def test_every_format_takes_hostile_text(tmp_path: Path) -> None:
    report = reported(hostile())
    for suffix in SUFFIXES:
        path = report.write(tmp_path / f"hostile{suffix}")
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "\x00" not in text
        if suffix in (".html", ".xml", ".md", ".mmd"):
            assert HOSTILE not in text


# Files

SUFFIXES = [".txt", ".json", ".xml", ".md", ".html", ".htm", ".mmd", ".mermaid", ".dot", ".gv"]
SUFFIXES += [".trace.json", ".HTML"]


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("a.txt", "release failed in"),
        ("a.json", '{"format": "ttasks-report"'),
        ("a.trace.json", '{"traceEvents"'),
        ("a.xml", "<?xml"),
        ("a.md", "# ❌ release failed"),
        ("a.html", "<!DOCTYPE html>"),
        ("a.mmd", "flowchart LR"),
        ("a.gv", "digraph"),
    ],
)
def test_the_suffix_tells_the_format(tmp_path: Path, name: str, beginning: str) -> None:
    path = reported(release()).write(str(tmp_path / name))
    assert path == tmp_path / name
    assert path.read_text(encoding="utf-8").startswith(beginning)
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["report", "report.pdf", "json", ".txt.gz"])
def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"not that of a report format.*\.txt.*\.html"):
        reported(release()).write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old" * 100_000)
    path.chmod(0o640)
    reported(release()).write(path)
    assert path.read_text(encoding="utf-8").startswith("release failed")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    folder, links = tmp_path / "files", tmp_path / "links"
    folder.mkdir()
    links.mkdir()
    (folder / "old.txt").write_text("old")
    (folder / "old.txt").chmod(0o640)
    (links / "second").symlink_to("../files/old.txt")
    (links / "report.txt").symlink_to("second")
    assert reported(release()).write(links / "report.txt") == links / "report.txt"
    assert (links / "report.txt").readlink() == Path("second")
    assert (folder / "old.txt").read_text(encoding="utf-8").startswith("release failed")
    assert stat.S_IMODE((folder / "old.txt").stat().st_mode) == 0o640
    assert [item.name for item in folder.iterdir()] == ["old.txt"]
    assert {item.name for item in links.iterdir()} == {"report.txt", "second"}


def test_the_file_that_a_dangling_link_leads_to_is_made(tmp_path: Path) -> None:
    (tmp_path / "report.txt").symlink_to("made.txt")
    reported(release()).write(tmp_path / "report.txt")
    assert (tmp_path / "report.txt").is_symlink()
    assert (tmp_path / "made.txt").read_text(encoding="utf-8").startswith("release failed")


def test_links_in_a_circle_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "report.txt").symlink_to("other")
    (tmp_path / "other").symlink_to("report.txt")
    with pytest.raises(OSError, match="cannot write the report") as caught:
        reported(release()).write(tmp_path / "report.txt")
    assert caught.value.errno == errno.ELOOP
    assert caught.value.filename == str(tmp_path / "report.txt")
    assert (tmp_path / "other").is_symlink()


@pytest.mark.parametrize("path", [None, 1, b"report.txt"])
def test_a_path_of_a_wrong_type_is_named(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a str or a path, got"):
        reported(release()).write(path)


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cannot write the report: No such file") as caught:
        reported(release()).write(tmp_path / "none" / "report.txt")
    assert caught.value.filename == str(tmp_path / "none" / "report.txt")


def test_a_folder_that_cannot_be_written_is_a_clear_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "report.txt"
    path.write_text("old")
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(PermissionError, match="cannot write the report: Permission denied"):
        reported(release()).write(path)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


def test_a_folder_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "report.txt").mkdir()
    with pytest.raises(OSError, match="cannot write the report"):
        reported(release()).write(tmp_path / "report.txt")


# Where reports come from


def test_a_graph_that_never_ran_has_no_report() -> None:
    with pytest.raises(GraphError, match="'release' has not run in this process"):
        RunReport.from_graph(TaskGraph("release"))


def test_from_graph_takes_a_graph_only() -> None:
    with pytest.raises(TypeError, match="graph must be a TaskGraph"):
        RunReport.from_graph("release")  # type: ignore[arg-type]
