"""From a request to a reader: two writes when someone asks, and the button or the code that answers."""

import logging
from datetime import datetime, timedelta
from enum import StrEnum

from celery import current_app
from django.db import transaction
from django.db.models import F, Q, Sum
from django.utils.crypto import constant_time_compare
from kombu.exceptions import OperationalError

from newsletters import letters, links, tasks
from newsletters.addresses import Address, mailbox_key
from newsletters.models import Letter, Series, Subscriber, Suppression
from newsletters.models.subscriber import keyed_hash
from optin.guard import Asker
from optin.models import Consent, OptInPage, Request

log = logging.getLogger(__name__)

AGAIN_AFTER = timedelta(minutes=2)
LINK_LASTS = timedelta(days=7)
CODE_LASTS = timedelta(minutes=30)
CODE_TRIES, CODE_TRIES_A_DAY = 5, 10
MEMORY = timedelta(days=30)
JUST_NOW = timedelta(days=1)

ASKING = (Letter.Kind.CONFIRM, Letter.Kind.REMIND)
READING = (Subscriber.Status.ACTIVE, Subscriber.Status.PAUSED)


class Standing(StrEnum):
    """What a confirmation link is still good for; each has its page."""

    OPEN = "confirm"
    CONFIRMED = "confirmed"
    USED = "used"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


def ask(
    page: OptInPage,
    email: Address,
    words: str,
    shown_at: str,
    asker: Asker,
    now: datetime,
    *,
    first_name: str,
    zone: str,
) -> Request:
    """Write down that someone asks. The same rows whatever is known of the address: nobody learns who reads."""
    kind, facts = Consent.Kind.REQUEST, (email.hash, asker.ip_hash, asker.agent)
    with transaction.atomic():
        request = Request.objects.create(
            page=page,
            consent=Consent.record(page.publication, kind, words, shown_at, now, *facts),
            address=email.address,
            address_key=email.key,
            address_hash=keyed_hash(mailbox_key(email.address)),
            first_name=first_name,
            zone=zone,
            network_hash=asker.network_hash,
            created_at=now,
        )
        wake()
    return request


def wake() -> None:
    """Wake a worker once the row is committed. Without broker the next tick answers."""
    transaction.on_commit(_wake)


def _wake() -> None:
    try:
        current_app.send_task("optin.tasks.answer")
    except (OperationalError, OSError) as error:
        log.warning("The broker did not take a wake-up: %s", error)


def again(request: Request, now: datetime) -> bool:
    """Ask for the mail once more, two minutes after the request at the earliest; return whether it will be sent."""
    asked = Request.objects.filter(pk=request.pk, again_at=None, created_at__lte=now - AGAIN_AFTER)
    taken = asked.update(again_at=now, answered_at=None)
    if taken:
        wake()
    return bool(taken)


def matches(request: Request, code: str, now: datetime) -> bool:
    """Tell whether these six digits stand in a letter of the last 30 minutes, and count the try."""
    today = Request.objects.filter(address_hash=request.address_hash, created_at__gt=now - timedelta(days=1))
    if (today.aggregate(tries=Sum("tries"))["tries"] or 0) >= CODE_TRIES_A_DAY:
        return False
    if not Request.objects.filter(pk=request.pk, tries__lt=CODE_TRIES).update(tries=F("tries") + 1):
        return False
    # The very address, not only the mailbox: not every server ignores what follows a plus sign.
    mailed = Letter.objects.filter(
        publication=request.page.publication,
        address__iexact=request.address,
        address_key=mailbox_key(request.address),
        kind__in=ASKING,
        created_at__gt=now - CODE_LASTS,
    )
    asked = [context["request"] for context in mailed.values_list("context", flat=True)]
    return any(constant_time_compare(code, links.code(links.Purpose.CONFIRM, number)) for number in asked)


def standing(request: Request | None, now: datetime) -> Standing:
    """Tell what a confirmation link is still good for."""
    if request is None:
        return Standing.EXPIRED
    if request.cancelled_at:
        return Standing.CANCELLED
    if request.confirmed_at:
        fresh = request.confirmed_at > now - JUST_NOW and reader_of(request) is not None
        return Standing.CONFIRMED if fresh else Standing.USED
    if left_since(request):
        return Standing.USED
    return Standing.OPEN if lasts(request, now) else Standing.EXPIRED


def lasts(request: Request, now: datetime) -> bool:
    """Tell whether the links of a request still act: for seven days after its last mail was asked for."""
    return request.cancelled_at is None and now < (request.again_at or request.created_at) + LINK_LASTS


def reader_of(request: Request) -> Subscriber | None:
    """Return the reader of this request, where there is one who receives the emails."""
    readers = Subscriber.objects.filter(publication_id=request.page.publication_id, status__in=READING)
    return readers.filter(address_key=request.address_key).first()


def left_since(request: Request) -> bool:
    """Tell whether this address was told to receive nothing after the request: an old link must not undo that."""
    own = Q(publication_id=request.page.publication_id, address_hash=keyed_hash(request.address_key))
    everywhere = Q(publication=None, address_hash=request.address_hash)
    return Suppression.objects.filter(own | everywhere, since__gte=request.created_at).exists()


def confirm(pk: int, shown_at: str, asker: Asker, now: datetime) -> bool:
    """Make a reader of whoever asked; return whether this call did. Twice is once."""
    with transaction.atomic():
        requests = Request.objects.select_related("page__publication", "page__series", "consent")
        request = requests.select_for_update(of=("self",)).filter(pk=pk).first()
        if request is None or standing(request, now) != Standing.OPEN:
            return False
        publication, words = request.page.publication, request.consent.wording
        facts = (keyed_hash(request.address_key), asker.ip_hash, asker.agent)
        Consent.record(publication, Consent.Kind.CONFIRM, words, shown_at, now, *facts)
        request.confirmed_at = now
        request.save(update_fields=["confirmed_at"])
        welcome(request, now)
    return True


def welcome(request: Request, now: datetime) -> None:
    """Start the membership and write the welcome letter, unless the reader is in already."""
    publication = request.page.publication
    reader = Subscriber.objects.select_for_update().get(pk=pending(request).pk)
    if reader.status in READING:
        if own := request.page.series:
            reader.walk(own, now)
        return
    reader.zone, reader.first_name = request.zone, request.first_name or reader.first_name
    reader.language, reader.origin = publication.language, request.page.slug
    reader.save(update_fields=["zone", "first_name", "language", "origin"])
    reader.start(now, sequence(request.page))
    Suppression.objects.filter(
        publication=None, address_hash=request.address_hash, reason=Suppression.Reason.NOT_ME, lifted_at=None
    ).update(lifted_at=now)
    letters.write(
        publication,
        Letter.Kind.WELCOME,
        reader.address,
        f"request {request.pk}",
        language=publication.language,
        subscriber=reader,
        context={"request": request.pk},
        now=now,
    )
    tasks.wake()


def sequence(page: OptInPage) -> Series | None:
    """Return the sequence a page starts: its own, or the publication's welcome sequence."""
    return page.series or page.publication.series.filter(kind=Series.Kind.SEQUENCE, welcome=True).first()


def pending(request: Request) -> Subscriber:
    publication = request.page.publication
    return Subscriber.objects.get_or_create(
        publication=publication,
        address_key=request.address_key,
        defaults={
            "address": request.address,
            "address_hash": keyed_hash(request.address_key),
            "zone": request.zone,
            "language": publication.language,
            "first_name": request.first_name,
            "origin": request.page.slug,
        },
    )[0]
