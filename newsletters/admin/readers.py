from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from newsletters import clock, privacy
from newsletters.admin.base import LedgerAdmin, RoomAdmin
from newsletters.models import Clock, Delivery, Subscriber, Suppression, Walk

DAYS_SHOWN = 60


@admin.register(Subscriber)
class SubscriberAdmin(RoomAdmin):
    """Nobody is added by hand: readers come by their own consent. Deleting one is an erasure."""

    list_display = ["address", "first_name", "publication", "status", "zone", "member_since"]
    list_select_related = ["publication"]
    list_filter = ["status", "publication", "language"]
    search_fields = ["address", "first_name"]
    ordering = ["-pk"]
    fields = [
        *("publication", "address", "status", "first_name", "zone", "language", "tags", "origin"),
        *("member_since", "paused_until", "left_at", "created_at", "recent"),
    ]
    readonly_fields = [
        *("publication", "address", "status", "origin", "member_since", "paused_until", "left_at", "created_at"),
        "recent",
    ]
    actions = ["end"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description=_("last deliveries"))
    def recent(self, reader: Subscriber) -> SafeString:
        lines = ((row.local_date, row.get_state_display(), row.reason, row.issue or "") for row in deliveries(reader))
        return format_html_join("", "<div>{} {} {} {}</div>", lines)

    @admin.action(description=_("End these subscriptions"))
    def end(self, request: HttpRequest, readers: QuerySet[Subscriber]) -> None:
        for reader in readers.select_related("publication"):
            reader.leave(timezone.now())

    def save_model(self, request: HttpRequest, obj: Subscriber, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            Clock.objects.ensure(obj.publication, obj.zone, timezone.now())
            return
        # Only what was typed: the reader may have left since the form was opened.
        obj.save(update_fields=[name for name in form.changed_data if name != "zone"])
        if "zone" in form.changed_data:
            obj.move(obj.zone, timezone.now())

    def delete_model(self, request: HttpRequest, obj: Subscriber) -> None:
        privacy.erase(obj, timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Subscriber]) -> None:
        for reader in queryset:
            privacy.erase(reader, timezone.now())


def deliveries(reader: Subscriber) -> Iterable[Delivery]:
    """Return the last two months' deliveries, the latest first; the key begins with the date."""
    today = clock.local_date(timezone.now(), reader.zone)
    days = [today - clock.ONE_DAY * back for back in range(-1, DAYS_SHOWN)]
    rows = Delivery.objects.filter(local_date__in=days, subscriber=reader)
    return rows.select_related("issue").order_by("-local_date", "slot")


@admin.register(Suppression)
class SuppressionAdmin(LedgerAdmin):
    list_display = ["reason", "publication", "since", "lifted_at", "address_hash"]
    list_select_related = ["publication"]
    list_filter = ["reason", "publication"]
    search_fields = ["=address_hash"]
    ordering = ["-pk"]


@admin.register(Walk)
class WalkAdmin(LedgerAdmin):
    list_display = ["subscriber", "series", "started_at", "reached", "ended_at"]
    list_select_related = ["subscriber", "series"]
    list_filter = ["series"]
    search_fields = ["subscriber__address"]
    ordering = ["-pk"]
