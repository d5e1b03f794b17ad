"""Webhook, Slack and Teams against a real server that answers in every way."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import standardwebhooks

from notifykit import DRIP, SECRET, Answer, Authority, Web, closed_port, message, serve, silent_port
from ttasks.notify import NotifyError, Slack, Teams, Webhook
from ttasks.notify.http import LONGEST_WAIT


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


def refused(channel: Webhook | Slack | Teams) -> NotifyError:
    with pytest.raises(NotifyError) as caught:
        channel.send(message())
    return caught.value


# --- Standard Webhooks --------------------------------------------------------------------------


def test_a_webhook_is_verified_by_the_package_of_the_standard(web: Web) -> None:
    Webhook(web.url, SECRET).send(message())
    (post,) = web.posts
    body = standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    assert post.headers["webhook-id"] == "msg_0123456789"
    assert post.headers["content-type"] == "application/json"
    assert body["type"] == "run.failed"
    assert datetime.fromisoformat(body["timestamp"]) == message().created_at
    data = body["data"]
    assert (data["id"], data["subject"]) == ("msg_0123456789", "nightly: it failed")
    assert data["reasons"] == [{"name": "failed", "text": "it failed"}]
    assert data["run"] == message().data["run"]
    assert data["failures"] == message().data["failures"]


def test_another_secret_does_not_verify(web: Web) -> None:
    Webhook(web.url, SECRET).send(message())
    other = standardwebhooks.Webhook("whsec_" + base64.b64encode(b"x" * 24).decode())
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        other.verify(web.posts[0].body, web.posts[0].headers)


def test_each_of_several_secrets_signs(web: Web) -> None:
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    Webhook(web.url, [new, SECRET]).send(message())
    for secret in (new, SECRET):
        standardwebhooks.Webhook(secret).verify(web.posts[0].body, web.posts[0].headers)


def test_without_a_secret_nothing_is_signed(web: Web) -> None:
    Webhook(web.url, headers={"Authorization": "Bearer abc"}).send(message())
    headers = web.posts[0].headers
    assert "webhook-signature" not in headers
    assert headers["webhook-id"] == "msg_0123456789"
    assert headers["authorization"] == "Bearer abc"


def test_a_body_stays_under_20_kb_and_keeps_every_title(web: Web) -> None:
    long = message(failures=10, error="e" * 1000, output="o" * 1500)
    Webhook(web.url).send(long)
    body = web.posts[0].body
    assert len(body) < 20_000
    failures = json.loads(body)["data"]["failures"]
    assert [failure["title"] for failure in failures] == [f"task {at}" for at in range(10)]
    assert any(failure["output"] for failure in failures)
    assert not all(failure["output"] for failure in failures)


def test_even_absurd_titles_stay_under_20_kb(web: Web) -> None:
    long = message(failures=10)
    for failure in long.data["failures"]:
        failure["title"] = "\u20ac" * 1000
    Webhook(web.url).send(long)
    data = json.loads(web.posts[0].body)["data"]
    assert len(web.posts[0].body) < 20_000
    assert len(data["failures"]) + data["more_failures"] == 10
    assert data["more_failures"] > 0


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said", "is_final"),
    [
        (500, "HTTP 500 Internal Server Error", False),
        ((503, {}, "in maintenance\nmore"), "HTTP 503 Service Unavailable: in maintenance", False),
        ((403, {}, "invalid_token"), "HTTP 403 Forbidden: invalid_token", True),
        (404, "HTTP 404 Not Found", True),
        (410, "HTTP 410 Gone", True),
        (408, "HTTP 408 Request Timeout", False),
        (b"220 mail.example.org ESMTP\r\n", "an answer that is not HTTP", False),
        (b"\x00\xff\xfe garbage \x1b[2J", "an answer that is not HTTP", False),
        (b"HTTP/1.1 banana\r\n\r\n", "an answer that is not HTTP", False),
        (b"", "an answer that is not HTTP", False),
    ],
)
def test_an_answer_that_is_no_success_is_an_error(
    web: Web, answer: Answer, said: str, is_final: bool
) -> None:
    web.answers = [answer]
    error = refused(Webhook(web.url))
    assert said in str(error)
    assert error.is_final is is_final
    assert "T0KEN" not in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_a_success(web: Web, status: int) -> None:
    web.answers = [status]
    Webhook(web.url).send(message())
    assert len(web.posts) == 1


def test_retry_after_is_seconds_or_a_date(web: Web) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for text, least, most in (
        ("7", 7, 7),
        (soon, 90, 100),
        ("1e9", None, None),
        ("soon", None, None),
        ("-3", 0, 0),
        ("999999999", LONGEST_WAIT, LONGEST_WAIT),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0, 0),
    ):
        web.answers = [(429, {"Retry-After": text})]
        error = refused(Webhook(web.url))
        assert not error.is_final
        if least is None or most is None:
            assert error.retry_after is None
        else:
            assert error.retry_after is not None
            assert least <= error.retry_after <= most


def test_redirects_are_not_followed(web: Web) -> None:
    with serve() as other:
        web.answers = [(307, {"Location": other.url})]
        error = refused(Webhook(web.url, headers={"Authorization": "Bearer abc"}))
        assert not other.posts
    assert str(error) == ("HTTP 307, a redirect to 127.0.0.1, which is not followed; give that URL")
    assert error.is_final


def test_a_server_that_never_answers_is_left_after_the_timeout(web: Web) -> None:
    web.answers = [None]
    began = time.monotonic()
    error = refused(Webhook(web.url, timeout=0.2))
    assert time.monotonic() - began < 2
    assert str(error) == "127.0.0.1 did not answer within 0.2 s"
    assert not error.is_final


def test_a_server_that_drips_is_left_after_the_timeout(web: Web) -> None:
    web.answers = [DRIP]
    error = refused(Webhook(web.url, timeout=0.3))
    assert str(error) == "127.0.0.1 did not answer within 0.3 s"


def test_a_port_that_accepts_and_says_nothing() -> None:
    with silent_port() as port:
        error = refused(Webhook(f"https://127.0.0.1:{port}/", timeout=0.2))
    assert "did not answer within 0.2 s" in str(error)


def test_a_port_that_nobody_listens_on() -> None:
    error = refused(Webhook(f"http://127.0.0.1:{closed_port()}/secret-path"))
    assert str(error) == "cannot reach 127.0.0.1: Connection refused"
    assert not error.is_final


# --- TLS ----------------------------------------------------------------------------------------


def test_the_certificate_is_checked() -> None:
    authority = Authority()
    with serve(authority.certificate()) as web:
        Webhook(web.url, SECRET, tls_context=authority.context()).send(message())
        assert len(web.posts) == 1
        error = refused(Webhook(web.url, SECRET))
        assert "the certificate of 127.0.0.1 is not valid" in str(error)
        assert error.is_final
        assert len(web.posts) == 1


def test_a_certificate_of_another_host_is_refused() -> None:
    authority = Authority()
    with serve(authority.certificate("other.example.org")) as web:
        error = refused(Webhook(web.url, tls_context=authority.context()))
    assert "the certificate of 127.0.0.1 is not valid" in str(error)


# --- proxies ------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:pa%20ss@127.0.0.1:{web.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    Webhook("http://hooks.example.org/there?a=1").send(message())
    (post,) = web.posts
    assert post.path == "http://hooks.example.org/there?a=1"
    assert post.headers["host"] == "hooks.example.org"
    kind, _, pair = post.headers["proxy-authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"me:pa ss")


def test_a_proxy_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://:x")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = refused(Webhook("https://hooks.example.org/there"))
    assert str(error) == "the variable https_proxy is no URL of a proxy"


# --- chats --------------------------------------------------------------------------------------


def document(web: Web) -> Any:
    return json.loads(web.posts[0].body)


def test_slack_takes_what_is_sent(web: Web) -> None:
    Slack(web.url).send(message(title="a <b> & c", error="<!channel> said ```x```"))
    found = document(web)
    assert found["text"] == "a &lt;b&gt; &amp; c: it failed"
    texts = [block["text"]["text"] for block in found["blocks"]]
    assert texts[0] == ":x: *a &lt;b&gt; &amp; c: it failed*"
    assert "*Duration:* 1m 05s" in texts[1]
    assert texts[2] == (
        "*task 0* failed\nDid not run because of it: after it\n```&lt;!channel&gt; said '''x'''```"
    )
    assert all(block["text"]["type"] == "mrkdwn" for block in found["blocks"])


def test_slack_stays_within_its_limits(web: Web) -> None:
    Slack(web.url).send(message(failures=10, error="&" * 1000))
    found = document(web)
    assert len(found["blocks"]) < 50
    for block in found["blocks"]:
        text = block["text"]["text"]
        assert 0 < len(text) <= 3000
        assert "&" not in text.replace("&amp;", "")  # none is cut in two
    assert found["blocks"][-1]["text"]["text"] == "… and 5 more"


def test_teams_gets_an_adaptive_card(web: Web) -> None:
    Teams(web.url).send(message(error="a_b *c* [x](http://e)\nnext"))
    found = document(web)
    assert found["type"] == "message"
    (attachment,) = found["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    head, facts, title, error, blocked = card["body"]
    assert (head["text"], head["color"]) == ("nightly: it failed", "Attention")
    assert {"title": "Duration", "value": "1m 05s"} in facts["facts"]
    assert title["text"] == "task 0 failed"
    assert error["text"] == "a\\_b \\*c\\* \\[x\\](http://e)\n\nnext"
    assert blocked["text"] == "Did not run because of it: after it"


def test_teams_stays_within_its_limit(web: Web) -> None:
    Teams(web.url).send(message(failures=10, error="\u20ac*" * 2000))
    assert len(web.posts[0].body) < 28_000
    assert document(web)["attachments"][0]["content"]["body"][0]["text"] == "nightly: it failed"


def test_a_good_run_looks_good(web: Web) -> None:
    web.answers = [200]
    for kind in (Slack, Teams):
        kind(web.url).send(message(outcome="ok", failures=0))
    assert b":white_check_mark:" in web.posts[0].body
    assert b'"Good"' in web.posts[1].body


# --- bad input ----------------------------------------------------------------------------------

GOOD = "https://hooks.example.org/T0KEN"


@pytest.mark.parametrize("kind", [Webhook, Slack, Teams])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "url must be a non-empty str"),
        ("hooks.example.org/T0KEN", "url must be like https://host/path"),
        ("ftp://hooks.example.org/T0KEN", "url must be like https://host/path"),
        ("https:///T0KEN", "url must be like https://host/path"),
        ("https://h:99999/T0KEN", "its host or port is wrong"),
        ("https://h:0/T0KEN", "url must be like https://host/path"),
        ("https://[::1/T0KEN", "its host or port is wrong"),
        ("https://h/T0KEN\r\nX-Evil: 1", "characters that a URL cannot have"),
        ("https://h/T0KEN with space", "characters that a URL cannot have"),
        ("https://me:T0KEN@h/", "must not have a user or password in it; give headers"),
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(kind: Any, url: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        kind(url)
    assert said in str(caught.value)
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize("kind", [Slack, Teams])
def test_a_url_that_is_a_secret_must_be_https(kind: Any) -> None:
    with pytest.raises(ValueError, match="url must be https, as it is a secret"):
        kind("http://hooks.example.org/T0KEN")


@pytest.mark.parametrize(
    ("secret", "kind", "said"),
    [
        ("hunter2hunter2hunter2hunter2", ValueError, "must begin with 'whsec_'"),
        ("whsec_hunter2!!", ValueError, "must have base64 after"),
        ("whsec_aHVudGVyMg==", ValueError, "must have 24 to 64 bytes in base64, but it has 7"),
        ("whsk_hunter2", ValueError, "is a private key"),
        (b"whsec_hunter2", TypeError, "must be a str, several or None, got bytes"),
        ([b"hunter2"], TypeError, "must be a str, several or None, got bytes"),
        (5, TypeError, "must be a str, several or None, got int"),
    ],
)
def test_a_wrong_secret_is_refused_without_being_shown(secret: Any, kind: Any, said: str) -> None:
    with pytest.raises(kind) as caught:
        Webhook(GOOD, secret)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"headers": {"X": "a\r\nY: b"}}, ValueError, "headers['X'] must be one line of ASCII"),
        ({"headers": {"X\r\nY": "b"}}, ValueError, "a name that HTTP does not allow"),
        ({"headers": {"": "b"}}, ValueError, "a name that HTTP does not allow"),
        ({"headers": {"X": 5}}, TypeError, "headers['X'] must be a str, got int"),
        ({"headers": {5: "x"}}, TypeError, "a name in headers must be a str"),
        ({"headers": [("X", "y")]}, TypeError, "headers must be a mapping of str to str, got list"),
        ({"headers": {"Webhook-Id": "x"}}, ValueError, "must not have 'Webhook-Id'"),
        ({"headers": {"Content-Length": "2"}}, ValueError, "must not have 'Content-Length'"),
        ({"secret": []}, ValueError, "secret is empty, so nothing would be signed"),
        ({"timeout": 0}, ValueError, "timeout must be a finite number > 0 and <= 86400, got 0"),
        ({"timeout": "1"}, TypeError, "timeout must be a number, got str"),
        ({"tls_context": "no"}, TypeError, "tls_context must be an ssl.SSLContext, got str"),
        ({"name": " "}, ValueError, "name must be a non-empty str"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], kind: Any, said: str) -> None:
    with pytest.raises(kind) as caught:
        Webhook(GOOD, **options)
    assert said in str(caught.value)


def test_names_and_reprs_tell_channels_apart_and_no_secrets() -> None:
    channels = [Slack(GOOD), Slack(GOOD + "2"), Webhook(GOOD, SECRET, name="mine"), Teams(GOOD)]
    shown = [repr(channel) for channel in channels]
    assert len(set(shown)) == 4
    assert shown[2] == "<Webhook 'mine'>"
    assert not any("T0KEN" in text or SECRET in text for text in shown)
    assert Slack(GOOD).name == channels[0].name  # in every process


def test_a_context_that_checks_nothing_is_the_users_own_choice() -> None:
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with serve(Authority().certificate()) as web:
        Webhook(web.url, tls_context=unchecked).send(message())
        assert len(web.posts) == 1
