from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters import personal
from newsletters.models.article import Article
from newsletters.models.publication import Publication, one_line


class Text(models.Model):
    """A piece of writing as a reader knows it: an article, one part of it, or an issue of its own."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="texts")
    article = models.ForeignKey(Article, models.SET_NULL, null=True, blank=True, related_name="texts")
    part = models.PositiveSmallIntegerField(default=1)
    parts = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["article", "part", "parts"], name="text_once")]

    def __str__(self) -> str:
        return f"{self.article or self.pk} {self.part}/{self.parts}"


class Issue(models.Model):
    """One email. Only a queued issue goes out."""

    class Kind(models.TextChoices):
        DAILY = "daily", _("daily")
        DIGEST = "digest", _("digest")
        ANNOUNCEMENT = "announcement", _("announcement")

    class State(models.TextChoices):
        DRAFT = "draft", _("draft")
        READY = "ready", _("ready")
        QUEUED = "queued", _("queued")
        SENT = "sent", _("sent")

    class Cut(models.TextChoices):
        """How an article became this issue; an issue without article has none."""

        WHOLE = "whole", _("whole")
        EXCERPT = "excerpt", _("excerpt")
        PARTS = "parts", _("parts")

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="issues")
    kind = models.CharField(_("kind"), max_length=12, choices=Kind.choices, default=Kind.DAILY)
    state = models.CharField(_("state"), max_length=6, choices=State.choices, default=State.DRAFT)
    subject = models.CharField(_("subject"), max_length=300, validators=[one_line])
    preheader = models.CharField(_("preheader"), max_length=300, blank=True, validators=[one_line])
    body = models.TextField(_("text"), help_text=_("Markdown. {{ first_name|there }} becomes the reader's first name."))
    article = models.ForeignKey(Article, models.SET_NULL, null=True, blank=True, related_name="issues")
    cut = models.CharField(_("cut"), max_length=8, choices=Cut.choices, blank=True, editable=False)
    # The article as this issue took it, or as its author chose not to: its changed_at or vanished_at then
    article_at = models.DateTimeField(null=True, editable=False)
    texts = models.ManyToManyField(Text, through="IssueText", related_name="issues")
    canonical_url = models.CharField(_("canonical address"), max_length=1000, blank=True)
    digest_of = models.CharField(max_length=200, editable=False, blank=True)  # "12,15": the issues a digest gathers
    public_id = models.SlugField(_("name in the archive"), editable=False, max_length=16)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("issue")
        verbose_name_plural = _("issues")
        constraints = [
            models.UniqueConstraint(fields=["publication", "public_id"], name="issue_public_id_once"),
            models.UniqueConstraint(
                fields=["publication", "digest_of"], condition=models.Q(kind="digest"), name="digest_once"
            ),
        ]

    def __str__(self) -> str:
        return self.subject

    def clean(self) -> None:
        super().clean()
        if self.pk and self.state != self.State.QUEUED and self.entries.filter(series__kind="reserve").exists():
            raise ValidationError({"state": _("This issue stands in the reserve. Take it out there first.")})
        if self.pk and self.kind != self.Kind.DAILY and self.entries.exists():
            raise ValidationError({"kind": _("This issue stands in a series. Take it out there first.")})
        personal.refuse_unknown(self, "subject", "preheader", "body")


class IssueText(models.Model):
    """Which texts an issue holds: what “never the same text twice” is decided by."""

    issue = models.ForeignKey(Issue, models.CASCADE, related_name="issue_texts")
    text = models.ForeignKey(Text, models.CASCADE, related_name="issue_texts")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issue", "text"], name="issue_text_once")]

    def __str__(self) -> str:
        return f"{self.issue}: {self.text}"


class Revision(models.Model):
    """A frozen rendering of an issue; deliveries point to the one they were made from.

    `html` and `text` are whole parts with slot markers, inlined and checked; `slots` maps each marker to its name
    and fallback. No reader's body is stored.
    """

    issue = models.ForeignKey(Issue, models.CASCADE, related_name="revisions")
    fingerprint = models.CharField(max_length=64)
    subject = models.CharField(max_length=300)
    html = models.TextField()
    text = models.TextField()
    slots = models.JSONField()
    warnings = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issue", "fingerprint"], name="revision_once")]

    def __str__(self) -> str:
        return f"{self.subject} ({self.created_at:%Y-%m-%d %H:%M})"
