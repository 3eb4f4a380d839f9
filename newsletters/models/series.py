from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from newsletters.models.issue import Issue
from newsletters.models.publication import Publication, one_line
from newsletters.models.subscriber import Subscriber

RANK_GAP = 1024


class Series(models.Model):
    """An ordered list of issues: a sequence each reader walks, the publication's daily queue, or its reserve."""

    class Kind(models.TextChoices):
        SEQUENCE = "sequence", _("sequence")
        DAILY = "daily", _("daily queue")
        RESERVE = "reserve", _("reserve")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="series")
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.SEQUENCE)
    name = models.CharField(_("name"), max_length=120, validators=[one_line])
    slug = models.SlugField(_("short name"))
    welcome = models.BooleanField(_("new readers start here"), default=False)

    class Meta:
        verbose_name = _("series")
        verbose_name_plural = _("series")
        constraints = [
            models.UniqueConstraint(fields=["publication", "slug"], name="series_slug_once"),
            models.UniqueConstraint(
                fields=["publication"], condition=models.Q(kind="daily"), name="one_daily_queue_per_publication"
            ),
            models.UniqueConstraint(
                fields=["publication"], condition=models.Q(kind="reserve"), name="one_reserve_per_publication"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        issues = Issue.objects.filter(entries__series=self) if self.pk else Issue.objects.none()
        if self.welcome and self.kind != self.Kind.SEQUENCE:
            raise ValidationError({"welcome": _("New readers start with a sequence. This series is of another kind.")})
        if self.welcome and not issues.filter(state=Issue.State.QUEUED).exists():
            text = _("This sequence has no queued issue yet. Queue one in it first, then let new readers start here.")
            raise ValidationError({"welcome": text})
        if self.kind == self.Kind.RESERVE and (draft := issues.exclude(state=Issue.State.QUEUED).first()):
            text = _("The reserve holds finished issues only. Queue “%(issue)s” first, or take it out.")
            raise ValidationError({"kind": ValidationError(text, params={"issue": draft})})

    @contextmanager
    def editing(self) -> Iterator[None]:
        """Let one editor at a time change the order: two at once would each work from what the other has changed."""
        with transaction.atomic():
            Series.objects.select_for_update().get(pk=self.pk)
            yield

    def append(self, issue: Issue) -> "Entry":
        """Put an issue at the end; an issue that is there already keeps its place."""
        with self.editing():
            return Entry.objects.get_or_create(series=self, issue=issue, defaults={"rank": self._rank_before(None)})[0]

    def insert(self, issue: Issue, before: "Entry | None" = None) -> "Entry":
        """Put an issue before an entry, or at the end; one that is there already moves."""
        with self.editing():
            entry = Entry.objects.filter(series=self, issue=issue).first()
            if entry is None:
                return Entry.objects.create(series=self, issue=issue, rank=self._rank_before(before))
            return self.move(entry, before)

    def move(self, entry: "Entry", before: "Entry | None" = None) -> "Entry":
        """Move an entry before another, or to the end. All others keep their order.

        Where the other was taken out meanwhile, the entry stays where it is; where the entry itself was, it raises
        Entry.DoesNotExist.
        """
        with self.editing():
            entry = self.entries.get(pk=entry.pk)
            if before is None or self.entries.filter(pk=before.pk).exclude(pk=entry.pk).exists():
                entry.rank = self._rank_before(before, entry)
                entry.save(update_fields=["rank", "placed_at"])
            return entry

    def move_after(self, entry: "Entry", other: "Entry") -> "Entry":
        with self.editing():
            return self.move(entry, self._after(other, entry))

    def remove(self, entry: "Entry") -> None:
        """Take an entry out. Its issue stays, and so does the order of the others."""
        with self.editing():
            self.entries.filter(pk=entry.pk).delete()

    def tidy(self) -> None:
        """Give each entry a rank of its own from 1 on, in the order that stands: ranks may have been typed.

        A walk goes on above the rank it has reached, so it would pass over the second of two with the same.
        """
        with self.editing():
            taken, moved = 0, []
            for entry in self.entries.order_by("rank", "pk"):
                taken = max(entry.rank, taken + 1)
                if entry.rank != taken:
                    entry.rank = taken
                    moved.append(entry)
            Entry.objects.bulk_update(moved, ["rank"])

    def _after(self, other: "Entry", moved: "Entry | None" = None) -> "Entry | None":
        """Return the entry that stands behind another, as if `moved` were not there."""
        other = self.entries.filter(pk=other.pk).first() or other
        return self.entries.filter(_behind(other)).exclude(pk=moved.pk if moved else 0).order_by("rank", "pk").first()

    def _rank_before(self, before: "Entry | None", moved: "Entry | None" = None) -> int:
        """Return a free rank before an entry, or behind all; one that was taken out meanwhile means the end."""
        others = self.entries.exclude(pk=moved.pk if moved else 0).order_by("rank", "pk")
        at = others.filter(pk=before.pk).first() if before else None
        if at is None:
            last = others.last()
            return (last.rank if last else 0) + RANK_GAP
        previous = others.exclude(pk=at.pk).exclude(_behind(at)).last()
        floor = previous.rank if previous else 0
        if at.rank - floor < 2:
            self._make_room(at)
            return floor + RANK_GAP // 2
        return (floor + at.rank) // 2

    def _make_room(self, at: "Entry") -> None:
        """Shift an entry and all behind it. Ranks only grow: a worker that still knows an old one makes nobody skip."""
        self.entries.filter(Q(pk=at.pk) | _behind(at)).update(rank=F("rank") + RANK_GAP)
        self.walks.filter(reached__gte=at.rank).update(reached=F("reached") + RANK_GAP)


class Entry(models.Model):
    """An issue's place in a series. Ranks have gaps, so that one issue can move without touching the others."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="entries")
    issue = models.ForeignKey(Issue, models.CASCADE, related_name="entries")
    rank = models.BigIntegerField(_("place"))
    pinned_date = models.DateField(_("pinned to"), null=True, blank=True)
    added_at = models.DateTimeField(auto_now_add=True)
    placed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        ordering = ["rank", "pk"]
        constraints = [models.UniqueConstraint(fields=["series", "issue"], name="entry_once")]
        # The planner reads a series in order for every reader.
        indexes = [models.Index(fields=["series", "rank", "id"], name="entry_in_order")]

    def __str__(self) -> str:
        return f"{self.series}: {self.issue}"

    def clean(self) -> None:
        super().clean()
        known = Entry.objects.filter(pk=self.pk, pinned_date=self.pinned_date).exists() if self.pk else False
        if self.pinned_date and not known:
            self._check_pin()
        # In a form a new series has no number yet when its entries are checked.
        if self.issue_id and hasattr(self, "series"):
            self._check_issue()

    def _of(self, kind: str) -> bool:
        return hasattr(self, "series") and self.series.kind == kind

    def _check_issue(self) -> None:
        series, issue = self.series, self.issue
        if issue.publication_id != series.publication_id:
            raise ValidationError({"issue": _("This issue belongs to another publication. Choose one of this one.")})
        if issue.kind != Issue.Kind.DAILY:
            raise ValidationError({"issue": _("Only daily issues stand in a series. Choose one of that kind.")})
        if series.kind == Series.Kind.RESERVE and issue.state != Issue.State.QUEUED:
            text = _("The reserve holds finished issues only. Queue “%(issue)s” first, or take it out.")
            raise ValidationError({"issue": ValidationError(text, params={"issue": issue})})

    def _check_pin(self) -> None:
        assert self.pinned_date is not None
        if not self._of(Series.Kind.DAILY):
            raise ValidationError({"pinned_date": _("Only issues of the daily queue are pinned to a date.")})
        publication = self.series.publication
        first, _at = publication.next_promise(timezone.now(), publication.zone)
        if self.pinned_date < first:
            raise ValidationError({"pinned_date": _("That day’s issue is fixed already. Choose a later date.")})
        if str(self.pinned_date.isoweekday()) not in publication.promise_on(self.pinned_date).weekdays:
            raise ValidationError({"pinned_date": _("Nothing is promised on that weekday. Choose a promised day.")})
        if publication.breaks.filter(first__lte=self.pinned_date, last__gte=self.pinned_date).exists():
            raise ValidationError({"pinned_date": _("The queue rests on that day. Choose one outside the break.")})
        others = Entry.objects.filter(series=self.series.pk, pinned_date=self.pinned_date).exclude(pk=self.pk)
        if others.exists():
            raise ValidationError({"pinned_date": _("Another issue is pinned to that day. Choose another day.")})


def _behind(entry: Entry) -> Q:
    return Q(rank__gt=entry.rank) | Q(rank=entry.rank, pk__gt=entry.pk)


class Walk(models.Model):
    """One reader in one sequence. `reached` is the rank of the last entry had."""

    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="walks")
    series = models.ForeignKey(Series, models.CASCADE, related_name="walks")
    position = models.PositiveSmallIntegerField(_("order"), default=0)
    started_at = models.DateTimeField(_("started"))
    reached = models.BigIntegerField(_("reached"), default=0)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    class Meta:
        verbose_name = _("walk")
        verbose_name_plural = _("walks")
        constraints = [
            # A reader walks a sequence once at a time; a new membership may walk it again.
            models.UniqueConstraint(
                fields=["subscriber", "series"], condition=models.Q(ended_at=None), name="walk_once_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subscriber}: {self.series}"
