"""Checksums: whether the rows of a ledger still mean what was written.

A row has a checksum of its columns and of the id of the task or graph that it belongs to, so that
neither a changed byte nor a row in the wrong place is read as something else. Where a row is read
without its long columns, those have a checksum of their own, which the first one covers::

    works.body -> works.checksum        results.checksum -> tasks.checksum
    nodes -> graphs.shape -> graphs.checksum

They are the upper 31 bits of a CRC-32, which SQLite keeps in 4 bytes: a row keeps its size when
its checksum changes. They notice accidents, not people who change a row and its checksum. Those of
the rows that every transition writes are made in `transitions`, beside what writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any
from zlib import crc32

from ttasks.errors import StoreError
from ttasks.model.status import TaskStatus
from ttasks.stores.sqlite.plain import Text

MASK = 0x7FFF_FFFF
OWNER_FACTOR = 40_503 << 3
"""The owner of a task may be known to SQLite only, which adds its number, times this."""
TASK_MODULUS = 257
"""An event's checksum, less its number, and its task leave the same remainder: SQL can compare.

No byte of a number can change without changing that, as 257 is a prime above 255.
"""
STATUS_CODES = {status.value: number for number, status in enumerate(TaskStatus)}
"""The last three bits of the checksum of a row of ``tasks``, so that rows can be counted by SQL."""


def of_columns(*columns: object) -> int:
    """The checksum of short columns, whatever they hold."""
    return crc32(repr(columns).encode("utf-8", "surrogatepass")) >> 1


def of_body(payload: Text | None, details: Text | None) -> int:
    """The checksum of what a task works on."""
    return of_texts(f"{payload is None} {details is None} ", (payload, details))


def of_work(
    task_id: str,
    created_at: int,
    kind: Text,
    title: Text,
    payload_kind: str,
    key: Text | None,
    fingerprint: str | None,
    body: int,
) -> int:
    """The checksum of a row of ``works``, and of when its task was made."""
    text = f"{task_id} {created_at} {kind!r} {title!r} {payload_kind} {key!r} {fingerprint} {body}"
    return crc32(text.encode("utf-8", "surrogatepass")) >> 1


def with_owner(checksum: int, owner: int | None, listed: bool) -> int:
    """The whole checksum of a row of ``tasks``; negative for a task that is not listed."""
    whole = (checksum + (owner or 0) * OWNER_FACTOR) & MASK
    return whole if listed else ~whole


def of_nodes(nodes: Iterable[Sequence[Any]]) -> str:
    """The digest of the nodes of a graph in their order, ``graphs.shape``."""
    text = repr([tuple(node) for node in nodes])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def check(kept: object, expected: object, what: str) -> None:
    """Raise StoreError unless a row has the checksum that its columns call for."""
    if kept != expected:
        raise damaged(what, "its checksum does not match")


def check_status(kept: object, status: str, what: str) -> None:
    """Raise StoreError unless the checksum of a row of ``tasks`` is of this status."""
    code = STATUS_CODES.get(status)
    if not isinstance(kept, int) or code is None or (kept if kept >= 0 else ~kept) & 7 != code:
        raise damaged(what, f"its status is {status!r}, but its checksum is that of another status")


def damaged(what: str, why: object) -> StoreError:
    """The error for a damaged row."""
    return StoreError(f"The ledger's row of {what} is damaged: {why}")


def of_texts(head: str, texts: Iterable[Text | None]) -> int:
    """The checksum of texts that may be long."""
    found = crc32(head.encode("utf-8", "surrogatepass"))
    for text in texts:
        if text:
            data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
            found = crc32(data, found)
    return found >> 1
