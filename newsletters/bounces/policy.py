"""What follows from what came back: for the reader, for the day's ledger, and for the publication."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max

from newsletters import walks
from newsletters.bounces import breaker
from newsletters.bounces.origin import Origin
from newsletters.models import Bounce, Delivery, Letter, Subscriber
from newsletters.models.outgoing import State

Kind = Bounce.Kind

# A mailbox that was not reached on so many of its days in a row is taken for dead.
SOFT_DAYS = 7
WINDOW = timedelta(days=60)
TOLD = {Kind.COMPLAINT, Kind.LEFT, Kind.REPLIED}
ADDRESS = re.compile(r"[^\s<>()\[\],;:\"']{1,64}@")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that came back; `key` says of what, and each kind of event counts once for it."""

    kind: Bounce.Kind
    origin: Origin
    door: Bounce.Door
    key: str
    status: str = ""
    text: str = ""
    told: str = ""  # what a provider calls this event


@transaction.atomic
def record(event: Event, now: datetime) -> Bounce | None:
    """Write an event down and do what follows from it; None where it was told before."""
    origin = event.origin
    told = digest(event.told) if event.told else ""
    if told and Bounce.objects.filter(event=told).exists():
        return None
    bounce, new = Bounce.objects.get_or_create(
        key=digest(f"{event.kind} {event.key}"),
        defaults={
            "event": told,
            "kind": event.kind,
            "door": event.door,
            "publication": origin.publication,
            "subscriber": origin.subscriber,
            "letter": origin.row if isinstance(origin.row, Letter) else None,
            "date": origin.delivery.local_date if origin.delivery else None,
            "slot": origin.delivery.slot if origin.delivery else 0,
            "known": origin.known,
            "status": event.status[:12],
            "text": without_addresses(event.text)[:500],
            "at": now,
        },
    )
    if not new:
        return None
    if origin.known:
        follow(bounce, origin, now)
    return bounce


def digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()


def without_addresses(text: str) -> str:
    """A server's word is kept longer than its reader, who may ask to be forgotten."""
    return ADDRESS.sub("…@", " ".join(text.replace("\x00", "").split()))


def follow(bounce: Bounce, origin: Origin, now: datetime) -> None:
    settle(bounce, origin.row, now)
    if reader := origin.subscriber:
        if bounce.kind == Kind.HARD or (bounce.kind == Kind.SOFT and worn_out(reader, bounce)):
            reader.bounce(now)
        elif bounce.kind == Kind.COMPLAINT:
            reader.complain(now)
        elif bounce.kind == Kind.LEFT:
            reader.leave(now)
    breaker.look(bounce, now)


def settle(bounce: Bounce, row: Delivery | Letter, now: datetime) -> None:
    """Correct what was written about a mail. Whoever complains or answers has it; a refusal says it did not arrive."""
    if bounce.door == Bounce.Door.SERVER:
        return
    mine = type(row)._default_manager.filter(pk=row.pk)
    if bounce.kind in TOLD:
        mine.filter(state=State.UNCERTAIN).update(state=State.SENT, settled_at=now, leased_until=None)
        return
    ended = mine.filter(state__in=(State.HANDOFF, State.SENT, State.UNCERTAIN))
    facts = {"state": State.FAILED, "reason": reason(bounce), "reply": bounce.text[:250]}
    if ended.update(**facts, settled_at=now, leased_until=None) and isinstance(row, Delivery):
        walks.step_back(row)


def reason(bounce: Bounce) -> str:
    """Return why a mail failed: through the reader's address or server, or through our own fault."""
    return {Kind.HARD: "address", Kind.AUTH: "refused"}.get(Kind(bounce.kind), "server")


def worn_out(reader: Subscriber, bounce: Bounce) -> bool:
    """Tell whether a reader was not reached on enough days since the last mail that did arrive."""
    if bounce.date is None:
        return False
    soft = Bounce.objects.filter(subscriber=reader, kind=Kind.SOFT, known=True, date__gt=bounce.date - WINDOW)
    last = soft.aggregate(last=Max("date"))["last"] or bounce.date
    days = [last - timedelta(days=number) for number in range(1, WINDOW.days)]
    rows = Delivery.objects.filter(local_date__in=days, subscriber=reader, state=State.SENT)
    arrived = max(rows.values_list("local_date", flat=True), default=last - WINDOW)
    return soft.filter(date__gt=arrived).values("date").distinct().count() >= SOFT_DAYS
