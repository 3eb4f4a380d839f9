"""One real mail server: Postfix delivers and bounces for real, and SpamAssassin says what it thinks of our mails."""

import os
import re
import shutil
import smtplib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.test import Client

from newsletters import planning, sending
from newsletters.bounces import mailbox
from newsletters.models import Bounce, Letter, Publication
from newsletters.models.outgoing import State
from tests import mails
from tests.blogs import Blog, blog
from tests.conftest import Reader
from tests.outbox import MONDAY, ONE_DAY, SUNDAY, Send, row, send_day, token
from tests.postoffice import READERS, PostOffice, post_office
from tests.test_planning import make_issue

__all__ = ["blog", "post_office"]
LATER = MONDAY + timedelta(hours=1)


@pytest.fixture
def office(post_office: PostOffice, settings: Any, publication: Publication) -> PostOffice:
    settings.MAIL_URL, settings.BOUNCE_ADDRESS = post_office.url, "bounces@lepasdujour.example"
    settings.BASE_URL = "https://lettre.lepasdujour.example"
    publication.host = "lettre.lepasdujour.example"
    publication.save()
    return post_office


def queued(publication: Publication) -> None:
    publication.series.create(kind="daily", name="File", slug="file").append(make_issue(publication, "Le carnet"))


def test_what_cannot_be_delivered_comes_back_and_says_why(
    office: PostOffice, publication: Publication, reader: Reader
) -> None:
    addresses = ["alice@example.com", "nobody@example.com"]
    addresses += [f"bob@{place}.example" for place in ("gone", "nowhere", "full", "picky")]
    readers = [reader(address, now=SUNDAY) for address in addresses]
    queued(publication)

    with office.inside():
        send_day(0)
        states = {row(one).state for one in readers}
        office.returned(5)
        taken = mailbox.collect(office.mailbox.urls["imap"], LATER)

    assert (states, taken, office.mailbox.left()) == ({State.SENT}, 5, [])
    assert len(office.mails("alice@example.com")) == 1
    told = Bounce.objects.values_list("subscriber__address", "kind", "known", "status")
    assert sorted(told) == [
        ("bob@full.example", "full", True, "5.2.2"),
        ("bob@gone.example", "hard", True, "5.1.1"),
        ("bob@nowhere.example", "hard", True, "5.1.2"),
        ("bob@picky.example", "content", True, "5.7.1"),
        ("nobody@example.com", "hard", True, "5.1.1"),
    ]
    for one in readers:
        one.refresh_from_db()
    assert [one.status for one in readers] == ["active", "bounced", "bounced", "bounced", "active", "active"]
    assert [row(one).state for one in readers] == [State.SENT, *[State.FAILED] * 5]


@pytest.mark.parametrize("form", ["multipart", "urlencoded"])
def test_one_click_works_from_the_header_that_arrived(office: PostOffice, sent: Send, form: str) -> None:
    with office.inside():
        (alice,) = sent()

    (file,) = office.files(alice.address)
    head = file.read_bytes().partition(b"\n\n")[0].decode("ascii")
    address = re.search(r"(?m)^List-Unsubscribe: <(https://\S+)>$", head)
    fields = dict(re.findall(r"(?m)^(List-Unsubscribe-Post): (.*)$", head))
    assert address
    assert fields == {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    parts = urlsplit(address[1])
    body: Any = dict([fields["List-Unsubscribe-Post"].split("=")])
    sort: Any = {} if form == "multipart" else {"content_type": "application/x-www-form-urlencoded"}
    stranger = Client(enforce_csrf_checks=True, headers={"host": parts.netloc})
    answer = stranger.post(parts.path, body if form == "multipart" else fields["List-Unsubscribe-Post"], **sort)

    assert answer.status_code == 200
    alice.refresh_from_db()
    assert alice.status == "unsubscribed"
    with office.inside():
        send_day(1)
    assert len(office.files(alice.address)) == 1


def test_an_answer_finds_its_way_to_the_author(office: PostOffice, sent: Send, publication: Publication) -> None:
    with office.inside():
        (alice,) = sent()
        (mail,) = office.mails(alice.address)
        answer = mails.answer(str(mail["Reply-To"]), "Merci.")
        to = mail["Reply-To"].addresses[0].addr_spec
        with smtplib.SMTP("127.0.0.1", 25) as client:
            client.sendmail("alice@example.com", [to], answer)
        office.returned(1)
        mailbox.collect(office.mailbox.urls["pop3"], LATER)

    assert to == f"bounces+{token(alice)}@lepasdujour.example"
    assert Bounce.objects.get().kind == "replied"
    assert Letter.objects.get().kind == "answer"


# --- What a filter says


def spamassassin() -> str:
    program = shutil.which("spamassassin")
    if program is None:
        pytest.skip("no SpamAssassin: apt-get install --no-install-recommends spamassassin")
    return program


def judged(files: list[Path], place: Path) -> list[tuple[float, list[str]]]:
    """Return what SpamAssassin, without network, gives each mail: its score, and what it complains of."""
    box = place / "box"
    texts = [b"From x@example.com Mon Nov 23 06:00:00 2026\n" + file.read_bytes() for file in files]
    box.write_bytes(b"\n".join(texts))
    # It trusts what comes from this machine, and readers' servers will not.
    rules = ("score ALL_TRUSTED 0", "add_header all Says score=_SCORE_ tests=_TESTS(,)_", "fold_headers 0")
    command = [spamassassin(), "--local", "--mbox", "--nocreate-prefs", *(f"--cf={rule}" for rule in rules), str(box)]
    run = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"HOME": str(place), "LANG": "C"})
    said = re.findall(r"(?m)^X-Spam-Says: score=(\S+) tests=(\S+)$", run.stdout.decode())
    return [(float(score), tests.split(",")) for score, tests in said]


def hour_that_has_struck(now: datetime) -> str:
    """Return a zone in which it is between seven and eight: what is due there is due now."""
    hours = (7 - now.hour + 12) % 24 - 12
    return f"Etc/GMT{-hours:+d}"


def test_a_filter_has_nothing_to_say(
    office: PostOffice, publication: Publication, reader: Reader, blog: Blog, tmp_path: Path
) -> None:
    spamassassin()
    now, addresses = datetime.now(UTC), [f"{name}@example.com" for name in READERS[:10]]
    publication.zone = hour_that_has_struck(now)
    publication.save()
    call_command("import_articles", "pas", str(blog.feed), series="accueil")
    series = publication.series.get(slug="accueil")
    reached = [0, *series.entries.order_by("rank").values_list("rank", flat=True)]
    # Ten readers, each a step ahead of the other: the ten issues leave in one hour.
    for number, address in enumerate(addresses):
        one = reader(address, now=now - ONE_DAY, first_name="Alice")
        one.walks.all().delete()
        one.walks.create(series=series, started_at=now - ONE_DAY, reached=reached[number])

    with office.inside():
        planning.tick(now)
        while sending.drain(lambda: now):
            pass
    files = [office.files(address)[0] for address in addresses]
    found = judged(files, tmp_path)

    assert len(found) == 10
    assert max(score for score, _tests in found) <= 0.5
    # That there is HTML, and that it is a list's.
    assert {name for _score, tests in found for name in tests} == {"HTML_MESSAGE", "MAILING_LIST_MULTI"}
