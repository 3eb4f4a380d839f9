"""What the next days bring one reader: the same as what is really sent when they come."""

from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from newsletters import notices, planning, sending, timeline
from newsletters.links import Purpose
from newsletters.models import Break, Clock, Delivery, Entry, Issue, Publication, Series, Subscriber, Text
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.test_pace import door

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def fill(series: Series, letter: str, number: int) -> Series:
    for count in range(1, number + 1):
        subject = f"{letter}{count}"
        issue = Issue.objects.create(
            publication=series.publication, subject=subject, body=subject, state=Issue.State.QUEUED, public_id=subject
        )
        issue.texts.add(Text.objects.create(publication=series.publication))
        series.append(issue)
    Entry.objects.update(added_at=SUNDAY_NOON - ONE_DAY)
    return series


@pytest.fixture
def stock(publication: Publication) -> Publication:
    """Ten steps of a sequence, fourteen daily issues, three in the reserve; one text stands twice, one is pinned."""
    sequence = Series.objects.create(publication=publication, name="Accueil", slug="accueil", welcome=True)
    queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    fill(sequence, "s", 10)
    fill(queue, "d", 14)
    fill(reserve, "r", 3)
    Issue.objects.get(subject="r2").texts.set(Issue.objects.get(subject="s2").texts.all())
    Issue.objects.get(subject="d13").texts.set(Issue.objects.get(subject="s3").texts.all())
    Issue.objects.filter(subject__in=["s4", "d4"]).update(state=Issue.State.DRAFT)
    queue.entries.filter(issue__subject="d9").update(pinned_date=date(2026, 12, 2))
    Break.objects.create(publication=publication, kind="silence", first=date(2026, 12, 4), last=date(2026, 12, 5))
    Break.objects.create(publication=publication, kind="reserve", first=date(2026, 12, 7), last=date(2026, 12, 7))
    return publication


def live(until: datetime) -> None:
    """Let each hour strike, with the real planner and the real senders."""
    while (now := Clock.objects.earliest("next_at").next_at) <= until:
        notices.tick(now)
        planning.tick(now)
        sending.sweep(now)
        while sending.drain(partial(datetime.fromtimestamp, now.timestamp(), UTC)):
            pass


def really(reader: Subscriber, since: date) -> list[tuple[date, str, tuple[str, ...]]]:
    """Return (date, why, subjects) of each row of a reader."""
    rows = Delivery.objects.filter(subscriber=reader, local_date__gte=since, slot=0).order_by("local_date")
    found = []
    for row in rows.select_related("issue"):
        why = {"moved": "moved", "dry": "dry"}.get(row.reason, row.way)
        issues = row.issue.digest_of.split(",") if row.way == "digest" else [row.issue_id]
        subjects = tuple(Issue.objects.get(pk=int(pk)).subject for pk in issues if pk and why != "moved")
        found.append((row.local_date, why, subjects))
    return found


def foreseen(days: list[timeline.Ahead]) -> list[tuple[date, str, tuple[str, ...]]]:
    without_row = {timeline.PAUSED, timeline.REST, timeline.NOT_ASKED}
    return [
        (day.date, day.why, tuple(issue.subject for issue in day.issues)) for day in days if day.why not in without_row
    ]


@pytest.mark.timeout(300)
def test_a_timeline_is_what_the_next_thirty_days_really_send(
    client: Client, stock: Publication, reader: Reader
) -> None:
    begin = SUNDAY_NOON - timedelta(hours=5)
    readers = {
        "sequence": reader("sequence@example.com", now=begin, zone="America/Montreal"),
        "daily": reader("daily@example.com", now=begin),
        "reserve": reader("reserve@example.com", now=begin, zone="Asia/Tokyo"),
        "paused": reader("paused@example.com", now=begin),
        "digest": reader("digest@example.com", now=begin, digest_on=3),
        "weekly": reader("weekly@example.com", now=begin, digest_on=6, zone="Pacific/Auckland"),
        "back": reader("back@example.com", now=begin, digest_on=7),
        "twice": reader("twice@example.com", now=begin, weekdays="25"),
        "moved": reader("moved@example.com", now=begin, zone="Pacific/Honolulu"),
    }
    Series.objects.get(slug="accueil").walks.filter(
        subscriber__in=[readers[name] for name in ("daily", "reserve", "weekly", "back", "moved")]
    ).delete()
    evening = MONDAY + 2 * ONE_DAY + timedelta(hours=11, minutes=30)
    live(evening)
    readers["paused"].pause(date(2026, 12, 9), evening)
    pace = {"save": "", "zone": "Europe/Paris", "until": "", "pace": "daily", "weekday": "7"}
    client.post(door(Purpose.READER, readers["back"]), pace)
    readers["moved"].move("Pacific/Auckland", evening)
    for one in readers.values():
        one.refresh_from_db()

    ahead = {name: timeline.days(one, evening) for name, one in readers.items()}
    before = {name: len(really(one, date(2026, 1, 1))) for name, one in readers.items()}
    live(evening + 32 * ONE_DAY)

    for name, one in readers.items():
        sent = [row for row in really(one, date(2026, 1, 1))[before[name] :] if row[0] <= ahead[name][-1].date]
        assert foreseen(ahead[name]) == sent, name
    assert foreseen(ahead["back"])[0][1] == "digest"
    whys = {day.why for days in ahead.values() for day in days}
    assert whys == {"sequence", "daily", "reserve", "digest", "dry", "paused", "rest", "moved", "not asked"}


