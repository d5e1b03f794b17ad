"""What `mkdocs build` does for this project besides rendering the pages.

- The navigation is made from the folders of docs/, so that a new page needs no entry anywhere.
  Pages that `ORDER` names come first, in that order.
- The first mention of a public name on a page becomes a link to the API reference.
- A public name that no page of docs/api/ shows is a warning, and so an error under `--strict`.
"""

import logging
import re
from pathlib import PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

import ttasks

log = logging.getLogger("mkdocs.hooks.ttasks")

SECTIONS = {
    "tutorial": "Tutorial",
    "how-to": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
    "api": "API",
}
ORDER = {
    "tutorial": ["quickstart", "coming-from"],
    "how-to": [
        *("task-execution", "python-callables", "graph-workflows", "finally-tasks"),
        *("retries-and-cancellation", "resilience", "stopping-a-run", "progress-and-output"),
        *("console", "command-line", "preflight", "ci", "reports", "schedules", "telling-people"),
        "runs",
        *("persistence", "resume"),
        *("async-submission", "asyncio-service", "custom-handlers", "prompts", "hiding-secrets"),
        *("pytest", "testing"),
    ],
    "reference": [
        *("task-options", "statuses", "executor", "context", "graphs", "policies", "retries"),
        *("events", "errors", "runs", "console", "command-line"),
    ],
    "explanation": ["how-it-works", "commands"],
    "api": [
        *("tasks", "executor", "graphs", "resilience", "events", "stores", "runs", "reports"),
        *("prompts", "errors", "console", "schedule", "notify", "testing", "pytest"),
    ],
}

SHOWN = re.compile(r"^::: ttasks\.(\w+)$", re.MULTILINE)
# Left alone when names become links: code blocks, headings, links, comments.
FIXED = re.compile(
    r"^(?P<fence>\s*(?:```|~~~)).*?^(?P=fence)|^#.*?$|!?\[[^\]]*\]\([^)]*\)|<!--.*?-->",
    re.MULTILINE | re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = [PurePosixPath(file.src_uri) for file in files.documentation_pages()]
    config.nav = navigation(pages)
    texts = [f.content_string for f in files.documentation_pages() if f.src_uri.startswith("api/")]
    shown = {name for text in texts for name in SHOWN.findall(text)}
    for name in sorted(set(ttasks.__all__) - {"__version__"} - shown):
        log.warning(
            "no page of docs/api/ shows the public name %r: add '::: ttasks.%s'", name, name
        )
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown if page.file.src_uri.startswith("api/") else linked(markdown)


def linked(markdown: str) -> str:
    """Return the page with a link to the API at the first mention of each public name."""
    seen: set[str] = set()

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen or name not in ttasks.__all__ or name.startswith("_"):
            return match[0]
        seen.add(name)
        return f"[`{name}`][ttasks.{name}]"

    parts = []
    end = 0
    for fixed in FIXED.finditer(markdown):
        parts += [re.sub(r"`(\w+)`", link, markdown[end : fixed.start()]), fixed[0]]
        end = fixed.end()
    return "".join([*parts, re.sub(r"`(\w+)`", link, markdown[end:])])


def navigation(pages: list[PurePosixPath]) -> list[dict[str, object] | str]:
    """Return the entries of the navigation: the top pages, then one section per folder."""
    folders = {page.parts[0] for page in pages if len(page.parts) > 1}
    entries: list[dict[str, object] | str] = in_order(p for p in pages if len(p.parts) == 1)
    for folder in sorted(folders, key=lambda folder: place(folder, list(SECTIONS))):
        title = SECTIONS.get(folder, folder.replace("-", " ").capitalize())
        entries.append({title: in_order(p for p in pages if p.parts[0] == folder)})
    return entries


def in_order(pages) -> list[str]:
    """Return the pages of a folder: its index, those that `ORDER` names, then the others."""
    return [
        str(page)
        for page in sorted(
            pages, key=lambda p: (p.parent, place(p.stem, ["index", *ORDER.get(p.parts[0], ())]))
        )
    ]


def place(name: str, order: list[str]) -> tuple[int, str]:
    """Return the sort key of a name: names of the list in its order, then all others by name."""
    return (order.index(name) if name in order else len(order), name)
