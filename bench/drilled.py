"""Who is drilled: ours, and two ways to send that are found everywhere."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

from bench import ground
from bench.drill import WORKERS, Drill
from bench.ground import Taken, until

if TYPE_CHECKING:
    from newsletters.postfix import Answer


class Ours(Drill):
    kind = "ours"
    FAULTS = Drill.FAULTS | {"stop_past_its_lease": 3, "end_sessions": 3, "replay_Redis": 2, "ask_to_stop": 2}
    NOT_POSSIBLE = {"refuse_fsync": ground.untraceable()} if ground.untraceable() else {}
    FAULTS |= {} if NOT_POSSIBLE else {"refuse_fsync": 0.5}

    def prepare(self) -> None:
        from bench import servers

        servers.django(self.database_url, self.folder / self.kind)
        from newsletters.models import Publication

        self.publication = Publication.objects.create(
            name="Le pas du jour",
            slug="drill",
            language="fr",
            author="Maud Castéra",
            sender="maud@lepasdujour.example",
            reply_to="maud@lepasdujour.example",
            postal_address="8, rue du Fanal, 64100 Bayonne, France",
        ).pk
        self.query(HOLDERS)
        self.query(
            """
            INSERT INTO newsletters_subscriber (publication_id, address, address_key, address_hash, status, zone,
                language, first_name, fields, tags, origin, weekdays, catching_up, member_since, created_at)
            SELECT %s, 'r' || n || '@example.com', 'r' || n || '@example.com', md5(n::text), 'active', 'Europe/Paris',
                'fr', 'Nadia', '{}', '[]', '', '', false, now() - interval '9 days', now() - interval '9 days'
            FROM generate_series(1, %s::int) n""",
            self.publication,
            self.readers,
        )
        from celery import Celery

        self.wake_ups = Celery("drill", broker=self.broker_url)

    def plan(self) -> None:
        from django.db import connection

        from newsletters.models import Issue

        issue = Issue(publication_id=self.publication, kind="daily", state="queued", subject=f"Pas {self.day}")
        issue.public_id = f"drill{self.day}"
        issue.body = "Bonjour {{ first_name|vous }},\n\n" + "Une ligne par jour. " * 40
        issue.save()
        connection.close()
        self.query(
            """
            INSERT INTO newsletters_delivery (local_date, subscriber_id, slot, publication_id, way, issue_id, state,
                reason, due_at, try_at, late_until, attempts, reply)
            SELECT date '2030-01-01' + %s::int, id, 0, publication_id, 'daily', %s, 'planned', '', now(), now(),
                now() + interval '15 hours', 0, '' FROM newsletters_subscriber""",
            self.day,
            issue.pk,
        )
        self.subject = issue.subject

    def open(self) -> int:
        return int(
            self.query(
                "SELECT count(*) FROM newsletters_delivery WHERE state IN ('planned', 'leased', 'handoff', 'retry')"
            )[0][0]
        )

    def pace(self) -> None:
        """The clock moves on for what was put off; wake-ups go through Redis, as the beat sends them."""
        with psycopg.connect(self.database_url, autocommit=True, application_name="drill") as database:
            database.execute("UPDATE newsletters_delivery SET try_at = now() WHERE state = 'retry' AND try_at > now()")
            waits = database.execute("SELECT 1 FROM newsletters_delivery WHERE state = 'planned' LIMIT 1").fetchone()
        self.wake_ups.send_task("newsletters.tasks.tick", expires=2)
        for _ in range(WORKERS if waits else 0):
            self.wake_ups.send_task("newsletters.tasks.drain", expires=2)

    def busy(self, aimed: bool) -> list[str]:
        rows = self.query(
            """SELECT DISTINCT name FROM newsletters_delivery JOIN drill_holder USING (owner)
            WHERE state IN ('handoff', %s)""",
            "handoff" if aimed else "leased",
        )
        return sorted(name for (name,) in rows if name in self.crew.pids)

    def buried(self, *names: str) -> tuple[int, int]:
        """Wait until the database has noticed the death: what it was asked before may still be done."""
        ask = "SELECT 1 FROM pg_stat_activity WHERE application_name = ANY(%s)"
        until(lambda: not self.query(ask, list(names)))
        before, after = self.held(*names)
        self.count.doubt += after
        self.count.bound += self.connections * len(names) * (after > 0)
        return before, after

    def held(self, *names: str) -> tuple[int, int]:
        """Return how many rows workers hold before and after the hand-off, and let their leases run out."""
        where = "owner IN (SELECT owner FROM drill_holder WHERE name = ANY(%s)) AND state IN ('leased', 'handoff')"
        rows = self.query(
            f"""UPDATE newsletters_delivery SET leased_until = clock_timestamp() - interval '1 second' WHERE {where}
            RETURNING state""",
            list(names),
        )
        states = Counter(state for (state,) in rows)
        return states["leased"], states["handoff"]

    def passed(self) -> None:
        names = [name for (name,) in self.query("SELECT DISTINCT name FROM drill_holder")]
        _before, after = self.held(*names)
        self.count.doubt += after
        self.count.bound += self.connections * WORKERS

    # What only ours withstands

    def stop_past_its_lease(self) -> bool:
        """Let a worker sleep until others have taken over what it held, and wake it up again."""
        if not (name := self.someone(aimed=False)):
            return False
        self.crew.signal(name, signal.SIGSTOP)
        before, after = self.held(name)
        time.sleep(self.random.uniform(0.8, 2))
        self.crew.signal(name, signal.SIGCONT)
        self.count.bound += self.connections
        return before + after > 0

    def end_sessions(self) -> bool:
        """Cut a worker's sessions in PostgreSQL: a commit may be lost, or only its answer."""
        if not (name := self.someone(aimed=True)):
            return False
        self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", name)
        return sum(self.buried(name)) > 0

    def refuse_fsync(self) -> bool:
        """Let the disk refuse what a worker's session commits: PostgreSQL stops at once, and recovers by itself."""
        if not (name := self.someone(aimed=True)):
            return False
        ask = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'"
        pids = [pid for (pid,) in self.query(ask, name)]
        before = self.panics()
        with ground.refused("fdatasync", pids):
            landed = until(lambda: self.panics() > before, 5)
        self.passed()
        return landed

    def panics(self) -> int:
        return self.postgresql.log.read_bytes().count(b"PANIC:")

    def replay_Redis(self) -> bool:  # noqa: N802
        """Put every wake-up that waits or is being worked on into the queue once more, three times."""
        begun = [json.dumps(json.loads(one)[0]) for one in self.broker.hvals("unacked")]
        messages = [*begun, *self.broker.lrange("celery", 0, -1)] * 3
        for message in messages:
            self.broker.rpush("celery", message)
        return bool(messages)

    def ask_to_stop(self) -> bool:
        """SIGTERM in the middle of a send: it gives back what it has leased, waits for its replies, and goes."""
        if not (name := self.someone(aimed=False)):
            return False
        self.crew.signal(name, signal.SIGTERM)
        gone = until(lambda: not self.crew.lives(name), 20)
        self.count.landed["stopped late"] += not gone
        self.crew.kill(name)
        self.count.landed["stopped with rows left"] += sum(self.buried(name)) > 0
        self.crew.start()
        return True

    # The count

    def close(self) -> None:
        """Compare the day with the record; then settle by the record what is uncertain, and send what never left."""
        states = self.states()
        # After the rows: a worker that woke up late may have sent a last byte since.
        mine = self.of_the_day()
        sent, uncertain = states.pop("sent", set()), states.pop("uncertain", set())
        self.count.sent += len(sent)
        self.count.uncertain += len(uncertain)
        self.count.delivered += len(uncertain & mine.keys())
        self.tally(mine, sent | uncertain, sent)
        self.settle()
        self.finish()
        again = self.of_the_day()
        copies, ends = again - mine if mine else again, self.states()
        doubled = sum(count > 1 for count in again.values()) - sum(count > 1 for count in mine.values())
        missing = self.readers - len(ends.get("sent", set()) & again.keys())
        self.count.after = (self.count.after[0] + doubled, self.count.after[1] + missing)
        self.count.still += len(ends.get("uncertain", ()))
        self.count.accepted += sum(mine.values()) + sum(copies.values())
        self.taken.clear()
        self.query("TRUNCATE newsletters_delivery, drill_holder")

    def states(self) -> dict[str, set[str]]:
        rows = self.query(
            """SELECT state, address FROM newsletters_delivery d JOIN newsletters_subscriber r ON r.id = subscriber_id
            WHERE local_date = date '2030-01-01' + %s::int""",
            self.day,
        )
        found: dict[str, set[str]] = {}
        for state, address in rows:
            found.setdefault(state, set()).add(address)
        return found

    def tally(self, taken: Counter[str], known: set[str], sent: set[str]) -> None:
        """Doubled: more than one copy. Lost: sent without a copy, or ended or left open without being on any list; a
        copy that no row knows of would be doubled one day and counts as such."""
        self.count.doubled += sum(count - 1 for count in taken.values()) + len(taken.keys() - known)
        self.count.lost += len(sent - taken.keys()) + self.readers - len(known | taken.keys())

    def settle(self) -> None:
        """Settle as `manage.py stuck` does; PostgreSQL may have been stopped since Django last asked it."""
        from django.db import connection
        from django.utils import timezone

        from newsletters import stuck

        connection.close()
        stuck.settle(Sink(self.taken), timezone.now())
        connection.close()


