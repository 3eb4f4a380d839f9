from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from newsletters.models.publication import Publication


class Source(models.Model):
    """Where articles come from: a site, a feed, an export, a folder."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="sources")
    location = models.CharField(_("location"), max_length=1000)
    format = models.CharField(_("format"), max_length=12)
    title = models.CharField(_("title"), max_length=300, blank=True)
    imported_at = models.DateTimeField(_("last import"), null=True)

    class Meta:
        verbose_name = _("source")
        verbose_name_plural = _("sources")
        constraints = [models.UniqueConstraint(fields=["publication", "location"], name="source_once")]

    def __str__(self) -> str:
        return self.title or self.location


class Article(models.Model):
    """One text of a blog. `body` is Markdown without scripts, styles or raw HTML."""

    publication = models.ForeignKey(Publication, models.CASCADE, related_name="articles")
    source = models.ForeignKey(Source, models.SET_NULL, null=True, related_name="articles")
    title = models.CharField(_("title"), max_length=300)
    url = models.CharField(_("canonical address"), max_length=1000, blank=True)
    language = models.CharField(_("language"), max_length=35, blank=True)
    author = models.CharField(_("author"), max_length=200, blank=True)
    published_at = models.DateTimeField(_("published"), null=True, blank=True)
    body = models.TextField(_("text"))
    content_hash = models.CharField(max_length=64, editable=False)
    categories = models.JSONField(_("categories"), default=list, blank=True)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(_("changed"), auto_now_add=True)
    vanished_at = models.DateTimeField(_("gone from its source"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("article")
        verbose_name_plural = _("articles")
        constraints = [
            models.UniqueConstraint(
                fields=["publication", "url"], condition=~models.Q(url=""), name="article_url_once"
            ),
            models.UniqueConstraint(
                fields=["publication", "content_hash"], condition=models.Q(url=""), name="article_text_once"
            ),
        ]
        # The importer looks for the same text under another address.
        indexes = [models.Index(fields=["publication", "content_hash"], name="article_by_text")]

    def __str__(self) -> str:
        return self.title

    @property
    def version(self) -> datetime:
        """When this article last changed, or vanished from its source."""
        return max(self.changed_at, self.vanished_at or self.changed_at)
