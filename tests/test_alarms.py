"""Alarms: raised once a cause and day, told by another way than the mail, and taken back when it is over."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from newsletters import alarms, heartbeat, planning, promise, tasks
from newsletters.models import Alarm, Delivery, Heartbeat, Issue, Publication, Rehearsal, Series
from newsletters.models.delivery import State
from tests.conftest import Reader
from tests.test_planning import make_issue

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # 7:00 in Paris
SUNDAY_NOON = datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
MINUTE, HOUR, ONE_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
THE_23RD = date(2026, 11, 23)


class Messenger(ThreadingHTTPServer):
    """A server elsewhere: it keeps what it hears, and refuses the paths it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[tuple[str, str]] = []
        self.deaf_to: set[str] = set()

    def url(self, kind: str, path: str) -> str:
        return f"{kind}://127.0.0.1:{self.server_port}{path}"


class Ear(BaseHTTPRequestHandler):
    server: Messenger

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        deaf = self.path in self.server.deaf_to
        self.server.heard.append((self.path, body))
        self.send_response(500 if deaf else 200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def messenger() -> Iterator[Messenger]:
    with Messenger() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def queue(publication: Publication) -> Series:
    Publication.objects.update(language="en")
    publication.refresh_from_db()
    series = Series.objects.create(publication=publication, kind=Series.Kind.DAILY, name="File", slug="file")
    for number in range(20):
        series.append(make_issue(publication, f"d{number}"))
    return series


@pytest.fixture
def waiting(queue: Series, reader: Reader) -> list[Delivery]:
    """Twenty readers whose hour has struck."""
    for number in range(20):
        reader(f"reader{number}@example.com", now=SUNDAY_NOON)
    promise.tick(MONDAY, planning.tick(MONDAY))
    return list(Delivery.objects.order_by("subscriber_id"))


def end(rows: list[Delivery], state: str, reason: str = "", reply: str = "") -> None:
    for row in rows:
        Delivery.objects.filter(pk=row.pk).update(state=state, reason=reason, reply=reply, settled_at=MONDAY + MINUTE)


def look(now: datetime) -> None:
    promise.tick(now)
    alarms.tick(now)
    alarms.go_round(now)


def causes() -> list[tuple[str, bool]]:
    return [(alarm.cause, alarm.cleared_at is not None) for alarm in Alarm.objects.order_by("pk")]


def test_a_sending_that_has_not_started_after_ten_minutes(waiting: list[Delivery]) -> None:
    end(waiting[:3], State.RETRY, reply="451 try later")
    look(MONDAY + 9 * MINUTE)
    early = causes()
    look(MONDAY + 10 * MINUTE)
    look(MONDAY + 11 * MINUTE)

    alarm = Alarm.objects.get()
    assert (early, causes()) == ([], [("not_started", False)])
    assert alarm.date == THE_23RD
    assert alarm.text.startswith("Today’s emails have not started.\n\n20 readers have been waiting since 7:00")
    assert "451 try later" in alarm.text
    assert "/desk/pas/#now" in alarm.text


def test_a_day_that_nobody_could_plan(publication: Publication, reader: Reader) -> None:
    reader(now=MONDAY - timedelta(hours=12))
    look(MONDAY + 9 * MINUTE)
    early = causes()
    look(MONDAY + 10 * MINUTE)

    assert early == []
    assert ("not_started", False) in causes()
    assert "1 lecteur attend depuis 7" in Alarm.objects.get(cause="not_started").text


def test_it_is_over_when_the_first_has_left(waiting: list[Delivery]) -> None:
    look(MONDAY + 10 * MINUTE)

    end(waiting[:1], State.SENT)
    look(MONDAY + 12 * MINUTE)

    assert causes() == [("not_started", True)]


def test_a_sending_that_started_raises_nothing(waiting: list[Delivery]) -> None:
    end(waiting[:1], State.HANDOFF)

    look(MONDAY + 10 * MINUTE)

    assert causes() == []


@pytest.mark.parametrize(("sent", "raised"), [(19, False), (18, True)])
def test_less_than_95_per_cent_accepted_after_an_hour(waiting: list[Delivery], sent: int, raised: bool) -> None:
    end(waiting[:sent], State.SENT)
    end(waiting[sent:], State.RETRY, reply="452 4.2.2 full")

    look(MONDAY + 59 * MINUTE)
    early = causes()
    look(MONDAY + HOUR)

    assert early == []
    assert causes() == ([("below_95", False)] if raised else [])
    if raised:
        text = Alarm.objects.get().text
        assert text.startswith("18 of 20 emails were accepted within an hour.\n\n2 wait.\n\nThe mail server said: 452")


def test_it_is_over_when_the_rest_is_accepted(waiting: list[Delivery]) -> None:
    end(waiting[:10], State.SENT)
    look(MONDAY + HOUR)

    end(waiting, State.SENT)
    look(MONDAY + 2 * HOUR)

    assert causes() == [("below_95", True)]


def test_what_readers_servers_refuse_is_not_held_against_the_day(waiting: list[Delivery]) -> None:
    end(waiting[:10], State.SENT)
    end(waiting[10:], State.FAILED, "address")

    look(MONDAY + HOUR)

    assert causes() == []


def test_a_dry_day_raises_it_too(publication: Publication, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    promise.tick(MONDAY, planning.tick(MONDAY))

    look(MONDAY + HOUR)

    assert ("below_95", False) in causes()


def run_low(publication: Publication, issues: int) -> None:
    queued = list(Issue.objects.filter(entries__series__kind=Series.Kind.DAILY).order_by("pk"))
    Issue.objects.filter(pk__in=[issue.pk for issue in queued[issues:]]).update(state=Issue.State.DRAFT)


@pytest.mark.parametrize(
    ("issues", "cause"),
    [(8, None), (7, "runway_7"), (4, "runway_7"), (3, "runway_3"), (1, "runway_1"), (0, "runway_1")],
)
def test_the_runway_falls_to_seven_three_and_one(
    publication: Publication, queue: Series, reader: Reader, issues: int, cause: str | None
) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, issues)

    alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR)

    assert causes() == ([(cause, False)] if cause else [])


