"""Less, not never: every day, once a week, days of one's own, or a pause, without a hole and without a repetition."""

import random
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

import pytest
import time_machine
from django.db.models import Min
from django.test import Client
from django.urls import reverse

from newsletters import digests, pace, planning
from newsletters.links import Purpose, seal
from newsletters.models import Break, Clock, Delivery, Issue, Publication, Series, Subscriber, Text
from newsletters.models.outgoing import HAD, State
from tests.conftest import Reader
from tests.test_admin import publication_form

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
FROM, UNTIL = date(2026, 11, 23), date(2026, 12, 28)


def make_issue(publication: Publication, subject: str, **columns: str) -> Issue:
    columns = {"body": f"Texte {subject}", "state": Issue.State.QUEUED, "public_id": subject} | columns
    issue = Issue.objects.create(publication=publication, subject=subject, **columns)
    issue.texts.add(Text.objects.create(publication=publication))
    return issue


def make_series(publication: Publication, kind: str, letter: str, count: int) -> Series:
    series = Series.objects.create(
        publication=publication, kind=kind, name=kind, slug=kind, welcome=kind == Series.Kind.SEQUENCE
    )
    for number in range(1, count + 1):
        series.append(make_issue(publication, f"{letter}{number}"))
    return series


@pytest.fixture
def daily(publication: Publication) -> Series:
    return make_series(publication, Series.Kind.DAILY, "d", 60)


def send_all() -> None:
    for row in Delivery.objects.filter(state=State.PLANNED):
        Delivery.objects.filter(pk=row.pk).update(state=State.SENT, handoff_at=row.due_at, settled_at=row.due_at)


def walk(last: date) -> None:
    """Let every clock strike, one after another, until the end of a date."""
    end = datetime.combine(last, time.max, tzinfo=UTC)
    while (at := Clock.objects.aggregate(at=Min("next_at"))["at"]) <= end:
        planning.tick(at)
        send_all()


def gathered(issue: Issue | None) -> list[str]:
    """Return the subjects of what an email holds."""
    if issue is None:
        return []
    if issue.kind != Issue.Kind.DIGEST:
        return [issue.subject]
    order = [int(pk) for pk in issue.digest_of.split(",")]
    subjects = dict(Issue.objects.filter(pk__in=order).values_list("pk", "subject"))
    return [subjects[pk] for pk in order]


def had(subscriber: Subscriber) -> list[tuple[date, list[str]]]:
    rows = Delivery.objects.filter(subscriber=subscriber, state__in=HAD).order_by("local_date").select_related("issue")
    return [(row.local_date, gathered(row.issue)) for row in rows]


def door(purpose: Purpose, subscriber: Subscriber) -> str:
    return f"/{'leave' if purpose == Purpose.LEAVE else 'reader'}/{seal(purpose, subscriber.pk)}/"


@pytest.mark.parametrize("zone", ["Europe/Paris", "Asia/Tokyo", "Pacific/Honolulu", "Pacific/Kiritimati"])
def test_a_week_comes_in_one_email_wherever_one_lives(daily: Series, reader: Reader, zone: str) -> None:
    weekly = reader(zone=zone, now=SUNDAY_NOON - timedelta(days=7))
    reader("maud@example.com", now=SUNDAY_NOON - timedelta(days=7))
    weekly.receive_weekly(7)

    walk(date(2026, 12, 21))

    weeks = had(weekly)
    assert [day.isoweekday() for day, _ in weeks] == [7] * len(weeks)
    assert len(weeks) >= 3
    subjects = [subject for _, subjects in weeks for subject in subjects]
    assert subjects == [f"d{number}" for number in range(1, len(subjects) + 1)]


