"""The names that `ttasks` has: all are there, and none is imported before it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ttasks


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert ttasks.__version__ == version("ttasks")
    assert "__version__" in ttasks.__all__


def test_every_public_name_is_found_where_type_checkers_find_it() -> None:
    tree = ast.parse(Path(ttasks.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted([*typed, "__version__"]) == sorted(ttasks.__all__)
    for name, module in typed.items():
        assert getattr(ttasks, name) is getattr(importlib.import_module(module), name)
    assert set(ttasks.__all__) <= set(dir(ttasks))
    with pytest.raises(AttributeError, match="module 'ttasks' has no attribute 'Tusk'"):
        ttasks.Tusk  # noqa: B018


def test_importing_the_library_imports_none_of_its_modules() -> None:
    code = "import sys, ttasks; print([name for name in sys.modules if name.startswith('ttasks.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
