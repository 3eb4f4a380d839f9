"""A server that is away, slow, or asks for rest, and the next one that takes over."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from newsletters import allowances, limits, sending
from newsletters.models import Delivery, Relay, Rest
from newsletters.models.outgoing import State
from tests.daemons import free_port
from tests.servers import MailController, MailServer
from tests.test_limits import HOUR, MONDAY, drain, mail_url, planned, relay, states  # noqa: F401


@pytest.fixture
def second(db: None) -> Iterable[MailServer]:
    server = MailServer()
    controller = MailController(server, hostname="127.0.0.1", port=free_port())
    controller.start()
    server.url = f"smtp://127.0.0.1:{controller.port}"
    other = Relay(name="second", rank=1)
    other.url = server.url
    other.save()
    yield server
    controller.stop()


def test_the_next_server_takes_over_at_once(planned: Any, second: MailServer, settings: Any) -> None:  # noqa: F811
    settings.MAIL_URL = f"smtp://127.0.0.1:{free_port()}"
    Rest.objects.create(relay=relay(rank=0), host="gone", until=MONDAY - timedelta(days=30))
    planned(60)

    ended = drain()

    assert ended["sent"] == 60
    assert len({one.recipients[0] for one in second.received}) == len(second.received) == 60
    assert Rest.objects.get(relay__name="MAIL_URL").until == MONDAY + timedelta(seconds=15)


def test_it_comes_back_to_the_first_after_a_rest(planned: Any, second: MailServer, smtp: MailServer) -> None:  # noqa: F811
    first = relay(rank=0)
    smtp.replies["MAIL"] = "421 too busy"
    planned(60)
    drain()
    assert Rest.objects.get(relay=first).until > MONDAY
    smtp.replies.clear()
    moved = len(second.received)
    for reader in Delivery.objects.values_list("subscriber_id", flat=True)[:2]:
        Delivery.objects.filter(subscriber_id=reader).update(state=State.PLANNED, owner=None, try_at=MONDAY)

    drain(MONDAY + timedelta(seconds=20))

    # The one to which it said 421 is tried again later; the others moved over at once.
    assert moved >= 50
    assert (len(second.received), len(smtp.received)) == (moved, 2)
    assert not Rest.objects.filter(relay=first).exists()


def test_rests_grow_to_ten_minutes_while_nobody_answers(planned: Any, settings: Any) -> None:  # noqa: F811
    settings.MAIL_URL = f"smtp://127.0.0.1:{free_port()}"
    planned(1)
    now, rests = MONDAY, []

    for _try in range(8):
        Delivery.objects.update(try_at=now)
        drain(now)
        rests.append((Rest.objects.get().until - now).total_seconds())
        now = Rest.objects.get().until

    assert rests == [15, 30, 60, 120, 240, 480, 600, 600]


def test_a_host_that_reaches_a_server_sends_by_it_while_another_cannot(planned: Any, smtp: MailServer) -> None:  # noqa: F811
    elsewhere = Rest.objects.create(relay=relay(), host="elsewhere", until=MONDAY + HOUR, failures=9)
    planned(30)

    assert drain() == {"sent": 30}

    # Nor does it think for the other that the server is back.
    assert list(Rest.objects.all()) == [elsewhere]


@pytest.mark.django_db
def test_a_server_is_left_alone_as_long_as_it_asks() -> None:
    one = relay()

    allowances.rest(one, MONDAY, 120)
    allowances.rest(one, MONDAY + timedelta(seconds=1), 5)

    assert Rest.objects.get().until == MONDAY + timedelta(seconds=120)


def test_the_operator_sees_until_when_a_server_rests_but_no_rest_that_is_over(admin_client: Client) -> None:
    one, now = relay(), timezone.now()
    for host, years in {"": -1, "elsewhere": 1}.items():
        Rest.objects.create(relay=one, host=host, until=now.replace(year=now.year + years, month=3, day=4))

    page = admin_client.get(reverse("admin:newsletters_relay_changelist")).content.decode()

    assert f"March 4, {now.year + 1}" in page
    assert f"March 4, {now.year - 1}" not in page


def test_what_others_still_get_through_does_not_end_the_rest_that_a_server_asked_for(
    planned: Any,  # noqa: F811
    smtp: MailServer,
) -> None:
    one = relay()
    # More than a first lease takes: the next one hears of the rest while emails are still under way.
    planned(60)
    asked: list[Relay] = []

    def stopping() -> bool:
        if smtp.received and not asked:
            allowances.rest(one, MONDAY, 1800)
            asked.append(one)
        return False

    sending.drain(lambda: MONDAY, stopping=stopping)

    assert 0 < len(smtp.received) < 60
    assert list(Rest.objects.values_list("host", "until")) == [("", MONDAY + timedelta(seconds=1800))]


def test_what_one_server_may_have_taken_is_never_given_to_the_other(
    planned: Any,  # noqa: F811
    second: MailServer,
    smtp: MailServer,
) -> None:
    relay(rank=0)
    smtp.replies["DATA"] = ""
    planned(40)

    drain()
    for minutes in range(1, 20):
        drain(MONDAY + timedelta(minutes=minutes))

    rows = list(Delivery.objects.values_list("subscriber__address", "state"))
    doubtful = {address for address, state in rows if state == State.UNCERTAIN}
    assert doubtful
    assert {state for _address, state in rows} <= {State.UNCERTAIN, State.SENT}
    assert sorted(one.recipients[0] for one in second.received) == sorted({address for address, _ in rows} - doubtful)


def test_a_full_server_lets_the_next_one_help(planned: Any, second: MailServer, smtp: MailServer) -> None:  # noqa: F811
    relay(rank=0, per_hour=20)
    planned(30)

    assert drain() == {"sent": 30}

    assert (len(smtp.received), len(second.received)) == (18, 12)


def test_many_put_off_slow_all_workers_down(planned: Any, smtp: MailServer) -> None:  # noqa: F811
    smtp.replies["RCPT"] = "450 4.7.1 too fast"
    planned(20)

    drain()

    slowed = Relay.objects.get()
    assert slowed.slowed_at == MONDAY
    assert 0 < slowed.slowed_to <= slowed.slowed_from / 2
    assert limits.speed(slowed, MONDAY + HOUR * 3) is None


def test_one_full_mailbox_slows_nobody_down(planned: Any, smtp: MailServer) -> None:  # noqa: F811
    smtp.replies["reader1@example.com"] = "452 4.2.2 mailbox full"
    planned(20)

    drain()

    assert Relay.objects.get().slowed_at is None
