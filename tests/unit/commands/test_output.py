"""Output of commands: chunks for listeners, limits, spill files, redaction, decoding."""

from __future__ import annotations

import errno
import os
import re
import resource
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandkit import bash, run_host, token
from ttasks.commands import capture
from ttasks.model.redact import Redactor

__all__ = ["token"]

# Whole, broken and forbidden sequences, and line ends.
pieces = st.sampled_from(
    b"a|\n|\xc3\xa4|\xe2\x82\xac|\xf0\x9f\x98\x80|\xe2|\x82|\xf0\x9f|\xff|\xed\xa0\x80|"
    b"\xf5\x80|\xc0\x80|\r\n|\0".split(b"|")
)
data_of_any_kind = st.one_of(st.binary(max_size=40), st.lists(pieces, max_size=30).map(b"".join))
cuts_of_it = st.lists(st.integers(0, 1000), max_size=8)


def parts_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "CHUNK_BYTES", 8)


@given(data=data_of_any_kind, cuts=cuts_of_it)
def test_joined_chunks_are_the_decoded_whole(data: bytes, cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "CHUNK_BYTES", 8)
        splitter = capture.LineSplitter()
        chunks = [text for part in parts_of(data, cuts) for text in splitter.feed(part)]
        for chunk in chunks:
            assert chunk.endswith(("\n", "\r")) or len(chunk) >= 2
        chunks += splitter.finish()
    assert "".join(chunks) == data.decode("utf-8", "replace")
    assert all(chunks)


def test_a_line_that_ends_in_a_carriage_return_is_not_held_back() -> None:
    splitter = capture.LineSplitter()
    assert list(splitter.feed(b"10 %\r")) == ["10 %\r"]
    assert list(splitter.feed(b"20 %\r30")) == ["20 %\r"]
    assert list(splitter.feed(b" %\ndone\nnext")) == ["30 %\ndone\n"]
    assert list(splitter.finish()) == ["next"]


@given(data=data_of_any_kind, at=st.integers(0, 40))
def test_a_cut_at_a_character_end_changes_nothing(data: bytes, at: int) -> None:
    cut = capture.character_end(data, min(at, len(data)))
    assert capture.decode(data[:cut]) + capture.decode(data[cut:]) == capture.decode(data)


@given(data=data_of_any_kind, cuts=cuts_of_it)
def test_a_capture_is_the_decoded_whole(data: bytes, cuts: list[int]) -> None:
    kept = capture.Capture()
    for part in parts_of(data, cuts):
        kept.add(part)
    assert kept.text() == data.decode("utf-8", "replace")


@given(data=data_of_any_kind, cuts=cuts_of_it, limit=st.integers(2, 20))
def test_a_limited_capture_keeps_head_tail_and_spills_the_whole(
    data: bytes, cuts: list[int], limit: int
) -> None:
    kept = capture.LimitedCapture("stdout", limit)
    for part in parts_of(data, cuts):
        kept.add(part)
    text = kept.text()
    kept.close()
    assert kept.truncated is (len(data) > limit)
    if not kept.truncated:
        assert text == capture.decode(data)
        assert kept.spill is None
        return
    assert kept.spill is not None
    try:
        assert Path(kept.spill).read_bytes() == data
    finally:
        os.unlink(kept.spill)
    found = re.search(r"\n?\[\.\.\. (\d+) bytes left out; the whole is in .* \.\.\.\]\n", text)
    assert found is not None
    assert len(data) - limit <= int(found[1]) <= len(data) - limit + 6


def lines_heard(script: str, **options: object) -> tuple[str, list[tuple[str, str]]]:
    heard: list[tuple[str, str]] = []
    outcome = bash(script, on_output=lambda *event: heard.append(event), **options)
    assert "".join(text for stream, text in heard if stream == "stdout") == outcome.stdout
    assert "".join(text for stream, text in heard if stream == "stderr") == outcome.stderr
    return outcome.stdout, heard


def test_listeners_get_whole_lines(token: str) -> None:
    script = "printf 'one\\ntw'; sleep 0.1; printf 'o\\nthree'; echo error >&2"
    heard = lines_heard(script)[1]
    assert [text for stream, text in heard if stream == "stdout"] == ["one\n", "two\n", "three"]
    assert ("stderr", "error\n") in heard


def test_lines_come_while_the_command_runs(token: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)

    def on_output(stream: str, text: str) -> None:
        if text == "ready\n":
            go.write_text("go\n")  # blocks for ever if the command has not come to reading

    outcome = bash(f"echo ready; read line < {go}; echo $line", on_output=on_output)
    assert outcome.stdout == "ready\ngo\n"


def test_chunks_are_at_most_64_kib(token: str) -> None:
    heard = lines_heard("seq 200000; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end")[1]
    assert max(len(text) for _, text in heard) <= 64 * 1024
    ends = [text for _, text in heard if not text.endswith("\n")]
    assert len(ends) <= 1_000_000 // (64 * 1024) + 1


