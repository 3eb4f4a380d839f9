import base64
import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _

from newsletters.claims import Claim, End
from newsletters.limits import known_caps
from newsletters.models.halt import Halt
from newsletters.models.issue import Issue, Revision
from newsletters.models.publication import Publication
from newsletters.models.series import Entry
from newsletters.models.stop import Stop
from newsletters.models.subscriber import Subscriber

# Long enough for a batch on a slow server; a lease that runs out gives the rows to another worker.
LEASE = timedelta(minutes=5)
# RFC 5321 section 4.5.3.2.6 grants a server ten minutes to answer the final dot.
REPLY_WAIT = timedelta(minutes=11)
# The database's clock, and so much later
NOW = {"postgresql": "statement_timestamp(){0}", "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW'{1})"}


AT_LEAST_ONE = [MinValueValidator(1)]


class Relay(models.Model):
    """A way out. The first stands for MAIL_URL; more, or one publication's own, keep their address encrypted."""

    publication = models.ForeignKey(Publication, models.CASCADE, null=True, blank=True, related_name="relays")
    name = models.CharField(_("name"), max_length=80)
    rank = models.PositiveSmallIntegerField(_("order"), default=0)
    sealed_url = models.BinaryField(editable=False, default=b"")

    per_second = models.PositiveIntegerField(_("messages a second"), null=True, blank=True, validators=AT_LEAST_ONE)
    per_hour = models.PositiveIntegerField(_("messages an hour"), null=True, blank=True, validators=AT_LEAST_ONE)
    per_day = models.PositiveIntegerField(_("messages a day"), null=True, blank=True, validators=AT_LEAST_ONE)
    warm_up_from = models.DateField(
        _("warm-up from"),
        null=True,
        blank=True,
        help_text=_("A new server earns its name slowly: the day’s limit grows from this date on."),
    )
    warm_up_volume = models.PositiveIntegerField(_("messages on its first day"), default=200, validators=AT_LEAST_ONE)
    warm_up_days = models.PositiveSmallIntegerField(_("days of warm-up"), default=42, validators=AT_LEAST_ONE)
    letters_share = models.PositiveSmallIntegerField(
        _("per cent kept for letters"),
        default=10,
        validators=[MaxValueValidator(50)],
        help_text=_("Of each limit, for confirmations and welcomes; at least 50 a day."),
    )
    domain_caps = models.JSONField(
        _("limits by recipient’s domain"),
        default=dict,
        blank=True,
        validators=[known_caps],
        help_text=_('Messages a second, minute, hour or day, such as {"gmail.com": "20/s", "orange.fr": "500/h"}.'),
    )
    # What all workers know of the server's mood: newsletters.allowances writes it.
    resting_until = models.DateTimeField(_("rests until"), null=True, editable=False)
    failures = models.PositiveSmallIntegerField(default=0, editable=False)
    slowed_at = models.DateTimeField(_("slowed down"), null=True, editable=False)
    slowed_from = models.FloatField(default=0, editable=False)  # messages a second
    slowed_to = models.FloatField(default=0, editable=False)

    class Meta:
        verbose_name = _("relay")
        verbose_name_plural = _("relays")
        ordering = ["rank", "pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def url(self) -> str:
        """The address with its password, such as smtp://user:pass@host:587; empty stands for MAIL_URL."""
        return _box().decrypt(bytes(self.sealed_url)).decode() if self.sealed_url else settings.MAIL_URL

    @url.setter
    def url(self, value: str) -> None:
        self.sealed_url = _box().encrypt(value.encode()) if value else b""

    @classmethod
    def of(cls, publication_id: int) -> "Relay":
        """Return the publication's first relay, else the instance's, made from MAIL_URL at its first use."""
        relays = cls.objects.filter(Q(publication_id=publication_id) | Q(publication=None))
        first = relays.order_by(F("publication_id").asc(nulls_last=True), "rank", "pk").first()
        return first or cls.objects.create(name="MAIL_URL")


def _box() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(settings.KEYS.derived("relay")))


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
        """Return what was handed off by a worker that never settled it."""
        return self.filter(state__in=HELD, state=State.HANDOFF, leased_until__lt=Now())

    def sweep(self, now: datetime) -> dict[str, int]:
        """Take back what dead workers held, and close what came too late; return how many rows of each."""
        expired = self.filter(state__in=HELD, leased_until__lt=Now())
        over = self.filter(state__in=WAITING, late_until__lte=now)
        # What the reader's own server put off until it was too late is no outage of ours.
        reason = Case(When(reason="deferred", then=Value("deferred")), default=Value("late"))
        return {
            "released": expired.filter(state=State.LEASED).update(state=State.PLANNED, owner=None, leased_until=None),
            "uncertain": self.abandoned().update(state=State.UNCERTAIN, leased_until=None),
            "missed": over.update(state=State.MISSED, reason=reason, settled_at=now),
        }


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


