from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from newsletters.models import Letter, Publication
from optin import answering, guard
from optin.models import OptInPage, Request
from tests.conftest import Reader
from tests.visitor import MONDAY, fields, join


def test_a_person_who_is_quick_presses_once_more(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    typed = fields(client.get("/pas/"), "email") | {"email": "lucas@example.com", "first_name": "Lucas"}

    clock.shift(timedelta(seconds=1))
    quick = client.post("/pas/", typed)
    again = fields(quick, "email")
    clock.shift(timedelta(seconds=2))
    taken = client.post("/pas/", again)

    assert quick.status_code == 422
    assert (again["email"], again["first_name"]) == ("lucas@example.com", "Lucas")
    assert taken.status_code == 303
    assert Request.objects.count() == 1


@pytest.mark.parametrize("shown", ["", "nonsense", "abc:def:ghi"])
def test_a_form_of_another_site_needs_a_second_press(
    client: Client, page: OptInPage, clock: time_machine.Traveller, shown: str
) -> None:
    first = client.post("/pas/join/accueil/", {"email": "lucas@example.com", "shown": shown})
    clock.shift(timedelta(seconds=5))
    second = client.post("/pas/join/accueil/", fields(first, "email"))

    assert (first.status_code, second.status_code) == (422, 303)


def test_a_form_that_stood_open_is_shown_anew(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    typed = fields(client.get("/pas/"), "email") | {"email": "lucas@example.com"}

    clock.shift(timedelta(days=2))

    assert client.post("/pas/", typed).status_code == 422
    assert not Request.objects.exists()


def test_words_that_changed_meanwhile_are_shown_before_they_count(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    typed = fields(client.get("/pas/"), "email") | {"email": "lucas@example.com"}
    OptInPage.objects.update(consent="Un email par jour, et nos offres.")

    clock.shift(timedelta(seconds=10))
    shown = client.post("/pas/", typed)

    assert shown.status_code == 422
    assert "et nos offres" in shown.content.decode()


def test_a_machine_that_fills_in_everything_gets_nowhere(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    answer = join(client, clock, "lucas@example.com", website="https://spam.example")

    assert answer.status_code == 422
    assert "website" not in fields(answer, "email")
    assert not Request.objects.exists()


def test_it_says_when_to_come_back(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    statuses = [
        join(client, clock, each).status_code
        for each in ("a.b@gmail.com", "ab+1@gmail.com", "ab+2@gmail.com", "a.b@googlemail.com", "ab@gmail.com")
    ]
    refused = join(client, clock, "a.b+6@gmail.com")
    other = join(client, clock, "someone@example.com")
    clock.shift(timedelta(seconds=int(refused["Retry-After"])))
    later = join(client, clock, "ab@gmail.com")

    assert statuses == [303] * 5
    assert (refused.status_code, other.status_code, later.status_code) == (429, 303, 303)
    assert "60" in refused.content.decode()


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("", ""),
        ("unix:", ""),
    ],
)
def test_it_counts_networks(ip: str, network: str) -> None:
    assert guard.network(ip) == network


def test_a_network_has_a_limit_and_its_neighbours_have_their_own(
    client: Client, page: OptInPage, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PER_NETWORK", 3)

    def ask(ip: str, number: int) -> int:
        client.defaults["REMOTE_ADDR"] = ip
        return int(join(client, clock, f"reader{number}@example.com").status_code)

    assert [ask(f"203.0.113.{number}", number) for number in range(4)] == [303, 303, 303, 429]
    assert ask("203.0.114.1", 5) == 303


def test_a_page_has_a_limit(
    client: Client, page: OptInPage, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PER_PAGE", 2)

    assert [join(client, clock, f"r{number}@example.com").status_code for number in range(3)] == [303, 303, 429]


def test_nobody_can_flood_a_mailbox(page: OptInPage, client: Client, clock: time_machine.Traveller) -> None:
    """Many spellings, three publications, twelve networks, a week: what a patient attacker gets out of it."""
    pages = [page]
    for name in ("deux", "trois"):
        other = Publication.objects.create(
            name=name, slug=name, author="A", sender="a@b.example", reply_to="a@b.example", postal_address="x"
        )
        pages.append(OptInPage.objects.create(publication=other, slug="main", main=True, headline="H"))

    for day in range(7):
        typed = {each.pk: fields(client.get(f"/{each.publication.slug}/"), "email") for each in pages}
        clock.shift(timedelta(seconds=10))
        for number in range(36):
            client.defaults["REMOTE_ADDR"] = f"10.{day}.{number % 12}.1"
            email = f"victim+{number}.{day}@gmail.com" if number % 2 else "v.ictim@gmail.com"
            each = pages[number % 3]
            client.post(f"/{each.publication.slug}/", typed[each.pk] | {"email": email})
        answering.answer(MONDAY + timedelta(days=day))
        clock.move_to(MONDAY + timedelta(days=day + 1))

    letters = Letter.objects.filter(address_key="victim@gmail.com")
    assert letters.count() <= 7
    assert max(letters.filter(publication=each.publication).count() for each in pages) <= 3


@pytest.mark.parametrize("known", [True, False])
def test_a_request_costs_the_same_for_all(
    client: Client, page: OptInPage, clock: time_machine.Traveller, reader: Reader, known: bool
) -> None:
    if known:
        reader("alice@example.com")
    typed = fields(client.get("/pas/"), "email") | {"email": "alice@example.com"}
    clock.shift(timedelta(seconds=10))

    with CaptureQueriesContext(connection) as queries:
        client.post("/pas/", typed)

    assert queries.captured_queries
    assert not [query for query in queries.captured_queries if "newsletters_subscriber" in query["sql"]]
