"""Whoever changes zone or edits the hour, at any minute: never two a day, never too soon, no step lost."""

import os
from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from newsletters import invariants, planning, sending
from newsletters.models import Clock, Delivery, Publication, Series, Subscriber
from newsletters.models.outgoing import HAD, State
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
ZONES = ["Pacific/Auckland", "Pacific/Honolulu", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Paris"]
HOURS = [time(0), time(7), time(20), time(23, 30)]
DAYS = 6

minutes = st.integers(0, (DAYS - 1) * 24 * 60)
moves = st.lists(st.tuples(minutes, st.sampled_from(ZONES)), max_size=6)
edits = st.lists(st.tuples(minutes, st.sampled_from(HOURS)), max_size=2)
# How many minutes after each tick its emails leave: up to hours late
lags = st.lists(st.integers(0, 900), min_size=1, max_size=5)


@pytest.fixture
def alice(publication: Publication, reader: Reader) -> Subscriber:
    series = Series.objects.create(publication=publication, name="s", slug="s", welcome=True)
    for number in range(1, 20):
        series.append(make_issue(publication, f"s{number}"))
    return reader(zone="Pacific/Auckland", now=MONDAY - timedelta(hours=1))


def live(alice: Subscriber, acts: list[tuple[datetime, str, object]], lags: list[int]) -> None:
    """Let the days pass: each act at its minute, each clock at its strike, each email some time after it was due."""
    end, now = MONDAY + timedelta(days=DAYS), MONDAY
    leaves: list[datetime] = []
    while now <= end:
        for at, what, value in [act for act in acts if act[0] == now]:
            act(Subscriber.objects.get(pk=alice.pk), what, value, at)
        sending.sweep(now)
        for plan in planning.tick(now):
            leaves += [now + timedelta(minutes=lags[len(leaves) % len(lags)])] if plan.rows else []
        if now in leaves:
            send(now)
        struck = [row.next_at for row in Clock.objects.all()]
        now = min([at for at in [*struck, *leaves, *(act[0] for act in acts)] if at > now])


def act(alice: Subscriber, what: str, value: object, at: datetime) -> None:
    if what == "move" and value != alice.zone:
        alice.move(str(value), at)
    elif what == "hour":
        Publication.objects.update(hour=value, late_until=time(23, 59))
        Clock.objects.reset(Publication.objects.get(), at)


def send(now: datetime) -> None:
    due = Delivery.objects.filter(state=State.PLANNED, due_at__lte=now, late_until__gt=now)
    due.update(state=State.SENT, handoff_at=now, settled_at=now)


LIMITS = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.generate],  # each example is six days: it shrinks for minutes
    derandomize=os.environ.get("CI") == "true",
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(600)
@LIMITS
@given(moves, edits, lags)
def test_whatever_the_minute(
    alice: Subscriber, moves: list[tuple[int, str]], edits: list[tuple[int, time]], lags: list[int]
) -> None:
    acts: list[tuple[datetime, str, object]] = [(MONDAY + timedelta(minutes=at), "move", zone) for at, zone in moves]
    acts += [(MONDAY + timedelta(minutes=at), "hour", hour) for at, hour in edits]
    with transaction.atomic():
        live(alice, acts, lags)
        sending.sweep(MONDAY + timedelta(days=DAYS))
        broken = list(invariants.standing(alice.publication, date(2026, 11, 1), MONDAY + timedelta(days=DAYS)))
        rows = Delivery.objects.filter(subscriber=alice, state__in=HAD).order_by("handoff_at").select_related("issue")
        came = [row.issue.subject if row.issue else "" for row in rows]
        transaction.set_rollback(True)

    assert not broken
    assert came == [f"s{number}" for number in range(1, len(came) + 1)]
