"""What Postfix knows of our messages: its log, and its queue."""

import json
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

OURS = re.compile(r"postfix[\w/-]*?/([\w-]+)\[\d+\]: ")
LINE = re.compile(OURS.pattern + r"([0-9A-Za-z]{6,25}): (.*)")
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)|([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)")
MESSAGE_ID = re.compile(r"message-id=<?([^@>\s]*)")
END = re.compile(r"status=(sent|bounced|expired|deferred|undeliverable) \((.*)\)?$")
# Several agents log at the same time, not always in order.
SLACK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message: `state` is sent (the relay has or had it), failed, or absent (it never took it)."""

    state: str
    text: str = ""


class Record(Protocol):
    """Somebody who knows what was taken: a relay's log, its queue, a provider that can be asked."""

    def ask(self, messages: Mapping[str, datetime]) -> dict[str, Answer]:
        """Return what is known of messages, given with the instant they were handed over, by token."""


@dataclass(slots=True)
class Track:
    """One message in the log, over all the queue ids it had on its way through filters."""

    taken: bool = False
    failed: str = ""


@dataclass(slots=True)
class Log:
    """A mail log as syslog or the journal write it. `whole` where nothing of the time in question is missing in it."""

    lines: Iterable[str]
    now: datetime
    whole: bool = False
    first: datetime | None = None
    last: datetime | None = None
    named: bool = False
    tracks: dict[str, Track] = field(default_factory=dict)

    def ask(self, messages: Mapping[str, datetime]) -> dict[str, Answer]:
        self._read(messages)
        answers = {name: self._answer(name, at) for name, at in messages.items()}
        return {name: answer for name, answer in answers.items() if answer}

    def _answer(self, name: str, at: datetime) -> Answer | None:
        track = self.tracks.get(name)
        if track and track.failed:
            return Answer("failed", track.failed)
        if track and track.taken:
            return Answer("sent")
        return Answer("absent") if self._covers(at) else None

    def _covers(self, at: datetime) -> bool:
        """Tell whether a message that was taken would stand in this log: it begins before, and ends long after.

        One that names no message at all, such as Debian's mail.warn, would not name ours either.
        """
        from newsletters.models.outgoing import REPLY_WAIT

        if not self.named or self.first is None or self.last is None or self.first > at:
            return False
        return self.whole or self.last >= at + REPLY_WAIT

    def _read(self, wanted: Collection[str]) -> None:
        queue: dict[str, str] = {}
        for line in self.lines:
            if not OURS.search(line[:4000]):
                continue
            self._stamp(line)
            if not (match := LINE.search(line[:4000])):
                continue
            agent, number, rest = match.groups()
            if agent == "cleanup" and (found := MESSAGE_ID.match(rest)):
                self.named = True
                queue[number] = found[1].lower()
            elif queue.get(number) in wanted:
                self._follow(self.tracks.setdefault(queue[number], Track()), agent, rest)
            # Postfix gives the number of a message that is gone to another.
            if agent == "qmgr" and rest.startswith("removed"):
                queue.pop(number, None)

    def _follow(self, track: Track, agent: str, rest: str) -> None:
        # The message is Postfix's once the queue manager has it; before that the client may have gone in the middle.
        if agent == "qmgr" and ("queue active" in rest or rest.startswith("removed")):
            track.taken = True
        if end := END.search(rest):
            track.taken = True
            if end[1] in {"bounced", "expired", "undeliverable"}:
                track.failed = end[2].rstrip(")")

    def _stamp(self, line: str) -> None:
        if (match := STAMP.match(line)) and (at := instant(match, self.now)):
            self.first = min(self.first or at, at)
            self.last = max(self.last or at, at)


def instant(match: "re.Match[str]", now: datetime) -> datetime | None:
    """Read a log line's time; the old form has neither year nor zone: it is this machine's."""
    try:
        if match[1]:
            at = datetime.fromisoformat(match[1])
            return at if at.tzinfo else at.astimezone()
        at = datetime.strptime(f"{now.year} {match[2]}", "%Y %b %d %H:%M:%S").astimezone()
        return at if at <= now + timedelta(days=1) else at.replace(year=now.year - 1)
    except ValueError:
        return None


@dataclass(slots=True)
class Queue:
    """What lies in Postfix's queue now, as `postqueue -j` prints it: one JSON object a line."""

    lines: Iterable[str]

    def ask(self, messages: Mapping[str, datetime]) -> dict[str, Answer]:
        return {name: Answer("sent") for name in map(token, self.lines) if name in messages}


def token(line: str) -> str:
    """Return the token in the return path of a queued message."""
    try:
        sender = str(json.loads(line).get("sender", ""))
    except (ValueError, AttributeError):
        return ""
    return sender.partition("@")[0].rpartition("+")[2].lower()


def queue() -> Queue:
    """Ask Postfix on this machine. Raises OSError and subprocess.SubprocessError."""
    done = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, timeout=60, check=True)
    return Queue(done.stdout.splitlines())
