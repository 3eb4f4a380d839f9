from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from newsletters.admin.base import LedgerAdmin
from newsletters.bounces import breaker
from newsletters.models import Bounce, Day, Letter, Stop


@admin.register(Letter)
class LetterAdmin(LedgerAdmin):
    list_display = ["address", "kind", "publication", "state", "reason", "due_at", "settled_at"]
    list_select_related = ["publication"]
    list_filter = ["kind", "state", "publication"]
    search_fields = ["address"]
    ordering = ["-pk"]
    # What a letter's link is made of stays between the row and the letter.
    exclude = ["context"]


@admin.register(Day)
class DayAdmin(LedgerAdmin):
    list_display = ["date", "publication", "issue", "fixed_at"]
    list_select_related = ["publication", "issue"]
    list_filter = ["publication"]
    ordering = ["-date"]


@admin.register(Bounce)
class BounceAdmin(LedgerAdmin):
    list_display = ["at", "kind", "publication", "subscriber", "date", "status", "text", "door", "known"]
    list_select_related = ["publication", "subscriber"]
    list_filter = ["kind", "door", "publication"]
    search_fields = ["subscriber__address"]
    ordering = ["-at"]


@admin.register(Stop)
class StopAdmin(LedgerAdmin):
    list_display = ["publication", "cause", "at", "ended_at"]
    list_select_related = ["publication"]
    list_filter = ["cause", "publication"]
    ordering = ["-at"]
    actions = ["go_on"]

    def has_change_permission(self, request: HttpRequest, obj: Stop | None = None) -> bool:
        # The list shows its action only to whoever may change something; a stop itself has nothing to edit.
        return obj is None and self.has_module_permission(request)

    @admin.action(description=_("Let these publications go on"))
    def go_on(self, request: HttpRequest, stops: QuerySet[Stop]) -> None:
        for stop in stops.select_related("publication"):
            breaker.go_on(stop.publication, timezone.now())
