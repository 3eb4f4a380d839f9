"""One thing goes wrong in the middle of a send: it costs nobody else an email, and leaves nothing in doubt."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from newsletters import planning, promise, sending
from newsletters.models import Delivery, Letter, Publication, Relay, Rest, Series
from newsletters.transports import Message, Outcome
from newsletters.transports.aside import Aside
from tests.daemons import free_port
from tests.servers import MailServer
from tests.test_failover import second
from tests.test_limits import HOUR, MONDAY, drain, mail_url, planned, relay, states
from tests.test_planning import make_issue

__all__ = ["mail_url", "planned", "second"]

# A sequence counts on where the statement is undone.
BROKEN_ALLOWANCE = """
CREATE SEQUENCE refused;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('refused') < 3 THEN RAISE 'no' USING ERRCODE = 'serialization_failure'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON newsletters_allowance FOR EACH ROW EXECUTE FUNCTION refuse();
"""
MENDED_ALLOWANCE = "DROP TRIGGER refuse ON newsletters_allowance; DROP FUNCTION refuse; DROP SEQUENCE refused"


def test_a_relay_that_failed_is_not_made_to_rest_again_by_a_send_that_goes_on(
    planned: Any, second: MailServer, settings: Any
) -> None:
    settings.MAIL_URL = f"smtp://127.0.0.1:{free_port()}"
    first = relay(rank=0)
    planned(150)
    ended = []

    def stopping() -> bool:
        # Another worker has reached it meanwhile.
        if len(second.received) > 50:
            ended.append(Rest.objects.filter(relay=first).delete()[0])
        return False

    sending.drain(lambda: MONDAY, stopping=stopping)

    assert sum(ended) == 1
    assert not Rest.objects.exists()
    # What is left goes by the first again.
    assert 50 < len(second.received) < 150
    assert states() == {"sent": len(second.received), "planned": 150 - len(second.received)}


def test_a_relay_whose_address_cannot_be_read_keeps_only_its_own_mail_waiting(
    planned: Any, publication: Publication, smtp: MailServer
) -> None:
    planned(3)
    other = Publication.objects.create(name="Autre", slug="other", sender="b@example.com", reply_to="b@example.com")
    unreadable = Relay.objects.create(name="of another key", publication=other, sealed_url=b"nonsense")
    letter = Letter(publication=other, kind="confirm", cause="c", language="en", due_at=MONDAY, try_at=MONDAY)
    letter.address = letter.address_key = "a@example.com"
    letter.late_until = MONDAY + HOUR
    letter.save()

    assert drain() == {"sent": 3}

    letter.refresh_from_db()
    assert letter.state == "planned"
    assert Rest.objects.get().relay == unreadable


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_an_account_that_cannot_be_written_leaves_nothing_in_doubt(planned: Any, smtp: MailServer) -> None:
    relay(per_second=1000)
    planned(60)
    with connection.cursor() as cursor:
        cursor.execute(BROKEN_ALLOWANCE)
        try:
            drain()
            drain(MONDAY + timedelta(minutes=2))
            cursor.execute("SELECT last_value FROM refused")
            (tried,) = cursor.fetchone()
        finally:
            cursor.execute(MENDED_ALLOWANCE)

    assert tried >= 2
    assert states() == {"sent": 60}
    assert len(smtp.received) == 60


def test_a_stop_takes_nothing_away_from_a_call_that_begins() -> None:
    called: list[set[Any]] = []
    go_on = threading.Event()

    class Provider:
        group = 10

        def stage(self, message: Message) -> None:
            pass

        def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
            called.append(keys)
            go_on.wait(10)
            return {key: Outcome("sent") for key in keys}

        def close(self) -> None:
            pass

    line = Aside(Provider())
    line.stage(Message(1, "a@example.com", "b@example.com", "c@example.com", b""))
    line.hand_off({1}, set())
    line.hand_off(set(), set())
    line.recall()
    go_on.set()

    assert line.poll(10) == {1: Outcome("sent")}
    assert called == [{1}]


def test_a_domain_that_takes_too_few_one_day_takes_as_many_the_next(
    planned: Any, publication: Publication, smtp: MailServer
) -> None:
    relay(domain_caps={"example.com": "2/h"})
    planned(60)
    queue, sent = Series.objects.get(), []
    queue.append(make_issue(publication, "Un"))
    queue.append(make_issue(publication, "Deux"))

    for days in range(3):
        day = MONDAY + timedelta(days=days)
        promise.tick(day, planning.tick(day))
        for half in range(32):
            sending.sweep(day + half * HOUR / 2)
            drain(day + half * HOUR / 2)
        sent.append(Delivery.objects.filter(local_date=day.date(), state="sent").count())

    assert min(sent) >= 12
    assert max(sent) - min(sent) <= 2