@pytest.mark.parametrize("seed", range(4))
def test_changing_ones_mind_neither_repeats_nor_leaves_holes(daily: Series, reader: Reader, seed: int) -> None:
    chance = random.Random(seed)
    zones = ["Europe/Paris", "Asia/Tokyo", "America/New_York", "Pacific/Auckland"]
    readers = [reader(f"r{n}@example.com", zone=zone, now=SUNDAY_NOON) for n, zone in enumerate(zones)]
    day = FROM
    while day < UNTIL:
        for subscriber in readers:
            subscriber.refresh_from_db()
            match chance.randrange(6):
                case 0:
                    subscriber.receive_weekly(chance.randrange(1, 8))
                case 1:
                    subscriber.receive_daily()
        stay = day + timedelta(days=chance.randrange(1, 6))
        walk(min(stay, UNTIL))
        day = stay + ONE_DAY
    for subscriber in readers:
        subscriber.receive_daily()
    walk(day + ONE_DAY)

    for subscriber in readers:
        emails = had(subscriber)
        assert max(Counter(day for day, _ in emails).values()) == 1
        subjects = [subject for _, subjects in emails for subject in subjects]
        assert len(subjects) == len(set(subjects))
        numbers = [int(subject[1:]) for subject in subjects]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_back_to_daily_in_a_sequence_goes_on_where_the_reader_stands(publication: Publication, reader: Reader) -> None:
    make_series(publication, Series.Kind.SEQUENCE, "s", 20)
    alice = reader(now=SUNDAY_NOON)
    alice.receive_weekly(3)
    walk(date(2026, 11, 27))

    alice.receive_daily()
    walk(date(2026, 11, 29))

    assert had(alice) == [
        (date(2026, 11, 25), [f"s{number}" for number in range(1, 8)]),
        (date(2026, 11, 28), ["s8"]),
        (date(2026, 11, 29), ["s9"]),
    ]


def test_one_digest_serves_all_who_are_owed_the_same(daily: Series, reader: Reader) -> None:
    for number in range(5):
        reader(f"r{number}@example.com", now=SUNDAY_NOON).receive_weekly(7)

    walk(date(2026, 11, 29))

    assert Issue.objects.filter(kind=Issue.Kind.DIGEST).count() == 1
    assert Delivery.objects.filter(way="digest").count() == 5


def test_a_digest_reads_as_one_email(publication: Publication, daily: Series) -> None:
    Publication.objects.update(greeting="Bonjour {{ prénom|à vous }},", sign_off="Maud", postscript="P.-S. À demain.")
    publication.refresh_from_db()
    pieces = [publication.greeting, "# Un titre\n\nLe texte.", publication.sign_off, publication.postscript]
    issues = [make_issue(publication, f"t{number}", body="\n\n".join(pieces)) for number in (1, 2)]

    digest = digests.gather(publication, ",".join(str(issue.pk) for issue in issues))

    assert digest.body.startswith("Bonjour {{ prénom|à vous }},\n\n## t1\n\n## Un titre\n\nLe texte.")
    assert digest.body.endswith("Maud\n\nP.-S. À demain.")
    assert [digest.body.count(word) for word in ("Bonjour", "Maud", "P.-S.")] == [1, 1, 1]
    for issue in issues:
        assert f"{publication.root}/archive/{issue.public_id}/" in digest.body


def test_an_issue_edited_before_the_digest_goes_out_is_edited_in_it(publication: Publication, daily: Series) -> None:
    first, second = publication.issues.order_by("pk")[:2]
    digests.gather(publication, f"{first.pk},{second.pk}")
    Issue.objects.filter(pk=second.pk).update(body="Une coquille de moins.")

    digest = digests.gather(publication, f"{first.pk},{second.pk}")

    digest.refresh_from_db()
    assert "coquille" in digest.body
    assert Issue.objects.filter(kind=Issue.Kind.DIGEST).count() == 1


def test_the_leave_page_offers_the_week_on_promised_days_only(client: Client, daily: Series, reader: Reader) -> None:
    Publication.objects.update(weekdays="1357")
    alice = reader(now=SUNDAY_NOON)
    with time_machine.travel(MONDAY + timedelta(hours=3), tick=False):
        page = client.get(door(Purpose.LEAVE, alice)).content.decode()
        refused = client.post(door(Purpose.LEAVE, alice), {"digest": "", "weekday": "2"})
        assert not Subscriber.objects.exclude(digest_on=None)
        done = client.post(door(Purpose.LEAVE, alice), {"digest": "", "weekday": "5"}).content.decode()

    alice.refresh_from_db()
    assert page.count("<option") == 4
    assert refused.status_code == 200
    assert (alice.digest_on, alice.status) == (5, Subscriber.Status.ACTIVE)
    assert "vendredi 27 novembre" in done


