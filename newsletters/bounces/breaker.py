"""What stops a publication before its good name is lost: complaints, dead addresses, a sender that is not proven."""

import re
from dataclasses import dataclass
from datetime import date, datetime

from django.db import transaction
from django.db.models import Sum

from newsletters import alarms
from newsletters.bounces import words
from newsletters.models import Bounce, Delivery, Publication, Stop, Tally
from newsletters.models.outgoing import State

Kind, Cause = Bounce.Kind, Stop.Cause
OURS = (Kind.CONTENT, Kind.REPUTATION, Kind.BLOCKED, Kind.SIZE, Kind.AUTH)


@dataclass(frozen=True, slots=True)
class Rule:
    """Stop at `least` events that are more than `share` of a day's emails; warn earlier."""

    cause: Stop.Cause
    kinds: tuple[Bounce.Kind, ...]
    least: int
    share: float
    warn_at: int
    warn_share: float
    at_sending: bool = False


# Gmail and Yahoo act at 0.3% of complaints and ask for less than 0.1%.
RULES = (
    Rule(Cause.COMPLAINTS, (Kind.COMPLAINT,), 5, 0.003, 1, 0.001),
    Rule(Cause.BOUNCES, (Kind.HARD,), 20, 0.05, 5, 0.02),
    Rule(Cause.REFUSALS, OURS, 20, 0.05, 5, 0.02, at_sending=True),
)
# Who has rules for the proof of a sender, and says so in a code of its own
OUTLOOK = re.compile(r"5\.7\.515")
PROVIDERS = re.compile(r"google|gsmtp|gmail|outlook|microsoft|hotmail")
THEIR_DOMAINS = re.compile(r"@(?:gmail|googlemail|outlook|hotmail|live|msn)\.[a-z.]{2,6}$")
# One reader who forwards mails breaks their proof; so many do not.
FORWARDED = 3


def look(bounce: Bounce, now: datetime) -> None:
    """See whether a publication may go on, after what has just come back."""
    if bounce.publication is None or bounce.date is None:
        return
    if bounce.kind == Kind.AUTH:
        unproven(bounce.publication, bounce, now)
    if Stop.objects.standing().filter(publication=bounce.publication).exists():
        return
    for rule in RULES:
        if bounce.kind in rule.kinds and (bounce.door == Bounce.Door.SERVER or not rule.at_sending):
            apply(rule, bounce.publication, bounce.date, now)


def apply(rule: Rule, publication: Publication, day: date, now: datetime) -> None:
    number, emails = counted(rule, publication, day), expected(publication, day)
    if number > emails * rule.warn_share:
        # The last count may be older than the day's first emails.
        emails = max(emails, at_least(int(number / rule.warn_share) + 1, publication, day))
    share = number / max(emails, number, 1)
    if number >= rule.least and share > rule.share:
        stop(publication, rule.cause, day, words.stopped(publication, rule.cause, number, emails), now)
    elif number >= rule.warn_at and share > rule.warn_share:
        text = words.warned(publication, rule.cause, number, emails)
        alarms.raise_alarm(publication, f"many_{rule.cause}", day, text, now)


def counted(rule: Rule, publication: Publication, day: date) -> int:
    """Count a date's events, each reader's once, since the author last let the publication go on."""
    events = Bounce.objects.filter(publication=publication, date=day, kind__in=rule.kinds, known=True)
    if rule.at_sending:
        events = events.filter(door=Bounce.Door.SERVER)
    if since := Stop.objects.last_end(publication):
        events = events.filter(at__gt=since)
    return events.values("subscriber").distinct().count()


def expected(publication: Publication, day: date) -> int:
    """Return how many emails a date has, as last counted."""
    rows = Tally.objects.filter(publication=publication, date=day).exclude(state__in=(State.SKIPPED, State.MISSED))
    return rows.aggregate(number=Sum("count"))["number"] or 0


def at_least(number: int, publication: Publication, day: date) -> int:
    """Count a date's emails up to a number."""
    rows = Delivery.objects.filter(publication=publication, local_date=day)
    rows = rows.exclude(state__in=(State.SKIPPED, State.MISSED))
    return rows[:number].count()


def unproven(publication: Publication, bounce: Bounce, now: datetime) -> None:
    """Stop where a large provider asks for a proof of the sender; nothing would reach its readers any more."""
    said = f"{bounce.text} {bounce.status}".lower()
    address = bounce.subscriber.address.lower() if bounce.subscriber else ""
    code = words.proof_code(said)
    if not code or bounce.date is None:
        return
    direct = OUTLOOK.search(said) or THEIR_DOMAINS.search(address) or bounce.door == Bounce.Door.SERVER
    text = words.unproven(publication, code, bounce.text)
    if direct or (PROVIDERS.search(said) and others(publication, bounce) >= FORWARDED):
        stop(publication, Cause.AUTH, bounce.date, text, now)
    else:
        alarms.raise_alarm(publication, "unproven", bounce.date, text, now)


def others(publication: Publication, bounce: Bounce) -> int:
    same = Bounce.objects.filter(publication=publication, date=bounce.date, kind=Kind.AUTH, known=True)
    return same.values("subscriber").distinct().count()


def stop(publication: Publication, cause: Stop.Cause, day: date, text: str, now: datetime) -> None:
    """Let a publication's emails wait, also those that a worker has in its hands, and tell the author."""
    with transaction.atomic():
        _stop, new = Stop.objects.get_or_create(
            publication=publication, ended_at=None, defaults={"cause": cause, "at": now}
        )
        if new:
            held = Delivery.objects.filter(publication=publication, state=State.LEASED)
            held.update(state=State.PLANNED, owner=None, leased_until=None)
    if new:
        alarms.raise_alarm(publication, f"stop_{cause}", day, text, now)


def go_on(publication: Publication, now: datetime) -> bool:
    """Let a stopped publication go on; return whether it was stopped. What is too late by then is missed."""
    ended = Stop.objects.standing().filter(publication=publication).update(ended_at=now)
    over = alarms.standing(now).filter(publication=publication, cause__startswith="stop_")
    alarms.clear(over, now)
    return bool(ended)
