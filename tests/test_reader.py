from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.test import Client

from newsletters.addresses import normalise
from newsletters.links import Purpose, seal
from newsletters.models import Clock, Delivery, Issue, Letter, Publication, Subscriber
from newsletters.models.outgoing import State
from tests.conftest import Reader

Status = Subscriber.Status
NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)


def own_page(reader: Subscriber) -> str:
    return f"/reader/{seal(Purpose.READER, reader.pk)}/"


@pytest.fixture
def strict() -> Client:
    return Client(enforce_csrf_checks=True)


def had(reader: Subscriber, day: date, subject: str, state: str = State.SENT) -> Delivery:
    issue = Issue.objects.create(
        publication=reader.publication, subject=subject, body="Texte", state="queued", public_id=f"n{day:%y%m%d}"
    )
    due_at = datetime(day.year, day.month, day.day, 6, tzinfo=UTC)
    return Delivery.objects.create(
        local_date=day,
        subscriber=reader,
        publication=reader.publication,
        way=Delivery.Way.DAILY,
        issue=issue,
        state=state,
        due_at=due_at,
        try_at=due_at,
        late_until=due_at + timedelta(hours=15),
    )


def test_it_asks_before_it_acts(strict: Client, reader: Reader) -> None:
    alice = reader(first_name="Alice", zone="America/Toronto")
    before = Subscriber.objects.filter(pk=alice.pk).values().get()

    for method in (strict.get, strict.head, strict.options, strict.post):
        assert method(own_page(alice)).status_code == 200

    assert Subscriber.objects.filter(pk=alice.pk).values().get() == before
    assert not Letter.objects.exists()


def test_it_shows_nobody_whose_page_it_is(strict: Client, reader: Reader) -> None:
    alice = reader(first_name="Alix")
    had(alice, datetime.now(UTC).date(), "Bonjour {{ first_name|toi }}, la suite")

    shown = strict.get(own_page(alice))

    page = shown.content.decode()
    assert "a•••@e•••.com" in page
    assert "alice@example.com" not in page
    assert "Alix" not in page
    assert "Bonjour toi, la suite" in page
    assert shown["Referrer-Policy"] == "no-referrer"
    assert "noindex" in shown["X-Robots-Tag"]
    assert not shown.cookies


def test_it_draws_the_last_thirty_mornings(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False):
        alice = reader(now=NOON - timedelta(days=90))
        today = date(2026, 11, 23)
        had(alice, today, "Aujourd’hui même")
        had(alice, today - timedelta(days=1), "Incertain", State.UNCERTAIN)
        had(alice, today - timedelta(days=2), "Manqué", State.MISSED)
        had(alice, today - timedelta(days=29), "Le plus ancien", State.HANDOFF)
        had(alice, today - timedelta(days=30), "Trop ancien")
        had(reader("bob@example.com"), today - timedelta(days=5), "Celui de Bob")

        page = strict.get(own_page(alice)).content.decode()

    assert page.count('20h3"/>') == 30
    assert page.count('class="miss"') == 1
    assert page.count('class="today"') == 1
    assert page.count('class="open"') == 26
    for subject in ("Aujourd’hui même", "Incertain", "Le plus ancien"):
        assert subject in page
    for subject in ("Manqué", "Trop ancien", "Celui de Bob"):
        assert subject not in page
    assert f"{alice.publication.root}/archive/n261123/" in page


def test_a_hostile_subject_is_text(strict: Client, reader: Reader) -> None:
    alice = reader()
    had(alice, datetime.now(UTC).date(), "<script>alert(1)</script>")

    assert "<script>" not in strict.get(own_page(alice)).content.decode()


def test_it_pauses_and_starts_again(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False):
        alice = reader()
        choices = {"save": "", "pace": "pause", "until": "2026-12-14", "zone": "Europe/Paris"}

        strict.post(own_page(alice), choices)
        alice.refresh_from_db()
        assert (alice.status, alice.paused_until) == (Status.PAUSED, date(2026, 12, 14))

        strict.post(own_page(alice), choices | {"pace": "daily", "until": ""})
        alice.refresh_from_db()
        assert (alice.status, alice.paused_until) == (Status.ACTIVE, None)


@pytest.mark.parametrize("until", ["2026-11-23", "2026-11-01", "2027-11-24", "", "demain", "0001-01-01"])
def test_it_keeps_what_was_typed_and_says_what_is_wrong(strict: Client, reader: Reader, until: str) -> None:
    with time_machine.travel(NOON, tick=False):
        alice = reader()
        choices = {"save": "", "pace": "pause", "until": until, "zone": "Asia/Tokyo"}

        page = strict.post(own_page(alice), choices).content.decode()

    alice.refresh_from_db()
    assert (alice.status, alice.zone) == (Status.ACTIVE, "Europe/Paris")
    assert 'aria-describedby="until-error"' in page
    assert f'value="{until}"' in page
    assert '<option value="Asia/Tokyo" selected>' in page


