"""What does not move: emails of which nobody knows the end, and emails that should have left. What settles them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from newsletters import bounces, postage, walks
from newsletters.allowances import route_of
from newsletters.bounces import policy, verdict
from newsletters.bounces.origin import Origin, reader_of
from newsletters.bounces.report import STATUS, Failure, in_text
from newsletters.models import Bounce, Delivery, Letter, Publication, Stop
from newsletters.models.outgoing import WAITING, OutgoingQuerySet, State
from newsletters.postfix import Answer, Record
from newsletters.transports import parse

# A provider's webhook or a slow reply may still say what became of it.
PATIENCE = timedelta(minutes=15)
OVERDUE = timedelta(minutes=10)
CHUNK = 1000

Row = Delivery | Letter


def tables(publication: Publication | None = None) -> list[OutgoingQuerySet]:
    rows: list[OutgoingQuerySet] = [Letter.objects.all(), Delivery.objects.all()]
    rows = [table.select_related("publication") for table in rows]
    return [table.filter(publication=publication) for table in rows] if publication else rows


def uncertain(publication: Publication | None = None) -> Iterator[Row]:
    """Yield the rows that a server may or may not have taken, the oldest first."""
    for table in tables(publication):
        yield from table.filter(state=State.UNCERTAIN).order_by("handoff_at").iterator(CHUNK)


def overdue(now: datetime, publication: Publication | None = None) -> Iterator[Row]:
    """Yield the rows that should have left some time ago and have not."""
    for table in tables(publication):
        late = table.filter(state__in=WAITING, due_at__lte=now - OVERDUE, late_until__gt=now)
        yield from late.order_by("try_at").iterator(CHUNK)


def stops(publication: Publication | None = None) -> Iterable[Stop]:
    standing = Stop.objects.standing().select_related("publication")
    return standing.filter(publication=publication) if publication else standing


def settle(record: Record, now: datetime, publication: Publication | None = None, whole: bool = True) -> Counter[str]:
    """Ask a record about every uncertain row."""
    return settle_rows(record, uncertain(publication), now, whole)


def settle_rows(record: Record, rows: Iterable[Row], now: datetime, whole: bool = True) -> Counter[str]:
    """Ask a record about uncertain rows and write down what it knows; return how many ended how.

    One that is not `whole` is a single relay's: what it lacks, another relay may have taken.
    """
    done: Counter[str] = Counter()
    # The sender's domain may be another today than in the Message-ID.
    known = {postage.token(row): row for row in rows}
    answers = record.ask({name: row.handoff_at or row.due_at for name, row in known.items()})
    only = cache(one_relay)
    for name, answer in answers.items():
        if whole or answer.state != "absent" or only(known[name].publication_id):
            done[apply(known[name], answer, now)] += 1
    return done


def one_relay(publication: int) -> bool:
    """Tell whether a publication's mail goes through a single mail server, and no provider."""
    relays = route_of(publication)
    return len(relays) == 1 and parse(relays[0].url).scheme != "esp"


def apply(row: Row, answer: Answer, now: datetime) -> str:
    """Write down what is known of one row; return its new state."""
    if answer.state == "failed":
        refuse(row, answer.text, now)
        return str(State.FAILED)
    return str(sent([row], now) if answer.state == "sent" else again([row], now))


def mine(row: Row) -> Any:
    return type(row)._default_manager.filter(pk=row.pk, state=State.UNCERTAIN)


def sent(rows: Iterable[Row], now: datetime) -> State:
    for row in rows:
        mine(row).update(state=State.SENT, settled_at=now, leased_until=None)
    return State.SENT


def again(rows: Iterable[Row], now: datetime) -> State:
    """Send rows once more, but never after their day is over: then they were lost, and the ledger says so.

    Either way a reader has not had them, and is owed the step of a sequence until it arrives.
    """
    end = State.FAILED
    for row in rows:
        fresh = mine(row).filter(late_until__gt=now)
        # A clock that was ahead may have sent it before its hour.
        at = max(now, row.due_at)
        if fresh.update(state=State.PLANNED, try_at=at, owner=None, leased_until=None, settled_at=None):
            end = State.PLANNED
        elif not mine(row).update(state=State.FAILED, reason="lost", settled_at=now, leased_until=None):
            continue
        if isinstance(row, Delivery):
            walks.step_back(row)
    return end


def refuse(row: Row, text: str, now: datetime) -> None:
    """Treat what the relay's log says of a refusal as the bounce it is."""
    failure = Failure("", status=in_text(STATUS, text), said=text)
    name = bounces.row_key(row)
    event = policy.Event(verdict.of(failure), Origin(row, reader_of(row)), Bounce.Door.LOG, name, failure.status, text)
    policy.record(event, now)