class DeliveryQuerySet(OutgoingQuerySet):
    KEY = {"local_date": "date", "subscriber_id": "bigint", "slot": "bigint"}
    # As a value, so that the planner cannot make a join of it: with old statistics it read every reader there is.
    WANTED = """(SELECT r.status FROM newsletters_subscriber r WHERE r.id = d.subscriber_id) = 'active'
        AND (SELECT h.id FROM newsletters_halt h WHERE h.issue_id = d.issue_id AND h.ended_at IS NULL) IS NULL
        AND (SELECT s.id FROM newsletters_stop s
             WHERE s.publication_id = d.publication_id AND s.ended_at IS NULL) IS NULL"""
    REVISION = "revision_id = p.revision,"

    def due(self, now: datetime) -> OutgoingQuerySet:
        waiting = super().due(now)
        halted = list(Halt.objects.standing().values_list("issue", flat=True))
        stopped = list(Stop.objects.standing().values_list("publication", flat=True))
        waiting = waiting.exclude(issue__in=halted) if halted else waiting
        return waiting.exclude(publication__in=stopped) if stopped else waiting

    def lease(self, size: int, now: datetime, owner: uuid.UUID) -> list[Any]:
        return self._lease(size, now, owner) if connection.vendor == "postgresql" else super().lease(size, now, owner)

    def _lease(self, size: int, now: datetime, owner: uuid.UUID) -> list[Any]:
        """Claim and read in one statement."""
        with transaction.atomic(), connection.cursor() as cursor:
            due = self.due(now).order_by("try_at").select_for_update(skip_locked=True).values(*self.KEY)[:size]
            sql, parameters = due.query.sql_with_params()
            # A lease that a power cut takes back is given again; only the hand-off must be on the disk.
            cursor.execute("SET LOCAL synchronous_commit TO off")
            cursor.execute(
                f"""
                WITH due AS MATERIALIZED ({sql}), mine AS (
                    UPDATE newsletters_delivery d SET state = 'leased', owner = %s,
                        leased_until = statement_timestamp() + %s::interval
                    FROM due WHERE ({self._key("d.")}) = ({self._key("due.")})
                    RETURNING {self._key("d.")}, d.publication_id, d.way, d.issue_id, d.entry_id, d.attempts)
                SELECT {self._key("mine.")}, mine.publication_id, way, mine.issue_id, e.series_id, e.rank, attempts,
                    r.address, r.first_name, r.zone, coalesce(r.member_since, r.created_at)
                FROM mine JOIN newsletters_subscriber r ON r.id = mine.subscriber_id
                LEFT JOIN newsletters_entry e ON e.id = mine.entry_id""",
                [*parameters, owner, str(LEASE)],
            )
            return [Claim(*row) for row in cursor.fetchall()]

    def claimed(self) -> list[Any]:
        began = Coalesce("subscriber__member_since", "subscriber__created_at")
        what = ("publication_id", "way", "issue_id", "entry__series_id", "entry__rank", "attempts")
        reader = ("subscriber__address", "subscriber__first_name", "subscriber__zone", began)
        return [Claim(*row) for row in self.order_by("try_at").values_list(*self.KEY, *what, *reader)]

    def drop(self, keys: Sequence[Any], owner: uuid.UUID, now: datetime) -> None:
        for key in keys:
            mine = self.filter(pk=key, owner=owner, state=State.LEASED)
            # Planned while the reader was leaving: the row itself never heard of it.
            unwanted = mine.exclude(self._reader())
            unwanted.update(state=State.SKIPPED, reason="left", settled_at=now, leased_until=None)
            mine.filter(Q(self._halt()) | Q(self._stop())).update(state=State.PLANNED, owner=None, leased_until=None)

    def sweep(self, now: datetime) -> dict[str, int]:
        waited = self.filter(state__in=WAITING, late_until__lte=now, issue__in=Halt.objects.standing().values("issue"))
        stopped = waited.update(state=State.MISSED, reason="stopped", settled_at=now)
        return {"stopped": stopped} | super().sweep(now)

    def fence(self) -> None:
        """Take these rows out of the hands of the workers that prepare them; what they staged will not go."""
        held = self.select_related(None).filter(state=State.LEASED)
        with transaction.atomic():
            # Not waiting for a hand-off in progress: that one had passed before.
            keys = list(held.select_for_update(skip_locked=True).values_list("pk", flat=True))
            held.filter(pk__in=keys).update(state=State.PLANNED, owner=None, leased_until=None)

    def _reader(self) -> Exists:
        return Exists(Subscriber.objects.mailable().filter(pk=OuterRef("subscriber_id")))

    def _halt(self) -> Exists:
        return Exists(Halt.objects.standing().filter(issue=OuterRef("issue_id")))

    def _stop(self) -> Exists:
        return Exists(Stop.objects.standing().filter(publication=OuterRef("publication_id")))

    def skip(self, subscriber: Subscriber, reason: str, now: datetime) -> int:
        """End what is planned for a reader. Rows are open on a date or two around today's only."""
        dates = [now.date() + timedelta(days=days) for days in (-2, -1, 0, 1, 2)]
        return self.filter(subscriber=subscriber, local_date__in=dates, state__in=OPEN).update(
            state=State.SKIPPED, reason=reason, settled_at=now, leased_until=None
        )


