from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from newsletters.admin.base import LedgerAdmin, RoomAdmin
from optin.models import Consent, OptInPage, Request


@admin.register(OptInPage)
class OptInPageAdmin(RoomAdmin):
    list_display = ["headline", "publication", "slug", "main"]
    list_select_related = ["publication"]
    list_filter = ["publication"]
    search_fields = ["headline", "slug"]
    autocomplete_fields = ["sample", "series"]
    fieldsets = [
        (None, {"fields": ["publication", "slug", "main", "headline", "promise", "introduction", "bullets"]}),
        (_("The form"), {"fields": ["button", "consent", "thanks", "series"]}),
        (_("Around it"), {"fields": ["sample", "image", "image_alt", "quote", "quote_by", "about", "questions"]}),
    ]


@admin.register(Consent)
class ConsentAdmin(LedgerAdmin):
    list_display = ["at", "kind", "publication", "purpose", "wording_version", "page"]
    list_select_related = ["publication"]
    list_filter = ["kind", "publication"]
    search_fields = ["=reader"]
    ordering = ["-pk"]
    # Whoever knows the salt can try addresses against the commitment.
    exclude = ["salt"]


@admin.register(Request)
class RequestAdmin(LedgerAdmin):
    list_display = ["address", "page", "created_at", "answered_at", "confirmed_at", "cancelled_at"]
    list_select_related = ["page"]
    list_filter = ["page__publication"]
    search_fields = ["address"]
    ordering = ["-pk"]
