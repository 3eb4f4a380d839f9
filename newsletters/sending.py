"""The way of a message from its row to the server and back: lease, stage, hand off, settle.

Before the hand-off everything may be repeated at will. After it nothing is: what a server may have accepted is never
sent again by itself, and a row whose end nobody knows becomes `uncertain`.
"""

import logging
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import transaction
from django.utils import timezone

from newsletters import bounces, headers, letters, postage, rendering
from newsletters.models import Delivery, Issue, Letter, Relay, Walk
from newsletters.models.delivery import HAD, OutgoingQuerySet, State
from newsletters.transports import Message, Outcome, Transport, Unreachable, connect

log = logging.getLogger(__name__)

BATCH = 200
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(minutes=30)

Clock = Callable[[], datetime]

_loop = threading.Lock()


def drain(
    clock: Clock = timezone.now,
    seconds: float = 60.0,
    stopping: Callable[[], bool] = lambda: False,
    report: Callable[[Counter[str]], None] = lambda done: None,
    way_out: Callable[[str], Transport] = connect,
) -> Counter[str]:
    """Send what is due, letters first, until nothing is or the time is up; return how many rows ended how.

    One loop runs in a process: a second call returns at once.
    """
    done: Counter[str] = Counter()
    if not _loop.acquire(blocking=False):
        return done
    deadline = time.monotonic() + seconds
    try:
        with ExitStack() as stack:
            ways: dict[int, Transport] = {}
            while time.monotonic() < deadline and not stopping() and (rows := lease(clock())):
                for relay, share in by_relay(rows):
                    if relay.pk not in ways:
                        ways[relay.pk] = stack.enter_context(closing(way_out(relay.url)))
                    done += send(share, ways[relay.pk], clock, stopping)
                report(done)
    finally:
        _loop.release()
    return done


def waiting(now: datetime) -> bool:
    """Tell whether anything is due."""
    return any(lane().due(now).exists() for lane in (_letters, _deliveries))


def sweep(now: datetime) -> None:
    """Take back what dead workers held, and close what came too late."""
    advance(list(_deliveries().abandoned()))
    for lane in (_letters, _deliveries):
        for end, count in lane().sweep(now).items():
            if count:
                log.warning("%s: %d %s", lane().model._meta.verbose_name_plural, count, end)


def _letters() -> OutgoingQuerySet:
    return Letter.objects.select_related("publication", "subscriber")


def _deliveries() -> OutgoingQuerySet:
    return Delivery.objects.select_related("publication", "subscriber", "issue__publication", "entry")


def lease(now: datetime) -> list[Any]:
    """Claim a batch of one lane: no letter ever waits behind a daily send."""
    return _letters().lease(BATCH, now) or _deliveries().lease(BATCH, now)


def by_relay(rows: list[Any]) -> Iterable[tuple[Relay, list[Any]]]:
    """Share rows out to the way each publication's mail takes."""
    for publication, share in groupby(sorted(rows, key=_publication), key=_publication):
        yield Relay.of(publication), list(share)


def _publication(row: Any) -> int:
    return int(row.publication_id)


def send(rows: list[Any], transport: Transport, clock: Clock, stopping: Callable[[], bool]) -> Counter[str]:
    """Take leased rows of one publication through their transport, a group at a time."""
    done: Counter[str] = Counter()
    group: list[Any] = []
    table, keys, owner = rows[0]._meta.model.objects, [row.pk for row in rows], rows[0].owner
    try:
        for row, message in compose(rows, clock):
            if outcome := transport.stage(message):
                done += settle([row], {row.pk: outcome}, clock())
                continue
            group.append(row)
            if len(group) >= transport.group:
                done += hand_off(group, transport, clock)
                group = []
                if stopping():
                    table.release(keys, owner)
                    return done
        done += hand_off(group, transport, clock)
    except Unreachable as error:
        log.warning("The mail server cannot be reached: %s", error)
        done[State.RETRY] += table.put_off(keys, owner, clock() + delay(rows[0].attempts), str(error)[:250])
    return done


def compose(rows: list[Any], clock: Clock) -> Iterable[tuple[Any, Message]]:
    """Make each row's message. The work per issue is done once; a reader's share is splicing bytes.

    Whatever is wrong with one issue or one row keeps no other waiting behind it.
    """
    for share in shares(rows):
        try:
            make = maker(share, clock())
        except Exception as error:  # noqa: BLE001
            put_aside(share, clock(), error)
            continue
        if make is None:
            continue
        for row in share:
            try:
                message = _message(row, make(row))
            except Exception as error:  # noqa: BLE001
                put_aside([row], clock(), error)
            else:
                yield row, message


