"""The keys that outlive every setting: one file, made at the first start, mode 600."""

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Keys:
    secret: str  # Django's SECRET_KEY where the environment gives none
    suppression: bytes  # keys every address hash; never rotated
    links: dict[int, bytes]  # version -> 32 bytes; old versions open old mails for ever

    def derived(self, purpose: str) -> bytes:
        """Return 32 bytes for one purpose, the same at every start."""
        return hmac.digest(self.secret.encode(), purpose.encode(), hashlib.sha256)


def load(path: Path) -> Keys:
    """Read the keys, making them first where there are none. Raises OSError, ValueError or KeyError."""
    if not path.exists():
        create(path)
    raw = json.loads(path.read_text())
    links = {int(version): bytes.fromhex(key) for version, key in raw["links"].items()}
    return Keys(raw["secret"], bytes.fromhex(raw["suppression"]), links)


def create(path: Path) -> None:
    keys = {
        "secret": secrets.token_urlsafe(48),
        "suppression": secrets.token_hex(32),
        "links": {"1": secrets.token_hex(32)},
    }
    # Web, worker and beat may all start first: link() lets exactly one of them win.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
        json.dump(keys, draft)
        draft.flush()
        os.fsync(draft.fileno())
    try:
        os.link(draft.name, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft.name)
