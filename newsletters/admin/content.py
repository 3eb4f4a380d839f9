import secrets
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from newsletters import composing, rendering
from newsletters.admin.base import LedgerAdmin, RoomAdmin
from newsletters.models import Article, Delivery, Issue, IssueText, Revision, Series, Source, Text
from newsletters.views.frame import SANDBOX, framed


@admin.register(Issue)
class IssueAdmin(RoomAdmin):
    list_display = ["subject", "publication", "kind", "state", "updated_at", "preview_link"]
    list_select_related = ["publication"]
    list_filter = ["state", "kind", "publication"]
    search_fields = ["subject"]
    autocomplete_fields = ["article"]
    ordering = ["-pk"]
    fields = [
        *("publication", "kind", "state", "subject", "preheader", "body"),
        *("article", "canonical_url", "preview_link"),
    ]
    readonly_fields = ["preview_link"]
    actions = ["queue"]

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<int:pk>/preview/", self.admin_site.admin_view(self.preview), name="newsletters_issue_preview"),
            path("<int:pk>/preview/html/", self.admin_site.admin_view(self.preview_html), name="issue_preview_html"),
        ]
        return own + super().get_urls()

    @admin.display(description=_("preview"))
    def preview_link(self, issue: Issue) -> str:
        if not issue.pk:
            return "-"
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:newsletters_issue_preview", args=[issue.pk]), _("Open")
        )

    def save_model(self, request: HttpRequest, obj: Issue, form: Any, change: bool) -> None:
        obj.public_id = obj.public_id or secrets.token_hex(6)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        own_text(form.instance, tells_another="article" in form.changed_data)

    @admin.action(description=_("Queue: may go out"))
    def queue(self, request: HttpRequest, issues: QuerySet[Issue]) -> None:
        """Queue issues that are fit to go out; one that stands in no series goes to the end of the daily queue."""
        done = 0
        for issue in issues.select_related("publication").order_by("pk"):
            issue.state = Issue.State.QUEUED
            try:
                issue.full_clean()
            except ValidationError as error:
                self.message_user(request, f"{issue}: {' '.join(error.messages)}", messages.ERROR)
                continue
            issue.save(update_fields=["state", "updated_at"])
            if not issue.entries.exists():
                daily_queue(issue).append(issue)
            done += 1
        text = ngettext("%(number)d issue is queued.", "%(number)d issues are queued.", done)
        self.message_user(request, text % {"number": done})

    def preview(self, request: HttpRequest, pk: int) -> HttpResponse:
        issue = get_object_or_404(Issue.objects.select_related("publication"), pk=pk)
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "issue": issue,
            "title": issue.subject,
            "sandbox": SANDBOX,
        }
        _html, context["text"], context["warnings"] = rendering.preview(issue)
        return render(request, "admin/newsletters/issue/preview.html", context)

    def preview_html(self, request: HttpRequest, pk: int) -> HttpResponse:
        issue = get_object_or_404(Issue.objects.select_related("publication"), pk=pk)
        return framed(rendering.preview(issue)[0])


def own_text(issue: Issue, *, tells_another: bool = False) -> None:
    """Give an issue made by hand its texts: all of its article's, or one of its own.

    One that tells another article from now on keeps those it had: some have read them.
    """
    if issue.issue_texts.exists() and not (tells_another and issue.article):
        return
    own = {"publication": issue.publication}
    if issue.article:
        Text.objects.get_or_create(article=issue.article, part=1, parts=1, defaults=own)
    texts = list(issue.article.texts.all()) if issue.article else [Text.objects.create(**own)]
    IssueText.objects.bulk_create([IssueText(issue=issue, text=text) for text in texts], ignore_conflicts=True)


def daily_queue(issue: Issue) -> Series:
    queue, _made = Series.objects.get_or_create(
        publication=issue.publication,
        kind=Series.Kind.DAILY,
        defaults={"name": str(Series.Kind.DAILY.label), "slug": "daily"},
    )
    return queue


class ComposeForm(ActionForm):
    """How the chosen articles become issues, and where those go."""

    way = forms.ChoiceField(
        label=_("as"),
        required=False,
        choices=[("whole", _("whole")), ("parts", _("parts, one a day")), ("excerpt", _("excerpts with a link"))],
    )
    series = forms.ModelChoiceField(
        label=_("at the end of"),
        required=False,
        queryset=Series.objects.select_related("publication"),
    )


@admin.register(Article)
class ArticleAdmin(RoomAdmin):
    list_display = ["title", "publication", "language", "published_at", "changed_at"]
    list_select_related = ["publication"]
    list_filter = ["publication", "source", "language"]
    search_fields = ["title", "url"]
    ordering = ["-published_at", "-pk"]
    readonly_fields = ["publication", "source", "url", "content_hash", "created_at", "changed_at"]
    action_form = ComposeForm
    actions = ["compose"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Article | None = None) -> bool:
        # Imported once more it would be a new text, and come again to whoever has had it.
        had = obj is not None and Delivery.objects.filter(issue__in=obj.issues.all()).exists()
        return super().has_delete_permission(request, obj) and not had

    @admin.action(description=_("Compose issues"))
    def compose(self, request: HttpRequest, articles: QuerySet[Article]) -> None:
        """Make queued issues of articles, the oldest first, and put them at the end of a series."""
        form = ComposeForm(request.POST)
        form.fields["action"].choices = self.get_action_choices(request)  # type: ignore[attr-defined]
        series = form.cleaned_data["series"] if form.is_valid() else None
        if series is None:
            self.message_user(request, _("Choose the series at whose end the issues go."), messages.ERROR)
            return
        own = articles.filter(publication=series.publication)
        made = len(composing.compose_into(series, own, form.cleaned_data["way"] or Issue.Cut.WHOLE))
        text = ngettext("%(number)d issue made and queued.", "%(number)d issues made and queued.", made)
        self.message_user(request, text % {"number": made})


@admin.register(Source)
class SourceAdmin(RoomAdmin):
    list_display = ["location", "format", "title", "publication", "imported_at"]
    list_select_related = ["publication"]
    list_filter = ["publication"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Text)
class TextAdmin(LedgerAdmin):
    list_display = ["pk", "article", "part", "parts", "publication"]
    list_select_related = ["article", "publication"]
    list_filter = ["publication"]
    ordering = ["-pk"]


@admin.register(IssueText)
class IssueTextAdmin(LedgerAdmin):
    list_display = ["issue", "text"]
    list_select_related = ["issue", "text__article"]
    ordering = ["-pk"]


@admin.register(Revision)
class RevisionAdmin(LedgerAdmin):
    list_display = ["subject", "issue", "created_at"]
    list_select_related = ["issue"]
    ordering = ["-pk"]
    fields = ["issue", "subject", "text", "warnings", "created_at"]
