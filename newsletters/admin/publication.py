from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Max, QuerySet
from django.forms.models import BaseInlineFormSet, BaseModelFormSet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from newsletters import pace, planning
from newsletters import reserve as results
from newsletters.admin.base import LedgerAdmin, RoomAdmin
from newsletters.models import Clock, Entry, Heartbeat, Issue, Member, Publication, Relay, Series
from newsletters.transports import PasswordInClear, TransportURLError, check_url

PROMISE = {"hour", "weekdays", "zone"}
# Django takes at most a thousand fields in one form; a longer series is put in order in the list of entries.
LONGEST_INLINE = 100


@admin.register(Publication)
class PublicationAdmin(RoomAdmin):
    list_display = ["name", "slug", "language", "hour", "weekdays", "zone", "host"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}
    fieldsets = [
        (None, {"fields": ["name", "slug", "tagline", "language", "accent", "host"]}),
        (_("The promise"), {"fields": ["hour", "weekdays", "late_until", "zone", "show_streak", "alert_urls"]}),
        (_("Readers"), {"fields": ["returning"]}),
        (_("The sender"), {"fields": ["author", "sender", "reply_to", "postal_address", "when_uncertain"]}),
        (_("Words around each issue"), {"fields": ["greeting", "sign_off", "action", "postscript"]}),
        (_("Privacy"), {"fields": ["privacy"]}),
    ]

    def save_model(self, request: HttpRequest, obj: Publication, form: Any, change: bool) -> None:
        anew = change and bool(PROMISE & set(form.changed_data))
        if anew:
            # What an outage has left was promised as it stood until now.
            planning.strike(obj.clocks.all(), timezone.now())
        super().save_model(request, obj, form, change)
        if not change and request.user.is_authenticated:
            Member.objects.create(publication=obj, user=request.user)
        if anew:
            Clock.objects.reset(obj, timezone.now())
            pace.fit(obj.subscribers.all(), obj.weekdays)


@admin.register(Member)
class MemberAdmin(RoomAdmin):
    list_display = ["user", "publication", "role"]
    list_select_related = ["user", "publication"]
    list_filter = ["publication", "role"]


