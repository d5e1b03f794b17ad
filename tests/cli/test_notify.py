"""``ttasks notify test``: a channel of a URL, or of the user's program."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from notifykit import Web, closed_port, serve

CHANNELS = """
from pathlib import Path
from ttasks.notify import Webhook

def tell(message):
    Path("told").write_text(message.subject)

def broken(message):
    raise OSError("no way")

class Things:
    hook = Webhook({url!r}, name="hook")

number = 5
address = {url!r}
"""


@pytest.fixture
def web() -> Any:
    with serve() as web:
        yield web


def test_a_url_is_tried(cli: Any, web: Web) -> None:
    done = cli("notify", "test", web.url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("sent msg_")
    assert "T0KEN" not in done.out
    body = json.loads(web.posts[0].body)
    assert body["type"] == "run.test"
    assert body["data"]["subject"] == "ttasks: this message tries the channel"


@pytest.mark.parametrize("name", ["tell", "Things.hook", "address"])
def test_a_channel_of_a_program_is_tried(cli: Any, folder: Any, web: Web, name: str) -> None:
    folder.write("channels.py", CHANNELS.format(url=web.url))
    done = cli("notify", "test", f"channels.py:{name}")
    assert (done.code, done.err) == (0, "")
    sent = (folder.path / "told").exists() if name == "tell" else len(web.posts) == 1
    assert sent


def test_a_channel_of_a_module_is_tried(cli: Any, folder: Any) -> None:
    folder.write("my_channels.py", CHANNELS.format(url="http://h/"))
    assert cli("notify", "test", "my_channels:tell").code == 0


def test_a_channel_that_fails_ends_with_1_in_time(cli: Any, folder: Any) -> None:
    folder.write("channels.py", CHANNELS.format(url="http://h/"))
    done = cli("notify", "test", "channels.py:broken", "--timeout", "0.7")
    assert (done.code, done.out) == (1, "")
    assert done.err == "not sent through channels.broken: OSError: no way\n"


def test_json_says_what_became_of_it(cli: Any, folder: Any, web: Web) -> None:
    schema = json.loads((resources.files("ttasks.cli") / "cli.schema.json").read_text())
    folder.write("channels.py", CHANNELS.format(url=web.url))
    done = cli("notify", "test", "channels.py:Things.hook", "--json")
    jsonschema.validate(done.json, schema)
    assert (done.json["sent"], done.json["attempts"], done.json["error"]) == (True, 1, None)
    assert done.json["message"] == web.posts[0].headers["webhook-id"]
    url = f"http://127.0.0.1:{closed_port()}/"
    done = cli("notify", "test", url, "--json", "--timeout", "0.7")
    jsonschema.validate(done.json, schema)
    assert (done.code, done.json["sent"]) == (1, False)
    assert done.json["error"] == "cannot reach 127.0.0.1: Connection refused"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["test"], "the following arguments are required: CHANNEL"),
        (["tset", "https://h/"], "invalid choice: 'tset'"),
        (["test", "hunter2://x"], "that URL is no channel: url is none that Apprise knows"),
        (["test", "https://me:hunter2@h/"], "that URL is no channel: url must not have a user"),
        (["test", "smtp://h"], "that URL is no channel: the URL of a mail must be like"),
        (["test", "channels.py"], "names no attribute; write channels.py:attribute"),
        (["test", "channels.py:tel"], "channels.py has no 'tel'; did you mean 'tell'?"),
        (["test", "channels.py:number"], "channels.py:number is no channel: "),
        (["test", "chanels.py:tell"], "there is no file 'chanels.py'; did you mean 'channels.py'"),
        (["test", "https://h/", "--timeout", "0"], "invalid number of seconds above 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_what_is_no_channel_ends_with_2(cli: Any, folder: Any, argv: list[str], said: str) -> None:
    folder.write("channels.py", CHANNELS.format(url="http://h/"))
    done = cli("notify", *argv)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "me:hunter2" not in done.err
