from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from newsletters.addresses import normalise
from newsletters.links import Purpose, seal
from newsletters.models import Clock, Letter, Publication, Series, Subscriber, Suppression, Walk
from newsletters.models.subscriber import keyed_hash
from optin import answering, confirmation
from optin.guard import Asker
from optin.models import Consent, OptInPage, Request
from tests.conftest import Reader
from tests.visitor import MONDAY, confirm_path, fields, join

MAIN = "/pas/join/accueil/"


def kinds() -> list[str]:
    return list(Letter.objects.order_by("pk").values_list("kind", flat=True))


def test_confirming_starts_the_sequence_and_welcomes(
    client: Client, page: OptInPage, sequence: Series, clock: time_machine.Traveller
) -> None:
    join(client, clock, "Lucas@example.com", first_name=" Lucas  D. ", zone="America/Montreal")
    answering.answer(timezone.now())

    done = client.post(confirm_path(), {"confirm": ""}, follow=True)

    lucas = Subscriber.objects.get()
    shown = done.content.decode()
    assert (lucas.status, lucas.zone, lucas.first_name, lucas.language) == (
        "active",
        "America/Montreal",
        "Lucas D.",
        "fr",
    )
    assert lucas.member_since == timezone.now()
    assert Walk.objects.get().series == sequence
    assert Clock.objects.filter(zone="America/Montreal").exists()
    assert kinds() == ["confirm", "welcome"]
    assert done.redirect_chain == [(confirm_path(), 303)]
    assert "Par où commencer, Lucas D." in shown
    assert "25 novembre 2026" in shown
    assert "26 novembre 2026" in shown
    assert 'width="21"' in shown


def test_a_page_may_start_its_own_sequence(
    client: Client, page: OptInPage, sequence: Series, clock: time_machine.Traveller
) -> None:
    own = Series.objects.create(publication=page.publication, name="Été", slug="ete")
    OptInPage.objects.update(series=own)

    join(client, clock, "lucas@example.com")
    client.post(confirm_path(), {"confirm": ""})

    assert Walk.objects.get().series == own


