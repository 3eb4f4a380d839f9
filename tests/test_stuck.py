"""What does not move is listed with its reason, and settled by a record or a choice."""

import io
import os
import stat
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command

from newsletters import choosing, postage, sending, stuck, tasks
from newsletters.models import Bounce, Delivery, Heartbeat, Letter, Publication, Relay, Stop
from newsletters.models.outgoing import State
from tests.outbox import MONDAY, Send, message_id, row, token
from tests.servers import MailServer

NOON = MONDAY + timedelta(hours=5)


@pytest.fixture
def doubtful(sent: Send) -> Any:
    """Three readers of whose emails nobody knows the end."""
    readers = sent(3)
    Delivery.objects.update(state=State.UNCERTAIN, reason="no reply", reply="Connection reset", settled_at=None)
    return readers


def command(*options: str) -> str:
    out = io.StringIO()
    with time_machine.travel(NOON, tick=False):
        call_command("stuck", *options, stdout=out)
    return out.getvalue()


def states(readers: Any) -> list[str]:
    return [row(one).state for one in readers]


HEAD = "2026-11-23T05:00:00.000000+00:00 mail postfix/master[1]: daemon started\n"
TAIL = "2026-11-23T09:00:00.000000+00:00 mail postfix/anvil[9]: statistics\n"
STRANGER = "2026-11-23T{} mail postfix/cleanup[6]: 0F0F0F0F0F: message-id=<hello@friends.example>\n"


def taken(name: str, queue_id: str, *ends: str, at: str = "2026-11-23T06:00:01.000000+00:00") -> str:
    lines = [
        f"postfix/smtpd[5]: {queue_id}: client=localhost[127.0.0.1]",
        f"postfix/cleanup[6]: {queue_id}: message-id=<{name}>",
        f"postfix/qmgr[2]: {queue_id}: from=<a@b.example>, size=9, nrcpt=1 (queue active)",
        *(f"postfix/smtp[7]: {queue_id}: to=<x@example.com>, relay=mx[1.2.3.4]:25, dsn=2.0.0, {end}" for end in ends),
    ]
    return "".join(f"{at} mail {line}\n" for line in lines)


def test_it_lists_what_nobody_knows(doubtful: Any) -> None:
    said = command()

    assert said.count("uncertain: pas ") == 3
    assert "handed over at 06:00:00, Connection reset; may go again until 21:00" in said
    assert states(doubtful) == ["uncertain"] * 3


def test_the_mail_servers_log_settles_it(doubtful: Any, tmp_path: Path) -> None:
    alice, bob, carol = doubtful
    log = tmp_path / "mail.log"
    bounced = (
        "status=bounced (host mx[1.2.3.4] said: 550 5.1.1 <x@example.com>: User unknown (in reply to RCPT TO command))"
    )
    log.write_text(
        HEAD
        + taken(message_id(alice), "4ZqX1y0abcz9Q", "status=deferred (timeout)", "status=sent (250 2.0.0 ok)")
        + taken(message_id(bob), "0A1B2C3D4E", bounced)
        + TAIL
    )

    said = command("--from-log", str(log))

    assert states(doubtful) == ["sent", "failed", "planned"]
    assert "Settled: 1 failed, 1 planned, 1 sent" in said
    bob.refresh_from_db()
    assert (bob.status, Bounce.objects.get().door) == ("bounced", "log")
    assert row(carol).try_at == NOON


def test_a_message_that_was_cut_off_was_not_taken(doubtful: Any, tmp_path: Path) -> None:
    alice = doubtful[0]
    log = tmp_path / "mail.log"
    # Postfix logs the Message-ID before the final dot.
    cut_off = "".join(taken(message_id(alice), "0A1B2C3D4E").splitlines(keepends=True)[:2])
    log.write_text(HEAD + cut_off + TAIL)

    command("--from-log", str(log))

    assert row(alice).state == "planned"


REMOVED = "2026-11-23T06:00:02.000000+00:00 mail postfix/qmgr[2]: 0A1B2C3D4E: removed\n"


