"""A mail server that nobody here wrote: Postfix in a network namespace of its own, with Dovecot for the bounces."""

import ctypes
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from funnel.children import die_with_parent
from tests.daemons import wait_for
from tests.mailboxes import MailBox, dovecot
from tests.processes import wait_until

PROGRAMS = Path("/usr/lib/postfix/sbin")
CLONE_NEWNET = 0x40000000
READERS = ("alice", *(f"reader{number}" for number in range(10)))

MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
myhostname = mx.lepasdujour.example
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
recipient_delimiter = +
virtual_mailbox_domains = example.com, lepasdujour.example
virtual_mailbox_base = /
virtual_mailbox_maps = texthash:{place}/conf/boxes
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
transport_maps = texthash:{place}/conf/transports
smtpd_relay_restrictions = permit_mynetworks, reject
# Who does not exist is found out too late to refuse: such servers send real bounces.
smtpd_reject_unlisted_recipient = no
"""

MASTER = """\
25 inet n - n - - smtpd
2525 inet n - n - - smtpd
  -o myhostname=mx.gone.example
  -o { smtpd_recipient_restrictions = check_recipient_access static:{550 5.1.1 No such user here} }
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
showq unix n - n - - showq
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

TRANSPORTS = """\
gone.example smtp:[127.0.0.1]:2525
nowhere.example error:5.1.2 Host or domain name not found
full.example error:5.2.2 Mailbox full
closed.example smtp:[127.0.0.1]:9
picky.example error:5.7.1 Message contains spam
"""


@dataclass
class PostOffice:
    """`url` is its MAIL_URL; `bounces` are kept in Dovecot's mailbox, each reader's mail in a maildir."""

    place: Path
    namespace: str
    mailbox: MailBox = field(init=False)
    url: str = "smtp://127.0.0.1:25?verp=bounces@lepasdujour.example"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let whatever this thread opens or starts belong to the namespace."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as there:
            enter(there.fileno())
            try:
                yield
            finally:
                enter(home.fileno())

    def files(self, address: str, count: int = 1) -> list[Path]:
        """Wait for an address's mails, and return where they lie."""
        box = self.place / "mail" / address / "new"
        return wait_until(lambda: sorted(box.glob("*")) if len(list(box.glob("*"))) >= count else [])

    def mails(self, address: str, count: int = 1) -> list[EmailMessage]:
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in self.files(address, count)]

    def returned(self, count: int) -> None:
        """Wait for so many bounces to lie in the mailbox."""
        wait_until(lambda: len(self.mailbox.left()) >= count)


def enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def namespace() -> Iterator[str]:
    name = f"funnel{os.getpid()}-post"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@contextmanager
def postfix(place: Path, bounces: Path) -> Iterator[None]:
    """Run an instance whose every file lies in `place`; the machine's own Postfix never notices."""
    owner = pwd.getpwnam("mail")
    for folder in ("conf", "queue", "data", "mail"):
        (place / folder).mkdir()
    shutil.chown(place / "data", "postfix")
    shutil.chown(place / "mail", "mail", "mail")
    conf = place / "conf"
    (conf / "main.cf").write_text(MAIN.format(place=place, uid=owner.pw_uid, gid=owner.pw_gid))
    (conf / "master.cf").write_text(MASTER)
    (conf / "transports").write_text(TRANSPORTS)
    boxes = [f"{name}@example.com {place}/mail/{name}@example.com/\n" for name in READERS]
    (conf / "boxes").write_text("".join([*boxes, f"bounces@lepasdujour.example {bounces}/\n"]))
    subprocess.run(["postfix", "-c", conf, "check"], check=True)
    server = subprocess.Popen([PROGRAMS / "master", "-c", conf], preexec_fn=die_with_parent)
    try:
        wait_for(25, server, place / "log")
        yield
    finally:
        server.terminate()
        server.wait(20)


def lacking() -> str:
    """Return what is missing on this machine, or nothing."""
    if os.geteuid() != 0:
        return "Postfix, Dovecot and network namespaces need root"
    if not (PROGRAMS / "master").exists():
        return "no Postfix: apt-get install --no-install-recommends postfix"
    for program, package in (("dovecot", "dovecot-imapd dovecot-pop3d"), ("ip", "iproute2")):
        if not shutil.which(program):
            return f"no {program}: apt-get install {package}"
    tried = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return "" if tried.returncode == 0 else "this kernel gives no network namespaces"


@pytest.fixture
def post_office() -> Iterator[PostOffice]:
    if why := lacking():
        pytest.skip(why)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="post-")))
        place.chmod(0o755)
        (place / "dovecot").mkdir()
        office = PostOffice(place, stack.enter_context(namespace()))
        with office.inside():
            office.mailbox = stack.enter_context(dovecot(place / "dovecot"))
            stack.enter_context(postfix(place, place / "dovecot" / "mail"))
        yield office