def test_without_sequence_the_first_issue_is_everyones(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    OptInPage.objects.update(thanks="Merci, **vraiment**.")
    join(client, clock, "lucas@example.com")

    shown = client.post(confirm_path(), {"confirm": ""}, follow=True).content.decode()

    assert '<svg class="strokes' not in shown
    assert "Merci, <strong>vraiment</strong>." in shown


def test_twice_is_once(client: Client, page: OptInPage, sequence: Series, clock: time_machine.Traveller) -> None:
    join(client, clock, "lucas@example.com")

    for _each in range(3):
        assert client.post(confirm_path(), {"confirm": ""}, follow=True).status_code == 200

    assert kinds() == ["welcome"]
    assert Consent.objects.filter(kind="confirm").count() == 1
    assert Walk.objects.count() == 1


@pytest.mark.parametrize("body", [{}, {"List-Unsubscribe": "One-Click"}, {"email": "x@y.example"}])
def test_only_the_button_confirms(
    client: Client, page: OptInPage, clock: time_machine.Traveller, body: dict[str, str]
) -> None:
    join(client, clock, "lucas@example.com")
    answering.answer(timezone.now())

    answers = [client.get(confirm_path()), client.head(confirm_path()), client.post(confirm_path(), body)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert client.options(confirm_path()).status_code == 405
    assert Subscriber.objects.get().status == "pending"
    assert "l•••@e•••.com" in answers[0].content.decode()
    assert "lucas@example.com" not in answers[0].content.decode()


def test_another_site_can_neither_confirm_nor_be_refused(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    strict = Client(enforce_csrf_checks=True, headers={"Origin": "https://blog.example"})
    typed = fields(strict.get(f"{MAIN}embed/"), "email") | {"email": "lucas@example.com"}
    clock.shift(timedelta(seconds=10))

    assert strict.post(f"{MAIN}embed/", typed).status_code == 303
    assert strict.post(f"/confirm/{'a' * 50}/", {"confirm": ""}).status_code == 404
    assert "Access-Control-Allow-Origin" not in strict.get(MAIN)


def test_every_flipped_letter_of_a_token_is_a_broken_link(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    join(client, clock, "lucas@example.com")
    token = confirm_path().split("/")[2]

    for at in range(len(token)):
        other = "b" if token[at] == "a" else "a"
        assert client.get(f"/confirm/{token[:at]}{other}{token[at + 1 :]}/").status_code == 404
    assert client.get(f"/confirm/{token.upper()}/").status_code == 200
    assert client.get(f"/confirm/{seal(Purpose.LEAVE, Request.objects.get().pk)}/").status_code == 404


def test_a_link_lasts_seven_days(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    join(client, clock, "lucas@example.com")

    clock.shift(timedelta(days=6, hours=23))
    fresh = client.get(confirm_path())
    clock.shift(timedelta(hours=1))
    expired = client.get(confirm_path())
    client.post(confirm_path(), {"confirm": ""})

    assert (fresh.status_code, expired.status_code) == (200, 410)
    assert not Subscriber.objects.exists()


def test_a_forgotten_request_has_a_kind_page(client: Client, page: OptInPage) -> None:
    assert client.get(f"/confirm/{seal(Purpose.CONFIRM, 4711)}/").status_code == 410
    assert client.get(f"{MAIN}thanks/{seal(Purpose.THANKS, 4711)}/").status_code == 410


@pytest.mark.parametrize("used", [True, False])
def test_an_old_link_does_not_bring_back_who_left(
    client: Client, page: OptInPage, clock: time_machine.Traveller, used: bool
) -> None:
    join(client, clock, "lucas@example.com")
    old = Request.objects.get()
    join(client, clock, "lucas@example.com")
    client.post(confirm_path(), {"confirm": ""})
    clock.shift(timedelta(days=1))
    Subscriber.objects.get().leave(timezone.now())

    path = confirm_path(old) if not used else confirm_path()
    client.post(path, {"confirm": ""})

    assert Subscriber.objects.get().status == "unsubscribed"
    assert client.get(path).status_code == 200
    assert 'name="confirm"' not in client.get(path).content.decode()


def test_an_erased_reader_is_not_brought_back(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    join(client, clock, "lucas@example.com")
    clock.shift(timedelta(hours=1))
    Suppression.objects.create(
        publication=page.publication,
        address_hash=keyed_hash("lucas@example.com"),
        reason="erased",
        since=timezone.now(),
    )

    client.post(confirm_path(), {"confirm": ""})

    assert not Subscriber.objects.exists()


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "complained"])
def test_coming_back_begins_a_new_membership(
    client: Client, page: OptInPage, sequence: Series, clock: time_machine.Traveller, reader: Reader, status: str
) -> None:
    lucas = reader("lucas@example.com", first_name="Lucas", now=MONDAY - timedelta(days=90))
    lucas.leave(MONDAY - timedelta(days=1))
    Subscriber.objects.update(status=status)

    join(client, clock, "lucas@example.com", zone="Asia/Tokyo")
    answering.answer(timezone.now())
    assert Subscriber.objects.get().status == status
    client.post(confirm_path(), {"confirm": ""})

    lucas.refresh_from_db()
    assert (lucas.status, lucas.zone, lucas.first_name) == ("active", "Asia/Tokyo", "Lucas")
    assert lucas.member_since == timezone.now()
    assert [walk.ended_at is None for walk in Walk.objects.order_by("pk")] == [False, True]
    assert not Suppression.objects.filter(lifted_at=None).exists()


@pytest.mark.parametrize("back_by", ["accueil", "ete"])
def test_whoever_comes_back_and_goes_on_walks_the_sequence_of_that_page_too(
    client: Client, page: OptInPage, sequence: Series, clock: time_machine.Traveller, reader: Reader, back_by: str
) -> None:
    Publication.objects.update(returning="resume")
    summer = Series.objects.create(publication=page.publication, name="Été", slug="ete")
    OptInPage.objects.create(publication=page.publication, slug="ete", headline="Été", button="Oui", series=summer)
    lucas = reader("lucas@example.com", now=MONDAY - timedelta(days=90))
    Walk.objects.update(reached=1024)
    lucas.leave(MONDAY - timedelta(days=1))

    join(client, clock, "lucas@example.com", path=f"/pas/join/{back_by}/")
    client.post(confirm_path(), {"confirm": ""})

    lucas.refresh_from_db()
    assert lucas.member_since == MONDAY - timedelta(days=90)
    walks = list(Walk.objects.order_by("position").values_list("series__slug", "reached", "ended_at"))
    assert walks == [("accueil", 1024, None), ("ete", 0, None)][: 1 if back_by == "accueil" else 2]


def test_a_paused_reader_who_asks_is_in_already(
    client: Client, page: OptInPage, clock: time_machine.Traveller, reader: Reader
) -> None:
    alice = reader("alice@example.com")
    Subscriber.objects.update(status="paused", paused_until=date(2027, 1, 1))

    join(client, clock, "alice@example.com")
    answering.answer(timezone.now())
    client.post(confirm_path(), {"confirm": ""})

    alice.refresh_from_db()
    assert alice.status == "paused"
    assert kinds() == ["already"]


def test_an_old_confirmation_says_it_was_used(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    join(client, clock, "lucas@example.com")
    client.post(confirm_path(), {"confirm": ""})

    clock.move_to(datetime(2027, 3, 1, tzinfo=UTC))
    used = client.get(confirm_path())

    assert used.status_code == 200
    assert 'name="not_me"' not in used.content.decode()
    client.post(confirm_path(), {"not_me": ""})
    assert Subscriber.objects.get().status == "active"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_many_presses_and_workers_one_counts(client: Client, page: OptInPage) -> None:
    page.publication.series.create(name="Accueil", slug="accueil", welcome=True)
    asker, now = Asker.of("203.0.113.9", "Firefox"), timezone.now()
    email = normalise("lucas@example.com")
    asked = [
        confirmation.ask(page, email, "Oui.", "/", asker, now, first_name="Lucas", zone="Europe/Paris")
        for _each in range(6)
    ]
    start = Barrier(12)

    def work(number: int) -> None:
        start.wait()
        try:
            if number < 6:
                answering.answer(now)
            else:
                confirmation.confirm(asked[number % 2].pk, "/confirm/", asker, now)
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as workers:
        list(workers.map(work, range(12)))
    answering.answer(now)

    assert Subscriber.objects.get().status == "active"
    assert Walk.objects.count() == 1
    assert kinds().count("welcome") == 1
    assert kinds().count("confirm") <= 1
    assert Consent.objects.filter(kind="confirm").count() == 2
    assert not Request.objects.filter(answered_at=None).exists()