def test_the_reader_page_goes_from_daily_to_weekly_and_back(client: Client, daily: Series, reader: Reader) -> None:
    alice, url = reader(now=SUNDAY_NOON), ""
    url = door(Purpose.READER, alice)
    form = {"save": "", "zone": "Europe/Paris", "until": ""}

    with time_machine.travel(MONDAY + timedelta(hours=3), tick=False):
        client.post(url, form | {"pace": "weekly", "weekday": "6"})
        alice.refresh_from_db()
        assert (alice.digest_on, alice.catching_up) == (6, False)
        assert 'value="weekly" id="pace-weekly" checked' in client.get(url).content.decode()
        client.post(url, form | {"pace": "daily", "weekday": "6"})

    alice.refresh_from_db()
    assert alice.digest_on is None
    assert alice.catching_up


@pytest.mark.parametrize(
    "data", [{"pace": "weekly", "weekday": "9"}, {"pace": "weekly"}, {"pace": "own"}, {"pace": ""}]
)
def test_the_reader_page_refuses_what_it_does_not_offer(
    client: Client, daily: Series, reader: Reader, data: dict[str, str]
) -> None:
    alice = reader(now=SUNDAY_NOON)

    answer = client.post(door(Purpose.READER, alice), {"save": "", "zone": "Asia/Tokyo"} | data)

    alice.refresh_from_db()
    assert answer.status_code == 200
    assert (alice.digest_on, alice.zone) == (None, "Europe/Paris")


def test_looking_at_either_page_changes_nothing(client: Client, daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)

    for purpose in (Purpose.LEAVE, Purpose.READER):
        client.get(door(purpose, alice) + "?digest=&weekday=5&keep=&save=&pace=weekly")

    alice.refresh_from_db()
    assert (alice.digest_on, alice.weekdays) == (None, "")


def test_a_pause_ends_when_the_week_is_chosen(client: Client, daily: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    alice.pause(date(2027, 6, 1), MONDAY)

    client.post(door(Purpose.LEAVE, alice), {"digest": "", "weekday": "7"})

    alice.refresh_from_db()
    assert (alice.status, alice.digest_on) == (Subscriber.Status.ACTIVE, 7)


def test_the_next_date_is_the_readers_own(publication: Publication, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    assert pace.next_date(alice, MONDAY) == date(2026, 11, 24)

    alice.keep_pace("15")
    assert pace.next_date(alice, MONDAY) == date(2026, 11, 27)

    alice.receive_weekly(7)
    assert pace.next_date(alice, MONDAY) == date(2026, 11, 29)

    Break.objects.create(publication=publication, kind="silence", first=date(2026, 11, 25), last=date(2026, 12, 2))
    assert pace.next_date(alice, MONDAY) == date(2026, 12, 6)


def test_when_fewer_days_are_promised_nobody_is_left_without(publication: Publication, reader: Reader) -> None:
    weekly, own = reader("w@example.com", now=SUNDAY_NOON), reader("o@example.com", now=SUNDAY_NOON)
    weekly.receive_weekly(6)
    own.keep_pace("27")

    pace.fit(publication.subscribers.all(), "135")

    weekly.refresh_from_db()
    own.refresh_from_db()
    assert (weekly.digest_on, own.weekdays) == (1, "35")


@pytest.mark.parametrize(
    ("own", "promised", "left"), [("67", "12345", "45"), ("6", "135", "5"), ("567", "12", "12"), ("57", "12345", "57")]
)
def test_fewer_promised_days_never_mean_more_emails_than_a_reader_chose(
    admin_client: Client, publication: Publication, reader: Reader, own: str, promised: str, left: str
) -> None:
    alice = reader(now=SUNDAY_NOON)
    alice.keep_pace(own)
    url = reverse("admin:newsletters_publication_change", args=[publication.pk])

    assert admin_client.post(url, publication_form(publication, weekdays=promised)).status_code == 302

    alice.refresh_from_db()
    assert alice.weekdays == left


def test_who_starts_again_has_one_a_day_again(reader: Reader) -> None:
    alice = reader(now=datetime(2026, 3, 2, tzinfo=UTC), digest_on=7)
    alice.leave(datetime(2026, 3, 9, tzinfo=UTC))
    alice.start(datetime(2026, 6, 1, tzinfo=UTC))

    alice.refresh_from_db()
    assert (alice.status, alice.digest_on) == ("active", None)