def test_it_moves_with_its_reader(strict: Client, reader: Reader) -> None:
    alice = reader()

    answer = strict.post(own_page(alice), {"save": "", "pace": "daily", "zone": "Pacific/Noumea"})

    alice.refresh_from_db()
    assert (answer.status_code, alice.zone) == (200, "Pacific/Noumea")
    assert Clock.objects.filter(publication=alice.publication, zone="Pacific/Noumea").exists()


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe/Paris\x00"])
def test_it_takes_no_zone_that_is_none(strict: Client, reader: Reader, zone: str) -> None:
    alice = reader()

    strict.post(own_page(alice), {"save": "", "pace": "daily", "zone": zone})

    alice.refresh_from_db()
    assert alice.zone == "Europe/Paris"


def test_it_offers_the_readers_own_zone_whatever_it_is(strict: Client, reader: Reader) -> None:
    page = strict.get(own_page(reader(zone="Asia/Calcutta"))).content.decode()
    assert '<option value="Asia/Calcutta" selected>' in page


def test_it_tells_the_hour_where_people_live(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False):
        page = strict.get(own_page(reader())).content.decode()

    for zone, hour in (("Europe/Paris", "12 h"), ("America/Toronto", "6 h"), ("Asia/Kolkata", "16 h 30")):
        option = page.partition(f'<option value="{zone}"')[2].partition("</option>")[0]
        assert hour.replace(" ", "\u00a0") in option


def test_it_leaves_and_comes_back(strict: Client, reader: Reader) -> None:
    alice = reader()

    left = strict.post(own_page(alice), {"leave": ""}).content.decode()
    alice.refresh_from_db()
    assert alice.status == Status.UNSUBSCRIBED
    assert 'name="undo"' in left
    assert 'name="save"' not in left

    strict.post(own_page(alice), {"undo": ""})
    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE


def test_who_left_sets_nothing(strict: Client, reader: Reader) -> None:
    alice = reader()
    alice.leave(datetime.now(UTC))

    strict.post(own_page(alice), {"save": "", "pace": "daily", "zone": "Asia/Tokyo"})

    alice.refresh_from_db()
    assert (alice.status, alice.zone) == (Status.UNSUBSCRIBED, "Europe/Paris")


def test_a_forwarded_link_changes_no_name_and_no_address(strict: Client, reader: Reader) -> None:
    alice = reader(first_name="Alice")
    body = {"first_name": "Eve", "name": "", "email": "eve@example.com", "address": "", "erase": "", "sure": "on"}

    strict.post(own_page(alice), body)
    page = strict.post(own_page(alice), body | {"download": ""})

    alice.refresh_from_db()
    assert (alice.first_name, alice.address) == ("Alice", "alice@example.com")
    assert page["Content-Type"].startswith("text/html")


def test_it_mails_a_link_to_ones_data_once_an_hour(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        alice = reader()
        for _twice in range(2):
            assert strict.post(own_page(alice), {"data": ""}).status_code == 200
        assert [(one.kind, one.address) for one in Letter.objects.all()] == [("access", "alice@example.com")]

        clock.shift(timedelta(hours=1))
        strict.post(own_page(alice), {"data": ""})

    assert Letter.objects.count() == 2


def test_a_link_of_another_publication_shows_its_own_reader(strict: Client, reader: Reader) -> None:
    other = Publication.objects.create(
        name="Ailleurs", slug="ailleurs", author="Zoé", sender="z@a.example", reply_to="z@a.example", postal_address="x"
    )
    alice, there = reader(), reader(publication=other)

    strict.post(own_page(there), {"leave": ""})

    alice.refresh_from_db()
    there.refresh_from_db()
    assert (alice.status, there.status) == (Status.ACTIVE, Status.UNSUBSCRIBED)


def test_a_forged_or_foreign_token_opens_nothing(strict: Client, reader: Reader) -> None:
    alice = reader()
    others = [seal(purpose, alice.pk) for purpose in Purpose if purpose != Purpose.READER]

    for forged in (*others, "x", own_page(alice).split("/")[2][:-1]):
        assert strict.post(f"/reader/{forged}/", {"leave": ""}).status_code == 404

    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE


def test_the_address_may_be_any_that_mail_takes(strict: Client, reader: Reader) -> None:
    lea = reader(normalise("lea@élan.example").address)

    assert "l•••@é•••.example" in strict.get(own_page(lea)).content.decode()
