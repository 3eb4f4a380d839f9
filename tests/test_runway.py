"""How far ahead the promise is covered, and who runs dry when."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from newsletters import runway
from newsletters.models import Break, Day, Entry, Issue, Publication, Series, Walk
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
THE_23RD = date(2026, 11, 23)


@pytest.fixture
def queue(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"d{number}"))
    return series


@pytest.fixture
def sequence(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, name="Accueil", slug="accueil", welcome=True)
    for number in range(1, 8):
        series.append(make_issue(publication, f"s{number}"))
    return series


def fixed(publication: Publication, subject: str, day: date = THE_23RD) -> None:
    Day.objects.create(publication=publication, date=day, issue=Issue.objects.get(subject=subject), fixed_at=MONDAY)


def test_it_counts_the_promised_days_that_have_their_issue(publication: Publication, queue: Series) -> None:
    before = runway.ahead(publication, THE_23RD)
    fixed(publication, "d1")

    after = runway.ahead(publication, THE_23RD)

    assert (before.days, before.dry_on) == (3, date(2026, 11, 26))
    assert (after.days, after.dry_on) == (2, date(2026, 11, 26))


def test_only_queued_issues_cover_a_day_and_a_pinned_one_leaves_a_gap(publication: Publication, queue: Series) -> None:
    Issue.objects.filter(subject="d2").update(state=Issue.State.READY)
    Entry.objects.filter(issue__subject="d3").update(pinned_date=date(2026, 11, 25))

    covered = runway.ahead(publication, THE_23RD)

    assert (covered.days, covered.dry_on) == (1, date(2026, 11, 24))


def test_days_without_promise_and_announced_breaks_neither_count_nor_end_it(
    publication: Publication, queue: Series
) -> None:
    Publication.objects.update(weekdays="12345")
    publication = Publication.objects.get()
    silence = Break.Kind.SILENCE
    Break.objects.create(publication=publication, kind=silence, first=date(2026, 11, 24), last=date(2026, 11, 26))

    covered = runway.ahead(publication, THE_23RD)

    assert (covered.days, covered.dry_on) == (3, date(2026, 12, 1))


def test_the_reserve_is_counted_apart_and_covers_the_dates_given_to_it(publication: Publication, queue: Series) -> None:
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    for subject, state in (("r1", "queued"), ("r2", "queued"), ("r3", "draft")):
        reserve.append(make_issue(publication, subject, state))
    without = runway.ahead(publication, THE_23RD)
    given = Break.objects.create(publication=publication, first=date(2026, 11, 24), last=date(2026, 11, 25))
    enough = runway.ahead(publication, THE_23RD)
    given.last = date(2026, 11, 26)
    given.save()

    too_long = runway.ahead(publication, THE_23RD)

    assert (without.days, without.reserve) == (3, 2)
    assert (enough.days, enough.dry_on) == (5, date(2026, 11, 28))
    assert (too_long.days, too_long.dry_on) == (3, date(2026, 11, 26))


def test_each_cohort_runs_dry_after_its_own_last_step(
    publication: Publication, queue: Series, sequence: Series, reader: Reader
) -> None:
    for number in range(3):
        reader(f"new{number}@example.com", now=SUNDAY_NOON)
    reader("old@example.com", now=SUNDAY_NOON)
    Walk.objects.filter(subscriber__address="old@example.com").update(ended_at=SUNDAY_NOON)
    half = reader("half@example.com", now=SUNDAY_NOON)
    Walk.objects.filter(subscriber=half).update(reached=Entry.objects.get(issue__subject="s2").rank)
    reader("gone@example.com", now=SUNDAY_NOON).leave(SUNDAY_NOON)
    reader("weekly@example.com", digest_on=7, now=SUNDAY_NOON)

    cohorts = runway.cohorts(publication, THE_23RD)

    assert [(cohort.dry_on.day, cohort.days, cohort.readers) for cohort in cohorts] == [
        (26, 3, 1),
        (28, 5, 1),
        (30, 7, 3),
    ]
    assert runway.told(cohorts[2], "en") == "3 readers run dry on Monday 30 November."


def test_several_walks_add_up(publication: Publication, sequence: Series, reader: Reader) -> None:
    second = Series.objects.create(publication=publication, name="Suite", slug="suite")
    second.append(make_issue(publication, "t1"))
    alice = reader(now=SUNDAY_NOON)
    Walk.objects.create(subscriber=alice, series=second, position=1, started_at=SUNDAY_NOON)

    cohorts = runway.cohorts(publication, THE_23RD)

    assert [(cohort.days, cohort.readers) for cohort in cohorts] == [(8, 1)]


def test_without_readers_nobody_runs_dry(publication: Publication, queue: Series) -> None:
    assert runway.cohorts(publication, THE_23RD) == []


def test_it_asks_the_same_questions_whatever_the_length(
    publication: Publication, queue: Series, reader: Reader, django_assert_num_queries: Any
) -> None:
    for number in range(4, 30):
        queue.append(make_issue(publication, f"d{number}"))
    reader(now=SUNDAY_NOON)
    publication = Publication.objects.get()

    with django_assert_num_queries(5):
        covered = runway.ahead(publication, THE_23RD)

    assert covered.days == 29
