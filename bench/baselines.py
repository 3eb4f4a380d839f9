"""Two ways to send a newsletter that are found everywhere, kept to show what they lose and double under the same kills.

`mark after send` takes a row under lock, sends it, marks it and commits: with four connections a worker, as ours.
`task per message` queues one Celery task for each reader, which sends one mail with Django's own backend.
"""

import os
import smtplib
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import psycopg

CONNECTIONS = 4


def host() -> tuple[str, int]:
    name, port = os.environ["MAIL_URL"].removeprefix("smtp://").partition("?")[0].split(":")
    return name, int(port)


# Mark after send


def mark_after_send() -> Callable[[str], None]:
    def work(name: str) -> None:
        senders = [threading.Thread(target=marking) for _ in range(CONNECTIONS)]
        for one in senders:
            one.start()
        for one in senders:
            one.join()

    return work


def marking() -> None:
    """Send for ever: whatever breaks, begin again."""
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"]) as database, smtplib.SMTP(*host()) as server:
                while True:
                    if not mark_one(database, server):
                        time.sleep(0.1)
        except (psycopg.Error, OSError, smtplib.SMTPException):
            time.sleep(0.1)


def mark_one(database: "psycopg.Connection[Any]", server: smtplib.SMTP) -> bool:
    with database.transaction():
        row = database.execute(
            "SELECT id, address, subject FROM mark WHERE NOT sent LIMIT 1 FOR UPDATE SKIP LOCKED"
        ).fetchone()
        if row is None:
            return False
        server.send_message(message(row[1], row[2]))
        database.execute("UPDATE mark SET sent = true WHERE id = %s", row[:1])
    return True


def message(address: str, subject: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "maud@lepasdujour.example", address, subject
    made["Message-ID"] = f"<{subject.replace(' ', '')}-{address}>"
    made.set_content("Une ligne par jour.\n" * 40 + "Fin.")
    return made


# One task per message


def task_per_message() -> Callable[[str], None]:
    from django.conf import settings

    settings.configure(EMAIL_HOST=host()[0], EMAIL_PORT=host()[1])
    import django

    django.setup()
    from celery import Celery
    from django.core.mail import EmailMultiAlternatives

    # Celery's own defaults
    app = Celery("baseline", broker=os.environ["REDIS_URL"])

    @app.task(name="send_one")
    def send_one(address: str, subject: str) -> None:
        EmailMultiAlternatives(subject, "Une ligne.\n" * 40 + "Fin.", "maud@lepasdujour.example", [address]).send()

    quiet = ["--quiet", "--skip-checks", "worker", "--pool", "threads", "--concurrency", str(CONNECTIONS)]
    quiet += ["--loglevel", "CRITICAL", "--without-gossip", "--without-mingle"]
    return lambda name: app.worker_main([*quiet, "-n", f"{name}@drill"])
