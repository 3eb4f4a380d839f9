"""Alarms: what threatens or breaks the promise, told once a day and cause by another way than the mail itself.

An alarm is raised in the database and told afterwards, outside any transaction. A destination that fails is tried
again at the next tick, and only that one.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum

from newsletters import alarm_words, clock, destinations, runway, shortfall
from newsletters.figures import THEIRS
from newsletters.models import Alarm, Clock, Delivery, Halt, Publication, Rehearsal, Subscriber, Tally
from newsletters.models.outgoing import OPEN, State
from newsletters.models.subscriber import keyed_hash
from newsletters.promise import ROUND

START_WITHIN, ACCEPTED_WITHIN = timedelta(minutes=10), timedelta(hours=1)
ACCEPTED_SHARE = 0.95
STARTED = (State.HANDOFF, State.SENT, State.UNCERTAIN, State.FAILED)
# Promised days ahead at which the author hears that the queue runs out
LEVELS = (1, 3, 7)
# The runway of each publication is looked at once in so many rounds, that is once an hour.
ROUNDS = 6
# So long an alarm waits for a destination, and matters at all.
LASTS = timedelta(hours=26)
# A worker that dies while it tells leaves the alarm to another one after this.
TELLING = timedelta(minutes=5)

# (publication, date) -> how many readers each state holds
Counts = dict[tuple[int, date], dict[str, int]]


def tick(now: datetime) -> None:
    """Look for sendings that have not started; an idle tick asks three questions of small indexes."""
    waiting = Tally.objects.filter(
        state__in=OPEN, due_at__lte=now - START_WITHIN, due_at__gt=now - LASTS, until__gt=now
    )
    same = started(**{name: OuterRef(name) for name in ("publication", "date", "due_at")})
    late = counted(waiting.exclude(Exists(same))) if waiting.exists() else {}
    late |= unplanned(now)
    for (pk, day), states in late.items():
        if not raised(pk, "not_started", day):
            publication = Publication.objects.get(pk=pk)
            words = alarm_words.not_started(publication, sum(states.values()), last_reply(pk, day))
            raise_alarm(publication, "not_started", day, words, now)
    known = [alarm for alarm in standing(now).filter(cause="not_started") if key(alarm) not in late]
    clear([alarm for alarm in known if started(publication=alarm.publication_id, date=alarm.date).exists()], now)


def unplanned(now: datetime) -> Counts:
    """Return the readers whose hour has struck without anything being planned: each claim of their clock failed.

    Such a clock stands still: its readers wait anew on each promised day.
    """
    counts: Counts = defaultdict(lambda: defaultdict(int))
    by = now - START_WITHIN
    for row in Clock.objects.filter(next_at__lte=by).select_related("publication"):
        # Counted from its instant: whatever is wrong with its zone is no matter here.
        day = row.next_date + (by - row.next_at) // clock.ONE_DAY * clock.ONE_DAY
        if str(day.isoweekday()) not in row.publication.promise_on(day).weekdays and day != row.next_date:
            continue
        readers = Subscriber.objects.mailable().filter(publication=row.publication_id, zone=row.zone).count()
        if readers:
            counts[row.publication_id, day][State.PLANNED] += readers
    return counts


def started(**where: Any) -> QuerySet[Tally]:
    return Tally.objects.filter(**where, state__in=STARTED)


def key(alarm: Alarm) -> tuple[int, date]:
    return alarm.publication_id or 0, alarm.date


def go_round(now: datetime) -> None:
    """Look at what was accepted an hour after it fell due, at the rehearsals, and at some publications' runways."""
    look_back(now)
    look_at_limits(now)
    look_at_rehearsals(now)
    number = int(now.timestamp() // ROUND.total_seconds())
    low = standing(now).filter(cause__startswith="runway").values("publication")
    in_turn = Publication.objects.annotate(turn=F("pk") % ROUNDS)
    for publication in in_turn.filter(Q(turn=number % ROUNDS) | Q(pk__in=low)):
        look_ahead(publication, now)


def counted(rows: QuerySet[Tally]) -> Counts:
    """Add up the daily emails by publication and date; what the reader's own server refused is left out."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    rows = rows.exclude(way=Delivery.Way.ANNOUNCEMENT).exclude(state=State.SKIPPED)
    # What the author stopped is no news to the author.
    rows = rows.exclude(state=State.MISSED, reason="stopped")
    if halted := list(Halt.objects.standing().values_list("issue", flat=True)):
        rows = rows.exclude(issue__in=halted, state__in=OPEN)
    rows = rows.exclude(state__in=[State.FAILED, State.MISSED], reason__in=THEIRS)
    for pk, day, state, number in rows.values_list("publication", "date", "state").annotate(number=Sum("count")):
        counts[pk, day][state] += number
    return counts


def due(since: datetime, until: datetime) -> Counts:
    """Return the counts of what fell due between two instants."""
    return counted(
        Tally.objects.filter(date__gte=since.date() - timedelta(days=1), due_at__gt=since, due_at__lte=until)
    )


def falls_short(states: dict[str, int]) -> bool:
    return states.get(State.SENT, 0) < ACCEPTED_SHARE * sum(states.values())


def look_back(now: datetime) -> None:
    """Raise an alarm where less than 95% was accepted within an hour."""
    counts = due(now - LASTS, now - ACCEPTED_WITHIN)
    for (pk, day), states in counts.items():
        if falls_short(states) and not raised(pk, "below_95", day):
            publication = Publication.objects.get(pk=pk)
            words = alarm_words.below_95(publication, states, last_reply(pk, day))
            raise_alarm(publication, "below_95", day, words, now)
    mended = {of_a_date for of_a_date, states in counts.items() if not falls_short(states)}
    clear([alarm for alarm in standing(now).filter(cause="below_95") if key(alarm) in mended], now)


def look_at_limits(now: datetime) -> None:
    """Raise an alarm where the limits cannot carry today's emails in time, as soon as that can be foreseen."""
    short = shortfall.foreseen(now)
    for publication in Publication.objects.filter(pk__in=short):
        day = clock.local_date(now, publication.zone)
        if not raised(publication.pk, "limit", day):
            raise_alarm(publication, "limit", day, alarm_words.limit(publication, *short[publication.pk]), now)
    mended = standing(now).filter(cause="limit").exclude(publication__in=short)
    clear(list(mended), now)


def look_at_rehearsals(now: datetime) -> None:
    """Raise an alarm where the last rehearsal of a date to come failed."""
    since = now.date() - timedelta(days=1)
    last = {(row.publication_id, row.date): row for row in Rehearsal.objects.filter(date__gte=since).order_by("at")}
    for (pk, day), rehearsal in last.items():
        if rehearsal.problems and not raised(pk, "rehearsal", day):
            publication = Publication.objects.get(pk=pk)
            raise_alarm(publication, "rehearsal", day, alarm_words.rehearsal(publication, rehearsal), now)
    mended = {of_a_date for of_a_date, rehearsal in last.items() if not rehearsal.problems}
    clear([alarm for alarm in standing(now).filter(cause="rehearsal") if key(alarm) in mended], now)


def look_ahead(publication: Publication, now: datetime) -> None:
    """Raise an alarm where the first readers run dry in 7, 3 or 1 days; the last one comes again each day."""
    today = clock.local_date(now, publication.zone)
    covered = runway.ahead(publication, today)
    counted = runway.steps(publication)
    runway.note(publication, counted)
    dry = runway.run_dry(runway.dates(publication, today, covered.reserve), counted)
    level = next((level for level in LEVELS if dry and dry[0].days <= level), None)
    low = standing(now).filter(publication=publication, cause__startswith="runway")
    if level:
        cause = f"runway_{level}"
        if level == min(LEVELS) or not low.filter(cause=cause).exists():
            raise_alarm(publication, cause, today, alarm_words.low(publication, covered, dry), now)
    over = [alarm for alarm in low if level is None or int(alarm.cause.removeprefix("runway_")) < level]
    # Several levels may be over at once; the author hears it once.
    clear(sorted(over, key=lambda alarm: (alarm.cause, -alarm.pk)), now, tell=1)


def standing(now: datetime) -> QuerySet[Alarm]:
    """Return the alarms that are not over. A sending's own end with its day; a low runway lasts until it is covered."""
    recent = Q(date__gte=now.date() - timedelta(days=2)) | Q(cause__startswith="runway")
    return Alarm.objects.filter(recent, cleared_at=None)


def raised(publication: int, cause: str, day: date) -> bool:
    return Alarm.objects.filter(publication=publication, cause=cause, date=day).exists()


def raise_alarm(publication: Publication, cause: str, day: date, text: str, now: datetime) -> Alarm:
    """Write an alarm down, once a cause and day; the next tick tells it."""
    defaults = {"text": text, "raised_at": now, "try_at": now}
    return Alarm.objects.get_or_create(publication=publication, cause=cause, date=day, defaults=defaults)[0]


def clear(over: Iterable[Alarm], now: datetime, tell: int | None = None) -> None:
    """End alarms; whoever heard of them hears of their end, at most of `tell` of them."""
    for number, alarm in enumerate(over):
        alarm.refresh_from_db(fields=["told_to"])
        heard = bool(alarm.told_to) and (tell is None or number < tell)
        again = {"told_to": [], "try_at": now} if heard else {"try_at": None}
        Alarm.objects.filter(pk=alarm.pk, cleared_at=None).update(cleared_at=now, **again)


def last_reply(publication: int, day: date) -> str:
    """Return the latest word of the mail server on a date's emails, or nothing."""
    rows = Delivery.objects.filter(local_date=day, publication=publication).exclude(reply="")
    return rows.exclude(state=State.SENT).order_by("-attempts").values_list("reply", flat=True).first() or ""


def to_tell(now: datetime) -> QuerySet[Alarm]:
    recent = Q(raised_at__gt=now - LASTS) | Q(cleared_at__gt=now - LASTS)
    return Alarm.objects.filter(recent, try_at__lte=now)


def tell(now: datetime) -> None:
    """Tell what waits to be told. Each alarm is claimed first, so that two workers do not tell it twice."""
    for alarm in to_tell(now).select_related("publication"):
        if Alarm.objects.filter(pk=alarm.pk, try_at=alarm.try_at).update(try_at=now + TELLING):
            tell_one(alarm, now)


def tell_one(alarm: Alarm, now: datetime) -> None:
    """Tell the destinations that have not heard yet; without any, the desk alone shows the alarm."""
    title, text = alarm_words.message(alarm)
    addresses = {keyed_hash(url)[:16]: url for url in where(alarm)}
    missing = [mark for mark in addresses if mark not in alarm.told_to]
    told = [mark for mark in missing if destinations.send(addresses[mark], title, text)]
    done = len(told) == len(missing)
    # Where it was over meanwhile, what is to be told has changed.
    Alarm.objects.filter(pk=alarm.pk, cleared_at=alarm.cleared_at).update(
        told_to=[*alarm.told_to, *told],
        told_at=alarm.told_at or (now if done and addresses else None),
        try_at=None if done else now,
    )


def where(alarm: Alarm) -> list[str]:
    """Return the author's destinations and the operator's."""
    own = alarm.publication.alert_urls.split() if alarm.publication else []
    return list(dict.fromkeys([*own, *settings.ALERT_URLS]))
