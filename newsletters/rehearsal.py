"""Dress rehearsal: the evening before, tomorrow's emails are made for everyone who will get them, and looked at.

The planner's own SELECT says who gets what. Each reader's copy is made and let go, so memory does not grow with the
list. It happens again after each later change: whenever the fingerprint of what goes into them is another one.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F, Max, Q, Sum

from newsletters import cascade, clock, digests, letters, postage, proofreading, queue, rendering
from newsletters.mime import Blueprint
from newsletters.models import Break, Clock, Delivery, Entry, Issue, Letter, Publication, Rehearsal, Subscriber, Walk

log = logging.getLogger(__name__)

EVENING = time(18)
AHEAD = timedelta(hours=12)
CHUNK = 500
# Slots without which an email must not go out
NEEDED = ("to_address", "message_id", "date", "leave_url", "reader_url", "today", "since")

# Where a reader lives, and the pace they asked for
ASKED = ("zone", "weekdays", "digest_on", "catching_up")
# Who will be active on the date
ACTIVE = "(status = 'active' OR status = 'paused' AND paused_until <= %(date)s)"

# (subscriber, issue) of one email; the issue is None where nothing is left to send
Pair = tuple[int, int | None]


def rehearse_due(now: datetime) -> list[Rehearsal]:
    """Rehearse for every publication whose evening has come and whose tomorrow has changed since."""
    soon = Clock.objects.filter(zone=F("publication__zone"), next_at__lte=now + timedelta(days=2))
    rows = soon.select_related("publication").order_by("next_at")
    publications = [row.publication for row in rows if now >= begins(row.publication, row.next_date)]
    return [rehearsal for publication in publications if (rehearsal := rehearse(publication, now))]


def begins(publication: Publication, day: date) -> datetime:
    """Return when a date's rehearsal begins: at 18:00 the evening before, the author's time, or 12 hours ahead."""
    evening = clock.instant(day - clock.ONE_DAY, EVENING, publication.zone)
    due_at, _late_until = publication.window(day, publication.zone)
    return min(evening, due_at - AHEAD)


def rehearse(publication: Publication, now: datetime) -> Rehearsal | None:
    """Rehearse the next promised date, if anything has changed since its last rehearsal; return the row, or None."""
    day, _at = publication.next_promise(now, publication.zone)
    key: dict[str, Any] = {"publication": publication, "date": day, "fingerprint": fingerprint(publication, day)}
    latest = publication.rehearsals.filter(date=day).order_by("-at", "-pk").first()
    if Break.on(publication, day) == Break.Kind.SILENCE or (latest and latest.fingerprint == key["fingerprint"]):
        return None
    run = Run(publication, day)
    run.go(now)
    with transaction.atomic():
        figures = {"at": now, "readers": run.readers, "largest": run.largest}
        figures |= {"problems": run.problems(), "remarks": run.remarks()}
        rehearsal, _new = Rehearsal.objects.update_or_create(**key, defaults=figures)
        if issue := run.sample():
            write_sample(rehearsal, issue, now)
    log.info("%s: %d emails rehearsed for %s, %d problems", publication.slug, run.readers, day, len(rehearsal.problems))
    return rehearsal


def fingerprint(publication: Publication, day: date) -> str:
    """Return a hash of what decides tomorrow's emails: the brand, the issues in order, the breaks, the readers."""
    issues = publication.issues.filter(kind=Issue.Kind.DAILY, state=Issue.State.QUEUED)
    entries = Entry.objects.filter(series__publication=publication)
    everything = [
        asdict(rendering.Brand.of(publication)),
        [publication.greeting, publication.action, publication.sign_off, publication.postscript],
        publication.promise_on(day),
        issues.aggregate(count=Count("pk"), changed=Max("updated_at")),
        entries.aggregate(count=Count("pk"), newest=Max("pk"), order=Sum(F("rank") * (F("pk") % 97 + 1))),
        sorted(entries.exclude(pinned_date=None).values_list("pk", "pinned_date")),
        sorted(publication.breaks.filter(last__gte=day).values_list("kind", "first", "last")),
        sorted(publication.clocks.values_list("zone", flat=True)),
        *readers(publication, day),
    ]
    return hashlib.sha256(json.dumps(everything, default=str).encode()).hexdigest()


