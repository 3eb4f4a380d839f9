"""SMTP as the server sees it: every byte."""

import re
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newsletters.mime import Wire
from newsletters.transports import Message, Outcome, TransportURLError, Unreachable, check_url, connect, line
from newsletters.transports.smtp import opening, session
from tests.processes import wait_until
from tests.servers import WireServer, self_signed

Start = Callable[..., WireServer]
TOKEN = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4"
BODY = b"Subject: Un\r\n\r\nBonjour.\r\n"


def message(key: int, data: bytes = BODY, recipient: str = "") -> Message:
    return Message(key, f"{TOKEN}@pas.example", "maud@pas.example", recipient or f"reader{key}@example.com", data)


def send(url: str, *messages: Message, turns: int = 2000) -> dict[int, Outcome]:
    """Bring messages through a line, each handed off as soon as it is staged; return how they ended."""
    way = line(connect(url))
    waiting, outcomes = list(messages), dict[int, Outcome]()
    try:
        for _ in range(turns):
            while waiting and way.room > 0:
                way.stage(waiting.pop(0))
            outcomes |= way.poll(0.02)
            way.hand_off(set(way.staged), set())
            if len(outcomes) == len(messages):
                return outcomes
    finally:
        way.close()
    raise AssertionError(f"only {outcomes}")


def states(outcomes: dict[int, Outcome]) -> dict[int, str]:
    return {key: outcome.state for key, outcome in sorted(outcomes.items())}


def test_the_end_of_one_message_and_the_next_envelope_leave_in_one_write(wire: Start) -> None:
    server = wire(offers=["PIPELINING"])

    assert states(send(f"{server.url}?connections=1", message(1), message(2), message(3))) == dict.fromkeys(
        (1, 2, 3), "sent"
    )

    (chunks,) = server.chunks
    together = b"MAIL FROM:<maud@pas.example>\r\nRCPT TO:<reader{}@example.com>\r\nDATA\r\n"
    assert together.replace(b"{}", b"1") in chunks
    for number in (b"2", b"3"):
        assert any(chunk.endswith(b".\r\n" + together.replace(b"{}", number)) for chunk in chunks)
    assert server.texts == [BODY] * 3


def test_without_pipelining_each_command_waits_for_its_reply(wire: Start) -> None:
    server = wire(offers=["SIZE 1000000"])

    send(f"{server.url}?connections=1", message(1), message(2))

    (chunks,) = server.chunks
    # The dot waits for no reply, so it may arrive together with its text.
    assert all(chunk.count(b"\r\n") == 1 or chunk in {BODY, BODY + b".\r\n"} for chunk in chunks), chunks
    assert server.texts == [BODY] * 2


def test_a_server_of_the_old_school_is_greeted_with_helo(wire: Start) -> None:
    server = wire(offers=[])

    assert states(send(server.url, message(1))) == {1: "sent"}

    assert server.verbs() == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.commands[2:4] == ["MAIL FROM:<maud@pas.example>", "RCPT TO:<reader1@example.com>"]


def test_only_what_was_announced_is_used(wire: Start) -> None:
    plain = wire(offers=["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"])
    rich = wire(offers=["PIPELINING", "8BITMIME", "SIZE 10240000", "DSN", "SMTPUTF8"])

    send(plain.url, message(1, recipient="a+b=c@example.com"))
    send(rich.url, message(1, recipient="a+b=c@example.com"))

    assert plain.commands[1:3] == ["MAIL FROM:<maud@pas.example>", "RCPT TO:<a+b=c@example.com>"]
    assert rich.commands[1:3] == [
        f"MAIL FROM:<maud@pas.example> SIZE={len(BODY)} RET=HDRS ENVID={TOKEN}",
        "RCPT TO:<a+b=c@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb+3Dc@example.com",
    ]


def test_the_return_path_names_the_message_where_it_is_wanted(wire: Start) -> None:
    server = wire()

    send(f"{server.url}?verp=bounces@pas.example", message(1))

    assert server.commands[1] == f"MAIL FROM:<bounces+{TOKEN}@pas.example>"
    assert len(f"bounces+{TOKEN}") <= 64


