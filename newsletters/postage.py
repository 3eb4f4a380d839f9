"""What one reader's copy says that no other copy does."""

from datetime import datetime
from email.utils import format_datetime

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import dates, links
from newsletters.links import Purpose
from newsletters.models import Delivery, Letter, Subscriber
from newsletters.rendering import capitalised


def message_id(row: Delivery | Letter) -> str:
    """Return the Message-ID without its brackets: the same for every try."""
    return f"{token(row)}@{row.publication.domain}"


def token(row: Delivery | Letter) -> str:
    """Return the word by which a message is known again: in its Message-ID, return path, ENVID and Reply-To."""
    if isinstance(row, Letter):
        return links.seal(Purpose.LETTER, row.pk)
    return links.seal(Purpose.MESSAGE, row.subscriber_id, row.local_date, row.slot)


def reply_to(row: Delivery | Letter) -> str:
    """Return where answers to this message go: a signed address in our own mailbox, or else the author's."""
    if not settings.BOUNCE_ADDRESS:
        return row.publication.reply_to
    local, _at, domain = settings.BOUNCE_ADDRESS.rpartition("@")
    return f"{local}+{token(row)}@{domain}"


def values(delivery: Delivery, now: datetime) -> dict[str, str]:
    """Return the values for a delivery's slots; its subscriber and publication must be loaded."""
    reader, publication = delivery.subscriber, delivery.publication
    key = (reader.pk, delivery.local_date, delivery.slot)
    language = publication.language
    return {
        "to_address": reader.address,
        "to_name": reader.first_name,
        "first_name": reader.first_name,
        "message_id": message_id(delivery),
        "reply_to": reply_to(delivery),
        "date": format_datetime(now),
        "leave_url": f"{publication.origin}/leave/{links.seal(Purpose.LEAVE, *key)}/",
        "reader_url": f"{publication.origin}/reader/{links.seal(Purpose.READER, *key)}/",
        "today": headline(delivery, language),
        "since": since(reader, language),
    }


def headline(delivery: Delivery, language: str) -> str:
    """Return what stands at the head of a mail: its date, and honestly so where it is one of the reserve."""
    day = capitalised(dates.day(delivery.local_date, language))
    if delivery.way != Delivery.Way.RESERVE:
        return day
    with translation.override(language):
        return _("%(day)s, from the archive") % {"day": day}


def since(reader: Subscriber, language: str) -> str:
    """Return the date on which this reader confirmed, where they live."""
    from newsletters.clock import local_date

    began = reader.member_since or reader.created_at
    return dates.full_date(local_date(began, reader.zone), language)
