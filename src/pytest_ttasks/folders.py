"""The folder in which the plugin keeps what another pytest has to know of this one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest


def home_of(config: pytest.Config) -> Path:
    """The folder for all runs of pytest with the same root folder by the same user."""
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    root = hashlib.sha256(os.fsencode(config.rootpath)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"ttasks-pytest-{user}", root)


def has_traces(config: pytest.Config) -> bool:
    """True if a pytest with this root folder is under way or has been killed."""
    return home_of(config).is_dir()
