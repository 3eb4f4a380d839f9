"""Transactional mails: one row each, written in the transaction of its cause, rendered when it goes out."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from django.template.loader import render_to_string
from django.utils import translation

from newsletters import addresses, clock, dates, headers, links, mime, pace, postage, sample
from newsletters.links import Purpose
from newsletters.mime import Blueprint
from newsletters.models import Letter, Publication, Subscriber
from newsletters.rendering import Brand, Markers, envelope, inlined, way_out

FIRST_MINUTE = datetime(2020, 1, 1, tzinfo=UTC)
VALID = timedelta(hours=1)
LATE = timedelta(days=2)
SHORT_LIVED = {Letter.Kind.ACCESS: Purpose.ACCESS, Letter.Kind.MOVE: Purpose.MOVE}
TO_READERS = {Letter.Kind.WELCOME, Letter.Kind.ALREADY, Letter.Kind.OFFER}
FIELDS = ("confirm_url", "code", "link", "leave_url", "reader_url", "first_day")


def write(
    publication: Publication,
    kind: str,
    address: str,
    cause: str,
    *,
    language: str,
    subscriber: Subscriber | None = None,
    context: dict[str, Any] | None = None,
    now: datetime,
) -> Letter | None:
    """Write a letter once for its mailbox, kind and cause; return None where it was written before.

    The caller is inside the transaction of the cause, and wakes the senders when it has committed.
    """
    short = kind in SHORT_LIVED
    letter, written = Letter.objects.get_or_create(
        address_key=addresses.mailbox_key(address),
        kind=kind,
        cause=cause,
        defaults={
            "publication": publication,
            "subscriber": subscriber,
            "address": address,
            "language": language,
            "context": ({"minute": minute(now)} if short else {}) | (context or {}),
            "due_at": now,
            "try_at": now,
            "late_until": now + (VALID if short else LATE),
        },
    )
    return letter if written else None


def minute(moment: datetime) -> int:
    """Return the minutes since 2020: the slot of a link that is valid for an hour."""
    return (moment - FIRST_MINUTE) // timedelta(minutes=1)


def message_bytes(letter: Letter, now: datetime) -> bytes:
    """Return the complete message of a letter; its publication and subscriber should be loaded."""
    if letter.kind == Letter.Kind.SAMPLE:
        return sample.message_bytes(letter, now)
    if letter.kind == Letter.Kind.ANSWER:
        from newsletters.bounces import answers

        return answers.message_bytes(letter, now)
    values = {
        "to_address": letter.address,
        "message_id": postage.message_id(letter),
        "reply_to": postage.reply_to(letter.publication, postage.token(letter)),
        "date": format_datetime(now),
        **_links(letter),
    }
    return _blueprint(Brand.of(letter.publication), letter.kind, letter.language).fill(values)


def _links(letter: Letter) -> dict[str, str]:
    origin, context = letter.publication.origin, letter.context
    if letter.kind in SHORT_LIVED:
        number = context.get("subscriber", letter.subscriber_id)
        token = links.seal(SHORT_LIVED[Letter.Kind(letter.kind)], number, slot=context["minute"])
        return {"link": f"{origin}/data/{'move/' if letter.kind == Letter.Kind.MOVE else ''}{token}/"}
    if letter.kind in TO_READERS and letter.subscriber:
        return _to_a_reader(letter, letter.subscriber)
    if "request" in context:
        token = links.seal(Purpose.CONFIRM, context["request"])
        return {"confirm_url": f"{origin}/confirm/{token}/", "code": links.code(Purpose.CONFIRM, context["request"])}
    return {}


def _to_a_reader(letter: Letter, reader: Subscriber) -> dict[str, str]:
    origin = letter.publication.origin
    written = clock.local_date(letter.due_at, reader.zone)
    first = pace.next_date(reader, letter.due_at)
    return {
        # A name is a text from outside: it stands only in mails to a reader who has confirmed.
        "to_name": reader.first_name,
        "leave_url": f"{origin}/leave/{links.seal(Purpose.LEAVE, reader.pk, written)}/",
        "reader_url": f"{origin}/reader/{links.seal(Purpose.READER, reader.pk, written)}/",
        "first_day": dates.day(first, letter.language),
    }


@lru_cache(maxsize=64)
def _blueprint(brand: Brand, kind: str, language: str) -> Blueprint:
    markers = Markers(*(str(value) for value in (brand.name, brand.author, brand.postal_address, brand.root)))
    with translation.override(language):
        context = brand.context(language) | {name: markers.mark(name) for name in FIELDS}
        subject = headers.one_line(render_to_string(f"emails/{kind}/subject.txt", context))
        context |= {"subject": subject, "title": subject, "underline": "-" * len(subject)}
        text = render_to_string(f"emails/{kind}/body.txt", context)
        page = inlined(render_to_string(f"emails/{kind}/body.html", context))
    head = [
        *envelope(brand, subject, f"letter:pub{brand.number}:{kind}"),
        headers.plain("Auto-Submitted", "auto-generated"),
    ]
    if kind in TO_READERS:
        head += [way_out, headers.list_id(brand.name, f"daily.{brand.slug}.{brand.domain}")]
    return mime.blueprint(head, text, page, markers.fields)