def shares(rows: list[Any]) -> list[list[Any]]:
    """Group rows that are made from the same text: each letter by itself, deliveries by their issue."""
    same: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        same[row.pk if isinstance(row, Letter) else row.issue_id].append(row)
    return list(same.values())


def maker(share: list[Any], now: datetime) -> Callable[[Any], bytes] | None:
    """Return what makes a row's bytes, or None where the issue has been taken out of the queue since."""
    if isinstance(share[0], Letter):
        return lambda letter: letters.message_bytes(letter, now)
    issue = share[0].issue
    if issue.state != Issue.State.QUEUED:
        settle(share, {row.pk: Outcome(State.MISSED, "withdrawn") for row in share}, now)
        return None
    revision = rendering.revision_of(issue)
    Delivery.objects.filter(pk__in=[row.pk for row in share], owner=share[0].owner).update(revision=revision)
    blueprint = rendering.blueprint(revision)
    return lambda row: blueprint.fill(postage.values(row, now))


def put_aside(rows: list[Any], now: datetime, error: Exception) -> None:
    """Try rows that could not be made again later: what is wrong with them may be mended before the day is over."""
    log.error("%s could not be made", rows[0], exc_info=error)
    table, keys = rows[0]._meta.model.objects, [row.pk for row in rows]
    table.put_off(keys, rows[0].owner, now + delay(rows[0].attempts), repr(error)[:250])


def _message(row: Any, data: bytes) -> Message:
    # Outside, an international domain has only its ASCII form (RFC 5890).
    address = row.address if isinstance(row, Letter) else row.subscriber.address
    sender, recipient = headers.addr_spec(row.publication.sender), headers.addr_spec(address)
    return Message(row.pk, postage.message_id(row), sender, recipient, data)


def hand_off(group: list[Any], transport: Transport, clock: Clock) -> Counter[str]:
    """Commit the hand-off of a group, let its last bytes go, and settle what the server said."""
    if not group:
        return Counter()
    rows = group[0]._meta.model.objects
    passed = rows.hand_off([row.pk for row in group], group[0].owner, clock())
    outcomes = transport.hand_off(passed)
    return settle(group, outcomes, clock())


def settle(rows: list[Any], outcomes: dict[Any, Outcome], now: datetime) -> Counter[str]:
    """Write down how these rows ended; a row without outcome dropped out and is left as it is."""
    ends: dict[Outcome, list[Any]] = defaultdict(list)
    for row in rows:
        if row.pk in outcomes:
            ends[outcomes[row.pk]].append(row)
    done: Counter[str] = Counter()
    for outcome, share in ends.items():
        with transaction.atomic():
            done[outcome.state] += _settle(share, outcome, now)
            bounces.refused(share, outcome, now)
    return done


def _settle(rows: list[Any], outcome: Outcome, now: datetime) -> int:
    table, keys, owner = rows[0]._meta.model.objects, [row.pk for row in rows], rows[0].owner
    reply = outcome.reply[:250]
    if outcome.state == State.PLANNED:
        return int(table.release(keys, owner))
    if outcome.state == State.RETRY:
        try_at = now + delay(rows[0].attempts)
        # A server puts off at the dot, or before it.
        return sum(int(table.put_off(keys, owner, try_at, reply, state)) for state in (State.LEASED, State.HANDOFF))
    if outcome.state in HAD and isinstance(rows[0], Delivery):
        advance(rows)
    return int(table.settle(keys, owner, now, outcome.state, reason=outcome.reason, reply=reply))


def delay(attempts: int) -> timedelta:
    """Return how long to wait before the next try: twice as long each time, at most half an hour, a fifth jittered."""
    steady: timedelta = min(FIRST_RETRY * 2.0 ** min(attempts, 10), LONGEST_RETRY)
    return steady * random.uniform(0.9, 1.1)


def advance(rows: list[Any]) -> None:
    """Move the walks of these readers up to the entry they have just had."""
    reached: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in rows:
        if row.entry_id and row.entry:
            reached[row.entry.series_id, row.entry.rank].append(row.subscriber_id)
    for (series, rank), readers in reached.items():
        walks = Walk.objects.filter(series_id=series, subscriber_id__in=readers, ended_at=None)
        walks.filter(reached__lt=rank).update(reached=rank)
