"""What `mkdocs build` does for this project besides rendering the pages.

- The navigation is made from the folders of docs/, so that a new page needs no entry anywhere.
- The API reference is made by pdoc from the docstrings and added to the site as `api/`, so that
  pages can link to it (`../api/ttasks.html#TaskGraph`). What pdoc warns about is a warning of the
  build, and an error under `--strict`.
"""

import logging
import tempfile
import warnings
from pathlib import Path, PurePosixPath

import pdoc
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation

import ttasks

log = logging.getLogger("mkdocs.hooks.ttasks")

SECTIONS = {
    "tutorial": "Tutorial",
    "how-to": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
}
# Everything public is importable from these; the rest of the tree is an inner matter.
API_MODULES = [
    "ttasks",
    "ttasks.console",
    "ttasks.pytest_plugin",
    *(
        f"!ttasks.{inner}"
        for inner in (
            "cli",
            "engine",
            "errors",
            "handlers",
            "model",
            "report",
            "stores",
        )
    ),
]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file in api_files(config):
        files.append(file)
    config.nav = navigation([PurePosixPath(file.src_uri) for file in files.documentation_pages()])
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    # Not part of `config.nav`, where every target has to be a Markdown page.
    nav.items.append(Link("API", "api/ttasks.html"))
    return nav


def navigation(pages: list[PurePosixPath]) -> list[dict[str, object] | str]:
    """Return the entries of the navigation: the top pages, then one section per folder."""
    known = list(SECTIONS)
    folders = sorted(
        {page.parts[0] for page in pages if len(page.parts) > 1},
        key=lambda folder: (known.index(folder) if folder in known else len(known), folder),
    )
    entries: list[dict[str, object] | str] = in_order(p for p in pages if len(p.parts) == 1)
    for folder in folders:
        title = SECTIONS.get(folder, folder.replace("-", " ").capitalize())
        entries.append({title: in_order(p for p in pages if p.parts[0] == folder)})
    return entries


def in_order(pages) -> list[str]:
    """Return the pages sorted by path, an index before its neighbours."""
    return [str(p) for p in sorted(pages, key=lambda p: (p.parent, p.name != "index.md", p.name))]


def api_files(config: MkDocsConfig) -> list[File]:
    with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("always")
        for name in ttasks.__all__:  # pdoc sees only what is there, not what is made on demand
            setattr(ttasks, name, getattr(ttasks, name))
        pdoc.render.configure(docformat="google", show_source=False, footer_text="ttasks")
        pdoc.pdoc(*API_MODULES, output_directory=Path(folder))
        made = [
            File.generated(
                config,
                f"api/{path.relative_to(folder).as_posix()}",
                content=path.read_text(encoding="utf-8"),
            )
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        ]
    for warning in caught:
        log.warning("pdoc: %s", warning.message)
    return made
