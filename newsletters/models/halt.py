from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.issue import Issue


class HaltQuerySet(models.QuerySet["Halt"]):
    def standing(self) -> "HaltQuerySet":
        return self.filter(ended_at=None)


class Halt(models.Model):
    """One issue's sending, stopped by the author: while it stands, no worker takes or hands off any of its emails."""

    class Decision(models.TextChoices):
        GO_ON = "go_on", _("went on")
        INSTEAD = "instead", _("another issue instead")
        LEAVE = "leave", _("left")

    issue = models.ForeignKey(Issue, models.CASCADE, related_name="halts", verbose_name=_("issue"))
    at = models.DateTimeField(_("stopped"))
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("by")
    )
    ended_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decision = models.CharField(_("decision"), max_length=7, choices=Decision.choices, blank=True)
    instead = models.ForeignKey(
        Issue, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("instead")
    )

    objects = HaltQuerySet.as_manager()

    class Meta:
        verbose_name = _("stopped sending")
        verbose_name_plural = _("stopped sendings")
        # Each lease and each hand-off asks what stands.
        constraints = [
            models.UniqueConstraint(fields=["issue"], condition=models.Q(ended_at=None), name="halt_once_an_issue")
        ]

    def __str__(self) -> str:
        return f"{self.issue} {self.at:%Y-%m-%d %H:%M}"
