"""The promised hour where each reader lives."""

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletters import clock

ZONES = sorted(zoneinfo.available_timezones())
SEVEN = time(7)


def test_it_shifts_an_hour_that_spring_skips() -> None:
    assert clock.instant(date(2026, 3, 29), time(2, 30), "Europe/Paris") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_it_takes_the_first_of_an_hour_that_autumn_repeats() -> None:
    assert clock.instant(date(2026, 10, 25), time(2, 30), "Europe/Paris") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_it_knows_half_hour_shifts() -> None:
    assert clock.instant(date(2026, 10, 4), time(2, 15), "Australia/Lord_Howe") == datetime(
        2026, 10, 3, 15, 45, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("zone", "skipped"),
    [
        ("Pacific/Apia", date(2011, 12, 30)),
        ("Pacific/Fakaofo", date(2011, 12, 30)),
        ("Pacific/Kwajalein", date(1993, 8, 21)),
    ],
)
def test_it_promises_nothing_on_a_date_that_a_zone_left_out(zone: str, skipped: date) -> None:
    eve = skipped - timedelta(days=1)

    day, _ = clock.next_promise(clock.instant(eve, SEVEN, zone), SEVEN, "1234567", zone)

    assert not clock.exists(skipped, SEVEN, zone)
    assert day == skipped + timedelta(days=1)


def test_it_keeps_to_the_promised_weekdays() -> None:
    friday = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)

    day, at = clock.next_promise(friday, SEVEN, "12345", "Europe/Paris")

    assert (day, at) == (date(2026, 11, 30), datetime(2026, 11, 30, 6, 0, tzinfo=UTC))


def test_it_refuses_a_promise_without_a_day() -> None:
    with pytest.raises(ValueError, match="promises no day"):
        clock.next_promise(datetime(2026, 1, 1, tzinfo=UTC), SEVEN, "", "UTC")


def test_a_gap_leaves_an_hour_to_be_late_in() -> None:
    due_at, late_until = clock.window(date(2026, 3, 29), time(2), time(2, 30), "Europe/Paris")

    assert late_until - due_at == timedelta(hours=1)


instants = st.datetimes(datetime(2020, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))


@given(instants, st.times().map(lambda at: at.replace(second=0, microsecond=0)), st.sampled_from(ZONES))
def test_each_promise_is_the_next_date_and_later_than_the_last(after: datetime, hour: time, zone: str) -> None:
    first_day, first = clock.next_promise(after, hour, "1234567", zone)
    second_day, second = clock.next_promise(first, hour, "1234567", zone)

    assert after < first < second
    assert first_day < second_day
    assert first - after <= timedelta(hours=49)
    shown = first.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)
    assert timedelta(0) <= shown - datetime.combine(first_day, hour) <= timedelta(hours=2)


def transitions(zone: str) -> list[tuple[datetime, timedelta, timedelta]]:
    """Return (instant, offset before, offset after) of each change of a zone's clocks from 2020 to 2037."""
    info, found = zoneinfo.ZoneInfo(zone), []
    at, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
    while at < end:
        before, after = offset(at, info), offset(at + timedelta(days=1), info)
        if before != after:
            low, high = at, at + timedelta(days=1)
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle, info) == before else (low, middle)
            found.append((high, before, after))
        at += timedelta(days=1)
    return found


def offset(at: datetime, zone: zoneinfo.ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def test_every_zone_every_transition_every_quarter_hour_has_one_instant_a_day() -> None:
    # Zones that are names for the same rules are looked at once.
    rules = {tuple(changes): zone for zone in ZONES if (changes := transitions(zone))}
    hours = [time(minutes // 60, minutes % 60) for minutes in range(0, 24 * 60, 15)]
    looked_at = 0

    for found, zone in rules.items():
        info = zoneinfo.ZoneInfo(zone)
        for at, before, after in found:
            day = at.astimezone(info).date()
            for hour in hours:
                last = clock.instant(day - timedelta(days=2), hour, zone)
                for promised in (day - timedelta(days=1), day, day + timedelta(days=1)):
                    dated, instant = clock.next_promise(last, hour, "1234567", zone)
                    shift = instant.astimezone(info).replace(tzinfo=None) - datetime.combine(promised, hour)
                    assert dated == promised, (zone, at, hour)
                    assert shift in {timedelta(0), after - before}, (zone, at, hour)
                    assert instant.astimezone(info).fold == 0, (zone, at, hour)
                    last, looked_at = instant, looked_at + 1

    assert looked_at > 300_000
