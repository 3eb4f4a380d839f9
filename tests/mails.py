"""Messages as mail servers and people send them back, written for these tests."""

from email.message import EmailMessage

SENDER = "bounces@lists.example"

RETURNED = """\
Return-Path: <{sender}>
From: Maud <maud@lepasdujour.example>
To: <{to}>
Message-ID: <{message_id}>
Subject: Le carnet
"""


def dsn(
    recipient: str,
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 User unknown",
    *,
    to: str = SENDER,
    action: str = "failed",
    message_id: str = "somebody@elsewhere.example",
    envelope: str = "",
    name: str = "1@mx.example",
) -> bytes:
    """Return a delivery report as RFC 3464 has it."""
    envelope_line = f"Original-Envelope-Id: {envelope}\n" if envelope else ""
    return f"""\
Return-Path: <>
From: MAILER-DAEMON@mx.example (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Message-ID: <{name}>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_1"

--=_1
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example. Your message could not be delivered.

<{recipient}>: {diagnostic}

--=_1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
{envelope_line}
Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: {diagnostic}

--=_1
Content-Type: text/rfc822-headers

{RETURNED.format(to=recipient, sender=SENDER, message_id=message_id)}
--=_1--
""".replace("\n", "\r\n").encode()


def complaint(message_id: str, kind: str = "abuse", recipient: str = "redacted@example.org") -> bytes:
    """Return a feedback report as RFC 5965 has it; receivers often hide who complained."""
    return f"""\
From: <feedback@provider.example>
To: fbl@lists.example
Subject: FW: Le carnet
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="=_2"

--=_2
Content-Type: text/plain

This is an abuse report.

--=_2
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: Provider/1.0
Version: 1
Original-Rcpt-To: <{recipient}>

--=_2
Content-Type: message/rfc822

{RETURNED.format(to="redacted@example.org", sender=SENDER, message_id=message_id)}
Bonjour.

--=_2--
""".encode()


def prose(text: str, *, to: str = SENDER, subject: str = "failure notice", charset: str = "utf-8") -> bytes:
    """Return a report that only people can read."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "MAILER-DAEMON@mx.example", to, subject
    mail["Return-Path"] = "<>"
    mail.set_content(text, charset=charset)
    return mail.as_bytes()


def answer(to: str, text: str, *, subject: str = "Re: Le carnet", name: str = "a1@home.example", **head: str) -> bytes:
    """Return what a person answers, or, with the headers of one, a machine."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Alice Martin <alice@example.com>", to, subject
    mail["Message-ID"] = f"<{name}>"
    for field, value in head.items():
        mail[field.replace("_", "-")] = value
    mail.set_content(text)
    return mail.as_bytes()
