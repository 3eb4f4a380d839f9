import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from newsletters import letters
from newsletters.addresses import mailbox_key
from newsletters.links import Purpose, seal
from newsletters.models import Delivery, Letter, Series, Subscriber, Suppression, Walk
from newsletters.models.outgoing import State
from newsletters.models.subscriber import keyed_hash
from optin.models import Consent, OptInPage, Request
from tests.conftest import Reader
from tests.test_leaving import planned
from tests.test_reader import had

Status = Subscriber.Status
NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)


@pytest.fixture
def strict() -> Client:
    return Client(enforce_csrf_checks=True)


def data_page(reader: Subscriber, written: datetime | None = None) -> str:
    return f"/data/{seal(Purpose.ACCESS, reader.pk, slot=letters.minute(written or datetime.now(UTC)))}/"


def move_page(reader: Subscriber) -> str:
    return f"/data/move/{seal(Purpose.MOVE, reader.pk, slot=Letter.objects.latest('pk').context['minute'])}/"


def consent_of(reader: Subscriber, page: OptInPage, now: datetime) -> Consent:
    consent = Consent.record(
        reader.publication,
        Consent.Kind.REQUEST,
        "Oui, chaque jour.",
        "/pas/",
        now,
        reader.address_hash,
        "ip",
        "Firefox",
    )
    Request.objects.create(
        page=page,
        consent=consent,
        address=reader.address,
        address_key=reader.address_key,
        address_hash=keyed_hash(mailbox_key(reader.address)),
        zone=reader.zone,
        network_hash="n",
        created_at=now,
    )
    return consent


def test_it_opens_for_an_hour(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        alice = reader()
        address = data_page(alice)

        opened = strict.get(address)
        clock.shift(timedelta(minutes=60))
        still = strict.get(address)
        clock.shift(timedelta(minutes=1))
        over = strict.get(address)
        erased = strict.post(address, {"erase": "", "sure": "on"})

    assert (opened.status_code, still.status_code, over.status_code, erased.status_code) == (200, 200, 410, 410)
    assert "alice@example.com" in opened.content.decode()
    assert "alice@example.com" not in over.content.decode()
    assert Subscriber.objects.filter(pk=alice.pk).exists()


def test_an_old_link_mails_a_new_one(strict: Client, reader: Reader) -> None:
    alice = reader()

    answer = strict.post(data_page(alice, datetime.now(UTC) - timedelta(days=3)), {"data": ""})

    assert answer.status_code == 410
    assert Letter.objects.get().kind == Letter.Kind.ACCESS


def test_looking_changes_nothing(strict: Client, reader: Reader) -> None:
    alice = reader(first_name="Alice")
    before = Subscriber.objects.filter(pk=alice.pk).values().get()

    for method in (strict.get, strict.head, strict.post):
        shown = method(data_page(alice))
        assert shown.status_code == 200
        assert shown["Referrer-Policy"] == "no-referrer"
        assert "noindex" in shown["X-Robots-Tag"]
        assert not shown.cookies

    assert Subscriber.objects.filter(pk=alice.pk).values().get() == before


def test_it_downloads_everything(strict: Client, reader: Reader, page: OptInPage) -> None:
    alice = reader(first_name="Élise")
    had(alice, datetime.now(UTC).date(), "Le carnet à trois lignes")
    Walk.objects.create(
        subscriber=alice,
        series=Series.objects.create(publication=alice.publication, name="Bienvenue", slug="b"),
        started_at=datetime.now(UTC),
    )
    consent_of(alice, page, datetime.now(UTC))
    bob = reader("bob@example.com")
    had(bob, datetime.now(UTC).date() - timedelta(days=1), "Celui de Bob")
    consent_of(bob, page, datetime.now(UTC))
    strict.post(f"/reader/{seal(Purpose.READER, alice.pk)}/", {"data": ""})
    Suppression.objects.add(alice, Suppression.Reason.LEFT, datetime.now(UTC))

    answer = strict.post(data_page(alice), {"download": ""})

    everything = json.loads(answer.content)
    assert answer["Content-Disposition"].startswith('attachment; filename="pas-')
    assert everything["subscriber"]["first_name"] == "Élise"
    assert everything["walks"][0]["series"] == "Bienvenue"
    assert [one["subject"] for one in everything["deliveries"]] == ["Le carnet à trois lignes"]
    assert everything["letters"][0]["kind"] == "access"
    assert everything["suppressions"][0]["reason"] == "left"
    assert [one["wording"] for one in everything["consents"]] == ["Oui, chaque jour."]
    assert everything["requests"][0]["address"] == "alice@example.com"
    assert "bob" not in answer.content.decode().lower()


def test_it_erases_everything_but_a_keyed_hash(strict: Client, reader: Reader, page: OptInPage) -> None:
    alice, bob = reader(first_name="Alice"), reader("bob@example.com")
    past, waiting = (
        had(alice, datetime.now(UTC).date(), "Le carnet"),
        planned(alice, datetime.now(UTC).date() + timedelta(1)),
    )
    consent, bobs = consent_of(alice, page, datetime.now(UTC)), consent_of(bob, page, datetime.now(UTC))
    commitment, number, address_hash = consent.commitment, alice.pk, alice.address_hash
    strict.post(f"/reader/{seal(Purpose.READER, alice.pk)}/", {"data": ""})
    LogEntry.objects.log_actions(
        User.objects.create_superuser("maud").pk, [alice], CHANGE, "changed", single_object=True
    )

    unsure = strict.post(data_page(alice), {"erase": ""})
    assert Subscriber.objects.filter(pk=number).exists()
    sure = strict.post(data_page(alice), {"erase": "", "sure": "on"})

    for row in (consent, bobs, past, waiting):
        row.refresh_from_db()
    assert 'aria-describedby="sure-error"' in unsure.content.decode()
    assert sure.status_code == 200
    assert not Subscriber.objects.filter(pk=number).exists()
    assert [(one.reason, one.address_hash) for one in Suppression.objects.all()] == [("erased", address_hash)]
    assert (past.subscriber_id, past.state, waiting.state) == (number, State.SENT, State.SKIPPED)
    assert not Letter.objects.exists()
    assert (consent.reader, consent.ip_hash, consent.agent, consent.salt) == ("", "", "", "")
    assert (consent.commitment, consent.wording) == (commitment, "Oui, chaque jour.")
    assert (bobs.reader, Request.objects.get().address) == (bob.address_hash, "bob@example.com")
    assert not LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Subscriber)).exists()
    for token_page in (data_page(alice_of(number)), f"/leave/{seal(Purpose.LEAVE, number)}/"):
        assert strict.get(token_page).status_code == 200


