import email
import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage

from hypothesis import given, settings
from hypothesis import strategies as st

from newsletters import headers

# Any characters at all, among them those that break mails, and words that nothing may fold
WORDS = [
    *("\r\n", "\n", "\r", "\0", "\t", " ", "  ", '"', "\\", "<", ">", ",", ";", ":", "(", ")", "@", "=", ".", "&"),
    *("=?utf-8?q?x?=", "From ", "Bcc: eve@example.com", "é", "🙂", "שלום", "\u202e", "\ud800", "a" * 90),
]
HOSTILE = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=8).map("".join))


def read(*lines: bytes) -> EmailMessage:
    message = email.message_from_bytes(b"".join(lines) + b"\r\nbody\r\n", policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def legacy(line: bytes) -> str:
    """Return what email.header reads: it joins encoded words as RFC 2047 says, also those of a display name."""
    value = email.message_from_bytes(line + b"\r\n", policy=email.policy.compat32)
    return str(make_header(decode_header(next(iter(value.values())))))


def sound(line: bytes) -> bool:
    """Tell whether a header is 7-bit, folded at 76 characters where it can be, and one header only."""
    rows = line.split(b"\r\n")
    return (
        rows.pop() == b""
        and line.isascii()
        and not re.search(rb"[\0\r\n]", b"".join(rows))
        and all(len(row) <= 998 and row.strip() for row in rows)
        and all(row[:1] == b" " for row in rows[1:])
    )


@settings(deadline=None)
@given(HOSTILE)
def test_it_keeps_a_subject(value: str) -> None:
    line = headers.text("Subject", value)

    assert sound(line)
    assert all(len(row) <= 78 for row in line.split(b"\r\n"))
    message = read(line)
    assert message.keys() == ["Subject"]
    assert not message["Subject"].defects
    assert str(message["Subject"]) == headers.one_line(value)


@settings(deadline=None)
@given(HOSTILE)
def test_it_keeps_a_name_beside_its_address(value: str) -> None:
    line = headers.mailbox("To", value, "alice@example.com")

    assert sound(line)
    message = read(line)
    assert message.keys() == ["To"]
    assert not message["To"].defects
    (mailbox,) = message["To"].addresses
    assert mailbox.addr_spec == "alice@example.com"
    # Long names take several encoded words, between which Python's newer reader sees spaces.
    name = headers.one_line(value)
    if not re.search(rb"\?=\r\n =\?", line):
        assert mailbox.display_name == name
    elif '"' not in name:
        assert legacy(line).removesuffix("<alice@example.com>").rstrip() == name


@settings(deadline=None)
@given(HOSTILE)
def test_an_address_starts_no_header(value: str) -> None:
    line = headers.mailbox("To", "", f"{value}@example.com")

    # Letters beyond ASCII stay: RFC 6532 lets them stand where a server announces SMTPUTF8, and nothing else does.
    assert sound(line.decode().encode("ascii", "replace"))
    assert read(line).keys() == ["To"]


def test_it_writes_a_domain_as_a_labels() -> None:
    line = headers.mailbox("From", "Jürgen", "post@bücher.example")

    assert line == b"From: =?utf-8?q?J=C3=BCrgen?= <post@xn--bcher-kva.example>\r\n"


def test_it_encodes_the_phrase_of_a_list_and_never_its_identifier() -> None:
    line = headers.list_id("La lettre d’été, chaque matin, sans exception", "daily.pas.lepasdujour.example")

    assert sound(line)
    assert line.endswith(b" <daily.pas.lepasdujour.example>\r\n")
    assert legacy(line).startswith("La lettre d’été, chaque matin, sans exception")


def test_an_address_to_leave_stays_on_one_line() -> None:
    url = "https://letters.example.com/leave/" + "x" * 300 + "/"

    assert headers.address_list("List-Unsubscribe", url) == f"List-Unsubscribe: <{url}>\r\n".encode()
    for bad in ("", "javascript:alert(1)", "https://a.example/\r\nBcc: x@y.example", "https://a.example/>, <mailto:x"):
        assert headers.address_list("List-Unsubscribe", bad) == b""


@settings(deadline=None)
@given(HOSTILE)
def test_a_plain_header_is_one_line_of_ascii(value: str) -> None:
    assert sound(headers.plain("Date", f"x{value}"))
