from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from newsletters.models import Day, Issue, Publication

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    '[x](https://e.example/"onmouseover="alert(1))',
    "![x](javascript:alert(1))",
    "<iframe src=//evil.example></iframe>",
    "{{ settings.SECRET_KEY }} {% include 'x' %}",
]


def issue(publication: Publication, number: int, **columns: Any) -> Issue:
    return Issue.objects.create(
        **{
            "publication": publication,
            "subject": f"Numéro {number:03}.",
            "body": "Un **texte** du jour.",
            "state": Issue.State.QUEUED,
            "public_id": f"n{number}",
        }
        | columns
    )


def went_out(publication: Publication, number: int, day: date, **columns: Any) -> Issue:
    made = issue(publication, number, **columns)
    Day.objects.create(publication=publication, date=day, issue=made, fixed_at=datetime.now(UTC) - timedelta(hours=1))
    return made


def test_it_lists_what_went_out_to_everyone(client: Client, publication: Publication) -> None:
    went_out(publication, 1, date(2026, 11, 21))
    went_out(publication, 2, date(2026, 11, 22), subject="Salut {{ prénom|toi }}")
    issue(publication, 3)
    went_out(publication, 4, date(2026, 11, 20), state=Issue.State.DRAFT)
    Day.objects.create(publication=publication, date=date(2026, 11, 19), fixed_at=datetime.now(UTC))
    other = Publication.objects.create(name="Ailleurs", slug="ailleurs", author="Zoé", sender="z@a.example")
    went_out(other, 5, date(2026, 11, 22))

    page = client.get("/pas/archive/").content.decode()

    assert page.index("Salut toi") < page.index("Numéro 001.")
    for number in (3, 4, 5):
        assert f"Numéro {number:03}." not in page


def test_it_goes_on_from_a_date(client: Client, publication: Publication) -> None:
    for number in range(32):
        went_out(publication, number, date(2026, 10, 1) + timedelta(days=number))

    first = client.get("/pas/archive/").content.decode()
    rest = client.get("/pas/archive/?before=2026-10-03").content.decode()

    assert '?before=2026-10-03"' in first
    assert [f"Numéro {number:03}." in first for number in (31, 2, 1, 0)] == [True, True, False, False]
    assert [f"Numéro {number:03}." in rest for number in (2, 1, 0)] == [False, True, True]
    assert "?before=" not in rest


@pytest.mark.parametrize("before", ["", "x", "2026-13-45", "9999-99-99", "' OR 1=1", "2026-10-03\x00"])
def test_a_date_that_is_none_shows_the_first_page(client: Client, publication: Publication, before: str) -> None:
    went_out(publication, 1, date(2026, 11, 21))
    assert "Numéro 001." in client.get("/pas/archive/", {"before": before}).content.decode()


def test_it_shows_an_issue_without_any_name(client: Client, publication: Publication) -> None:
    went_out(publication, 1, date(2026, 11, 21), body="Bonjour {{ first_name|vous }},\n\nUn **texte**.")

    shown = client.get("/pas/archive/n1/")

    assert "Bonjour vous," in shown.content.decode()
    assert "<strong>texte</strong>" in shown.content.decode()
    assert "X-Robots-Tag" not in shown
    assert shown["Content-Language"] == "fr"


def test_a_step_of_a_sequence_is_not_for_search_engines(client: Client, publication: Publication) -> None:
    issue(publication, 1)

    shown = client.get("/pas/archive/n1/")

    assert shown.status_code == 200
    assert shown["X-Robots-Tag"] == "noindex"
    assert '<meta name="robots" content="noindex">' in shown.content.decode()


@pytest.mark.parametrize("state", [Issue.State.DRAFT, Issue.State.READY])
def test_what_is_not_queued_is_not_shown(client: Client, publication: Publication, state: str) -> None:
    issue(publication, 1, state=state)
    assert client.get("/pas/archive/n1/").status_code == 404


def test_an_issue_is_shown_in_its_own_publication_only(client: Client, publication: Publication) -> None:
    Publication.objects.create(name="Ailleurs", slug="ailleurs", author="Zoé", sender="z@a.example")
    issue(publication, 1)

    for path in ("/ailleurs/archive/n1/", "/pas/archive/n2/", "/nobody/archive/", "/nobody/privacy/"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_does_nothing(client: Client, publication: Publication, text: str) -> None:
    went_out(publication, 1, date(2026, 11, 21), subject=text, body=text)
    Publication.objects.filter(pk=publication.pk).update(privacy=text, name=text, tagline=text)

    for path in ("/pas/archive/", "/pas/archive/n1/", "/pas/privacy/"):
        page = client.get(path).content.decode().lower()
        for active in ("<script", "<iframe", "<img", 'href="javascript:', 'href="data:', '"onmouseover="'):
            assert active not in page
        assert "django-insecure" not in page


def test_the_standard_privacy_page_names_the_author(client: Client, publication: Publication) -> None:
    page = client.get("/pas/privacy/").content.decode()
    assert "Maud Castéra" in page
    assert "mailto:maud@lepasdujour.example" in page


def test_own_words_on_privacy_come_first(client: Client, publication: Publication) -> None:
    Publication.objects.filter(pk=publication.pk).update(privacy="## Mes règles\n\nRien n’est *vendu*.")
    assert "<em>vendu</em>" in client.get("/pas/privacy/").content.decode()


def test_it_lies_at_the_publications_own_host_too(client: Client, publication: Publication) -> None:
    Publication.objects.filter(pk=publication.pk).update(host="lepasdujour.example")
    went_out(publication, 1, date(2026, 11, 21))

    page = client.get("/archive/", headers={"host": "lepasdujour.example"}).content.decode()

    assert 'href="http://lepasdujour.example/archive/n1/"' in page
    assert client.get("/archive/n1/", headers={"host": "lepasdujour.example"}).status_code == 200
