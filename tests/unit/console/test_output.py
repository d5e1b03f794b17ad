"""Output on its way: pieces become lines, and what waits for its turn comes back as it was."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ttasks.console import output
from ttasks.console.output import TAIL_LINES, Lines, Shelf

PIECES = st.lists(st.text(alphabet="ab\n", max_size=60), max_size=20)


@given(PIECES)
def test_pieces_become_the_lines_of_the_whole(pieces: list[str]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed("stdout", piece)] + lines.finish()
    whole = "".join(pieces).split("\n")
    assert found == (whole if whole[-1] else whole[:-1])
    assert list(lines.tail) == found[-TAIL_LINES:]


@given(PIECES)
def test_who_only_skims_has_the_same_tail(pieces: list[str]) -> None:
    read, skimmed = Lines(), Lines()
    for piece in pieces:
        read.feed("stdout", piece)
        skimmed.skim("stdout", piece)
        assert read.last() == skimmed.last()
    read.finish()
    skimmed.finish()
    assert list(read.tail) == list(skimmed.tail)


def test_streams_do_not_tear_each_others_lines() -> None:
    lines = Lines()
    assert lines.feed("stdout", "out ") == []
    assert lines.feed("stderr", "err\n") == ["err"]
    assert lines.feed("stdout", "put\n") == ["out put"]


def test_a_line_without_end_is_cut_and_not_kept() -> None:
    lines = Lines()
    long = "x" * (output.LONGEST_LINE + 1)
    assert lines.feed("stdout", long) == [long]
    assert lines.feed("stdout", "y\n") == ["y"]


def test_a_shelf_gives_back_what_it_took_also_from_disk() -> None:
    chooser = random.Random(5)
    shelf = Shelf()
    expected: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    for number in range(3000):
        name = chooser.choice("abc")
        lines = [f"{number} é " + "x" * chooser.randrange(200)] * chooser.randrange(1, 3)
        shelf.put(name, lines)
        expected[name] += lines
    for name, lines in expected.items():
        assert shelf.has(name)
        assert [line for piece in shelf.take(name) for line in piece] == lines
        assert not shelf.has(name)
    shelf.close()


def test_a_shelf_on_a_full_disk_says_what_is_missing(monkeypatch) -> None:
    def full(**_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.tempfile, "TemporaryFile", full)
    shelf = Shelf()
    shelf.put("a", ["x" * 70_000, "y"])
    shelf.put("a", ["end"])
    found = [line for piece in shelf.take("a") for line in piece]
    assert found[0] == "end"
    assert "2 lines are missing" in found[1]
    shelf.close()