@pytest.mark.parametrize(
    "verp", ["nobody", "far-too-long-a-name@pas.example", "a b@pas.example", "a+b@pas.example", ""]
)
def test_a_return_path_that_cannot_be_is_refused_at_the_start(verp: str) -> None:
    with pytest.raises(TransportURLError):
        check_url(f"smtp://127.0.0.1?verp={verp.replace('+', '%2B')}&x=1") if verp else check_url("smtp://h?verp=@x")


def test_an_address_beyond_ascii_goes_where_the_server_can_take_it(wire: Start) -> None:
    able, unable = wire(offers=["PIPELINING", "SMTPUTF8", "8BITMIME"]), wire(offers=["PIPELINING"])
    jose = message(1, recipient="josé@example.com")

    assert states(send(able.url, jose)) == {1: "sent"}
    refused = send(unable.url, jose, message(2))

    assert able.commands[1:3] == ["MAIL FROM:<maud@pas.example> SMTPUTF8", "RCPT TO:<josé@example.com>"]
    assert states(refused) == {1: "failed", 2: "sent"}
    assert (refused[1].reason, refused[1].reply[:9]) == ("address", "553 5.6.7")
    assert not any("jos" in command for command in unable.commands)


@pytest.mark.parametrize("verp", ["", "&verp=bounces@pas.example"])
def test_eight_bits_in_a_header_go_only_where_they_are_allowed(wire: Start, verp: str) -> None:
    """RFC 6531: an address beyond ASCII in From or Reply-To needs the server's word as one in the envelope does."""
    able, unable = wire(offers=["PIPELINING", "SMTPUTF8", "8BITMIME"]), wire(offers=["PIPELINING", "8BITMIME"])
    answer = message(1, "Reply-To: <josé@example.com>\r\n".encode() + BODY)

    assert states(send(f"{able.url}?connections=1{verp}", answer)) == {1: "sent"}
    refused = send(f"{unable.url}?connections=1{verp}", answer, message(2))

    assert able.commands[1].endswith(" SMTPUTF8")
    assert states(refused) == {1: "failed", 2: "sent"}
    # The reader's address is not at fault.
    assert refused[1].reason == "refused"
    assert b"".join(unable.chunks[0]).isascii()


def test_a_message_that_is_too_long_for_the_server_is_not_begun(wire: Start) -> None:
    server = wire(offers=["PIPELINING", "SIZE 100"])

    refused = send(server.url, message(1, b"x" * 50 + b"\r\n" + b"y" * 60 + b"\r\n"), message(2))

    assert states(refused) == {1: "failed", 2: "sent"}
    assert refused[1].reply.startswith("552 5.3.4")


SMUGGLED = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@x.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n"


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r\n"])
def test_what_would_smuggle_a_second_message_arrives_as_one(wire: Start, end: bytes) -> None:
    server = wire()

    send(f"{server.url}?connections=1", message(1, b"Subject: x\r\n\r\nbefore" + end + SMUGGLED), message(2))

    assert len(server.texts) == 2
    assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA", "QUIT"]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", b"".join(server.chunks[0]))
    assert b"evil@x.example" in server.texts[0].replace(b"\r\n..", b"\r\n.")


def test_any_text_is_brought_into_the_form_of_the_wire() -> None:
    assert Wire.of(b".a\n..b\r\n\rc") == b"..a\r\n...b\r\n\r\nc\r\n"
    assert Wire.of(BODY) == BODY


