"""Redactor: no secret gets out, however the text is cut."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks import (
    RetryPolicy,
    Task,
    TaskContext,
    TaskExecutionError,
    TaskGraph,
    TaskLogFilter,
    TaskStatus,
    TaskType,
)
from ttasks.model.codes import CODE_CHARACTERS
from ttasks.model.command import stdin_bytes
from ttasks.model.context import CURRENT
from ttasks.model.frames import captured_locals
from ttasks.model.patterns import LineSearch, bounded
from ttasks.model.redact import (
    PIECE_CHARACTERS,
    Redactor,
    check_names,
    redacted,
    redacted_graph,
    redacted_task,
    redacted_title,
)

WORK = TaskType("work")
TOKEN = "tok-" + "x" * 40

texts = st.text(alphabet="ab\n", max_size=60)
secrets = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=6), max_size=4)
patterns = st.lists(
    st.sampled_from(["a+", "b{2,}", "^a", "b$", "(?<=a)b", "a*", r"a\nb"]).map(re.compile),
    max_size=2,
)


def streamed(redactor: Redactor, text: str, cuts: list[int]) -> str:
    stream = redactor.stream()
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    parts = [stream.feed(text[begin:end]) for begin, end in pairwise(edges)]
    return "".join([*parts, stream.finish()])


def covered(text: str, literals: list[str]) -> str:
    """The definition, as plainly as can be: what any occurrence covers, overlaps as one."""
    spans = sorted(
        (at, at + len(literal))
        for literal in literals
        for at in range(len(text))
        if text.startswith(literal, at)
    )
    out, at = "", 0
    for begin, end in spans:
        if begin >= at:
            out += text[at:begin] + "***"
        at = max(at, end)
    return out + text[at:]


@given(texts, secrets)
def test_what_a_str_covers_is_hidden(text: str, literals: list[str]) -> None:
    assert Redactor(literals).text(text) == covered(text, literals)


@given(
    st.text(alphabet="ab\n…", max_size=60),
    secrets,
    patterns,
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_pieces_give_the_same_as_the_whole(
    text: str, literals: list[str], compiled: list[re.Pattern[str]], cuts: list[int]
) -> None:
    redactor = Redactor([*literals, *compiled])
    assert streamed(redactor, text, cuts) == redactor.text(text)


@given(texts, secrets, st.integers(1, 3))
def test_no_prefix_of_the_stream_shows_a_secret(text: str, literals: list[str], size: int) -> None:
    stream = Redactor(literals).stream()
    shown = ""
    for at in range(0, len(text), size):
        shown += stream.feed(text[at : at + size])
        assert covered(text, literals).startswith(shown)


def test_the_longest_of_secrets_that_begin_alike_is_hidden() -> None:
    assert Redactor(["pass", "password"]).text("password pass") == "*** ***"


def test_overlapping_secrets_are_hidden_by_one_mask() -> None:
    assert Redactor(["abcd", "cdef"]).text("xabcdefx") == "x***x"


def test_a_str_across_lines_is_hidden() -> None:
    redactor = Redactor(["BEGIN\nkey\nEND"])
    stream = redactor.stream()
    assert stream.feed("a BEGIN\n") == "a "
    assert stream.feed("key\n") == ""
    assert stream.feed("END b") + stream.finish() == "*** b"


def test_what_cannot_be_a_secret_is_not_held_back() -> None:
    assert Redactor(["secret"]).stream().feed("no se\n") == "no se\n"


@pytest.mark.parametrize("secret", ["it's", 'a"b', "a\\b\nc", "ä\x00'\"\t", "BEGIN\n'k'\nEND"])
@pytest.mark.parametrize("around", ["", "'", '"', "'\""])
@pytest.mark.parametrize("form", [repr, json.dumps, partial(json.dumps, ensure_ascii=False)])
def test_a_secret_is_hidden_in_its_repr_and_in_json(
    form: Callable[[str], str], around: str, secret: str
) -> None:
    shown = Redactor([secret]).text(form(f"<{around}{secret}{around}>"))
    assert re.fullmatch(r"""["'][<>\\"']*\*\*\*[<>\\"']*["']""", shown)


def test_the_beginning_of_a_secret_is_hidden_where_a_text_was_cut() -> None:
    redactor = Redactor(["password", "passport"])
    assert redactor.text("my passw… and passp… but pas… and pass") == (
        "my ***… and ***… but pas… and pass"
    )


