"""What the public is shown of the ledger: the line, the strokes, the badge."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from newsletters import dates, promise, strokes
from newsletters.models import Break, Correction, Day, Issue, Publication, Series
from optin.models import OptInPage
from tests.test_planning import make_issue
from tests.watch import MONDAY, ONE_DAY, THE_23RD

NIGHT = MONDAY + timedelta(hours=15)  # 22:00 in Paris


@pytest.fixture(autouse=True)
def no_memory() -> None:
    cache.clear()


@pytest.fixture
def queue(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in (1, 2, 3):
        series.append(make_issue(publication, f"d{number}"))
    return series


def keep(publication: Publication, verdicts: str, last: date = THE_23RD, **columns: Any) -> None:
    """Write a ledger: k kept, l late, m missed, n nobody expected, the last letter for the last date."""
    for number, letter in enumerate(reversed(verdicts)):
        day = last - timedelta(days=number)
        Day.objects.create(
            publication=publication,
            date=day,
            fixed_at=MONDAY,
            closed_at=MONDAY,
            expected=0 if letter == "n" else 10,
            on_time=10 if letter == "k" else 0,
            late=10 if letter == "l" else 0,
            missed={"dry": 10} if letter == "m" else {},
            kept={"k": True, "l": True, "m": False}.get(letter),
            **columns,
        )


def test_the_record_counts_only_what_readers_expected(publication: Publication, django_assert_num_queries: Any) -> None:
    keep(publication, "kkkkkmkknkl")

    with django_assert_num_queries(4):
        record = promise.record(publication, THE_23RD)

    assert (record.streak, record.best, record.kept, record.days) == (4, 5, 9, 10)
    assert (record.since, record.first) == (date(2026, 11, 19), date(2026, 11, 13))
    assert record.on_time_30 == record.on_time_365 == 80
    assert not record.shown


@pytest.mark.parametrize(
    ("verdicts", "shown", "line"),
    [
        ("k" * 13, False, ""),
        ("k" * 14, True, "14 mornings in a row"),
        ("k" * 13 + "m", True, "13 of 14 days"),
        ("k" * 20 + "m" + "k" * 15, True, "35 of 36 days"),
        ("m" + "k" * 365, True, "365 mornings in a row"),
    ],
)
def test_the_public_line(publication: Publication, verdicts: str, shown: bool, line: str) -> None:
    keep(publication, verdicts)

    streak = strokes.shown(publication, THE_23RD)

    assert (streak.line if streak else "") == line
    assert bool(streak) == shown


def test_the_year_has_a_stroke_for_each_date(publication: Publication, queue: Series) -> None:
    keep(publication, "kklnmk")
    issue = Issue.objects.get(subject="d1")
    Day.objects.filter(date=THE_23RD).update(issue=issue)
    Break.objects.create(
        publication=publication, kind=Break.Kind.SILENCE, first=date(2026, 11, 25), last=date(2026, 11, 26)
    )

    found = strokes.year(publication, date(2026, 11, 24))

    states = [stroke.state for stroke in found]
    assert states[:6] == ["kept", "kept", "late", "rest", "missed", "kept"]
    assert states[6:] == ["today", "rest", "rest", "ahead", "open", "open", "open"]
    assert (found[0].date, found[-1].date) == (date(2026, 11, 18), date(2026, 11, 30))
    assert [stroke.subject for stroke in found[5:7]] == ["d1", "d2"]


def test_the_badge_is_a_picture_that_loads_nothing_and_says_itself(publication: Publication, client: Client) -> None:
    today = datetime.now(UTC).date()
    keep(publication, "k" * 20 + "l", last=today - ONE_DAY)

    response = client.get("/pas/badge.svg")

    text = response.content.decode()
    assert response.status_code == 200
    assert response["Content-Type"] == "image/svg+xml"
    assert response["Cache-Control"] == "public, max-age=3600"
    assert "<title" in text
    assert "21" in text
    assert "url(" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text


def test_the_badge_is_hidden_when_young_or_switched_off(publication: Publication, client: Client) -> None:
    today = datetime.now(UTC).date()
    keep(publication, "k" * 13, last=today - ONE_DAY)
    young = client.get("/pas/badge.svg").status_code
    keep(publication, "k", last=today - 20 * ONE_DAY)
    old_enough = client.get("/pas/badge.svg").status_code
    Publication.objects.update(show_streak=False)

    assert (young, old_enough, client.get("/pas/badge.svg").status_code) == (404, 200, 404)
    assert client.get("/nobody/badge.svg").status_code == 404
    assert client.post("/pas/badge.svg").status_code == 405


def test_the_opt_in_page_shows_the_days_kept(publication: Publication, page: OptInPage, client: Client) -> None:
    Publication.objects.update(language="en")
    today = datetime.now(UTC).date()
    keep(publication, "k" * 10 + "lm" + "k" * 30, last=today - ONE_DAY)

    text = client.get("/pas/").content.decode()

    assert "<b>41</b> of 42 days" in text
    assert "41 of 42 days</a>" in text
    assert 'class="miss"' in text
    assert f"Missed: {dates.full_date(today - 31 * ONE_DAY, 'en')}." in text
    assert f"Late: {dates.full_date(today - 32 * ONE_DAY, 'en')}." in text


def test_the_opt_in_page_of_an_unbroken_promise(publication: Publication, page: OptInPage, client: Client) -> None:
    Publication.objects.update(language="en")
    today = datetime.now(UTC).date()
    keep(publication, "k" * 40, last=today - ONE_DAY)

    text = client.get("/pas/").content.decode()

    assert "<b>40</b> mornings in a row" in text
    assert "No day is missing." in text
    assert f"Since {dates.full_date(today - 40 * ONE_DAY, 'en')}, the email has gone out every morning." in text


def test_the_opt_in_page_hides_a_young_or_switched_off_streak(
    publication: Publication, page: OptInPage, client: Client
) -> None:
    today = datetime.now(UTC).date()
    keep(publication, "k" * 13, last=today - ONE_DAY)
    young = client.get("/pas/").content.decode()
    keep(publication, "kk", last=today - 20 * ONE_DAY)
    old_enough = client.get("/pas/").content.decode()
    Publication.objects.update(show_streak=False)

    hidden = client.get("/pas/").content.decode()

    assert ["strokes" in text for text in (young, old_enough, hidden)] == [False, True, False]


def test_what_is_shown_follows_the_ledger_and_is_otherwise_remembered(
    publication: Publication, django_assert_num_queries: Any
) -> None:
    keep(publication, "k" * 20)
    strokes.shown(publication, THE_23RD)

    with django_assert_num_queries(1):
        again = strokes.shown(publication, THE_23RD)
    Correction.objects.create(day=Day.objects.get(date=THE_23RD), at=NIGHT, changes={"kept": False})
    corrected = strokes.shown(publication, THE_23RD)

    assert again is not None
    assert again.record.kept == 20
    assert corrected is not None
    assert corrected.record.kept == 19