def test_login_goes_by_plain_or_login(wire: Start) -> None:
    plain = wire(offers=["AUTH PLAIN LOGIN"], replies={"AUTH": "235 2.7.0 Welcome"})
    login = wire(offers=["AUTH=LOGIN"], replies={"AUTH": "334 VXNlcm5hbWU6", "bWF1ZA==": "334 UGFzc3dvcmQ6"})
    login.replies["c8OpY3JldDo="] = "235 2.7.0 Welcome"

    send(plain.url.replace("//", "//maud:s%C3%A9cret%3A@"), message(1))
    send(login.url.replace("//", "//maud:s%C3%A9cret%3A@"), message(1))

    assert plain.commands[1] == "AUTH PLAIN AG1hdWQAc8OpY3JldDo="
    assert login.commands[1:4] == ["AUTH LOGIN", "bWF1ZA==", "c8OpY3JldDo="]


def test_a_login_that_is_refused_says_so(wire: Start) -> None:
    server = wire(offers=["AUTH PLAIN"], replies={"AUTH": "535 5.7.8 Wrong password"})

    with pytest.raises(Unreachable, match=r"535 5\.7\.8"):
        send(server.url.replace("//", "//maud:secret@"), message(1))


@pytest.fixture
def certificate(tmp_path: Path, trusted: Callable[[Path], None]) -> Callable[..., ssl.SSLContext]:
    """Return what makes a server's certificate that is trusted here, for a name and a number of days."""

    def make(name: str = "IP:127.0.0.1", days: int = 2) -> ssl.SSLContext:
        cert, made = self_signed(tmp_path, name, days)
        trusted(cert)
        return made

    return make


@pytest.mark.parametrize("tls", ["starttls", "ssl"])
def test_mail_goes_through_tls(wire: Start, certificate: Any, tls: str) -> None:
    offers = ["PIPELINING", *(["STARTTLS"] if tls == "starttls" else [])]
    server = wire(offers=offers, tls=certificate(), implicit=tls == "ssl")
    long = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + (b"z" * 76 + b"\r\n") * 20_000

    assert states(send(f"{server.url}?tls={tls}&connections=2", message(1), message(2, long), message(3))) == {
        1: "sent",
        2: "sent",
        3: "sent",
    }

    assert sorted(map(len, server.texts)) == sorted([len(BODY), len(BODY), len(long)])
    assert server.verbs().count("STARTTLS") == (2 if tls == "starttls" else 0)


def test_a_wrong_certificate_is_refused(wire: Start, certificate: Any) -> None:
    server = wire(offers=["PIPELINING", "STARTTLS"], tls=certificate("DNS:other.example"))

    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        send(f"{server.url}?tls=starttls", message(1))

    assert "MAIL" not in server.verbs()


def test_a_certificate_of_yesterday_is_refused(wire: Start, certificate: Any) -> None:
    server = wire(tls=certificate(days=-1), implicit=True)

    with pytest.raises(Unreachable, match=r"(?i)expired"):
        send(f"{server.url}?tls=ssl", message(1))


def test_a_stripped_starttls_sends_neither_mail_nor_password(wire: Start) -> None:
    server = wire(offers=["PIPELINING", "AUTH PLAIN"])

    with pytest.raises(Unreachable, match="STARTTLS"):
        send(f"{server.url.replace('//', '//maud:secret@')}?tls=starttls", message(1))

    assert server.verbs() == ["EHLO"]


def test_what_is_said_before_the_handshake_is_not_believed(wire: Start, certificate: Any) -> None:
    server = wire(offers=["STARTTLS"], tls=certificate(), replies={"STARTTLS": "220 Go on\r\n250 Injected"})

    with pytest.raises(Unreachable, match="between STARTTLS"):
        send(f"{server.url}?tls=starttls", message(1))


# What goes wrong


def test_nobody_is_at_home() -> None:
    with pytest.raises(Unreachable):
        send("smtp://127.0.0.1:9", message(1))