class EntryForm(forms.ModelForm):  # type: ignore[type-arg]
    """An entry without a place goes to the end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rank"].required = False

    def clean_rank(self) -> int:
        rank: int | None = self.cleaned_data["rank"]
        return self.instance.rank or 0 if rank is None else rank


def refuse_same_dates(forms: Iterable[Any]) -> None:
    """Raise ValidationError where two entries that are saved together are pinned to one date."""
    changed = [form for form in forms if "pinned_date" in form.changed_data and not form.cleaned_data.get("DELETE")]
    pins = Counter((form.instance.series_id, form.cleaned_data["pinned_date"]) for form in changed)
    if any(day and count > 1 for (_series, day), count in pins.items()):
        raise ValidationError(_("Two issues are pinned to the same day. Choose another day for one of them."))


class EntryListFormSet(BaseModelFormSet):  # type: ignore[type-arg]
    def clean(self) -> None:
        super().clean()
        if not any(self.errors):
            refuse_same_dates(self.forms)


class EntryFormSet(BaseInlineFormSet):  # type: ignore[type-arg]
    """The entries of a series, looked at together: a sequence that new readers start with is never left empty."""

    def clean(self) -> None:
        super().clean()
        if any(self.errors):
            return
        refuse_same_dates(self.forms)
        staying = [form.instance for form in self.forms if not form.cleaned_data.get("DELETE")]
        queued = any(entry.issue_id and entry.issue.state == Issue.State.QUEUED for entry in staying)
        if self.instance.pk and self.instance.welcome and not queued:
            raise ValidationError(_("New readers start here: leave a queued issue in this sequence."))


class EntryInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Entry
    form = EntryForm
    formset = EntryFormSet
    fields = ["issue", "rank", "pinned_date"]
    autocomplete_fields = ["issue"]
    ordering = ["rank", "pk"]
    extra = 1


@admin.register(Series)
class SeriesAdmin(RoomAdmin):
    list_display = ["name", "publication", "kind", "welcome"]
    list_select_related = ["publication"]
    list_filter = ["publication", "kind"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}
    actions = ["rank_by_results"]

    @admin.action(description=_("Rank the reserve by its past results"))
    def rank_by_results(self, request: HttpRequest, series: QuerySet[Series]) -> None:
        """Let what made the fewest readers leave come first. Every other kind of series has an order of its own."""
        for reserve in series.filter(kind=Series.Kind.RESERVE):
            results.rank_by_results(reserve)
            text = _("“%(series)s”: what made the fewest readers leave comes first now.")
            self.message_user(request, text % {"series": reserve})
        if others := series.exclude(kind=Series.Kind.RESERVE):
            text = _("“%(series)s” keeps its order: only the reserve is ranked by results.")
            self.message_user(request, text % {"series": ", ".join(map(str, others))}, messages.WARNING)

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        many = obj is not None and obj.entries.all()[: LONGEST_INLINE + 1].count() > LONGEST_INLINE
        if many:
            self.message_user(request, _("This series is long: put it in order in the list of entries."), messages.INFO)
        return [] if many else [EntryInline]

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        entries = formset.save(commit=False)
        for entry in formset.deleted_objects:
            entry.delete()
        changed = {row.pk: names for row, names in formset.changed_objects}
        for entry in entries:
            write(entry, changed.get(entry.pk, []))
        formset.save_m2m()
        form.instance.tidy()


def write(entry: Entry, changed: list[str]) -> None:
    """Save an entry: a known one only where it was changed, so that whoever moves nothing moves nobody."""
    if entry.pk:
        placed = ["placed_at"] if "rank" in changed else []
        entry.save(update_fields=[name for name in changed if name in ("issue", "rank", "pinned_date")] + placed)
    elif entry.rank:
        entry.save()
    else:
        place_at_end(entry)


def place_at_end(entry: Entry) -> None:
    added = entry.series.append(entry.issue)
    if entry.pinned_date:
        added.pinned_date = entry.pinned_date
        added.save(update_fields=["pinned_date"])


@admin.register(Entry)
class EntryAdmin(RoomAdmin):
    list_display = ["issue", "series", "rank", "pinned_date", "state"]
    list_editable = ["rank", "pinned_date"]
    list_select_related = ["issue", "series__publication"]
    list_filter = ["series"]
    search_fields = ["issue__subject"]
    autocomplete_fields = ["issue", "series"]
    ordering = ["series", "rank", "pk"]
    form = EntryForm
    actions = ["earlier", "later"]

    def get_changelist_formset(self, request: HttpRequest, **options: Any) -> Any:
        return super().get_changelist_formset(request, formset=EntryListFormSet, **options)

    @admin.display(description=_("state"))
    def state(self, entry: Entry) -> str:
        return str(entry.issue.get_state_display())

    def save_model(self, request: HttpRequest, obj: Entry, form: Any, change: bool) -> None:
        if change and "series" in form.changed_data:
            super().save_model(request, obj, form, change)
        else:
            write(obj, form.changed_data)
        obj.pk = obj.series.entries.get(issue=obj.issue).pk
        obj.series.tidy()

    @admin.action(description=_("Move up one place"))
    def earlier(self, request: HttpRequest, entries: QuerySet[Entry]) -> None:
        for entry in entries.order_by("rank", "pk").select_related("series"):
            with entry.series.editing():
                entry.refresh_from_db()
                swap(entry, entry.series.entries.filter(rank__lt=entry.rank).order_by("-rank", "-pk").first())

    @admin.action(description=_("Move down one place"))
    def later(self, request: HttpRequest, entries: QuerySet[Entry]) -> None:
        for entry in entries.order_by("-rank", "-pk").select_related("series"):
            with entry.series.editing():
                entry.refresh_from_db()
                swap(entry, entry.series.entries.filter(rank__gt=entry.rank).order_by("rank", "pk").first())


def swap(entry: Entry, other: Entry | None) -> None:
    if other is None:
        return
    entry.rank, other.rank = other.rank, entry.rank
    for moved in (entry, other):
        moved.save(update_fields=["rank", "placed_at"])


@admin.register(Clock)
class ClockAdmin(LedgerAdmin):
    list_display = ["publication", "zone", "next_date", "next_at"]
    list_select_related = ["publication"]
    list_filter = ["publication"]
    ordering = ["next_at"]


@admin.register(Heartbeat)
class HeartbeatAdmin(LedgerAdmin):
    list_display = ["name", "at"]


IN_CLEAR = _(
    "This address would send its password in clear. Add ?tls=starttls or ?tls=ssl to it, or ?tls=none if the line is "
    "your own."
)
# Left empty, these are as for every relay.
AS_USUAL = ("warm_up_volume", "warm_up_days", "letters_share")


class RelayForm(forms.ModelForm):  # type: ignore[type-arg]
    """The address goes in and never comes out again: it holds a password."""

    url = forms.CharField(
        label=_("address"),
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text=_(
            "smtp://USER:PASSWORD@HOST:PORT?tls=starttls or esp:PROVIDER. "
            "Empty: as it was; a new relay then is MAIL_URL."
        ),
    )

    class Meta:
        model = Relay
        fields = [
            *("publication", "name", "rank", "per_second", "per_hour", "per_day"),
            *("warm_up_from", "warm_up_volume", "warm_up_days", "letters_share", "domain_caps"),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in AS_USUAL:
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in AS_USUAL:
            if cleaned.get(name) is None and name not in self.errors:
                cleaned[name] = getattr(Relay(), name)
        return cleaned

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        if url:
            try:
                check_url(url)
            except PasswordInClear as error:
                raise ValidationError(IN_CLEAR) from error
            except TransportURLError as error:
                raise ValidationError(_("The address %(problem)s"), params={"problem": str(error)}) from error
        return url


@admin.register(Relay)
class RelayAdmin(RoomAdmin):
    form = RelayForm
    list_display = ["name", "publication", "rank", "way", "rests_until"]
    list_select_related = ["publication"]

    @admin.display(description=_("way out"))
    def way(self, relay: Relay) -> str:
        return relay.url.partition(":")[0]

    @admin.display(description=_("rests until"))
    def rests_until(self, relay: Relay) -> datetime | None:
        """Return the end of the longest rest, whichever host keeps it."""
        until: datetime | None = relay.rests.filter(until__gt=timezone.now()).aggregate(until=Max("until"))["until"]
        return until

    def save_model(self, request: HttpRequest, obj: Relay, form: Any, change: bool) -> None:
        if form.cleaned_data["url"]:
            obj.url = form.cleaned_data["url"]
        super().save_model(request, obj, form, change)
