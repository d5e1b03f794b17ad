"""The HTML page of a report in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reportkit import HOSTILE, hostile, layered, release, reported, simulate, work
from ttasks import RunReport
from ttasks.model.facts import RunFacts


@pytest.fixture
def page(tmp_path: Path, browser: Any) -> Any:
    """Opens the page of facts; checks that nothing else was loaded and nobody complained."""
    opened = []

    def show(facts: RunFacts, **options: Any) -> Any:
        path = RunReport(facts).write(tmp_path / "report.html")
        browser.open(path, **options)
        opened.append(path.as_uri())
        return browser

    yield show
    assert [url.partition("#")[0] for url in browser.loads()] == opened[-1:]
    assert browser.complaints() == []


def titles(browser: Any) -> list[str]:
    """Titles of the rows of the table that are drawn."""
    return [
        browser.script("return arguments[0].title", item) for item in browser.find(".row .title")
    ]


def press(browser: Any, selector: str) -> None:
    """Click on the first element, which may be one of a drawing."""
    browser.script(
        """document.querySelector(arguments[0]).dispatchEvent(
            new MouseEvent("click", { bubbles: true, cancelable: true }))""",
        selector,
    )


# What is seen


def test_the_page_shows_outcome_numbers_and_failures(page: Any) -> None:
    browser = page(release())
    assert browser.driver.title == "release: failed"
    assert browser.text(".outcome") == "failed"
    assert [item.text for item in browser.find(".card .figure")] == [
        "4.90s",
        "70 %",
        "100 %",
        "11",
    ]
    failure, optional = browser.find(".failure")
    assert "unit tests" in failure.text
    assert "assert total == 4" in failure.text
    assert "1 failed, 3 passed" in failure.text
    assert "package, upload" in failure.text
    assert "optional" in optional.text


def test_the_timeline_has_a_bar_for_each_attempt_in_the_lane_of_its_worker(page: Any) -> None:
    browser = page(release())
    lanes = browser.find("#timeline .lane")
    names = [lane.find_element("css selector", "text.name").text for lane in lanes]
    assert names == ["worker 1", "worker 2", "compile all:…"]
    bars = browser.script(
        """return [...document.querySelectorAll("#timeline rect[data-task]")].map((bar) => ({
            task: +bar.dataset.task, start: +bar.dataset.start, end: +bar.dataset.end,
            left: bar.x.baseVal.value, right: bar.x.baseVal.value + bar.width.baseVal.value,
            top: bar.y.baseVal.value, name: bar.getAttribute("class") }))"""
    )
    expected = [
        (index, attempt.started, attempt.ended, attempt.status.value)
        for index, task in enumerate(release().tasks.values())
        for attempt in task.attempts
    ]
    found = sorted((bar["task"], bar["start"], bar["end"], bar["name"]) for bar in bars)
    assert found == [(*item[:1], *map(pytest.approx, item[1:3]), item[3]) for item in expected]
    for bar in bars:  # on one scale, and none over another of its lane
        assert (bar["right"] - bar["left"] + 1) / (bar["end"] - bar["start"]) == pytest.approx(
            (bars[0]["right"] - bars[0]["left"] + 1) / (bars[0]["end"] - bars[0]["start"]), rel=0.05
        )
        for other in bars:
            if other is not bar and other["top"] == bar["top"]:
                assert bar["right"] <= other["left"] + 0.01 or other["right"] <= bar["left"] + 0.01


def test_waiting_and_running_are_apart(page: Any) -> None:
    browser = page(release())
    index = list(release().tasks).index("id-docs")
    parts = browser.script(
        """return [...document.querySelectorAll(`#row-${arguments[0]} .track rect`)].map(
            (part) => [part.getAttribute("class"), part.height.baseVal.value])""",
        index,
    )
    assert parts == [
        ["wait-dependency", 4],
        ["failed", 14],
        ["wait-retry", 4],
        ["wait-worker", 4],
        ["succeeded", 14],
    ]
    chart = browser.find("#timeline .chart path")
    names = [item.get_attribute("class") for item in chart]
    assert names == ["busy", "limit", "wait-worker", "wait-retry"]


def test_the_graph_has_a_node_for_each_task_and_an_edge_for_each_dependency(page: Any) -> None:
    browser = page(release())
    facts = release()
    assert len(browser.find("#graph .node")) == len(facts.tasks)
    edges = sum(len(task.after) for task in facts.tasks.values())
    assert len(browser.find("#graph svg > path")) == edges
    assert len(browser.find("#graph path.critical")) == 2
    left = browser.script(
        """return Object.fromEntries([...document.querySelectorAll("#graph .node")].map(
            (node) => [node.dataset.task, node.transform.baseVal[0].matrix.e]))"""
    )
    place = {key: str(index) for index, key in enumerate(facts.tasks)}
    for task in facts.tasks.values():
        for end in task.after:
            assert left[place[end]] < left[place[task.id]]


def test_no_edge_passes_behind_a_task_that_it_has_nothing_to_do_with(page: Any) -> None:
    browser = page(release())
    hits = browser.script(
        """const boxes = [...document.querySelectorAll("#graph .node")].map((node) => {
          const { e: left, f: top } = node.transform.baseVal[0].matrix;
          return { left, top, right: left + 168, bottom: top + 44 };
        });
        let hits = 0;
        for (const path of document.querySelectorAll("#graph svg > path")) {
          const length = path.getTotalLength();
          for (let at = 2; at < length - 6; at += 3) {
            const { x, y } = path.getPointAtLength(at);
            hits += boxes.filter((box) => x > box.left + 1 && x < box.right - 1
              && y > box.top + 1 && y < box.bottom - 1).length;
          }
        }
        return hits;"""
    )
    assert hits == 0


def test_tasks_without_dependencies_stand_in_rows(page: Any) -> None:
    browser = page(simulate([work(f"{number}") for number in range(30)]))
    tops = browser.script(
        """return [...document.querySelectorAll("#graph .node")].map(
            (node) => node.transform.baseVal[0].matrix.f)"""
    )
    assert 2 <= len(set(tops)) <= 8


# The table


def test_the_table_has_a_row_for_each_task(page: Any) -> None:
    browser = page(release())
    assert titles(browser) == [task.title for task in release().tasks.values()]


def test_a_click_on_a_column_sorts_and_a_third_takes_it_back(page: Any) -> None:
    browser = page(release())
    graph_order = titles(browser)
    header = '[data-column="duration"]'

    press(browser, f"{header} button")
    down = titles(browser)
    assert down[:3] == ["toolchain", "compile", "unit tests"]
    assert browser.find(header)[0].get_attribute("aria-sort") == "descending"
    assert down[-2:] == ["package", "upload"]  # without a duration

    press(browser, f"{header} button")
    assert titles(browser)[0] == "remove scratch files"
    assert browser.find(header)[0].get_attribute("aria-sort") == "ascending"

    press(browser, f"{header} button")
    assert titles(browser) == graph_order

    press(browser, '[data-column="title"] button')
    assert titles(browser) == sorted(graph_order, key=str.lower)


def test_filters_and_search_narrow_the_table(page: Any) -> None:
    browser = page(release())
    press(browser, '[data-filter="failed"]')
    assert titles(browser) == ["unit tests", "lint"]
    assert browser.text("#tasks .about") == "2 of 11"
    press(browser, '[data-filter="blocked"]')
    assert titles(browser) == ["unit tests", "lint", "package", "upload"]
    browser.find(".search")[0].send_keys("TESTS blocked")
    assert titles(browser) == ["package"]
    browser.find(".search")[0].send_keys(" nothing")
    assert "No task matches." in browser.text(".rows")


def test_the_critical_path_is_a_filter_too(page: Any) -> None:
    browser = page(release())
    press(browser, '[data-filter="critical"]')
    assert titles(browser) == ["fetch", "compile", "unit tests"]


# Details and keys


def test_keys_move_open_close_search_and_filter(page: Any) -> None:
    browser = page(release())
    from selenium.webdriver.common.keys import Keys

    browser.keys("j", "j", Keys.ARROW_DOWN, "k")
    chosen = '.row[aria-selected="true"] .title'
    assert browser.text(chosen) == "fetch"
    browser.keys(Keys.ENTER)
    assert browser.text("#details h2") == "fetch"
    browser.keys(Keys.ESCAPE)
    assert browser.find("#details")[0].is_displayed() is False
    browser.keys(Keys.END)
    assert "inner" in browser.text(chosen)
    browser.keys("f")
    assert titles(browser) == ["unit tests", "lint"]
    browser.keys("f", "/", "size")
    assert titles(browser) == ["size"]
    browser.keys(Keys.ESCAPE)
    assert len(titles(browser)) == 11
    browser.keys("?")
    assert browser.find("dialog")[0].is_displayed()
    browser.keys(Keys.ESCAPE)
    assert browser.find("dialog")[0].is_displayed() is False


def test_keys_zoom_and_move_the_timeline(page: Any) -> None:
    browser = page(release())
    from selenium.webdriver.common.keys import Keys

    def widest() -> float:
        return browser.script(
            """return Math.max(...[...document.querySelectorAll("#timeline rect[data-task]")].map(
                (bar) => bar.width.baseVal.value))"""
        )

    def shown() -> set[str]:
        return {
            item.get_attribute("data-task") for item in browser.find("#timeline rect[data-task]")
        }

    whole, every = widest(), shown()
    browser.keys("+", "+")
    assert widest() > 1.5 * whole
    assert shown() < every
    middle = shown()
    browser.keys(*[Keys.ARROW_LEFT] * 10)
    assert shown() != middle
    browser.keys("0")
    assert (widest(), shown()) == (whole, every)


def test_the_details_tell_all_and_lead_to_other_tasks(page: Any) -> None:
    browser = page(release())
    index = list(release().tasks).index("id-unit tests")
    press(browser, f'#timeline rect[data-task="{index}"]')
    text = browser.find("#details")[0].text
    for part in (
        "'unit tests' failed: assert 3 == 4.",
        "checks.unit",
        "('src', fast=True)",
        "waited for other tasks: compile",
        "AssertionError: assert 3 == 4",
        "1 failed, 3 passed",
        "logs/run-1/unit-tests.1.log",
    ):
        assert part in text
    assert browser.driver.current_url.endswith(f"#task-{index + 1}")
    press(browser, "#details .link")
    assert browser.text("#details h2") == "compile"
    assert browser.text('.row[aria-selected="true"] .title') == "compile"
    assert len(browser.find("#timeline .strip rect")) == 2  # what it waited for, and when it ran


def test_a_link_to_a_task_opens_it(page: Any) -> None:
    browser = page(release(), hash="#task-3")
    assert browser.text("#details h2") == "compile"


def test_a_key_on_a_node_of_the_graph_opens_it(page: Any) -> None:
    browser = page(release())
    from selenium.webdriver.common.keys import Keys

    browser.script("document.querySelector('#graph .node[data-task=\"3\"]').focus()")
    browser.keys(Keys.ENTER)
    assert browser.text("#details h2") == "docs"


# Light, dark, narrow


def test_light_and_dark_follow_the_system_and_can_be_switched(page: Any) -> None:
    def background(browser: Any) -> str:
        return browser.script("return getComputedStyle(document.body).backgroundColor")

    light = background(page(release()))
    browser = page(release(), dark=True)
    dark = background(browser)
    assert light != dark
    browser.keys("d")
    assert background(browser) == light
    press(browser, "#theme")
    assert background(browser) == dark


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_against_its_background(page: Any, dark: bool) -> None:
    browser = page(release(), dark=dark)
    browser.keys("j", "j", "j", "\ue007")
    pairs = browser.script(
        """const seen = [];
        const behind = (element) => {
          for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (!/, 0\\)$/.test(color)) return color;
          }
          return "rgb(255, 255, 255)";
        };
        const selector = "h1, h2, h3, p, b, small, button, dt, dd, i, .row div";
        for (const item of document.querySelectorAll(selector)) {
          if (!item.offsetParent || !item.textContent.trim()) continue;
          seen.push([getComputedStyle(item).color, behind(item), item.textContent.slice(0, 40)]);
        }
        return seen;"""
    )
    assert len(pairs) > 50
    for color, background, text in pairs:
        assert contrast(color, background) >= 3.0, (text, color, background)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, as WCAG defines it."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [320, 400, 800, 1400, 2400])
def test_the_page_is_never_wider_than_the_window(page: Any, width: int) -> None:
    for facts in (release(), hostile()):
        browser = page(facts, width=width)
        assert browser.script("return document.documentElement.scrollWidth") <= width


# Hostile text


def test_hostile_titles_and_output_do_no_harm(page: Any) -> None:
    browser = page(hostile())
    assert browser.text("h1") == HOSTILE
    assert browser.driver.title.startswith(HOSTILE)
    assert HOSTILE in titles(browser)
    for index in range(11):
        browser.script("location.hash = ''")
        press(browser, f'#timeline rect[data-task="{index}"]')
        assert browser.find("#details")[0].is_displayed()
    assert len(browser.find("script")) == 2
    assert browser.find("img") == []
    assert browser.script("return typeof window.alerted") == "undefined"


def test_the_policy_of_the_page_stops_foreign_scripts_styles_and_requests(
    tmp_path: Path, browser: Any
) -> None:
    text = RunReport(release()).to_html()
    evil = '<script>document.title = "evil"</script><img src="http://127.0.0.1:9/x.png">'
    evil += '<p id="styled" style="color: rgb(1, 2, 3)">x</p><style>p { color: red }</style>'
    path = tmp_path / "evil.html"
    path.write_text(text.replace("<main>", f"<main>{evil}"), encoding="utf-8")
    browser.open(path)
    assert browser.driver.title == "release: failed"
    color = browser.script("return getComputedStyle(document.getElementById('styled')).color")
    assert color not in ("rgb(1, 2, 3)", "rgb(255, 0, 0)")
    assert len([line for line in browser.complaints() if "Content Security Policy" in line]) >= 4


# Without scripts


def test_without_scripts_the_page_can_be_read(tmp_path: Path, browser: Any) -> None:
    path = RunReport(release()).write(tmp_path / "report.html")
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(path)
        rows = [item.text for item in browser.find("table.plain tbody tr")]
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
    assert len(rows) == 11
    assert any("package" in row and "blocked by 'unit tests'" in row for row in rows)
    assert "1.20s" in rows[-1]


# Large runs


@pytest.mark.parametrize(("count", "most_bytes"), [(1_000, 3_000_000), (10_000, 12_000_000)])
def test_the_page_of_a_large_run_draws_what_can_be_seen_and_scrolls(
    page: Any, tmp_path: Path, count: int, most_bytes: int
) -> None:
    # How long it takes to open is measured by benchmarks/reports.py.
    browser = page(layered(count))
    assert (tmp_path / "report.html").stat().st_size <= most_bytes
    assert len(browser.find(".row")) < 100, "only the rows that can be seen are drawn"
    assert len(browser.find("*")) < 12_000
    rows = browser.find(".rows")[0]
    browser.script("arguments[0].scrollTop = arguments[0].scrollHeight", rows)
    browser.settle()
    assert titles(browser)[-1] == f"task {count - 1:05d}"
    browser.find(".search")[0].send_keys("00777")
    assert titles(browser) == ["task 00777"]
    press(browser, ".row")
    assert browser.text("#details h2") == "task 00777"
    assert 1 < len(browser.find("#graph .node")) <= 40


def test_a_long_output_does_not_make_the_page_long(page: Any) -> None:
    works = [work(f"{number}", output="x" * 50_000 + "\n") for number in range(500)]
    assert len(reported(simulate(works)).to_html().encode()) <= 3_000_000
    assert len(titles(page(simulate(works)))) > 10
