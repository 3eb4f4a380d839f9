"""The author and the readers of a simulation, and what they do of a day."""

import zoneinfo
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import TypeVar

from django.db.models import Model, QuerySet

from newsletters import letters, notices
from newsletters.models import (
    Break,
    Clock,
    Entry,
    Issue,
    Letter,
    PromiseChange,
    Publication,
    Series,
    Subscriber,
    Text,
    Walk,
)
from newsletters.models.subscriber import keyed_hash

# From one end of the earth to the other, with half and quarter hours, half-hour shifts, and changes at midnight.
ZONES = [
    "Europe/Paris",
    "Europe/London",
    "America/New_York",
    "America/Los_Angeles",
    "America/Montreal",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Pacific/Pago_Pago",
    "Pacific/Honolulu",
    "Pacific/Marquesas",
    "Pacific/Chatham",
    "Pacific/Auckland",
    "Pacific/Apia",
    "Pacific/Norfolk",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Australia/Eucla",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Kabul",
    "Asia/Tehran",
    "Asia/Gaza",
    "Asia/Beirut",
    "Asia/Yangon",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Johannesburg",
    "Antarctica/Troll",
    "Atlantic/Azores",
    "America/St_Johns",
    "America/Havana",
    "America/Asuncion",
    "America/Santiago",
    "America/Nuuk",
    "America/Sao_Paulo",
    "Pacific/Easter",
    "Europe/Moscow",
]

# How many of a thousand readers do it in a day; a handful is as lively as a hundred
LIVELY = 100
READERS = {"join": 4.0, "leave": 3.0, "return_": 1.0, "undo_leave": 0.5, "pause": 4.0, "resume": 1.0, "move": 4.0}
READERS |= {"digest": 1.5, "daily": 1.5, "own_days": 0.5}
# How likely the author does it in a day
AUTHOR = {"edit": 0.3, "reorder": 0.2, "insert": 0.05, "withdraw": 0.08, "put_back": 0.1, "pin": 0.05, "remove": 0.02}
AUTHOR |= {"keep_for_later": 0.06, "rest": 0.01, "change_hour": 0.004, "change_promise": 0.004}
# What each act is called in the report
WORDED = {"return_": "return", "undo_leave": "leave and change their mind", "move": "change zone"}
WORDED |= {"digest": "ask for a weekly digest", "daily": "go back to daily", "own_days": "keep days of their own"}
WORDED |= {"queue_one": "queue an issue", "keep_for_later": "add to the reserve", "edit": "edit an issue"}
WORDED |= {"reorder": "reorder a series", "insert": "insert into the sequence", "withdraw": "withdraw an issue"}
WORDED |= {"put_back": "queue a withdrawn issue", "pin": "pin an issue to a date", "remove": "remove an issue"}
WORDED |= {"rest": "take a break", "change_hour": "change the hour at once", "change_promise": "change the promise"}
HOURS = [time(0), time(0, 30), time(6), time(7), time(8, 30), time(20)]

WORDS = [
    "step",
    "day",
    "habit",
    "line",
    "page",
    "hour",
    "light",
    "path",
    "salt",
    "wind",
    "stone",
    "paper",
    "bread",
    "river",
]


Row = TypeVar("Row", bound=Model)


class Nobody(Exception):
    """There is nobody, or nothing, that this could happen to."""