class Sink:
    """What smtp-sink wrote down, as a newsletters.postfix.Record: it has each message that it took, and no other."""

    def __init__(self, taken: Iterable[Taken]) -> None:
        self.names = {one.message_id.strip("<>").partition("@")[0] for one in taken}

    def ask(self, messages: Mapping[str, datetime]) -> "dict[str, Answer]":
        from newsletters.postfix import Answer

        return {name: Answer("sent" if name in self.names else "absent") for name in messages}


HOLDERS = """
CREATE TABLE drill_holder (owner uuid PRIMARY KEY, name text NOT NULL);
CREATE FUNCTION drill_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drill_holder SELECT DISTINCT owner, current_setting('application_name') FROM changed
    WHERE state = 'leased' AND owner IS NOT NULL ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER drill_hold AFTER UPDATE ON newsletters_delivery REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION drill_hold();
"""


# The baselines


class MarkAfterSend(Drill):
    kind = "mark"
    # It has no broker.
    FAULTS = {name: share for name, share in Drill.FAULTS.items() if name != "flush_Redis"}

    def prepare(self) -> None:
        self.query("CREATE TABLE mark (id bigserial PRIMARY KEY, address text, subject text, sent bool DEFAULT false)")
        self.query("CREATE INDEX ON mark (id) WHERE NOT sent")

    def plan(self) -> None:
        self.subject = f"Pas {self.day}"
        self.query(
            """INSERT INTO mark (address, subject)
            SELECT 'r' || n || '@example.com', %s FROM generate_series(1, %s::int) n""",
            self.subject,
            self.readers,
        )

    def open(self) -> int:
        return int(self.query("SELECT count(*) FROM mark WHERE NOT sent")[0][0])

    def busy(self, aimed: bool) -> list[str]:
        rows = self.query("SELECT DISTINCT application_name FROM pg_stat_activity WHERE state = 'idle in transaction'")
        return sorted(name for (name,) in rows if name in self.crew.pids)

    def pace(self) -> None:
        """It puts nothing off."""

    def passed(self) -> None:
        """Its locks went down with the database."""

    def buried(self, *names: str) -> tuple[int, int]:
        # Its only trace was a lock, and it has gone with it.
        return 1, 0

    def close(self) -> None:
        copies = self.of_the_day()
        self.count.sent += len(copies)
        self.count.accepted += sum(copies.values())
        self.count.doubled += sum(count - 1 for count in copies.values())
        self.count.lost += self.readers - len(copies)
        self.taken.clear()