def test_a_low_runway_names_what_is_at_hand(publication: Publication, queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    reader("bob@example.com", now=SUNDAY_NOON)
    run_low(publication, 3)
    Issue.objects.filter(state=Issue.State.DRAFT, subject__gt="d4").delete()
    reserve = Series.objects.create(publication=publication, kind=Series.Kind.RESERVE, name="Réserve", slug="reserve")
    reserve.append(make_issue(publication, "r1"))

    alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR)

    text = Alarm.objects.get().text
    assert text.startswith("3 days ahead are covered.\n\n2 readers run dry on Wednesday 25 November.")
    assert "drafts are not queued: “d" in text
    assert "The reserve holds 1 issue." in text
    assert text.count("/desk/pas/#todo") == 2
    assert "/desk/pas/break/" in text


def test_a_low_runway_is_told_once_a_level_and_over_when_covered(
    publication: Publication, queue: Series, reader: Reader
) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 6)
    for days in (0, 1):
        alarms.look_ahead(publication, SUNDAY_NOON - 6 * HOUR + days * ONE_DAY)
    run_low(publication, 3)
    alarms.look_ahead(publication, SUNDAY_NOON)
    low = causes()

    Issue.objects.update(state=Issue.State.QUEUED)
    alarms.look_ahead(publication, SUNDAY_NOON)

    assert low == [("runway_7", False), ("runway_3", False)]
    assert causes() == [("runway_7", True), ("runway_3", True)]


def test_the_last_level_comes_again_each_day(publication: Publication, queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 0)

    for hours in (0, 1, 24, 48):
        alarms.look_ahead(publication, SUNDAY_NOON + hours * HOUR)

    assert [alarm.date.day for alarm in Alarm.objects.order_by("date")] == [22, 23, 24]


def test_nobody_is_told_of_a_queue_that_nobody_reads(publication: Publication) -> None:
    alarms.look_ahead(publication, SUNDAY_NOON)

    assert causes() == []


