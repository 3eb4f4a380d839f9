"""How well bounces are read: `python bench/bounces.py FOLDER [--cuts N] [--seed S]`.

The folder holds real mails (NAME.eml) and expected.json with the published answers: for each mail a list with the
reason, code, and whether it is hard, of each recipient. Ends with exit code 1 where a reach is missed.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import heading

# What these answers stand for blames nobody.
NO_FAILURE = {"delivered", "vacation"}
# Plain words, none of the reader's own: does this text say that the mailbox or the domain does not exist?
SAYS_SO = re.compile(
    r"(?:user|account|mailbox|address|recipient|host|domain)\b.{0,60}(?:unknown|no such|not exist|not found|invalid)"
    r"|(?:unknown|no such|invalid) (?:user|account|mailbox|address|recipient|host|domain)"
    r"|user doesn.t have a .{1,40} acc",
    re.IGNORECASE | re.DOTALL,
)
MEGABYTE = 1 << 20
PIECES = (
    b" ", b"\t", b"\n", b" \n", b"-\n", b"--\n", b"- ", b"@", b"@a", b"a@", b"a-@", b"a@b(", b"a@b.c\n", b"<a@b.c>\n",
    b"<", b"<style", b"&=", b"user ", b"to ", b"1.", b"mailbox ", b"bounces a@b.c\nuser <a ",
    b"final-recipient:a@b.c\nx-a: b\n mailbox ",
)  # fmt: skip


@dataclass
class Result:
    """Names of the mails that were read wrongly, and how many were read."""

    mails: int = 0
    with_failure: int = 0
    miscounted: list[str] = field(default_factory=list)
    judged: int = 0
    misjudged: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)  # soft, called hard, and its text does not say so
    slowest: float = 0.0

    @property
    def detected(self) -> float:
        return 1 - len(self.miscounted) / max(self.with_failure, 1)

    @property
    def right(self) -> float:
        return 1 - len(self.misjudged) / max(self.judged, 1)

    @property
    def reached(self) -> bool:
        return self.detected >= 0.97 and self.right >= 0.95 and not self.unsaid


def judge(folder: Path) -> Result:
    """Read each mail and compare with its answers."""
    from newsletters.bounces import verdict

    result = Result()
    for name, raw, answers in corpus(folder):
        started = time.process_time()
        found = failures(raw)
        result.slowest = max(result.slowest, time.process_time() - started)
        expected = [one for one in answers if one["reason"] not in NO_FAILURE]
        result.mails += 1
        result.with_failure += bool(expected)
        if len(found) != len(expected):
            result.miscounted.append(name)
        for answer, failure in zip(expected, found, strict=False):
            hard = verdict.of(failure) == "hard"
            result.judged += 1
            if hard != answer["hard"]:
                result.misjudged.append(name)
            if hard and not answer["hard"] and not SAYS_SO.search(f"{failure.said} {failure.around}"):
                result.unsaid.append(name)
    return result


def corpus(folder: Path) -> Iterator[tuple[str, bytes, list[dict[str, Any]]]]:
    for name, answers in json.loads((folder / "expected.json").read_text()).items():
        yield name, (folder / f"{name}.eml").read_bytes(), answers


def failures(raw: bytes) -> list[Any]:
    from newsletters.bounces import letter, report

    found = report.read(letter.read(raw))
    return [one for one in found.failures if one.action not in {"delivered", "relayed"}] if found else []


def hard(raw: bytes) -> bool:
    """Tell whether a mail would cost its reader."""
    from newsletters.bounces import letter, report, verdict

    found = report.read(letter.read(raw))
    still = {"delayed", "delivered", "relayed", "expanded"}
    return bool(found and found.kind == "bounce") and any(
        verdict.of(one) == "hard" for one in failures(raw) if one.action not in still
    )


def cut(folder: Path, times: int, seed: int) -> tuple[int, list[str]]:
    """Cut each mail that costs nobody at so many places; return how many were read, and which then cost somebody."""
    chance, number, worse = random.Random(seed), 0, []
    for name, raw, _answers in corpus(folder):
        if hard(raw):
            continue
        for _time in range(times):
            number += 1
            if hard(raw[: chance.randrange(len(raw))]):
                worse.append(name)
    return number, worse


def noise(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield megabytes that mean nothing, and the worst that each search may meet."""
    chance = random.Random(seed)
    head = b"From: MAILER-DAEMON\nSubject: undeliverable\n\n"
    yield "random bytes", chance.randbytes(MEGABYTE)
    yield "random bytes in a report", head + chance.randbytes(MEGABYTE)
    for piece in (b"a@", b"<a@b.c>\n", b"user ", b"rcpt to:<", b"<br ", b"=?utf-8?q?=00", b"X: y\n ", b"-", b"--=_1\n"):
        yield f"{piece!r} again and again", head + piece * (MEGABYTE // len(piece))


def costliest() -> tuple[float, str]:
    """Return what the costliest of the repeated pieces takes to read, in seconds of CPU for 100 KB, at best of five."""
    head = b"From: MAILER-DAEMON\nSubject: undeliverable\n"
    found = []
    for kind, piece in product((b"text/plain", b"text/html", b"message/delivery-status"), PIECES):
        raw = (
            head
            + b"Content-Type: "
            + kind
            + b"\n\n"
            + b"Final-Recipient: x; a@b.c\nDiagnostic-Code: x; "
            + piece * 100_000
        )
        found.append((min(timed(raw[:100_000]) for _time in range(5)), f"{kind.decode()}, {piece!r}"))
    return max(found)


def timed(raw: bytes) -> float:
    started = time.process_time()
    hard(raw)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", type=int, default=25, help="how often each mail is cut off")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ |= {"DATA_DIR": place, "DJANGO_SETTINGS_MODULE": "funnel.settings"}
        import django

        django.setup()
        print(heading(), flush=True)
        sys.exit(not show(judge(wanted.folder), cut(wanted.folder, wanted.cuts, wanted.seed), wanted.seed))


def show(result: Result, cuts: tuple[int, list[str]], seed: int) -> bool:
    counted = result.with_failure - len(result.miscounted)
    print(f"right number of recipients  {counted} of {result.with_failure} mails ({result.detected:.1%})")
    right = result.judged - len(result.misjudged)
    print(f"hard or soft as published   {right} of {result.judged} recipients ({result.right:.1%})")
    print(f"soft called hard unsaid     {len(result.unsaid)} {' '.join(result.unsaid)}")
    print(f"soft, cut off, called hard  {len(cuts[1])} of {cuts[0]} {' '.join(cuts[1])}")
    print(f"slowest real mail (CPU)     {result.slowest * 1000:.0f} ms of {result.mails}")
    worst, name, costly = 0.0, "", []
    for what, raw in noise(seed):
        started = time.process_time()
        if hard(raw):
            costly.append(what)
        if (took := time.process_time() - started) > worst:
            worst, name = took, what
    print(f"slowest noise, 1 MB (CPU)   {worst * 1000:.0f} ms ({name}); called hard: {len(costly)} {' '.join(costly)}")
    took, name = costliest()
    print(f"worst text, 100 KB (CPU)    {took * 1000:.0f} ms ({name})")
    print("misjudged:", *dict.fromkeys(result.misjudged))
    return result.reached and not cuts[1] and not costly


if __name__ == "__main__":
    main()
