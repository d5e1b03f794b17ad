"""Identities of tasks and graphs."""

from __future__ import annotations

from os import urandom

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def new_id() -> str:
    """A random UUID (version 4 of RFC 9562) as str; several times faster than ``uuid.uuid4``."""
    digits = urandom(16).hex()
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
        f"-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
    )
