"""Mail against a real SMTP server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from notifykit import Authority, PostOffice, closed_port, message, post_office, silent_port
from ttasks.notify import Mail, NotifyError

FROM = "ttasks <robot@example.org>"
TO = "ops@example.org"
LOGIN = {"username": "robot", "password": "hunter2-password"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def plain() -> Iterator[PostOffice]:
    with post_office("plain") as office:
        yield office


def plain_mail(office: PostOffice, to: Any = TO, **options: Any) -> Mail:
    return Mail("127.0.0.1", to, sender=FROM, port=office.port, tls="none", **options)


def refused(mail: Mail) -> NotifyError:
    with pytest.raises(NotifyError) as caught:
        mail.send(message())
    return caught.value


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_a_mail_goes_over_tls_with_a_password(authority: Authority, mode: str) -> None:
    with post_office(mode, authority.certificate()) as office:
        Mail(
            "127.0.0.1",
            TO,
            sender=FROM,
            port=office.port,
            tls=mode,
            tls_context=authority.context(),
            **LOGIN,
        ).send(message(report="<p>the report</p>"))
        assert office.logins == [("robot", "hunter2-password")]
        if mode == "starttls":  # otherwise the port talks nothing but TLS
            assert office.was_tls == [True]
        (mail,) = office.mails
    assert mail["Subject"] == "nightly: it failed"
    assert mail["To"] == TO
    assert mail["From"] == FROM
    assert mail["Message-ID"] == "<msg_0123456789@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n") == message().text
    assert "nightly: it failed</h2>" in html.get_content()
    (report,) = mail.iter_attachments()
    assert report.get_filename() == "report.html"
    assert report.get_content().strip() == "<p>the report</p>"


def test_several_people_get_one_mail(plain: PostOffice) -> None:
    plain_mail(plain, ["Ops <ops@example.org>", "dev+x@sub.example.org"]).send(message())
    assert plain.recipients == [["ops@example.org", "dev+x@sub.example.org"]]
    assert plain.mails[0]["To"] == "Ops <ops@example.org>, dev+x@sub.example.org"
    assert list(plain.mails[0].iter_attachments()) == []


def test_a_report_is_attached_only_if_asked_for(plain: PostOffice) -> None:
    plain_mail(plain, attach=False).send(message(report="<p>x</p>"))
    assert list(plain.mails[0].iter_attachments()) == []


def test_what_is_not_ascii_arrives(plain: PostOffice) -> None:
    Mail(
        "127.0.0.1", "Jürgen Ørsted <ops@example.org>", sender=FROM, port=plain.port, tls="none"
    ).send(message(title="nächtlich ✗", error="größer als ∞"))
    mail = plain.mails[0]
    assert mail["Subject"] == "nächtlich ✗: it failed"
    assert "Jürgen Ørsted" in mail["To"]
    body = mail.get_body(("plain",))
    assert body is not None
    assert "größer als ∞" in body.get_content()


def test_html_is_escaped(plain: PostOffice) -> None:
    plain_mail(plain).send(message(title="<script>alert(1)</script>", error="<img src=x>"))
    body = plain.mails[0].get_body(("html",))
    assert body is not None
    content = body.get_content()
    assert "<script" not in content
    assert "<img" not in content
    assert "&lt;script&gt;" in content


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_certificate_of_nobody_known_is_refused(authority: Authority) -> None:
    for mode in ("starttls", "tls"):
        with post_office(mode, authority.certificate()) as office:
            mail = Mail("127.0.0.1", TO, sender=FROM, port=office.port, tls=mode, **LOGIN)
            error = refused(mail)
            assert "the certificate of 127.0.0.1 is not valid" in str(error)
            assert error.is_final
            assert office.logins == []


def test_a_server_without_tls_gets_no_password(plain: PostOffice) -> None:
    mail = Mail("127.0.0.1", TO, sender=FROM, port=plain.port, **LOGIN)
    error = refused(mail)
    assert "127.0.0.1 cannot do what is needed" in str(error)
    assert "STARTTLS" in str(error)
    assert error.is_final
    assert plain.logins == []


def test_a_wrong_password_is_final_and_not_shown(authority: Authority) -> None:
    with post_office("tls", authority.certificate()) as office:
        mail = Mail(
            "127.0.0.1",
            TO,
            sender=FROM,
            port=office.port,
            tls="tls",
            tls_context=authority.context(),
            username="robot",
            password="wrong-hunter3",
        )
        error = refused(mail)
    assert "127.0.0.1 refused: 535" in str(error)
    assert error.is_final
    assert "hunter3" not in str(error) + repr(mail)


@pytest.mark.parametrize(("code", "is_final"), [("550 no such user", True), ("450 busy", False)])
def test_recipients_that_are_all_refused(plain: PostOffice, code: str, is_final: bool) -> None:
    plain.refuse = {TO: code}
    error = refused(plain_mail(plain))
    assert str(error) == f"all recipients were refused: {code}"
    assert error.is_final is is_final


def test_one_recipient_that_is_refused_does_not_keep_it_from_the_others(
    plain: PostOffice, caplog: pytest.LogCaptureFixture
) -> None:
    plain.refuse = {"gone@example.org": "550 no such user"}
    plain_mail(plain, [TO, "gone@example.org"]).send(message())
    assert plain.recipients == [[TO]]
    assert "gone@example.org was refused, others were not: 550 no such user" in caplog.text


@pytest.mark.parametrize(("answer", "is_final"), [("552 too big", True), ("451 later", False)])
def test_a_mail_that_is_not_accepted(plain: PostOffice, answer: str, is_final: bool) -> None:
    plain.answer = answer
    error = refused(plain_mail(plain))
    assert str(error) == f"127.0.0.1 refused: {answer}"
    assert error.is_final is is_final


def test_a_server_that_says_nothing() -> None:
    with silent_port() as port:
        began = time.monotonic()
        error = refused(Mail("127.0.0.1", TO, sender=FROM, port=port, timeout=0.2))
    assert time.monotonic() - began < 2
    assert str(error) == "127.0.0.1 did not answer within 0.2 s"
    assert not error.is_final


def test_a_port_that_nobody_listens_on() -> None:
    error = refused(Mail("127.0.0.1", TO, sender=FROM, port=closed_port()))
    assert str(error) == "cannot send by 127.0.0.1: Connection refused"
    assert not error.is_final


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "ops@example.org\r\nBcc: all@example.org",
        "ops@example.org\nX: y",
        "Ops\r\nBcc: x@y.org <ops@example.org>",
        "ops@example.org\x00",
        "ops@example.org, dev@example.org",
        "ops",
        "@example.org",
        "ops@",
        "o ps@example.org",
        "ops@exa mple.org",
        "ops@-",
        "<>",
        "",
        " ",
    ],
)
def test_what_is_not_one_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        Mail("h", address, sender=FROM)
    with pytest.raises(ValueError):
        Mail("h", [TO, address], sender=FROM)
    with pytest.raises(ValueError):
        Mail("h", TO, sender=address)


def test_a_title_with_line_breaks_makes_no_header(plain: PostOffice) -> None:
    from ttasks import Task, TaskExecutor, TaskGraph

    graph = TaskGraph("nightly\r\nBcc: all@example.org")
    graph.add(Task.bash("true"))
    with TaskExecutor() as executor:
        (done,) = graph.run(executor).report().notify(plain_mail(plain))
    assert done
    assert plain.mails[0]["Subject"] == "nightly: succeeded"
    assert plain.mails[0]["Bcc"] is None
    assert plain.recipients == [[TO]]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"host": ""}, ValueError, "host must be a non-empty str"),
        ({"host": "a b"}, ValueError, "host must be the name of a host, got 'a b'"),
        ({"to": 5}, TypeError, "to must be an address or several, got int"),
        ({"to": []}, ValueError, "to must have at least one address"),
        ({"to": [5]}, TypeError, "to[0] must be a str, got int: 5"),
        ({"port": 0}, ValueError, "port must be an int >= 1, got 0"),
        ({"port": 70_000}, ValueError, "port must be a port, 1 to 65535, got 70000"),
        ({"port": "25"}, TypeError, "port must be an int, got str"),
        ({"tls": "ssl"}, ValueError, 'tls must be "starttls", "tls" or "none", got \'ssl\''),
        ({"username": "robot"}, ValueError, "password is missing"),
        ({"password": "hunter2"}, ValueError, "username is missing"),
        ({"username": "robot", "password": b"hunter2"}, TypeError, "password must be a str"),
        ({"username": "robot", "password": ""}, ValueError, "password must not be empty"),
        ({"tls": "none", **LOGIN}, ValueError, "would send the password to mail.example.org"),
        ({"timeout": -1}, ValueError, "timeout must be a finite number > 0 and <= 86400, got -1"),
        ({"name": 5}, TypeError, "name must be a str, got int: 5"),
        ({"attach": 1}, TypeError, "attach must be a bool, got int: 1"),
        ({"tls_context": 1}, TypeError, "tls_context must be an ssl.SSLContext, got int"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], kind: Any, said: str) -> None:
    given = {"host": "mail.example.org", "to": TO, "sender": FROM, **options}
    with pytest.raises(kind) as caught:
        Mail(given.pop("host"), given.pop("to"), **given)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_usual_name_is_that_of_the_recipients() -> None:
    mail = Mail("mail.example.org", TO, sender=FROM)
    assert mail.name == "mail to ops@example.org"
    assert repr(mail) == "<Mail 'mail to ops@example.org'>"
