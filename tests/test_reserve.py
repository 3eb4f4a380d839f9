"""The reserve, ranked by its past results."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from newsletters import planning
from newsletters.models import Clock, Delivery, Issue, Publication, Series, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader

MONDAY = datetime(2026, 3, 2, 6, tzinfo=UTC)


@pytest.fixture
def reserve(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    for subject in ("Jamais lu", "Mal aimé", "Bien aimé", "Sans suite"):
        state = Issue.State.QUEUED
        series.append(
            Issue.objects.create(publication=publication, subject=subject, public_id=subject, body="…", state=state)
        )
    return series


def sent(reserve: Series, subject: str, reader: Subscriber, left_after: timedelta | None = None) -> None:
    """One reader had an issue of the reserve, and left so long after."""
    issue = Issue.objects.get(entries__series=reserve, subject=subject)
    day = MONDAY + timedelta(days=issue.pk)
    Delivery.objects.create(
        local_date=day.date(),
        subscriber=reader,
        publication=reserve.publication,
        way=Delivery.Way.RESERVE,
        issue=issue,
        state=State.SENT,
        due_at=day,
        try_at=day,
        late_until=day + timedelta(hours=15),
        handoff_at=day,
    )
    if left_after is not None:
        Subscriber.objects.filter(pk=reader.pk).update(
            left_at=day + left_after, status=Subscriber.Status.UNSUBSCRIBED, member_since=MONDAY
        )


def rank(client: Client, series: Series) -> str:
    client.force_login(User.objects.create_superuser("boss"))
    action = {"action": "rank_by_results", "_selected_action": series.pk}
    return client.post(reverse("admin:newsletters_series_changelist"), action, follow=True).content.decode()


def subjects(series: Series) -> list[str]:
    return list(series.entries.order_by("rank").values_list("issue__subject", flat=True))


def test_what_made_the_fewest_leave_comes_first(client: Client, reserve: Series, reader: Reader) -> None:
    for number in range(12):
        one = reader(f"r{number}@example.com", now=MONDAY - timedelta(days=9))
        sent(reserve, "Bien aimé", one, timedelta(days=3) if number < 5 else None)
        sent(reserve, "Sans suite", one)
        sent(reserve, "Mal aimé", one, timedelta(hours=5) if number > 6 else None)
    rank(client, reserve)
    assert subjects(reserve) == ["Bien aimé", "Sans suite", "Jamais lu", "Mal aimé"]


def test_the_next_reader_gets_what_is_ranked_first(client: Client, reserve: Series, reader: Reader) -> None:
    sent(reserve, "Sans suite", reader("gone@example.com", now=MONDAY - timedelta(hours=9)), timedelta(hours=1))
    rank(client, reserve)
    alice = reader(now=MONDAY - timedelta(hours=9))
    clock = Clock.objects.get()
    planning.tick(clock.next_at)
    chosen = Issue.objects.get(pk=Delivery.objects.values_list("issue").get(subscriber=alice)[0])
    assert chosen.subject == subjects(reserve)[0] == "Jamais lu"


def test_only_the_reserve_is_ranked(client: Client, publication: Publication) -> None:
    series = Series.objects.create(publication=publication, name="Bienvenue", slug="bienvenue")
    for subject in ("Un", "Deux"):
        series.append(Issue.objects.create(publication=publication, subject=subject, public_id=subject, body="…"))
    assert "“Bienvenue” keeps its order" in rank(client, series)
    assert subjects(series) == ["Un", "Deux"]
