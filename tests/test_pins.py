"""A date of the daily queue belongs to one issue: what would share it, or rest on it, is refused when it is saved."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client

from newsletters.models import Break, Entry, Publication, Series
from tests.test_validation import line, make_issue, make_series, of, series_data

WEDNESDAY, FRIDAY = date(2026, 11, 25), date(2026, 11, 27)


@pytest.fixture(autouse=True)
def monday() -> Iterator[None]:
    with time_machine.travel(datetime(2026, 11, 23, 11, 0, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def boss(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def daily(publication: Publication) -> Series:
    series = make_series(publication, "daily")
    for name in ("D1", "D2", "D3"):
        series.append(make_issue(publication, name))
    return series


def pin(boss: Client, series: Series, *days: str) -> int:
    """Save the form of a series with these dates; return the status: 302 where it was saved."""
    columns = {"publication": str(series.publication_id), "kind": "daily", "name": "daily", "slug": "daily"}
    lines = [line(entry, pinned_date=day) for entry, day in zip(series.entries.all(), days, strict=True)]
    return boss.post(of(series), series_data(series, *lines, **columns)).status_code


def pin_in_list(boss: Client, series: Series, *days: str) -> int:
    data = {"form-TOTAL_FORMS": len(days), "form-INITIAL_FORMS": len(days), "_save": "Save"}
    for number, (entry, day) in enumerate(zip(series.entries.all(), days, strict=True)):
        data |= {f"form-{number}-id": entry.pk, f"form-{number}-rank": entry.rank, f"form-{number}-pinned_date": day}
    return boss.post("/admin/newsletters/entry/", data).status_code


def pins(series: Series) -> list[date | None]:
    return [entry.pinned_date for entry in series.entries.all()]


@pytest.mark.parametrize("save", [pin, pin_in_list])
def test_a_date_that_is_another_issues_own(boss: Client, daily: Series, save: object) -> None:
    assert save(boss, daily, "2026-11-25", "", "") == 302  # type: ignore[operator]

    assert save(boss, daily, "2026-11-25", "2026-11-25", "") == 200  # type: ignore[operator]
    assert save(boss, daily, "2026-11-25", "2026-11-27", "2026-11-27") == 200  # type: ignore[operator]
    assert pins(daily) == [WEDNESDAY, None, None]

    assert save(boss, daily, "2026-11-25", "", "2026-11-27") == 302  # type: ignore[operator]
    assert pins(daily) == [WEDNESDAY, None, FRIDAY]


@pytest.mark.parametrize("kind", Break.Kind.values)
def test_a_date_on_which_the_queue_rests(boss: Client, daily: Series, kind: str) -> None:
    Break.objects.create(publication=daily.publication, kind=kind, first=FRIDAY, last=FRIDAY)

    assert pin(boss, daily, "2026-11-27", "", "") == 200
    assert pin(boss, daily, "2026-11-28", "", "") == 302


def test_what_shares_a_date_already_can_still_be_moved(boss: Client, daily: Series) -> None:
    Entry.objects.exclude(issue__subject="D3").update(pinned_date=FRIDAY)
    Break.objects.create(publication=daily.publication, kind="reserve", first=FRIDAY, last=FRIDAY)
    ranks = [entry.rank for entry in daily.entries.all()]
    lines = [line(entry, pinned_date=entry.pinned_date or "") for entry in daily.entries.all()]
    columns = {"publication": str(daily.publication_id), "kind": "daily", "name": "daily", "slug": "daily"}

    lines[0]["rank"] = ranks[2] + 1

    assert boss.post(of(daily), series_data(daily, *lines, **columns)).status_code == 302
    assert [entry.issue.subject for entry in daily.entries.all()] == ["D2", "D3", "D1"]
