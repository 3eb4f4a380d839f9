from datetime import timedelta

import time_machine
from django.test import Client
from django.utils import timezone

from newsletters.models import Letter, Publication, Subscriber, Suppression
from newsletters.models.subscriber import keyed_hash
from optin import answering, forgetting
from optin.models import Consent, OptInPage, Request
from tests.conftest import Reader
from tests.visitor import MONDAY, confirm_path, join

WORDING = "En vous inscrivant, vous demandez à recevoir l’email de Maud."


def test_the_ledger_keeps_the_words_that_were_shown(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    OptInPage.objects.update(consent=WORDING)

    client.defaults |= {"REMOTE_ADDR": "203.0.113.9", "HTTP_USER_AGENT": "Firefox/140"}
    join(client, clock, "Lucas@example.com")
    shown = client.get(confirm_path()).content.decode()
    client.post(confirm_path(), {"confirm": ""})

    asked, confirmed = Consent.objects.order_by("pk")
    assert [asked.kind, confirmed.kind] == ["request", "confirm"]
    assert WORDING in shown
    for line in (asked, confirmed):
        assert line.wording == WORDING
        assert line.reader == keyed_hash("lucas@example.com")
        assert line.ip_hash == keyed_hash("203.0.113.9")
        assert line.agent == "Firefox/140"
        assert line.commitment == Consent.commit_to(line.salt, line.reader, line.ip_hash, line.agent)
    assert asked.page == "http://localhost:8000/pas/"
    assert confirmed.page == "http://localhost:8000/confirm/"


def test_the_standard_wording_is_the_publications(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    shown = client.get("/pas/").content.decode()
    join(client, clock, "lucas@example.com")

    assert Consent.objects.get().wording in shown
    assert "Maud Castéra" in Consent.objects.get().wording


def test_not_me_erases_the_request_and_keeps_its_commitment(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    join(client, clock, "lucas@example.com", first_name="Lucas")
    answering.answer(timezone.now())
    before = Consent.objects.get()

    cancelled = client.post(confirm_path(), {"not_me": ""}, follow=True)

    request, consent = Request.objects.get(), Consent.objects.get()
    assert cancelled.status_code == 410
    assert (request.address, request.address_key, request.address_hash, request.first_name) == ("", "", "", "")
    assert (consent.reader, consent.ip_hash, consent.agent, consent.salt) == ("", "", "", "")
    assert consent.commitment == before.commitment
    assert not Subscriber.objects.exists()
    assert Letter.objects.get().state == "skipped"
    assert "lucas" not in Letter.objects.get().address_key


def test_not_me_holds_for_the_instance_for_thirty_days(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    other = Publication.objects.create(
        name="Dusk", slug="dusk", author="Ann", sender="a@b.example", reply_to="a@b.example", postal_address="x"
    )
    OptInPage.objects.create(publication=other, slug="main", main=True, headline="Dusk")
    join(client, clock, "lucas@example.com")
    answering.answer(timezone.now())
    client.post(confirm_path(), {"not_me": ""})

    def letters_after(days: int) -> int:
        clock.move_to(MONDAY + timedelta(days=days))
        join(client, clock, "lucas+again@example.com", path="/dusk/")
        answering.answer(timezone.now())
        return Letter.objects.filter(publication=other).count()

    assert [letters_after(days) for days in (1, 29, 31)] == [0, 0, 1]
    client.post(confirm_path(), {"confirm": ""})
    assert Subscriber.objects.get(publication=other).status == "active"
    assert Suppression.objects.get().lifted_at == timezone.now()


def test_not_me_after_confirming_ends_the_emails(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    join(client, clock, "lucas@example.com")
    client.post(confirm_path(), {"confirm": ""})

    ended = client.post(confirm_path(), {"not_me": ""}, follow=True)

    assert ended.status_code == 200
    assert Subscriber.objects.get().status == "unsubscribed"


def test_what_nobody_confirmed_is_forgotten_after_thirty_days(
    client: Client, page: OptInPage, clock: time_machine.Traveller, reader: Reader
) -> None:
    reader("alice@example.com")
    for address in ("alice@example.com", "bob@example.com", "carol@example.com"):
        join(client, clock, address)
    answering.answer(timezone.now())
    client.post(confirm_path(), {"confirm": ""})

    clock.move_to(MONDAY + timedelta(days=29))
    assert forgetting.forget(timezone.now()) == 0
    clock.move_to(MONDAY + timedelta(days=31))
    # Written by the database's own clock, which no test can move.
    Letter.objects.update(created_at=MONDAY)
    assert forgetting.forget(timezone.now()) == 2

    assert set(Subscriber.objects.values_list("address", flat=True)) == {"alice@example.com", "carol@example.com"}
    assert Request.objects.get().address == "carol@example.com"
    assert Consent.objects.filter(reader="").count() == 2
    assert Consent.objects.filter(reader=keyed_hash("carol@example.com")).count() == 2
    assert not Letter.objects.filter(address_key__contains="bob").exists()
    assert Letter.objects.filter(address="carol@example.com").count() == 2


def test_someone_who_asked_again_of_late_is_not_forgotten(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    join(client, clock, "bob@example.com")
    answering.answer(timezone.now())
    clock.shift(timedelta(days=20))
    join(client, clock, "bob@example.com")
    clock.shift(timedelta(days=12))

    assert forgetting.forget(timezone.now()) == 1
    assert Subscriber.objects.get().status == "pending"
