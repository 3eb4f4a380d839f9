"""A visitor with a browser and a mailbox: what a page's form sends, and the link that a mail holds."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import lxml.html
import pytest
import time_machine
from django.test import Client

from newsletters.links import Purpose, seal
from newsletters.models import Issue, Publication, Series
from optin.models import Request

MONDAY = datetime(2026, 11, 23, 8, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A Monday morning in November; time stands still unless it is moved."""
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def sequence(publication: Publication) -> Series:
    """Three queued issues and a draft, for new readers."""
    series = Series.objects.create(publication=publication, name="Accueil", slug="accueil", welcome=True)
    for number, subject in enumerate(["Par où commencer, {{ first_name|vous }}", "Deux", "Trois", "Pas encore"]):
        state = "draft" if number == 3 else "queued"
        issue = Issue.objects.create(
            publication=publication, subject=subject, body="Texte.", state=state, public_id=f"n{number}"
        )
        series.append(issue)
    return series


def fields(response: Any, field: str) -> dict[str, str]:
    """Return the values of the form that holds a field."""
    page = lxml.html.fromstring(response.content.decode())
    (found,) = [form for form in page.forms if form.xpath(f".//*[@name='{field}']")]
    return {name: value or "" for name, value in found.form_values()}


def join(client: Client, clock: time_machine.Traveller, email: str, **values: Any) -> Any:
    """Open the main page of “pas”, type an address, and press the button ten seconds later; return the answer."""
    path = values.pop("path", "/pas/")
    typed = fields(client.get(path), "email")
    clock.shift(timedelta(seconds=10))
    return client.post(path, typed | {"email": email} | values)


def confirm_path(request: Request | None = None) -> str:
    """Return the link of a request's letter, of the last one's where none is given."""
    return f"/confirm/{seal(Purpose.CONFIRM, (request or Request.objects.latest('pk')).pk)}/"
