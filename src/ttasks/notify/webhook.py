"""Webhook: a POST by the rules of Standard Webhooks."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import ssl
from collections.abc import Iterable, Mapping
from time import time
from typing import TYPE_CHECKING, Any

from ttasks.model.checks import check_number, wrong_type
from ttasks.notify.channel import Channel, name_of
from ttasks.notify.http import LONGEST, check_context, check_url, post

if TYPE_CHECKING:
    from ttasks.notify.message import Message

TIMEOUT = 15.0
"""Seconds for a connection, and again for the answer."""

MOST_BYTES = 20_000
"""Standard Webhooks asks for smaller bodies."""

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_OWN = frozenset(
    {
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
        *("content-type", "content-length", "transfer-encoding", "connection"),
    }
)


class Webhook(Channel):
    """Sends messages as JSON to a URL, signed as Standard Webhooks says.

    The headers ``webhook-id`` (the same for every attempt), ``webhook-timestamp`` and, with a
    secret, ``webhook-signature`` come with it. The body has ``type`` ("run.failed", say),
    ``timestamp``, and ``data``: ``id``, ``subject``, ``reasons``, and what `Message.data` has, as
    far as it fits into 20,000 bytes. A status of 200 to 299 is a success.

    Args:
        url: http or https. Redirects are not followed.
        secret: ``whsec_`` and 24 to 64 bytes in base64. Several sign with each, while a secret is
            being replaced by another. None does not sign.
        headers: further headers, for example ``{"Authorization": "Bearer ..."}``.
        timeout: seconds for the connection, and again for sending and for the whole answer; at
            most a day.
        tls_context: None checks certificates by the system's authorities.
        name: None makes one of the host.

    Raises:
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    def __init__(
        self,
        url: str,
        secret: str | Iterable[str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        tls_context: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> None:
        self._url = check_url(url)
        secrets = _secrets(secret)
        self._keys = [_key(text) for text in secrets]
        self._headers = _check_headers(headers)
        self._timeout = check_number("timeout", timeout, above=0, most=LONGEST)
        self._context = check_context(tls_context)
        if name is None:
            name = name_of("webhook", self._url.hostname or "", url)
        super().__init__(name, [*secrets, *self._headers.values(), self._url.query])

    def send(self, message: Message) -> None:
        """See `Channel`."""
        body = body_of(message)
        stamp = str(int(time()))
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": stamp,
        }
        if self._keys:
            signed = f"{message.id}.{stamp}.".encode() + body
            headers["webhook-signature"] = " ".join([_signature(key, signed) for key in self._keys])
        post(self._url, body, headers, timeout=self._timeout, context=self._context)


def body_of(message: Message) -> bytes:
    """The JSON, with less of the failures as long as it is too long."""
    data: dict[str, Any] = {
        "id": message.id,
        "subject": message.subject,
        "reasons": [{"name": reason.name, "text": reason.text} for reason in message.reasons],
        **message.data,
    }
    document = {
        "type": f"run.{message.kind}",
        "timestamp": message.created_at.isoformat(),
        "data": data,
    }
    while len(body := json.dumps(document).encode()) >= MOST_BYTES and data["failures"]:
        longest = max(data["failures"], key=lambda failure: len(json.dumps(failure)))
        smaller = {**longest, "output": "", "error": longest["error"][:200], "did_not_run": []}
        if smaller == longest:
            data["failures"] = data["failures"][:-1]
            data["more_failures"] += 1
        else:
            data["failures"] = [smaller if it is longest else it for it in data["failures"]]
    return body


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _secrets(secret: object) -> list[str]:
    if secret is None:
        return []
    found = [secret] if isinstance(secret, (str, bytes)) else secret
    if not isinstance(found, Iterable):
        raise TypeError(f"secret must be a str, several or None, got {type(secret).__name__}")
    texts = list(found)
    if not texts:
        raise ValueError("secret is empty, so nothing would be signed; give None for that")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"secret must be a str, several or None, got {type(text).__name__}")
    return texts


def _key(secret: str) -> bytes:
    if secret.startswith("whsk_"):
        raise ValueError("secret is a private key (whsk_); give a shared one (whsec_)")
    if not secret.startswith(_PREFIX):
        raise ValueError(f"secret must begin with {_PREFIX!r}, with base64 after it")
    text = secret.removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"secret must have base64 after {_PREFIX!r}, but that is none") from None
    if len(key) not in _SECRET_BYTES:
        raise ValueError(f"secret must have 24 to 64 bytes in base64, but it has {len(key)}")
    return key


def _check_headers(headers: object) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, got {type(headers).__name__}")
    for key, value in headers.items():
        if not isinstance(key, str):
            raise wrong_type("a name in headers", key, "a str")
        if not key.isascii() or not key.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"headers has a name that HTTP does not allow: {key!r}")
        if not isinstance(value, str):
            raise TypeError(f"headers[{key!r}] must be a str, got {type(value).__name__}")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"headers[{key!r}] must be one line of ASCII")
        if key.lower() in _OWN:
            raise ValueError(f"headers must not have {key!r}, which the webhook sets")
    return dict(headers)
