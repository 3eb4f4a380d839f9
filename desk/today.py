"""Today, the desk's first room: everything the page says, from counters and the ledger."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.translation import get_language

from desk import going, growth, ledger, steps
from newsletters import clock, proofreading, runway
from newsletters.models import Break, Publication, Rehearsal

# How many cohorts the page names
NAMED = 3


def facts(publication: Publication, now: datetime) -> dict[str, Any]:
    """Return what the page shows; seven queries, whatever the list's size."""
    reserve: int = getattr(publication, "reserve", None) or 0
    ahead: list[tuple[int, int]] = getattr(publication, "ahead", None) or []
    day = clock.local_date(now, publication.zone)
    days = ledger.fixed_days(publication)
    coming = ledger.forecast(publication, days, day)
    struck = list(going.clocks(publication))
    counted = going.tallies(publication, day, struck)
    known = ledger.read(days, coming, reserve, day)
    following = upcoming(publication, coming, now)
    rehearsal = rehearsed(publication, following)
    unfinished = steps.unfinished(publication)
    dry = runway.run_dry(runway.covered(coming, reserve), dict(ahead))
    todo = steps.steps(publication, known, coming, unfinished, rehearsal, dry)
    return {
        "room": "today",
        "publication": publication,
        "local": now.astimezone(ZoneInfo(publication.zone)),
        "today": day,
        "going": going.today(publication, now, days, struck, counted),
        "ledger": known,
        "missed": ledger.reasons(known.missed) if known.missed else [],
        "following": following,
        "rehearsal": rehearsal,
        "problems": sentences(rehearsal.problems if rehearsal else []),
        "remarks": sentences(rehearsal.remarks if rehearsal else []),
        "running_dry": dry[:NAMED],
        "rests": ledger.rests(publication, day),
        "rest": next(iter(going.resting(publication, day, Break.Kind.SILENCE)), None),
        "steps": todo,
        # One button of the page is filled: to see the next email, or to get one.
        "primary": bool(todo) and (following is None or following["issue"] is None),
        "growth": growth.growth(publication, day),
        "reserve": reserve,
    }


def upcoming(publication: Publication, coming: list[ledger.Coming], now: datetime) -> dict[str, Any] | None:
    """Return the next promised email: its date, instant, issue and kind of break; None where a year is at rest."""
    for day, issue, rest in coming:
        at = publication.window(day, publication.zone)[0]
        if rest != Break.Kind.SILENCE and at > now:
            promise = publication.promise_on(day)
            return {"day": day, "hour": promise.hour, "at": at, "left": at - now, "issue": issue, "rest": rest}
    return None


def rehearsed(publication: Publication, following: dict[str, Any] | None) -> Rehearsal | None:
    """Return the latest rehearsal of the next email."""
    if following is None:
        return None
    rows = Rehearsal.objects.filter(publication=publication, date=following["day"])
    return rows.order_by("-at").first()


def sentences(found: list[dict[str, Any]]) -> list[str]:
    language = get_language() or "en"
    return [proofreading.sentence(one, language) for one in found]
