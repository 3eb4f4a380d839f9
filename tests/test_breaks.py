"""Breaks, announcements, and a promise that changes: told ahead, once, and exact in every zone."""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db.models import Min
from django.test import Client

from newsletters import clock, notices, planning, sending
from newsletters.links import Purpose, seal
from newsletters.models import Break, Clock, Delivery, Issue, PromiseChange, Publication, Series, Text
from newsletters.models.outgoing import State
from optin.models import OptInPage
from tests.conftest import Reader

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


@pytest.fixture
def daily(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(1, 31):
        issue = Issue.objects.create(
            publication=publication, subject=f"d{number}", body="Texte", state="queued", public_id=f"d{number}"
        )
        issue.texts.add(Text.objects.create(publication=publication))
        series.append(issue)
    return series


def announcement(publication: Publication) -> Issue:
    return Issue.objects.create(
        publication=publication, kind="announcement", subject="Un livre", body="Il sort.", state="queued", public_id="l"
    )


def live(until: datetime) -> None:
    """Let time pass, in steps of three hours and at each clock's strike, as the tick does."""
    steps = [until - timedelta(hours=3 * n) for n in range(400)]
    now = Clock.objects.aggregate(at=Min("next_at"))["at"]
    while now <= until:
        notices.tick(now)
        planning.tick(now)
        Delivery.objects.filter(state=State.PLANNED, try_at__lte=now).update(state=State.SENT, handoff_at=now)
        strike = Clock.objects.aggregate(at=Min("next_at"))["at"]
        now = min([step for step in steps if step > now] + [strike]) if now < until else until + ONE_DAY


def silence(publication: Publication, first: date, last: date) -> Break:
    return Break.objects.create(publication=publication, kind=Break.Kind.SILENCE, first=first, last=last)


def dates_of(subject: str, reader_pk: int) -> list[date]:
    rows = Delivery.objects.filter(subscriber_id=reader_pk, slot=0, issue__subject__startswith=subject)
    return list(rows.order_by("local_date").values_list("local_date", flat=True))


def test_an_announcement_stands_beside_the_daily_email_and_never_comes_twice(daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    tokyo = reader("taro@example.com", zone="Asia/Tokyo", now=SUNDAY_NOON)
    gone = reader("gone@example.com", now=SUNDAY_NOON)
    gone.leave(SUNDAY_NOON)
    issue = announcement(daily.publication)

    assert notices.announce(issue, SUNDAY_NOON + timedelta(hours=1)) == 2
    assert notices.announce(issue, MONDAY + ONE_DAY) == 0
    planning.tick(MONDAY)

    rows = Delivery.objects.filter(subscriber__in=[alice, tokyo], issue=issue).order_by("due_at")
    assert [(row.subscriber_id, row.slot, row.way) for row in rows] == [
        (tokyo.pk, issue.pk, "announcement"),
        (alice.pk, issue.pk, "announcement"),
    ]
    assert [row.due_at for row in rows] == [MONDAY - timedelta(hours=8), MONDAY]
    assert Delivery.objects.filter(subscriber=alice, local_date="2026-11-23").count() == 2


def same_text(publication: Publication, subject: str) -> Issue:
    issue = announcement(publication)
    issue.texts.set(Issue.objects.get(subject=subject).texts.all())
    return issue


@pytest.fixture
def reserve(publication: Publication) -> Series:
    series = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    issue = Issue.objects.create(publication=publication, subject="r1", body="Texte", state="queued", public_id="r1")
    issue.texts.add(Text.objects.create(publication=publication))
    series.append(issue)
    return series


def came(now: datetime) -> list[str]:
    """Send what has been planned, and return what everyone has had by now, in order."""
    while sending.drain(lambda: now):
        pass
    rows = Delivery.objects.filter(state=State.SENT).order_by("local_date", "slot").select_related("issue")
    return [row.issue.subject for row in rows if row.issue]


def test_a_text_that_is_announced_comes_by_no_other_way(daily: Series, reserve: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    came(MONDAY)
    notices.announce(same_text(daily.publication, "d2"), MONDAY + timedelta(hours=4))

    planning.tick(MONDAY + ONE_DAY)

    assert came(MONDAY + ONE_DAY) == ["d1", "r1", "Un livre"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_text_on_its_way_is_not_announced_as_well(daily: Series, reader: Reader, at_once: bool) -> None:
    reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)

    announced = notices.announce(same_text(daily.publication, "d1"), MONDAY, at_once=at_once)
    planning.tick(MONDAY + ONE_DAY)

    assert announced == 0
    assert came(MONDAY + timedelta(minutes=1)) == ["d1"]


def test_a_text_whose_announcement_did_not_go_out_still_comes(daily: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    notices.announce(same_text(daily.publication, "d2"), SUNDAY_NOON)
    planning.tick(MONDAY)
    sending.sweep(MONDAY + timedelta(hours=16))

    planning.tick(MONDAY + ONE_DAY)

    assert came(MONDAY + ONE_DAY) == ["d2"]


def test_an_announcement_may_go_at_once(daily: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    issue, now = announcement(daily.publication), SUNDAY_NOON + timedelta(hours=1)

    notices.announce(issue, now, at_once=True)

    row = Delivery.objects.get()
    assert (row.due_at, row.local_date) == (now, date(2026, 11, 22))
    assert Delivery.objects.lease(10, now, uuid.uuid4())


def test_only_a_queued_announcement_is_announced(daily: Series) -> None:
    draft = announcement(daily.publication)
    draft.state = Issue.State.DRAFT

    for issue in (draft, Issue.objects.get(subject="d1")):
        with pytest.raises(ValueError, match="queued announcement"):
            notices.announce(issue, MONDAY)


def test_whoever_leaves_gets_no_announcement_either(daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    notices.announce(announcement(daily.publication), SUNDAY_NOON)

    alice.leave(SUNDAY_NOON)

    assert Delivery.objects.get().state == State.SKIPPED


@pytest.mark.parametrize("zone", ["Europe/Paris", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Tokyo"])
def test_a_break_is_told_the_day_before_once_and_nothing_is_owed(daily: Series, reader: Reader, zone: str) -> None:
    alice = reader(zone=zone, now=SUNDAY_NOON)
    silence(daily.publication, date(2026, 11, 26), date(2026, 11, 28))

    live(MONDAY + 8 * ONE_DAY)

    told = Delivery.objects.get(subscriber=alice, way="announcement")
    assert told.local_date == date(2026, 11, 25)
    assert told.state == State.SENT
    days = [day.day for day in dates_of("d", alice.pk)]
    assert not {26, 27, 28} & set(days)
    assert {24, 25, 29, 30} <= set(days)
    subjects = Delivery.objects.filter(subscriber=alice, slot=0).order_by("local_date")
    numbers = [int(row.issue.subject[1:]) for row in subjects if row.issue]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_a_break_over_a_weekend_that_is_not_promised_is_told_on_friday(daily: Series, reader: Reader) -> None:
    Publication.objects.update(weekdays="12345")
    daily.publication.refresh_from_db()
    reader(now=SUNDAY_NOON)
    silence(daily.publication, date(2026, 11, 30), date(2026, 12, 4))

    live(MONDAY + 8 * ONE_DAY)

    told = Delivery.objects.get(way="announcement")
    assert told.local_date == date(2026, 11, 27)
    assert "7 décembre" in told.issue.body if told.issue else False


def test_a_break_is_said_on_the_pages(client: Client, page: OptInPage, daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    silence(daily.publication, date(2026, 11, 26), date(2026, 11, 28))

    with time_machine.travel(MONDAY, tick=False):
        for url in ("/pas/", f"/reader/{seal(Purpose.READER, alice.pk)}/"):
            text = client.get(url).content.decode()
            assert "26 novembre" in text
            assert "28 novembre" in text
    with time_machine.travel(MONDAY + 10 * ONE_DAY, tick=False):
        assert "26 novembre" not in client.get("/pas/").content.decode()


def change(publication: Publication, first: date, weekdays: str, hour: time = time(7)) -> PromiseChange:
    return PromiseChange(
        publication=publication, first=first, weekdays=weekdays, hour=hour, late_until=time(22), announced_at=None
    )


@pytest.mark.parametrize("zone", ["Europe/Paris", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_another_hour_begins_on_its_date_in_each_zone(daily: Series, reader: Reader, zone: str) -> None:
    alice = reader(zone=zone, now=SUNDAY_NOON)
    notices.save_change(change(daily.publication, date(2026, 11, 26), "1234567", time(18, 30)), SUNDAY_NOON)

    live(MONDAY + 6 * ONE_DAY)

    rows = Delivery.objects.filter(subscriber=alice, slot=0).order_by("local_date")
    hours = {row.local_date: row.due_at.astimezone(zone_of(zone)).time() for row in rows}
    assert list(hours) == [min(hours) + n * ONE_DAY for n in range(len(hours))]
    assert {hour for day, hour in hours.items() if day < date(2026, 11, 26)} == {time(7)}
    assert {hour for day, hour in hours.items() if day >= date(2026, 11, 26)} == {time(18, 30)}
    daily.publication.refresh_from_db()
    assert daily.publication.hour == time(18, 30)
    assert PromiseChange.objects.get().applied_at is not None


def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def test_fewer_days_begin_on_their_date(daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    notices.save_change(change(daily.publication, date(2026, 11, 26), "15"), SUNDAY_NOON)

    live(MONDAY + 14 * ONE_DAY)

    assert [day.day for day in dates_of("d", alice.pk)] == [23, 24, 25, 27, 30, 4, 7]
    assert not Delivery.objects.filter(way="announcement")


def test_more_days_are_told_a_week_ahead_and_a_reader_may_keep_the_pace(
    client: Client, daily: Series, reader: Reader
) -> None:
    Publication.objects.update(weekdays="15")
    daily.publication.refresh_from_db()
    alice, bob = reader(now=SUNDAY_NOON), reader("bob@example.com", now=SUNDAY_NOON)
    notices.save_change(change(daily.publication, date(2026, 12, 2), "1234567"), SUNDAY_NOON)

    live(MONDAY + 2 * ONE_DAY)
    told = Delivery.objects.filter(way="announcement")
    assert {row.subscriber_id for row in told} == {alice.pk, bob.pk}
    assert all(row.due_at <= datetime(2026, 11, 25, 6, tzinfo=UTC) for row in told)
    with time_machine.travel(MONDAY + 3 * ONE_DAY, tick=False):
        url = f"/reader/{seal(Purpose.READER, bob.pk)}/"
        assert 'name="keep"' in client.get(url).content.decode()
        client.get(url + "?keep=")
        bob.refresh_from_db()
        assert bob.weekdays == ""
        client.post(url, {"keep": ""})
        assert 'name="keep"' not in client.get(url).content.decode()
    live(MONDAY + 14 * ONE_DAY)

    assert [day.day for day in dates_of("d", alice.pk)] == [23, 27, 30, 2, 3, 4, 5, 6, 7]
    assert [day.day for day in dates_of("d", bob.pk)] == [23, 27, 30, 4, 7]
    assert Delivery.objects.filter(way="announcement").count() == 2


def test_a_change_taken_back_leaves_the_promise_as_it_was(daily: Series, reader: Reader) -> None:
    Publication.objects.update(weekdays="1")
    daily.publication.refresh_from_db()
    alice = reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    row = change(daily.publication, date(2026, 11, 25), "13", time(9))
    notices.save_change(row, MONDAY)
    assert Clock.objects.get(zone="Europe/Paris").next_at == datetime(2026, 11, 25, 8, tzinfo=UTC)

    notices.drop_change(row, MONDAY + timedelta(hours=1))

    assert Clock.objects.get(zone="Europe/Paris").next_at == datetime(2026, 11, 30, 6, tzinfo=UTC)
    assert dates_of("d", alice.pk) == [date(2026, 11, 23)]


def test_what_is_too_soon_is_refused(daily: Series) -> None:
    Publication.objects.update(weekdays="15")
    daily.publication.refresh_from_db()

    with time_machine.travel(MONDAY, tick=False):
        for wrong in (
            change(daily.publication, date(2026, 11, 29), "1234567"),
            change(daily.publication, date(2026, 11, 23), "1"),
            Break(publication=daily.publication, kind="silence", first=date(2026, 11, 23), last=date(2026, 11, 30)),
        ):
            with pytest.raises(ValidationError) as refused:
                wrong.full_clean()
            assert "first" in refused.value.message_dict
        change(daily.publication, date(2026, 11, 30), "1234567").full_clean()
        change(daily.publication, date(2026, 11, 24), "1", time(9)).full_clean()
        Break(publication=daily.publication, first=date(2026, 11, 23), last=date(2026, 11, 30)).full_clean()


@pytest.mark.parametrize(
    ("zone", "last_call"),
    # The eve ends at 22:00 where the readers live; further west than the author they are told later than in Paris.
    [
        ("Europe/Paris", datetime(2026, 11, 23, 21, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 23, 23, tzinfo=UTC)),
    ],
)
def test_a_break_that_can_no_longer_be_told_ahead_is_refused(
    daily: Series, reader: Reader, zone: str, last_call: datetime
) -> None:
    alice = reader(zone=zone, now=SUNDAY_NOON)
    rest = Break(publication=daily.publication, kind="silence", first=date(2026, 11, 24), last=date(2026, 11, 26))

    with time_machine.travel(last_call - timedelta(minutes=1), tick=False):
        rest.full_clean()
    with time_machine.travel(last_call, tick=False):
        with pytest.raises(ValidationError) as refused:
            rest.full_clean()
        alice.leave(last_call)
        if clock.local_date(last_call, "Europe/Paris") < rest.first:
            rest.full_clean()

    assert list(refused.value.message_dict) == ["first"]


def test_a_break_after_a_break_is_told_within_it(daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    silence(daily.publication, date(2026, 11, 24), date(2026, 11, 25))
    live(MONDAY + timedelta(hours=1))
    more = Break(publication=daily.publication, kind="silence", first=date(2026, 11, 26), last=date(2026, 11, 27))

    with time_machine.travel(MONDAY + ONE_DAY, tick=False):
        more.full_clean()
        more.save()
    live(MONDAY + 4 * ONE_DAY)

    told = Delivery.objects.filter(subscriber=alice, way="announcement").order_by("due_at")
    assert [row.local_date.day for row in told] == [23, 25]