@pytest.mark.parametrize(("between", "skipped"), [(REMOVED, 0), (REMOVED, 2), ("", 0)])
@pytest.mark.parametrize("other", ["hello@friends.example", ""])
def test_a_queue_id_that_comes_again_is_another_message(
    doubtful: Any, tmp_path: Path, between: str, skipped: int, other: str
) -> None:
    alice = doubtful[0]
    log = tmp_path / "mail.log"
    bounced = "status=bounced (host mx[1.2.3.4] said: 550 5.1.1 <z@example.com>: User unknown)"
    lines = taken(other, "0A1B2C3D4E", bounced, at="2026-11-23T08:00:00.000000+00:00").splitlines(keepends=True)
    ours = taken(message_id(alice), "0A1B2C3D4E", "status=sent (250 ok)")
    log.write_text(HEAD + ours + between + "".join(lines[skipped:]) + TAIL)

    command("--from-log", str(log))

    alice.refresh_from_db()
    assert (row(alice).state, alice.status) == ("sent", "active")


@pytest.mark.parametrize("part", ["begins too late", "ends too early", "empty"])
def test_a_log_that_may_lack_the_time_in_question_proves_nothing(doubtful: Any, tmp_path: Path, part: str) -> None:
    log = tmp_path / "mail.log"
    late, early = TAIL + STRANGER.format("09:30:00+00:00"), HEAD + STRANGER.format("06:05:00+00:00")
    log.write_text({"begins too late": late, "ends too early": early, "empty": ""}[part])

    command("--from-log", str(log))
    assert states(doubtful) == ["uncertain"] * 3

    command("--from-log", str(log), "--whole")
    assert states(doubtful) == (["planned"] * 3 if part == "ends too early" else ["uncertain"] * 3)


@pytest.mark.parametrize("program", ["nginx[1]: GET /", "postfix/smtpd[5]: warning: hostname x does not resolve"])
def test_a_log_that_names_no_messages_proves_nothing(doubtful: Any, tmp_path: Path, program: str) -> None:
    log = tmp_path / "other.log"
    log.write_text("".join(f"2026-11-23T{hour}:00:00+00:00 mail {program}\n" for hour in ("05", "09")))

    command("--from-log", str(log), "--whole")

    assert states(doubtful) == ["uncertain"] * 3


def test_another_programs_lines_do_not_make_a_log_longer(doubtful: Any, tmp_path: Path) -> None:
    log = tmp_path / "syslog"
    nginx = "2026-11-23T{}:00:00+00:00 mail nginx[1]: GET /\n"
    log.write_text(nginx.format("05") + STRANGER.format("08:00:00+00:00") + nginx.format("09"))

    command("--from-log", str(log), "--whole")

    assert states(doubtful) == ["uncertain"] * 3


def test_a_message_is_known_again_after_its_sender_moved(doubtful: Any, tmp_path: Path) -> None:
    alice, bob, _carol = doubtful
    log = tmp_path / "mail.log"
    log.write_text(HEAD + taken(message_id(alice), "0A1B2C3D4E") + taken(message_id(bob).upper(), "0A1B2C3D4F") + TAIL)
    Publication.objects.update(sender="maud@elsewhere.example")

    command("--from-log", str(log))

    assert states(doubtful) == ["sent", "sent", "planned"]


@pytest.mark.parametrize("ways", [("smtp://one.example:25", "smtp://two.example:25"), ("esp:mailgun",)])
def test_one_servers_log_does_not_speak_for_another_relay(
    doubtful: Any, tmp_path: Path, publication: Publication, ways: tuple[str, ...]
) -> None:
    log = tmp_path / "mail.log"
    log.write_text(HEAD + taken(message_id(doubtful[0]), "0A1B2C3D4E") + TAIL)
    for way in ways:
        relay = Relay(publication=publication, name=way)
        relay.url = way
        relay.save()

    command("--from-log", str(log))
    assert states(doubtful) == ["sent", "uncertain", "uncertain"]

    command("--from-log", str(log), "--whole")
    assert states(doubtful) == ["sent", "planned", "planned"]


