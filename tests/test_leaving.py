from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.test import Client

from newsletters import privacy
from newsletters.links import Purpose, seal
from newsletters.models import Delivery, Publication, Subscriber, Suppression
from newsletters.models.outgoing import State
from tests.conftest import Reader

Status = Subscriber.Status
NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
URLENCODED = "application/x-www-form-urlencoded"


def way_out(reader: Subscriber) -> str:
    return f"/leave/{seal(Purpose.LEAVE, reader.pk, date(2026, 11, 23))}/"


def planned(reader: Subscriber, day: date = date(2026, 11, 24)) -> Delivery:
    due_at = datetime(day.year, day.month, day.day, 6, tzinfo=UTC)
    return Delivery.objects.create(
        local_date=day,
        subscriber=reader,
        publication=reader.publication,
        way=Delivery.Way.DAILY,
        due_at=due_at,
        try_at=due_at,
        late_until=due_at + timedelta(hours=15),
    )


@pytest.fixture
def strict() -> Client:
    """A client as a mail provider's: no cookie, and no CSRF token."""
    return Client(enforce_csrf_checks=True)


def test_it_asks_before_it_acts(strict: Client, reader: Reader) -> None:
    alice = reader()

    for method in (strict.get, strict.head, strict.options):
        assert method(way_out(alice)).status_code == 200

    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE
    page = strict.get(way_out(alice)).content.decode()
    assert "a•••@e•••.com" in page
    assert "alice@example.com" not in page
    assert "Le pas du jour" in page


@time_machine.travel(NOON, tick=True)
@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
def test_it_obeys_the_one_click_of_mail_clients(strict: Client, reader: Reader, form: str) -> None:
    alice, bob = reader(), reader("bob@example.com")
    waiting = planned(alice)

    for _twice in range(2):
        if form == "urlencoded":
            answer = strict.post(way_out(alice), "List-Unsubscribe=One-Click", content_type=URLENCODED)
        else:
            answer = strict.post(way_out(alice), ONE_CLICK)
        assert answer.status_code == 200

    alice.refresh_from_db()
    bob.refresh_from_db()
    waiting.refresh_from_db()
    assert (alice.status, bob.status) == (Status.UNSUBSCRIBED, Status.ACTIVE)
    assert (waiting.state, waiting.reason) == (State.SKIPPED, "unsubscribed")
    assert Suppression.objects.filter(reason="left", address_hash=alice.address_hash).count() == 1


def test_it_reads_and_sets_no_cookie(strict: Client, reader: Reader) -> None:
    answer = strict.post(way_out(reader()), ONE_CLICK)

    assert not answer.cookies
    assert "Cookie" not in answer.get("Vary", "")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"List-Unsubscribe": "one-click"},
        {"List-Unsubscribe": "One-Click "},
        {"list-unsubscribe": "One-Click"},
        {"unsubscribe": "1"},
        {"email": "alice@example.com"},
    ],
)
def test_any_other_post_only_asks(strict: Client, reader: Reader, body: dict[str, str]) -> None:
    alice = reader()

    answer = strict.post(way_out(alice), body)

    alice.refresh_from_db()
    assert (answer.status_code, alice.status) == (200, Status.ACTIVE)
    assert 'name="leave"' in answer.content.decode()


def test_a_body_in_the_address_does_not_count(strict: Client, reader: Reader) -> None:
    alice = reader()

    strict.post(way_out(alice) + "?List-Unsubscribe=One-Click&leave=1")

    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE


