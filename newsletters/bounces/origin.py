"""Whose mail it was that came back: by a token of ours, in the order of how hard it is to get hold of."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.core.exceptions import ValidationError

from newsletters import addresses, links
from newsletters.bounces.letter import Letter as Mail
from newsletters.bounces.report import Report
from newsletters.links import BadToken, Purpose, Token
from newsletters.models import Delivery, Letter, Publication, Subscriber
from newsletters.models.outgoing import HAD

TOKEN = re.compile(r"(?<![a-z0-9])[a-z2-7]{50}(?![a-z0-9])", re.IGNORECASE)
# Servers give up after five days; a complaint may take some weeks.
LASTS = timedelta(days=35)
RECENT = 5
# A report on a mail of ours names one address, or the few that it was passed on to.
MOST = 10
ENVELOPE = ("to", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "cc")
RETURNED = ("message-id", "x-mailgun-message-id", "return-path", "reply-to", "feedback-id", "x-message-id")
ANSWERED = ("in-reply-to", "references")


@dataclass(frozen=True, slots=True)
class Origin:
    """The row it is about; `known` where a token of ours says so, or a provider that signs what it says."""

    row: Delivery | Letter
    subscriber: Subscriber | None
    known: bool = True

    @property
    def publication(self) -> Publication:
        return self.row.publication

    @property
    def delivery(self) -> Delivery | None:
        return self.row if isinstance(self.row, Delivery) else None


def of_mail(mail: Mail, report: Report | None, now: datetime) -> Origin | None:
    """Find the mail a message answers: return path, envelope id, Message-ID, and at last its recipient."""
    for token in tokens(named(mail, report)):
        if origin := of_token(token, now):
            return origin
    for failure in report.failures[:MOST] if report else []:
        if origin := of_address(failure.recipient, now):
            return origin
    return None


def named(mail: Mail, report: Report | None) -> Iterable[str]:
    """Yield the texts in which a token of ours may stand, the surest first."""
    yield from of_headers(mail.headers, ENVELOPE)
    yield report.envelope if report else ""
    yield from of_headers(mail.returned, RETURNED)
    yield from of_headers(mail.headers, ANSWERED)
    if report:
        # Some send the message back as bare text.
        yield mail.text


def of_headers(headers: dict[str, list[str]], names: Iterable[str]) -> Iterable[str]:
    for name in names:
        yield from headers.get(name, [])


def tokens(texts: Iterable[str]) -> Iterable[tuple[Purpose, Token]]:
    """Yield what the genuine tokens in these texts say."""
    seen: set[str] = set()
    for text in texts:
        for match in TOKEN.finditer(text):
            word = match[0].lower()
            if word in seen or len(seen) > 50:
                continue
            seen.add(word)
            if opened := opened_as(word):
                yield opened


def opened_as(word: str) -> tuple[Purpose, Token] | None:
    for purpose in (Purpose.MESSAGE, Purpose.LETTER):
        try:
            return purpose, links.unseal(purpose, word)
        except BadToken:
            continue
    return None


def of_token(opened: tuple[Purpose, Token], now: datetime, at_any_time: bool = False) -> Origin | None:
    """Return the row of a token, if it was handed over of late."""
    since = datetime.min.replace(tzinfo=UTC) if at_any_time else now - LASTS
    purpose, token = opened
    if purpose == Purpose.LETTER:
        letter = Letter.objects.select_related("publication", "subscriber").filter(pk=token.number).first()
        return Origin(letter, reader_of(letter)) if letter and left(letter, since) else None
    key = (token.day, token.number, token.slot)
    row = Delivery.objects.select_related("publication").filter(pk=key).first()
    if row is None or not left(row, since):
        return None
    return Origin(row, reader_of(row))


def reader_of(row: Delivery | Letter) -> Subscriber | None:
    """Return whom a mail was sent to. A letter about a reader may go to the author, or to a new address."""
    reader = Subscriber.objects.select_related("publication").filter(pk=row.subscriber_id or 0).first()
    if reader and isinstance(row, Letter) and row.address.lower() != reader.address_key:
        return None
    return reader


def left(row: Delivery | Letter, since: datetime) -> bool:
    return row.handoff_at is not None and row.handoff_at > since


def of_address(address: str, now: datetime, number: str = "") -> Origin | None:
    """Return the last mail to an address: what anybody can write into a report proves nothing.

    The number that a provider gave the mail when it took it does.
    """
    try:
        wanted = addresses.normalise(address)
    except ValidationError:
        return None
    readers = Subscriber.objects.select_related("publication").filter(address_hash=wanted.hash)[:20]
    days: list[date] = [now.date() + timedelta(days=number) for number in range(-RECENT, 2)]
    rows = Delivery.objects.filter(local_date__in=days, subscriber__in=[reader.pk for reader in readers])
    had = rows.filter(state__in=HAD).select_related("publication").order_by("-handoff_at")
    named = had.filter(reply=number).first() if number else None
    if (row := named or had.first()) is None:
        return None
    return Origin(row, next(reader for reader in readers if reader.pk == row.subscriber_id), known=bool(named))
