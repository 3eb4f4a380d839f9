"""What is erased: requests that were not theirs, and what nobody confirmed."""

from datetime import datetime

from django.db import transaction
from django.db.models import CharField, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat

from newsletters.addresses import mailbox_key
from newsletters.models import Letter, Subscriber, Suppression
from newsletters.models.outgoing import OPEN, State
from optin.confirmation import ASKING, MEMORY, reader_of
from optin.models import Consent, Request

BATCH = 1000


def correct(request: Request, now: datetime) -> None:
    """Close a request whose address was mistyped: the letter that went there opens nothing any more."""
    Request.objects.filter(pk=request.pk, confirmed_at=None, cancelled_at=None).update(cancelled_at=now)


def not_me(request: Request, now: datetime) -> None:
    """End and forget what was asked in this mailbox's name, and ask it nothing, anywhere here, for 30 days."""
    with transaction.atomic():
        Suppression.objects.update_or_create(
            publication=None,
            address_hash=request.address_hash,
            reason=Suppression.Reason.NOT_ME,
            defaults={"since": now, "lifted_at": None},
        )
        if request.confirmed_at and (reader := reader_of(request)):
            reader.leave(now)
        mailbox = mailbox_key(request.address)
        unconfirmed = Request.objects.filter(address_hash=request.address_hash, confirmed_at=None, cancelled_at=None)
        for each in unconfirmed.select_for_update(of=("self",)).select_related("page").order_by("pk"):
            forget_facts(each)
            Request.objects.filter(pk=each.pk).update(
                address="", address_key="", address_hash="", first_name="", network_hash="", cancelled_at=now
            )
        asking = Letter.objects.filter(address_key=mailbox, kind__in=ASKING)
        asking.filter(state__in=OPEN).update(state=State.SKIPPED, reason="not_me", settled_at=now, leased_until=None)
        forget_letters(asking)


def forget(now: datetime) -> int:
    """Erase what nobody confirmed in 30 days; return how many requests that were."""
    old = Request.objects.filter(confirmed_at=None, created_at__lt=now - MEMORY)
    requests = list(old.select_related("page").order_by("created_at")[:BATCH])
    for request in requests:
        with transaction.atomic():
            forget_facts(request)
            asking = Letter.objects.filter(address_key=mailbox_key(request.address), kind__in=ASKING, subscriber=None)
            forget_letters(asking.filter(created_at__lt=now - MEMORY))
            Request.objects.filter(pk=request.pk, confirmed_at=None).delete()
    return len(requests)


def forget_facts(request: Request) -> None:
    """Erase the personal facts of a request's consent, and the subscriber who never came to be."""
    Consent.objects.filter(pk=request.consent_id).update(reader="", ip_hash="", agent="", salt="")
    mine = Q(page__publication_id=request.page.publication_id, address_key=request.address_key)
    if not Request.objects.filter(mine, cancelled_at=None).exclude(pk=request.pk).exists():
        Subscriber.objects.filter(
            publication_id=request.page.publication_id,
            address_key=request.address_key,
            status=Subscriber.Status.PENDING,
        ).delete()


def forget_letters(asking: QuerySet[Letter]) -> None:
    """Erase the addresses of letters; their number keeps the key unique."""
    asking.update(address="", address_key=Concat(Value("forgotten "), Cast("pk", CharField())))
