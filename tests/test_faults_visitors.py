"""The same address, typed two hundred times at once in many spellings: one reader, and one question to them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from newsletters.models import Letter, Subscriber
from optin import answering
from optin.models import OptInPage, Request
from tests.visitor import clock, confirm_path, fields  # noqa: F401

CROWD = 20
DOMAIN = ["bob@b\u00fccher.example", "Bob@BÜCHER.example", "bob@xn--bcher-kva.example", "BOB@XN--BCHER-KVA.EXAMPLE"]
DOTS = ["lea.roy@gmail.com", "l.e.a.roy@gmail.com", "LeaRoy@gmail.com", "learoy+pas@gmail.com"]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("spellings", [DOMAIN, DOTS])
def test_one_address_typed_at_once_is_one_reader_and_one_letter(
    page: OptInPage,
    clock: time_machine.Traveller,  # noqa: F811
    spellings: list[str],
) -> None:
    shown = Client().get("/pas/")
    assert shown.status_code == 200, (shown.status_code, shown.headers)
    typed = fields(shown, "email")
    clock.shift(timedelta(seconds=10))
    start = Barrier(CROWD)

    def ask(number: int) -> int:
        start.wait()
        try:
            for turn in range(10):
                client = Client(REMOTE_ADDR=f"10.{number}.{turn}.1")
                client.post("/pas/", typed | {"email": spellings[(number + turn) % len(spellings)]})
                answering.answer(timezone.now())
        finally:
            connection.close()
        return number

    with ThreadPoolExecutor(CROWD) as crowd:
        assert len(list(crowd.map(ask, range(CROWD)))) == CROWD
    answering.answer(timezone.now())
    asked = Letter.objects.get(kind=Letter.Kind.CONFIRM)
    Client().post(confirm_path(Request.objects.get(pk=asked.context["request"])), {"confirm": "1"})

    assert Letter.objects.exclude(kind=Letter.Kind.WELCOME).count() == 1
    assert Subscriber.objects.filter(status=Subscriber.Status.ACTIVE).count() == 1
    assert spellings == DOTS or Subscriber.objects.count() == 1
