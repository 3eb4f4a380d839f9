"""The author stops a send, looks who has it, and decides; real workers obey within a group."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from newsletters import alarms, halt, invariants, planning, promise, sending
from newsletters.models import Alarm, Day, Delivery, Halt, Issue, Publication, Series, Subscriber
from newsletters.models.outgoing import State
from newsletters.transports import Message, Outcome, connect
from tests.conftest import Reader
from tests.servers import MailServer
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY = MONDAY - timedelta(hours=18)
EVENING = MONDAY + timedelta(hours=16)


@pytest.fixture(autouse=True)
def mail_url(settings: Any, smtp: MailServer) -> None:
    settings.MAIL_URL = smtp.url


@pytest.fixture
def queue(publication: Publication) -> Series:
    queue = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for name in ("d1", "d2", "d3"):
        queue.append(make_issue(publication, name))
    return queue


@pytest.fixture
def planned(queue: Series, reader: Reader) -> Callable[..., Issue]:
    """Plan Monday's issue for a number of readers."""

    def make(count: int) -> Issue:
        for number in range(count):
            reader(f"reader{number}@example.com", now=SUNDAY)
        promise.tick(MONDAY, planning.tick(MONDAY))
        return Issue.objects.get(subject="d1")

    return make


def drain(now: datetime = MONDAY) -> dict[str, int]:
    return dict(sending.drain(lambda: now))


def ends() -> dict[tuple[str, str], int]:
    rows = [(row.state, row.reason) for row in Delivery.objects.all()]
    return {end: rows.count(end) for end in set(rows)}


def some_have_it(smtp: MailServer, *names: int) -> None:
    """Let only these readers' mails through, the others are put off."""
    for number in range(10):
        if number not in names:
            smtp.replies[f"reader{number}@example.com"] = "450 4.2.0 later"
    drain()
    smtp.replies.clear()


class Stopper:
    """A way out on which the author stops the send after a number of messages."""

    group = 5

    def __init__(self, url: str, issue: Issue, after: int) -> None:
        self.inner, self.issue, self.after = connect(url), issue, after
        self.staged: list[Any] = []
        self.sent = 0

    def stage(self, message: Message) -> Outcome | None:
        self.staged.append(message.key)
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        gone, self.staged = [key for key in self.staged if key in keys], []
        self.sent += len(gone)
        if self.sent >= self.after:
            halt.stop(self.issue, MONDAY)
        return {key: Outcome(State.SENT) for key in gone}

    def close(self) -> None:
        self.inner.close()


# Stopping


def test_a_worker_in_the_middle_of_a_batch_stops_at_its_next_group(planned: Any, smtp: MailServer) -> None:
    issue = planned(30)
    ways: list[Stopper] = []

    def way_out(url: str) -> Stopper:
        ways.append(Stopper(url, issue, 10))
        return ways[-1]

    ended = sending.drain(lambda: MONDAY, way_out=way_out)

    assert ended["sent"] == 10
    assert ends() == {(State.SENT, ""): 10, (State.PLANNED, ""): 20}
    assert not Delivery.objects.filter(state=State.PLANNED).exclude(owner=None).exists()
    assert drain() == {}


def test_it_says_who_has_it_and_who_has_not(planned: Any, smtp: MailServer) -> None:
    issue = planned(6)
    some_have_it(smtp, 0, 1)

    halt.stop(issue, MONDAY)

    assert halt.figures(issue) == {"have": 2, "waiting": 4}
    assert [row.subscriber.address for row in halt.have(issue)] == ["reader0@example.com", "reader1@example.com"]
    assert halt.have_not(issue).count() == 4


def test_stopping_twice_is_once(planned: Any) -> None:
    issue = planned(1)

    assert halt.stop(issue, MONDAY) == halt.stop(issue, MONDAY)

    assert Halt.objects.count() == 1


def test_other_issues_and_letters_go_on(planned: Any, publication: Publication, reader: Reader) -> None:
    issue = planned(2)
    other = make_issue(publication, "autre")
    Delivery.objects.filter(subscriber_id=Subscriber.objects.latest("pk").pk).update(issue=other)

    halt.stop(issue, MONDAY)

    assert drain() == {"sent": 1}


def test_it_holds_for_zones_whose_hour_is_to_come(planned: Any, reader: Reader) -> None:
    reader("tahiti@example.com", zone="Pacific/Tahiti", now=MONDAY - timedelta(hours=6))
    issue = planned(1)
    halt.stop(issue, MONDAY)

    evening = MONDAY + timedelta(hours=11)
    planning.tick(evening)

    assert ends() == {(State.PLANNED, ""): 2}
    assert drain(evening) == {}


def test_a_stop_nobody_decides_on_ends_as_one(planned: Any) -> None:
    issue = planned(2)
    halt.stop(issue, MONDAY)

    sending.sweep(EVENING)

    assert ends() == {(State.MISSED, "stopped"): 2}


def test_nobody_is_alarmed_by_what_the_author_did(planned: Any) -> None:
    issue = planned(5)
    halt.stop(issue, MONDAY)

    for minutes in (11, 61):
        now = MONDAY + timedelta(minutes=minutes)
        promise.tick(now)
        alarms.tick(now)
        alarms.look_back(now)

    assert not Alarm.objects.exists()


# Going on


