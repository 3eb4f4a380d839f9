from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.issue import Issue
from newsletters.models.publication import Publication, one_line
from newsletters.models.subscriber import Subscriber

RANK_GAP = 1024


class Series(models.Model):
    """An ordered list of issues: a sequence each reader walks at their own pace, or the publication's daily queue."""

    class Kind(models.TextChoices):
        SEQUENCE = "sequence", _("sequence")
        DAILY = "daily", _("daily queue")

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
        ]

    def __str__(self) -> str:
        return self.name

    def append(self, issue: Issue) -> "Entry":
        """Put an issue at the end; an issue that is there already keeps its place."""
        last = self.entries.aggregate(last=models.Max("rank"))["last"] or 0
        return Entry.objects.get_or_create(series=self, issue=issue, defaults={"rank": last + RANK_GAP})[0]


class Entry(models.Model):
    """An issue's place in a series. Ranks have gaps, so that one issue can move without touching the others."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="entries")
    issue = models.ForeignKey(Issue, models.CASCADE, related_name="entries")
    rank = models.BigIntegerField(_("place"))
    pinned_date = models.DateField(_("pinned to"), null=True, blank=True)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        ordering = ["rank", "pk"]
        constraints = [models.UniqueConstraint(fields=["series", "issue"], name="entry_once")]
        # The planner reads a series in order for every reader.
        indexes = [models.Index(fields=["series", "rank"], name="entry_in_order")]

    def __str__(self) -> str:
        return f"{self.series}: {self.issue}"


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
