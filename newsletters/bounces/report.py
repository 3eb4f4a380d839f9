"""What a message from a mail server says became of ours: delivery reports (RFC 3464), prose, complaints (RFC 5965)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from newsletters.bounces import prose
from newsletters.bounces.letter import Letter, fields

STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,2})\.(\d{1,3})(?![\d.])")
CODE = re.compile(r"(?<![\d.])([45][0-5]\d)(?=[ -])")
REPORT = {"message/delivery-status", "message/global-delivery-status", "message/x-delivery-status"}
ADDRESS = re.compile(
    r"(?<![^\s<>()\[\],;:\"'`@])[^\s<>()\[\],;:\"'`@]{1,64}+@[A-Za-z0-9][A-Za-z0-9.-]{0,250}[A-Za-z0-9]"
)
# The first letters do: servers write “failed (…)”, “Failure”, “deliverable”.
ACTIONS = {"faile": "failed", "delay": "delayed", "deliv": "delivered", "relay": "relayed", "expan": "expanded"}
COMPLAINTS = {"abuse", "fraud", "opt-out", "opt-out-list"}
# RFC 5965 section 3.1: each stands there exactly once, or it is no feedback report.
REQUIRED = ("feedback-type", "user-agent", "version")
KNOWN = re.compile(r"(?m)^(?:final-recipient|original-recipient|x-actual-recipient)[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient's part of a report; `action` is failed, delayed, delivered, relayed or expanded."""

    recipient: str
    action: str = "failed"
    status: str = ""
    code: str = ""
    said: str = ""  # the server's own word
    around: str = ""  # what the report says about it in prose
    cut: bool = False  # the report ends in the middle of it


@dataclass(frozen=True, slots=True)
class Report:
    """`kind` is bounce, complaint, or notice (which blames nobody)."""

    kind: str
    failures: list[Failure]
    envelope: str = ""


def read(letter: Letter) -> Report | None:
    """Return the report in a message, or None where it is none."""
    if found := complaint(letter):
        return found
    said, rest = prose.parted(letter)
    return delivery(letter, said) or told(letter, said, rest)


def complaint(letter: Letter) -> Report | None:
    for part in letter.of_kind("message/feedback-report"):
        feedback = fields(part.text)
        kind = (feedback.get("feedback-type") or [""])[0].strip().lower()
        genuine = not part.cut and all(len(feedback.get(name, [])) == 1 for name in REQUIRED)
        blames = genuine and kind in COMPLAINTS
        named = feedback.get("original-rcpt-to") or feedback.get("removal-recipient") or [""]
        recipients = [match[0] if (match := ADDRESS.search(name)) else "" for name in named]
        envelope = (feedback.get("original-envelope-id") or [""])[0]
        failures = [Failure(recipient, kind or "unknown") for recipient in recipients]
        return Report("complaint" if blames else "notice", failures, envelope)
    return None


def delivery(letter: Letter, said: str) -> Report | None:
    """Read the machine's part of a delivery report, wherever it stands."""
    found = letter.of_kind(*REPORT)
    # A report about a report holds the first one too.
    parts = [part for part in found if not part.returned] or found
    parts = parts or [part for part in letter.parts if KNOWN.search(part.text[:200_000])][:1]
    failures, envelope = [], ""
    for part in parts:
        for group in islice(groups(part.text), 2 * prose.MOST):
            envelope = envelope or (group.get("original-envelope-id") or [""])[0]
            if failure := failed(group):
                failures.append(replace(failure, cut=part.cut))
    around = prose.about(said, [failure.recipient for failure in failures])
    failures = [replace(failure, around=around[failure.recipient]) for failure in failures]
    return Report("bounce", once(failures)[: prose.MOST], envelope) if failures else None


def groups(text: str) -> Iterable[dict[str, list[str]]]:
    """Part a delivery report into its groups of fields; each recipient has its own."""
    text = "\n".join(line.rstrip(" \t\r") for line in text[:200_000].split("\n"))
    for block in re.split(r"\n{2,}", text)[:200]:
        starts = [match.start() for match in re.finditer(r"(?mi)^final-recipient[ \t]*:", block)]
        cuts = [0, *starts[1:], len(block)]
        for start, end in pairwise(cuts):
            yield fields(block[start:end])


def failed(group: dict[str, list[str]]) -> Failure | None:
    def first(name: str) -> str:
        return (group.get(name) or [""])[0]

    named = first("final-recipient") or first("x-actual-recipient") or first("original-recipient")
    if not named or not (first("action") or first("status") or first("diagnostic-code")):
        return None
    recipient = of_type(first("original-recipient")) or of_type(named)
    said = re.sub(r"^\s*[a-z0-9-]+\s*;\s*", "", first("diagnostic-code"), flags=re.IGNORECASE)[:4000]
    status = match[0] if (match := STATUS.search(first("status"))) else ""
    action = ACTIONS.get(first("action").strip().lower()[:5], "delivered" if status.startswith("2") else "failed")
    return Failure(recipient, action, status or in_text(STATUS, said), in_text(CODE, said), said)


def of_type(value: str) -> str:
    """Return the address of “rfc822; reader@example.com”."""
    value = value.partition(";")[2] or value
    return match[0] if (match := ADDRESS.search(value)) else value.strip(" <>")[:320]


def in_text(pattern: re.Pattern[str], text: str) -> str:
    return match[0] if (match := pattern.search(text)) else ""


def once(failures: list[Failure]) -> list[Failure]:
    """Keep the last word on each recipient."""
    return list({failure.recipient.lower(): failure for failure in failures}.values())


def told(letter: Letter, said: str, rest: str) -> Report | None:
    """Read a report written for people."""
    if not prose.speaks_of_failure(letter, said):
        return None
    cut = any(part.cut and not part.returned for part in letter.parts)
    return Report("bounce", [replace(spoken(*one), cut=cut) for one in prose.recipients(letter, said, rest)])


def spoken(recipient: str, text: str, delayed: bool) -> Failure:
    action = "delayed" if delayed else "failed"
    return Failure(recipient, action, in_text(STATUS, text), in_text(CODE, text), text[:4000], "")
