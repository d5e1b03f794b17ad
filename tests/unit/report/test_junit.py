"""The report as JUnit XML, by the rules of `ttasks.report.junit`."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as etree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Skipped
from junitparser import Failure as JUnitFailure
from junitparser.xunit2 import FlakyFailure, JUnitXml, RerunFailure, TestCase

from reportkit import golden, hostile, layered, release, reported, simulate, work
from ttasks import RunReport, TaskStatus
from ttasks.model.facts import RunFacts

FAILED, CANCELLED = TaskStatus.FAILED, TaskStatus.CANCELLED

# The attributes and children that the schemas of Jenkins' xUnit plugin and of Maven Surefire know;
# True for those that must be there.
ATTRIBUTES = {
    "testsuites": {
        "name": False,
        "tests": False,
        "failures": False,
        "errors": False,
        "time": False,
    },
    "testsuite": {
        "name": True,
        "tests": True,
        "failures": True,
        "errors": True,
        "skipped": False,
        "time": False,
        "timestamp": False,
        "hostname": False,
    },
    "testcase": {"name": True, "classname": True, "time": True},
    "failure": {"type": False, "message": False},
    "error": {"type": False, "message": False},
    "skipped": {"type": False, "message": False},
    "flakyFailure": {"type": True, "message": False},
    "rerunFailure": {"type": True, "message": False},
    "stackTrace": {},
    "system-out": {},
}
RESULTS = {"failure", "error", "skipped"}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {*RESULTS, "flakyFailure", "rerunFailure", "system-out"},
    "flakyFailure": {"stackTrace"},
    "rerunFailure": {"stackTrace"},
}
TIME = re.compile(r"\d+\.\d{3}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def checked(report: RunReport) -> etree.Element:
    """The root of the report's XML, which holds to the rules."""
    root = etree.fromstring(report.to_junit().encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        known = ATTRIBUTES[element.tag]
        assert set(element.attrib) <= set(known), element.tag
        assert {name for name, must in known.items() if must} <= set(element.attrib), element.tag
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set()), element.tag
        if "time" in element.attrib:
            assert TIME.fullmatch(element.attrib["time"])
        if "timestamp" in element.attrib:
            assert TIMESTAMP.fullmatch(element.attrib["timestamp"])
    for suite in root:
        check_suite(suite)
    for name in ("tests", "failures", "errors"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)
    return root


def check_suite(suite: etree.Element) -> None:
    results = [[child.tag for child in case if child.tag in RESULTS] for case in suite]
    assert all(len(found) <= 1 for found in results)
    found = [found[0] for found in results if found]
    numbers = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    assert int(suite.attrib["tests"]) == len(suite)
    for name, tag in numbers.items():
        assert int(suite.attrib[name]) == found.count(tag)
    names = [(case.attrib["classname"], case.attrib["name"]) for case in suite]
    assert len(set(names)) == len(names)
    for case in suite:
        tags = [child.tag for child in case]
        assert not ("flakyFailure" in tags and RESULTS & set(tags))
        assert not ("rerunFailure" in tags and not RESULTS & set(tags))
        assert tags.count("system-out") <= 1


def cases(report: RunReport) -> dict[str, TestCase]:
    """The tests by name, as junitparser reads them."""
    checked(report)
    suites = JUnitXml.fromstring(report.to_junit().encode())
    return {case.name: case for suite in suites for case in suite}


def only(facts: RunFacts) -> TestCase:
    (case,) = cases(reported(facts)).values()
    return case


def test_junit_is_that_of_the_golden_file() -> None:
    text = reported(release()).to_junit()
    assert text == golden("release.xml", text)


def test_junitparser_reads_back_what_the_report_says() -> None:
    report = reported(release())
    suites = JUnitXml.fromstring(report.to_junit().encode())
    assert [suite.name for suite in suites] == ["release", "release.compile all"]
    assert (suites.tests, suites.failures, suites.errors) == (11, 1, 0)
    found = cases(report)
    assert set(found) == {entry.title for entry in report.entries.values()}
    assert isinstance(found["unit tests"].result[0], JUnitFailure)
    assert found["unit tests"].result[0].type == "builtins.AssertionError"
    assert "assert total == 4" in found["unit tests"].result[0].text
    assert found["unit tests"].time == pytest.approx(1.7)
    assert found["unit tests"].system_out.endswith("1 failed, 3 passed")
    assert found["inner"].classname == "release.compile all"


