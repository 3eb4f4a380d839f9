"""The other senders, and the message that all of them send: Postfix's smtp-source, and Django's SMTP backend."""

import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from bench.ground import POSTFIX

CONNECTIONS = 20
NAMES = "Nadia Élodie Bob Zoë Jean-Philippe Aïcha Ω 梅 Maud Léa".split()
RENDERED: dict[str, str] = {}
STYLE = "p { margin: 0 0 16px; font: 16px/24px Georgia, serif; } a { color: #0f5c46; } body { background: #fbf9f4; }"


@dataclass
class Measure:
    """One timed run, in seconds; memory in MB."""

    count: int
    seconds: float
    cpu: float = 0.0
    peak: float = 0.0
    idle: float = 0.0

    @property
    def rate(self) -> float:
        return self.count / self.seconds


def cpu(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def smtp_source(port: int, count: int, size: int) -> Measure:
    program = shutil.which("smtp-source", path=POSTFIX)
    assert program
    before, started = cpu(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [program, "-d", "-s", str(CONNECTIONS), "-l", str(size), "-m", str(count)]
    command += ["-f", "maud@lepasdujour.example", "-t", "reader@example.com", f"127.0.0.1:{port}"]
    subprocess.run(command, check=True)
    return Measure(count, time.perf_counter() - started, cpu(resource.RUSAGE_CHILDREN) - before)


def django_backend(port: int, count: int, *, each: bool) -> Measure:
    """Send the way most Django sites do: a message object per reader through one connection of the SMTP backend."""
    from django.core.mail import get_connection

    html, text = RENDERED["html"], RENDERED["text"]
    raw = f"<html><head><style>{STYLE}</style></head><body>{html}</body></html>"
    page = raw if each else inlined(raw)
    connection = get_connection("django.core.mail.backends.smtp.EmailBackend", host="127.0.0.1", port=port)
    before, started = cpu(resource.RUSAGE_SELF), time.perf_counter()
    connection.open()
    for number in range(count):
        connection.send_messages([django_message(number, page, text, each)])
    connection.close()
    return Measure(count, time.perf_counter() - started, cpu(resource.RUSAGE_SELF) - before)


def django_message(number: int, page: str, text: str, each: bool) -> Any:
    from django.core.mail import EmailMultiAlternatives

    leave = f"http://localhost:8000/leave/{number:050}/"
    words = {"FIRSTNAME": NAMES[number % len(NAMES)], "LEAVEURL": leave}
    for word, value in words.items():
        page, text = page.replace(word, value), text.replace(word, value)
    headers = {"List-Unsubscribe": f"<{leave}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    message = EmailMultiAlternatives(
        "Le pas du jour", text, "maud@lepasdujour.example", [f"reader{number}@example.com"], headers=headers
    )
    message.attach_alternative(inlined(page) if each else page, "text/html")
    return message


def inlined(page: str) -> str:
    from newsletters import rendering

    return rendering.inlined(page)


def filled(issue: Any) -> bytes:
    """Return one reader's copy."""
    from newsletters import rendering

    values = dict.fromkeys(("message_id", "today", "since"), "x" * 50)
    values |= {"to_address": "reader1234@example.com", "to_name": "Nadia", "first_name": "Nadia"}
    values |= {"date": "Tue, 24 Nov 2026 06:00:00 +0000"}
    values |= {name: f"http://localhost:8000/{name[:5]}/{'x' * 50}/" for name in ("leave_url", "reader_url")}
    RENDERED["message"] = ""
    data: bytes = rendering.blueprint(rendering.render(issue)).fill(values)
    rendering._blueprints.clear()
    return data


def remember(issue: Any) -> None:
    """Keep what the other senders need to make messages of the same size."""
    from newsletters import rendering
    from newsletters.mime import Field

    RENDERED["message"] = filled(issue).decode()
    draft = rendering.render(issue)
    fields = {marker: Field(*field) for marker, field in draft.slots.items()}
    values = {"first_name": "FIRSTNAME", "leave_url": "LEAVEURL", "today": "Lundi", "since": "hier"}
    RENDERED["html"] = rendering.fill(draft.html, fields, values)
    RENDERED["text"] = rendering.fill(draft.text, fields, values)


def sample() -> str:
    return RENDERED["message"]
