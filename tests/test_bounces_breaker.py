"""What stops a publication before its good name is lost, and what only warns."""

from datetime import timedelta

import pytest

from newsletters import bounces, letters
from newsletters.bounces import breaker
from newsletters.models import Alarm, Delivery, Letter, Publication, Stop, Subscriber, Tally
from newsletters.models.outgoing import State
from tests import mails
from tests.outbox import MONDAY, ONE_DAY, Send, message_id, row, send_day
from tests.test_bounces import status

LATER = MONDAY + timedelta(hours=1)


def complain(readers: list[Subscriber]) -> None:
    for one in readers:
        bounces.take(mails.complaint(message_id(one)), LATER)


def test_five_complaints_stop_a_publication(sent: Send, publication: Publication) -> None:
    readers = sent(20, days=1)

    complain(readers[:4])
    assert not Stop.objects.exists()
    assert Alarm.objects.get().cause == "many_complaints"
    complain(readers[4:5])

    assert Stop.objects.get().cause == "complaints"
    alarm = Alarm.objects.get(cause="stop_complaints")
    assert "5" in alarm.text
    assert "stuck --go-on pas" in alarm.text
    letters.write(
        publication,
        Letter.Kind.WELCOME,
        readers[9].address,
        "1",
        language="fr",
        subscriber=readers[9],
        now=MONDAY + ONE_DAY,
    )
    send_day(1)
    assert set(Delivery.objects.filter(local_date=MONDAY.date() + ONE_DAY).values_list("state", flat=True)) == {
        "planned"
    }
    # Who asks to come in is still answered.
    assert Letter.objects.get(kind=Letter.Kind.WELCOME, cause="1").state == "sent"


def test_a_stopped_publication_goes_on_when_its_author_says_so(sent: Send, publication: Publication) -> None:
    readers = sent(20)
    complain(readers[:5])

    assert breaker.go_on(publication, LATER)
    bounces.take(mails.complaint(message_id(readers[6])), LATER + timedelta(minutes=1))
    send_day(1)

    assert not Stop.objects.standing().exists()
    assert not Alarm.objects.filter(cause="stop_complaints", cleared_at=None).exists()
    assert set(Delivery.objects.filter(local_date=MONDAY.date() + ONE_DAY).values_list("state", flat=True)) != {
        "planned"
    }


def test_complaints_that_are_few_among_many_stop_nothing(sent: Send, publication: Publication) -> None:
    readers = sent(6)
    Tally.objects.filter(publication=publication).update(count=10_000)

    complain(readers)

    assert not Stop.objects.exists()


def test_twenty_dead_addresses_above_a_twentieth_stop_a_publication(sent: Send) -> None:
    readers = sent(25)

    for one in readers[:19]:
        bounces.take(mails.dsn(one.address, message_id=message_id(one)), LATER)
    assert not Stop.objects.exists()
    assert Alarm.objects.get().cause == "many_bounces"
    bounces.take(mails.dsn(readers[19].address, message_id=message_id(readers[19])), LATER)

    assert Stop.objects.get().cause == "bounces"


GMAIL = "smtp; 550-5.7.27 SPF [lepasdujour.example] did not pass. https://support.google.com/mail/?p=x - gsmtp"
OUTLOOK = "smtp; 550 5.7.515 Access denied, sending domain does not meet the required authentication level."


@pytest.mark.parametrize(
    ("address", "said", "advice"),
    [
        ("alice@gmail.com", GMAIL, "SPF"),
        ("alice@outlook.com", OUTLOOK, "DMARC"),
        ("alice@firm.example", OUTLOOK, "DKIM"),
    ],
)
def test_a_provider_that_asks_for_proof_stops_the_publication(
    sent: Send, publication: Publication, address: str, said: str, advice: str
) -> None:
    (alice,) = sent()
    Subscriber.objects.update(address=address)

    bounces.take(mails.dsn(address, "5.7.27", said, message_id=message_id(alice)), LATER)

    assert Stop.objects.get().cause == "auth"
    text = Alarm.objects.get(cause="stop_auth").text
    assert advice in text
    assert "lepasdujour.example" in text
    assert (status(alice), row(alice).reason) == ("active", "refused")


def test_one_reader_who_forwards_stops_nothing(sent: Send) -> None:
    readers = sent(3)

    for one in readers[:2]:
        bounces.take(mails.dsn("me@gmail.com", "5.7.26", GMAIL.replace("27", "26"), message_id=message_id(one)), LATER)
    assert (Stop.objects.count(), Alarm.objects.get().cause) == (0, "unproven")
    bounces.take(mails.dsn("me@gmail.com", "5.7.26", GMAIL, message_id=message_id(readers[2])), LATER)

    assert Stop.objects.get().cause == "auth"


def test_a_days_first_complaints_are_compared_with_its_emails_even_before_they_are_counted(
    sent: Send, publication: Publication
) -> None:
    readers = sent(5)
    facts = {"local_date": MONDAY.date(), "slot": 0, "way": "daily", "publication": publication, "state": State.PLANNED}
    facts |= {"due_at": MONDAY, "try_at": MONDAY, "late_until": LATER}
    rows = [Delivery(subscriber_id=10_000 + number, **facts) for number in range(6_000)]
    Delivery.objects.bulk_create(rows)
    Tally.objects.all().delete()

    complain(readers)

    assert not Stop.objects.exists()
    assert not Alarm.objects.filter(cause__startswith="stop").exists()
