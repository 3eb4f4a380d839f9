"""The promised hour where each reader lives."""

import struct
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
import tzdata
from hypothesis import given
from hypothesis import strategies as st

from newsletters import clock, planning, promise, tasks
from newsletters.models import Clock, Delivery, Publication, Series, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.servers import MailServer
from tests.test_planning import make_issue

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


def test_no_other_day_reaches_into_the_next_date() -> None:
    assert clock.window(date(2026, 11, 23), time(23, 30), time(23, 45), "UTC")[1] == datetime(
        2026, 11, 23, 23, 45, tzinfo=UTC
    )


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
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle, info) == before else (low, middle)
            found.append((high.replace(second=0, microsecond=0), before, after))
        at += timedelta(days=1)
    return found


def offset(at: datetime, zone: zoneinfo.ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


@pytest.mark.timeout(600)
def test_every_zone_every_transition_every_quarter_hour_has_one_instant_a_day() -> None:
    # Zones that are names for the same rules are looked at once.
    rules = {tuple(changes): zone for zone in ZONES if (changes := transitions(zone))}
    hours = [time(minutes // 60, minutes % 60) for minutes in range(0, 24 * 60, 15)]
    looked_at = 0

    for found, zone in rules.items():
        info = zoneinfo.ZoneInfo(zone)
        for at, _before, _after in found:
            day = at.astimezone(info).date()
            gaps = [
                (moment.replace(tzinfo=None) + was, moment.replace(tzinfo=None) + then)
                for moment, was, then in found
                if abs(moment - at) < timedelta(days=4)
            ]
            for hour in hours:
                last = clock.instant(day - timedelta(days=2), hour, zone)
                for promised in (day - timedelta(days=1), day, day + timedelta(days=1)):
                    dated, instant = clock.next_promise(last, hour, "1234567", zone)
                    shift = instant.astimezone(info).replace(tzinfo=None) - datetime.combine(promised, hour)
                    assert dated == promised, (zone, at, hour)
                    wall = datetime.combine(promised, hour)
                    assert shift == sum((end - gap for gap, end in gaps if gap <= wall < end), timedelta(0)), (
                        zone,
                        wall,
                    )
                    assert instant.astimezone(info).fold == 0, (zone, at, hour)
                    last, looked_at = instant, looked_at + 1

    assert looked_at > 300_000


# What lives with the clocks in the tables: rules that change, clocks that jump, a scheduler that is down

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
ONE_DAY = timedelta(days=1)


@pytest.fixture
def daily(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(1, 10):
        series.append(make_issue(publication, f"d{number}"))
    return series


@pytest.fixture
def new_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a newer tzdata: new_rules({"Europe/Paris": "<+02>-2"}) gives these zones one offset for ever."""

    def install(release: str = "2099a", **zones: str) -> None:
        for zone, rule in zones.items():
            file = tmp_path / "zoneinfo" / zone
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(compiled(rule))
        zoneinfo.reset_tzpath([tmp_path / "zoneinfo"])
        zoneinfo.ZoneInfo.clear_cache()
        monkeypatch.setattr(tzdata, "IANA_VERSION", release)

    yield install
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()


def compiled(rule: str) -> bytes:
    """Return a zone file (RFC 8536, version 2) without transitions: its last line says it all."""
    header = b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, 1, 4)
    kind = struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
    return (header + kind) * 2 + f"\n{rule}\n".encode()


def ticks(first: datetime, last: datetime) -> None:
    """Tick every quarter of an hour, both ends included, and send what it plans."""
    while first <= last:
        planning.tick(first)
        due = Delivery.objects.filter(state=State.PLANNED, due_at__lte=first)
        due.update(state=State.SENT, handoff_at=first, settled_at=first)
        first += timedelta(minutes=15)


def handed_off(subscriber: Subscriber) -> list[tuple[int, str, datetime]]:
    rows = Delivery.objects.filter(subscriber=subscriber).order_by("local_date").select_related("issue")
    return [(row.local_date.day, row.issue.subject, row.handoff_at) for row in rows if row.issue and row.handoff_at]


@pytest.mark.parametrize(("rule", "shift"), [("<+02>-2", -1), ("<+00>0", 1), ("CET-1", 0)])
def test_the_promise_follows_rules_that_change_after_it_was_set(
    daily: Series, reader: Reader, new_rules: Any, rule: str, shift: int
) -> None:
    alice = reader(now=MONDAY - 2 * ONE_DAY)
    ticks(MONDAY - ONE_DAY, MONDAY - timedelta(hours=12))

    new_rules(**{"Europe/Paris": rule})
    ticks(MONDAY - timedelta(hours=2), MONDAY + ONE_DAY + timedelta(hours=2))

    at = timedelta(hours=shift)
    assert handed_off(alice) == [
        (22, "d1", MONDAY - ONE_DAY),
        (23, "d2", MONDAY + at),
        (24, "d3", MONDAY + ONE_DAY + at),
    ]
    assert {row.rules for row in Clock.objects.all()} == {"2099a"}


def test_rules_that_change_after_the_hour_struck_strike_it_no_second_time(
    daily: Series, reader: Reader, new_rules: Any
) -> None:
    alice = reader(now=MONDAY - ONE_DAY)
    ticks(MONDAY - timedelta(hours=1), MONDAY)

    new_rules(**{"Europe/Paris": "<+00>0"})
    ticks(MONDAY + timedelta(minutes=15), MONDAY + ONE_DAY + timedelta(hours=2))

    assert [(day, subject) for day, subject, _ in handed_off(alice)] == [(23, "d1"), (24, "d2")]


def test_a_date_that_new_rules_leave_out_is_passed_over(daily: Series, reader: Reader, new_rules: Any) -> None:
    eve = datetime(2011, 12, 29, 17, 0, tzinfo=UTC)  # 7:00 in Apia, which then had no 30 December
    alice = reader(zone="Pacific/Apia", now=eve - timedelta(hours=1))
    Clock.objects.filter(zone="Pacific/Apia").update(rules="2011a", next_date=date(2011, 12, 30), next_at=eve + ONE_DAY)

    ticks(eve, eve + ONE_DAY)

    assert [day for day, _, _ in handed_off(alice)] == [31]


def test_an_older_release_takes_nothing_back(daily: Series, reader: Reader, new_rules: Any) -> None:
    reader(now=MONDAY - ONE_DAY)
    Clock.objects.update(rules="2099a", next_at=MONDAY - timedelta(minutes=30))

    planning.tick(MONDAY - timedelta(hours=2))

    assert {row.next_at for row in Clock.objects.all()} == {MONDAY - timedelta(minutes=30)}


def test_one_publication_that_cannot_be_set_right_keeps_no_other_waiting(daily: Series, reader: Reader) -> None:
    alice = reader(now=MONDAY - ONE_DAY)
    other = Publication.objects.create(name="O", slug="o", author="O", sender="o@o.example", reply_to="o@o.example")
    Clock.objects.create(publication=other, zone="Nowhere/Land", next_date=MONDAY.date(), next_at=MONDAY + ONE_DAY)
    Clock.objects.filter(publication=alice.publication).update(rules="2011a", next_at=MONDAY + timedelta(hours=3))

    ticks(MONDAY, MONDAY)

    assert [day for day, _, _ in handed_off(alice)] == [23]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, smtp: MailServer, settings: Any) -> Iterator[Callable[[datetime], None]]:
    """The machine's own clock: machine(instant) sets it and lets a whole beat pass, with its wake-ups."""
    settings.MAIL_URL = smtp.url
    for task in (tasks.drain, tasks.tell):
        monkeypatch.setattr(task, "delay", task)
    with time_machine.travel(MONDAY, tick=False) as traveller:

        def show(at: datetime) -> None:
            traveller.move_to(at)
            tasks.tick()

        yield show


JUMPS = [timedelta(hours=1), timedelta(hours=-1), ONE_DAY, -ONE_DAY]


@pytest.mark.parametrize("jump", JUMPS, ids=str)
@pytest.mark.parametrize("minutes", [-30, 30], ids=["before its hour", "after it"])
def test_a_machine_clock_that_jumps_sends_nothing_twice_nor_before_its_hour(
    daily: Series, reader: Reader, machine: Any, smtp: MailServer, jump: timedelta, minutes: int
) -> None:
    start = MONDAY - 2 * ONE_DAY
    readers = [reader(f"{zone[-3:]}@example.com", zone=zone, now=start) for zone in ("Europe/Paris", "Asia/Tokyo")]
    first = start + ONE_DAY + timedelta(minutes=minutes)
    off = [first + timedelta(minutes=minutes) for minutes in (0, 30, 60)]
    right = [start + timedelta(hours=hours) for hours in range(0, 85, 3)]

    for at in sorted([*off, *right, off[-1] + timedelta(minutes=30)]):
        machine(at + jump if off[0] <= at <= off[-1] else at)

    came = Counter((one.recipients[0], one.message["Subject"]) for one in smtp.received)
    assert set(came.values()) == {1}
    for one in readers:
        rows = list(Delivery.objects.filter(subscriber=one).order_by("local_date"))
        first_day = rows[0].local_date
        assert [row.local_date for row in rows] == [first_day + number * ONE_DAY for number in range(len(rows))]
        assert len(rows) >= 3
        assert all(row.handoff_at is None or row.handoff_at >= row.due_at for row in rows)
        ends = Counter((row.state, row.reason) for row in rows)
        # Only a clock that is a day ahead makes the machine believe that a date is over.
        assert set(ends) <= {("sent", ""), ("missed", "outage")}
        assert ends["missed", "outage"] <= (jump == ONE_DAY)


def test_a_scheduler_down_for_three_days_sends_todays_email_alone(
    daily: Series, reader: Reader, machine: Any, smtp: MailServer
) -> None:
    alice = reader(now=MONDAY - 2 * ONE_DAY)
    machine(MONDAY - ONE_DAY)

    machine(MONDAY + 3 * ONE_DAY)
    for hours in range(1, 30):
        machine(MONDAY + 3 * ONE_DAY + timedelta(hours=hours))

    rows = Delivery.objects.filter(subscriber=alice).order_by("local_date")
    assert [(row.local_date.day, row.state) for row in rows] == [
        (22, "sent"),
        (23, "missed"),
        (24, "missed"),
        (25, "missed"),
        (26, "sent"),
        (27, "sent"),
    ]
    assert len(smtp.received) == 3
    days = {day.date.day: promise.recount(day).kept for day in alice.publication.days.all()}
    assert days == {22: True, 23: False, 24: False, 25: False, 26: True, 27: True}