class Delivery(Outgoing):
    """One issue to one subscriber on one local date. The key makes a second daily email impossible.

    The date comes first in the key, so that a day's rows lie together however long the history grows. No foreign key
    is enforced by the database: erasing a reader keeps the bare number.
    """

    class Way(models.TextChoices):
        SEQUENCE = "sequence", _("sequence")
        DAILY = "daily", _("daily queue")
        RESERVE = "reserve", _("reserve")
        DIGEST = "digest", _("digest")
        ANNOUNCEMENT = "announcement", _("announcement")
        NONE = "none", _("nothing to send")

    pk = models.CompositePrimaryKey("local_date", "subscriber_id", "slot")
    local_date = models.DateField(_("date"))
    subscriber = models.ForeignKey(Subscriber, models.DO_NOTHING, db_constraint=False, db_index=False)
    slot = models.BigIntegerField(default=0)  # 0: the daily email; otherwise the announcement's own number
    publication = models.ForeignKey(Publication, models.DO_NOTHING, db_constraint=False, db_index=False)
    way = models.CharField(_("way"), max_length=12, choices=Way.choices)
    issue = models.ForeignKey(Issue, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    entry = models.ForeignKey(Entry, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    revision = models.ForeignKey(Revision, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [
            # Has this reader had this issue?
            models.Index(fields=["issue", "subscriber"], name="delivery_had"),
            # The lease takes what waits, the longest due first.
            models.Index(fields=["try_at"], condition=Q(state__in=["planned", "retry"]), name="delivery_waiting"),
            # The sweep takes back what a dead worker held.
            models.Index(fields=["leased_until"], condition=Q(state__in=["leased", "handoff"]), name="delivery_held"),
            # What may have been taken waits to be settled.
            models.Index(fields=["handoff_at"], condition=Q(state="uncertain"), name="delivery_uncertain"),
        ]

    def __str__(self) -> str:
        return f"{self.local_date} {self.subscriber_id} {self.state}"


class LetterQuerySet(OutgoingQuerySet):
    def skip_welcomes(self, now: datetime) -> int:
        """End the letters that only a reader is sent; whoever leaves still gets the link they asked for."""
        welcomes = self.filter(kind__in=[Letter.Kind.WELCOME, Letter.Kind.ALREADY], state__in=OPEN)
        return welcomes.update(state=State.SKIPPED, reason="left", settled_at=now, leased_until=None)


class Letter(Outgoing):
    """One transactional email, written in the transaction of its cause, in a lane before every daily email.

    `address_key` is folded (no +tag, no dots at Gmail), so that the limits on letters hold for one mailbox.
    """

    class Kind(models.TextChoices):
        CONFIRM = "confirm", _("please confirm")
        REMIND = "remind", _("please confirm, once more")
        WELCOME = "welcome", _("welcome")
        ALREADY = "already", _("already in")
        ACCESS = "access", _("link to one's data")
        MOVE = "move", _("confirm a new address")
        SAMPLE = "sample", _("tomorrow's email")
        OFFER = "offer", _("offer to leave")
        ANSWER = "answer", _("a reader's answer")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="letters")
    subscriber = models.ForeignKey(Subscriber, models.SET_NULL, null=True, blank=True, related_name="letters")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    cause = models.CharField(_("cause"), max_length=40)
    address = models.EmailField(_("address"), max_length=320)
    address_key = models.CharField(max_length=320)
    language = models.CharField(_("language"), max_length=5)
    context = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LetterQuerySet.as_manager()

    class Meta:
        verbose_name = _("letter")
        verbose_name_plural = _("letters")
        constraints = [models.UniqueConstraint(fields=["address_key", "kind", "cause"], name="letter_once")]
        indexes = [
            models.Index(fields=["try_at"], condition=Q(state__in=["planned", "retry"]), name="letter_waiting"),
            models.Index(fields=["leased_until"], condition=Q(state__in=["leased", "handoff"]), name="letter_held"),
            # How many letters has this mailbox had of late?
            models.Index(fields=["address_key", "created_at"], name="letter_by_mailbox"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.address}"


class Heartbeat(models.Model):
    """When a worker last did a round of its own accord; health turns red when this grows old."""

    name = models.CharField(max_length=20, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.at:%Y-%m-%d %H:%M:%S}"
