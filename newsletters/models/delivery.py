import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Exists, OuterRef, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from newsletters.claims import Claim
from newsletters.models.halt import Halt
from newsletters.models.issue import Issue, Revision
from newsletters.models.outgoing import LEASE, OPEN, Outgoing, OutgoingQuerySet, State
from newsletters.models.publication import Publication
from newsletters.models.series import Entry
from newsletters.models.stop import Stop
from newsletters.models.subscriber import Subscriber


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

    def _late(self) -> list[When]:
        return [When(self._halt(), then=Value("stopped")), *super()._late()]

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
