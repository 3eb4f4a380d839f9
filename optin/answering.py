"""Which letter answers a request: please confirm, once more, already in, or none."""

import logging
from datetime import datetime

from django.db import DatabaseError, transaction

from newsletters import letters, tasks
from newsletters.addresses import mailbox_key
from newsletters.models import Letter, Subscriber, Suppression
from optin.confirmation import ASKING, MEMORY, READING, pending
from optin.models import Request

log = logging.getLogger(__name__)

BATCH = 1000
LETTERS_A_MONTH = 3


def answer(now: datetime) -> int:
    """Write the letters that are owed to new requests; return how many requests were answered.

    A request that cannot be answered waits for the next round, and holds up no other.
    """
    waiting = Request.objects.filter(answered_at=None).order_by("created_at").values_list("pk", flat=True)
    answered = 0
    for pk in list(waiting[:BATCH]):
        try:
            answered += answer_one(pk, now)
        except (DatabaseError, ValueError):
            log.exception("Request %s could not be answered.", pk)
    return answered


def answer_one(pk: int, now: datetime) -> bool:
    """Claim, decide and answer in one transaction: what a dying worker claimed is free again."""
    with transaction.atomic():
        waiting = Request.objects.select_related("page__publication").filter(pk=pk, answered_at=None)
        request = waiting.select_for_update(skip_locked=True, of=("self",)).first()
        if request is None:
            return False
        if request.cancelled_at is None and request.confirmed_at is None:
            decide(request, now)
        request.answered_at = now
        request.save(update_fields=["answered_at"])
        tasks.wake()
    return True


def decide(request: Request, now: datetime) -> None:
    reader = Subscriber.objects.filter(publication=request.page.publication, address_key=request.address_key).first()
    if reader and reader.status in READING:
        write(request, Letter.Kind.ALREADY, reader, now)
    elif not refused(request, now) and asked_of_late(request, now) < LETTERS_A_MONTH:
        reader = reader or pending(request)
        # One letter of a kind a day and mailbox: the database's unique key sees to it.
        if write(request, Letter.Kind.CONFIRM, reader, now) is None and request.again_at:
            write(request, Letter.Kind.REMIND, reader, now)


def write(request: Request, kind: Letter.Kind, reader: Subscriber, now: datetime) -> Letter | None:
    publication = request.page.publication
    return letters.write(
        publication,
        kind,
        request.address,
        # However many publications an address is entered in, its mailbox is asked once a day.
        f"{now:%Y-%m-%d}" if kind == Letter.Kind.CONFIRM else f"{now:%Y-%m-%d} {publication.pk}",
        language=publication.language,
        subscriber=reader,
        context={"request": request.pk},
        now=now,
    )


def refused(request: Request, now: datetime) -> bool:
    """Tell whether this mailbox's owner said “not me”, anywhere on this instance, in the last 30 days."""
    return Suppression.objects.filter(
        publication=None,
        address_hash=request.address_hash,
        reason=Suppression.Reason.NOT_ME,
        lifted_at=None,
        since__gt=now - MEMORY,
    ).exists()


def asked_of_late(request: Request, now: datetime) -> int:
    """Count the letters that asked this mailbox for this publication in the last 30 days."""
    return Letter.objects.filter(
        publication=request.page.publication,
        address_key=mailbox_key(request.address),
        kind__in=ASKING,
        created_at__gt=now - MEMORY,
    ).count()
