"""How far a reader has come in a sequence, whatever became of the emails, and where several are walked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from newsletters import addresses, planning, sending, stuck
from newsletters.bounces import policy
from newsletters.bounces.origin import Origin
from newsletters.models import Bounce, Delivery, Issue, Publication, Series, Subscriber, Walk
from newsletters.models.outgoing import State
from optin import confirmation
from optin.guard import Asker
from optin.models import OptInPage
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
ONE_DAY = timedelta(days=1)
EVENING = timedelta(hours=16)


def make_sequence(publication: Publication, letter: str, count: int, *, welcome: bool = False) -> Series:
    series = Series.objects.create(publication=publication, name=letter, slug=letter, welcome=welcome)
    for number in range(1, count + 1):
        series.append(make_issue(publication, f"{letter}{number}"))
    return series


@pytest.fixture
def sequence(publication: Publication) -> Series:
    return make_sequence(publication, "s", 3, welcome=True)


def live(first: int, last: int) -> None:
    """Let the hours of these days strike, counted from Monday, and send what they plan."""
    for day in range(first, last + 1):
        now = MONDAY + day * ONE_DAY
        sending.sweep(now)
        planning.tick(now)
        sending.drain(lambda: now)  # noqa: B023 - called before the next turn


def came(subscriber: Subscriber) -> list[str]:
    """Return what a reader's rows of one date after another hold; a digest stands as "s1+s2"."""
    rows = Delivery.objects.filter(subscriber=subscriber, slot=0).order_by("local_date").select_related("issue")
    return [holds(row.issue) if row.issue else row.reason for row in rows]


def holds(issue: Issue) -> str:
    keys = [int(pk) for pk in issue.digest_of.split(",")] if issue.digest_of else [issue.pk]
    subjects = Issue.objects.in_bulk(keys)
    return "+".join(subjects[pk].subject for pk in keys)


def latest(subscriber: Subscriber) -> Delivery:
    found: Delivery = Delivery.objects.filter(subscriber=subscriber).latest("local_date")
    return found


def doubt(row: Delivery) -> Delivery:
    Delivery.objects.filter(pk=row.pk).update(state=State.UNCERTAIN)
    row.refresh_from_db()
    return row


def test_a_step_lost_in_doubt_is_owed_the_next_day(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(0, 1)

    stuck.again([doubt(latest(alice))], MONDAY + ONE_DAY + EVENING)
    live(2, 3)

    assert came(alice) == ["s1", "s2", "s2", "s3"]


def test_a_step_that_was_to_go_again_and_came_too_late_is_owed(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(0, 0)

    stuck.again([doubt(latest(alice))], MONDAY + timedelta(hours=2))
    live(1, 2)

    assert came(alice) == ["s1", "s1", "s2"]


def bounce(row: Delivery, now: datetime) -> None:
    origin = Origin(row, row.subscriber)
    policy.record(policy.Event(Bounce.Kind.SOFT, origin, Bounce.Door.LOG, f"{row}", "4.2.2", "full"), now)


def test_the_last_step_that_comes_back_days_later_is_owed(sequence: Series, reader: Reader) -> None:
    queue = Series.objects.create(publication=sequence.publication, kind="daily", name="File", slug="file")
    for number in range(1, 7):
        queue.append(make_issue(sequence.publication, f"d{number}"))
    alice = reader(now=SUNDAY_NOON)
    live(0, 4)
    assert Walk.objects.get().ended_at

    bounce(Delivery.objects.get(subscriber=alice, issue__subject="s3"), MONDAY + 4 * ONE_DAY + EVENING)
    live(5, 6)

    assert came(alice) == ["s1", "s2", "s3", "d4", "d5", "s3", "dry"]
    assert came(alice).count("s3") == 2


def test_a_digest_moves_a_walk_on(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON, digest_on=1)
    live(0, 0)
    assert Walk.objects.get().reached == sequence.entries.get(issue__subject="s3").rank

    # Behind her, as she has had all of it: not owed. Ahead of her: owed.
    sequence.insert(make_issue(sequence.publication, "behind"), sequence.entries.get(issue__subject="s2"))
    sequence.append(make_issue(sequence.publication, "ahead"))
    alice.receive_daily()
    live(1, 2)

    assert came(alice) == ["s1+s2+s3", "ahead", "dry"]


def test_what_a_lost_digest_held_is_owed(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(0, 0)
    alice.receive_weekly(2)
    live(1, 1)
    assert came(alice) == ["s1", "s2+s3"]

    stuck.again([doubt(latest(alice))], MONDAY + ONE_DAY + EVENING)
    alice.receive_daily()
    live(2, 3)

    assert came(alice) == ["s1", "s2+s3", "s2", "s3"]


def test_an_erased_reader_is_owed_nothing(sequence: Series, reader: Reader) -> None:
    alice = reader(now=SUNDAY_NOON)
    live(0, 0)
    row = doubt(latest(alice))
    alice.delete()

    stuck.again([row], MONDAY + EVENING)

    row.refresh_from_db()
    assert (row.state, row.reason) == (State.FAILED, "lost")


def confirm(page: OptInPage, email: str, now: datetime) -> Any:
    asker = Asker("", "", "")
    return confirmation.ask(
        page, addresses.normalise(email), "Oui.", "/", asker, now, first_name="", zone="Europe/Paris"
    )


def test_a_second_page_starts_its_own_sequence_after_the_first(
    publication: Publication, page: OptInPage, sequence: Series
) -> None:
    other = OptInPage.objects.create(
        publication=publication, slug="autre", headline="Autre", series=make_sequence(publication, "t", 2)
    )
    asked = [confirm(one, "alice@example.com", SUNDAY_NOON) for one in (page, other, other)]

    for request in asked:
        assert confirmation.confirm(request.pk, "/", Asker("", "", ""), SUNDAY_NOON)
    live(0, 5)

    assert came(Subscriber.objects.get()) == ["s1", "s2", "s3", "t1", "t2", "dry"]
    assert Walk.objects.count() == 2


@pytest.mark.parametrize(
    ("choice", "after"), [("again", ["s1", "s2"]), ("resume", ["s3", "dry"])], ids=["again", "resume"]
)
def test_the_publication_chooses_how_a_reader_comes_back(
    client: Client, publication: Publication, sequence: Series, reader: Reader, choice: str, after: list[str]
) -> None:
    from tests.test_admin import publication_form

    client.force_login(User.objects.create_superuser("root", password="x"))
    url = reverse("admin:newsletters_publication_change", args=[publication.pk])
    assert client.post(url, publication_form(publication, returning=choice)).status_code == 302
    alice = reader(now=SUNDAY_NOON)
    live(0, 1)
    alice.leave(MONDAY + ONE_DAY + EVENING)
    live(2, 2)

    back = Subscriber.objects.get()
    with time_machine.travel(MONDAY + 2 * ONE_DAY + EVENING, tick=False):
        back.start(MONDAY + 2 * ONE_DAY + EVENING, sequence)
    live(3, 4)

    assert came(alice) == ["s1", "s2", *after]