def test_a_person_leaves_with_a_button_and_changes_their_mind(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        alice = reader(now=NOON - timedelta(days=30))

        left = strict.post(way_out(alice), {"leave": ""}).content.decode()
        clock.shift(timedelta(minutes=59))
        again = strict.post(way_out(alice), {"undo": ""})

    alice.refresh_from_db()
    assert "a•••@e•••.com" in left
    assert 'name="undo"' in left
    assert (again.status_code, alice.status, alice.left_at) == (200, Status.ACTIVE, None)
    assert not Suppression.objects.filter(lifted_at=None).exists()


def test_it_takes_nothing_back_after_an_hour(strict: Client, reader: Reader) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        alice = reader(now=NOON - timedelta(days=30))
        strict.post(way_out(alice), {"leave": ""})
        clock.shift(timedelta(minutes=61))

        answer = strict.post(way_out(alice), {"undo": ""}).content.decode()

    alice.refresh_from_db()
    assert alice.status == Status.UNSUBSCRIBED
    assert 'name="undo"' not in answer
    assert f"{alice.publication.root}/" in answer


def test_taking_back_confirms_nobody(strict: Client, reader: Reader) -> None:
    pending = reader(start=False)

    strict.post(way_out(pending), {"leave": ""})
    strict.post(way_out(pending), {"undo": ""})
    strict.post(way_out(pending), {"pause": "", "until": "2026-12-14"})
    strict.post(way_out(pending), {"resume": ""})

    pending.refresh_from_db()
    assert pending.status == Status.UNSUBSCRIBED


def test_a_link_answers_for_ever_and_after_an_erasure(strict: Client, reader: Reader) -> None:
    alice = reader()
    address = way_out(alice)
    privacy.erase(alice, datetime.now(UTC))

    with time_machine.travel(datetime(2046, 1, 1, tzinfo=UTC)):
        answers = [strict.get(address), strict.post(address, ONE_CLICK), strict.post(address, {"leave": ""})]

    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("status", [Status.BOUNCED, Status.COMPLAINED])
def test_a_dead_address_stays_dead(strict: Client, reader: Reader, status: str) -> None:
    alice = reader()
    Subscriber.objects.filter(pk=alice.pk).update(status=status)

    for body in (ONE_CLICK, {"undo": ""}, {"resume": ""}, {"pause": "", "until": "2030-01-01"}):
        assert strict.post(way_out(alice), body).status_code == 200

    alice.refresh_from_db()
    assert alice.status == status


def test_it_pauses_until_a_date_of_the_readers(strict: Client, reader: Reader) -> None:
    with time_machine.travel(datetime(2026, 11, 23, 22, 30, tzinfo=UTC), tick=False):
        tokyo = reader(zone="Asia/Tokyo")
        waiting = planned(tokyo)

        # It is the 24th in Tokyo.
        too_early = strict.post(way_out(tokyo), {"pause": "", "until": "2026-11-24"}).content.decode()
        too_late = strict.post(way_out(tokyo), {"pause": "", "until": "2027-11-25"}).content.decode()
        tokyo.refresh_from_db()
        assert tokyo.status == Status.ACTIVE
        strict.post(way_out(tokyo), {"pause": "", "until": "2026-11-25"})

    tokyo.refresh_from_db()
    waiting.refresh_from_db()
    assert 'aria-invalid="true"' in too_early
    assert 'aria-invalid="true"' in too_late
    assert 'value="2027-11-25"' in too_late
    assert (tokyo.status, tokyo.paused_until) == (Status.PAUSED, date(2026, 11, 25))
    assert waiting.state == State.SKIPPED


@pytest.mark.parametrize("until", ["", "tomorrow", "99999-01-01", "2026-02-30", "<script>alert(1)</script>"])
def test_a_date_that_is_none_pauses_nobody(strict: Client, reader: Reader, until: str) -> None:
    alice = reader()

    answer = strict.post(way_out(alice), {"pause": "", "until": until})

    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE
    assert 'aria-invalid="true"' in answer.content.decode()
    assert "<script>" not in answer.content.decode()


def test_it_starts_again_on_demand(strict: Client, reader: Reader) -> None:
    alice = reader()
    alice.pause(date(2030, 1, 1), datetime.now(UTC))

    assert 'name="resume"' in strict.get(way_out(alice)).content.decode()
    strict.post(way_out(alice), {"resume": ""})

    alice.refresh_from_db()
    assert (alice.status, alice.paused_until) == (Status.ACTIVE, None)


def test_a_forged_or_foreign_token_gets_a_kind_page(strict: Client, reader: Reader) -> None:
    alice = reader()
    token = seal(Purpose.LEAVE, alice.pk)
    others = [seal(purpose, alice.pk) for purpose in Purpose if purpose != Purpose.LEAVE]
    bent = [token[:at] + ("a" if token[at] != "a" else "b") + token[at + 1 :] for at in range(len(token))]

    for forged in (*others, *bent, "x", token[:-1], f"{token}a", "%00", "é"):
        answer = strict.post(f"/leave/{forged}/", ONE_CLICK)
        assert answer.status_code == 404
        assert "a•••@e•••.com" not in answer.content.decode()

    alice.refresh_from_db()
    assert alice.status == Status.ACTIVE


def test_a_token_in_capitals_is_the_same(strict: Client, reader: Reader) -> None:
    assert strict.get(f"/leave/{seal(Purpose.LEAVE, reader().pk).upper()}/").status_code == 200


def test_it_tells_nobody_where_a_reader_comes_from(strict: Client, reader: Reader) -> None:
    for answer in (strict.get(way_out(reader())), strict.get("/leave/forged/")):
        assert answer["Referrer-Policy"] == "no-referrer"
        assert "noindex" in answer["X-Robots-Tag"]
        assert answer["Cache-Control"] == "no-store"


def test_it_speaks_the_publications_language(strict: Client, reader: Reader, publication: Publication) -> None:
    answer = strict.get(way_out(reader()), headers={"accept-language": "en"})
    assert answer["Content-Language"] == "fr"
    assert '<html lang="fr">' in answer.content.decode()


def test_undoing_a_departure_gives_a_pause_back(reader: Reader) -> None:
    alice = reader(now=NOON)
    alice.pause(date(2026, 12, 24), NOON)

    alice.leave(NOON)
    assert alice.undo_leave(NOON)

    assert (alice.status, alice.paused_until) == (Status.PAUSED, date(2026, 12, 24))
