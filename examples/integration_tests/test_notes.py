"""The web application and the database together."""

import json
import urllib.error
import urllib.request

import pytest


def call(url, text=None):
    """Return what the application answers to a GET, or to a POST of a text."""
    data = None if text is None else text.encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
        return json.load(answer)


def test_a_note_reaches_the_database(servers, sql):
    assert call(f"{servers.web}/notes", 'it\'s "quoted"; DROP TABLE notes') == {"id": 1}
    assert sql("SELECT text FROM notes;") == 'it\'s "quoted"; DROP TABLE notes\n'


def test_notes_of_the_database_are_listed(servers, sql):
    sql("INSERT INTO notes (text) VALUES ('one'), ('two');")
    notes = call(f"{servers.web}/notes")
    assert notes == [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]


def test_a_note_without_a_text_is_refused(servers, sql):
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(f"{servers.web}/notes", " ")
    with refused.value:
        assert refused.value.code == 400
        assert json.load(refused.value) == {"error": "a note needs a text"}
    assert sql("SELECT count(*) FROM notes;") == "0\n"