class TaskPerMessage(MarkAfterSend):
    kind = "task"
    # It has no database.
    FAULTS = {name: share for name, share in Drill.FAULTS.items() if name != "stop_PostgreSQL"}

    def prepare(self) -> None:
        from celery import Celery

        self.app = Celery("baseline", broker=self.broker_url)

    def plan(self) -> None:
        self.subject = f"Pas {self.day}"
        with self.app.producer_pool.acquire() as producer:
            for number in range(1, self.readers + 1):
                self.app.send_task("send_one", (f"r{number}@example.com", self.subject), producer=producer)

    def open(self) -> int:
        return int(self.broker.llen("celery"))

    def finish(self) -> None:
        super().finish()
        time.sleep(2)
        # What a dead worker had fetched and not begun comes again after Celery's visibility timeout, an hour.
        late = int(self.broker.hlen("unacked"))
        self.count.landed["messages late by an hour"] += late
        self.count.lost -= late
        self.broker.flushall()

    def flush_Redis(self) -> bool:  # noqa: N802
        self.count.landed["messages in flushed queues"] += self.open()
        return super().flush_Redis()

    def busy(self, aimed: bool) -> list[str]:
        # All of them, all the time
        return sorted(self.crew.pids) if self.open() else []


KINDS: dict[str, type[Drill]] = {"ours": Ours, "mark": MarkAfterSend, "task": TaskPerMessage}
