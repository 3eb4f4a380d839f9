"""The letterbox: every message is kept as a file of a maildir on this machine, and goes nowhere."""

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings

from newsletters.transports import Message, Options, Outcome


def name_of(message_id: str) -> str:
    """Return the file name of a message: the same for the same message, so that a second staging replaces the first."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:40]


class Letterbox:
    """Stage into tmp, hand off by renaming into new."""

    group = 50

    def __init__(self, options: Options) -> None:
        self.root: Path = settings.DATA_DIR / "letterbox"
        self.staged: dict[Any, Path] = {}
        for folder in ("tmp", "new", "cur"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def stage(self, message: Message) -> Outcome | None:
        path = self.root / "tmp" / name_of(message.message_id)
        try:
            path.write_bytes(envelope(message) + message.data)
        except OSError as error:
            return Outcome("retry", "letterbox", str(error)[:250])
        self.staged[message.key] = path
        return None

    def hand_off(self, keys: set[Any]) -> dict[Any, Outcome]:
        staged, self.staged = self.staged, {}
        for key, path in staged.items():
            if key not in keys:
                path.unlink(missing_ok=True)
        return {key: self._deliver(path) for key, path in staged.items() if key in keys}

    def _deliver(self, path: Path) -> Outcome:
        try:
            path.rename(self.root / "new" / path.name)
        except OSError as error:
            return Outcome("retry", "letterbox", str(error)[:250])
        return Outcome("sent")

    def close(self) -> None:
        self.hand_off(set())


def envelope(message: Message) -> bytes:
    """Return the lines that a server prepends at final delivery (RFC 5321 section 4.4)."""
    sender, recipient = ("".join(part.split()) for part in (message.sender, message.recipient))
    return f"Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n".encode()
