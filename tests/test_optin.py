import re
from io import BytesIO
from pathlib import Path

import pytest
import time_machine
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from newsletters.links import Purpose, seal
from newsletters.models import Issue, Publication
from optin.models import Consent, OptInPage, Request
from tests.visitor import confirm_path, fields, join

MAIN = "/pas/join/accueil/"


def test_the_first_page_leads_to_the_only_publication(client: Client, page: OptInPage) -> None:
    assert client.get("/")["Location"] == "/pas/"

    other = Publication.objects.create(
        name="Dusk", slug="dusk", author="Ann", sender="a@b.example", reply_to="a@b.example", postal_address="x"
    )
    OptInPage.objects.create(publication=other, slug="main", headline="Dusk")

    listed = client.get("/").content.decode()
    assert "Le pas du jour" in listed
    assert "Dusk" in listed


def test_an_instance_without_pages_says_so(client: Client, db: None) -> None:
    assert client.get("/").status_code == 200
    assert client.get("/pas/").status_code == 404


def test_a_page_says_all_that_its_author_wrote(client: Client, page: OptInPage) -> None:
    sample = Issue.objects.create(
        publication=page.publication,
        subject="La chaise vide, {{ first_name|vous }}",
        body="Bonjour {{ first_name|vous }},\n\n<script>alert(1)</script>\n\n" + "Une phrase.\n\n" * 400,
        public_id="chaise",
    )
    OptInPage.objects.update(
        sample=sample,
        introduction="Pour les **indépendants**.",
        bullets="Une idée : ni liens ni dossier.\n\nUn exemple",
        quote="Debout, avec le café.",
        quote_by="Nadia",
        about="Je m’appelle Maud.",
        questions="## Est-ce gratuit ?\n\nOui, *vraiment*.\n\n## Trop ?\n\nNon.",
        promise="Un email par jour, à 7 h.",
    )

    shown = client.get("/pas/").content.decode()

    for words in (
        "Pour les <strong>indépendants</strong>",
        "<h3>Une idée</h3>\n<p>ni liens ni dossier.</p>",
        "<h3>Un exemple</h3>",
        "Debout, avec le café.",
        "Nadia",
        "Je m’appelle Maud.",
        "<summary>Est-ce gratuit ?</summary>",
        "Oui, <em>vraiment</em>.",
        "La chaise vide, vous",
        "Bonjour vous,",
        "/pas/archive/chaise/",
        'lang="fr"',
    ):
        assert words in shown
    assert "<script>alert" not in shown
    assert shown.count("Une phrase.") < 150


def test_the_promise_is_made_of_hour_and_days(client: Client, page: OptInPage) -> None:
    Publication.objects.update(weekdays="135", language="en")
    OptInPage.objects.update(button="")

    shown = client.get("/pas/").content.decode()

    assert "One email on Monday, Wednesday and Friday, at 7:00." in shown
    assert "Receive the next email" in shown


