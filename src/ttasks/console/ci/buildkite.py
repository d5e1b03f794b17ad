"""Buildkite: groups, which end where the next one begins."""

from __future__ import annotations

from ttasks.console.ci.form import Form


class Buildkite(Form):
    """``---`` is collapsed, ``+++`` is open."""

    groups_everything = True

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [f"{'+++' if failed else '---'} {title}"]

    def heading(self, title: str) -> list[str]:
        """See `Form`."""
        return [f"+++ {title}"]
