"""What the build of the site adds to the pages, and the pictures that a script has made."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path, PurePosixPath
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
MADE = sorted(PICTURES.glob("*.svg"))


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="mkdocs belongs to another group than the tests")
    spec = importlib.util.spec_from_file_location("mkdocs_hooks", ROOT / ".ci" / "mkdocs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_mention_of_a_public_name_becomes_a_link(hooks: ModuleType) -> None:
    page = "# `Task`\n\n`Task` and `Task`, `other`\n"
    assert hooks.linked(page) == "# `Task`\n\n[`Task`][ttasks.Task] and `Task`, `other`\n"


@pytest.mark.parametrize(
    "text", ["```python\n`Task`\n```", "[a `Task`](page.md)", "<!-- `Task` -->", "## `Task`"]
)
def test_names_in_code_links_comments_and_headings_are_left_alone(
    hooks: ModuleType, text: str
) -> None:
    assert hooks.linked(text) == text


def test_a_new_page_needs_no_entry_anywhere_and_comes_last(hooks: ModuleType) -> None:
    pages = ["index.md", "how-to/zebra.md", "how-to/resume.md", "tutorial/quickstart.md"]
    assert hooks.navigation([PurePosixPath(page) for page in pages]) == [
        "index.md",
        {"Tutorial": ["tutorial/quickstart.md"]},
        {"How-to": ["how-to/resume.md", "how-to/zebra.md"]},
    ]


def test_the_order_of_pages_names_pages_that_exist(hooks: ModuleType) -> None:
    for folder, names in hooks.ORDER.items():
        for name in names:
            assert (ROOT / "docs" / folder / f"{name}.md").is_file(), f"{folder}/{name}"


@pytest.mark.parametrize("source", sorted(PICTURES.glob("*.mmd")), ids=lambda path: path.stem)
def test_a_diagram_has_a_light_and_a_dark_picture(source: Path) -> None:
    for theme in ("light", "dark"):
        assert (PICTURES / f"{source.stem}-{theme}.svg").is_file()


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_a_picture_is_complete_without_anything_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    ids = {element.get("id") for element in root.iter()}
    uses = [element.get("href") for element in root.iter("{http://www.w3.org/2000/svg}use")]
    assert all(use is not None and use.removeprefix("#") in ids for use in uses)
    addresses = set(re.findall(r"https?://[^\"'\s)<]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert str(Path.home()) + "/" not in text


def test_every_picture_is_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for path in [*MADE, *PICTURES.glob("*.png")]:
        assert f"pictures/{path.name}" in pages


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_the_links_of_pages_outside_the_site_lead_to_files(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"", text):
        assert (ROOT / "".join(target)).exists(), target