class World:
    """One publication and everyone around it. Each act happens at the instant it is given."""

    def __init__(self, random: Random, readers: int, zones: int, start: datetime) -> None:
        self.random, self.size, self.start = random, readers, start
        others = sorted(zoneinfo.available_timezones() - set(ZONES))
        self.zones = (ZONES + random.sample(others, max(zones - len(ZONES), 0)))[:zones]
        # Most live near the author, a few at the ends of the earth.
        self.weights = [1 / place for place in range(1, len(self.zones) + 1)]
        self.did = Counter({WORDED.get(name, name): 0 for name in READERS | AUTHOR})
        self.writes_again = start.date()
        self.written = self.joined = 0
        self.touched: dict[int, datetime] = {}  # when a reader last did something
        self.now = start
        self.publication = Publication.objects.create(
            name="A day at a time",
            slug="simulation",
            author="Maud",
            sender="maud@simulation.example",
            reply_to="maud@simulation.example",
            postal_address="1 Harbour Street",
            zone="Europe/Paris",
            hour=time(7),
        )
        self.sequence = self.series(Series.Kind.SEQUENCE, 10, start)
        self.second = self.series(Series.Kind.SEQUENCE, 5, start, "second")
        self.queue = self.series(Series.Kind.DAILY, 10, start)
        self.reserve = self.series(Series.Kind.RESERVE, 30, start)
        for _ in range(readers):
            self.join(start)

    def series(self, kind: str, issues: int, now: datetime, slug: str = "") -> Series:
        made = Series.objects.create(publication=self.publication, kind=kind, name=kind, slug=slug or kind)
        for _ in range(issues):
            self.stamp(made.append(self.write(now)), now - timedelta(days=1))
        return made

    def fresh(self) -> Publication:
        """Return the publication as it stands."""
        return Publication.objects.get(pk=self.publication.pk)

    def write(self, now: datetime) -> Issue:
        """Write an issue; now and then it tells again what an older one told."""
        self.written += 1
        older = Text.objects.filter(publication=self.publication).order_by("pk")
        count = older.count()
        again = count > 5 and self.random.random() < 0.05
        issue = Issue.objects.create(
            publication=self.publication,
            subject=f"{self.random.choice(WORDS).capitalize()} {self.written}",
            body=" ".join(self.random.choices(WORDS, k=30)),
            state=Issue.State.QUEUED,
            public_id=f"s{self.written}",
        )
        new = Text.objects.create(publication=self.publication)
        issue.texts.add(older[self.random.randrange(count)] if again else new)
        return issue

    def stamp(self, entry: Entry, now: datetime) -> None:
        """Give an entry the moment of this world: the tables note the machine's own."""
        Entry.objects.filter(pk=entry.pk).update(added_at=now, placed_at=now)

    def day(self, day: date) -> list[tuple[datetime, Callable[[datetime], None]]]:
        """Return what happens on a date (UTC), in no order."""
        acts: list[Callable[[datetime], None]] = []
        for name, rate in READERS.items():
            acts += [getattr(self, name)] * self.often(rate * max(self.size, LIVELY) / 1000)
        acts += [getattr(self, name) for name, chance in AUTHOR.items() if self.random.random() < chance]
        acts += self.writing(day)
        midnight = datetime.combine(day, time(), tzinfo=UTC)
        return [(midnight + timedelta(seconds=self.random.randrange(86_400)), self.counted(act)) for act in acts]

    def often(self, mean: float) -> int:
        return int(mean) + (self.random.random() < mean % 1)

    def counted(self, act: Callable[[datetime], None]) -> Callable[[datetime], None]:
        def do(now: datetime) -> None:
            self.now = now
            with suppress(Nobody):
                act(now)
                name = getattr(act, "__name__", "")
                self.did[WORDED.get(name, name)] += 1

        return do

    def writing(self, day: date) -> list[Callable[[datetime], None]]:
        """An author writes an issue a day, until other things come between."""
        if day < self.writes_again:
            return []
        if self.random.random() < 0.015:
            self.did["fall silent for days or weeks"] += 1
            self.writes_again = day + timedelta(days=self.random.randint(5, 25))
        return [self.queue_one] * self.often(1.05)

    # Readers

    def one_of(self, rows: QuerySet[Row]) -> Row:
        """Return any of these rows. Raises Nobody."""
        rows = rows.order_by("pk")
        if not (count := rows.count()):
            raise Nobody
        return rows[self.random.randrange(count)]

    def someone(self, *statuses: str) -> Subscriber:
        reader = self.one_of(self.publication.subscribers.filter(status__in=statuses))
        self.touched[reader.pk] = self.now
        return reader

    def active(self) -> Subscriber:
        return self.someone(Subscriber.Status.ACTIVE)

    def join(self, now: datetime) -> None:
        self.joined += 1
        address = f"reader{self.joined}@simulation.example"
        reader = Subscriber.objects.create(
            publication=self.publication,
            address=address,
            address_key=address,
            address_hash=keyed_hash(address),
            zone=self.somewhere(),
            language="en",
        )
        self.welcome(reader, now)

    def somewhere(self) -> str:
        """Return a zone: each once at first, so that none is empty."""
        if self.joined <= len(self.zones):
            return self.zones[self.joined - 1]
        return self.random.choices(self.zones, self.weights)[0]

    def welcome(self, reader: Subscriber, now: datetime) -> None:
        reader.start(now, self.sequence)
        if reader.pk % 3 == 0:
            walk = {"subscriber": reader, "series": self.second, "ended_at": None}
            Walk.objects.get_or_create(**walk, defaults={"started_at": now, "position": 1})
        cause = f"{reader.pk} {now:%Y%m%d%H%M%S}"
        letters.write(
            self.publication, Letter.Kind.WELCOME, reader.address, cause, language="en", subscriber=reader, now=now
        )

    def leave(self, now: datetime) -> None:
        self.someone(Subscriber.Status.ACTIVE, Subscriber.Status.PAUSED).leave(now)

    def return_(self, now: datetime) -> None:
        self.welcome(self.someone(Subscriber.Status.UNSUBSCRIBED), now)

    def undo_leave(self, now: datetime) -> None:
        reader = self.active()
        reader.leave(now)
        reader.undo_leave(now)

    def pause(self, now: datetime) -> None:
        self.active().pause(now.date() + timedelta(days=self.random.randint(1, 20)), now)

    def resume(self, now: datetime) -> None:
        self.someone(Subscriber.Status.PAUSED).resume()

    def move(self, now: datetime) -> None:
        self.active().move(self.somewhere(), now)

    def digest(self, now: datetime) -> None:
        self.active().receive_weekly(int(self.random.choice(self.fresh().weekdays)))

    def daily(self, now: datetime) -> None:
        weekly = self.one_of(self.publication.subscribers.exclude(digest_on=None))
        self.touched[weekly.pk] = now
        weekly.receive_daily()

    def own_days(self, now: datetime) -> None:
        own = self.random.sample(self.fresh().weekdays, self.random.randint(1, 3))
        self.active().keep_pace("".join(sorted(own)))

    # The author

    def an_issue(self, state: str) -> Issue:
        return self.one_of(self.publication.issues.filter(state=state, kind=Issue.Kind.DAILY))

    def an_entry(self, *series: Series) -> Entry:
        return self.one_of(Entry.objects.filter(series__in=series))

    def queue_one(self, now: datetime) -> None:
        self.stamp(self.queue.append(self.write(now)), now)

    def keep_for_later(self, now: datetime) -> None:
        """Write an issue for the reserve."""
        self.stamp(self.reserve.append(self.write(now)), now)

    def edit(self, now: datetime) -> None:
        issue = self.an_issue(Issue.State.QUEUED)
        issue.body = " ".join(self.random.choices(WORDS, k=30))
        issue.save(update_fields=["body", "updated_at"])

    def reorder(self, now: datetime) -> None:
        entry = self.an_entry(self.sequence, self.queue, self.reserve)
        entry.series.move(entry, self.an_entry(entry.series))
        Entry.objects.filter(pk=entry.pk).update(placed_at=now)

    def insert(self, now: datetime) -> None:
        """Put a new issue anywhere in the sequence."""
        self.stamp(self.sequence.insert(self.write(now), self.an_entry(self.sequence)), now)

    def withdraw(self, now: datetime) -> None:
        Issue.objects.filter(pk=self.an_issue(Issue.State.QUEUED).pk).update(state=Issue.State.READY)

    def put_back(self, now: datetime) -> None:
        Issue.objects.filter(pk=self.an_issue(Issue.State.READY).pk).update(state=Issue.State.QUEUED)

    def pin(self, now: datetime) -> None:
        entry = self.an_entry(self.queue)
        entry.pinned_date = now.date() + timedelta(days=self.random.randint(1, 10))
        entry.save(update_fields=["pinned_date"])

    def remove(self, now: datetime) -> None:
        entry = self.an_entry(self.sequence, self.queue)
        entry.series.remove(entry)

    def rest(self, now: datetime) -> None:
        first = now.date() + timedelta(days=self.random.randint(2, 9))
        last = first + timedelta(days=self.random.randint(0, 4))
        Break.objects.create(
            publication=self.publication, kind=self.random.choice(Break.Kind.values), first=first, last=last
        )

    def change_hour(self, now: datetime) -> None:
        """Promise another hour from now on, in the middle of a day."""
        publication = self.fresh()
        publication.hour = self.random.choice(HOURS)
        publication.save(update_fields=["hour"])
        Clock.objects.reset(publication, now)

    def change_promise(self, now: datetime) -> None:
        """Promise another hour and other days, told ahead."""
        first = now.date() + timedelta(days=self.random.randint(9, 20))
        if self.publication.promise_changes.filter(first=first).exists():
            raise Nobody
        change = PromiseChange(
            publication=self.fresh(),
            first=first,
            hour=self.random.choice(HOURS),
            weekdays=self.random.choice(["1234567", "1234567", "123456", "12345"]),
            late_until=time(22),
        )
        notices.save_change(change, now)