def test_it_goes_on_in_the_new_words(planned: Any, smtp: MailServer) -> None:
    issue = planned(4)
    some_have_it(smtp, 0)
    stopped = halt.stop(issue, MONDAY)
    Issue.objects.filter(pk=issue.pk).update(subject="d1, corrigé")
    Delivery.objects.filter(state=State.RETRY).update(try_at=MONDAY)

    assert halt.go_on(stopped, MONDAY)
    assert not halt.go_on(stopped, MONDAY)
    assert drain(MONDAY + halt.NOTICED) == {"sent": 3}

    assert [one["Subject"] for one in smtp.messages] == ["d1", *["d1, corrigé"] * 3]


def test_what_was_staged_before_the_stop_never_goes_in_its_old_words(planned: Any, smtp: MailServer) -> None:
    issue = planned(1)
    rows, owner = Delivery.objects.filter(issue=issue), uuid.uuid4()
    [held] = rows.lease(10, MONDAY, owner)

    halt.go_on(halt.stop(issue, MONDAY), MONDAY)

    assert rows.hand_off([held.pk], owner, MONDAY) == set()
    # Nobody takes it again before every worker has noticed.
    assert drain() == {}
    assert drain(MONDAY + halt.NOTICED) == {"sent": 1}


# Another issue instead


def test_those_without_it_get_the_other_one(planned: Any, smtp: MailServer, publication: Publication) -> None:
    issue = planned(4)
    some_have_it(smtp, 0)
    other = make_issue(publication, "remplaçant", state=Issue.State.DRAFT)

    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)
    assert drain(MONDAY + halt.NOTICED) == {"sent": 3}

    assert [one["Subject"] for one in smtp.messages] == ["d1", *["remplaçant"] * 3]
    assert Delivery.objects.count() == 4
    assert Day.objects.get().issue == other
    assert list(
        Issue.objects.filter(subject__in=["d1", "remplaçant"]).order_by("pk").values_list("state", flat=True)
    ) == [
        Issue.State.DRAFT,
        Issue.State.QUEUED,
    ]
    assert not list(invariants.standing(publication, MONDAY.date(), MONDAY))


def test_what_a_clock_ahead_had_planned_waits_for_its_hour_with_the_other_one_too(
    planned: Any, smtp: MailServer, publication: Publication
) -> None:
    issue, hour = planned(2), MONDAY + timedelta(hours=1)
    Delivery.objects.update(due_at=hour, try_at=hour)
    other = make_issue(publication, "remplaçant", state=Issue.State.DRAFT)

    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)

    assert drain(hour - timedelta(seconds=1)) == {}
    assert drain(hour) == {"sent": 2}


def test_whoever_had_the_other_one_is_not_given_it_again(
    planned: Any, smtp: MailServer, publication: Publication
) -> None:
    other = make_issue(publication, "remplaçant")
    issue = planned(3)
    alice = Subscriber.objects.get(address="reader0@example.com")
    Subscriber.objects.filter(pk=alice.pk).update(member_since=MONDAY - timedelta(days=9))
    past = Delivery.objects.get(subscriber_id=alice.pk)
    past.local_date, past.issue, past.state = MONDAY.date() - timedelta(days=3), other, State.SENT
    past.due_at = past.handoff_at = MONDAY - timedelta(days=3)
    past.save(force_insert=True)

    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)
    drain(MONDAY + halt.NOTICED)

    today = Delivery.objects.filter(local_date=MONDAY.date())
    assert today.get(subscriber_id=alice.pk).reason == "stopped"
    assert today.filter(state=State.SENT, issue=other).count() == 2
    assert not list(invariants.standing(publication, MONDAY.date(), MONDAY))


def test_zones_to_come_get_the_other_one_too(planned: Any, reader: Reader, publication: Publication) -> None:
    reader("tahiti@example.com", zone="Pacific/Tahiti", now=MONDAY - timedelta(hours=6))
    issue = planned(1)
    other = make_issue(publication, "remplaçant")
    halt.instead(halt.stop(issue, MONDAY), other, MONDAY)

    planning.tick(MONDAY + timedelta(hours=11))

    assert set(Delivery.objects.values_list("issue__subject", flat=True)) == {"remplaçant"}


def test_an_issue_with_a_date_of_its_own_stands_in_for_none(planned: Any, publication: Publication) -> None:
    issue = planned(1)
    other = make_issue(publication, "hier")
    Day.objects.create(publication=publication, date=SUNDAY.date(), issue=other, fixed_at=SUNDAY)
    stopped = halt.stop(issue, MONDAY)

    for wrong in (other, issue):
        with pytest.raises(halt.CannotDecide):
            halt.instead(stopped, wrong, MONDAY)

    assert Halt.objects.standing().count() == 1
    assert ends() == {(State.PLANNED, ""): 1}


# Leaving it


def test_left_it_is_in_the_ledger_as_stopped_by_the_author(
    planned: Any, smtp: MailServer, publication: Publication
) -> None:
    issue = planned(3)
    some_have_it(smtp, 0)

    halt.leave(halt.stop(issue, MONDAY), MONDAY)
    sending.sweep(EVENING)
    promise.tick(EVENING)
    promise.close(EVENING + timedelta(days=1))

    day = Day.objects.get()
    assert (day.missed, day.on_time, day.kept) == ({"stopped": 2}, 1, False)
    issue.refresh_from_db()
    assert issue.state == Issue.State.DRAFT


def test_what_was_left_is_owed_another_day(planned: Any, smtp: MailServer) -> None:
    issue = planned(2)
    some_have_it(smtp, 0)
    halt.leave(halt.stop(issue, MONDAY), MONDAY)

    planning.tick(MONDAY + timedelta(days=1))

    tuesday = Delivery.objects.filter(local_date=MONDAY.date() + timedelta(days=1))
    assert set(tuesday.values_list("issue__subject", flat=True)) == {"d2"}