def test_a_message_that_quotes_a_title_shows_no_part_of_a_secret() -> None:
    with pytest.raises(TaskExecutionError) as caught:
        _ = Task.bash(f"{'x' * 40} {TOKEN}").value
    assert "tok-" in str(caught.value)
    assert "tok-" not in Redactor([TOKEN]).text(str(caught.value))


def test_a_pattern_sees_a_line_as_a_whole() -> None:
    stream = Redactor([re.compile(r"token=\w+")]).stream()
    assert stream.feed("token=ab") == ""
    assert stream.feed("cd ok\nnext") == "*** ok\n"
    assert stream.finish() == "next"


def test_anchors_of_a_pattern_are_the_ends_of_lines() -> None:
    assert Redactor([re.compile("^a.*b$")]).text("a1b\nxa1b\na2b") == "***\nxa1b\n***"


def test_a_str_and_a_pattern_that_overlap_hide_both_wholes() -> None:
    redactor = Redactor(["abc", re.compile(r"token=\w+")])
    assert redactor.text("token=abcdef xabcx") == "*** x***x"


def test_a_line_without_end_is_not_held_back_for_ever() -> None:
    stream = Redactor([re.compile("secret")]).stream()
    shown = sum(len(stream.feed("x" * 1000)) for _ in range(1000))
    assert shown >= 1_000_000 - PIECE_CHARACTERS


def test_overlaps_without_end_are_not_held_back() -> None:
    stream = Redactor(["aa"]).stream()
    assert "".join(stream.feed("a" * 100) for _ in range(100)) + stream.finish() == "***"


def test_an_empty_pattern_match_hides_nothing() -> None:
    assert Redactor([re.compile("x*")]).text("abc") == "abc"


CODES = [
    "\x1b",  # alone
    "\x1b[01;31m\x1b[K",  # as grep colours what it finds
    "\x1b[m",
    "\x1b]8;;http://a.example\x1b\\",
    "\x1b]0;title\x07",
    "\x9b1m",
    "\x1b(B",
    "\x00",
    "\b",
    "\u200b",
    "\u202e",
]
texts_with_codes = st.lists(st.sampled_from([*"abc1m\n[]…", "\x1b", *CODES]), max_size=20).map(
    "".join
)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("secret", ["hunter2", re.compile(r"hunt\w+2")])
def test_a_secret_with_codes_in_it_is_hidden(secret: str | re.Pattern[str], code: str) -> None:
    redactor = Redactor([secret])
    text = f"{code}<hun{code}ter{code}{code}2>{code}"
    assert redactor.text(text) == f"{code}<***>{code}"
    assert streamed(redactor, text, list(range(len(text)))) == f"{code}<***>{code}"


@given(
    st.lists(st.lists(st.sampled_from(CODES[1:]), max_size=3).map("".join), min_size=2, max_size=2)
)
def test_a_secret_with_any_codes_in_it_is_hidden(codes: list[str]) -> None:
    assert Redactor(["ab1"]).text(f"<a{codes[0]}b{codes[1]}1>") == "<***>"


