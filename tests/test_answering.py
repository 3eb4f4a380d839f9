from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from newsletters.links import Purpose, code, seal
from newsletters.models import Letter, Subscriber, Suppression
from newsletters.models.subscriber import keyed_hash
from optin import answering, confirmation, tasks
from optin.models import OptInPage, Request
from tests.conftest import Reader
from tests.visitor import MONDAY, confirm_path, join

MAIN = "/pas/join/accueil/"


def kinds(**where: object) -> list[str]:
    return list(Letter.objects.filter(**where).order_by("pk").values_list("kind", flat=True))


def test_known_and_unknown_addresses_look_the_same(
    client: Client, page: OptInPage, clock: time_machine.Traveller, reader: Reader
) -> None:
    reader("aaaaa@example.com", first_name="Alice", zone="Asia/Tokyo")
    reader("ccccc@example.com").leave(timezone.now())
    Suppression.objects.create(
        address_hash=keyed_hash("ddddd@example.com"), reason="not_me", since=timezone.now() - timedelta(days=1)
    )

    def seen(address: str) -> list[tuple[int, str]]:
        thanks = join(client, clock, address)
        answering.answer(timezone.now())
        pages = [client.get(thanks["Location"])]
        pages.append(client.post(thanks["Location"], {"code": "000000"}))
        clock.move_to(timezone.now() + timedelta(minutes=3))
        client.post(thanks["Location"], {"again": ""})
        answering.answer(timezone.now())
        pages.append(client.get(thanks["Location"]))
        clock.move_to(MONDAY)
        return [(each.status_code, each.content.decode().replace(address, "X")) for each in pages]

    aaaaa = seen("aaaaa@example.com")
    assert aaaaa == seen("bbbbb@example.com") == seen("ccccc@example.com") == seen("ddddd@example.com")
    assert kinds(address="aaaaa@example.com") == ["already"]
    assert kinds(address="bbbbb@example.com") == kinds(address="ccccc@example.com") == ["confirm", "remind"]
    assert kinds(address="ddddd@example.com") == []
    alice = Subscriber.objects.get(address="aaaaa@example.com")
    assert (alice.first_name, alice.zone) == ("Alice", "Asia/Tokyo")


