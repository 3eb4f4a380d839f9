import email
import email.policy
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from email.message import EmailMessage
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from newsletters import colour, dates, headers, mime, postage, rendering
from newsletters.mime import Field
from newsletters.models import Delivery, Issue, Publication, Revision
from tests.conftest import Reader
from tests.test_headers import HOSTILE

MORNING = datetime(2026, 11, 23, 6, tzinfo=UTC)
BODY = """Bonjour {{ prénom|à vous }},

Chaque soir, j’écris trois lignes. [La constance](https://lepasdujour.example/constance) fait le reste.

> **Votre pas du jour.** Ce soir, trois lignes.

[Choisir un créneau](https://lepasdujour.example/creneau?a=1&b=2)
"""
VALUES = {
    "to_address": "nadia@example.com",
    "to_name": "Nadia",
    "first_name": "Nadia",
    "message_id": "abc@lepasdujour.example",
    "date": "Mon, 23 Nov 2026 06:00:00 +0000",
    "leave_url": "https://lepasdujour.example/leave/token/",
    "reader_url": "https://lepasdujour.example/reader/token/",
    "today": "Lundi 23 novembre",
    "since": "12 mars 2026",
}


@pytest.fixture
def issue(publication: Publication, settings: Any) -> Issue:
    settings.BASE_URL = "https://letters.example.com"
    publication.host = "lepasdujour.example"
    return Issue.objects.create(
        publication=publication,
        subject="Le carnet à trois lignes",
        preheader="Chaque soir.",
        body=BODY,
        public_id="k3q",
    )


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def parts(raw: bytes) -> tuple[str, str]:
    text, html = read(raw).iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")


def defects(message: EmailMessage) -> Iterable[object]:
    for part in message.walk():
        yield from part.defects
        for value in part.values():
            yield from getattr(value, "defects", ())