def test_each_publication_has_its_turn_within_the_hour(publication: Publication, queue: Series, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    run_low(publication, 2)

    for minutes in range(0, 60, 10):
        alarms.go_round(SUNDAY_NOON + minutes * MINUTE)

    assert causes() == [("runway_3", False)]


def test_a_failed_rehearsal_and_the_one_that_passes(publication: Publication, queue: Series) -> None:
    columns = {"publication": publication, "date": THE_23RD}
    Rehearsal.objects.create(**columns, at=SUNDAY_NOON, fingerprint="a", problems=[{"kind": "leave", "what": "HTML"}])
    alarms.go_round(SUNDAY_NOON)
    failed = causes()
    text = Alarm.objects.get().text

    Rehearsal.objects.create(**columns, at=SUNDAY_NOON + MINUTE, fingerprint="b", problems=[])
    alarms.go_round(SUNDAY_NOON + 10 * MINUTE)

    assert failed == [("rehearsal", False)]
    assert "lacks the link to leave in its HTML part." in text
    assert causes() == [("rehearsal", True)]


@pytest.fixture
def alarm(publication: Publication, queue: Series) -> Callable[[], Alarm]:
    def make() -> Alarm:
        return alarms.raise_alarm(publication, "not_started", THE_23RD, "Nothing has left.\n\nLook.", MONDAY)

    return make


def test_it_is_told_to_the_author_and_the_operator_once(
    publication: Publication, alarm: Callable[[], Alarm], messenger: Messenger, settings: Any
) -> None:
    publication.alert_urls = messenger.url("json", "/author")
    publication.save()
    settings.ALERT_URLS = [messenger.url("json", "/operator")]
    alarm()
    alarm()

    alarms.tell(MONDAY)
    alarms.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/author", "/operator"]
    message = json.loads(messenger.heard[0][1])
    assert (message["title"], message["message"]) == ("Le pas du jour: Nothing has left.", "Look.")
    assert Alarm.objects.get().told_at == MONDAY


def test_a_destination_that_fails_is_tried_again_and_only_that_one(
    publication: Publication, alarm: Callable[[], Alarm], messenger: Messenger
) -> None:
    publication.alert_urls = messenger.url("json", "/good") + "\n" + messenger.url("json", "/bad")
    publication.save()
    messenger.deaf_to = {"/bad"}
    alarm()

    alarms.tell(MONDAY)
    half_told = Alarm.objects.get().told_at
    messenger.deaf_to = set()
    alarms.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/good", "/bad", "/bad"]
    assert (half_told, Alarm.objects.get().told_at) == (None, MONDAY + MINUTE)


def test_whoever_heard_of_it_hears_that_it_is_over(
    publication: Publication, alarm: Callable[[], Alarm], messenger: Messenger
) -> None:
    publication.alert_urls = messenger.url("json", "/author")
    publication.save()
    told = alarm()
    alarms.tell(MONDAY)

    alarms.clear([told], MONDAY + HOUR)
    alarms.tell(MONDAY + HOUR)

    message = json.loads(messenger.heard[1][1])
    assert (message["title"], message["message"]) == ("Le pas du jour: all clear", "It is over: Nothing has left.")
    assert len(messenger.heard) == 2


def test_what_nobody_heard_of_is_not_called_over(
    publication: Publication, alarm: Callable[[], Alarm], messenger: Messenger
) -> None:
    told = alarm()
    alarms.tell(MONDAY)
    publication.alert_urls = messenger.url("json", "/author")
    publication.save()

    alarms.clear([told], MONDAY + HOUR)
    alarms.tell(MONDAY + HOUR)

    assert messenger.heard == []


def test_an_alarm_is_told_in_the_publications_language(publication: Publication, queue: Series, reader: Reader) -> None:
    Publication.objects.update(language="fr")
    reader(now=SUNDAY_NOON)
    run_low(publication, 3)

    alarms.look_ahead(Publication.objects.get(), SUNDAY_NOON - 6 * HOUR)

    assert "mercredi 25 novembre" in Alarm.objects.get().text


def test_an_address_of_no_known_kind_is_refused_when_saving(publication: Publication) -> None:
    publication.alert_urls = "ntfy://topic\npigeon://secret@loft"

    with pytest.raises(ValidationError) as refused:
        publication.full_clean()

    assert list(refused.value.message_dict) == ["alert_urls"]
    assert "secret" not in str(refused.value)


@pytest.fixture
def awake(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the broker: wake-ups are noted, and carried out by nobody."""
    called: list[str] = []
    monkeypatch.setattr(tasks.drain, "delay", lambda others: called.append("drain"))
    monkeypatch.setattr(tasks.tell, "delay", lambda: called.append("tell"))
    return called


def test_the_heartbeat_says_start_and_success(
    waiting: list[Delivery], messenger: Messenger, settings: Any, awake: list[str]
) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid?rid=1")
    tasks.keep_watch(MONDAY, [planning.Plan("pas", "Europe/Paris", THE_23RD, 20)])
    heartbeat.tell(MONDAY)
    heartbeat.tell(MONDAY + MINUTE)
    started = [path for path, _body in messenger.heard]

    end(waiting, State.SENT)
    tasks.keep_watch(MONDAY + 2 * MINUTE, [])
    heartbeat.tell(MONDAY + 2 * MINUTE)
    heartbeat.tell(MONDAY + 3 * MINUTE)

    assert awake == ["tell", "tell"]
    assert started == ["/uuid/start?rid=1"]
    assert [path for path, _body in messenger.heard][1:] == ["/uuid?rid=1"]


def test_the_heartbeat_says_fail_where_too_little_was_accepted(
    waiting: list[Delivery], messenger: Messenger, settings: Any
) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid")
    heartbeat.planned(MONDAY)
    end(waiting, State.FAILED, "refused")
    promise.tick(MONDAY + MINUTE)

    heartbeat.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/uuid/start", "/uuid/fail"]


def test_a_heartbeat_that_nobody_answers_is_tried_again(messenger: Messenger, settings: Any, db: None) -> None:
    settings.HEARTBEAT_URL = messenger.url("http", "/uuid")
    messenger.deaf_to = {"/uuid/start"}
    heartbeat.planned(MONDAY)

    heartbeat.tell(MONDAY)
    messenger.deaf_to = set()
    heartbeat.tell(MONDAY + MINUTE)

    assert [path for path, _body in messenger.heard] == ["/uuid/start", "/uuid/start", "/uuid"]


def test_a_failing_alarm_stops_neither_the_tick_nor_the_other_parts(
    waiting: list[Delivery], awake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(now: datetime) -> None:
        raise RuntimeError

    monkeypatch.setattr(alarms, "tick", broken)
    end(waiting, State.SENT)

    tasks.keep_watch(MONDAY + 15 * HOUR, [])

    assert [day.kept for day in waiting[0].publication.days.all()] == [True]
    assert Heartbeat.objects.filter(name="ledger").exists()
