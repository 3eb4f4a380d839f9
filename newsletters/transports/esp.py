"""A provider's HTTP interface, through django-anymail: esp:mailgun, with anymail's own ANYMAIL_ variables."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import requests
from anymail.exceptions import AnymailAPIError, AnymailError
from django.core.mail import EmailMultiAlternatives, get_connection

from newsletters.transports import Message, Options, Outcome

# Written by the provider, or by EmailMultiAlternatives itself.
THEIRS = {"from", "to", "subject", "mime-version", "content-type", "content-transfer-encoding", "reply-to"}


class ESP:
    group = 1

    def __init__(self, options: Options) -> None:
        self.connection = get_connection(f"anymail.backends.{options.host}.EmailBackend")
        self.staged: dict[Any, EmailMultiAlternatives] = {}

    def stage(self, message: Message) -> Outcome | None:
        self.staged[message.key] = _mail(message)
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        staged, self.staged = self.staged, {}
        return {key: self._call(mail) for key, mail in staged.items() if key in keys}

    def close(self) -> None:
        self.connection.close()

    def _call(self, mail: EmailMultiAlternatives) -> Outcome:
        try:
            self.connection.send_messages([mail])
        except AnymailAPIError as error:
            return _refusal(error)
        except requests.RequestException as error:
            return Outcome("uncertain", "no reply", str(error))
        except AnymailError as error:
            return Outcome("failed", "refused", str(error))
        return Outcome("sent", "", str(getattr(mail, "anymail_status", "")))


def _refusal(error: AnymailAPIError) -> Outcome:
    """A refusal without HTTP status is a connection that broke: the provider may have taken the message."""
    status = error.status_code
    if status is None:
        return Outcome("uncertain", "no reply", str(error))
    if status == 429:
        return Outcome("retry", "refused", str(error))
    # A gateway's 5xx does not say whether the provider behind it took the message.
    return Outcome("uncertain" if status >= 500 else "failed", "refused", str(error))


def _mail(message: Message) -> EmailMultiAlternatives:
    parsed = message_from_bytes(message.data, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    mail = EmailMultiAlternatives(
        subject=str(parsed["Subject"]),
        body=_part(parsed, "plain"),
        from_email=str(parsed["From"]),
        to=[str(parsed["To"])],
        reply_to=[str(parsed["Reply-To"])],
        headers={name: str(value) for name, value in parsed.items() if name.lower() not in THEIRS},
    )
    mail.attach_alternative(_part(parsed, "html"), "text/html")
    mail.metadata = {"message_id": message.message_id}  # type: ignore[attr-defined]
    mail.track_opens = mail.track_clicks = False  # type: ignore[attr-defined]
    return mail


def _part(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    return str(part.get_content()) if part else ""
