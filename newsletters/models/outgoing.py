import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Case, F, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from newsletters.claims import End

# Long enough for a batch on a slow server; a lease that runs out gives the rows to another worker.
LEASE = timedelta(minutes=5)
# RFC 5321 section 4.5.3.2.6 grants a server ten minutes to answer the final dot.
REPLY_WAIT = timedelta(minutes=11)
# The database's clock, and so much later
NOW = {"postgresql": "statement_timestamp(){0}", "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW'{1})"}


class State(models.TextChoices):
    PLANNED = "planned", _("planned")
    LEASED = "leased", _("being prepared")
    HANDOFF = "handoff", _("handed over")
    SENT = "sent", _("sent")
    RETRY = "retry", _("put off")
    FAILED = "failed", _("failed")
    SKIPPED = "skipped", _("skipped")
    MISSED = "missed", _("missed")
    UNCERTAIN = "uncertain", _("uncertain")


# As words of the statement, not as parameters: SQLite takes a partial index only where its condition is spelled out.
WAITING = (RawSQL("'planned'", ()), RawSQL("'retry'", ()))
HELD = (RawSQL("'leased'", ()), RawSQL("'handoff'", ()))
OPEN = (State.PLANNED, State.LEASED, State.RETRY)
HAD = (State.HANDOFF, State.SENT, State.UNCERTAIN)


