from django.contrib import admin

from newsletters.admin.base import LedgerAdmin
from newsletters.models import Day, Letter


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