def alice_of(number: int) -> Any:
    return Subscriber(pk=number)


def test_a_number_is_never_used_again(strict: Client, reader: Reader) -> None:
    alice = reader()
    number = alice.pk
    strict.post(data_page(alice), {"erase": "", "sure": "on"})

    assert reader().pk > number


def test_it_changes_the_name(strict: Client, reader: Reader) -> None:
    alice = reader()

    strict.post(data_page(alice), {"name": "", "first_name": "  Élise "})
    alice.refresh_from_db()
    assert alice.first_name == "Élise"

    for wrong in ("a\nb", "x" * 81, "\x07"):
        shown = strict.post(data_page(alice), {"name": "", "first_name": wrong}).content.decode()
        assert 'aria-describedby="first_name-error"' in shown
    alice.refresh_from_db()
    assert alice.first_name == "Élise"

    shown = strict.post(data_page(alice), {"name": "", "first_name": "<b>x</b>"}).content.decode()
    assert "<b>x</b>" not in shown


def test_it_moves_to_an_address_that_confirms(strict: Client, reader: Reader, page: OptInPage) -> None:
    alice = reader()
    consent = consent_of(alice, page, datetime.now(UTC))

    asked = strict.post(data_page(alice), {"address": "", "email": "Alice@Neuf.example "})
    letter = Letter.objects.get()
    alice.refresh_from_db()
    assert (asked.status_code, letter.kind, letter.address) == (200, "move", "Alice@neuf.example")
    assert alice.address == "alice@example.com"

    shown = strict.get(move_page(alice)).content.decode()
    alice.refresh_from_db()
    assert alice.address == "alice@example.com"
    assert 'name="move"' in shown

    done, again = (strict.post(move_page(alice), {"move": ""}) for _twice in range(2))
    alice.refresh_from_db()
    assert (done.status_code, again.status_code) == (200, 410)
    assert (alice.address, alice.address_key) == ("Alice@neuf.example", "alice@neuf.example")
    assert alice.address_hash == keyed_hash("alice@neuf.example")
    assert not Request.objects.exists()

    # The proof of her agreement is still hers, in the download and in the erasure.
    everything = json.loads(strict.post(data_page(alice), {"download": ""}).content)
    assert len(everything["consents"]) == 1
    strict.post(data_page(alice), {"erase": "", "sure": "on"})
    consent.refresh_from_db()
    assert consent.reader == ""