@pytest.mark.parametrize("offers", [["PIPELINING"], ["SIZE"]])
@pytest.mark.parametrize(
    ("verb", "reply", "state", "reason"),
    [
        ("MAIL", "450 4.3.2 Busy", "retry", ""),
        ("MAIL", "550 5.7.1 Not you", "failed", "refused"),
        ("reader1", "450 4.2.0 Greylisted", "retry", "deferred"),
        ("reader1", "451 4.7.1 Too fast", "retry", ""),
        ("reader1", "550 5.1.1 No such user", "failed", "address"),
        ("DATA", "451 4.3.0 No room", "retry", ""),
        ("DATA", "554 5.7.1 Not this", "failed", "refused"),
        ("dot", "452 4.2.2 Mailbox full", "retry", "deferred"),
        ("dot", "554 5.6.0 Not this text", "failed", "refused"),
    ],
)
def test_a_refusal_concerns_one_message(
    wire: Start, offers: list[str], verb: str, reply: str, state: str, reason: str
) -> None:
    once = {"MAIL": "250 Ok", "DATA": "354 Go on", "dot": "250 Ok"}
    server = wire(offers=offers, replies={verb: [reply, once[verb]] if verb in once else reply})

    outcomes = send(f"{server.url}?connections=1", message(1), message(2), message(3))

    assert states(outcomes) == {1: state, 2: "sent", 3: "sent"}
    assert (outcomes[1].reason, outcomes[1].reply) == (reason, reply)
    assert len(server.chunks) == 1


def test_a_server_that_wants_a_text_for_nobody_gets_an_empty_one(wire: Start) -> None:
    server = wire(replies={"reader1": "550 5.1.1 No such user", "dot": ["554 No recipients", "250 Ok"]})

    assert states(send(f"{server.url}?connections=1", message(1), message(2))) == {1: "failed", 2: "sent"}

    assert server.texts == [BODY]


@pytest.mark.parametrize("offers", [["PIPELINING"], ["SIZE"]])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("reply", ["421 4.3.2 Shutting down", ""])
def test_a_connection_that_ends_before_the_dot_costs_nothing(
    wire: Start, offers: list[str], verb: str, reply: str
) -> None:
    fine = "354 Go on" if verb == "DATA" else "250 Ok"
    server = wire(offers=offers, replies={verb: [fine, reply, fine]})

    outcomes = send(f"{server.url}?connections=1", message(1), message(2), message(3))

    assert states(outcomes) == {1: "sent", 2: "sent", 3: "sent"}
    assert len(server.texts) == 3


def test_a_message_that_breaks_every_connection_waits(wire: Start) -> None:
    server = wire(replies={"reader2": ""})

    outcomes = send(f"{server.url}?connections=3", *(message(key) for key in range(1, 9)))

    assert states(outcomes) == {1: "sent", 2: "retry"} | dict.fromkeys(range(3, 9), "sent")


def test_whoever_hangs_up_after_the_dot_leaves_doubt_in_that_message_alone(wire: Start) -> None:
    server = wire(replies={"dot": ["250 Ok", "", "250 Ok"]})

    outcomes = send(f"{server.url}?connections=1", message(1), message(2), message(3))

    assert states(outcomes) == {1: "sent", 2: "uncertain", 3: "sent"}


def test_421_after_the_dot_means_that_it_was_not_taken(wire: Start) -> None:
    server = wire(replies={"dot": ["250 Ok", "421 4.3.2 Shutting down", "250 Ok"]})

    outcomes = send(f"{server.url}?connections=1", message(1), message(2), message(3))

    assert states(outcomes) == {1: "sent", 2: "retry", 3: "sent"}


def test_each_421_costs_a_connection_and_a_hundred_messages_earn_it_back(wire: Start) -> None:
    server = wire(replies={"reader1@": ["421 4.3.2 Too busy", "250 Ok"], "reader2@": ["421 4.3.2 Too busy", "250 Ok"]})
    way: Any = connect(f"{server.url}?connections=4")

    assert through(way, *(message(key) for key in range(1, 5))) == dict.fromkeys(range(1, 5), "sent")
    assert way.limit == 2
    through(way, *(message(key) for key in range(100, 310)))

    assert way.limit == 4
    way.close()


