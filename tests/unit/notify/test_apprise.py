"""Apprise: by its own JSON service, on a server of the test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from notifykit import Web, message, serve
from ttasks import MissingExtraError
from ttasks.notify import Apprise, NotifyError

# Apprise imports all of its services, one of which needs a module of Python that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


def url_of(web: Web) -> str:
    return f"json://robot:hunter2-password@127.0.0.1:{web.port}/path"


def test_a_message_reaches_a_service(web: Web) -> None:
    Apprise(url_of(web)).send(message())
    Apprise(url_of(web)).send(message(outcome="ok"))
    first, second = (json.loads(post.body) for post in web.posts)
    assert first["title"] == "nightly: it failed"
    assert "task 0 failed\n  exit code 3" in first["message"]
    assert (first["type"], second["type"]) == ("failure", "success")


def test_redirects_are_not_followed(web: Web) -> None:
    with serve() as other:
        web.answers = [(307, {"Location": other.url})]
        with pytest.raises(NotifyError, match="Apprise says .*307"):
            Apprise(url_of(web)).send(message())
        assert not other.posts


@pytest.mark.parametrize("answer", [500, 403, b"garbage"])
def test_a_service_that_refuses_is_an_error_without_secrets(web: Web, answer: Any) -> None:
    web.answers = [answer]
    channel = Apprise(url_of(web))
    with pytest.raises(NotifyError, match="Apprise says .+") as caught:
        channel.send(message())
    assert not caught.value.is_final
    assert "hunter2" not in str(caught.value) + repr(channel) + channel.name


def test_a_service_that_never_answers_is_left(web: Web) -> None:
    web.answers = [None]
    with pytest.raises(NotifyError, match="Apprise says"):
        Apprise(url_of(web) + "?rto=0.2").send(message())


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("nonsense://hunter2/x", ValueError, "url is none that Apprise knows, or lacks something"),
        ("hunter2", ValueError, "it has no://"),
        ("discord://", ValueError, "discord://..."),
        (5, TypeError, "url must be a str, got int"),
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: Any, kind: Any, said: str) -> None:
    with pytest.raises(kind) as caught:
        Apprise(url)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ttasks\[apprise\]'"):
        Apprise("json://localhost")