def test_blocked_is_skipped_and_names_the_culprit() -> None:
    (result,) = cases(reported(release()))["package"].result
    assert isinstance(result, Skipped)
    assert (result.type, result.message) == ("blocked", "blocked by 'unit tests'")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("exit_code", JUnitFailure),
        ("handler", JUnitFailure),
        ("timeout", Error),
        ("interrupted", Error),
        ("circuit_open", Error),
        ("rejected", Error),
    ],
)
def test_the_reason_decides_between_failure_and_error(reason: str, kind: type) -> None:
    case = only(simulate([work("a", outcome=FAILED, termination_reason=reason)]))
    assert [type(result) for result in case.result] == [kind]
    assert case.result[0].message == "Command failed with exit code 2: no such file"


def test_cancelled_is_an_error_once_it_has_started_and_else_skipped() -> None:
    assert isinstance(only(simulate([work("a", outcome=CANCELLED)])).result[0], Error)
    facts = simulate([work("a")], outcome="cancelled")
    never = replace(facts.tasks["id-a"], status=CANCELLED, attempts=(), error="the run was stopped")
    found = cases(reported(replace(facts, tasks={"id-a": never})))
    assert isinstance(found["a"].result[0], Skipped)
    assert isinstance(found["run"].result[0], Error)


def test_an_optional_task_that_failed_is_skipped_because_the_run_is_ok() -> None:
    facts = simulate([work("a", outcome=FAILED, required=False)])
    (result,) = only(facts).result
    assert isinstance(result, Skipped)
    assert result.message.startswith("failed, but is optional: Command failed")


def test_a_nested_task_that_failed_in_a_run_that_is_ok_is_skipped() -> None:
    facts = simulate([work("a", outcome=FAILED)], path=("outer", "inner"), outcome="ok")
    (result,) = only(facts).result
    assert isinstance(result, Skipped)
    assert result.message.startswith("failed, but the run is ok: Command failed")


def test_earlier_attempts_of_a_pass_are_flaky_and_of_a_failure_reruns() -> None:
    passed = only(simulate([work("a", 1, 1, 1)]))
    assert passed.is_passed
    assert [(type(item), item.type) for item in passed.flaky_failures()] == [
        (FlakyFailure, "exit_code")
    ] * 2
    failed = only(simulate([work("a", 1, 1, outcome=FAILED)]))
    assert [type(item) for item in failed.rerun_failures()] == [RerunFailure]
    assert failed.rerun_failures()[0].stack_trace == "flaky"


@pytest.mark.parametrize("outcome", ["timeout", "cancelled", "interrupted", "failed"])
def test_a_run_that_is_not_ok_without_a_failed_task_has_one_error(outcome: str) -> None:
    report = reported(simulate([work("a")], outcome=outcome, error="out of time"))
    found = cases(report)
    assert set(found) == {"a", "run"}
    assert found["run"].result[0].message == "out of time"


def test_equal_names_become_unique() -> None:
    facts = simulate([work("a"), work("b"), work("c"), work("d")])
    names = {"id-a": "x", "id-b": "x", "id-c": "x (2)", "id-d": "x"}
    tasks = {key: replace(facts.tasks[key], title=title) for key, title in names.items()}
    assert list(cases(reported(replace(facts, tasks=tasks)))) == [
        "x",
        "x (2)",
        "x (2) (2)",
        "x (3)",
    ]


def test_output_of_what_passed_is_short_and_of_what_failed_long() -> None:
    text = "".join(f"line {number:04d}\n" for number in range(1000))
    assert len(only(simulate([work("a", output=text)])).system_out) <= 1_000
    assert len(only(simulate([work("a", output=text, outcome=FAILED)])).system_out) > 1_900


def test_hostile_text_stays_text() -> None:
    checked(reported(hostile()))


def test_ten_thousand_tasks_stay_below_the_limit_of_gitlab() -> None:
    report = RunReport(layered(10_000))
    assert len(report.to_junit().encode()) < 30_000_000


@given(title=st.text(), output=st.text(), error=st.text(), host=st.text())
def test_any_text_makes_valid_xml(title: str, output: str, error: str, host: str) -> None:
    facts = simulate(
        [work(title, output=output, error=error, outcome=FAILED)],
        title=title,
        path=(title,),
        host=host,
    )
    checked(reported(facts))
