"""The whole story, told once, through public doors: import, opt in, confirm, ten mornings, leave, silence."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lxml.html
import pytest
import time_machine
from django.core.management import call_command
from django.test import Client

import newsletters.tasks
import optin.tasks
from newsletters.models import Article, Delivery, Issue, Series, Subscriber
from optin.models import Consent, OptInPage
from tests.servers import MailServer

SAMPLES = Path(__file__).parent / "samples"
SUNDAY = datetime(2026, 11, 22, 16, 30, tzinfo=UTC)


@pytest.fixture(params=["own", "real"])
def blog(request: pytest.FixtureRequest, corpora: Path | None) -> Path:
    """The project's own sample blog, and the real one where it is at hand."""
    return corpora / "blog" if request.param == "real" and corpora else SAMPLES


@pytest.fixture
def traveller() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(SUNDAY, tick=False) as traveller:
        yield traveller


def form(response: Any, field: str) -> dict[str, str]:
    """Return what a browser would send of the form that holds a field."""
    page = lxml.html.fromstring(response.content.decode())
    (found,) = [form for form in page.forms if form.xpath(f".//*[@name='{field}']")]
    return {name: value or "" for name, value in found.form_values()}


def link(message: EmailMessage, path: str) -> str:
    """Return the path of the link in a mail's text that begins so."""
    text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    (found,) = set(re.findall(rf"https?://\S+?({path}\S+)", text))
    return str(found)


def test_the_whole_story(
    blog: Path, page: OptInPage, smtp: MailServer, settings: Any, client: Client, traveller: time_machine.Traveller
) -> None:
    settings.MAIL_URL = smtp.url

    # The author brings the blog in, and a welcome sequence is filled with it.
    call_command("import_articles", "pas", str(blog / "feed.xml"), series="accueil")
    sequence = Series.objects.get(slug="accueil")
    Series.objects.filter(pk=sequence.pk).update(welcome=True)
    subjects = list(sequence.entries.order_by("rank").values_list("issue__subject", flat=True))
    assert Article.objects.count() == len(subjects) == 10

    # A visitor from Montréal asks for the emails.
    asked = form(client.get("/pas/"), "email")
    traveller.shift(timedelta(seconds=20))
    asked |= {"email": "Lucas@Example.com", "first_name": "Lucas", "zone": "America/Montreal"}
    thanks = client.post("/pas/join/accueil/", asked)
    assert thanks.status_code == 303
    assert client.get(thanks["Location"]).status_code == 200
    optin.tasks.answer()
    newsletters.tasks.drain()

    # The confirmation arrives; opening its link confirms nothing, the button does.
    (confirmation,) = smtp.messages
    path = link(confirmation, "/confirm/")
    assert client.get(path).status_code == 200
    assert Subscriber.objects.get().status == Subscriber.Status.PENDING
    client.post(path, {"confirm": ""})
    newsletters.tasks.drain()
    lucas = Subscriber.objects.get()
    assert (lucas.status, lucas.zone, lucas.address) == ("active", "America/Montreal", "Lucas@example.com")
    assert [consent.kind for consent in Consent.objects.order_by("at", "pk")] == ["request", "confirm"]
    assert len(smtp.messages) == 2

    # Ten mornings, ten emails, in order, at seven where Lucas lives.
    for morning in range(10):
        before = datetime(2026, 11, 23 + morning, 11, 59, tzinfo=UTC) if morning < 8 else None
        at = datetime(2026, 11, 23, 12, 0, tzinfo=UTC) + timedelta(days=morning)
        if before:
            traveller.move_to(before)
            call_command("send_due", at=before.isoformat())
            assert len(smtp.messages) == 2 + morning
        traveller.move_to(at)
        call_command("send_due", at=at.isoformat())
    dailies = smtp.messages[2:]
    assert [message["Subject"] for message in dailies] == subjects
    assert all(message["To"].addresses[0].addr_spec == "Lucas@example.com" for message in dailies)
    assert {row.due_at.hour for row in Delivery.objects.all()} == {12}
    assert len({message["Message-ID"] for message in smtp.messages}) == 12

    # One click in the mail program, and silence.
    header = dailies[-1]["List-Unsubscribe"]
    leave = urlsplit(re.findall(r"<(http[^>]+)>", header)[0]).path
    assert client.get(leave).status_code == 200
    assert Subscriber.objects.get().status == "active"
    left = client.post(leave, {"List-Unsubscribe": "One-Click"})
    assert left.status_code == 200
    assert not left.cookies
    extra = sequence.append(
        Issue.objects.create(publication=page.publication, subject="Onze", body="x", state="queued")
    )
    assert extra.issue.state == "queued"
    traveller.shift(timedelta(days=1))
    call_command("send_due", at=(datetime(2026, 12, 3, 12, 0, tzinfo=UTC)).isoformat())
    assert len(smtp.messages) == 12
    assert Subscriber.objects.get().status == "unsubscribed"