def readers(publication: Publication, day: date) -> list[Any]:
    """Return figures that differ where others are expected, where they live elsewhere or have asked for another pace.

    A change counts at once where readers are few, and where they are many when it is about a hundredth of them.
    """
    last = publication.rehearsals.order_by("-at").values_list("readers", flat=True).first() or 0
    coarse = max(0, last.bit_length() - 7)
    begun, _late_until = publication.window(day, queue.LAST_ZONE)
    there = Q(status=Subscriber.Status.ACTIVE) | Q(status=Subscriber.Status.PAUSED, paused_until__lte=day)
    # Each reader weighs something else, 49 on average.
    kinds = publication.subscribers.filter(there, member_since__lte=begun).values(*ASKED).order_by(*ASKED)
    weights = kinds.annotate(weight=Sum(F("pk") % 97 + 1)).values_list(*ASKED, "weight")
    walks = Walk.objects.filter(series__publication=publication).aggregate(newest=Max("pk"))
    by_kind = [(*kind, weight >> (coarse + 6 if coarse else 0)) for *kind, weight in weights]
    return [by_kind, (walks["newest"] or 0) >> coarse]


@dataclass(slots=True)
class Proof:
    """One issue as it was rehearsed: its blueprint, or None where it cannot be made, and what was found."""

    issue: Issue
    blueprint: Blueprint | None
    found: list[proofreading.Finding]
    unnamed: list[str] = field(default_factory=list)  # fields without fallback
    readers: int = 0
    nameless: int = 0
    broken: Counter[str] = field(default_factory=Counter)


class Run:
    """One rehearsal: every email of a date, made and let go. It keeps figures only."""

    def __init__(self, publication: Publication, day: date) -> None:
        self.publication, self.day = publication, day
        self.proofs: dict[int, Proof] = {}
        self.readers = self.largest = self.dry = 0
        self.daily: int | None = None

    def go(self, now: datetime) -> None:
        for zone, day in dates(self.publication, self.day):
            due_at, _late_until = self.publication.window(day, zone)
            for chunk in emails(self.publication, zone, day, due_at):
                self.take(chunk, due_at, now)
        home, _late_until = self.publication.window(self.day, self.publication.zone)
        self.daily = daily_issue(self.publication, home)

    def take(self, chunk: list[Pair], due_at: datetime, now: datetime) -> None:
        readers = Subscriber.objects.in_bulk([reader for reader, _issue in chunk])
        for pk, issue in chunk:
            if issue is None:
                self.dry += 1
            elif pk in readers:
                self.make(readers[pk], issue, due_at, now)

    def make(self, reader: Subscriber, issue: int, due_at: datetime, now: datetime) -> None:
        """Make one reader's copy."""
        self.readers += 1
        proof = self.proofs.get(issue) or self.proof(issue)
        proof.readers += 1
        if proof.blueprint is None:
            return
        day = clock.local_date(due_at, reader.zone)
        row = Delivery(local_date=day, subscriber=reader, publication=self.publication, issue_id=issue)
        values = postage.values(row, now)
        proof.broken.update(name for name in NEEDED if not values.get(name))
        proof.nameless += not values["first_name"]
        message = proof.blueprint.fill(values)
        self.largest = max(self.largest, len(message))
        if b"List-Unsubscribe: <" not in message:
            proof.broken["leave_url"] += 1
        if proof.readers == 1:
            proof.found += proofreading.message(message, values["leave_url"])

    def proof(self, pk: int) -> Proof:
        """Render an issue, and read it."""
        issue = Issue.objects.select_related("publication").get(pk=pk)
        try:
            revision = rendering.revision_of(issue)
            blueprint = rendering.blueprint(revision)
        except Exception as error:
            # Whatever keeps an issue from being made must be told the evening before, and not stop the others.
            log.exception("Issue %d cannot be rendered", pk)
            proof = Proof(issue, None, [proofreading.Finding("render", what=repr(error)[:200])])
        else:
            unnamed = [
                name for name, fallback, _lead in revision.slots.values() if name == "first_name" and not fallback
            ]
            proof = Proof(issue, blueprint, proofreading.revision(issue, revision), unnamed)
        self.proofs[pk] = proof
        return proof

    def problems(self) -> list[dict[str, Any]]:
        found = [
            row for proof in self.proofs.values() for row in self.told(proof) if row["kind"] not in proofreading.MILD
        ]
        if self.dry:
            found.insert(0, {"kind": "dry", "readers": self.dry})
        return found

    def remarks(self) -> list[dict[str, Any]]:
        return [row for proof in self.proofs.values() for row in self.told(proof) if row["kind"] in proofreading.MILD]

    def told(self, proof: Proof) -> Iterator[dict[str, Any]]:
        """Yield what was found in an issue, as it is kept."""
        about = {"issue": proof.issue.pk, "subject": proof.issue.subject}
        for finding in proof.found:
            yield about | {name: value for name, value in asdict(finding).items() if value}
        for name, readers in proof.broken.items():
            yield about | {"kind": "empty", "what": name, "readers": readers}
        if proof.unnamed and proof.nameless:
            yield about | {"kind": "name", "readers": proof.nameless}

    def sample(self) -> Issue | None:
        """Return the issue to show the author: the daily one, else the one that most readers get."""
        if self.daily in self.proofs:
            return self.proofs[self.daily].issue
        most = max(self.proofs.values(), key=lambda proof: proof.readers, default=None)
        return most.issue if most else None