def array(values: Iterable[Any]) -> str:
    """Write a PostgreSQL array of numbers or dates; psycopg's own way takes several times as long."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts(values: Iterable[str]) -> str:
    """Write a PostgreSQL array of texts."""
    escaped = [value.replace("\\", r"\\").replace('"', r"\"") for value in values]
    return '{"' + '","'.join(escaped) + '"}'


def _server_cursor() -> Any:
    """Return a cursor of PostgreSQL whose statements are prepared: theirs would take longer to plan than to run."""
    from psycopg import Cursor

    connection.ensure_connection()
    connection.connection.prepare_threshold = 2
    cursor: Any = Cursor(connection.connection)
    return connection.make_cursor(cursor)


class OutgoingQuerySet(models.QuerySet[Any]):
    """The claims on rows that go out. Each is a conditional UPDATE on the row's own columns."""

    # The columns of the key, with their types in PostgreSQL
    KEY = {"id": "bigint"}
    # What must still hold at the hand-off, as SQL on the row "d"
    WANTED = "TRUE"
    REVISION = ""

    def due(self, now: datetime) -> "OutgoingQuerySet":
        return self.filter(state__in=WAITING, try_at__lte=now, late_until__gt=now)

    def lease(self, size: int, now: datetime, owner: uuid.UUID) -> list[Any]:
        """Claim up to `size` rows due at `now`, the longest due first, and return them as they stand then."""
        with transaction.atomic():
            # On SQLite, which has one writer, Django leaves the locking clause out.
            due = self.select_related(None).due(now).order_by("try_at").select_for_update(skip_locked=True)
            keys = list(due.values_list("pk", flat=True)[:size])
            if not keys:
                return []
            self.filter(pk__in=keys).update(state=State.LEASED, owner=owner, leased_until=Now() + LEASE)
            return self.filter(pk__in=keys, owner=owner).claimed()

    def claimed(self) -> list[Any]:
        return list(self.order_by("try_at"))

    def hand_off(
        self,
        keys: Sequence[Any],
        owner: uuid.UUID,
        now: datetime,
        ended: Sequence[End] = (),
        revisions: Sequence[int | None] = (),
    ) -> set[Any]:
        """Commit that these rows' last byte may now be sent, and how others ended; return the keys that still may.

        A row drops out when its reader left, or when the lease ran out: a worker that was stopped in its sleep
        must not send what another one has taken over.
        """
        if not keys and not ended:
            return set()
        form = self._hand_off if connection.vendor == "postgresql" else self._hand_off_sqlite
        return form(keys, owner, now, ended, revisions or [None] * len(keys))

    def _hand_off(
        self,
        keys: Sequence[Any],
        owner: uuid.UUID,
        now: datetime,
        ended: Sequence[End],
        revisions: Sequence[int | None],
    ) -> set[Any]:
        """One statement, and with it one commit, however many rows."""
        parts: list[str] = []
        values: dict[str, Any] = {"owner": owner, "now": now, "wait": REPLY_WAIT}
        if ended:
            parts.append(f"settled AS ({self._settle_sql()})")
            values |= self._arrays("e", [end.pk for end in ended])
            _keys, states, reasons, replies = zip(*ended, strict=True)
            values |= {"state": texts(states), "reason": texts(reasons), "reply": texts(replies)}
        passed = f"{self._pass_sql()} RETURNING {self._key('d.')}"
        parts.append(f"passed AS ({passed if keys else f'SELECT {self._key()} FROM {self._table} WHERE FALSE'})")
        if keys:
            values |= self._arrays("p", keys) | {"revision": array(revisions)}
        with _server_cursor() as cursor:
            cursor.execute(f"WITH {', '.join(parts)} SELECT {self._key()} FROM passed", values)
            return self._keys(cursor.fetchall())

    @property
    def _table(self) -> str:
        return str(self.model._meta.db_table)

    def _key(self, alias: str = "") -> str:
        return ", ".join(f"{alias}{name}" for name in self.KEY)

    def _arrays(self, name: str, keys: Sequence[Any]) -> dict[str, str]:
        columns = zip(*map(self._columns, keys), strict=True)
        return {f"{name}{number}": array(column) for number, column in enumerate(columns)}

    def _unnested(self, name: str, **more: str) -> str:
        if connection.vendor == "sqlite":
            names = enumerate([*self.KEY, *more])
            columns = [f"json_extract(value, '$[{place}]') AS {column}" for place, column in names]
            return f"(SELECT {', '.join(columns)} FROM json_each(%({name})s)) AS {name}"
        types = [f"%({name}{number})s::{kind}[]" for number, kind in enumerate(self.KEY.values())]
        types += [f"%({column})s::{kind}[]" for column, kind in more.items()]
        return f"unnest({', '.join(types)}) {name} ({', '.join([*self.KEY, *more])})"

    def _settle_sql(self) -> str:
        return f"""
            UPDATE {self._table} AS d SET state = e.state, reason = e.reason, reply = e.reply, settled_at = %(now)s,
                leased_until = NULL
            FROM {self._unnested("e", state="text", reason="text", reply="text")}
            WHERE ({self._key("d.")}) = ({self._key("e.")}) AND d.owner = %(owner)s
                AND d.state IN ('leased', 'handoff', 'uncertain')"""

    def _pass_sql(self) -> str:
        # With a bare column the planner, whose statistics know of no leased rows, reads all of them by their own index.
        clock = NOW[connection.vendor]
        return f"""
            UPDATE {self._table} AS d SET state = 'handoff', handoff_at = %(now)s, {self.REVISION}
                leased_until = {clock.format(" + %(wait)s", ", %(wait)s")}
            FROM {self._unnested("p", revision="bigint")}
            WHERE ({self._key("d.")}) = ({self._key("p.")}) AND d.owner = %(owner)s AND d.state || '' = 'leased'
                AND d.leased_until > {clock.format("", "")} AND d.late_until > %(now)s AND {self.WANTED}"""

    def _hand_off_sqlite(
        self,
        keys: Sequence[Any],
        owner: uuid.UUID,
        now: datetime,
        ended: Sequence[End],
        revisions: Sequence[int | None],
    ) -> set[Any]:
        """The same in two statements: a WITH of SQLite changes no rows."""
        written = connection.ops.adapt_datetimefield_value(now)
        values = {"owner": owner.hex, "now": written, "wait": f"+{REPLY_WAIT.total_seconds()} seconds"}
        with transaction.atomic(), connection.cursor() as cursor:
            if ended:
                rows = [[*self._columns(end.pk), *end[1:]] for end in ended]
                cursor.execute(self._settle_sql(), values | {"e": json.dumps(rows, default=str)})
            if not keys:
                return set()
            rows = [[*self._columns(key), revision] for key, revision in zip(keys, revisions, strict=True)]
            sql = f"{self._pass_sql()} RETURNING {self._key()}"
            cursor.execute(sql, values | {"p": json.dumps(rows, default=str)})
            return self._keys(cursor.fetchall())

    def _columns(self, key: Any) -> Sequence[Any]:
        return key if len(self.KEY) > 1 else [key]

    def _keys(self, rows: list[Any]) -> set[Any]:
        return set(rows) if len(self.KEY) > 1 else {pk for (pk,) in rows}

    def drop(self, keys: Sequence[Any], owner: uuid.UUID, now: datetime) -> None:
        """Close what dropped out at the hand-off because nobody wants it any more."""

    def put_off(
        self,
        keys: Sequence[Any],
        owner: uuid.UUID,
        try_at: datetime,
        reply: str,
        reason: str = "",
        states: Sequence[str] = (State.LEASED,),
    ) -> int:
        """Try these rows again, but not before `try_at`; the reason tells whose doing it is that they wait."""
        return self.filter(pk__in=keys, owner=owner, state__in=states).update(
            state=State.RETRY,
            try_at=try_at,
            attempts=F("attempts") + 1,
            reason=reason,
            reply=reply,
            owner=None,
            leased_until=None,
        )

    def release(self, keys: Sequence[Any], owner: uuid.UUID) -> int:
        """Give leased rows back untouched."""
        mine = self.filter(pk__in=keys, owner=owner, state=State.LEASED)
        return mine.update(state=State.PLANNED, owner=None, leased_until=None)

    def abandoned(self) -> "OutgoingQuerySet":
        """Return what workers held that died, or slept too long."""
        return self.filter(state__in=HELD, leased_until__lt=Now())

    def in_doubt(self) -> "OutgoingQuerySet":
        """Return what such a worker had handed off and never settled."""
        return self.abandoned().filter(state=State.HANDOFF)

    def take_back(self) -> dict[str, int]:
        """Free what was abandoned before its hand-off, and call the rest uncertain; return how many rows of each."""
        prepared = self.abandoned().filter(state=State.LEASED)
        return {
            "released": prepared.update(state=State.PLANNED, owner=None, leased_until=None),
            "uncertain": self.in_doubt().update(state=State.UNCERTAIN, leased_until=None),
        }

    def close(self, now: datetime) -> int:
        """Call what waited until it was too late missed, with whose doing it was; return how many rows."""
        over = self.filter(state__in=WAITING, late_until__lte=now)
        reason = Case(*self._late(), default=Value("late"))
        return over.update(state=State.MISSED, reason=reason, settled_at=now)

    def _late(self) -> list[When]:
        # What the reader's own server put off until it was too late is no outage of ours.
        return [When(reason="deferred", then=Value("deferred"))]


class Outgoing(models.Model):
    """What a delivery and a letter share: the row is the queue and the truth about one message."""

    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.PLANNED)
    reason = models.CharField(_("reason"), max_length=20, blank=True)
    due_at = models.DateTimeField(_("due"))
    try_at = models.DateTimeField(_("next try"))
    late_until = models.DateTimeField(_("late until"))
    attempts = models.PositiveSmallIntegerField(default=0)
    owner = models.UUIDField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    handoff_at = models.DateTimeField(_("handed over"), null=True, editable=False)
    settled_at = models.DateTimeField(_("settled"), null=True, editable=False)
    reply = models.CharField(_("the server's word"), max_length=250, blank=True)

    class Meta:
        abstract = True
