"""A real mailbox: Dovecot with one user, over IMAP and POP3."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemons import free_port, wait_for

CONFIG = """\
base_dir = {place}/run
state_dir = {place}/run
log_path = {place}/log
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {login}
first_valid_uid = 0
mail_location = maildir:{place}/mail
mail_uid = {user}
mail_gid = {group}
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={place}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


@dataclass
class MailBox:
    """`urls` are its addresses by protocol; `put` lays a message into it."""

    place: Path
    urls: dict[str, str]
    count: int = 0

    def put(self, raw: bytes) -> None:
        self.count += 1
        made = self.place / "mail" / "tmp" / f"{time.time_ns()}.{self.count}.here"
        made.write_bytes(raw)
        shutil.chown(made, "mail")
        made.rename(self.place / "mail" / "new" / made.name)

    def files(self) -> list[Path]:
        return [*(self.place / "mail" / "new").iterdir(), *(self.place / "mail" / "cur").iterdir()]

    def left(self) -> list[bytes]:
        return [file.read_bytes() for file in self.files()]

    def empty(self) -> None:
        for file in self.files():
            file.unlink()


@contextmanager
def dovecot(place: Path) -> Iterator[MailBox]:
    place.chmod(0o755)
    for folder in ("run", "mail", "mail/cur", "mail/new", "mail/tmp"):
        (place / folder).mkdir()
        if folder != "run":
            shutil.chown(place / folder, "mail", "mail")
    ports = {"imap": free_port(), "pop3": free_port()}
    config = place / "dovecot.conf"
    config.write_text(CONFIG.format(place=place, user="mail", group="mail", login="nobody", **ports))
    server = subprocess.Popen(["dovecot", "-F", "-c", config])
    try:
        for port in ports.values():
            wait_for(port, server, place / "log")
        yield MailBox(place, {scheme: f"{scheme}://alice:secret@127.0.0.1:{port}" for scheme, port in ports.items()})
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def mailbox() -> Iterator[MailBox]:
    if not shutil.which("dovecot"):
        if os.environ.get("CI"):
            pytest.fail("no Dovecot: install dovecot-imapd and dovecot-pop3d")
        pytest.skip("no Dovecot: install dovecot-imapd and dovecot-pop3d")
    if os.geteuid() != 0:
        pytest.skip("Dovecot starts as root only")
    # Not among the tests' own folders: the user that reads the mail may not reach into root's.
    with tempfile.TemporaryDirectory(prefix="dovecot-") as place, dovecot(Path(place)) as box:
        yield box