def dates(publication: Publication, day: date) -> Iterator[tuple[str, date]]:
    """Yield each zone with its date: where this one has struck already, the next, if no later rehearsal is in time."""
    following, _at = publication.promise_from(day + clock.ONE_DAY, publication.zone)
    again = begins(publication, following)
    for row in publication.clocks.all():
        if row.next_date <= day:
            yield row.zone, day
        elif row.next_at <= again and Break.on(publication, row.next_date) != Break.Kind.SILENCE:
            yield row.zone, row.next_date


def emails(publication: Publication, zone: str, day: date, due_at: datetime) -> Iterator[list[Pair]]:
    """Yield, in chunks, who gets what in a zone on a date, by the planner's statements; only digests are written."""
    values = cascade.values(publication.pk, day, due_at, daily_issue(publication, due_at)) | {"zone": zone}
    values |= {"steps": len(publication.promise_on(day).weekdays)}
    cascaded = cascade.select(cascade.OF_A_ZONE, active=ACTIVE)
    chosen = f"SELECT subscriber_id, issue_id FROM ({cascaded}) chosen WHERE moved = 0"
    weekly = Q(digest_on=day.isoweekday()) | Q(catching_up=True)
    if publication.subscribers.filter(weekly, zone=zone).exists():
        to_come = [(issue, at) for at, issue in still_to_fix(publication, due_at) if issue]
        week = digests.week(publication, due_at) + digests.dailies(to_come, due_at)
        contents = digests.contents(week, f"{cascade.OF_A_ZONE} AND {digests.ASKED}", active=ACTIVE)
        owed = f"({contents}) owed WHERE content <> ''"
        for content, readers in grouped(f"SELECT content, subscriber_id FROM {owed}", values):
            digest = digests.gather(publication, content)
            yield [(reader, digest.pk) for reader in readers]
        chosen += f" AND subscriber_id NOT IN (SELECT subscriber_id FROM {owed})"
    yield from stream(chosen, values)


def grouped(statement: str, values: dict[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Yield each content with a chunk of its readers."""
    for rows in stream(f"{statement} ORDER BY content", values):
        share: dict[str, list[int]] = {}
        for content, reader in rows:
            share.setdefault(str(content), []).append(reader)
        yield from share.items()


def stream(statement: str, values: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield rows a chunk at a time; the server keeps the rest."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, values)
        while rows := cursor.fetchmany(CHUNK):
            yield list(rows)


def daily_issue(publication: Publication, at: datetime) -> int | None:
    """Return the daily issue of a reader whose hour strikes at an instant to come, as the queue stands now."""
    *_before, last = (queue.issue_at(publication, at), *(issue for _at, issue in still_to_fix(publication, at)))
    return last


def still_to_fix(publication: Publication, until: datetime) -> list[tuple[datetime, int | None]]:
    """Return the instants up to one at which a daily issue is still to be fixed, with the issue as the queue stands."""
    first = queue.open_from(publication, until)
    found: list[tuple[datetime, int | None]] = []
    for day, issue, rest in queue.forecast(publication, first - clock.ONE_DAY):
        at = clock.instant(day, publication.promise_on(day).hour, publication.zone)
        if at > until:
            break
        if rest != Break.Kind.SILENCE:
            found.append((at, issue.pk if issue else None))
    return found


def write_sample(rehearsal: Rehearsal, issue: Issue, now: datetime) -> Letter | None:
    """Mail tomorrow's email to the author, once for each text of it."""
    publication = rehearsal.publication
    found = [*rehearsal.problems, *rehearsal.remarks]
    text = json.dumps([rendering.fingerprint(issue), found])
    return letters.write(
        publication,
        Letter.Kind.SAMPLE,
        publication.reply_to,
        f"{rehearsal.date} {hashlib.sha256(text.encode()).hexdigest()[:24]}",
        language=publication.language,
        context={"issue": issue.pk, "day": rehearsal.date.isoformat(), "readers": rehearsal.readers, "found": found},
        now=now,
    )