def test_200_mb_without_a_newline(token: str) -> None:
    outcome = bash("head -c 200000000 /dev/zero | tr '\\0' x", output_limit=1000)
    assert outcome.truncated
    assert os.path.getsize(outcome.spill["stdout"]) == 200_000_000
    os.unlink(outcome.spill["stdout"])
    assert outcome.stdout.startswith("x" * 500 + "\n[... 199999000 bytes left out; the whole is in")
    assert outcome.stdout.endswith("...]\n" + "x" * 500)


def test_200_mb_without_a_newline_for_a_listener(token: str) -> None:
    count = 0

    def on_output(stream: str, text: str) -> None:
        nonlocal count
        count += len(text)
        assert len(text) <= 64 * 1024

    outcome = bash("head -c 200000000 /dev/zero | tr '\\0' x", on_output=on_output)
    assert count == len(outcome.stdout) == 200_000_000


def test_a_limit_bounds_the_memory(token: str) -> None:
    completed = run_host(
        """
        import os, resource
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = command.run(["/bin/bash", "-c", "head -c 300000000 /dev/zero"],
                              output_limit=100_000)
        os.unlink(outcome.spill["stdout"])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    assert int(completed.stdout) < 20_000, completed.stderr


def test_output_that_is_no_utf8_is_replaced(token: str) -> None:
    script = r"printf 'a\xff\xe2\x82\n\xc3'"
    assert lines_heard(script)[0] == "a\ufffd\ufffd\n\ufffd"
    assert bash(script).stdout == "a\ufffd\ufffd\n\ufffd"


def test_a_character_in_two_reads_is_whole(token: str) -> None:
    stdout, heard = lines_heard(
        r"printf '\xe2'; sleep 0.05; printf '\x82'; sleep 0.05; printf '\xac'"
    )
    assert stdout == "€"
    assert heard == [("stdout", "€")]


def test_line_ends_are_kept(token: str) -> None:
    assert bash(r"printf 'a\r\nb\rc\n'").stdout == "a\r\nb\rc\n"


def test_a_full_disk_loses_the_middle_and_says_so(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "open_spill", lambda name: (os.open("/dev/full", os.O_WRONLY), ""))
    outcome = bash("seq 10000; exit 3", output_limit=20)
    assert outcome.returncode == 3
    assert outcome.truncated
    assert outcome.spill == {}
    assert f"they are lost: [Errno {errno.ENOSPC}]" in outcome.stdout


def test_no_place_for_a_spill_file_is_said(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_spill(name: str) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(capture, "open_spill", open_spill)
    outcome = bash("seq 10000", output_limit=20)
    assert "they are lost: [Errno 13]" in outcome.stdout


def test_a_spill_file_is_for_its_owner_only(token: str) -> None:
    outcome = bash("seq 100 >&2", output_limit=20)
    path = Path(outcome.spill["stderr"])
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.name.endswith(".stderr")
        assert path.read_text() == "".join(f"{n}\n" for n in range(1, 101))
    finally:
        path.unlink()


def test_an_exception_leaves_no_spill_file(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def on_output(stream: str, text: str) -> None:
        if "100000" in text:
            assert len(list(tmp_path.iterdir())) == 1
            raise LookupError

    with pytest.raises(LookupError):
        bash("seq 100000", output_limit=20, on_output=on_output)
    assert list(tmp_path.iterdir()) == []


def test_secrets_are_hidden_everywhere_also_in_the_spill_file(token: str) -> None:
    redactor = Redactor(["hunter2", re.compile(r"tok_\w+")])
    script = (
        "for i in {1..200}; do printf hun; printf 'ter2 tok_'; echo abc$i; done;"
        " printf hun; sleep 0.1; printf 'ter2\\n'"
    )
    heard: list[str] = []
    outcome = bash(
        script,
        on_output=lambda stream, text: heard.append(text),
        output_limit=100,
        text_filter=redactor.stream,
    )
    spilled = Path(outcome.spill["stdout"])
    try:
        assert spilled.read_text() == "*** ***\n" * 200 + "***\n" == "".join(heard)
    finally:
        spilled.unlink()
    assert outcome.stdout.startswith("*** ***\n")
    assert outcome.stdout.endswith("***\n")
    assert "hunter2" not in outcome.stdout


def test_an_unfinished_secret_at_the_end_is_shown_as_it_is(token: str) -> None:
    outcome = bash("printf hunt", text_filter=Redactor(["hunter2"]).stream)
    assert outcome.stdout == "hunt"


def test_a_thousand_open_descriptors_are_no_problem(token: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4000, hard), hard))
    fds: list[int] = []
    try:
        fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(1500)]
        assert bash("echo x; exit 3").stdout == "x\n"
        assert bash("sleep 60", timeout=0.1).ended_by == "timeout"
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