@given(
    texts_with_codes,
    st.lists(st.text(alphabet="abc1m\n\x1b[]", min_size=1, max_size=6), max_size=4),
    patterns,
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_pieces_of_a_text_with_codes_give_the_same_as_the_whole(
    text: str, literals: list[str], compiled: list[re.Pattern[str]], cuts: list[int]
) -> None:
    redactor = Redactor([*literals, *compiled])
    assert streamed(redactor, text, cuts) == redactor.text(text)


def test_a_code_that_comes_in_pieces_may_stand_in_a_secret() -> None:
    stream = Redactor(["hunter2"]).stream()
    assert stream.feed("a hun\x1b]0;ti") == "a "
    assert stream.feed("tle\x1b") == ""
    assert stream.feed("\\ter2 b") + stream.finish() == "*** b"


def test_a_finished_code_is_not_held_back() -> None:
    stream = Redactor(["hunter2"]).stream()
    assert stream.feed("\x1b[31mred\x1b[m") == "\x1b[31mred\x1b[m"
    assert stream.feed("\x1b[3") == ""
    assert stream.finish() == "\x1b[3"


@pytest.mark.parametrize("code", ["\0", "\x1b]0;", "\x1b[1", "\x9d"])
def test_codes_without_end_are_not_held_back_for_ever(code: str) -> None:
    stream = Redactor(["hunter2"]).stream()
    text = "hun" + code + code[-1] * (3 * CODE_CHARACTERS)
    size = CODE_CHARACTERS // 2
    pieces = [stream.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert len("".join(pieces)) >= CODE_CHARACTERS
    assert "".join(pieces) + stream.finish("ter2") == text + "ter2"


def test_the_beginning_of_a_secret_with_codes_in_it_is_hidden_where_a_text_was_cut() -> None:
    assert Redactor(["hunter2"]).text("hu\x1b[1mnt\x1b[m…") == "***\x1b[m…"


def test_a_secret_with_its_own_codes_is_found_as_it_is() -> None:
    redactor = Redactor(["a\x1b[1mb"])
    assert redactor.text("a\x1b[1mb ab a\0b") == "*** ab a\0b"


def test_without_secrets_nothing_changes() -> None:
    assert not Redactor([])
    assert Redactor([]).text("abc\n") == "abc\n"


@pytest.mark.parametrize("wrong", ["abc", b"abc", re.compile("x"), 5, None])
def test_secrets_must_be_a_collection(wrong: object) -> None:
    kind = "None" if wrong is None else type(wrong).__name__
    with pytest.raises(TypeError, match=f"redact must be an iterable of str.*got {kind}$"):
        Redactor(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [b"hunter2", 42, None, re.compile(b"hunter2"), ("hunter2",)])
def test_a_wrong_secret_is_named_by_position_and_type_only(wrong: object) -> None:
    kind = "None" if wrong is None else type(wrong).__name__
    with pytest.raises(TypeError, match=rf"redact\[1\].*got {kind}$") as caught:
        Redactor(["fine", wrong])  # type: ignore[list-item]
    assert "hunter2" not in str(caught.value)


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match=r"redact\[0\]"):
        Redactor([""])


def test_repr_shows_no_secret() -> None:
    assert repr(Redactor(["hunter2", re.compile("x")])) == "<Redactor of 1 strs and 1 patterns>"


# Titles, tasks and graphs


@pytest.mark.parametrize(
    ("task", "title"),
    [
        (Task("log in with hunter2", None, WORK), "log in with ***"),
        (
            Task("", f"curl -H 'Authorization: {TOKEN}' host", WORK),
            "curl -H 'Authorization: ***' host",
        ),
        # Cut in the middle of a secret, so that what is left of it is in no list.
        (Task.bash("x" * 40 + f" {TOKEN}"), "x" * 40 + " ***"),
        (Task.bash("first\nsecond\nmore"), "***"),
        (Task.prompt("  key_12345678901234567890123456789012345678901234567890123456 ?"), "*** ?"),
        (Task.bash("echo hello"), "echo hello"),
        (Task.python(len, ([],)), "len"),
    ],
)
def test_a_title_shows_no_secret_and_no_part_of_one(task: Task, title: str) -> None:
    redactor = Redactor(["hunter2", TOKEN, "first\nsecond\nmore", re.compile(r"key_\d{50}\d*")])
    before = task.title
    assert redacted_title(task, redactor) == title
    assert redacted_task(task, redactor).title == title
    assert task.title == before
    assert redacted_title(task, None) == redacted_title(task, Redactor([])) == before


def test_a_view_without_secrets_is_the_same_task() -> None:
    task = Task(
        "t",
        {"hunter2": ["say hunter2", 5]},
        WORK,
        "of hunter2",
        retry=RetryPolicy(2),
        options={"env": {"hunter2": "hunter2", "***": 1}},
    )
    view = redacted_task(task, Redactor(["hunter2"]))
    assert view == task
    assert (view.title, view.description, view.retry) == ("t", "of ***", task.retry)
    assert view.payload == {"***": ["say ***", 5]}
    assert view.options == {"env": {"***": "***", "*** (2)": 1}}
    assert task.payload == {"hunter2": ["say hunter2", 5]}
    task.transition_to(TaskStatus.RUNNING)
    assert view.is_running


def test_bytes_for_stdin_lose_their_secrets() -> None:
    task = Task.bash("cat", stdin=b"\xffhunter2\n")
    options = redacted_task(task, Redactor(["hunter2"])).options
    assert stdin_bytes(options["stdin"]) == b"\xff***\n"
    assert redacted_task(task, Redactor(["other"])) is task


def test_a_task_without_secrets_is_itself() -> None:
    class Odd:
        def __ne__(self, other: object) -> Any:
            raise ValueError("neither equal nor different")

    payload = {"a": [1, None, ("b", Odd())]}
    for task in (Task("t", payload, WORK), Task("t", Odd(), WORK), Task.python(print, ("x",))):
        assert redacted_task(task, Redactor(["hunter2"])) is task


def test_arguments_of_a_function_lose_their_secrets() -> None:
    task = Task.python(print, ("hunter2", ["a hunter2"]), {"end": "hunter2"})
    call = redacted_task(task, Redactor(["hunter2"])).payload
    assert (call.func, call.args, call.kwargs) == (print, ("***", ["a ***"]), {"end": "***"})


def test_a_graph_without_secrets_keeps_its_identity_edges_and_flags() -> None:
    graph = TaskGraph("deploy with hunter2", key="deploy")
    first = graph.add(Task.bash("echo hunter2"))
    graph.add(Task.bash("true"), after=first, finally_=True, required=False)
    shown = redacted_graph(graph, Redactor(["hunter2"]))
    assert (shown.id, shown.title, shown.key) == (graph.id, "deploy with ***", "deploy")
    assert shown.items() == graph.items()
    assert [task.title for task in shown] == ["echo ***", "true"]
    assert [node[2:] for node in shown.nodes()] == [node[2:] for node in graph.nodes()]
    assert redacted_graph(graph, Redactor(["other"])) is graph


def test_only_text_is_changed() -> None:
    item = object()
    assert redacted((1, item, b"hunter2"), Redactor(["hunter2"])) == (1, item, b"hunter2")


def test_log_records_do_not_show_the_secret_of_a_title() -> None:
    task = Task.bash(f"login {TOKEN} " + "x" * 60)
    context = TaskContext(task, redactor=Redactor([TOKEN]))

    def titled() -> str:
        CURRENT.set(context)
        record = logging.makeLogRecord({"msg": "hello"})
        assert TaskLogFilter().filter(record)
        return record.task_title  # type: ignore[attr-defined, no-any-return]

    assert copy_context().run(titled) == "login *** " + "x" * 49 + "…"


# Disguises

PEM = "-----BEGIN KEY-----\nab\\cd'ef\"gh\u00e9\n-----END KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        str(KeyError(PEM)),
        repr({"pem": PEM}),
        json.dumps({"pem": PEM}),
        json.dumps([PEM], ensure_ascii=False),
        repr(json.dumps({"pem": PEM})),
        json.dumps(repr(PEM)),
        repr(PEM.encode()),
        repr({"'": [PEM]}),
    ],
)
def test_a_secret_with_newlines_quotes_and_backslashes_is_hidden_in_any_form(text: str) -> None:
    shown = Redactor([PEM]).text(text)
    assert "***" in shown
    assert not {"BEGIN", "cd", "ef", "gh"} & set(re.findall("[A-Za-z]+", shown))


