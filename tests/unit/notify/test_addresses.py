"""Channels from URLs."""

from __future__ import annotations

from typing import Any

import pytest

from notifykit import SECRET, message, post_office, serve
from ttasks.notify import Apprise, Mail, Slack, Teams, Webhook, channel_of

# Apprise imports all of its services, one of which needs a module of Python that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T/B/X", Slack),
        ("https://prod-1.westeurope.logic.azure.com:443/workflows/1?sig=x", Teams),
        ("https://default.environment.api.powerplatform.com/x", Teams),
        ("https://example.org/hook", Webhook),
        ("http://example.org/hook", Webhook),
        (f"https://example.org/hook#{SECRET}", Webhook),
        ("smtp://mail.example.org?from=a@b.org&to=c@d.org&to=e@f.org", Mail),
        ("smtps://me:p%40ss@mail.example.org:4465?from=a@b.org&to=c@d.org", Mail),
        ("json://localhost", Apprise),
    ],
)
def test_the_kind_of_a_channel_is_seen_in_its_url(url: str, kind: type) -> None:
    assert type(channel_of(url)) is kind


def test_a_webhook_of_a_url_signs_with_the_secret_behind_it() -> None:
    import standardwebhooks

    with serve() as web:
        channel_of(f"{web.url}#{SECRET}").send(message())
        standardwebhooks.Webhook(SECRET).verify(web.posts[0].body, web.posts[0].headers)
        assert SECRET not in web.posts[0].path


def test_a_mail_of_a_url_is_sent() -> None:
    with post_office("plain") as office:
        address = f"smtp+plain://127.0.0.1:{office.port}?from=a@b.org&to=c@d.org&to=e@f.org"
        channel_of(address).send(message())
        assert office.recipients == [["c@d.org", "e@f.org"]]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "that is no URL of a channel; give a URL such as https://host/path"),
        ("hunter2", "that is no URL of a channel"),
        ("://hunter2", "that is no URL of a channel"),
        ("smtp://me:hunter2@host", "must be like smtp://host?from=a@b.org&to=c@d.org"),
        ("smtp://me:hunter2@host?to=c@d.org", "must be like smtp://host?from=a@b.org&to=c@d.org"),
        ("smtp://me:hunter2@host:x?to=c@d.org", "the host or port of the mail server is wrong"),
        ("smtp://me:hunter2@h?from=a@b.org&to=c@d.org&cc=x", "and to= after the ?, not 'cc'"),
        ("smtp://h?from=a@b.org&to=c@d.org%0d%0aBcc:x@y.z", "without line breaks"),
        ("smtp+plain://me:hunter2@host?from=a@b.org&to=c@d.org", "would send the password to host"),
        ("smtp://me@host?from=a@b.org&to=c@d.org", "password is missing"),
        ("https://[hunter2", "its host or port is wrong"),
        ("https://example.org/#hunter2", "secret must begin with 'whsec_'"),
        ("nonsense://hunter2", "url is none that Apprise knows"),
    ],
)
def test_a_wrong_url_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        channel_of(url)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", [None, 5, b"https://h/"])
def test_a_url_is_a_str(url: Any) -> None:
    with pytest.raises(TypeError, match="url must be a str"):
        channel_of(url)
