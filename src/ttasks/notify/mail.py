"""Mail: messages over SMTP, with text, HTML and the report."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Iterable
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from logging import getLogger
from typing import TYPE_CHECKING

from ttasks.model.checks import check_bool, check_int, check_number, check_str, wrong_value
from ttasks.notify.channel import Channel
from ttasks.notify.errors import NotifyError
from ttasks.notify.http import LONGEST, LOOPBACK, check_context
from ttasks.report.labels import one_line, shortened

if TYPE_CHECKING:
    from ttasks.notify.message import Message

TIMEOUT = 30.0
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_LOCAL_PART = re.compile(r"[^\s\"(),:;<>@\[\\\]\x00-\x20\x7f]+")
_NAMED = re.compile(r"([^<>]*)<([^<>]*)>")
_DOMAIN = re.compile(r"[\w](?:[\w.-]*[\w])?|\[[0-9A-Fa-f:.]+\]")


class Mail(Channel):
    """Sends messages by mail: plain text and HTML, with the report as an attached page.

    The Message-ID is made of the id of the message, so it is the same if a mail is sent again.

    Args:
        host: of the SMTP server.
        to: one address or several, such as "ops@example.org" or "Ops <ops@example.org>".
        sender: the address that the mail comes from.
        port: None means 587 for "starttls", 465 for "tls", 25 for "none".
        tls: "starttls" begins in plain text and refuses to go on without TLS; "tls" begins with
            TLS; "none" has none, and takes a password only for a server on this machine.
        username, password: for the server; both or neither.
        attach: attach the report.
        timeout: seconds for each answer of the server, at most a day.
        tls_context: None checks certificates by the system's authorities.
        name: None makes one of the addresses.

    Raises:
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    def __init__(
        self,
        host: str,
        to: str | Iterable[str],
        *,
        sender: str,
        port: int | None = None,
        tls: str = "starttls",
        username: str | None = None,
        password: str | None = None,
        attach: bool = True,
        timeout: float = TIMEOUT,
        tls_context: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> None:
        self._host = check_str("host", host, empty=False)
        if not host.isprintable() or " " in host:
            raise wrong_value("host", host, "the name of a host")
        self._to = _addresses(to)
        self._sender = _address("sender", sender)
        check_str("tls", tls)
        if tls not in _PORTS:
            raise wrong_value("tls", tls, '"starttls", "tls" or "none"')
        self._tls = tls
        self._port = _PORTS[tls] if port is None else check_int("port", port, least=1)
        if self._port > 65_535:
            raise wrong_value("port", port, "a port, 1 to 65535")
        self._login = _check_login(username, password)
        if self._login is not None and tls == "none" and host not in LOOPBACK:
            raise ValueError(f'tls="none" would send the password to {host} for all to read')
        self.attaches = check_bool("attach", attach)
        self._timeout = check_number("timeout", timeout, above=0, most=LONGEST)
        self._context = check_context(tls_context)
        if name is None:
            names = ", ".join(address.addr_spec for address in self._to)
            name = shortened(f"mail to {names}", 200)
        super().__init__(name, () if password is None else (password,))

    def send(self, message: Message) -> None:
        """See `Channel`."""
        try:
            self._send(message)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            names = "; ".join(_answer(*told) for told in error.recipients.values())
            raise NotifyError(
                f"all recipients were refused: {names}", is_final=min(codes) >= 500
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            reason = f"{self._host} cannot do what is needed: {one_line(str(error))}"
            raise NotifyError(reason, is_final=True) from error
        except smtplib.SMTPResponseException as error:
            answer = _answer(error.smtp_code, error.smtp_error)
            raise NotifyError(
                f"{self._host} refused: {answer}", is_final=error.smtp_code >= 500
            ) from error
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate of {self._host} is not valid: {error.verify_message}"
            raise NotifyError(reason, is_final=True) from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
                reason = f"{self._host} did not answer within {self._timeout:g} s"
                raise NotifyError(reason) from error
            text = one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
            raise NotifyError(f"cannot send by {self._host}: {text}") from error

    def _send(self, message: Message) -> None:
        mail = self._compose(message)
        context = self._context or ssl.create_default_context()
        place = (self._host, self._port)
        server: smtplib.SMTP
        if self._tls == "tls":
            server = smtplib.SMTP_SSL(*place, timeout=self._timeout, context=context)
        else:
            server = smtplib.SMTP(*place, timeout=self._timeout)
        try:
            if self._tls == "starttls":
                server.starttls(context=context)
            if self._login is not None:
                server.login(*self._login)
            refused = server.send_message(mail)
        except BaseException:
            server.close()
            raise
        try:
            server.quit()
        except (smtplib.SMTPException, OSError):
            server.close()  # it has been accepted
        for address, told in refused.items():
            getLogger("ttasks").warning(
                "%s: %s was refused, others were not: %s", self.name, address, _answer(*told)
            )

    def _compose(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"] = self._sender
        mail["To"] = self._to
        mail["Date"] = format_datetime(message.created_at)
        mail["Message-ID"] = f"<{message.id}@{_ascii_domain(self._sender)}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        if self.attaches and message.report is not None:
            mail.add_attachment(message.report, subtype="html", filename="report.html")
        return mail


def _ascii_domain(address: Address) -> str:
    return address.domain if address.domain.isascii() else "ttasks.invalid"


def _answer(code: int, text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {one_line(shown)}".rstrip()


def _addresses(to: object) -> tuple[Address, ...]:
    if isinstance(to, str):
        return (_address("to", to),)
    if isinstance(to, bytes) or not isinstance(to, Iterable):
        raise TypeError(f"to must be an address or several, got {type(to).__name__}")
    found = tuple(_address(f"to[{at}]", item) for at, item in enumerate(to))
    if not found:
        raise ValueError("to must have at least one address")
    return found


def _address(name: str, value: object) -> Address:
    """One address; a line break in it could begin a header, so it is refused."""
    text = check_str(name, value, empty=False)
    if not text.isprintable():
        raise wrong_value(name, value, "an address without line breaks and control characters")
    shown, spec = "", text.strip()
    if match := _NAMED.fullmatch(spec):
        shown, spec = match[1].strip().strip('"'), match[2]
    local, at, domain = spec.rpartition("@")
    if not (at and _LOCAL_PART.fullmatch(local) and _DOMAIN.fullmatch(domain)):
        raise wrong_value(name, value, "one address such as 'ops@example.org'")
    return Address(shown, local, domain)


def _check_login(username: object, password: object) -> tuple[str, str] | None:
    if username is None and password is None:
        return None
    for name, value in (("username", username), ("password", password)):
        if value is None:
            raise ValueError(f"{name} is missing; give both username and password, or neither")
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, got {type(value).__name__}")
        if not value:
            raise ValueError(f"{name} must not be empty")
    return str(username), str(password)