@given(
    st.binary(max_size=8), st.text(min_size=5, max_size=20), st.binary(max_size=8), st.booleans()
)
def test_base64_of_whatever_contains_a_secret_shows_none_of_it(
    before: bytes, secret: str, behind: bytes, urlsafe: bool
) -> None:
    try:
        data = secret.encode()
    except UnicodeEncodeError:
        return
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    shown = Redactor([secret]).text(encode(before + data + behind).decode())
    begin, _, end = shown.partition("***")
    assert "***" in shown
    hidden = len(encode(before + data + behind).decode().rstrip("=")) - len(begin + end.rstrip("="))
    assert hidden * 6 > len(data) * 8 - 12  # but for some bits at the ends, which is no character


def test_a_secret_is_hidden_in_its_base64_although_that_is_short() -> None:
    assert Redactor(["hi!"]).text("token: aGkh.") == "token: ***."
    assert Redactor(["pass"]).text("cGFzcw==") == "***"


def test_log_records_of_a_task_show_no_secret() -> None:
    redactor = Redactor(["hunter2", PEM])
    context = TaskContext(Task.bash("true"), redactor=redactor)

    def record(**facts: Any) -> logging.LogRecord:
        made = logging.makeLogRecord(facts)
        assert TaskLogFilter().filter(made)
        return made

    def check() -> None:
        CURRENT.set(context)
        assert record(msg="a %s", args=("hunter2",)).getMessage() == "a ***"
        assert record(msg="100 % hunter2").getMessage() == "100 % ***"
        assert "hunter2" not in record(msg="%d", args=("hunter2",)).getMessage()
        assert record(msg=KeyError(PEM)).getMessage() == "'***'"
        try:
            raise KeyError(PEM)
        except KeyError:
            shown = logging.Formatter().format(record(msg="failed", exc_info=sys.exc_info()))
        assert shown.endswith("KeyError: '***'")
        extra = record(msg="", token="hunter2", headers={"hunter2": ["hunter2", 1]})
        assert extra.__dict__["token"] == "***"
        assert extra.__dict__["headers"] == {"***": ["***", 1]}

    copy_context().run(check)
    outside = record(msg="hunter2 %s", args=("hunter2",))
    assert outside.getMessage() == "hunter2 hunter2"