def assert_sound(raw: bytes) -> None:
    """Check what every server asks: CRLF alone, 7-bit, short lines, and nothing the standard library frowns at."""
    assert raw.isascii()
    assert b"\0" not in raw
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", raw)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))
    assert not re.search(rb"(?m)^(\.|From )", body)
    message = read(raw)
    assert [part.get_content_type() for part in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert not list(defects(message))


def test_a_mail_has_every_header_it_needs(issue: Issue) -> None:
    raw = rendering.blueprint(rendering.revision_of(issue)).fill(VALUES)

    assert_sound(raw)
    message = read(raw)
    assert len(message.keys()) == len({name.lower() for name in message})
    assert message["From"] == "Maud Castéra <maud@lepasdujour.example>"
    assert message["To"] == "Nadia <nadia@example.com>"
    assert message["Subject"] == "Le carnet à trois lignes"
    assert message["Date"].datetime == MORNING
    assert message["Message-ID"] == "<abc@lepasdujour.example>"
    assert message["Reply-To"].addresses[0].addr_spec == "maud@lepasdujour.example"
    assert message["List-Unsubscribe"] == "<https://lepasdujour.example/leave/token/>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["List-Id"] == "Le pas du jour <daily.pas.lepasdujour.example>"
    assert message["List-Archive"] == "<https://lepasdujour.example/archive/>"
    assert message["Feedback-ID"] == f"issue{issue.pk}:pub{issue.publication_id}:daily:lepasdujourexam"
    assert message["Precedence"] == "bulk"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message["MIME-Version"] == "1.0"


def test_both_parts_say_the_same(issue: Issue) -> None:
    text, html = parts(rendering.blueprint(rendering.revision_of(issue)).fill(VALUES))

    said = re.sub(r"<!--.*?-->|<(style|title).*?</\1>|<[^>]+>", "", html, flags=re.DOTALL)
    for sentence in (
        *("Le carnet à trois lignes", "Bonjour Nadia,", "Chaque soir, j’écris trois lignes.", "Votre pas du jour"),
        *("Ce soir, trois lignes.", "Choisir un créneau", "Lundi 23 novembre", "12 mars 2026", "64100 Bayonne"),
    ):
        assert sentence in text
        assert sentence in said
    for url in (
        *("https://lepasdujour.example/constance", "https://lepasdujour.example/creneau?a=1&b=2", VALUES["leave_url"]),
        *(VALUES["reader_url"], "https://lepasdujour.example/archive/k3q/", "https://lepasdujour.example/"),
    ):
        assert url in text
        assert f'href="{url.replace("&", "&amp;")}"' in html
    assert "{{" not in text + html


def test_the_html_is_one_column_in_its_language(issue: Issue) -> None:
    _text, html = parts(rendering.blueprint(rendering.revision_of(issue)).fill(VALUES))

    assert html.startswith('<!DOCTYPE html>\n<html lang="fr" dir="ltr">')
    assert "max-width:600px" in html.replace(" ", "")
    assert all('role="presentation"' in table for table in re.findall("<table[^>]*>", html))
    assert "prefers-color-scheme: dark" in html
    assert 'style="display:none' in html.replace(": ", ":")
    assert "<link" not in html
    assert "<script" not in html


@pytest.fixture(scope="module")
def blueprint() -> mime.Blueprint:
    publication = Publication(
        pk=1, name="Le pas", slug="pas", language="fr", author="Maud", sender="m@p.example", reply_to="m@p.example"
    )
    issue = Issue(pk=1, publication=publication, subject="Pour {{ prénom|vous }}", body=BODY, public_id="k3q")
    return rendering.blueprint(rendering.render(issue))


@settings(deadline=None)
@given(name=HOSTILE)
def test_no_name_breaks_a_mail(blueprint: mime.Blueprint, name: str) -> None:
    raw = blueprint.fill(VALUES | {"first_name": name, "to_name": name})

    assert_sound(raw)
    said = headers.one_line(name) or "à vous"
    text, html = parts(raw)
    assert f"Bonjour {said}," in text
    assert f"Bonjour {said.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}" in html.replace(
        "&quot;", '"'
    ).replace("&#x27;", "'")
    assert read(raw)["Subject"] == headers.one_line(f"Pour {headers.one_line(name) or 'vous'}")
    assert read(raw)["To"].addresses[0].addr_spec == "nadia@example.com"
    assert "Bcc" not in read(raw)


@settings(deadline=None)
@given(st.lists(HOSTILE, min_size=1, max_size=4), HOSTILE, st.sampled_from(["", "q1z"]))
def test_quoted_printable_gives_back_every_text(texts: list[str], value: str, marker: str) -> None:
    clean = [headers.one_line(text).replace("q1z", "") for text in texts]
    content = (marker or "\n").join(["x", *clean, "x"])
    head = [b"Subject: x\r\n"]

    raw = mime.blueprint(head, content, "<p>x</p>", {marker: Field("name")} if marker else {}).fill({"name": value})

    assert_sound(raw)
    said = content.replace("q1z", headers.one_line(value)) if marker else content
    assert parts(raw)[0] == f"{said}\n"


@pytest.mark.parametrize("length", [1, 70, 73, 74, 75, 76, 77, 150, 5000])
def test_long_values_are_broken_softly(length: int) -> None:
    fields = {"q1z": Field("url")}
    for url in ("https://a.example/" + "x" * length, "." * length, "é" * length, "=" * length):
        raw = mime.blueprint([], "Ici :\nq1z\nfin", "<p>q1z</p>", fields).fill({"url": url})

        assert_sound(raw)
        assert parts(raw)[0] == f"Ici :\n{url}\nfin\n"


def test_an_authors_words_cannot_stand_for_a_slot(issue: Issue) -> None:
    marker = next(iter(rendering.revision_of(issue).slots))
    issue.body = f"{marker} {{{{ first_name }}}}"
    issue.save()

    text, _html = parts(rendering.blueprint(rendering.revision_of(issue)).fill(VALUES))

    assert f"{marker} Nadia" in text


def test_a_missing_name_takes_the_space_before_it_along(issue: Issue) -> None:
    issue.body, issue.subject = "Bonjour {{ first_name }}, et {{ first_name|vous }}.", "Bonjour {{ first_name }}"
    raw = rendering.blueprint(rendering.revision_of(issue)).fill(VALUES | {"first_name": "", "to_name": ""})

    assert "Bonjour, et vous." in parts(raw)[0]
    assert read(raw)["Subject"] == "Bonjour"
    assert read(raw)["To"] == "nadia@example.com"


def test_a_links_address_never_names_the_reader(issue: Issue) -> None:
    issue.body = "[Ici](https://elsewhere.example/?n={{ first_name|toi }}&x=https://{{first_name}}.example)"
    raw = rendering.blueprint(rendering.revision_of(issue)).fill(VALUES | {"first_name": "javascript:alert(1)"})

    issue.body = "[x]({{first_name}}) https://elsewhere.example/{{first_name}}"
    bare = rendering.blueprint(rendering.revision_of(issue)).fill(VALUES | {"first_name": "javascript:alert(1)"})

    assert "javascript" not in "".join(parts(raw))
    assert not re.search(r'href="[^"]*javascript', parts(bare)[1])
    assert rendering.preview(issue)[2]


def test_an_issue_is_rendered_once_until_it_changes(issue: Issue) -> None:
    first = rendering.revision_of(issue)

    assert rendering.revision_of(Issue.objects.get(pk=issue.pk)).pk != first.pk  # its host was never saved
    issue.publication.save()
    assert rendering.revision_of(Issue.objects.get(pk=issue.pk)).pk == first.pk
    issue.body += "\nUn mot de plus."
    second = rendering.revision_of(issue)
    assert second.pk != first.pk
    issue.publication.author = "Maud C."
    assert rendering.revision_of(issue).pk not in {first.pk, second.pk}
    assert Revision.objects.filter(issue=issue).count() == 4
    assert rendering.blueprint(second) is rendering.blueprint(second)


def test_it_warns_of_a_mail_that_gmail_cuts_off(issue: Issue) -> None:
    assert rendering.revision_of(issue).warnings == []
    issue.body = "Un paragraphe.\n\n" * 6000

    assert "102" in rendering.revision_of(issue).warnings[0]


def test_a_preview_saves_nothing(issue: Issue) -> None:
    html, text, warnings = rendering.preview(issue)

    assert "Bonjour à vous," in html
    assert "Bonjour à vous," in text
    assert warnings == []
    assert not Revision.objects.exists()


def test_control_characters_in_an_issue_do_no_harm(issue: Issue) -> None:
    issue.subject, issue.body = "Un\r\nBcc: eve@example.com", "Un\x00 mot\x0c \x1b\r\n\r\n.\r\n\r\nFrom ici\ud800\r.\r"

    raw = rendering.blueprint(rendering.render(issue)).fill(VALUES)

    assert_sound(raw)
    assert "Bcc" not in read(raw)
    assert "From ici" in parts(raw)[0]


def test_relative_links_lead_to_where_the_text_first_stood(issue: Issue) -> None:
    issue.canonical_url = "https://blog.example/a/b/"
    issue.body = "[un](../c) [deux](/d) [trois](#e)"

    html, text, _warnings = rendering.preview(issue)

    for url in ("https://blog.example/a/c", "https://blog.example/d", "https://blog.example/a/b/#e"):
        assert f'href="{url}"' in html
        assert url in text


def test_an_unknown_field_is_refused_when_saving(issue: Issue) -> None:
    issue.body = "Bonjour {{ last_name }}"

    issue.publication.postscript = "P.S. {{ age }}"

    with pytest.raises(ValidationError, match="last_name"):
        issue.clean()
    with pytest.raises(ValidationError, match="age"):
        issue.publication.clean()


@pytest.mark.parametrize("accent", ["#000000", "#ffffff", "#ffdd00", "#e30022", "#3366ff", "#00ff00", "#808080"])
def test_an_accent_can_be_read_on_light_and_dark_paper(accent: str) -> None:
    assert contrast(colour.ink(accent, colour.ON_LIGHT), "#fafaf7") >= 4.5
    assert contrast(colour.ink(accent, colour.ON_LIGHT), "#ffffff") >= 4.5
    assert contrast(colour.ink(accent, colour.ON_DARK), "#121614") >= 7


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 reckons it."""
    values = sorted(
        sum(
            weight * ((channel + 0.055) / 1.055) ** 2.4 if channel > 0.04045 else weight * channel / 12.92
            for weight, channel in zip(
                (0.2126, 0.7152, 0.0722), (int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)), strict=True
            )
        )
        for c in (one, other)
    )
    return (values[1] + 0.05) / (values[0] + 0.05)


def test_it_says_dates_and_hours_as_people_do() -> None:
    assert dates.day(date(2026, 11, 23), "fr") == "lundi 23 novembre"
    assert dates.day(date(2026, 11, 1), "fr") == "dimanche 1er novembre"
    assert dates.day(date(2026, 11, 23), "en") == "Monday 23 November"
    assert dates.full_date(date(2026, 3, 1), "fr") == "1er mars 2026"
    assert dates.hour(time(7), "fr") == "7\u00a0h"
    assert dates.hour(time(7, 30), "fr") == "7\u00a0h\u00a030"
    assert dates.hour(time(7), "en") == "7:00"
    assert dates.weekdays("1234567", "en") == "every day"
    assert dates.weekdays("12345", "en") == "from Monday to Friday"
    assert dates.weekdays("31", "en") == "on Monday and Wednesday"
    assert dates.weekdays("7", "en") == "on Sunday"


def test_a_copy_is_the_same_on_every_try(issue: Issue, reader: Reader) -> None:
    nadia = reader("nadia@example.com", first_name="Nadia", now=datetime(2026, 3, 11, 23, 30, tzinfo=UTC))
    delivery = Delivery(
        local_date=date(2026, 11, 23), subscriber=nadia, publication=issue.publication, issue=issue, way="daily"
    )

    values = postage.values(delivery, MORNING)
    text, _html = parts(rendering.blueprint(rendering.revision_of(issue)).fill(values))

    assert values["message_id"] == postage.values(delivery, datetime(2026, 11, 23, 9, tzinfo=UTC))["message_id"]
    assert values["message_id"].endswith("@lepasdujour.example")
    assert "Bonjour Nadia," in text
    assert "Lundi 23 novembre" in text
    assert "12 mars 2026" in text
    assert re.search(r"^https://lepasdujour\.example/leave/[a-z2-7]{50}/$", text, re.MULTILINE)
