from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from newsletters import notices
from newsletters.admin.base import LedgerAdmin, RoomAdmin
from newsletters.models import Break, PromiseChange, Rehearsal


@admin.register(Break)
class BreakAdmin(RoomAdmin):
    list_display = ["publication", "kind", "first", "last", "announced_at"]
    list_select_related = ["publication"]
    list_filter = ["publication", "kind"]
    ordering = ["-first"]
    fields = ["publication", "kind", "first", "last", "announcement", "announced_at"]
    readonly_fields = ["announced_at"]
    autocomplete_fields = ["announcement"]


@admin.register(PromiseChange)
class PromiseChangeAdmin(RoomAdmin):
    list_display = ["publication", "first", "hour", "weekdays", "announced_at", "applied_at"]
    list_select_related = ["publication"]
    list_filter = ["publication"]
    ordering = ["-first"]
    fields = [
        *("publication", "first", "hour", "weekdays", "late_until"),
        *("announcement", "announced_at", "applied_at"),
    ]
    readonly_fields = ["announced_at", "applied_at"]
    autocomplete_fields = ["announcement"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A promise in force is history."""
        return super().has_change_permission(request, obj) and (obj is None or obj.applied_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: PromiseChange, form: Any, change: bool) -> None:
        notices.save_change(obj, timezone.now())

    def delete_model(self, request: HttpRequest, obj: PromiseChange) -> None:
        notices.drop_change(obj, timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PromiseChange]) -> None:
        for change in queryset.filter(applied_at=None):
            notices.drop_change(change, timezone.now())


@admin.register(Rehearsal)
class RehearsalAdmin(LedgerAdmin):
    list_display = ["publication", "date", "at", "readers", "largest"]
    list_select_related = ["publication"]
    list_filter = ["publication"]
    ordering = ["-at"]
    fields = ["publication", "date", "at", "readers", "largest", "problems", "remarks"]