def test_public_pages_set_no_cookie_and_load_nothing_from_others(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    answers = [client.get(path) for path in ("/pas/", MAIN, f"{MAIN}embed/", "/nothing/", "/confirm/broken/")]
    answers.append(thanks := join(client, clock, "lucas@example.com"))
    answers += [client.get(thanks["Location"]), client.get(confirm_path())]
    answers.append(client.post(confirm_path(), {"confirm": ""}))

    for answer in answers:
        assert not answer.cookies
        assert not re.search(
            r'(?:src|action)="(?:https?:)?//|<link[^>]+href="http|<script>|style="', answer.content.decode()
        )
        assert "default-src 'self'" in answer["Content-Security-Policy"]


def test_only_the_bare_form_may_be_framed(client: Client, page: OptInPage) -> None:
    whole, bare = client.get(MAIN), client.get(f"{MAIN}embed/")

    assert "frame-ancestors 'none'" in whole["Content-Security-Policy"]
    assert whole["X-Frame-Options"] == "DENY"
    assert "frame-ancestors *" in bare["Content-Security-Policy"]
    assert "X-Frame-Options" not in bare
    assert 'target="_top"' in bare.content.decode()


@pytest.mark.parametrize("path", ["/pas/", MAIN, f"{MAIN}embed/"])
def test_every_form_leads_to_the_thanks(
    client: Client, page: OptInPage, clock: time_machine.Traveller, path: str
) -> None:
    answer = join(client, clock, "lucas@example.com", path=path)

    assert answer.status_code == 303
    assert answer["Location"] == f"{MAIN}thanks/{seal(Purpose.THANKS, Request.objects.get().pk)}/"


def test_a_publications_own_host_leaves_its_name_out(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    Publication.objects.update(host="lettres.example")
    client.defaults["HTTP_HOST"] = "lettres.example"

    answer = join(client, clock, "lucas@example.com", path="/")

    assert answer["Location"].startswith("/join/accueil/thanks/")
    assert client.get(answer["Location"]).status_code == 200
    assert client.get("/accent/0f5c46.css").status_code == 200
    assert Consent.objects.get().page == "http://lettres.example/"


def test_the_accent_is_a_colour_and_nothing_else(client: Client, db: None) -> None:
    css = client.get("/accent/aa3300.css")

    assert css.content == b":root { --accent: #aa3300; }\n"
    assert "immutable" in css["Cache-Control"]
    assert client.get("/accent/AA3300.css").status_code == 404
    assert client.get("/accent/red;}.css").status_code == 404


@pytest.mark.parametrize("typed", ["", "lucas", "lucas@", "élodie@example.com"])
def test_an_error_stands_beside_the_field_and_keeps_what_was_typed(
    client: Client, page: OptInPage, clock: time_machine.Traveller, typed: str
) -> None:
    answer = join(client, clock, typed, first_name="Élodie")

    shown = answer.content.decode()
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in shown
    assert 'id="email-error"' in shown
    assert fields(answer, "email").get("email", "") == typed
    assert fields(answer, "email")["first_name"] == "Élodie"
    assert not Request.objects.exists()


def test_a_likely_slip_is_asked_about_once(client: Client, page: OptInPage, clock: time_machine.Traveller) -> None:
    asked = join(client, clock, "lucas@gmial.com")
    same = client.post("/pas/", fields(asked, "email"))
    another = client.post("/pas/", fields(asked, "email") | {"email": "lucas@hotmial.com"})

    assert asked.status_code == 422
    assert "lucas@gmail.com" in asked.content.decode()
    assert same.status_code == 303
    assert another.status_code == 422


def test_a_zone_nobody_knows_is_the_publications(
    client: Client, page: OptInPage, clock: time_machine.Traveller
) -> None:
    for number, zone in enumerate(["America/Montreal", "", "Mars/Olympus", "../../etc/passwd", "x" * 5000]):
        assert join(client, clock, f"r{number}@example.com", zone=zone).status_code == 303

    assert list(Request.objects.order_by("pk").values_list("zone", flat=True)) == [
        "America/Montreal",
        *["Europe/Paris"] * 4,
    ]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_error_pages_stand_in_the_same_hand(client: Client, db: None, language: str) -> None:
    answer = client.get("/nothing/here/", headers={"Accept-Language": language})

    assert answer.status_code == 404
    assert 'class="skip"' in answer.content.decode()


def test_a_failure_of_ours_has_a_page(client: Client, page: OptInPage, monkeypatch: pytest.MonkeyPatch) -> None:
    client.raise_request_exception = False
    monkeypatch.setattr("optin.wording.finds", lambda page: 1 / 0)

    answer = client.get("/pas/")

    assert answer.status_code == 500
    assert 'id="main"' in answer.content.decode()


def uploaded(data: bytes, name: str = "x.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, "image/png")


def test_a_picture_is_drawn_anew(client: Client, page: OptInPage) -> None:
    out = BytesIO()
    Image.new("RGB", (2000, 100), "teal").save(out, "JPEG", comment=b"<script>")
    page.image = uploaded(out.getvalue(), "../../Maud.svg")

    page.full_clean()
    page.save()

    stored = Path(settings.MEDIA_ROOT) / page.image.name
    with Image.open(stored) as picture:
        assert (picture.format, picture.size) == ("WEBP", (1600, 80))
    assert b"<script>" not in stored.read_bytes()
    assert page.image.url in client.get("/pas/").content.decode()
    served = client.get(page.image.url)
    assert served.status_code == 200
    assert served["Content-Type"] == "image/webp"
    assert b"".join(served.streaming_content) == stored.read_bytes()  # type: ignore[attr-defined]
    assert client.get("/media/pages/..%2f..%2fkeys").status_code == 404


@pytest.mark.parametrize("data", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"GIF89a"])
def test_what_is_no_picture_is_refused(page: OptInPage, data: bytes) -> None:
    page.image = uploaded(data)

    with pytest.raises(ValidationError):
        page.full_clean()
