"""The forms in which a secret may stand in a text: as it is, escaped, and in base64."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

_SHORTEST_BASE64 = 4
"""Characters of base64 that are looked for; fewer would stand in many a word."""


def forms(secret: str) -> set[str]:
    """All forms of a secret.

    Itself; inside of a repr or JSON, also twice (the repr of a JSON text, say); as bytes in a repr;
    and base64 of a text that contains it, wherever it stands in that.
    """
    once = set(_escaped(secret))
    twice = {form for text in once for form in _escaped(text)}
    return {secret, *once, *twice, *_base64(secret)}


def _escaped(text: str) -> Iterator[str]:
    import json

    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1]
    # Which quotes a repr escapes depends on the whole str.
    data = text.encode("utf-8", "surrogatepass")
    for parts in (
        [repr('"' + part)[2:-1] for part in text.split("'")],
        [repr(b'"' + part)[3:-1] for part in data.split(b"'")],
    ):
        yield "'".join(parts)
        yield "\\'".join(parts)


def _base64(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogatepass")
    for alphabet in (None, b"-_"):
        yield b64encode(data, alphabet).decode()
        for offset in range(3):  # of its first byte, in a group of three
            code = b64encode(bytes(offset) + data, alphabet).decode().rstrip("=")
            # What comes before and behind the secret has a part in the characters at the ends.
            begin = (0, 2, 3)[offset]
            end = len(code) - ((offset + len(data)) % 3 > 0)
            if end - begin >= _SHORTEST_BASE64:
                yield code[begin:end]