def test_answering_twice_is_once(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    join(client, clock, "lucas@example.com")

    assert answering.answer(timezone.now()) == 1
    assert answering.answer(timezone.now()) == 0
    tasks.answer()

    letter = Letter.objects.get()
    assert (letter.kind, letter.cause, letter.context) == (
        "confirm",
        "2026-11-23",
        {"request": Request.objects.get().pk},
    )
    assert (letter.language, letter.state) == ("fr", "planned")


def test_a_request_that_cannot_be_answered_holds_up_no_other(
    client: Client, page: OptInPage, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        join(client, clock, f"r{number}@example.com")
    Request.objects.filter(address="r1@example.com").update(zone="x" * 40)
    first = confirmation.pending

    def pending(request: Request) -> Subscriber:
        if request.zone.startswith("x"):
            raise ValueError("broken")
        return first(request)

    monkeypatch.setattr(answering, "pending", pending)

    assert answering.answer(timezone.now()) == 2
    assert Request.objects.get(answered_at=None).address == "r1@example.com"
    monkeypatch.undo()
    assert answering.answer(timezone.now()) == 1


def test_a_mailbox_gets_three_letters_a_month(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    for day in range(6):
        clock.move_to(MONDAY + timedelta(days=day))
        join(client, clock, "lucas@example.com")
        answering.answer(timezone.now())
        Letter.objects.filter(created_at__lt=timezone.now()).exists()

    assert kinds() == ["confirm"] * 3


def test_a_broker_that_is_down_breaks_no_page(
    client: Client,
    page: OptInPage,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr("optin.confirmation.current_app.send_task", refuse)

    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        answer = join(client, clock, "lucas@example.com")

    assert answer.status_code == 303
    assert callbacks


def test_the_mail_can_be_asked_for_again_after_two_minutes(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    thanks = join(client, clock, "lucas@example.com")["Location"]
    answering.answer(timezone.now())

    early = client.post(thanks, {"again": ""})
    clock.shift(timedelta(minutes=2))
    again = client.post(thanks, {"again": ""})
    twice = client.post(thanks, {"again": ""})
    answering.answer(timezone.now())

    assert (early.status_code, again.status_code, twice.status_code) == (422, 303, 303)
    assert kinds() == ["confirm", "remind"]


def test_the_address_can_be_corrected(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    thanks = join(client, clock, "lucas@exmaple.com", first_name="Lucas", zone="America/Montreal")["Location"]
    wrong = Request.objects.get()

    error = client.post(thanks, {"email": "lucas@"})
    hint = client.post(thanks, {"email": "lucas@gmial.com"})
    corrected = client.post(thanks, {"email": "lucas@example.com"})

    right = Request.objects.latest("pk")
    assert (error.status_code, hint.status_code, corrected.status_code) == (422, 422, 303)
    assert (right.address, right.first_name, right.zone) == ("lucas@example.com", "Lucas", "America/Montreal")
    assert corrected["Location"] == f"{MAIN}thanks/{seal(Purpose.THANKS, right.pk)}/"
    assert client.get(thanks).status_code == 410
    assert client.post(confirm_path(wrong), {"confirm": ""}, follow=True).status_code == 410
    assert not Subscriber.objects.exists()


def test_the_code_confirms(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    thanks = join(client, clock, "lucas@example.com")["Location"]
    request = Request.objects.get()
    answering.answer(timezone.now())
    right = code(Purpose.CONFIRM, request.pk)

    done = client.post(thanks, {"code": f" {right[:3]} {right[3:]} "})

    assert done.status_code == 303
    assert done["Location"] == confirm_path()
    assert Subscriber.objects.get().status == "active"


@pytest.mark.parametrize("typed", ["", "12", "abcdef", "1234567", "١٢٣٤٥٦"])
def test_a_code_has_six_digits(client: Client, page: OptInPage, clock: time_machine.Traveller, typed: str) -> None:
    thanks = join(client, clock, "lucas@example.com")["Location"]

    assert client.post(thanks, {"code": typed}).status_code == 422
    assert Request.objects.get().tries == 0


def test_a_code_has_five_tries_and_thirty_minutes(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    thanks = join(client, clock, "lucas@example.com")["Location"]
    answering.answer(timezone.now())
    right = code(Purpose.CONFIRM, Request.objects.get().pk)
    wrong = "000000" if right != "000000" else "111111"

    for _each in range(5):
        assert client.post(thanks, {"code": wrong}).status_code == 422
    spent = client.post(thanks, {"code": right})
    Request.objects.update(tries=0)
    clock.shift(timedelta(minutes=31))
    Letter.objects.update(created_at=MONDAY)
    late = client.post(thanks, {"code": right})

    assert (spent.status_code, late.status_code) == (422, 422)
    assert Subscriber.objects.get().status == "pending"


def test_a_mailbox_has_ten_tries_a_day(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    for _each in range(2):
        thanks = join(client, clock, "lucas@example.com")["Location"]
        Request.objects.filter(tries=0).update(tries=5)
    thanks = join(client, clock, "lucas@example.com")["Location"]
    answering.answer(timezone.now())
    right = code(Purpose.CONFIRM, Letter.objects.get().context["request"])

    assert client.post(thanks, {"code": right}).status_code == 422


def test_the_code_of_the_days_letter_serves_a_second_request(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    join(client, clock, "lucas@example.com")
    answering.answer(timezone.now())
    first = Request.objects.get()
    thanks = join(client, clock, "lucas@example.com", first_name="Lucas")["Location"]
    answering.answer(timezone.now())

    client.post(thanks, {"code": code(Purpose.CONFIRM, first.pk)})

    assert kinds() == ["confirm", "welcome"]
    assert Subscriber.objects.get().first_name == "Lucas"


def test_a_thanks_page_belongs_to_its_page(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    OptInPage.objects.create(publication=page.publication, slug="autre", headline="Autre")
    thanks = join(client, clock, "lucas@example.com")["Location"]

    assert client.get(thanks.replace("accueil", "autre")).status_code == 404
    assert client.get(f"{MAIN}thanks/{confirm_path().split('/')[2]}/").status_code == 404
    assert client.get(f"{MAIN}thanks/nonsense/").status_code == 404


def test_a_code_serves_its_own_address_only(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    """Not every server ignores what follows a plus sign: the two addresses may be two people's."""
    join(client, clock, "bob+eve@example.com")
    answering.answer(timezone.now())
    mailed = code(Purpose.CONFIRM, Request.objects.get().pk)
    thanks = join(client, clock, "bob@example.com")["Location"]
    answering.answer(timezone.now())

    assert client.post(thanks, {"code": mailed}).status_code == 422
