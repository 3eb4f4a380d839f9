import os
import stat
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from newsletters.transports import Message, Options
from newsletters.transports.letterbox import Letterbox, name_of

HOSTILE = "<script>alert(1)</script>"


def message(number: int = 1, data: bytes = b"Subject: Bonjour\r\n\r\nLe texte\r\n", key: Any = None) -> Message:
    return Message(key or number, f"{number}@pas.example", "maud@pas.example", "alice@example.com", data)


def deliver(*messages: Message) -> None:
    box = Letterbox(Options("letterbox"))
    for one in messages:
        assert box.stage(one) is None
    assert {outcome.state for outcome in box.hand_off({one.key for one in messages}).values()} == {"sent"}
    box.close()


def html_mail(html: str, subject: str = "Le carnet à trois lignes") -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Maud <maud@pas.example>", "alice@example.com", subject
    mail.set_content("Bonjour, voici https://pas.example/lire")
    mail.add_alternative(html, subtype="html")
    return mail.as_bytes().replace(b"\n", b"\r\n")


def files(data_dir: Path, folder: str) -> list[Path]:
    return sorted((data_dir / "letterbox" / folder).iterdir())


def test_it_delivers_what_is_handed_off_and_drops_the_rest(data_dir: Path) -> None:
    box = Letterbox(Options("letterbox"))
    for number in (1, 2, 3):
        box.stage(message(number))

    outcomes = box.hand_off({1, 3})

    assert {key: outcome.state for key, outcome in outcomes.items()} == {1: "sent", 3: "sent"}
    assert {path.name for path in files(data_dir, "new")} == {name_of("1@pas.example"), name_of("3@pas.example")}
    assert files(data_dir, "tmp") == []


def test_it_keeps_the_message_as_it_was_given(data_dir: Path) -> None:
    deliver(message())

    [path] = files(data_dir, "new")
    head = b"Return-Path: <maud@pas.example>\r\nDelivered-To: alice@example.com\r\n"
    assert path.read_bytes() == head + b"Subject: Bonjour\r\n\r\nLe texte\r\n"


def test_the_same_message_twice_is_one(data_dir: Path) -> None:
    deliver(message())
    deliver(message(data=b"Subject: Encore\r\n\r\n", key=2))

    [path] = files(data_dir, "new")
    assert b"Encore" in path.read_bytes()


def test_an_envelope_cannot_add_lines(data_dir: Path) -> None:
    deliver(Message(1, "1@x", "maud@pas.example", "a@b.example\r\nBcc: eve@evil.example", b"Subject: x\r\n\r\n"))

    [path] = files(data_dir, "new")
    assert b"\nBcc:" not in path.read_bytes()


def test_closing_leaves_nothing_half_done(data_dir: Path) -> None:
    box = Letterbox(Options("letterbox"))
    box.stage(message())
    box.close()

    assert files(data_dir, "tmp") == files(data_dir, "new") == []


def test_a_full_disk_is_tried_again(data_dir: Path) -> None:
    box = Letterbox(Options("letterbox"))
    (data_dir / "letterbox/tmp" / name_of("1@pas.example")).mkdir()

    outcome = box.stage(message())

    assert outcome is not None
    assert outcome.state == "retry"


