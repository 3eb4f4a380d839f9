"""What a server's refusal means. Where text and enhanced code (RFC 3463) disagree, the text is right more often."""

import re

from newsletters.bounces import phrases
from newsletters.bounces.report import Failure
from newsletters.models import Bounce

Kind = Bounce.Kind

# RFC 7372 names them; Gmail says 4.7.x while it warns and 5.7.x when it refuses, Outlook has a number of its own.
PROOF = re.compile(r"(?<![\d.])(?:[45]\.7\.(?:2\d|3[0-2])|5\.7\.515)(?![\d.])")
# In this order: no refusal of the sender may cost a reader, and what says more comes before what says less.
OUTRIGHT = (
    (phrases.SENDER, Kind.BLOCKED),
    (phrases.MAYBE, Kind.SOFT),
    (phrases.HURRIED, Kind.SOFT),
    (phrases.FULL, Kind.FULL),
    (phrases.CLOSED, Kind.SOFT),
    (phrases.DEAD, Kind.HARD),
    (phrases.NOWHERE, Kind.HARD),
    (phrases.SIZE, Kind.SIZE),
    (phrases.PROOF, Kind.AUTH),
    (phrases.REPUTATION, Kind.REPUTATION),
    (phrases.CONTENT, Kind.CONTENT),
    (phrases.BLOCKED, Kind.BLOCKED),
    (phrases.UNREACHED, Kind.SOFT),
)
# Subject and detail of an enhanced code, where the text says nothing (RFC 3463 and its registry)
CODES = {
    "1.1": Kind.HARD, "1.2": Kind.HARD, "1.3": Kind.HARD, "1.6": Kind.HARD, "1.7": Kind.BLOCKED, "1.8": Kind.BLOCKED,
    "1.10": Kind.HARD, "2.2": Kind.FULL, "2.3": Kind.SIZE, "3.4": Kind.SIZE,
}  # fmt: skip
SUBJECTS = {"2": Kind.SOFT, "3": Kind.SOFT, "6": Kind.CONTENT, "7": Kind.BLOCKED}


def of(failure: Failure) -> Bounce.Kind:
    """Return the kind of bounce this failure is."""
    said, around = squeezed(failure.said), squeezed(failure.around)
    if PROOF.search(f"{failure.status} {said}"):
        return Kind.AUTH
    kind = outright(said) or (said and exactly(failure.status)) or in_prose(failure, around)
    kind = kind or exactly(failure.status) or SUBJECTS.get(failure.status[2:3]) or hinted(f"{said} {around}")
    if kind == Kind.HARD and failure.cut:
        # What is missing may have said otherwise.
        return Kind.SOFT
    if kind == Kind.HARD and of_the_text(failure.status, said, f"{said} {around}"):
        return Kind.SOFT
    return kind or Kind.SOFT


def in_prose(failure: Failure, around: str) -> Bounce.Kind | None:
    kind = outright(around)
    # A report names many things; a code that says “for now” outweighs them.
    sure = failure.action == "delayed" or not failure.status.startswith("4")
    return kind if sure or kind != Kind.HARD else Kind.SOFT


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text[:4000]).lower()


def outright(text: str) -> Bounce.Kind | None:
    return next((kind for pattern, kind in OUTRIGHT if pattern.search(text)), None)


def exactly(status: str) -> Bounce.Kind | None:
    of_class, _dot, detail = status.partition(".")
    kind = CODES.get(detail)
    return Kind.SOFT if kind == Kind.HARD and of_class == "4" else kind


def hinted(text: str) -> Bounce.Kind | None:
    return Kind.BLOCKED if phrases.DISMISSED.search(text) else None


def of_the_text(status: str, said: str, whole: str) -> bool:
    """Tell whether it was the text, not the reader, that an “unknown user” answers to."""
    vague = phrases.VAGUE.search(said) or not said
    return bool(vague and not status[1:].startswith(".1.") and phrases.AFTER_DATA.search(whole))
