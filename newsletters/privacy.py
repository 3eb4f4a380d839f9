"""One reader's data: all of it as a download, none of it after an erasure."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.models import Q

from newsletters.addresses import Address, mailbox_key
from newsletters.models import Delivery, Letter, Subscriber, Suppression
from newsletters.models.subscriber import keyed_hash

CHUNK = 400


def export(reader: Subscriber, now: datetime) -> dict[str, Any]:
    """Return everything kept about a reader, ready for JSON (GDPR articles 15 and 20)."""
    suppressions = Suppression.objects.filter(address_hash__in=hashes(reader))
    return {
        "publication": reader.publication.name,
        "exported_at": now,
        "subscriber": facts(reader),
        "walks": [facts(walk) | {"series": walk.series.name} for walk in reader.walks.select_related("series")],
        "deliveries": list(deliveries(reader, now)),
        "letters": [facts(letter) for letter in letters(reader)],
        "bounces": [facts(bounce) for bounce in reader.bounces.all()],
        "suppressions": [
            facts(row) for row in suppressions.filter(Q(publication=reader.publication) | Q(publication=None))
        ],
        "consents": [facts(consent) for consent in consents(reader)],
        "requests": [facts(request) for request in requests(reader)],
    }


@transaction.atomic
def erase(reader: Subscriber, now: datetime) -> None:
    """Forget a reader (GDPR article 17). What stays: a keyed hash, so that no import mails them again; delivery rows
    under a bare number; and the commitments of the consent ledger, which say nothing without their salt.
    """
    if not Subscriber.objects.select_for_update().filter(pk=reader.pk).exists():
        return
    Delivery.objects.skip(reader, "erased", now)
    Suppression.objects.filter(
        publication=reader.publication, address_hash=reader.address_hash, reason=Suppression.Reason.LEFT
    ).delete()
    Suppression.objects.add(reader, Suppression.Reason.ERASED, now)
    letters(reader).delete()
    requests(reader).delete()
    consents(reader).update(reader="", ip_hash="", agent="", salt="")
    # The admin's own history names every row it touched: here, by the address.
    LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Subscriber), object_id=str(reader.pk)
    ).delete()
    reader.delete()


def change_address(reader: Subscriber, new: Address, now: datetime) -> bool:
    """Write to another address from now on; return False where another reader of the publication has it.

    The requests made with the former address go; the consents stay, under the hash they were given under.
    """
    with transaction.atomic():
        reader = Subscriber.objects.select_for_update().get(pk=reader.pk)
        others = Subscriber.objects.filter(publication=reader.publication, address_key=new.key).exclude(pk=reader.pk)
        if others.exists():
            return False
        requests(reader).delete()
        former = [reader.address_hash, *reader.fields.get("former_hashes", [])]
        kept = {name: value for name, value in reader.fields.items() if not name.startswith("new_address")}
        reader.fields = kept | {"former_hashes": [old for old in dict.fromkeys(former) if old != new.hash]}
        reader.address, reader.address_key, reader.address_hash = new.address, new.key, new.hash
        reader.save(update_fields=["address", "address_key", "address_hash", "fields"])
        Suppression.objects.lift(reader, now)
    return True


def hashes(reader: Subscriber) -> list[str]:
    """Return the keyed hashes this reader is or was known by: consents keep the one they were given under."""
    return [reader.address_hash, *reader.fields.get("former_hashes", [])]


def letters(reader: Subscriber) -> "models.QuerySet[Letter]":
    by_mailbox = Q(address_key=mailbox_key(reader.address), address__iexact=reader.address)
    return Letter.objects.filter(Q(subscriber=reader) | by_mailbox, publication=reader.publication)


def consents(reader: Subscriber) -> "models.QuerySet[Any]":
    # What lies in the app of the way in is found by its name: this app must work, and import, without it.
    ledger = apps.get_model("optin", "Consent")._default_manager
    return ledger.filter(publication=reader.publication, reader__in=hashes(reader))


def requests(reader: Subscriber) -> "models.QuerySet[Any]":
    asked = apps.get_model("optin", "Request")._default_manager
    mailbox = keyed_hash(mailbox_key(reader.address))
    return asked.filter(page__publication=reader.publication, address_hash=mailbox, address_key=reader.address_key)


def deliveries(reader: Subscriber, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield one line a delivery. By dates, because the table's key begins with the date."""
    for days in chunks(reader.created_at.date() - timedelta(days=2), now.date() + timedelta(days=2)):
        rows = Delivery.objects.filter(local_date__in=days, subscriber=reader).select_related("issue")
        for row in rows.order_by("local_date", "slot"):
            yield {
                "date": row.local_date,
                "subject": row.issue.subject if row.issue else None,
                "way": row.way,
                "state": row.state,
                "reason": row.reason,
                "handed_over": row.handoff_at,
                "settled": row.settled_at,
            }


def chunks(first: date, last: date) -> Iterator[list[date]]:
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    for start in range(0, len(days), CHUNK):
        yield days[start : start + CHUNK]


def facts(row: models.Model) -> dict[str, Any]:
    """Return a row's own columns by name, also those no form shows."""
    return {field.name: field.value_from_object(row) for field in own_columns(row)}


def own_columns(row: models.Model) -> Iterable["models.Field[Any, Any]"]:
    return [field for field in row._meta.concrete_fields if field.name not in {"owner", "leased_until"}]
