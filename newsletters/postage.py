"""What one reader's copy says that no other copy does."""

from collections.abc import Callable
from datetime import date, datetime
from email.utils import format_datetime
from functools import lru_cache

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _

from newsletters import dates, links
from newsletters.claims import Claim
from newsletters.clock import local_date
from newsletters.links import Purpose
from newsletters.models import Delivery, Letter, Publication
from newsletters.rendering import capitalised


def message_id(row: Delivery | Letter) -> str:
    """Return the Message-ID without its brackets: the same for every try."""
    return f"{token(row)}@{row.publication.domain}"


def token(row: Delivery | Letter) -> str:
    """Return the word by which a message is known again: in its Message-ID, return path, ENVID and Reply-To."""
    if isinstance(row, Letter):
        return links.seal(Purpose.LETTER, row.pk)
    return links.seal(Purpose.MESSAGE, row.subscriber_id, row.local_date, row.slot)


def reply_to(publication: Publication, word: str) -> str:
    """Return where answers to a message go: a signed address in our own mailbox, or else the author's."""
    if not settings.BOUNCE_ADDRESS:
        return publication.reply_to
    local, _at, domain = settings.BOUNCE_ADDRESS.rpartition("@")
    return f"{local}+{word}@{domain}"


def values(delivery: Delivery, now: datetime) -> dict[str, str]:
    """Return the values for a delivery's slots; its subscriber and publication must be loaded."""
    return writer(delivery.publication)(Claim.of(delivery), now)


def writer(publication: Publication) -> Callable[[Claim, datetime], dict[str, str]]:
    """Return what writes the values for a delivery's slots. What all copies share is looked up here, once."""
    origin, domain, language = publication.origin, publication.domain, publication.language
    named, left, read = map(links.sealer, (Purpose.MESSAGE, Purpose.LEAVE, Purpose.READER))

    def write(claim: Claim, now: datetime) -> dict[str, str]:
        day, reader, slot, first_name = claim.local_date, claim.subscriber_id, claim.slot, claim.first_name
        said = links.about(reader, day, slot)
        word = named(said)
        return {
            "to_address": claim.address,
            "to_name": first_name,
            "first_name": first_name,
            "message_id": f"{word}@{domain}",
            "reply_to": reply_to(publication, word),
            "author_address": publication.reply_to,
            "date": spoken(now.replace(microsecond=0)),
            "leave_url": f"{origin}/leave/{left(said)}/",
            "reader_url": f"{origin}/reader/{read(said)}/",
            "today": headline(day, claim.way, language),
            "since": dates.full_date(local_date(claim.began, claim.zone), language),
        }

    return write


@lru_cache(maxsize=16)
def spoken(moment: datetime) -> str:
    """Return an instant as a Date header has it."""
    return format_datetime(moment)


@lru_cache(maxsize=256)
def headline(day: date, way: str, language: str) -> str:
    """Return what stands at the head of a mail: its date, and honestly so where it is one of the reserve."""
    head = capitalised(dates.day(day, language))
    if way != Delivery.Way.RESERVE:
        return head
    with translation.override(language):
        return _("%(day)s, from the archive") % {"day": head}
