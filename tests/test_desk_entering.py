"""The door of the desk: whoever tries too often is asked to wait, and no password is looked at."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from desk.models import PER_NETWORK, TOGETHER, Attempt
from tests.authors import NOW

RIGHT = "une phrase assez longue"


def knock(client: Client, name: str = "maud", word: str = "no", ip: str = "203.0.113.9", at: str = "desk") -> Any:
    return client.post(f"/{at}/login/", {"username": name, "password": word}, REMOTE_ADDR=ip)


@pytest.mark.parametrize("at", ["desk", "admin"])
def test_a_name_is_tried_five_times_from_one_network(client: Client, maud: User, now: Any, at: str) -> None:
    User.objects.update(is_staff=True)
    wrong = [knock(client, at=at, ip=f"203.0.113.{number}") for number in range(TOGETHER)]
    right = knock(client, word=RIGHT, at=at)
    elsewhere = knock(Client(), word=RIGHT, ip="198.51.100.7", at=at)
    now(NOW + timedelta(minutes=15))
    later = knock(client, word=RIGHT, at=at)

    assert all("Too many attempts" not in response.content.decode() for response in wrong)
    assert "Too many attempts. Wait 15 minutes, then try again." in right.content.decode()
    assert (elsewhere.status_code, later.status_code) == (302, 302)


def test_a_wait_says_so_in_its_status(client: Client, maud: User, now: Any) -> None:
    answers = [knock(client).status_code for _time in range(TOGETHER + 1)]

    assert answers == [422] * TOGETHER + [429]


def test_one_network_tries_many_names(client: Client, maud: User, now: Any) -> None:
    for number in range(PER_NETWORK):
        knock(client, f"name{number}")

    assert knock(client, word=RIGHT).status_code == 429


def test_whoever_gets_in_starts_anew(client: Client, maud: User, now: Any) -> None:
    for _time in range(3):
        for _wrong in range(TOGETHER - 1):
            knock(client)
        assert knock(client, word=RIGHT).status_code == 302
        client.logout()

    assert not Attempt.objects.exists()


def test_attempts_are_forgotten_and_tell_no_name(client: Client, maud: User, now: Any) -> None:
    knock(client)
    kept = Attempt.objects.get()
    now(NOW + timedelta(minutes=16))
    knock(client, "bob")

    assert "maud" not in kept.name_hash
    assert "203" not in kept.network_hash
    assert Attempt.objects.get().pk != kept.pk