def test_the_old_form_of_log_lines_is_read_in_this_machines_time(doubtful: Any, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    at = (MONDAY + timedelta(seconds=1)).astimezone().strftime("%b %e %H:%M:%S")
    first = (MONDAY - timedelta(hours=1)).astimezone().strftime("%b %e %H:%M:%S")
    last = (MONDAY + timedelta(hours=3)).astimezone().strftime("%b %e %H:%M:%S")
    alice = doubtful[0]
    log.write_text(
        f"{first} mail postfix/x[1]: a\n"
        + taken(message_id(alice), "ABCDEF0123", at=at)
        + f"{last} mail postfix/x[1]: b\n"
    )

    command("--from-log", str(log))

    assert states(doubtful) == ["sent", "planned", "planned"]


def test_a_log_comes_by_a_pipe_too(doubtful: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(taken(message_id(doubtful[0]), "ABCDEF0123")))

    command("--from-log", "-")

    assert states(doubtful) == ["sent", "uncertain", "uncertain"]


def test_a_log_that_is_not_there_is_said(doubtful: Any) -> None:
    with pytest.raises(CommandError, match=r"/nowhere/mail\.log cannot be read"):
        command("--from-log", "/nowhere/mail.log")


def test_the_queue_settles_it(doubtful: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "postqueue"
    entry = f'{{"queue_id": "1", "sender": "bounces+{token(doubtful[1])}@lists.example", "recipients": []}}'
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -j ] && cat <<'X'\n{entry}\nnot json\nX\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    command("--queue")

    assert states(doubtful) == ["uncertain", "sent", "uncertain"]


def test_a_choice_settles_it(doubtful: Any, publication: Publication) -> None:
    command("--sent", "--publication", "pas")
    assert states(doubtful) == ["sent"] * 3

    Delivery.objects.update(state=State.UNCERTAIN)
    command("--again")
    assert states(doubtful) == ["planned"] * 3


def test_what_goes_again_arrives_under_the_same_name(doubtful: Any, smtp: MailServer, settings: Any) -> None:
    settings.MAIL_URL = smtp.url

    command("--again")
    sending.drain(lambda: NOON)

    assert states(doubtful) == ["sent"] * 3
    names = {f"<{message_id(one)}>" for one in doubtful}
    assert {str(mail["Message-ID"]) for mail in smtp.messages} == names


def test_what_a_clock_ahead_had_sent_too_early_goes_again_at_its_hour(
    doubtful: Any, smtp: MailServer, settings: Any
) -> None:
    settings.MAIL_URL = smtp.url
    hour = NOON + timedelta(hours=1)
    Delivery.objects.update(due_at=hour)

    command("--again")

    assert sending.drain(lambda: NOON) == {}
    assert sending.drain(lambda: hour) == {"sent": 3}


def test_nothing_goes_again_when_its_day_is_over(doubtful: Any) -> None:
    Delivery.objects.update(late_until=NOON)

    said = command("--again")

    assert states(doubtful) == ["failed"] * 3
    assert set(Delivery.objects.values_list("reason", flat=True)) == {"lost"}
    assert "Nothing is stuck." in said


def test_a_publication_may_choose_rather_twice(doubtful: Any, publication: Publication) -> None:
    soon, later = MONDAY + stuck.PATIENCE, MONDAY + stuck.PATIENCE + timedelta(seconds=1)

    assert choosing.by_choice(later) == 0
    Publication.objects.update(when_uncertain="twice")
    assert choosing.by_choice(soon) == 0
    with time_machine.travel(later, tick=False):
        tasks.choose()

    assert states(doubtful) == ["planned"] * 3


def test_it_says_why_something_is_overdue(sent: Send, publication: Publication) -> None:
    alice, bob = sent(2)
    waits = {"try_at": NOON, "late_until": NOON + timedelta(hours=1)}
    Delivery.objects.filter(subscriber=alice).update(state=State.PLANNED, **waits)
    Delivery.objects.filter(subscriber=bob).update(state=State.RETRY, attempts=3, reply="451 4.3.0 busy", **waits)
    assert "no worker has ever come round" in command()

    Heartbeat.objects.create(name="tick", at=NOON)
    said = command()
    assert "no worker has taken it yet" in said
    assert "put off 3 times, next at 11:00: 451 4.3.0 busy" in said

    Stop.objects.create(publication=publication, cause="complaints", at=MONDAY)
    said = command()
    assert "its publication is stopped" in said
    assert "pas is stopped since 2026-11-23 06:00" in said
    assert "It goes on." in command("--go-on", "pas")
    assert not Stop.objects.standing().exists()


@pytest.fixture
def letter(publication: Publication) -> Letter:
    return Letter.objects.create(
        publication=publication, kind=Letter.Kind.WELCOME, cause="x", address="bob@example.com", language="fr",
        address_key="bob@example.com", due_at=MONDAY, try_at=MONDAY, late_until=MONDAY + timedelta(days=1),
        state=State.UNCERTAIN, handoff_at=MONDAY,
    )  # fmt: skip


def test_letters_go_again_too(letter: Letter) -> None:
    Publication.objects.update(when_uncertain="twice")

    assert choosing.by_choice(NOON) == 1

    letter.refresh_from_db()
    assert letter.state == State.PLANNED


def test_letters_are_settled_too(letter: Letter, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(taken(postage.message_id(letter), "ABCDEF0123"))

    command("--from-log", str(log))

    letter.refresh_from_db()
    assert letter.state == State.SENT