def test_it_takes_no_address_of_another_reader(strict: Client, reader: Reader) -> None:
    alice, bob = reader(), reader("bob@example.com")
    fresh = strict.post(data_page(alice), {"address": "", "email": "zoe@example.com"}).content
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        known = strict.post(data_page(alice), {"address": "", "email": "bob@example.com"}).content
        shown = strict.post(move_page(alice), {"move": ""})

    alice.refresh_from_db()
    bob.refresh_from_db()
    # Asking tells nothing of whom we know; only the mailbox's owner learns it.
    assert fresh.replace(b"zoe", b"bob") == known
    assert shown.status_code == 200
    assert "bob@example.com" in shown.content.decode()
    assert (alice.address, bob.address) == ("alice@example.com", "bob@example.com")


def test_a_link_mailed_to_one_address_confirms_no_other(strict: Client, reader: Reader) -> None:
    alice = reader()
    strict.post(data_page(alice), {"address": "", "email": "own@example.com"})
    own = move_page(alice)
    same_minute = strict.post(data_page(alice), {"address": "", "email": "victim@example.com"}).content.decode()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        strict.post(data_page(alice), {"address": "", "email": "victim@example.com"})
        answer = strict.post(own, {"move": ""})

    alice.refresh_from_db()
    assert 'aria-describedby="email-error"' in same_minute
    assert answer.status_code == 410
    assert alice.address == "alice@example.com"


def test_nobody_is_bombed_with_move_letters(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        alice = reader()
        for number in range(6):
            clock.shift(timedelta(minutes=2))
            strict.post(data_page(alice), {"address": "", "email": f"victim+{number}@example.com"})
        assert Letter.objects.count() == 3

        others = [reader(f"r{number}@example.com") for number in range(3)]
        for other in others:
            strict.post(data_page(other), {"address": "", "email": "victim@example.com"})
        assert Letter.objects.count() == 3


def test_whoever_said_not_me_is_left_alone(strict: Client, reader: Reader) -> None:
    alice = reader()
    Suppression.objects.create(
        address_hash=keyed_hash("victim@example.com"), reason=Suppression.Reason.NOT_ME, since=datetime.now(UTC)
    )

    answer = strict.post(data_page(alice), {"address": "", "email": "victim@example.com"})

    assert answer.status_code == 200
    assert not Letter.objects.exists()


@pytest.mark.parametrize(
    "email", ["", "nobody", "a b@example.com", "é@example.com", "a@example.com\r\nBcc: b@x.example"]
)
def test_it_says_what_is_wrong_with_an_address(strict: Client, reader: Reader, email: str) -> None:
    answer = strict.post(data_page(reader()), {"address": "", "email": email})

    assert 'aria-describedby="email-error"' in answer.content.decode()
    assert not Letter.objects.exists()


def test_foreign_tokens_open_nothing(strict: Client, reader: Reader) -> None:
    alice = reader()
    minute = letters.minute(datetime.now(UTC))

    for purpose in Purpose:
        token = seal(purpose, alice.pk, slot=minute)
        if purpose != Purpose.ACCESS:
            assert strict.post(f"/data/{token}/", {"erase": "", "sure": "on"}).status_code == 404
        if purpose != Purpose.MOVE:
            assert strict.post(f"/data/move/{token}/", {"move": ""}).status_code == 404
    assert strict.get(f"/data/move/{seal(Purpose.MOVE, alice.pk, slot=minute)}/").status_code == 410

    assert Subscriber.objects.filter(pk=alice.pk, status=Status.ACTIVE).exists()


def test_an_erased_reader_starts_anew(strict: Client, reader: Reader) -> None:
    alice = reader()
    had(alice, datetime.now(UTC).date(), "Le carnet")
    strict.post(data_page(alice), {"erase": "", "sure": "on"})

    again = reader()

    assert not Delivery.objects.filter(subscriber=again).exists()
    assert not Suppression.objects.filter(lifted_at=None).exists()
