"""GitLab CI: sections."""

from __future__ import annotations

from ttasks.console.ci.form import Form

_ERASE = "\x1b[0K"


class GitLab(Form):
    """A section says at its start whether it is collapsed; what failed is not."""

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        option = "" if failed else "[collapsed=true]"
        return [f"{_ERASE}section_start:{int(now)}:ttasks_{number}{option}\r{_ERASE}{title}"]

    def close(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [f"{_ERASE}section_end:{int(now)}:ttasks_{number}\r{_ERASE}"]
