import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client

from newsletters.models import Issue, Publication, Series, Subscriber

pytestmark = pytest.mark.django_db


def demo() -> str:
    said = StringIO()
    call_command("demo", stdout=said)
    return said.getvalue()


def test_it_makes_a_publication_that_works(client: Client) -> None:
    said = demo()

    publication = Publication.objects.get()
    sequence, queue = publication.series.get(kind=Series.Kind.SEQUENCE), publication.series.get(kind=Series.Kind.DAILY)
    assert (sequence.entries.count(), sequence.welcome, queue.entries.count()) == (10, True, 5)
    assert set(publication.issues.values_list("state", flat=True)) == {Issue.State.QUEUED}
    assert Subscriber.objects.mailable().count() >= 20
    page = client.get("/lepasdujour/")
    assert page.status_code == 200
    assert publication.pages.get().headline in page.content.decode()
    login = re.search(r"Log in as (\S+) with (\S+)", said)
    assert login
    assert client.login(username=login[1], password=login[2])
    assert client.get("/admin/").status_code == 200


def test_it_never_touches_a_place_in_use(publication: Publication) -> None:
    said = demo()

    assert said == ""
    assert Publication.objects.count() == 1
    assert not Subscriber.objects.exists()


def test_every_password_is_another() -> None:
    first = demo()
    Publication.objects.all().delete()
    from django.contrib.auth import get_user_model

    get_user_model()._default_manager.all().delete()

    assert demo() != first
