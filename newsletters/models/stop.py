from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.publication import Publication


class StopQuerySet(models.QuerySet["Stop"]):
    def standing(self) -> "StopQuerySet":
        return self.filter(ended_at=None)

    def last_end(self, publication: Publication) -> datetime | None:
        """Return when the author last let a publication go on: what came back before counts no more."""
        ends = self.filter(publication=publication).exclude(ended_at=None).order_by("-ended_at")
        return ends.values_list("ended_at", flat=True).first()


class Stop(models.Model):
    """A publication whose emails wait, because of what came back; its letters go on. Its author ends it."""

    class Cause(models.TextChoices):
        COMPLAINTS = "complaints", _("too many complaints")
        BOUNCES = "bounces", _("too many dead addresses")
        REFUSALS = "refusals", _("refused by the mail server")
        AUTH = "auth", _("sender is not authenticated")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="stops")
    cause = models.CharField(_("cause"), max_length=10, choices=Cause.choices)
    at = models.DateTimeField(_("stopped"))
    ended_at = models.DateTimeField(_("went on"), null=True, blank=True)

    objects = StopQuerySet.as_manager()

    class Meta:
        verbose_name = _("stop")
        verbose_name_plural = _("stops")
        # Each lease and each hand-off asks what stands.
        constraints = [
            models.UniqueConstraint(
                fields=["publication"], condition=models.Q(ended_at=None), name="stop_once_a_publication"
            )
        ]

    def __str__(self) -> str:
        return f"{self.publication} {self.cause} {self.at:%Y-%m-%d %H:%M}"