def test_the_names_of_variables_are_hidden() -> None:
    hunter2, hunter22 = "a", "b"
    try:
        raise ValueError(hunter2, hunter22)
    except ValueError as error:
        found = captured_locals(error.__traceback__, Redactor(["hunter2"]))
    assert found["***"] == "'a'"
    assert found["***2"] == "'b'"
    assert not any("hunter2" in name for name in found)


@pytest.mark.parametrize("name", ["key", "version", "group"])
def test_a_secret_in_what_is_stored_as_it_is_is_refused(name: str) -> None:
    task = Task("log in with hunter2", None, WORK, **{name: "of hunter2"})  # type: ignore[arg-type]
    for redactor in (Redactor(["hunter2"]), Redactor([re.compile(r"hunter\d")])):
        with pytest.raises(ValueError, match=rf"^{name} of task 'log in with \*\*\*'") as caught:
            check_names([task], redactor)
        assert "hunter2" not in str(caught.value)
    check_names([task], None)
    check_names([task], Redactor(["other"]))
    with pytest.raises(ValueError, match="key of the graph"):
        check_names([], Redactor(["hunter2"]), "hunter2")


# Patterns that backtrack

SLOW = re.compile(r"(a|aa)+$|secret")
HARD = "a" * 60 + "b"


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Patterns are looked for by ``regex``, or, as if it were not installed, by ``re``."""
    if request.param == "re":
        monkeypatch.setitem(sys.modules, "regex", None)
    bounded.cache_clear()
    yield
    bounded.cache_clear()


def test_a_line_that_a_pattern_has_no_time_for_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("regex")
    redactor = Redactor([SLOW])
    begin = monotonic()
    assert redactor.text(f"a secret\n{HARD}\nthe end\n") == "a ***\n***\nthe end\n"
    assert monotonic() - begin < 5


def test_other_threads_go_on_meanwhile() -> None:
    pytest.importorskip("regex")
    search = LineSearch((SLOW,))
    begun, ended = threading.Event(), threading.Event()
    turns = []

    def run() -> None:
        while not ended.wait(0.001):
            turns.append(0)
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    before = len(turns)
    search.spans(HARD)
    during = len(turns) - before
    ended.set()
    thread.join()
    assert during > 5


def test_a_text_full_of_such_lines_is_hidden_without_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("regex")
    monkeypatch.setattr("ttasks.model.patterns.LINE_SECONDS", 0.01)
    monkeypatch.setattr("ttasks.model.patterns.TEXT_SECONDS", 0.03)
    lines = [HARD] * 3 + ["the end"]
    assert Redactor([SLOW]).text("\n".join(lines)).splitlines() == ["***"] * 4
    assert Redactor([SLOW]).text("the end") == "the end"  # another text


@pytest.mark.parametrize("engine", ["re", "regex"], indirect=True)
@pytest.mark.parametrize(
    ("pattern", "text", "shown"),
    [
        (r"ghp_\w+", "a ghp_Ab1 b", "a *** b"),
        ("(?i)TOKEN: (?P<t>x+)", "Token: xxx", "***"),
        (r"[[:x]+", "ab:x[c", "ab***c"),  # a class of POSIX for `regex`
        (r"key{sdi}", "key{sdi} keys", "*** keys"),  # a fuzzy match for `regex`
        (r"(?<=id=)\d{3}", "id=123", "id=***"),
        (r"\u00e4+", "\u00e4\u00c4", "***\u00c4"),
    ],
)
@pytest.mark.usefixtures("engine")
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_patterns_mean_the_same_with_and_without_regex(pattern: str, text: str, shown: str) -> None:
    assert Redactor([re.compile(pattern)]).text(text) == shown


def test_flags_of_a_pattern_count() -> None:
    flags = re.IGNORECASE | re.VERBOSE | re.ASCII
    assert Redactor([re.compile(r"TOKEN = \w+  # a comment", flags)]).text("token=xé") == "***é"


def test_a_redactor_goes_to_another_process() -> None:
    redactor = pickle.loads(pickle.dumps(Redactor(["hunter2", SLOW])))
    assert redactor.text("hunter2, secret") == "***, ***"