@pytest.mark.django_db
def test_it_lists_the_newest_first_page_by_page(client: Client, data_dir: Path) -> None:
    for number in range(35):
        deliver(message(number, f"Subject: Numero {number:02}.\r\n\r\n".encode()))
        # Bulk mail lands within one tick of the file system's clock.
        os.utime(data_dir / "letterbox/new" / name_of(f"{number}@pas.example"), (1_700_000_000 + number // 10,) * 2)

    first = client.get("/letterbox/").content.decode()
    older = first.partition('href="?before=')[2].partition('"')[0]
    second = client.get(f"/letterbox/?before={older}").content.decode()

    shown = [number for number in range(35) if f"Numero {number:02}." in first]
    rest = [number for number in range(35) if f"Numero {number:02}." in second]
    assert (len(shown), len(rest)) == (30, 5)
    assert sorted(shown + rest) == list(range(35))
    assert 34 in shown
    assert 0 not in shown or 0 not in rest


@pytest.mark.django_db
def test_it_shows_a_message(client: Client) -> None:
    deliver(message(data=html_mail("<html><head></head><body><a href='https://pas.example/'>Lire</a></body></html>")))
    name = name_of("1@pas.example")

    page = client.get(f"/letterbox/{name}/")
    frame = client.get(f"/letterbox/{name}/html/")
    source = client.get(f"/letterbox/{name}/source/")

    shown = page.content.decode()
    assert "Le carnet à trois lignes" in shown
    assert 'href="https://pas.example/lire"' in shown
    assert "Delivered-To" in shown
    assert f'src="/letterbox/{name}/html/"' in shown
    assert '<head><base target="_blank">' in frame.content.decode()
    assert frame["X-Frame-Options"] == "SAMEORIGIN"
    assert frame["Content-Security-Policy"].startswith("sandbox allow-popups allow-popups-to-escape-sandbox;")
    assert "allow-scripts" not in frame["Content-Security-Policy"]
    assert source["Content-Type"] == "text/plain; charset=utf-8"
    assert source.getvalue().startswith(b"Return-Path:")


@pytest.mark.django_db
def test_it_shows_hostile_mail_as_text(client: Client) -> None:
    deliver(message(data=html_mail(f"<body>{HOSTILE}</body>", subject=HOSTILE)))
    name = name_of("1@pas.example")

    for path in ("/letterbox/", f"/letterbox/{name}/"):
        assert HOSTILE not in client.get(path).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe",
        b"Subject: =?utf-8?b?////?=\r\nFrom: =?nonsense?q?x?=\r\n\r\n",
        b"Subject: \xe9\xff\r\nContent-Type: text/html; charset=no-such\r\n\r\n\xff<b>x</b>",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n--a",
        b'Content-Type: text/plain; charset="\\0"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!',
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n",
        b"Subject:" + b" x\r\n" * 5000 + b"\r\n",
    ],
)
def test_it_survives_broken_mail(client: Client, data: bytes) -> None:
    deliver(message(data=data))
    name = name_of("1@pas.example")

    for path in ("/letterbox/", f"/letterbox/{name}/", f"/letterbox/{name}/html/", f"/letterbox/{name}/source/"):
        answer = client.get(path)
        assert answer.status_code == 200
        answer.close()


@pytest.mark.django_db
def test_it_finds_what_a_mail_program_has_read(client: Client, data_dir: Path) -> None:
    deliver(message())
    name = name_of("1@pas.example")
    (data_dir / "letterbox/new" / name).rename(data_dir / f"letterbox/cur/{name}:2,S")

    assert "Bonjour" in client.get("/letterbox/").content.decode()
    assert client.get(f"/letterbox/{name}/").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["../../keys", "..%2f..%2fkeys", "x", "A" * 40, "a" * 40, "keys", "a" * 39 + "*"])
def test_no_name_leads_elsewhere(client: Client, data_dir: Path, name: str) -> None:
    (data_dir / "keys").write_text("secret")

    for path in (f"/letterbox/{name}/", f"/letterbox/{name}/html/", f"/letterbox/{name}/source/"):
        assert client.get(path).status_code == 404


@pytest.mark.django_db
def test_only_this_machine_and_superusers_look_in(client: Client) -> None:
    deliver(message())
    name = name_of("1@pas.example")
    elsewhere = {"REMOTE_ADDR": "203.0.113.9"}
    proxied = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}

    for path in ("/letterbox/", f"/letterbox/{name}/", f"/letterbox/{name}/html/", f"/letterbox/{name}/source/"):
        for seen_from in (elsewhere, proxied, {"REMOTE_ADDR": ""}):
            assert client.get(path, **seen_from).status_code == 404  # type: ignore[arg-type]
    assert client.get("/letterbox/", REMOTE_ADDR="::ffff:127.0.0.1").status_code == 200

    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get("/letterbox/", **elsewhere).status_code == 404  # type: ignore[arg-type]
    client.force_login(User.objects.create_superuser("maud"))
    assert client.get("/letterbox/", **elsewhere).status_code == 200  # type: ignore[arg-type]


@pytest.mark.django_db
def test_there_is_none_where_mail_goes_out(client: Client, settings: Any) -> None:
    settings.MAIL_URL = "smtp://localhost:25"

    client.force_login(User.objects.create_superuser("maud"))

    assert client.get("/letterbox/").status_code == 404


@pytest.mark.django_db
def test_an_empty_letterbox_says_so(client: Client) -> None:
    assert client.get("/letterbox/").status_code == 200


def test_its_files_are_the_users_own(data_dir: Path) -> None:
    deliver(message())
    [path] = files(data_dir, "new")
    assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH
