import ipaddress
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from funnel import middleware
from newsletters.models import Publication
from optin.models import OptInPage

pytestmark = pytest.mark.django_db


def seen(**meta: Any) -> tuple[str, bool]:
    """Return the client's address and whether it came by TLS, as a view sees them."""
    found: list[HttpRequest] = []

    def view(request: HttpRequest) -> HttpResponse:
        found.append(request)
        return HttpResponse()

    middleware.proxy(view)(RequestFactory().get("/", **meta))
    return found[0].META["REMOTE_ADDR"], found[0].is_secure()


@pytest.fixture
def own_host(page: OptInPage) -> str:
    Publication.objects.update(host="lettres.lepas.example")
    return "lettres.lepas.example"


def test_a_publications_own_host_serves_it_without_its_name(client: Client, own_host: str) -> None:
    answer = client.get("/", HTTP_HOST=own_host)

    assert answer.status_code == 200
    assert "Devenez quelqu’un" in answer.content.decode()


def test_links_use_the_own_host(own_host: str) -> None:
    publication = Publication.objects.get()

    assert publication.root == publication.origin == "http://lettres.lepas.example"


def test_an_own_host_has_a_port_and_capitals(client: Client, own_host: str) -> None:
    assert client.get("/", HTTP_HOST="Lettres.LePas.example:8443").status_code == 200


def test_shared_pages_answer_on_an_own_host(client: Client, own_host: str) -> None:
    assert client.get("/leave/nonsense/", HTTP_HOST=own_host).status_code in {400, 404}
    look = client.get("/static/look.css", HTTP_HOST=own_host)
    assert look.status_code == 200
    look.close()


@pytest.mark.parametrize("host", ["evil.example", "lettres.lepas.example.evil.example", "x.lettres.lepas.example", ""])
def test_a_host_that_nobody_owns_is_404(client: Client, own_host: str, host: str) -> None:
    answer = client.get("/", HTTP_HOST=host)

    assert answer.status_code == 404
    assert host not in answer.content.decode() or not host


def test_an_unknown_host_is_not_redirected_to_tls(client: Client, own_host: str, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/", HTTP_HOST="evil.example").status_code == 404


def test_the_servers_own_host_serves_publications_by_name(client: Client, page: OptInPage) -> None:
    assert client.get("/pas/", HTTP_HOST="localhost").status_code == 200


def test_a_stranger_says_nothing_about_who_they_are(settings: Any) -> None:
    settings.TRUSTED_PROXIES = []

    assert seen(REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR="10.0.0.1", HTTP_X_FORWARDED_PROTO="https") == (
        "203.0.113.9",
        False,
    )


def test_a_trusted_proxy_names_the_client_and_the_scheme(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]

    assert seen(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.9", HTTP_X_FORWARDED_PROTO="https") == (
        "203.0.113.9",
        True,
    )


def test_what_the_client_itself_forwarded_is_not_believed(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]

    client, _ = seen(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="127.0.0.1, 203.0.113.9, 10.0.0.2")

    assert client == "203.0.113.9"


@pytest.mark.parametrize("forwarded", ["", "unknown", "203.0.113.9:1234, _hidden", "<script>"])
def test_a_proxy_that_forwards_nonsense_is_the_client(settings: Any, forwarded: str) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]

    assert seen(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)[0] == "10.0.0.1"


def test_x_forwarded_host_is_never_believed(client: Client, own_host: str) -> None:
    assert client.get("/", HTTP_HOST="evil.example", HTTP_X_FORWARDED_HOST=own_host).status_code == 404