def test_a_server_that_hangs_up_after_a_few_messages_is_met_by_fewer_connections(wire: Start) -> None:
    server = wire(replies={"RCPT": [*["250 Ok", "250 Ok", "250 Ok", ""] * 6, "250 Ok"]})
    way: Any = connect(f"{server.url}?connections=4")

    ended = through(way, *(message(key) for key in range(30)))
    fewest = way.limit
    through(way, *(message(key) for key in range(100, 450)))

    assert Counter(ended.values())["sent"] > 18
    assert (fewest, way.limit) == (1, 4)
    way.close()


def through(way: Any, *messages: Message) -> dict[int, str]:
    waiting, ended = list(messages), dict[int, Outcome]()

    def turn() -> bool:
        while waiting and way.room > 0:
            way.stage(waiting.pop(0))
        ended.update(way.poll(0.02))
        way.hand_off(set(way.staged), set())
        return len(ended) == len(messages)

    wait_until(turn, pause=0)
    return states(ended)


def test_a_server_that_takes_two_connections_gets_two(wire: Start) -> None:
    busy = "421 4.7.0 Too many connections"
    server = wire(replies={"CONNECT": ["220 One", "220 Two", busy]})

    outcomes = send(f"{server.url}?connections=6", *(message(key) for key in range(20)))

    assert set(states(outcomes).values()) == {"sent"}
    assert sum(bool(b"MAIL" in b"".join(chunks)) for chunks in server.chunks) <= 2


def test_silence_after_the_dot_ends_in_doubt_and_before_it_in_another_try(
    wire: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE", dict.fromkeys(session.PATIENCE, 1))
    mute, slow = wire(replies={"dot": None}), wire(replies={"DATA": [None, "354 Go on"]})

    assert states(send(f"{mute.url}?connections=1", message(1))) == {1: "uncertain"}
    with pytest.raises(Unreachable, match="no reply to DATA"):
        send(f"{slow.url}?connections=1", message(1))


def test_each_command_is_waited_for_as_long_as_the_standard_says() -> None:
    """RFC 5321 section 4.5.3.2, in minutes; the text's three are for each block of it."""
    minutes = {"MAIL": 5, "RCPT": 5, "DATA": 2, "text": 3, "dot": 10}

    assert {verb: session.PATIENCE[verb] for verb in minutes} == {verb: wait * 60 for verb, wait in minutes.items()}
    assert (opening.CONNECT_SECONDS, opening.REPLY_SECONDS) == (30, 300)


@pytest.mark.parametrize("offers", [["PIPELINING"], ["SIZE"]])
def test_the_dot_is_waited_for_longer_than_a_command(
    wire: Start, offers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PATIENCE", dict.fromkeys(session.PATIENCE, 1) | {"dot": 30})
    slow_dot = wire(offers=offers, wait={"dot": 3})
    slow_mail = wire(offers=offers, wait={"MAIL": 3})

    assert states(send(f"{slow_dot.url}?connections=1", message(1), message(2))) == {1: "sent", 2: "sent"}
    with pytest.raises(Unreachable, match="no reply to MAIL"):
        send(f"{slow_mail.url}?connections=1", message(1))


def test_one_tarpit_keeps_no_other_waiting(wire: Start) -> None:
    server = wire(wait={"reader0": 3.0})
    way = line(connect(f"{server.url}?connections=2"))
    for key in range(4):
        way.stage(message(key))
    ended: dict[int, Outcome] = {}

    def turn() -> bool:
        ended.update(way.poll(0.02))
        way.hand_off(set(way.staged), set())
        while way.room > 0 and len(ended) + 4 <= 12:
            way.stage(message(100 + len(ended) + way.room))
        return {1, 2, 3} <= ended.keys()

    wait_until(turn, 2.5)
    assert 0 not in ended
    way.close()


def test_a_reply_without_end_is_the_end(wire: Start) -> None:
    server = wire(replies={"MAIL": "250-" + "x" * 200_000})

    with pytest.raises(Unreachable):
        send(f"{server.url}?connections=1", message(1))
