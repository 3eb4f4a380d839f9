"""A provider's HTTP interface, through django-anymail: esp:mailgun, with anymail's own ANYMAIL_ variables.

One call takes as many readers as the provider allows. Where its texts have variables, one text and each reader's
values go; elsewhere each reader's own text goes in the same call.
"""

import time
from dataclasses import replace
from email.errors import MessageError
from importlib import import_module
from typing import Any

import requests
from anymail.exceptions import AnymailError
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from newsletters.transports import (
    Full,
    Message,
    Options,
    Outcome,
    TransportURLError,
    Unreachable,
    answers,
    calls,
    providers,
)
from newsletters.transports.copies import Copy, copy_of

# A stop must not wait longer for a knock at the door.
CONNECT_SECONDS = 5
REPLY_SECONDS = 60
# How many more calls the halves of a call that was turned away may cost.
CALLS = 32
# Bytes of readers' own texts in one call; the smallest documented limit is Mailjet's, 15 MB.
ROOM = 10_000_000
# Where a call may be repeated without harm, one that broke off is, after these seconds.
AGAIN = (0.5, 2.0)


class ESP:
    def __init__(self, options: Options) -> None:
        if fault := providers.fault(options):
            raise TransportURLError(fault)
        self.provider = providers.PROVIDERS[options.host]
        self.backend: Any = None
        self.chunk = Chunk(self.provider)

    @property
    def group(self) -> int:
        return self.provider.limit

    def stage(self, message: Message) -> Outcome | None:
        try:
            copy = copy_of(message)
        except (ValueError, IndexError, MessageError) as error:
            return Outcome("failed", "address", str(error)[:250])
        if not self.chunk.takes(copy):
            raise Full
        self.reach()
        self.chunk.add(copy)
        return None

    def reach(self) -> None:
        """Open the connection that the call will use, so that a dead line is found before anything is handed off.

        Raises Unreachable.
        """
        if self.backend is not None:
            return
        try:
            backend = opened(self.provider.name)
            session = getattr(backend, "session", None) or requests
            session.head(backend.api_url, timeout=CONNECT_SECONDS, allow_redirects=False)
        except (AnymailError, ImproperlyConfigured, ValueError, requests.RequestException) as error:
            raise Unreachable(" ".join(str(error).split())) from error
        self.backend = backend

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        chunk, self.chunk = self.chunk, Chunk(self.provider)
        run = Run(self.backend, self.provider)
        if going := [copy for copy in chunk.copies if copy.message.key in keys]:
            run.send(going)
        if run.stopped and run.stopped.reason == "unreachable":
            self.close()
        return run.ended

    def close(self) -> None:
        backend, self.backend, self.chunk = self.backend, None, Chunk(self.provider)
        if backend is not None:
            backend.close()


class Run:
    """One call, and those that its halves take. After one that was put off, or has no end, no other is made."""

    def __init__(self, backend: Any, provider: providers.Provider) -> None:
        self.backend, self.provider, self.left = backend, provider, CALLS + 1
        self.ended: dict[Any, Outcome] = {}
        self.stopped: Outcome | None = None

    def send(self, chunk: list[Copy]) -> None:
        """Hand a chunk over; if it is turned away for what stands in it, in halves, until those at fault are alone."""
        found = self.stopped or self.call(chunk)
        if isinstance(found, list):
            self.ended |= {copy.message.key: one for copy, one in zip(chunk, found, strict=True)}
        elif found.state == "failed" and len(chunk) > 1:
            self.send(chunk[: len(chunk) // 2])
            self.send(chunk[len(chunk) // 2 :])
        else:
            self.ended |= dict.fromkeys((copy.message.key for copy in chunk), found)
            if found.state != "failed":
                self.stopped = replace(found, state="retry")

    def call(self, chunk: list[Copy]) -> answers.Outcomes | Outcome:
        if self.left <= 0:
            return Outcome("retry", "refused", "too many mails of one group were turned away")
        self.left -= 1
        found = self.once(chunk)
        if not isinstance(found, list) and found.state == "uncertain" and self.provider.idempotency:
            return self.again(chunk, found)
        return found

    def again(self, chunk: list[Copy], doubt: Outcome) -> answers.Outcomes | Outcome:
        """Repeat a call whose end is not known under the same key; only a plain yes ends the doubt."""
        for pause in () if doubt.reply == answers.SEEN else AGAIN:
            time.sleep(pause)
            found = self.once(chunk)
            if isinstance(found, list):
                return found
            if found.reply == answers.SEEN:
                return [Outcome("sent", "", "taken at the first call")] * len(chunk)
        return doubt

    def once(self, chunk: list[Copy]) -> answers.Outcomes | Outcome:
        try:
            answer = calls.post(self.backend, self.provider, chunk)
        except AnymailError as error:
            return answers.refusal(error)
        return answers.outcomes(self.provider.name, answer, len(chunk))


def opened(name: str) -> Any:
    """Return anymail's backend for a provider, connected. Raises what anymail and Django raise where one is missing."""
    seconds = float(getattr(settings, "ANYMAIL", {}).get("REQUESTS_TIMEOUT", REPLY_SECONDS))
    module = "newsletters.transports.ses" if name == "amazon_ses" else f"anymail.backends.{name}"
    backend = import_module(module).EmailBackend(timeout=seconds)
    backend.open()
    return backend


class Chunk:
    """What goes in one call: one sender, one text where it is merged, each address once."""

    def __init__(self, provider: providers.Provider) -> None:
        self.limit, self.merges, self.room = provider.limit, provider.batch == "merge", ROOM
        self.copies: list[Copy] = []
        self.addresses: set[str] = set()

    def takes(self, copy: Copy) -> bool:
        if not self.copies:
            return True
        first = self.copies[0]
        alike = copy.body == first.body if self.merges else len(copy.message.data) <= self.room
        fits = copy.sender == first.sender and copy.address.lower() not in self.addresses
        return alike and fits and len(self.copies) < self.limit

    def add(self, copy: Copy) -> None:
        self.copies.append(copy)
        self.addresses.add(copy.address.lower())
        self.room -= len(copy.message.data)
