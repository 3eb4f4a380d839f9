"""What mail providers know of our messages: those that can be asked by our own number.

Absence is no answer here. No provider says after how long its list is complete, and a row does not say by which relay
it left: what is not found stays uncertain.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import requests
from anymail.exceptions import AnymailError
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Q
from django.utils.translation import gettext as _

from newsletters.models import Publication, Relay
from newsletters.postfix import Answer
from newsletters.stuck import PATIENCE
from newsletters.transports import parse
from newsletters.transports.esp import CONNECT_SECONDS, opened
from newsletters.transports.providers import PROVIDERS

# For one question, from its first byte to the answer's last.
SECONDS = 20
LARGEST = 1_000_000
# One question a message: the rest waits for the next time.
MOST = 1000


class NoAnswer(Exception):
    """A provider said nothing that can be used; the text says what it did instead."""


def _postmark(backend: Any, number: str) -> dict[str, Any]:
    query = {"count": 5, "offset": 0, "metadata_message_id": number}
    if backend.message_stream:  # it looks in one stream, by itself in the transactional one
        query["messagestream"] = backend.message_stream
    headers = {"Accept": "application/json", "X-Postmark-Server-Token": backend.server_token}
    return {"url": urljoin(backend.api_url, "messages/outbound"), "params": query, "headers": headers}


def _in_postmark(body: Any, number: str) -> bool:
    return any((one.get("Metadata") or {}).get("message_id") == number for one in body["Messages"])


def _mailjet(backend: Any, number: str) -> dict[str, Any]:
    key = (backend.api_key, backend.secret_key)
    return {"url": urljoin(backend.api_url, "/v3/REST/message"), "params": {"CustomID": number}, "auth": key}


def _in_mailjet(body: Any, number: str) -> bool:
    """It names no numbers: more than one message, and it has not looked for ours."""
    return len(body["Data"]) == 1 and bool(body["Data"][0]["ID"])


QUESTIONS: Mapping[str, tuple[Callable[[Any, str], dict[str, Any]], Callable[[Any, str], bool]]] = {
    "postmark": (_postmark, _in_postmark),
    "mailjet": (_mailjet, _in_mailjet),
}


def providers(publication: Publication | None = None) -> list[str]:
    """Return the names of the providers that mails may have gone to; MAIL_URL stands in the first relay, or for it."""
    relays = Relay.objects.all()
    if publication:
        relays = relays.filter(Q(publication=publication) | Q(publication=None))
    ways = [parse(relay.url) for relay in list(relays) or [Relay()]]
    return sorted({way.host for way in ways if way.scheme == "esp"})


@dataclass(slots=True)
class Asked:
    """A provider's own record. `fault` says why it could not be asked, or not to the end."""

    name: str
    now: datetime
    fault: str = ""

    def ask(self, messages: Mapping[str, datetime]) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        try:
            for name in self._held([name for name, at in messages.items() if at <= self.now - PATIENCE][:MOST]):
                found[name] = Answer("sent")
        except (NoAnswer, AnymailError, ImproperlyConfigured, requests.RequestException) as error:
            title, said = PROVIDERS[self.name].title, " ".join(str(error).split())[:250].rstrip(".")
            self.fault = _("%(provider)s cannot be asked: %(error)s.") % {"provider": title, "error": said}
        return found

    def _held(self, names: list[str]) -> Iterator[str]:
        """Yield those messages that the provider has or had."""
        if not names:
            return
        if self.name not in QUESTIONS:
            raise NoAnswer(_("it finds no message by our own number; its events settle what it took"))
        question, holds = QUESTIONS[self.name]
        with closing(opened(self.name)) as backend:
            for number in names:
                try:
                    if holds(answer(question(backend, number)), number):
                        yield number
                except (AttributeError, IndexError, KeyError, TypeError, json.JSONDecodeError):
                    raise NoAnswer(_("its answer cannot be read")) from None


def answer(question: dict[str, Any]) -> Any:
    """Return the answer's JSON. Raises NoAnswer, JSONDecodeError and requests.RequestException."""
    ends, data = time.monotonic() + SECONDS, b""
    with requests.get(**question, timeout=(CONNECT_SECONDS, SECONDS), allow_redirects=False, stream=True) as response:
        if response.status_code != 200:
            raise NoAnswer(_("it answers %(status)s") % {"status": response.status_code})
        for piece in response.iter_content(65536):
            data += piece
            if len(data) > LARGEST or time.monotonic() > ends:
                raise NoAnswer(_("its answer has no end"))
    return json.loads(data.decode(errors="replace"))
