"""Digests of files, which must never be those of an earlier content."""

from __future__ import annotations

import io
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttasks.stores import digests
from ttasks.stores.digests import RESOLUTION_NS, Digests

SECOND = 1_000_000_000
PAST = 1_600_000_000 * SECOND


def digest_of(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def of(cache: Digests, path: Path) -> str:
    return cache.of(str(path), os.stat(path))


def later(path: Path) -> int:
    """A moment when a file has not changed for long enough."""
    status = os.stat(path)
    return max(status.st_mtime_ns, status.st_ctime_ns) + RESOLUTION_NS


class Reads:
    """Counts how often a file is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def counting(*args: Any) -> Any:
            self.count += 1
            return open(*args)

        monkeypatch.setattr(digests, "open", counting, raising=False)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


def test_a_file_that_has_not_changed_for_long_is_read_once(file: Path, reads: Reads) -> None:
    cache = Digests(now=lambda: later(file))
    assert [of(cache, file) for _ in range(3)] == [digest_of(b"one")] * 3
    assert reads.count == 1


def test_a_file_that_was_changed_just_now_is_read_again(file: Path, reads: Reads) -> None:
    cache = Digests(now=lambda: later(file) - 1)
    of(cache, file)
    of(cache, file)
    assert reads.count == 2


def test_a_change_that_keeps_size_and_times_of_content_is_seen(file: Path) -> None:
    cache = Digests(now=lambda: later(file))
    status = os.stat(file)
    of(cache, file)
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert of(cache, file) == digest_of(b"two")


def test_whether_a_file_may_be_executed_counts(file: Path) -> None:
    cache = Digests(now=lambda: later(file))
    of(cache, file)
    file.chmod(0o755)
    assert of(cache, file) == digest_of(b"one") + "x"


def test_what_is_known_outlives_the_process(file: Path, tmp_path: Path, reads: Reads) -> None:
    kept = tmp_path / "kept"
    cache = Digests(str(kept), lambda: later(file))
    of(cache, file)
    cache.keep()
    assert kept.stat().st_mode & 0o777 == 0o600
    reads.count = 0
    assert of(Digests(str(kept)), file) == digest_of(b"one")
    assert reads.count == 1  # the file of the digests
    before = kept.stat()
    cache.keep()
    assert kept.stat() == before  # there was nothing new


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: text.replace(digest_of(b"one").encode(), digest_of(b"no").encode()),
        lambda text: b"",
        lambda text: b"\xff" * 100,
        lambda text: digest_of(b"[]").encode() + b"\n[]",
    ],
    ids=["cut", "changed", "empty", "noise", "of another form"],
)
def test_a_damaged_file_of_digests_is_an_empty_one(damage: Any, file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    cache = Digests(str(kept), lambda: later(file))
    of(cache, file)
    cache.keep()
    kept.write_bytes(damage(kept.read_bytes()))
    assert of(Digests(str(kept)), file) == digest_of(b"one")


def test_a_place_that_cannot_be_written_does_no_harm(file: Path, tmp_path: Path) -> None:
    cache = Digests(str(tmp_path / "no" / "folder"), lambda: later(file))
    of(cache, file)
    cache.keep()


def test_what_could_not_be_written_is_removed(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "in the way").mkdir(parents=True)
    cache = Digests(str(kept), lambda: later(file))
    of(cache, file)
    cache.keep()
    assert not list(tmp_path.glob("kept.*"))


def test_the_digests_of_another_version_are_not_read(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    cache = Digests(str(kept), lambda: later(file))
    of(cache, file)
    cache.keep()
    body = kept.read_bytes().partition(b"\n")[2].replace(digest_of(b"one").encode(), b"wrong")
    for version, expected in ((1, "wrong"), (2, digest_of(b"one"))):
        text = body.replace(b'"version": 1', b'"version": %d' % version)
        kept.write_bytes(digest_of(text).encode() + b"\n" + text)
        assert of(Digests(str(kept)), file) == expected


def test_above_the_limit_only_files_that_were_asked_for_are_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    other, kept = tmp_path / "other", tmp_path / "kept"
    other.write_bytes(b"two")
    first = Digests(str(kept), lambda: later(other))
    of(first, other)
    first.keep()
    monkeypatch.setattr(digests, "MOST", 1)
    second = Digests(str(kept), lambda: later(other))
    of(second, file)
    second.keep()
    third = Digests(str(kept), lambda: later(other))
    of(third, file)
    reads.count = 0
    of(third, other)
    assert reads.count == 1


class FileSystem:
    """A file system with one file and a coarse clock, played without a disk."""

    def __init__(self, resolution: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.resolution = PAST, resolution
        self.content, self.mtime, self.ctime, self.inode = b"", 0, 0, 1
        self.write(b"")
        monkeypatch.setattr(digests, "open", self._open, raising=False)
        monkeypatch.setattr(digests.os, "fstat", lambda _: self.stat())

    def write(self, content: bytes) -> None:
        self.content = content
        self.mtime = self.ctime = self.now // self.resolution * self.resolution

    def touch_back(self, content: bytes, mtime: int) -> None:
        self.write(content)
        self.mtime = mtime

    def stat(self) -> os.stat_result:
        times = {"st_mtime_ns": self.mtime, "st_ctime_ns": self.ctime}
        return os.stat_result((0o100644, self.inode, 1, 1, 0, 0, len(self.content), 0, 0, 0), times)

    def _open(self, *_: Any) -> Any:
        class Reader(io.BytesIO):
            def fileno(self) -> int:
                return 0

        return Reader(self.content)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 5 * SECOND)),
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("set back"), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("look"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([1, 4_000_000, SECOND, RESOLUTION_NS]))
def test_no_digest_is_that_of_an_earlier_content_whatever_the_clock_of_the_file_system(
    plan: list[tuple[str, Any]], resolution: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = FileSystem(resolution, monkeypatch)
        cache = Digests(now=lambda: disk.now)
        for step, value in [*plan, ("look", None)]:
            if step == "wait":
                disk.now += value
            elif step == "write":
                disk.write(value)
            elif step == "set back":
                disk.touch_back(value, PAST)
            else:
                assert cache.of("/file", disk.stat()) == digest_of(disk.content)
