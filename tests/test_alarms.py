"""Alarms: raised once a cause and day, told by another way than the mail, and taken back when it is over."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from newsletters import alarms, planning, promise
from newsletters.models import Alarm, Clock, Delivery, Publication, Rehearsal, Series, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader
from tests.watch import HOUR, MINUTE, MONDAY, SUNDAY_NOON, THE_23RD, Messenger, causes, end, look


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
    reader(now=MONDAY - 12 * HOUR)
    look(MONDAY + 9 * MINUTE)
    early = causes()
    look(MONDAY + 10 * MINUTE)

    assert early == []
    assert ("not_started", False) in causes()
    assert "1 lecteur attend depuis 7" in Alarm.objects.get(cause="not_started").text


def test_a_day_that_nobody_can_plan_is_told_anew_each_promised_day(publication: Publication, reader: Reader) -> None:
    Publication.objects.update(weekdays="1245")
    reader(now=MONDAY - 12 * HOUR, publication=Publication.objects.get())

    for hours in range(24 * 5):
        alarms.tick(MONDAY + hours * HOUR)

    rows = Alarm.objects.filter(cause="not_started").order_by("pk")
    assert [(row.date.day, row.raised_at - MONDAY) for row in rows] == [
        (23 + days, (24 * days + 1) * HOUR) for days in (0, 1, 3, 4)
    ]


def test_a_zone_that_is_none_keeps_no_other_alarm_back(publication: Publication, reader: Reader) -> None:
    reader(now=MONDAY - 12 * HOUR)
    Subscriber.objects.update(zone="Nowhere/Land")
    Clock.objects.update(zone="Nowhere/Land")

    alarms.tick(MONDAY + 25 * HOUR)

    assert Alarm.objects.get().date == THE_23RD + timedelta(days=1)


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
    end(waiting[10:15], State.FAILED, "address")
    end(waiting[15:], State.MISSED, "deferred")

    look(MONDAY + HOUR)

    assert causes() == []


def test_a_dry_day_raises_it_too(publication: Publication, reader: Reader) -> None:
    reader(now=SUNDAY_NOON)
    promise.tick(MONDAY, planning.tick(MONDAY))

    look(MONDAY + HOUR)

    assert ("below_95", False) in causes()


def test_a_failed_rehearsal_and_the_one_that_passes(publication: Publication, twenty: Series) -> None:
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
def alarm(publication: Publication, twenty: Series) -> Callable[[], Alarm]:
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


def test_an_address_of_no_known_kind_is_refused_when_saving(publication: Publication) -> None:
    publication.alert_urls = "ntfy://topic\npigeon://secret@loft"

    with pytest.raises(ValidationError) as refused:
        publication.full_clean()

    assert list(refused.value.message_dict) == ["alert_urls"]
    assert "secret" not in str(refused.value)
