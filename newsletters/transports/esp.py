"""A provider's HTTP interface, through django-anymail: esp:mailgun, with anymail's own ANYMAIL_ variables.

One call takes as many readers as the provider allows. Where its texts have variables, one text and each reader's
values go; elsewhere each reader's own text goes in the same call.
"""

import time
from collections.abc import Iterable
from email.errors import MessageError
from importlib import import_module
from typing import Any

import requests
from anymail.exceptions import AnymailError
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from newsletters.transports import Message, Options, Outcome, TransportURLError, Unreachable, answers, calls, providers
from newsletters.transports.copies import Copy, copy_of

# A stop must not wait longer for a knock at the door.
CONNECT_SECONDS = 5
REPLY_SECONDS = 60
# How many texts that need a call each are handed off in one commit.
TEXTS = 16
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
        self.staged: dict[Any, Copy] = {}

    @property
    def group(self) -> int:
        """As many as one call takes, unless what is staged already needs many calls."""
        if self.provider.batch == "merge" and len({copy.body for copy in self.staged.values()}) >= TEXTS:
            return 1
        return self.provider.limit

    def stage(self, message: Message) -> Outcome | None:
        try:
            copy = copy_of(message)
        except (ValueError, IndexError, MessageError) as error:
            return Outcome("failed", "address", str(error)[:250])
        self.reach()
        self.staged[message.key] = copy
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
        staged, self.staged = self.staged, {}
        going = list(chunks((copy for key, copy in staged.items() if key in keys), self.provider))
        run = Run(self.backend, self.provider, len(going) + CALLS)
        for chunk in going:
            run.send(chunk)
        if run.stopped and run.stopped.reason == "unreachable":
            self.close()
        return run.ended

    def close(self) -> None:
        backend, self.backend, self.staged = self.backend, None, {}
        if backend is not None:
            backend.close()


class Run:
    """The calls of one hand-off. Once the provider wants to be left alone, the rest waits without another call."""

    def __init__(self, backend: Any, provider: providers.Provider, calls: int) -> None:
        self.backend, self.provider, self.left = backend, provider, calls
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
            if found.state == "retry":
                self.stopped = found

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


def chunks(copies: Iterable[Copy], provider: providers.Provider) -> Iterable[list[Copy]]:
    """Share copies out to calls: one sender, one text where it is merged, each address once."""
    begun: dict[object, Chunk] = {}
    for copy in copies:
        alike = (copy.sender, copy.reply_to, copy.body if provider.batch == "merge" else None)
        chunk = begun.setdefault(alike, Chunk(provider))
        if not chunk.takes(copy):
            yield chunk.copies
            chunk = begun[alike] = Chunk(provider)
        chunk.add(copy)
    yield from (chunk.copies for chunk in begun.values())


class Chunk:
    """What goes in one call."""

    def __init__(self, provider: providers.Provider) -> None:
        self.limit, self.room = provider.limit, ROOM if provider.batch == "own" else None
        self.copies: list[Copy] = []
        self.addresses: set[str] = set()

    def takes(self, copy: Copy) -> bool:
        if not self.copies:
            return True
        fits = self.room is None or len(copy.message.data) <= self.room
        return fits and len(self.copies) < self.limit and copy.address.lower() not in self.addresses

    def add(self, copy: Copy) -> None:
        self.copies.append(copy)
        self.addresses.add(copy.address.lower())
        if self.room is not None:
            self.room -= len(copy.message.data)
