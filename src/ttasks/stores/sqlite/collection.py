"""What the collections of tasks and of graphs have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

from ttasks.errors import StoreError
from ttasks.model.checks import wrong_type, wrong_value
from ttasks.model.graph import TaskGraph
from ttasks.model.task import Task
from ttasks.stores.sqlite.codec import Row
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.writer import Writer

Item = TypeVar("Item", Task, TaskGraph)

_PAGE = 1000


class LedgerCollection(MutableMapping[str, Item], Generic[Item]):
    """A mapping from id to detached copies of what was saved, in the order of first saving.

    Iteration goes page by page: it sees what is there when it comes by.

    A subclass says what it holds, in which table, and the condition that rows which count meet.

    Args:
        encode, decode: tasks to and from what the tables hold.
    """

    _type: type[Item]
    _table: str
    _counts: str

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        encode: Callable[[Task], Row],
        decode: Callable[[Sequence[Any]], Task],
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._encode = encode
        self._decode = decode
        table, condition = self._table, self._counts
        self._count = f"SELECT count(*) FROM {table} WHERE {condition}"
        self._find = f"SELECT 1 FROM {table} WHERE id=? AND {condition}"
        self._page = f"SELECT seq, id FROM {table} WHERE {condition} AND seq>? ORDER BY seq LIMIT ?"

    def _check(self, item: object) -> None:
        if not isinstance(item, self._type):
            raise wrong_type("item", item, f"a {self._type.__name__}")

    def save(self, item: Item) -> None:
        """Insert or replace ``item`` under its id; when this returns, it is committed."""
        raise NotImplementedError

    def __setitem__(self, key: str, item: Item) -> None:
        self._check(item)
        if key != item.id:
            raise wrong_value("key", key, f"the id of the object, {item.id!r}")
        self.save(item)

    def __contains__(self, item: object) -> bool:
        key = item.id if isinstance(item, self._type) else item
        if not isinstance(key, str):
            return False
        return self._fetch_one(self._find, key) is not None

    def __iter__(self) -> Iterator[str]:
        seq, size = -1, 8
        while True:
            with self._ledger.reading() as connection:
                rows = connection.execute(self._page, (seq, size)).fetchall()
            for _, key in rows:
                if "\0" in key:  # what a file reads as whose end was cut off
                    raise StoreError(f"Ledger {self._ledger.path!r} is damaged: an id is {key!r}")
                yield key
            if len(rows) < size:
                return
            seq, size = rows[-1][0], _PAGE

    def __len__(self) -> int:
        with self._ledger.reading() as connection:
            return int(connection.execute(self._count).fetchone()[0])

    def _fetch_one(self, sql: str, key: str) -> Any:
        # Ids are ASCII as a rule; what SQLite cannot even compare is the id of nothing.
        try:
            with self._ledger.reading() as connection:
                return connection.execute(sql, (key,)).fetchone()
        except UnicodeEncodeError:
            return None
