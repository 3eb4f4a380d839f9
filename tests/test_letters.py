import re
from datetime import UTC, datetime, timedelta

import pytest

from newsletters import letters, links
from newsletters.links import Purpose
from newsletters.models import Letter, Publication
from tests.conftest import Reader
from tests.test_rendering import assert_sound, parts, read

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
KINDS = ["confirm", "remind", "welcome", "already", "access", "move"]


def write(publication: Publication, kind: str, reader: Reader, language: str = "en") -> Letter:
    lucas = None if kind in {"confirm", "remind"} else reader("lucas@example.com", first_name="Lucas <Spam>")
    context = {"subscriber": lucas.pk} if lucas else {"request": 7}
    letter = letters.write(
        publication,
        kind,
        "lucas@example.com",
        f"{kind} 7",
        language=language,
        subscriber=lucas,
        context=context,
        now=NOW,
    )
    assert letter
    return letter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_letter_is_sound(publication: Publication, reader: Reader, kind: str, language: str) -> None:
    letter = write(publication, kind, reader, language)

    raw = letters.message_bytes(letter, NOW)

    assert_sound(raw)
    message = read(raw)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message["Reply-To"].addresses[0].addr_spec == "maud@lepasdujour.example"
    assert message["Feedback-ID"] == f"letter:pub{publication.pk}:{kind}:lepasdujourexam"
    assert message["To"].addresses[0].addr_spec == "lucas@example.com"
    assert message["Subject"]
    text, html = parts(raw)
    assert "64100 Bayonne" in text
    assert "64100 Bayonne" in html
    assert set(re.findall(r"http://\S+/[a-z2-7]{50}/", text)) == set(
        re.findall(r'(?<=")http://[^"]+/[a-z2-7]{50}/', html)
    )
    assert "\n\n\n\n" not in text
    assert not re.search(r"^[ \t]+$", text, re.MULTILINE)


def test_a_letter_is_written_once_for_its_cause(publication: Publication) -> None:
    first = letters.write(publication, "confirm", "lucas@example.com", "request 7", language="fr", now=NOW)

    again = letters.write(publication, "confirm", "Lucas@example.com", "request 7", language="fr", now=NOW)
    other = letters.write(publication, "confirm", "lucas@example.com", "request 8", language="fr", now=NOW)

    assert first
    assert again is None
    assert other
    assert first.late_until == NOW + timedelta(days=2)


def test_it_asks_for_a_confirmation_and_repeats_nothing_a_stranger_typed(
    publication: Publication, reader: Reader
) -> None:
    letter = write(publication, "confirm", reader)

    raw = letters.message_bytes(letter, NOW)

    text, html = parts(raw)
    url = f"http://localhost:8000/confirm/{links.seal(Purpose.CONFIRM, 7)}/"
    assert url in text
    assert html.count(f'href="{url}"') == 2
    assert links.code(Purpose.CONFIRM, 7) in text
    assert links.code(Purpose.CONFIRM, 7) in html
    assert read(raw)["To"] == "lucas@example.com"
    assert "List-Unsubscribe" not in read(raw)


def test_a_welcome_says_when_the_first_email_comes_and_how_to_leave(publication: Publication, reader: Reader) -> None:
    letter = write(publication, "welcome", reader)

    raw = letters.message_bytes(letter, NOW)

    text, html = parts(raw)
    assert "Tuesday 24 November at 7:00" in text
    assert "Tuesday 24 November at 7:00" in html
    assert "/leave/" in str(read(raw)["List-Unsubscribe"])
    assert read(raw)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read(raw)["List-Id"] == "Le pas du jour <daily.pas.lepasdujour.example>"
    assert "Spam" not in text + html


@pytest.mark.parametrize(("kind", "way"), [("access", "data"), ("move", "data/move")])
def test_a_link_to_ones_data_is_bound_to_the_minute_it_was_written(
    publication: Publication, reader: Reader, kind: str, way: str
) -> None:
    letter = write(publication, kind, reader)

    text, _html = parts(letters.message_bytes(letter, NOW + timedelta(minutes=20)))

    match = re.search(rf"http://localhost:8000/{way}/([a-z2-7]{{50}})/", text)
    assert match
    token = links.unseal(Purpose[kind.upper()], match[1])
    assert token.number == letter.subscriber_id
    assert letters.FIRST_MINUTE + timedelta(minutes=token.slot) == NOW
    assert letter.late_until == NOW + timedelta(hours=1)


def test_a_letter_keeps_its_message_id_on_every_try(publication: Publication, reader: Reader) -> None:
    letter = write(publication, "already", reader)

    ids = {read(letters.message_bytes(letter, NOW + timedelta(hours=hours)))["Message-ID"] for hours in (0, 1)}

    assert len(ids) == 1
    assert ids.pop().endswith("@lepasdujour.example>")


def test_a_letter_whose_reader_is_gone_still_goes_out(publication: Publication, reader: Reader) -> None:
    letter = write(publication, "access", reader)
    letter.subscriber = None

    assert_sound(letters.message_bytes(letter, NOW))