@pytest.mark.timeout(300)
def test_a_timeline_knows_of_a_promise_that_will_change(
    admin_client: Client, stock: Publication, reader: Reader
) -> None:
    begin = SUNDAY_NOON - timedelta(hours=5)
    readers = {
        "daily": reader("daily@example.com", now=begin),
        "digest": reader("digest@example.com", now=begin, digest_on=7),
        "tokyo": reader("tokyo@example.com", now=begin, digest_on=6, zone="Asia/Tokyo"),
        "kiritimati": reader("kiritimati@example.com", now=begin, digest_on=7, zone="Pacific/Kiritimati"),
        "honolulu": reader("honolulu@example.com", now=begin, digest_on=7, zone="Pacific/Honolulu"),
        "weekend": reader("weekend@example.com", now=begin, weekdays="67"),
        "east": reader("east@example.com", now=begin, weekdays="67", zone="Pacific/Kiritimati"),
    }
    change = {"publication": stock.pk, "first": "2026-12-09", "hour": "20:00", "weekdays": "135", "late_until": "22:00"}
    with time_machine.travel(SUNDAY_NOON, tick=False):
        page = admin_client.post(reverse("admin:newsletters_promisechange_add"), change)
    assert page.status_code == 302
    evening = MONDAY + timedelta(hours=12)
    live(evening)
    for one in readers.values():
        one.refresh_from_db()

    ahead = {name: timeline.days(one, evening, 20) for name, one in readers.items()}
    before = {name: len(really(one, date(2026, 1, 1))) for name, one in readers.items()}
    live(evening + 32 * ONE_DAY)

    for name, one in readers.items():
        sent = [row for row in really(one, date(2026, 1, 1))[before[name] :] if row[0] <= ahead[name][-1].date]
        assert foreseen(ahead[name]) == sent, name
        assert sent[-1][0] > date(2026, 12, 13), name


def test_it_says_where_in_the_sequence_a_reader_stands(stock: Publication, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(MONDAY + timedelta(hours=1))

    days = timeline.days(alice, MONDAY + timedelta(hours=1), 12)

    assert [(day.why, day.number, day.total) for day in days[:2]] == [("sequence", 2, 9), ("sequence", 3, 9)]
    assert days[0].local.isoformat() == "2026-11-24T07:00:00+01:00"
    assert days[0].issue == Issue.objects.get(subject="s2")


def test_what_is_on_its_way_counts_as_had(stock: Publication, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    planning.tick(MONDAY)
    assert Delivery.objects.get(subscriber=alice).state == State.PLANNED

    days = timeline.days(alice, MONDAY + timedelta(minutes=1), 2)

    assert [day.issue and day.issue.subject for day in days] == ["s2", "s3"]


def test_whoever_left_has_nothing_to_come(stock: Publication, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    alice.leave(MONDAY)

    assert timeline.days(alice, MONDAY) == []
    assert timeline.days(reader("bob@example.com", start=False), MONDAY) == []


def test_a_timeline_writes_nothing(stock: Publication, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, digest_on=2)
    live(MONDAY + timedelta(hours=1))
    counts = {model: model._default_manager.count() for model in (Delivery, Issue, Entry, Subscriber)}

    with CaptureQueriesContext(connection) as queries:
        days = timeline.days(alice, MONDAY + timedelta(hours=1))

    assert len(days) == 30
    verbs = {query["sql"].lstrip().split()[0].upper() for query in queries}
    assert verbs <= {"SELECT", "WITH"}
    assert not any(word in query["sql"].upper() for query in queries for word in ("INSERT ", "UPDATE ", "DELETE "))
    assert counts == {model: model._default_manager.count() for model in counts}
